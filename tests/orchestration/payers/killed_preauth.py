"""What the killed child does: one crown, asked for, sent, answered, written, until it has ended.

The practice and the payer are programs of the test, which outlive every child.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from node.db.session import begin, open_database, read
from node.db.tables import approval, pms_command
from node.domain.rights import Right
from node.errors import Conflict
from orchestration import approvals, cases
from orchestration.cases import CaseState
from orchestration.payers.mail import Mailbox
from orchestration.payers.office import PayerOffice
from orchestration.workflow import Draft, Start
from orchestration.workflows import preauthorisation
from pms_writeback import outbox
from pms_writeback.opendental import OpenDental
from pms_writeback.practice import open_pms
from pms_writeback.record_rows import read_records
from pms_writeback.records import RecordKind
from pms_writeback.warehouse import Warehouse
from tests.conftest import launch, make_engine
from tests.orchestration.clockwork import ACTOR, NINE, Clockwork, until
from tests.orchestration.payers.preauth_world import ANSWERS

CASE, DATABASE, SECTIONS = "case.json", "killed.sqlite", "sections.json"


def work(folder: Path) -> None:
    sections = json.loads((folder / SECTIONS).read_text())
    patient_id, patient_key, procedure = json.loads((folder / CASE).read_text())
    db = open_database(f"sqlite:///{folder / DATABASE}")
    engine = make_engine(db)
    clock = Clockwork(db, engine, folder, now=NINE, **sections)
    office = PayerOffice(clock.config, db)
    flow = preauthorisation.make(office)
    clock.runner.workflows[flow.name] = flow
    pms = open_pms(clock.config)
    assert isinstance(pms, OpenDental)
    outbox.register(engine, db, clock.store, pms, clock.config)
    launch(engine)
    clock.runner.heal()
    outbox.resume(db, engine, ACTOR)
    records = Warehouse(db, pms, clock.config)
    mailbox = Mailbox(db, engine, office.house, flow.name, "main")
    with begin(db, ACTOR, "test") as tx:
        cases.start(tx, engine, flow, Start("crown", patient_id, {"procedures": [procedure]}))
    case_id = clock.find(flow, "crown")

    def has_ended() -> bool:
        is_sent = bool(clock.case(case_id).data.get("sent"))
        if not is_sent:
            clock.now += timedelta(hours=3)
        clock.runner.wake_due()
        decide(clock, case_id)
        if is_sent and not read_claims(db, patient_key) and not unwritten(db):
            records.refresh_patient(patient_key, NINE)
        if is_sent and read_claims(db, patient_key):
            mailbox.poll()
        return clock.state(case_id) is CaseState.DONE

    until(has_ended, 120)
    until(lambda: not unwritten(db), 120)
    engine.close(wait_s=1)


def decide(clock: Clockwork, case_id: str) -> None:
    """Answer or approve what the case asks, if it asks."""
    with read(clock.db) as conn:
        asked = conn.execute(
            sa.select(approval).where(approval.c.case_id == case_id, approval.c.state == "waiting")
        ).first()
    if asked is None:
        return
    draft: Draft | None = None
    if asked.kind == "preauth_answers":
        answers = {key: ANSWERS[key.partition(":")[0]] for key in asked.draft["answers"]}
        draft = {**asked.draft, "answers": answers}
    try:
        with begin(clock.db, ACTOR, "test") as tx:
            approvals.decide(
                tx, clock.engine, clock.runner.workflows, asked.id, by="user-1",
                rights=frozenset(Right), verdict="edited" if draft else "approved", draft=draft,
                reason="examined" if draft else "",
            )  # fmt: skip
    except Conflict:
        return


def read_claims(db: sa.Engine, patient_key: str) -> bool:
    with read(db) as conn:
        return bool(read_records(conn, "main", RecordKind.CLAIM, patient_key))


def unwritten(db: sa.Engine) -> bool:
    with read(db) as conn:
        query = sa.select(pms_command.c.id).where(pms_command.c.state != "done")
        return conn.execute(query).first() is not None
