"""Reads of patients' data on their way into the audit: many at one time in one transaction.

An answer waits until its entry is committed. The first that comes writes for all that came while
the one before it was at the disk, so that a page of twenty pictures costs a few commits.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import sqlalchemy as sa

from node.db.audit_rows import AuditEntry
from node.db.session import Actor, look, note_reads


@dataclass(slots=True)
class _Waiting:
    """One entry that waits for its transaction, and what came of it."""

    entry: AuditEntry
    is_done: bool = False
    error: BaseException | None = None


class ReadLog:
    """Writes down who read what, before they get it; safe to call from many threads."""

    def __init__(self, db: sa.Engine) -> None:
        self._db = db
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: list[_Waiting] = []

    def note(self, actor: Actor, action: str, subject: str, **detail: object) -> None:
        """Write one entry and return once it is committed.

        Raises Retryable when the database does not take it: then nothing may be shown.
        """
        mine = _Waiting(look(actor, action, subject, **detail))
        with self._guard:
            self._waiting.append(mine)
        with self._turn:
            if not mine.is_done:
                with self._guard:
                    group, self._waiting = self._waiting, []
                self._commit(group)
        if mine.error is not None:
            raise mine.error

    def _commit(self, group: list[_Waiting]) -> None:
        error: BaseException | None = None
        try:
            note_reads(self._db, [waiting.entry for waiting in group])
        except BaseException as failure:  # noqa: BLE001 - given to everyone who waits for it
            error = failure
        for waiting in group:
            waiting.is_done, waiting.error = True, error
