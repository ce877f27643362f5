"""What the killed child does: one patient's reminders, asked, sent, logged, until they have ended.

The practice and the inbox are programs of the test, which outlive every child.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from node.db.session import begin, open_database, read
from node.db.tables import pms_command, workflow_case
from orchestration import cases
from orchestration.cases import CaseState
from orchestration.messengers.office import link_key
from orchestration.workflow import Start
from orchestration.workflows import recall
from pms_writeback import outbox
from pms_writeback.practice import open_pms
from tests.conftest import launch, make_engine
from tests.orchestration.clockwork import ACTOR, NINE, Clockwork, until

SECTIONS = "sections.json"
CASE = "case.json"


def work(folder: Path) -> None:
    sections = json.loads((folder / SECTIONS).read_text())
    key, patient_id, recall_key = json.loads((folder / CASE).read_text())
    db = open_database(f"sqlite:///{folder / 'bitewing.sqlite'}")
    engine = make_engine(db)
    clock = Clockwork(db, engine, folder, now=NINE, **sections)
    flow = recall.make(clock.config, link_key(clock.config))
    clock.runner.workflows[flow.name] = flow
    outbox.register(engine, db, clock.store, open_pms(clock.config), clock.config)
    launch(engine)
    clock.runner.heal()
    outbox.resume(db, engine, ACTOR)
    with begin(db, ACTOR, "test") as tx:
        cases.start(tx, engine, flow, Start(key, patient_id, {"recall_key": recall_key}))
    case_id = clock.find(flow, key)

    def has_ended() -> bool:
        clock.now += timedelta(hours=3)
        clock.runner.wake_due()
        clock.approve_if_asked(case_id)
        return clock.state(case_id) is CaseState.DONE

    until(has_ended, 120)
    until(lambda: not _unwritten(db), 120)
    engine.close(wait_s=1)


def case_of(db: sa.Engine) -> sa.Row:  # type: ignore[type-arg]
    with read(db) as conn:
        return conn.execute(sa.select(workflow_case)).one()


def _unwritten(db: sa.Engine) -> bool:
    with read(db) as conn:
        query = sa.select(pms_command.c.id).where(pms_command.c.state != "done")
        return conn.execute(query).first() is not None
