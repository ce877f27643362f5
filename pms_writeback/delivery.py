"""Delivering one command to the PMS: search, send, search again, and never twice.

A run says ``sending`` in the row before the wire is touched and keeps the receipt after. Cut
anywhere and repeated, it finds its own trace by the command's token. A run that has to wait ends
and leaves a delayed run behind, so that one patient's trouble holds nobody else up.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never, cast

import sqlalchemy as sa

from node.db import switches
from node.db.session import Actor, Tx, begin, new_id, read
from node.db.tables import patient, study
from node.domain.audit_chain import canonical
from node.domain.events import EventKind
from node.domain.study import MatchState
from node.engine import DurableEngine
from node.errors import BitewingError, Retryable, Unsupported
from pms_writeback.command_rows import (
    OPEN,
    CommandRow,
    CommandState,
    load_command,
    next_open,
    schedule_run,
    store_state,
)
from pms_writeback.pauses import Pause, end_pause, read_pause, store_pause
from pms_writeback.payload import DocumentStore, Json, command_from_json
from pms_writeback.pms import CannotSearch, CloseTask, OfficeAway, OutcomeUnknown, Pms, Receipt

log = logging.getLogger(__name__)

_HELD_S = 300.0  # whoever lets it go on wakes it at once

ASK_A_PERSON = (
    "The practice system did not confirm this twice and shows no trace of it. "
    "Look in the chart, then retry."
)
CANNOT_SEARCH = (
    "The practice system did not confirm this and cannot be searched for it. "
    "Look in the chart, then retry."
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    Tries of one command are `first_wait_s` apart, then twice as long each, at most
    `longest_wait_s`. `grace_s` is how long a write whose answer was lost may take to appear: more
    than the longest time that a PMS works on a request (Open Dental remote: 60 s).
    """

    first_wait_s: float = 5.0
    longest_wait_s: float = 300.0
    grace_s: float = 90.0

    def before_try(self, attempts: int, asked_s: float) -> float:
        """Wait this long before the next try; the PMS may have asked for longer."""
        growing = self.first_wait_s * 2.0 ** min(attempts, 10)
        return min(max(growing, asked_s), self.longest_wait_s)

    def for_office(self, failures: int, asked_s: float) -> float:
        """Wait this long for an office that is away: half as long, as other commands try too."""
        return min(max(self.before_try(failures, 0.0) / 2, asked_s), self.longest_wait_s)


@dataclass(frozen=True, slots=True)
class _Landed:
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class _Later:
    state: CommandState
    wait_s: float
    error: str
    sent_at: datetime | None
    unknown_answers: int
    office_wait_s: float | None = None
    waited_for: str = ""


@dataclass(frozen=True, slots=True)
class _Ended:
    state: CommandState
    error: str
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Overtaken:
    """It was withdrawn, or addressed anew, while it was searched for: it was not sent."""


_Outcome = _Landed | _Later | _Ended | _Overtaken


