"""What is silent leaves the house by no way: reports, routing rules, tasks, webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.analysis.findings import store_analysis
from node.config import PeerSection
from node.db import switches
from node.db.session import begin, read
from node.db.tables import dicom_delivery, dicom_result, image_delivery, pms_command
from node.dicom.derived import derived_uid
from node.dicom.forwarding import Forwarder
from node.domain.findings import Box, Finding, FindingKind, ImageAnalysis, View
from node.domain.rights import Right, Role
from node.domain.rollout import Place, RollMode, Subject
from node.engine import DurableEngine
from node.rollout import rules
from orchestration.case import Case
from orchestration.cases import CaseState
from orchestration.workflow import Outcome, Workflow, ask, done
from orchestration.workflows import flag_study, publish_results
from orchestration.workflows.send_results import ResultSender
from pms_writeback.sandbox.server import running
from tests.orchestration.clockwork import Clockwork
from tests.orchestration.practice import ACTOR, MODEL, Practice, until
from tests.roll_out import acknowledge, lead

PEER = PeerSection(
    name="keen", ae_title="KEEN", host="127.0.0.1", port=1, preliminary=True,
    when='finding == "caries"',
)  # fmt: skip


@pytest.fixture
def practice(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> Iterator[Practice]:
    """A practice with a suggestion of caries, into which nobody has let anything."""
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        made = Practice(sqlite_database, engine, tmp_path, sandbox)
        dicom = made.config.dicom.model_copy(update={"peers": (PEER,)})
        made.config = made.config.model_copy(update={"dicom": dicom})
        mark = Finding(FindingKind.CARIES, Box(9.0, 9.0, 14.0, 15.0), probability=0.8, model=MODEL)
        said = ImageAnalysis(View.BITEWING, 0.9, (), (mark,), (MODEL,))
        store_analysis(made.db, ACTOR, made.image_id, said, datetime.now(UTC))
        yield made


def let_in(practice: Practice, kind: str = "caries", mode: str = "assist") -> None:
    with begin(practice.db, lead(practice.db), "rollout.set") as tx:
        rules.set_mode(tx, Subject.parse(f"finding:{kind}"), RollMode(mode), place=Place())


def publish(practice: Practice) -> tuple[int, ResultSender]:
    sent: list[object] = []

    def send(file: object, peer: PeerSection) -> None:
        sent.append(file)

    parts = (practice.engine, practice.db, practice.store, practice.config)
    publisher = publish_results.register(*parts, derived_uid("test"), send)
    made = publisher.publish(practice.study_id, 0, 0)
    sender = ResultSender(practice.db, practice.engine, practice.store, practice.config, send)
    return made, sender


def routed(practice: Practice) -> int:
    forwarder = Forwarder(practice.db, practice.store, practice.config)
    forwarder.route()
    with read(practice.db) as conn:
        return conn.execute(sa.select(sa.func.count()).select_from(image_delivery)).scalar_one()


def flagged(practice: Practice) -> int:
    return flag_study.sweep(practice.db, practice.engine, practice.store, ACTOR, practice.config)


def test_no_preliminary_report_is_made_of_what_is_silent(practice: Practice) -> None:
    assert publish(practice)[0] == 0


@pytest.mark.parametrize("mode", ["assist", "silent"])
def test_a_preliminary_report_holds_back_the_kind_that_is_silent(
    practice: Practice, mode: str
) -> None:
    acknowledge(practice.db)
    let_in(practice, "caries", mode)
    assert publish(practice)[0] == 1, "the other kinds are shown"
    with read(practice.db) as conn:
        key = conn.execute(sa.select(dicom_result.c.storage_key)).scalar_one()
    with practice.store.file(key).open("rb") as file:
        is_told = b"80967001" in file.read()  # SNOMED CT: dental caries
    assert is_told is (mode == "assist")


def test_a_report_that_waits_is_withdrawn_when_its_kind_goes_silent(practice: Practice) -> None:
    acknowledge(practice.db)
    with begin(practice.db, ACTOR, "test.paused") as tx:
        switches.turn(tx, switches.OUTBOUND, True)
    made, sender = publish(practice)
    assert made == 1
    let_in(practice, "caries", "silent")

    def delivery() -> sa.Row:
        with read(practice.db) as conn:
            return conn.execute(sa.select(dicom_delivery)).one()

    until(lambda: sender.deliver(delivery().id, delivery().attempts) == "withdrawn")
    assert "roll-out" in delivery().error


def test_a_routing_rule_does_not_tell_what_is_silent(practice: Practice) -> None:
    assert routed(practice) == 0


def test_a_routing_rule_tells_what_is_shown(practice: Practice) -> None:
    acknowledge(practice.db)
    assert routed(practice) == 1


def test_no_task_says_that_a_study_waits_whose_reading_is_silent(practice: Practice) -> None:
    assert flagged(practice) == 0
    with read(practice.db) as conn:
        assert conn.execute(sa.select(pms_command)).all() == []
    acknowledge(practice.db)
    assert flagged(practice) == 1


def asking() -> Workflow:
    flow = Workflow(name="asking", title="Asking")

    @flow.stage
    def draft(case: Case) -> Outcome:
        return ask(
            "text", title="Send it", draft={"text": "hello"}, right=Right.MESSAGES_APPROVE,
            then=send, timeout=timedelta(days=1), escalate_to=Role.OFFICE_MANAGER,
        )  # fmt: skip

    @flow.stage
    def send(case: Case) -> Outcome:
        return done("sent")

    return flow


def test_one_switch_back_keeps_a_workflow_from_asking_and_lifting_lets_it(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    flow = asking()
    work = Clockwork(sqlite_database, engine, tmp_path, flow)
    for subject in ("*", "workflow:*", "workflow:asking"):
        with begin(sqlite_database, lead(sqlite_database), "rollout.back") as tx:
            rules.switch_back(tx, Subject.parse(subject))
        case_id = work.start(flow, subject)
        work.settle()
        assert work.state(case_id) is CaseState.SILENT
        assert work.case(case_id).data["silent_text"] == {"text": "hello"}
        with begin(sqlite_database, lead(sqlite_database), "rollout.lifted") as tx:
            rules.lift(tx, Subject.parse(subject))
    case_id = work.start(flow, "again")
    work.settle()
    assert work.state(case_id) is CaseState.ASKING


def test_a_rule_lets_a_silent_workflow_ask_for_one_laboratory(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    flow = asking()
    work = Clockwork(
        sqlite_database, engine, tmp_path, flow, workflows={"modes": {"asking": "silent"}}
    )
    with begin(sqlite_database, lead(sqlite_database), "rollout.set") as tx:
        subject = Subject.parse("workflow:asking")
        rules.set_mode(tx, subject, RollMode.ASSIST, place=Place(lab="north"))
    north, south = (work.start(flow, lab, lab=lab) for lab in ("north", "south"))
    work.settle()
    assert work.state(north) is CaseState.ASKING
    assert work.state(south) is CaseState.SILENT
