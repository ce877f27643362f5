"""Grouped commits: what several associations bring at one time costs one flush of the database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from node.db.session import Actor, Entangled, Tx, begin_group, begin_member, run_group
from node.dicom.kept import StoreOutcome
from node.errors import Retryable

Work = Callable[[Tx], StoreOutcome]
#: How often a write is tried again that another process got in the way of.
_TRIES = 5


@dataclass(slots=True)
class _Waiting:
    """One write that waits for its transaction, and what came of it."""

    work: Work
    result: StoreOutcome | None = None
    error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.error is not None


class Committer:
    """Writes of several threads, each with its own audit row, committed together.

    No thread of its own: the first that comes writes for all that came while the one before it
    was at the disk. A write that fails is undone alone; when the commit fails, all have failed.
    """

    def __init__(self, db: sa.Engine, actor: Actor, action: str) -> None:
        self._db = db
        self._actor = actor
        self._action = action
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: list[_Waiting] = []

    @property
    def pending(self) -> int:
        """How many writes wait for the next transaction."""
        return len(self._waiting)

    def run(self, work: Work) -> StoreOutcome:
        """Run `work` in a transaction; return its result once that is committed.

        Raises what `work` raised, or Retryable when the database did not take it.
        """
        mine = _Waiting(work)
        with self._guard:
            self._waiting.append(mine)
        with self._turn:
            if not mine.is_done:
                with self._guard:
                    group, self._waiting = self._waiting, []
                self._commit(group)
        if mine.error is not None:
            raise mine.error
        assert mine.result is not None
        return mine.result

    def _commit(self, group: list[_Waiting]) -> None:
        try:
            try:
                results = run_group(
                    self._db, self._actor, self._action, [waiting.work for waiting in group]
                )
            except Entangled:  # with another process that had the same studies in another order
                self._commit_alone(group)
                return
            except (Retryable, sa.exc.OperationalError):  # nobody's own fault
                raise
            except Exception:
                if len(group) == 1:
                    raise
                self._commit_each(group)
                return
            for waiting, result in zip(group, results, strict=True):
                waiting.result = result
        except BaseException as error:  # noqa: BLE001 - given to those who wait for it
            for waiting in group:
                waiting.result, waiting.error = None, waiting.error or error

    def _commit_alone(self, group: list[_Waiting]) -> None:
        """Commit one after the other, in transactions that hold nobody else's rows."""
        for waiting in group:
            for _ in range(_TRIES):
                try:
                    (waiting.result,) = run_group(
                        self._db, self._actor, self._action, [waiting.work]
                    )
                except Entangled as error:
                    waiting.error = error
                    continue
                except Exception as error:  # noqa: BLE001 - given to the one who waits for it
                    waiting.error = error
                else:
                    waiting.error = None
                break

    def _commit_each(self, group: list[_Waiting]) -> None:
        """Commit together what does not fail by itself: it takes a savepoint each to find out."""
        results: list[tuple[_Waiting, StoreOutcome]] = []
        with begin_group(self._db) as conn:
            for waiting in group:
                try:
                    with begin_member(conn, self._actor, self._action) as tx:
                        result = waiting.work(tx)
                    results.append((waiting, result))
                except sa.exc.OperationalError:  # the disk or the connection: nobody's own fault
                    raise
                except Exception as error:  # noqa: BLE001 - given to the one who waits for it
                    waiting.error = error
        for waiting, result in results:
            waiting.result = result