@dataclass(frozen=True, slots=True)
class Delivery:
    """Delivers the commands of one location; `run` may be cut anywhere and repeated.

    While the office is away as a whole its commands wait together (`pauses`); what only one
    record suffers from holds up that patient's commands alone.
    """

    db: sa.Engine
    engine: DurableEngine
    store: DocumentStore
    pms: Pms | None
    location_id: str
    patience: Patience
    clock: Callable[[], datetime]

    def run(self, command_id: str, attempt: int) -> str:
        """Try one command once and return its state; leaves a run behind when it must wait.

        A run whose `attempt` is not the row's latest does nothing: a later one took its place.

        Raises Retryable when our own database is locked or away.
        """
        try:
            with read(self.db) as conn:
                row = load_command(conn, command_id)
                if row is None or row.location_id != self.location_id:
                    return "not ours"
                if row.attempts != attempt:
                    return "superseded"
                if row.state not in OPEN or next_open(conn, row) != row.id:
                    return row.state.value  # the one before it wakes it
                obstacle = _obstacle(conn, row)
                pause = read_pause(conn, row.location_id)
                is_held = switches.is_paused(conn, row.location_id, [switches.OUTBOUND])
        except sa.exc.OperationalError:
            raise Retryable("the database is away") from None
        held = _held(row) if is_held else None
        outcome = obstacle or held or self._waits(row, pause) or self._try(row, pause)
        self._keep(row, outcome, pause)
        match outcome:
            case _Landed():
                return CommandState.DONE.value
            case _Overtaken():
                return "overtaken"
            case _:
                return outcome.state.value

    def _waits(self, row: CommandRow, pause: Pause | None) -> _Outcome | None:
        """Wait with the whole office; None when this command may try."""
        now = self.clock()
        if pause is None or not pause.holds(row.id, row.waited_for, now):
            return None
        return _Later(
            row.waiting_state,
            (pause.until - now).total_seconds(),
            pause.reason,
            row.sent_at,
            row.unknown_answers,
            waited_for=pause.command_id,
        )

    def _try(self, row: CommandRow, pause: Pause | None) -> _Outcome:
        """Search, then send; turn every error into what happens next."""
        if self.pms is None:
            return _Ended(CommandState.FAILED, "No practice management system is set up.", None)
        try:
            command = command_from_json(row.kind, cast(Json, row.payload["command"]), self.store)
            found = self.pms.find(command)
            if found is not None and found.is_complete:
                return _Landed(found)
            if found is None and (verdict := self._still_missing(row)) is not None:
                return verdict
        except CannotSearch:
            if row.sent_at is not None:
                return _Ended(CommandState.FAILED, CANNOT_SEARCH, row.sent_at)
        except Exception as error:  # noqa: BLE001 - an edge: one bad command holds up no other
            return self._judge(row, error, row.sent_at, pause)
        sent_at = self.clock()
        if not self._say_sending(row, sent_at):
            return _Overtaken()
        try:
            return _Landed(self.pms.execute(command))
        except OutcomeUnknown as error:
            wait_s, answers = self.patience.first_wait_s, row.unknown_answers + 1
            return _Later(CommandState.UNKNOWN, wait_s, str(error), sent_at, answers)
        except BitewingError as error:  # this time it certainly did not land
            return self._judge(row, error, row.sent_at, pause)
        except Exception as error:  # noqa: BLE001 - an edge: one bad command holds up no other
            return self._judge(row, error, sent_at, pause)

    def _still_missing(self, row: CommandRow) -> _Outcome | None:
        """Judge a search that found nothing; None means that it may be sent."""
        if row.sent_at is None:
            return None
        age_s = max((self.clock() - row.sent_at).total_seconds(), 0.0)
        if age_s < self.patience.grace_s:
            return _Later(
                CommandState.UNKNOWN,
                self.patience.grace_s - age_s,
                "Waiting for it to appear in the chart.",
                row.sent_at,
                row.unknown_answers,
            )
        if row.unknown_answers >= 2:
            return _Ended(CommandState.FAILED, ASK_A_PERSON, row.sent_at)
        return None

    def _judge(
        self, row: CommandRow, error: Exception, sent_at: datetime | None, pause: Pause | None
    ) -> _Outcome:
        """Say what follows from an error; `sent_at` is the last send that may have landed."""
        if isinstance(error, Retryable):
            wait_s = self.patience.before_try(row.tries, error.retry_after_s)
            office_wait_s = None
            if isinstance(error, OfficeAway):
                failures = 0 if pause is None else pause.failures
                office_wait_s = self.patience.for_office(failures, error.retry_after_s)
                wait_s = max(wait_s, office_wait_s + self.patience.first_wait_s)
            state = CommandState.QUEUED if sent_at is None else CommandState.UNKNOWN
            return _Later(state, wait_s, str(error), sent_at, row.unknown_answers, office_wait_s)
        if isinstance(error, Unsupported):
            return _Ended(CommandState.DECLINED, str(error), sent_at)
        if isinstance(error, BitewingError):
            return _Ended(CommandState.FAILED, str(error), sent_at)
        error_id = new_id()[:8]
        log.error("command %s failed, error %s: %s", row.id, error_id, type(error).__name__)
        return _Ended(CommandState.FAILED, f"Internal error {error_id}.", sent_at)

    def _say_sending(self, row: CommandRow, sent_at: datetime) -> bool:
        """Say so in the row; False when it is not to be sent any more, or not as it was read."""
        with begin(self.db, self._actor, "pms.command_sending") as tx:
            now = load_command(tx.conn, row.id)
            is_same = now is not None and now.payload["command"] == row.payload["command"]
            if is_same and store_state(
                tx,
                row,
                CommandState.SENDING,
                sent_at=sent_at,
                unknown_answers=row.unknown_answers,
            ):
                _say(tx, row)
                return True
            self._wake(tx, row)
            _say(tx, row, state="overtaken")
            return False

    def _keep(self, row: CommandRow, outcome: _Outcome, pause: Pause | None) -> None:
        """Commit what a try came to, and the run that follows from it."""
        match outcome:
            case _Landed(receipt):
                with begin(self.db, self._actor, "pms.command_done") as tx:
                    store_state(
                        tx,
                        row,
                        CommandState.DONE,
                        sent_at=row.sent_at,
                        unknown_answers=row.unknown_answers,
                        receipt=receipt,
                    )
                    if pause is not None:
                        end_pause(tx)
                    self._announce(tx, row, CommandState.DONE)
                    tx.record(f"command:{row.id}", receipt=f"{receipt.resource}/{receipt.key}")
            case _Ended(state, error, sent_at):
                with begin(self.db, self._actor, f"pms.command_{state.value}") as tx:
                    if store_state(
                        tx,
                        row,
                        state,
                        sent_at=sent_at,
                        unknown_answers=row.unknown_answers,
                        error=error,
                    ):
                        self._announce(tx, row, state)
                    else:
                        self._wake(tx, row)
            case _Later():
                self._wait(row, outcome, pause)
            case _Overtaken():
                return
            case _:
                assert_never(outcome)

    def _wait(self, row: CommandRow, later: _Later, pause: Pause | None) -> None:
        with begin(self.db, self._actor, "pms.command_waiting") as tx:
            is_open = store_state(
                tx,
                row,
                later.state,
                sent_at=later.sent_at,
                unknown_answers=later.unknown_answers,
                tries=row.tries if later.waited_for else row.tries + 1,
                waited_for=later.waited_for,
                error=later.error,
            )
            if later.office_wait_s is not None:
                until = self.clock() + timedelta(seconds=later.office_wait_s)
                failures = 1 if pause is None else pause.failures + 1
                store_pause(tx, Pause(until, failures, row.id, later.error))
            if is_open:
                schedule_run(tx, self.engine, row.id, later.wait_s)
            else:
                self._wake(tx, row)
            _say(tx, row, state=later.state.value)

    def _announce(self, tx: Tx, row: CommandRow, state: CommandState) -> None:
        """Leave the event of an end, and wake the patient's next command."""
        is_done = state is CommandState.DONE
        tx.append_event(
            EventKind.WRITE_DONE if is_done else EventKind.WRITE_FAILED,
            row.id,
            f"write-done:{row.id}" if is_done else f"write-failed:{row.id}:{row.attempts}",
            {"study_id": row.study_id, "kind": row.kind, "state": state.value},
        )
        self._wake(tx, row)
        _say(tx, row, state=state.value)

    def _wake(self, tx: Tx, row: CommandRow) -> None:
        """Give a run to the patient's first open command, which may be this one."""
        following = next_open(tx.conn, row)
        if following is not None:
            schedule_run(tx, self.engine, following, None)

    @property
    def _actor(self) -> Actor:
        return Actor("outbox", self.location_id)


