"""`kill -9` of the node at each hand-over: nothing lost, nothing doubled."""

import time
from collections import Counter

import httpx2
import pytest
import sqlalchemy as sa

from node.db import audit
from node.db.session import read
from node.db.tables import analysis_run, event, finding, instance, pms_command, review, study
from node.db.tables import audit as audit_table
from node.dicom.object_file import read_dataset
from node.domain.study import InstanceState
from tests.faults.running_node import NodeProcess, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]


def _study_id(node: NodeProcess, uid: str) -> str:
    return str(node.rows(sa.select(study.c.id).where(study.c.study_instance_uid == uid))[0].id)


def _assert_whole(node: NodeProcess, images: int) -> None:
    """Every image is there once, analysed once; the audit chain holds."""
    assert node.count(instance) == images
    assert node.count(instance, instance.c.state == InstanceState.ANALYSED.value) == images
    assert node.count(analysis_run) == images
    runs = node.rows(sa.select(finding.c.id))
    assert len({row.id for row in runs}) == len(runs)
    db = node.database()
    with read(db) as conn:
        _, broken = audit.verify(conn)
    db.dispose()
    assert broken is None


def test_after_store_success(node: NodeProcess) -> None:
    step = node.send("bitewings-4")
    node.kill()
    assert node.count(instance) == 4
    for row in node.rows(sa.select(instance.c.storage_key)):
        read_dataset(node.store().file(row.storage_key))
    node.start()
    until(lambda: node.study_state(step.study_instance_uid) == "ready", 120, "analysis")
    _assert_whole(node, 4)


def test_in_the_middle_of_analysis(node: NodeProcess) -> None:
    step = node.send("bitewings-4")
    until(lambda: node.count(analysis_run) >= 1, 90, "the first analysis")
    node.kill()
    node.start()
    until(lambda: node.study_state(step.study_instance_uid) == "ready", 120, "analysis")
    _assert_whole(node, 4)


def sign_study(node: NodeProcess, key: str) -> str:
    step = node.send(key)
    until(lambda: node.study_state(step.study_instance_uid) == "ready", 120, "analysis")
    study_id = _study_id(node, step.study_instance_uid)
    dentist = node.sign_in()
    dentist.decide_everything(study_id)
    dentist.sign(study_id)
    return study_id


def all_done(node: NodeProcess, study_id: str) -> bool:
    states = [
        row.state
        for row in node.rows(
            sa.select(pms_command.c.state).where(
                pms_command.c.study_id == study_id, pms_command.c.review_version == 1
            )
        )
    ]
    return bool(states) and set(states) == {"done"}


def assert_charted_once(node: NodeProcess, study_id: str) -> None:
    """Each command landed in the practice exactly once, found by the token it carries."""
    assert node.count(review) == 1
    texts = [
        str(row.get("Note") or row.get("Description") or row.get("Descript") or "")
        for resource in ("procnotes", "commlogs", "documents", "tasks")
        for row in node.sandbox.rows(resource)
    ]
    tokens = Counter(
        word.strip(".,)") for text in texts for word in text.split() if "ref:BW-" in word
    )
    commands = node.rows(
        sa.select(pms_command.c.ref, pms_command.c.kind).where(
            pms_command.c.study_id == study_id, pms_command.c.kind != "CloseTask"
        )
    )
    assert {row.ref for row in commands} <= set(tokens)
    assert set(tokens.values()) == {1}, tokens


def test_after_the_signature(node: NodeProcess) -> None:
    study_id = sign_study(node, "bitewing-1")
    node.kill()
    node.start()
    until(lambda: all_done(node, study_id), 120, "the chart write")
    assert_charted_once(node, study_id)
    _assert_no_names(node)


def _assert_no_names(node: NodeProcess) -> None:
    """The patient's name and birth date stand in no log line, metric, health word or audit row."""
    audited = node.rows(sa.select(audit_table.c.detail, audit_table.c.subject))
    events = node.rows(sa.select(event.c.data))
    said = "".join(
        [
            node.log.read_text(),
            httpx2.get(f"{node.url}/metrics").text,
            httpx2.get(f"{node.url}/healthz").text,
            str(audited),
            str(events),
        ]
    )
    assert "started" in said
    for word in ("Boris", "BORIS", "Sandbox^", "1971-11-05", "19711105"):
        assert word not in said


def test_between_the_practices_commit_and_our_receipt(node: NodeProcess) -> None:
    node.sandbox.fault("delay_after_commit", seconds=8.0, methods=("POST",), path="/procnotes")
    study_id = sign_study(node, "bitewing-1")
    notes = len(node.sandbox.rows("procnotes"))
    until(lambda: len(node.sandbox.rows("procnotes")) > notes, 60, "the note")
    node.kill()
    assert not all_done(node, study_id)
    node.start()
    until(lambda: all_done(node, study_id), 200, "the chart write")
    assert_charted_once(node, study_id)


def test_many_kills_on_the_way(node: NodeProcess) -> None:
    step = node.send("bitewing-1")
    for pause_s in (0.1, 0.5, 1.5):
        time.sleep(pause_s)  # a kill at an arbitrary instant is the point
        node.kill()
        node.start()
    until(lambda: node.study_state(step.study_instance_uid) == "ready", 120, "analysis")
    _assert_whole(node, 1)


def test_a_stop_is_clean_and_the_next_start_goes_on(node: NodeProcess) -> None:
    step = node.send("bitewing-1")
    assert node.stop() == 0
    node.start()
    until(lambda: node.study_state(step.study_instance_uid) == "ready", 120, "analysis")
    _assert_whole(node, 1)
