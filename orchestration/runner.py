"""Runs cases: a leg at a time, each stage committed with what it queued; timers; what was lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from node.config import Config, Mode
from node.db import switches
from node.db.agreements import NoAgreement
from node.db.session import Actor, Tx, begin, begin_group, read, upsert
from node.db.tables import approval, executor_beat, workflow_case
from node.dicom.instances import InstanceStore
from node.domain.rights import Role
from node.engine import DurableEngine
from node.errors import BitewingError, InvalidInput, Rejected, Retryable, bug_of
from node.rollout.workflow_modes import workflow_mode
from orchestration import approvals, cases
from orchestration.access import Chart
from orchestration.case import Case
from orchestration.cases import CaseState, Row
from orchestration.steps import Paced, Paused, Steps
from orchestration.workflow import Ask, Done, Draft, Go, Outcome, Park, Wait, Workflow
from pms_writeback import outbox
from pms_writeback.pms import CreateTask
from pms_writeback.task_users import authored

log = logging.getLogger("bitewing")

_FIRST_RETRY_S = 5.0
_LONGEST_RETRY_S = 900.0
_MOST_STAGES = 100
_BEAT_S = 3.0
_DEAD_S = 10.0
_LONGEST_CALL = timedelta(minutes=2)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Runner:
    """Runs the cases of one location.

    `clock` is the workflows' only time. A stage that meets Retryable runs again later, for ever;
    after `patience` a person is told by a task in the PMS, once.
    """

    db: sa.Engine
    engine: DurableEngine
    store: InstanceStore
    config: Config
    workflows: dict[str, Workflow]
    executor: str = "node-1"
    clock: Callable[[], datetime] = _utc_now
    patience: timedelta = timedelta(hours=4)
    steps: Steps = field(init=False)
    _beat_at: datetime | None = None

    def __post_init__(self) -> None:
        self.steps = Steps(self.db, self.actor, self.config, self.clock)

    @property
    def actor(self) -> Actor:
        """Who writes."""
        return Actor("workflows", self.config.node.location_id)

    def register(self) -> None:
        """Register the one durable function that all workflows share."""

        @self.engine.workflow(cases.RUN_CASE)
        def run_case(case_id: str, leg: int) -> str:
            return self.engine.step_until_done("leg", self.run_leg, case_id, leg)

    def chart(self, workflow: Workflow, patient_id: str | None = None) -> Chart:
        """Give what a workflow may see, of one patient or, to hooks and sweeps, of everybody."""
        return Chart(self.db, self.config, self.store, workflow, self.clock(), patient_id)

    def run_leg(self, case_id: str, leg: int) -> str:
        """Run stages until the case waits or ends; an older leg does nothing. Safe to repeat."""
        for done in range(_MOST_STAGES + 1):
            row = self._begin_stage(case_id, leg)
            if row is None:
                return "stale"
            if done == _MOST_STAGES:
                self._park(row, "our mistake: it goes round in circles")
            elif self._run_stage(row):
                continue
            break
        return "left"

    # --- one stage ---

    def _begin_stage(self, case_id: str, leg: int) -> Row | None:
        """Claim the case for this executor; None when this leg counts no more."""
        working = (CaseState.RUNNING.value, CaseState.CANCELLING.value)
        with read(self.db) as conn:
            row = conn.execute(
                sa.select(workflow_case).where(workflow_case.c.id == case_id)
            ).first()
        if row is None or row.leg != leg or row.state not in working:
            return None
        if row.executor != self.executor and self._beats:
            with begin(self.db, self.actor, "case.claimed") as tx:
                tx.conn.execute(
                    workflow_case.update()
                    .where(workflow_case.c.id == case_id, workflow_case.c.leg == leg)
                    .values(executor=self.executor)
                )
                tx.record(f"case:{case_id}", executor=self.executor)
        return row

    def _run_stage(self, row: Row) -> bool:
        """Run one stage and commit its outcome; return whether the next one follows at once."""
        if self._is_held(row):
            return self._put_aside(row)
        workflow = self.workflows.get(row.workflow)
        with read(self.db) as conn:
            mode = workflow_mode(conn, self.config, row.workflow, row.data)
        if workflow is None or mode is None:
            return self._park(row, "this workflow is switched off or not installed")
        case = self._case(row, workflow, mode)
        try:
            return self._commit(row, case, self._outcome(row, workflow, case))
        except Retryable as error:
            return self._put_off(row, error)
        except sa.exc.OperationalError:  # met while reading; `begin` speaks for writing
            return self._put_off(row, Retryable("the database was away"))
        except BitewingError as error:
            return self._park(row, str(error))
        except Exception as error:  # noqa: BLE001 - an edge: one case must not stop the others
            return self._park(row, self._mistake(row, error))

    def _park(self, row: Row, reason: str) -> bool:
        """Leave the case to a person; nothing that its stage wanted to write is kept."""
        return self._commit(row, None, Park(reason))

    def _mistake(self, row: Row, error: Exception) -> str:
        """Log a failure of ours and name it without what it was about."""
        bug = bug_of(error)
        log.error("workflow %s failed in %s (%s)", row.workflow, row.stage, bug)
        return f"our mistake: {bug}"

    def _outcome(self, row: Row, workflow: Workflow, case: Case) -> Outcome:
        if row.stage == cases.UNDO:
            return self._undo(row, workflow, case)
        stage = workflow.resolve(row.stage)
        if stage is None:
            return Park(f"this release has no stage {row.stage}")
        return stage(case)

    def _undo(self, row: Row, workflow: Workflow, case: Case) -> Outcome:
        """Take back what is done or may have landed, the latest first; each is taken back once.

        A call that was under way as the case was cancelled is given a while to come back.
        """
        was_at_work = (row.woken_by or {}).get("was") == CaseState.RUNNING.value
        for name, began in self.steps.begun_of(case.id):
            undoing = workflow.undoings.get(name.partition(":")[0])
            if undoing is None:
                continue
            if was_at_work and _utc_now() - began < _LONGEST_CALL:
                raise Retryable("a call to a partner may still be under way", _FIRST_RETRY_S)
            undoing(case, None)
            self.steps.undone(case.id, name)
        for name, result in self.steps.done_of(case.id):
            undoing = workflow.undoings.get(name.partition(":")[0])
            if undoing is not None:
                undoing(case, result)
                self.steps.undone(case.id, name)
        return Done("cancelled")

    def _case(self, row: Row, workflow: Workflow, mode: Mode) -> Case:
        woken: Draft = row.woken_by or {}
        topic = str(woken.get("topic", ""))
        decision = None
        if topic.startswith("approval:"):
            with read(self.db) as conn:
                decision = approvals.decision(conn, topic.partition(":")[2])
        payload = woken.get("payload")
        chart = self.chart(workflow, row.patient_id)
        return Case(
            row.id, row.key, workflow, mode, row.patient_id, dict(row.data), chart.now, chart,
            self.steps, decision, topic, payload if isinstance(payload, dict) else {},
        )  # fmt: skip

    def _is_held(self, row: Row) -> bool:
        scopes = [switches.of_workflow(row.workflow), switches.of_case(row.id)]
        with read(self.db) as conn:
            return switches.is_paused(conn, row.location_id, scopes)

    # --- what a stage ended in ---

    def _commit(self, row: Row, case: Case | None, result: Outcome) -> bool:
        with begin(self.db, self.actor, "case.advanced") as tx:
            now = cases.lock(tx, row.id)
            if now.leg != row.leg:
                tx.record(f"case:{row.id}", stage=row.stage, outcome="overtaken")
                return False
            if case is not None:
                self._queue_commands(tx, case)
                for words in case.notes:
                    cases.add_entry(tx, row.id, "note", row.stage, **words)
                cases.update(tx, row.id, data=case.data, attempts=0, error="")
            tx.record(f"case:{row.id}", stage=row.stage, outcome=type(result).__name__)
            return self._apply(tx, row, result)

    def _queue_commands(self, tx: Tx, case: Case) -> None:
        by = case.decision.by if case.decision else ""
        for name, command in case.queued:
            outbox.queue(
                tx, self.engine, self.store, key=case.command_key(name),
                command=authored(command, tx.conn, tx.location_id, by),
                patient_id=case.patient_id or "",
            )  # fmt: skip

    def _apply(self, tx: Tx, row: Row, result: Outcome) -> bool:
        match result:
            case Go(stage):
                cases.update(tx, row.id, stage=stage, woken_by=None)
                cases.add_entry(tx, row.id, "stage", stage)
                return True
            case Wait():
                self._wait(tx, row, result)
            case Ask():
                self._ask(tx, row, result)
            case Done(word):
                self._end(tx, row, word)
            case Park(reason):
                cases.add_entry(tx, row.id, "parked", row.stage, reason=reason)
                cases.update(
                    tx, row.id, state=CaseState.PARKED.value, error=reason[:255], attempts=0,
                    wake_at=None,
                )  # fmt: skip
        return False

    def _wait(self, tx: Tx, row: Row, result: Wait) -> None:
        cases.add_entry(
            tx, row.id, "waits", result.stage,
            until=result.until.isoformat() if result.until else "", topics=sorted(result.on),
        )  # fmt: skip
        cases.update(
            tx, row.id, state=CaseState.WAITING.value, stage=result.stage, wake_at=result.until,
            waits=dict(result.on),
        )  # fmt: skip
        cases.wake_by_signal(tx, self.engine, cases.lock(tx, row.id))

    def _ask(self, tx: Tx, row: Row, question: Ask) -> None:
        if workflow_mode(tx.conn, self.config, row.workflow, row.data) is Mode.SILENT:
            self._do_not_ask(tx, row, question)
            return
        approval_id = approvals.hold(tx, row.id, question)
        due_at = self.clock() + question.timeout
        tx.conn.execute(approval.update().where(approval.c.id == approval_id).values(due_at=due_at))
        cases.add_entry(tx, row.id, "asks", question.then, question=question.kind)
        cases.update(
            tx, row.id, state=CaseState.ASKING.value, stage=question.late, wake_at=due_at,
            waits={approvals.topic(approval_id): question.then, **question.on},
        )  # fmt: skip
        cases.wake_by_signal(tx, self.engine, cases.lock(tx, row.id))

    def _do_not_ask(self, tx: Tx, row: Row, question: Ask) -> None:
        """Keep the draft for comparison; nobody sees it, nor what was asked before."""
        cases.withdraw_approvals(tx, row.id)
        data = {**cases.lock(tx, row.id).data, f"silent_{question.kind}": question.draft}
        cases.update(tx, row.id, data=data)
        if question.silent:
            cases.wake(tx, self.engine, row, stage=question.silent)
            return
        cases.add_entry(tx, row.id, "ended", row.stage, result="silent")
        cases.update(tx, row.id, state=CaseState.SILENT.value, waits=None, wake_at=None)

    def _end(self, tx: Tx, row: Row, word: str) -> None:
        cases.withdraw_approvals(tx, row.id)
        cases.add_entry(tx, row.id, "ended", row.stage, result=word)
        state = CaseState.CANCELLED if row.stage == cases.UNDO else CaseState.DONE
        cases.update(tx, row.id, state=state.value, waits=None, wake_at=None, stage=word[:64])

    def _put_off(self, row: Row, error: Retryable) -> bool:
        """Run the stage again later: sooner at first, then every quarter of an hour."""
        with begin(self.db, self.actor, "case.put_off") as tx:
            now = cases.lock(tx, row.id)
            if now.leg != row.leg:
                return False
            counts = not isinstance(error, Paused | Paced | NoAgreement)
            attempts = now.attempts + 1 if counts else now.attempts
            delay = error.retry_after_s
            if counts:
                delay = max(delay, _FIRST_RETRY_S * 2 ** min(now.attempts, 8))
            wake_at = self.clock() + timedelta(seconds=min(delay, _LONGEST_RETRY_S))
            state = CaseState.CANCELLING if row.stage == cases.UNDO else CaseState.RETRYING
            if attempts == 1 and counts:
                cases.add_entry(tx, row.id, "put_off", row.stage, reason=str(error))
            cases.update(
                tx, row.id, state=state.value, attempts=attempts, wake_at=wake_at,
                error=str(error)[:255],
            )  # fmt: skip
            self._tell_once(tx, now, attempts)
            tx.record(f"case:{row.id}", stage=row.stage, attempts=attempts)
        return False

    def _put_aside(self, row: Row) -> bool:
        """Leave a paused case as it is; it is due as soon as somebody lets it go on."""
        with begin(self.db, self.actor, "case.put_aside") as tx:
            if cases.lock(tx, row.id).leg == row.leg:
                state = CaseState.RETRYING.value
                cases.update(tx, row.id, state=state, wake_at=self.clock(), error="paused")
            tx.record(f"case:{row.id}", stage=row.stage)
        return False

    def _tell_once(self, tx: Tx, row: Row, attempts: int) -> None:
        """Tell a person when something has been away for longer than `patience`."""
        steps = [min(_FIRST_RETRY_S * 2 ** min(n, 8), _LONGEST_RETRY_S) for n in range(attempts)]
        before, after = sum(steps[:-1]), sum(steps)
        if before < self.patience.total_seconds() <= after:
            self.escalate(tx, row, f"away-{row.leg}", "cannot go on by itself: a partner is away")

    def escalate(self, tx: Tx, row: Row, name: str, words: str) -> None:
        """Tell the practice by a task in the PMS: the case's id and words of ours, no finding."""
        cases.add_entry(tx, row.id, "escalated", row.stage, reason=words)
        if row.patient_id is None or self.config.pms.kind == "none":
            return
        key = f"case:{row.id}:task:{name}"
        ref = outbox.ref_for(tx.location_id, key)
        title = self.workflows[row.workflow].title
        text = f"Bitewing: {title} {words}. Case {row.id[:8]}. {ref}"
        chart = self.chart(self.workflows[row.workflow], row.patient_id)
        try:
            command = CreateTask(chart.pms_key(), text, ref)
            outbox.queue(
                tx, self.engine, self.store, key=key, command=command, patient_id=row.patient_id
            )
        except (InvalidInput, Rejected) as error:  # the console shows it all the same
            cases.add_entry(tx, row.id, "not_told", row.stage, reason=str(error))

    # --- timers, and what was lost ---

    def wake_due(self) -> int:
        """Start a leg for every idle case whose moment has come; returns how many.

        A case that cannot be woken is parked: it must not hold up the others.
        """
        with read(self.db) as conn:
            waiting = cases.due(conn, self.actor.location_id, self.clock())
        return sum(self._wake_or_park(case_id) for case_id in waiting)

    def _wake_or_park(self, case_id: str) -> bool:
        try:
            return self._wake(case_id)
        except Retryable:
            raise  # the database is away: for all of them
        except Exception as error:  # noqa: BLE001 - an edge: one case must not stop the others
            with read(self.db) as conn:
                row = conn.execute(
                    sa.select(workflow_case).where(workflow_case.c.id == case_id)
                ).one()
            return self._park(row, self._mistake(row, error))

    def _wake(self, case_id: str) -> bool:
        with begin(self.db, self.actor, "case.woken") as tx:
            row = cases.lock(tx, case_id)
            tx.record(f"case:{case_id}", stage=row.stage)
            if row.wake_at is None or row.wake_at > self.clock():
                return False  # another executor was first
            if row.state == CaseState.ASKING.value:
                return self._time_out(tx, row)
            cases.add_entry(tx, case_id, "woken", row.stage)
            state = CaseState.CANCELLING if row.stage == cases.UNDO else CaseState.RUNNING
            is_again = row.state in (CaseState.RETRYING.value, CaseState.CANCELLING.value)
            cases.wake(
                tx, self.engine, row, stage=row.stage, state=state,
                woken_by=row.woken_by if is_again else None,
            )  # fmt: skip
        return True

    def _time_out(self, tx: Tx, row: Row) -> bool:
        """Nobody has decided in time: the late stage follows, or a role is told and it waits on."""
        if row.stage:
            cases.withdraw_approvals(tx, row.id)
            cases.add_entry(tx, row.id, "late", row.stage)
            cases.wake(tx, self.engine, row, stage=row.stage)
            return True
        asked = tx.conn.execute(
            sa.select(approval).where(approval.c.case_id == row.id, approval.c.state == "waiting")
        ).all()
        for each in asked:
            role = Role(each.escalate_to).value.replace("_", " ")
            self.escalate(tx, row, each.id, f"waits for a decision; {role}, please look")
            tx.conn.execute(
                approval.update().where(approval.c.id == each.id).values(escalated_at=tx.now)
            )
        cases.update(tx, row.id, wake_at=None)
        return True

    def take_over(self) -> int:
        """Take the cases of processes that have died; returns how many."""
        if not self._beats:
            return 0
        with read(self.db) as conn:
            dead = self._dead(conn)
        return sum(self._restart(row) for row in self._at_work() if row.executor in dead)

    def heal(self) -> int:
        """Give a leg again to running cases that have none; returns how many.

        They come from a backup or from another database.
        """
        alive = ("ENQUEUED", "DELAYED", "PENDING")
        return sum(
            self._restart(row)
            for row in self._at_work()
            if self.engine.status(cases.run_key(row.id, row.leg)) not in alive
        )

    def _at_work(self) -> Sequence[Row]:
        with read(self.db) as conn:
            return conn.execute(
                sa.select(workflow_case.c.id, workflow_case.c.leg, workflow_case.c.executor).where(
                    workflow_case.c.location_id == self.actor.location_id,
                    workflow_case.c.stage != "",
                    workflow_case.c.wake_at.is_(None),
                    workflow_case.c.state.in_([CaseState.RUNNING, CaseState.CANCELLING]),
                )
            ).all()

    def beat(self) -> None:
        """Say that this process lives; others take its cases when it has not for ten seconds."""
        now = _utc_now()
        if not self._beats or (self._beat_at and (now - self._beat_at).total_seconds() < _BEAT_S):
            return
        self._beat_at = now
        values: dict[str, object] = {
            "location_id": self.actor.location_id, "executor": self.executor, "beat_at": now,
        }  # fmt: skip
        with begin_group(self.db) as conn:  # no row of the audit: it says nothing of anybody
            upsert(conn, executor_beat, ("location_id", "executor"), values)

    @property
    def _beats(self) -> bool:
        """Only a database that several processes share needs to know which of them live."""
        return self.db.dialect.name != "sqlite"

    def _dead(self, conn: sa.Connection) -> frozenset[str]:
        long_ago = _utc_now() - timedelta(seconds=_DEAD_S)
        query = sa.select(executor_beat.c.executor).where(
            executor_beat.c.location_id == self.actor.location_id,
            executor_beat.c.beat_at < long_ago,
        )
        return frozenset(conn.execute(query).scalars())

    def _restart(self, row: Row) -> bool:
        with begin(self.db, self.actor, "case.restarted") as tx:
            now = cases.lock(tx, row.id)
            tx.record(f"case:{row.id}", leg=now.leg)
            if now.leg != row.leg or now.wake_at is not None:
                return False
            state = CaseState(now.state)
            if state not in (CaseState.RUNNING, CaseState.CANCELLING):
                return False
            cases.add_entry(tx, row.id, "restarted", now.stage)
            cases.wake(tx, self.engine, now, stage=now.stage, state=state, woken_by=now.woken_by)
        return True