def _held(row: CommandRow) -> _Later:
    """Wait until a person lets what is outbound go on; no try is counted."""
    return _Later(
        row.waiting_state,
        _HELD_S,
        "Everything outbound is paused.",
        row.sent_at,
        row.unknown_answers,
        waited_for=switches.OUTBOUND,
    )


def _obstacle(conn: sa.Connection, row: CommandRow) -> _Ended | None:
    """Check again, just before sending, that this is still certainly this patient's.

    Closing a task that we made is always right: it may be what takes it off a wrong chart.
    """
    if row.kind == CloseTask.__name__:
        return None
    person = conn.execute(
        sa.select(patient.c.pms_key, patient.c.tombstoned_at).where(patient.c.id == row.patient_id)
    ).first()
    command = cast(Json, row.payload["command"])
    if person is None or person.pms_key != command["patient_key"]:
        return _Ended(
            CommandState.FAILED, "The patient's number in the practice system changed.", row.sent_at
        )
    if person.tombstoned_at is not None:
        return _Ended(
            CommandState.FAILED, "The patient was deleted in the practice system.", row.sent_at
        )
    if row.study_id is None:
        return None
    owner = conn.execute(
        sa.select(study.c.match_state, study.c.patient_id).where(study.c.id == row.study_id)
    ).one()
    if not MatchState(owner.match_state).is_certain:
        return _Ended(
            CommandState.HELD,
            "It is no longer certain whose study this is. Link the study, then retry.",
            row.sent_at,
        )
    if owner.patient_id != row.patient_id:
        return _Ended(CommandState.FAILED, "The study was linked to another patient.", row.sent_at)
    return None


def _say(tx: Tx, row: CommandRow, **detail: object) -> None:
    """Say in the audit which write this is about, whose it is and what it carries (a digest)."""
    command = row.payload.get("command")
    digest = hashlib.sha256(canonical([command])).hexdigest()
    whose = {"study": row.study_id or "", "patient": row.patient_id}
    tx.record(f"command:{row.id}", kind=row.kind, command=digest, **whose, **detail)
