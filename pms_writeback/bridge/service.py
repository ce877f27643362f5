"""The running bridge: threads that read the practice, carry out commands and keep the line.

Nothing here needs the node to be there: begun commands are settled and tables are read while the
line is down, and what is owed is told when it is back.
"""

from __future__ import annotations

import logging
import platform
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from node import __version__
from node.errors import BitewingError, ConfigError, Retryable, bug_of
from pms_writeback.bridge.commands import Commands, LockPatience
from pms_writeback.bridge.driver import About, Driver
from pms_writeback.bridge.identity import Identity
from pms_writeback.bridge.journal import Journal
from pms_writeback.bridge.limits import KillSwitch
from pms_writeback.bridge.link import Link, News, Session, SessionEnded
from pms_writeback.bridge.protocol import (
    VERSIONS,
    Method,
    Request,
)
from pms_writeback.bridge.questions import Questions
from pms_writeback.bridge.settings import BridgeSettings
from pms_writeback.bridge.snapshots import Snapshots
from pms_writeback.bridge.updates import Package, Updates
from pms_writeback.bridge.vault import Vault, lock_folder
from pms_writeback.bridge.warehouse import Warehouse

log = logging.getLogger("bitewing.bridge")

_RECOVER_EVERY_S = 30.0


def utc_now() -> datetime:
    """Read this machine's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds between the bridge's own looks; tests make them short."""

    tick_s: float = 1.0
    first_redial_s: float = 1.0
    longest_redial_s: float = 60.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A question in this process's queue since a moment of its steady clock."""

    session: Session
    request: Request
    since: float


