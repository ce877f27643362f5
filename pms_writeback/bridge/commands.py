"""Carrying out commands at the clinic: one at a time, journalled, searched for, never twice.

The order on disk is: taken, begun, (the practice's system), done. A process that is killed between
the last two finds its own trace by the command's token when it starts again. A command that could
not be begun in time is released: the node keeps it and sends it again, after it has checked anew
whose it is.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from node.errors import BitewingError, Retryable
from pms_writeback.bridge.driver import Driver, Locked
from pms_writeback.bridge.journal import Entry, EntryState, Journal
from pms_writeback.bridge.limits import WINDOW_WAIT_S, Hours, KillSwitch
from pms_writeback.pms import CannotSearch, Command, OutcomeUnknown, Receipt

Clock = Callable[[], datetime]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LockPatience:
    """How to wait out a lock of the practice's database, in seconds.

    Waits double from `first_s` to `longest_s`, each shortened by chance down to a half, for
    `total_s` altogether; then the node is told to come again.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    total_s: float = 30.0

    def outlast(self, action: Callable[[], _T], stop: threading.Event) -> _T:
        """Do `action` until it meets no lock; raises the last `Locked` when patience ends."""
        limit = time.monotonic() + self.total_s
        wait_s = self.first_s
        while True:
            try:
                return action()
            except Locked:
                pause_s = wait_s * random.uniform(0.5, 1.0)
                if time.monotonic() + pause_s > limit or stop.wait(pause_s):
                    raise
            wait_s = min(wait_s * 2.0, self.longest_s)


class Commands:
    """The one writer of a bridge: everything that writes to the practice goes through here."""

    def __init__(
        self,
        driver: Driver,
        journal: Journal,
        switch: KillSwitch,
        hours: Hours,
        patience: LockPatience,
        clock: Clock,
    ) -> None:
        self._driver = driver
        self._journal = journal
        self._switch = switch
        self._hours = hours
        self._patience = patience
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self.stop = threading.Event()
        # A process that was killed may have written at its very end.
        journal.begin_again(clock())

    def write(self, command: Command, valid_for_s: float, asked: str = "") -> Receipt:
        """Carry out a command once; the same one again gives the first receipt.

        ``asked`` is the id of the node's request. Where the practice's system cannot be searched,
        the node asks anew only after a person has looked in the chart.

        Raises
        ------
        Retryable
            It certainly did not land: a lock, the kill switch, closed hours.
        OutcomeUnknown
            It may have landed and does not show yet.
        """
        until = self._clock() + timedelta(seconds=valid_for_s)
        with self._one_at_a_time:
            entry = self._journal.entry(command)
            if entry is not None and entry.receipt is not None:
                return entry.receipt
            if entry is not None and entry.state is EntryState.BEGUN:
                receipt = self._settle_or_trust(entry, command, asked)
                if receipt is not None:
                    return receipt
            self._check_may_write()
            return self._carry_out(self._journal.accept(command, until, asked), command)

    def find(self, command: Command) -> Receipt | None:
        """Say where a command landed, from the journal or else from the practice's system.

        Raises OutcomeUnknown while it may still be landing.
        """
        with self._one_at_a_time:
            entry = self._journal.entry(command)
            if entry is not None and entry.receipt is not None:
                return entry.receipt
            if entry is not None and entry.state is EntryState.BEGUN:
                return self._settle(entry, command)
            self._switch.check()
            return self._search(command)

    def _settle_or_trust(self, entry: Entry, command: Command, asked: str) -> Receipt | None:
        """Settle a begun command; where nothing can be searched, a new request is a person's."""
        try:
            return self._settle(entry, command)
        except CannotSearch:
            if asked == entry.asked:  # the same request over a mended line
                raise OutcomeUnknown("begun before, and this system cannot be searched") from None
        return None

    def recover(self) -> int:
        """Go on after a restart: settle what was begun, carry out what still may be.

        Returns how many commands were left open by trouble that may pass.
        """
        left = 0
        for _, command in self._journal.open_entries():
            with self._one_at_a_time:
                entry = self._journal.entry(command)  # it may have moved on meanwhile
                try:
                    self._recover_one(entry, command)
                except Retryable:
                    left += 1
                except BitewingError as error:
                    self._journal.note(self._clock(), "command_refused", str(error))
        return left

    def _recover_one(self, entry: Entry | None, command: Command) -> None:
        if entry is None or entry.state in (EntryState.DONE, EntryState.RELEASED):
            return
        if entry.state is EntryState.BEGUN:
            self._settle(entry, command)
        elif self._clock() >= entry.valid_until:
            self._journal.release(entry.key)
        else:
            self._check_may_write()
            self._carry_out(entry, command)

    def _check_may_write(self) -> None:
        self._switch.check()
        if not self._hours.are_open(self._clock()):
            raise Retryable("outside the hours in which the bridge may write", WINDOW_WAIT_S)

    def _carry_out(self, entry: Entry, command: Command) -> Receipt:
        """Search, then write; the entry is closed unless the outcome is unknown."""
        try:
            found = self._look_first(command)
            if found is not None:
                self._journal.finish(entry.key, found)
                return found
            self._journal.begin(entry.key, self._clock())
            receipt = self._patience.outlast(lambda: self._execute(entry, command), self.stop)
        except OutcomeUnknown as error:
            # Posting counts from the end of the try: the write may have waited for a lock first.
            self._journal.begin(entry.key, self._clock())
            self._journal.note(self._clock(), "outcome_unknown", str(error))
            raise
        except BitewingError as error:  # certainly nothing was written
            self._journal.release(entry.key)
            self._journal.note(self._clock(), type(error).__name__, str(error))
            raise
        self._journal.finish(entry.key, receipt)
        return receipt

    def _execute(self, entry: Entry, command: Command) -> Receipt:
        """Write once, if it may still be begun."""
        self._switch.check()
        if self._clock() >= entry.valid_until:
            raise Retryable("the command waited too long at the clinic; it is sent again")
        try:
            return self._driver.execute(command)
        except BitewingError:
            raise
        except Exception as error:
            raise OutcomeUnknown(
                f"the driver failed while writing ({type(error).__name__})", 15.0
            ) from error

    def _look_first(self, command: Command) -> Receipt | None:
        """Look for a trace before the first write; none where nothing can be searched."""
        try:
            return self._search(command)
        except CannotSearch:
            return None

    def _search(self, command: Command) -> Receipt | None:
        return self._patience.outlast(lambda: self._driver.find(command), self.stop)

    def _settle(self, entry: Entry, command: Command) -> Receipt | None:
        """Find out what became of a begun command; None releases it as certainly not landed."""
        self._switch.check()
        found = self._search(command)
        if found is not None:
            self._journal.finish(entry.key, found)
            return found
        age_s = (self._clock() - (entry.begun_at or entry.valid_until)).total_seconds()
        if 0.0 <= age_s < self._driver.posting_s:
            wait_s = max(self._driver.posting_s - age_s, 1.0)
            raise OutcomeUnknown("written, and not yet shown by the practice system", wait_s)
        self._journal.release(entry.key)
        return None
