"""Killed at any commit, reminders go on: no text message twice, no mail twice, no entry lost."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.engine import DurableEngine
from tests.orchestration import killed_reminders
from tests.orchestration.killing import LEAST, run_killed
from tests.orchestration.recall_world import ADA, recall_world


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1])
def test_no_reminder_goes_twice_or_unlogged_whenever_the_process_is_killed(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path, seed: int
) -> None:
    with recall_world(sqlite_database, engine, tmp_path) as world:
        world.due(ADA, date(2026, 3, 9), Email="ada@example.org", PreferRecallMethod="TextMessage")
        assert world.sync.run_once(world.now).is_ok
        world.records.reconcile(world.now)
        (recall,) = [
            row for row in world.office.rows("recalls")
            if row["PatNum"] == ADA and row["IsDisabled"] == "false"
        ]  # fmt: skip
        patient_id = world.patient_id(ADA)
        recall_key = str(recall["RecallNum"])
        case = (f"{patient_id}:{recall_key}:2026-03-09", patient_id, recall_key)
        (tmp_path / killed_reminders.CASE).write_text(json.dumps(case))
        (tmp_path / killed_reminders.SECTIONS).write_text(json.dumps(world.sections, default=str))
        kills = run_killed("tests.orchestration.killed_reminders", tmp_path, seed=seed, reach=30)
        assert kills >= LEAST
        ended = killed_reminders.case_of(sqlite_database)
        assert (ended.state, ended.stage) == ("done", "no answer")
        texts = [each.key for each in world.inbox.messages("sms")]
        mails = [each.key for each in world.inbox.messages("smtp")]
        assert len(texts) == len(set(texts)) == 3
        assert len(mails) == len(set(mails)) <= 1  # killed in between, mail stays in doubt
        entries = world.entries(ADA)
        assert len(entries) == len(set(entries)) == 4