@dataclass(slots=True)
class Bridge:
    """One clinic's bridge; `start` returns at once, and it may be killed anywhere."""

    folder: Path
    settings: BridgeSettings
    driver: Driver
    clock: Callable[[], datetime] = utc_now
    timing: Timing = Timing()
    versions: Sequence[int] = VERSIONS
    _journal: Journal = field(init=False)
    _warehouse: Warehouse = field(init=False)
    _switch: KillSwitch = field(init=False)
    _commands: Commands = field(init=False)
    _snapshots: Snapshots = field(init=False)
    _updates: Updates = field(init=False)
    _questions: Questions = field(init=False)
    _writes: queue.Queue[_Waiting] = field(default_factory=queue.Queue)
    _reads: queue.Queue[_Waiting] = field(default_factory=queue.Queue)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _link: Link | None = None
    _line: str = "not dialled yet"
    _refused_offer: str = ""
    _unlock: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        settings = self.settings
        vault = Vault(self.folder / "vault.key")
        self._journal = Journal(self.folder / "journal.sqlite", vault)
        self._warehouse = Warehouse(self.folder / "warehouse.sqlite", vault)
        self._switch = KillSwitch(self.folder, self._journal)
        patience = LockPatience(total_s=settings.lock_patience_s)
        self._commands = Commands(
            self.driver,
            self._journal,
            self._switch,
            settings.hours(settings.write_hours),
            patience,
            self.clock,
        )
        self._snapshots = Snapshots(
            self.driver,
            self._warehouse,
            self._journal,
            self._switch,
            settings.hours(settings.heavy_hours),
            settings.office,
            self.clock,
            every_s=settings.snapshot_s,
            heavy_every_s=settings.heavy_every_s,
            days_before=settings.days_before,
            days_after=settings.days_after,
            patience=patience,
        )
        self._updates = Updates(self.folder / "updates", settings.update_key, __version__)
        self._questions = Questions(
            self._commands, self._snapshots, self._warehouse, self._switch, self._bug
        )

    @property
    def journal(self) -> Journal:
        """The journal, for looking."""
        return self._journal

    @property
    def line(self) -> str:
        """How the line to the node is, in words."""
        return self._line

    def start(self) -> None:
        """Start every thread.

        Raises ConfigError when this bridge is not enrolled, or another one runs in its folder.
        """
        self._unlock = lock_folder(self.folder)
        identity = Identity(self.folder)
        identity.repair()
        identity.context()
        for name, loop in (
            ("bridge-line", self._keep_line),
            ("bridge-writes", lambda: self._serve(self._writes)),
            ("bridge-reads", lambda: self._serve(self._reads)),
            ("bridge-snapshots", self._look_again),
            ("bridge-recovery", self._recover),
        ):
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End every thread; a command that is under way is finished first."""
        self._stopping.set()
        self._commands.stop.set()
        self._snapshots.stop.set()
        if self._link is not None:
            self._link.close()
        for thread in self._threads:
            thread.join(timeout=10)
        self.driver.close()
        self._journal.close()
        self._warehouse.close()
        self._unlock()

    def wait(self) -> None:
        """Block until `stop_soon` is called."""
        while not self._stopping.wait(0.5):
            continue

    def stop_soon(self) -> None:
        """Ask `wait` to return; for signal handlers."""
        self._stopping.set()

    def _keep_line(self) -> None:
        """Dial, serve until the line breaks, dial again; waits double up to a minute."""
        wait_s = self.timing.first_redial_s
        while not self._stopping.is_set():
            try:
                self._hold_line()
                wait_s = self.timing.first_redial_s
            except SessionEnded:
                wait_s = self.timing.first_redial_s
            except BitewingError as error:
                self._say_line(str(error))
                if isinstance(error, ConfigError):
                    wait_s = self.timing.longest_redial_s
            except Exception as error:  # noqa: BLE001 - an edge: the line is dialled again
                self._bug("line", error)
            if self._stopping.wait(wait_s * random.uniform(0.5, 1.0)):
                return
            wait_s = min(wait_s * 2.0, self.timing.longest_redial_s)

    def _hold_line(self) -> None:
        identity = Identity(self.folder)
        identity.check_alive(self.clock())
        link = Link(self.settings.node_url, identity.context(), self.versions)
        self._link = link
        try:
            self._renew_certificate(link, identity)
            session = link.hello(self._introduction())
            self._switch.obey(session.is_stopped)
            self._say_line("")
            while not self._stopping.is_set():
                self._heed(session, link, link.next(session, self._status()))
                if identity.wants_renewal(self.clock()):
                    return  # dialled again, renewed on the way
        finally:
            link.close()

    def _renew_certificate(self, link: Link, identity: Identity) -> None:
        if not identity.wants_renewal(self.clock()):
            return
        try:
            identity.complete_renewal(link.renew(identity.prepare_renewal()))
            log.info("certificate renewed")
        except Retryable:
            raise
        except BitewingError as error:  # the present one still works
            self._journal.note(self.clock(), "renewal_failed", str(error))

    def _heed(self, session: Session, link: Link, news: News) -> None:
        self._switch.obey(news.is_stopped)
        self._journal.forget_notices(news.notices_seen)
        for request in news.requests:
            is_write = request.method in (Method.WRITE, Method.FIND)
            waiting = _Waiting(session, request, time.monotonic())
            (self._writes if is_write else self._reads).put(waiting)
        if news.offer is not None and news.offer.signature != self._refused_offer:
            self._consider(news.offer, link)

    def _consider(self, offer: Package, link: Link) -> None:
        """Stage an offered package, or say once why not."""
        if not self._updates.is_wanted(offer):
            return
        try:
            self._updates.stage(offer, link.fetch)
        except Retryable:
            raise
        except BitewingError as error:
            self._refused_offer = offer.signature
            self._journal.note(self.clock(), "update_refused", str(error))
            return
        self._journal.note(self.clock(), "update_staged", offer.version)

    def _serve(self, requests: queue.Queue[_Waiting]) -> None:
        """Answer questions one after the other; an answer that cannot be brought is asked again."""
        while not self._stopping.is_set():
            try:
                waiting = requests.get(timeout=self.timing.tick_s)
            except queue.Empty:
                continue
            session, waited_s = waiting.session, time.monotonic() - waiting.since
            request = replace(waiting.request, age_s=waiting.request.age_s + waited_s)
            answer = self._questions.answer(request, session.version)
            link = self._link
            if link is None:
                continue
            try:
                link.answer(session, answer)
            except BitewingError as error:
                log.info("an answer could not be brought: %s", error)
            except Exception as error:  # noqa: BLE001 - a line closed under us; it is asked again
                log.info("an answer could not be brought (%s)", type(error).__name__)

    def _look_again(self) -> None:
        while not self._stopping.is_set():
            try:
                self._snapshots.run_due()
            except BitewingError as error:
                log.warning("snapshots: %s", error)
            except Exception as error:  # noqa: BLE001 - an edge: the next look may work
                self._bug("snapshots", error)
            if self._stopping.wait(self.timing.tick_s):
                return

    def _recover(self) -> None:
        """Settle what an earlier run left open, until nothing is."""
        while not self._stopping.is_set():
            try:
                if self._commands.recover() == 0:
                    return
            except BitewingError as error:
                log.warning("recovery: %s", error)
            except Exception as error:  # noqa: BLE001 - an edge
                self._bug("recovery", error)
            if self._stopping.wait(_RECOVER_EVERY_S):
                return

    def _introduction(self) -> dict[str, object]:
        try:
            self._switch.check()
            about = self.driver.about()
        except Retryable:  # the line is worth having while the practice's system is away
            about = About(self.settings.pms, "unknown", self.settings.driver, is_sandbox=False)
        return {
            "product": about.product,
            "pms_version": about.version,
            "driver": about.driver,
            "is_sandbox": about.is_sandbox,
            "bridge_version": __version__,
            "python": platform.python_version(),
            "system": platform.system(),
            "pms": self.settings.pms,
            "time_zone": self.settings.time_zone,
            "tables": [table.name for table in self.driver.tables],
            "operations": [
                {"operation": each.operation, "support": each.support.value, "reason": each.reason}
                for each in self.driver.operations()
            ],
            "now": self.clock().isoformat(),
        }

    def _status(self) -> dict[str, object]:
        """The heartbeat: counts, problems and notices; no patient data."""
        staged = self._updates.staged
        return {
            "now": self.clock().isoformat(),
            "stopped": self._switch.reason,
            "is_stopped_by_node": self._switch.is_stopped_by_node,
            "rows": self._warehouse.counts(),
            "commands": self._journal.counts(),
            "problems": dict(self._snapshots.problems),
            "notices": [notice.to_json() for notice in self._journal.notices()],
            "staged": staged.version if staged else "",
            "certificate_until": Identity(self.folder).certificate.not_valid_after_utc.isoformat(),
        }

    def _say_line(self, trouble: str) -> None:
        words = trouble or "connected"
        if words != self._line:
            self._line = words
            log.info("line to the node: %s", words)
            if trouble:
                self._journal.note(self.clock(), "line", trouble)

    def _bug(self, where: str, error: Exception) -> None:
        place = bug_of(error)
        log.error("%s failed (%s)", where, place)
        self._journal.note(self.clock(), "bug", f"{where}: {place}")
