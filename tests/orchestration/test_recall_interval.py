"""Another recall interval: proposed after a signature, written only when a clinician says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.db.session import read
from node.db.tables import workflow_case
from node.domain.rights import RIGHTS, Right, Role
from node.engine import DurableEngine
from node.errors import Forbidden, InvalidInput
from orchestration.workflows import recall_interval
from tests.orchestration.recall_world import ADA, World, recall_world


@pytest.fixture
def world(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Iterator[World]:
    modes = {"recall": "off", "recall_interval": "assist"}
    with recall_world(sqlite_database, engine, tmp_path, modes=modes) as made:
        flow = recall_interval.make(made.work.config)
        made.work.runner.workflows[flow.name] = flow
        made.due(ADA, date(2026, 3, 9))
        made.pull()
        yield made


def sign(world: World, *teeth: str) -> None:
    world.sign(ADA, *teeth)
    world.tell()


def case_id(world: World) -> str:
    with read(world.work.db) as conn:
        return conn.execute(
            sa.select(workflow_case.c.id).where(workflow_case.c.workflow == "recall_interval")
        ).scalar_one()


def interval(world: World) -> str:
    world.written()
    (row,) = [
        row for row in world.office.rows("recalls")
        if row["PatNum"] == ADA and row["IsDisabled"] == "false"
    ]  # fmt: skip
    return str(row["RecallInterval"])


def test_signed_caries_proposes_a_shorter_interval_and_a_hygienist_decides(world: World) -> None:
    world.work.hooks.run_once()
    sign(world, "46", "36", "26")
    question = world.work.question(case_id(world))
    assert question.right == Right.RECALLS_ADJUST.value
    assert (question.draft["present"], question.draft["interval"]) == ("6m1d", "3m1d")
    assert "3 caries into dentine signed in two years" in question.draft["reasons"]
    assert interval(world) == "6m1d"
    with pytest.raises(Forbidden):
        world.work.decide(case_id(world), rights=RIGHTS[Role.FRONT_DESK])
    world.work.decide(case_id(world), rights=RIGHTS[Role.HYGIENIST])
    assert interval(world) == "3m1d"
    assert world.work.case(case_id(world)).stage == "changed"


def test_an_interval_may_be_edited_within_its_bounds_only(world: World) -> None:
    world.work.hooks.run_once()
    sign(world, "46", "36", "26")
    draft = world.work.question(case_id(world)).draft
    for wrong in ("1m", "36m", "soon", "6w"):
        with pytest.raises(InvalidInput):
            world.work.decide(
                case_id(world), "edited", draft={**draft, "interval": wrong}, reason="why not"
            )
    edited = {**draft, "interval": "4m1d"}
    world.work.decide(case_id(world), "edited", draft=edited, reason="good hygiene")
    assert interval(world) == "4m1d"


def test_what_the_chart_says_meanwhile_is_not_overwritten(world: World) -> None:
    world.work.hooks.run_once()
    sign(world, "46", "36", "26")
    world.work.question(case_id(world))
    for row in world.office.rows("recalls"):
        if row["PatNum"] == ADA:
            world.office.change("recalls", row["RecallNum"], RecallInterval="4m")
    world.records.reconcile(world.now)
    world.work.decide(case_id(world))
    assert interval(world) == "4m"
    assert world.work.case(case_id(world)).stage == "changed meanwhile"


def test_nothing_is_proposed_without_a_reason_and_nothing_expires_into_the_chart(
    world: World,
) -> None:
    world.work.hooks.run_once()
    sign(world)
    assert world.work.case(case_id(world)).stage == "fits"
    world.work.now += timedelta(days=30)
    assert interval(world) == "6m1d"


def test_a_proposal_that_nobody_takes_up_ends(world: World) -> None:
    world.work.hooks.run_once()
    sign(world, "46", "36", "26")
    world.work.question(case_id(world))
    world.work.pass_time(days=22)
    assert world.work.case(case_id(world)).stage == "not taken up"
    assert interval(world) == "6m1d"
