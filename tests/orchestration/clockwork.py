"""Runs workflows over weeks in seconds: the real engine and database, a clock that tests move."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from node.config import Config, read_config
from node.db.session import Actor, begin, new_id, read
from node.db.tables import approval, case_entry, patient, patient_identity, workflow_case
from node.dicom.instances import FolderStore
from node.domain.rights import Right
from node.domain.study import name_key
from node.engine import DurableEngine
from node.errors import Conflict
from orchestration import approvals, cases
from orchestration.cases import CaseState
from orchestration.hooks import Hooks
from orchestration.runner import Runner
from orchestration.workflow import Draft, Signal, Start, Workflow

ACTOR = Actor("test", "main")
EVERY_RIGHT = frozenset(Right)
NINE = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)  # a Monday, nine o'clock in New York


class Clockwork:
    """A runner with its hooks, on a clock of its own.

    `sections` overrides the configuration; every workflow given runs in assist mode unless
    ``sections["workflows"]`` says otherwise.
    """

    def __init__(
        self,
        db: sa.Engine,
        engine: DurableEngine,
        folder: Path,
        *workflows: Workflow,
        now: datetime = NINE,
        **sections: Mapping[str, object],
    ) -> None:
        self.db, self.engine, self.now = db, engine, now
        modes = {workflow.name: "assist" for workflow in workflows}
        self.config: Config = read_config(
            environment={},
            overrides={
                **sections,
                "node": {
                    "data_dir": folder,
                    "time_zone": "America/New_York",
                    **sections.get("node", {}),
                },
                "workflows": {"modes": modes, **sections.get("workflows", {})},
            },
        )
        self.store = FolderStore(folder / "images")
        self.runner = Runner(
            db, engine, self.store, self.config, {each.name: each for each in workflows},
            clock=lambda: self.now,
        )  # fmt: skip
        self.runner.register()
        self.hooks = Hooks(self.runner)

    def start(
        self, workflow: Workflow, key: str, patient_id: str | None = None, **data: object
    ) -> str:
        with begin(self.db, ACTOR, "test.started") as tx:
            what = Start(key, patient_id, dict(data))  # type: ignore[arg-type]
            case_id = cases.start(tx, self.engine, workflow, what)
        assert case_id is not None
        return case_id

    def send(
        self, workflow: Workflow, key: str, topic: str, delivery_id: str = "", **payload: object
    ) -> bool:
        with begin(self.db, ACTOR, "test.signalled") as tx:
            what = Signal(key, topic, delivery_id or new_id(), dict(payload))  # type: ignore[arg-type]
            return cases.send(tx, self.engine, workflow, what)

    def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until no case is at work and none is due."""

        def is_settled() -> bool:
            woken = self.runner.wake_due()
            return not woken and not self._at_work()

        until(is_settled, timeout_s)

    def pass_time(self, **span: float) -> None:
        """Move the clock on, from one due moment to the next; everything happens in order."""
        target = self.now + timedelta(**span)
        self.settle()
        while (moment := self._next_moment()) is not None and moment <= target:
            self.now = max(self.now, moment)
            self.settle()
        self.now = target
        self.hooks.run_daily()
        self.settle()

    def decide(
        self,
        case_id: str,
        verdict: str = "approved",
        *,
        draft: Draft | None = None,
        reason: str = "",
        by: str = "user-1",
        rights: frozenset[Right] = EVERY_RIGHT,
    ) -> None:
        """Decide the one thing that a case asks, and let it go on."""
        question = self.question(case_id)
        with begin(self.db, Actor(by, "main"), "approval.decided") as tx:
            approvals.decide(
                tx, self.engine, self.runner.workflows, question.id, by=by, rights=rights,
                verdict=verdict, draft=draft, reason=reason,
            )  # fmt: skip
        self.settle()

    def approve_if_asked(self, case_id: str) -> None:
        """Approve what the case asks just now, if it asks; another process may be first."""
        with read(self.db) as conn:
            waiting = conn.execute(
                sa.select(approval.c.id).where(
                    approval.c.case_id == case_id, approval.c.state == "waiting"
                )
            ).scalar()
        if waiting is None:
            return
        with contextlib.suppress(Conflict), begin(self.db, ACTOR, "test.decided") as tx:
            approvals.decide(
                tx, self.engine, self.runner.workflows, waiting, by="user-1",
                rights=EVERY_RIGHT, verdict="approved",
            )  # fmt: skip

    def question(self, case_id: str) -> sa.Row:  # type: ignore[type-arg]
        self.settle()
        with read(self.db) as conn:
            return conn.execute(
                sa.select(approval).where(
                    approval.c.case_id == case_id, approval.c.state == "waiting"
                )
            ).one()

    def case(self, case_id: str) -> sa.Row:  # type: ignore[type-arg]
        with read(self.db) as conn:
            return conn.execute(sa.select(workflow_case).where(workflow_case.c.id == case_id)).one()

    def find(self, workflow: Workflow, key: str) -> str:
        with read(self.db) as conn:
            return conn.execute(
                sa.select(workflow_case.c.id).where(
                    workflow_case.c.workflow == workflow.name, workflow_case.c.key == key
                )
            ).scalar_one()

    def state(self, case_id: str) -> CaseState:
        return CaseState(self.case(case_id).state)

    def timeline(self, case_id: str) -> list[str]:
        with read(self.db) as conn:
            return list(
                conn.execute(
                    sa.select(case_entry.c.kind)
                    .where(case_entry.c.case_id == case_id)
                    .order_by(case_entry.c.at)
                ).scalars()
            )

    def add_patient(self, pms_key: str = "1", family: str = "Invented", given: str = "Ada") -> str:
        """Add a patient straight to our tables, for tests that need no PMS."""
        patient_id = new_id()
        with begin(self.db, ACTOR, "test.patient") as tx:
            tx.conn.execute(
                patient.insert().values(
                    id=patient_id, location_id="main", pms_key=pms_key, synced_at=tx.now
                )
            )
            tx.conn.execute(
                patient_identity.insert().values(
                    patient_id=patient_id, location_id="main", family_name=family,
                    given_name=given, birth_date=date(1980, 1, 2), sex="F",
                    name_key=name_key(family, given),
                )
            )  # fmt: skip
        return patient_id

    def _at_work(self) -> bool:
        busy = (CaseState.RUNNING.value, CaseState.CANCELLING.value)
        with read(self.db) as conn:
            return (
                conn.execute(
                    sa.select(workflow_case.c.id)
                    .where(workflow_case.c.state.in_(busy), workflow_case.c.wake_at.is_(None))
                    .limit(1)
                ).first()
                is not None
            )

    def _next_moment(self) -> datetime | None:
        with read(self.db) as conn:
            return conn.execute(
                sa.select(sa.func.min(workflow_case.c.wake_at)).where(
                    workflow_case.c.wake_at > self.now
                )
            ).scalar()


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
