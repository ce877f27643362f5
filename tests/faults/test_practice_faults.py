"""The practice's system misbehaves while a whole node works: nothing lost, nothing doubled."""

import httpx2
import pytest
import sqlalchemy as sa

from node.db.tables import pms_command, study
from tests.faults.running_node import NodeProcess, until
from tests.faults.test_kill_node import all_done, assert_charted_once, sign_study

pytestmark = [pytest.mark.faults, pytest.mark.timeout(280)]


def test_a_signature_waits_for_a_practice_that_is_away(node: NodeProcess) -> None:
    step = node.send("bitewing-1")
    until(lambda: node.study_state(step.study_instance_uid) == "ready", 120, "analysis")
    study_id = str(node.rows(sa.select(study.c.id))[0].id)
    node.sandbox.fault("offline")
    dentist = node.sign_in()
    dentist.decide_everything(study_id)
    dentist.sign(study_id)

    def health() -> httpx2.Response:
        return httpx2.get(f"{node.url}/healthz", timeout=10)

    until(lambda: health().json()["status"] == "degraded", 60, "the degraded health")
    assert health().status_code == 200
    assert node.study_state(step.study_instance_uid) == "signed"
    assert not node.sandbox.rows("procnotes")
    node.sandbox.fault("offline", on=False)
    until(lambda: all_done(node, study_id), 150, "the chart write")
    assert_charted_once(node, study_id)
    until(lambda: health().json()["status"] == "ok", 60, "the restored health")


def test_every_wire_fault_on_the_way_to_the_chart(node: NodeProcess) -> None:
    fault = node.sandbox.fault
    fault("status", status=429, seconds=1, count=2, methods=("POST",), path="/procnotes")
    fault("commit_then_drop", methods=("POST",), path="/procnotes")
    fault("status_after_commit", status=504, methods=("POST",), path="/documents")
    fault("status", status=503, methods=("GET",), path="/documents")
    fault("delay", seconds=3, methods=("POST",), path="/documents")
    fault("skew", seconds=3600)
    study_id = sign_study(node, "bitewing-1")
    until(lambda: all_done(node, study_id), 200, "the chart write")
    assert_charted_once(node, study_id)
    tries = node.rows(sa.select(pms_command.c.attempts).where(pms_command.c.attempts > 1))
    assert tries
