"""The composition root: a Config becomes a running node. The only module that knows every part."""

from __future__ import annotations

import hashlib
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO

import sqlalchemy as sa
from fastapi import FastAPI

from node.analysis import installed
from node.analysis.arrivals import Patience
from node.analysis.completion import (
    complete_studies,
    requeue_forgotten_images,
    reread_stale_studies,
)
from node.analysis.inference import InferenceProcess
from node.analysis.recalibrating import propose_content
from node.analysis.shadow import ShadowReader, shadow_sections
from node.analysis.silent_agreement import silent_report
from node.analysis.workflows import Analyser
from node.audit_keeping import AuditKeeper
from node.audit_telling import AuditTeller, open_collector
from node.backup.keeper import BackupKeeper
from node.config import Config, PeerSection
from node.config_trail import note_config
from node.db.agreements import demand_peer, warn_of_agreements
from node.db.keys import open_keys
from node.db.migrate import migrate
from node.db.session import Actor, begin, open_database, read
from node.db.settled import reduce_settled
from node.db.shedding import shed
from node.db.tables import study
from node.dicom.availability import Notifier
from node.dicom.commitment_report import CommitmentDesk
from node.dicom.derived import derived_uid
from node.dicom.forwarding import Forwarder
from node.dicom.identity import match_study
from node.dicom.importing import ImportFolder
from node.dicom.instances import FolderStore
from node.dicom.object_file import ObjectFile
from node.dicom.older_results import complete_results
from node.dicom.pixel_return import PixelFetcher
from node.dicom.priors import PriorFetcher
from node.dicom.retention import Retention
from node.dicom.scp import DicomListener
from node.dicom.send import send_object
from node.disk import DiskCollector, disk_of
from node.domain import cdt
from node.domain.study import MatchState
from node.engine import (
    ANALYSIS,
    PMS,
    RESULTS,
    STUDIES,
    WORKFLOWS,
    DurableEngine,
    Queue,
)
from node.engine_key import engine_key_of, keep_wrapped
from node.errors import BitewingError, ConfigError, bug_of
from node.expiry import CertificateCollector, warn_of_expiries
from node.fleet import routes as fleet_routes
from node.fleet.report import compose_report
from node.fleet.reports import FleetCollector, send_report
from node.objects.opening import open_objects
from node.objects.standing import ObjectsCollector
from node.rollout import auto
from node.status import Probe, Status, metrics
from node.web import rollout_page
from node.web.app import create_web, end_streams
from node.web.auth import demand_declarations, require
from node.web_server import WebServer
from orchestration import approval_page, console, webhooks
from orchestration.labs import fetching
from orchestration.messengers import stop_page
from orchestration.messengers.office import link_key
from orchestration.orchestra import Orchestra, open_orchestra
from orchestration.payers import page as payer_page
from orchestration.recall import routes as recall_routes
from orchestration.workflows import (
    chart_findings,
    flag_study,
    open_mailbox,
    open_sources,
    open_workflows,
    publish_results,
    retract_study,
    send_results,
)
from pms_writeback import outbox
from pms_writeback.bridge.listener import BridgeListener
from pms_writeback.bridge.office import BridgedPms
from pms_writeback.hints import Turns
from pms_writeback.opendental import OpenDental
from pms_writeback.opendental.events import make_router as make_events_router
from pms_writeback.pms import Pms
from pms_writeback.practice import open_pms
from pms_writeback.records import RecordSource
from pms_writeback.sync import ScheduleSync
from pms_writeback.waking import wake
from pms_writeback.warehouse import Warehouse

log = logging.getLogger("bitewing")

_TICK_S = 1.0
_MOVER = "objects"
_CASES_EVERY_S = 0.5
_FLAG_EVERY_S = 3.0
_FORWARD_EVERY_S = 2.0
_DISK_EVERY_S = 5.0
_TELL_EVERY_S = 5.0
_HEAL_EVERY_S = 60.0
_PICTURES_EVERY_S = 1.0
_HOUR_S = 3_600.0
_DAY_S = 86_400.0
_FORGOTTEN_S = 600.0
_AUTO_EVERY_S = 10.0
_SHADOW_EVERY_S = 2.0
_REMATCH_DAYS = 14


class Part(StrEnum):
    """What one process may run; `serve --only` names some of them."""

    DICOM = "dicom"
    WEB = "web"
    ANALYSIS = "analysis"
    WORKFLOWS = "workflows"


ALL_PARTS = frozenset(Part)
_QUEUES: dict[Part, tuple[Queue, ...]] = {
    Part.DICOM: (),
    Part.WEB: (),
    Part.ANALYSIS: (ANALYSIS, STUDIES),
    Part.WORKFLOWS: (WORKFLOWS, PMS, RESULTS),
}


@dataclass(slots=True)
class Node:
    """One running process of the product."""

    config: Config
    parts: frozenset[Part] = ALL_PARTS
    listener: DicomListener | None = None
    web_port: int | None = None
    _closers: list[Callable[[], None]] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Open everything in order: database, engine, DICOM, sync, web.

        Raises ConfigError when an operator must act first; whatever was opened is closed again.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close everything in the reverse order; unfinished durable work goes on at next start."""
        self._stopping.set()
        while self._closers:
            self._closers.pop()()

    def stop_soon(self) -> None:
        """Ask :meth:`wait` to return; for signal handlers."""
        self._stopping.set()

    def wait(self) -> None:
        """Block until :meth:`stop_soon` or :meth:`stop` is called."""
        while not self._stopping.wait(timeout=0.5):
            continue

    def _start(self) -> None:
        config = self.config
        self._closers.append(_lock_executor(config, self.executor_id))
        db = open_database(config.database_url)
        self._closers.append(db.dispose)
        migrate(db)
        ring = open_keys(db, config, Actor("keys", config.node.location_id))
        if ring is not None:
            keep_wrapped(config)
            self._every(_HEAL_EVERY_S, "keys", ring.refresh)  # one made since seals what is new
        store = open_objects(config, db, ring)
        key = engine_key_of(config)
        self._keep_audit(db, key)
        engine = DurableEngine(config.database_url, key, self.executor_id, config.node.location_id)
        inference = InferenceProcess(
            config.analysis, self._runtime_dir, log_level=config.node.log_level
        )
        pms = open_pms(config)
        actor = Actor("analysis", config.node.location_id)
        Analyser(
            db,
            actor,
            inference,
            store.file,
            lambda tx, study_id: match_study(tx, study_id, config),
            cdt.load(Path(config.analysis.cdt_table) if config.analysis.cdt_table else None),
            config.dicom.may_reject,
        ).register(engine)
        outbox.register(engine, db, store, pms, config)
        chart_findings.register(engine, db, store, config)
        send = partial(self._send, db)
        publish_results.register(engine, db, store, config, _device_uid(key), send)
        retract_study.register(engine, db, store, config, _device_uid(key))
        orchestra = open_orchestra(
            db, engine, store, config, self.executor_id, open_workflows(config, db)
        )
        orchestra.register()
        self._closers.append(engine.close)
        queues = [queue for part in sorted(self.parts) for queue in _QUEUES[part]]
        if queues:
            engine.launch(queues)
        else:
            engine.migrate()
            engine.connect()
        self._closers.append(inference.close)
        status = Status(db, config)

        def warn() -> None:
            warn_of_expiries(config, db, datetime.now(UTC))
            warn_of_agreements(config, db, datetime.now(UTC))

        self._every(_DAY_S, "certificates", warn, at_once=True)
        self._every(_DISK_EVERY_S, "disk", disk_of(config).keep_reserve, at_once=True)
        if config.objects.endpoint:
            self._start_mover(db, store)
        if Part.ANALYSIS in self.parts:
            self._start_analysis(db, engine, actor, inference, status)
            self._start_shadows(db, store, actor)
        if Part.WORKFLOWS in self.parts:
            self._start_workflows(db, engine, store, pms, status)
            self._start_orchestra(orchestra, status)
        if Part.WORKFLOWS in self.parts and config.backup.folder:
            self._every(_HEAL_EVERY_S, "backup", BackupKeeper(db, config).run_once)
        if Part.DICOM in self.parts:
            self._start_dicom(db, store, engine, status)
        if Part.WEB in self.parts:
            self._start_web(db, store, engine, status, orchestra)

    def _keep_audit(self, db: sa.Engine, key: bytes) -> None:
        """Note what is configured, and anchor the audit's head now, in between and at the end."""
        keeper = AuditKeeper(db, self.config)
        changed = note_config(db, self.config, self.executor_id, key)
        if changed:
            log.info("configuration changed", extra={"keys": list(changed)})
        self._closers.append(_guarded("audit-anchor", keeper.anchor))
        self._every(self.config.audit.anchor_every_s, "audit-anchor", keeper.anchor, at_once=True)

    def _tell_audit(self, db: sa.Engine) -> None:
        """Tell a collector what the audit says, as DICOM audit messages."""
        section = self.config.audit
        if not section.syslog_host or not section.syslog_dicom:
            return
        teller = AuditTeller(
            db,
            self.config,
            open_collector(self.config),
        )

        def tell() -> None:
            teller.run_due(datetime.now(UTC))

        self._every(_TELL_EVERY_S, "audit-messages", tell, at_once=True)

    @property
    def executor_id(self) -> str:
        """A stable name per process kind, so that a restart recovers its own runs."""
        config = self.config
        parts = "" if self.parts == ALL_PARTS else "-" + "-".join(sorted(self.parts))
        return f"{config.database.executor_id}-{config.node.location_id}{parts}"

    def _start_mover(self, db: sa.Engine, store: FolderStore) -> None:
        """Move what lies in the data folder into the bucket; one of its processes does."""
        from node.objects.mover import Mover
        from node.objects.room import Room
        from node.objects.store import BucketStore

        assert isinstance(store, BucketStore)
        room = Room(db, store, self.config, disk_of(self.config))
        mover = Mover(db, store, self.config, room)
        held: list[Callable[[], None]] = []

        def move() -> None:
            if not held:
                try:
                    held.append(_lock_executor(self.config, _MOVER))
                except ConfigError:  # another process of this data folder is the mover
                    return
                self._closers.append(held[0])
            mover.run_once()

        self._every(_TICK_S, "objects", move, at_once=True)

    def _start_dicom(
        self, db: sa.Engine, store: FolderStore, engine: DurableEngine, status: Status
    ) -> None:
        """Listen, and work off what is owed to other systems: images and promises."""
        self.listener = DicomListener(self.config, db, store, engine)
        self.listener.start()
        self._closers.append(self.listener.stop)
        status.listener = _look_at(self.listener)
        self._every(_HEAL_EVERY_S, "dicom-certificate", self.listener.refresh_certificates)
        forwarder = Forwarder(db, store, self.config)
        desk = CommitmentDesk(db, store, self.config, self.listener.find_open)

        def forward() -> None:
            forwarder.run_due(datetime.now(UTC))

        def commit() -> None:
            desk.run_due(datetime.now(UTC))

        def complete() -> None:
            complete_results(db, store, Actor("dicom", self.config.node.location_id))

        self._every(_HOUR_S, "older-results", complete, at_once=True)
        self._every(_FORWARD_EVERY_S, "forwarding", forward)
        if any(peer.availability for peer in self.config.dicom.peers):
            notifier = Notifier(db, store, self.config)

            def notify() -> None:
                notifier.run_due(datetime.now(UTC))

            self._every(_FORWARD_EVERY_S, "availability", notify)
        self._tell_audit(db)
        self._every(_TICK_S, "storage-commitment", commit)
        dicom = self.config.dicom
        if any(peer.priors for peer in dicom.peers):
            fetcher = PriorFetcher(db, store, engine, self.config)

            def fetch() -> None:
                fetcher.run_due(datetime.now(UTC))

            self._every(_HEAL_EVERY_S, "priors", fetch, at_once=True)
        self._start_retention(db, store, engine)
        if dicom.import_dir:
            folder = ImportFolder(db, store, engine, self.config)

            def take() -> None:
                folder.run_once()

            self._every(dicom.import_every_s, "import", take)

    def _start_retention(self, db: sa.Engine, store: FolderStore, engine: DurableEngine) -> None:
        """Give up what an archive keeps, in processor mode, and fetch again what is wanted."""
        retention = Retention(db, store, self.config)
        fetcher = PixelFetcher(db, store, engine, self.config)

        def give_up() -> None:
            retention.run(datetime.now(UTC))

        def let_go() -> None:
            shed(db, self.config, datetime.now(UTC))
            reduce_settled(db, self.config, datetime.now(UTC))

        def plan() -> None:
            fetcher.plan(datetime.now(UTC))

        def fetch() -> None:
            fetcher.run_due(datetime.now(UTC))

        if self.config.retention.mode == "processor":
            self._every(_HOUR_S, "retention", give_up, at_once=True)
        else:
            _guarded("retention", retention.resume)()  # what was begun before it was switched off
        self._every(_HOUR_S, "old-rows", let_go, at_once=True)
        self._every(_HEAL_EVERY_S, "pixels-planned", plan, at_once=True)
        self._every(_FORWARD_EVERY_S, "pixels-fetched", fetch)

    def _start_analysis(
        self,
        db: sa.Engine,
        engine: DurableEngine,
        actor: Actor,
        inference: InferenceProcess,
        status: Status,
    ) -> None:
        dicom = self.config.dicom
        patience = Patience(dicom.study_quiet_s, dicom.step_wait_s)

        def tick() -> None:
            complete_studies(db, engine, actor, patience, datetime.now(UTC))

        def heal() -> None:
            long_ago = datetime.now(UTC) - timedelta(seconds=_FORGOTTEN_S)
            requeue_forgotten_images(db, engine, actor, long_ago)
            reread_stale_studies(db, engine, actor)

        def warm() -> None:
            absent = inference.installed().absent
            words = "no weights for " + ", ".join(absent) if absent else "loaded"
            status.models = Probe(True, words)

        def note() -> None:
            installed.record(db, actor, self.config.analysis)

        _guarded("installed-models", note)()

        def enter() -> None:
            auto.enter_due(db, self.config)

        self._every(_AUTO_EVERY_S, "auto-entries", enter)
        status.threads["study clock"] = self._every(_TICK_S, "study-clock", tick)
        self._every(_HEAL_EVERY_S, "image-sweep", heal)
        threading.Thread(target=_guarded("inference-start", warm), daemon=True).start()

    def _start_shadows(self, db: sa.Engine, store: FolderStore, actor: Actor) -> None:
        """Let networks in trial read silently what is stored, in a process of their own."""
        config = self.config
        shadows = shadow_sections(config.analysis)
        if not shadows:
            return
        process = InferenceProcess(
            config.analysis, self._runtime_dir, shadows, config.node.log_level
        )
        reader = ShadowReader(db, actor, process, shadows, store.file)

        def look() -> None:
            reader.read_waiting(self._stopping.is_set)

        self._every(_SHADOW_EVERY_S, "shadows", look)
        self._closers.append(process.close)  # before the thread is waited for

    @property
    def _runtime_dir(self) -> Path:
        """Where networks exported for a faster runtime are kept."""
        return self.config.node.data_dir / "runtime"

    def _start_workflows(
        self,
        db: sa.Engine,
        engine: DurableEngine,
        store: FolderStore,
        pms: Pms | None,
        status: Status,
    ) -> None:
        config = self.config
        actor = Actor("workflows", config.node.location_id)

        charting = chart_findings.Charting(db, engine, store, config)

        def flag() -> None:
            flag_study.sweep(db, engine, store, actor, config)

        def resume() -> None:
            charting.resume()
            outbox.resume(db, engine, actor)
            send_results.resume(db, engine, actor)

        status.threads["flag sweep"] = self._every(_FLAG_EVERY_S, "flag-sweep", flag)
        self._every(_HEAL_EVERY_S, "outbox-sweep", resume)
        if pms is None:
            return
        if isinstance(pms, BridgedPms):
            self._start_bridge(db, engine, pms, actor, status)
        sync = ScheduleSync(db, pms, config)

        turns = Turns(db, config.node.location_id, timedelta(seconds=config.pms.poll_s))

        def pull() -> None:
            if turns.take(datetime.now(UTC)) and sync.run_once(datetime.now(UTC)).changed:
                self._rematch(db)

        status.threads["schedule sync"] = self._every(_TICK_S, "pms-sync", pull, at_once=True)
        if isinstance(pms, OpenDental) and config.pms.events_url:
            self._subscribe(pms)
        if isinstance(pms, RecordSource):
            warehouse = Warehouse(db, pms, config)

            def gather() -> None:
                warehouse.run_due(datetime.now(UTC))

            status.threads["records sync"] = self._every(
                config.pms.records_s, "pms-records", gather, at_once=True
            )

    def _start_orchestra(self, orchestra: Orchestra, status: Status) -> None:
        status.threads["workflow clock"] = self._every(
            _CASES_EVERY_S, "workflow-clock", orchestra.tick
        )
        status.threads["workflow hooks"] = self._every(_TICK_S, "workflow-hooks", orchestra.follow)

        def heal() -> None:
            orchestra.runner.heal()

        self._every(_HEAL_EVERY_S, "workflow-sweep", heal, at_once=True)
        runner = orchestra.runner
        mailbox = open_mailbox(self.config, runner.db, runner.engine)
        if mailbox is not None:

            def read_mail() -> None:
                mailbox.poll()

            every_s = self.config.payers.poll_s
            status.threads["payers' mail"] = self._every(every_s, "payer-mail", read_mail)

    def _start_bridge(
        self, db: sa.Engine, engine: DurableEngine, pms: BridgedPms, actor: Actor, status: Status
    ) -> None:
        """Listen for the clinic's bridge; what waited for it is sent when it comes."""

        def send_waiting() -> None:
            wake(db, engine, actor)

        listener = BridgeListener(
            self.config, db, pms.desk, on_connect=_guarded("bridge-wake", send_waiting)
        )
        listener.start()
        self._closers.append(listener.stop)
        status.threads["bridge listener"] = listener.thread
        self._every(_DAY_S, "bridge-certificate", listener.renew_server_certificate)

    def _subscribe(self, pms: OpenDental) -> None:
        """Ask the office for events, and again every hour: somebody may have deleted them there."""
        section = self.config.pms

        def ask() -> None:
            pms.subscribe(section.events_url, section.events_workstation, section.events_poll_s)

        self._every(_HOUR_S, "pms-events", ask, at_once=True)

    def _rematch(self, db: sa.Engine) -> None:
        """Try again to place recent studies whose patient was not known when they came."""
        config = self.config
        unplaced = [MatchState.PENDING.value, MatchState.UNMATCHED.value]
        with read(db) as conn:
            waiting = list(
                conn.execute(
                    sa.select(study.c.id).where(
                        study.c.location_id == config.node.location_id,
                        study.c.match_state.in_(unplaced),
                        study.c.received_at > datetime.now(UTC) - timedelta(days=_REMATCH_DAYS),
                    )
                ).scalars()
            )
        for study_id in waiting:
            with begin(db, Actor("identity", config.node.location_id), "study.rematched") as tx:
                match_study(tx, study_id, config)

    def _send(self, db: sa.Engine, file: ObjectFile, peer: PeerSection) -> None:
        demand_peer(db, self.config, peer.name, datetime.now(UTC))
        send_object(file, peer, calling_ae=self.config.dicom.ae_title)

    def _start_web(
        self,
        db: sa.Engine,
        store: FolderStore,
        engine: DurableEngine,
        status: Status,
        orchestra: Orchestra,
    ) -> None:
        registry = metrics(status)
        registry.register(CertificateCollector(self.config, db))
        registry.register(DiskCollector(disk_of(self.config)))
        registry.register(FleetCollector(db, self.config.node.location_id))
        registry.register(ObjectsCollector(db, self.config.node.location_id))
        app = create_web(
            self.config, db, store, engine, probes=status.probes, metrics_registry=registry
        )
        include_routers(app, status, orchestra)
        if self.config.fleet.report_to:

            def tell() -> None:
                send_report(self.config, compose_report(status))

            self._every(self.config.fleet.every_s, "fleet", tell)
        server = WebServer(self.config.web, app)
        self._closers.append(server.stop)
        server.start()
        self.web_port = server.port
        self._every(_PICTURES_EVERY_S, "early-pictures", app.state.early_pictures.follow, True)
        self._closers.append(lambda: end_streams(app))
        self._every(_HEAL_EVERY_S, "web-certificate", server.refresh_certificates)

    def _every(
        self, seconds: float, name: str, action: Callable[[], object], at_once: bool = False
    ) -> threading.Thread:
        """Run `action` again and again on its own thread; its errors are logged, never fatal."""
        guarded = _guarded(name, action)

        def loop() -> None:
            if at_once:
                guarded()
            while not self._stopping.wait(seconds):
                guarded()

        thread = threading.Thread(target=loop, name=name, daemon=True)
        thread.start()
        self._closers.append(lambda: thread.join(timeout=5))
        return thread


def include_routers(app: FastAPI, status: Status, orchestra: Orchestra) -> None:
    """Give the web application the routes of every other part.

    Raises TypeError when a route does not say who may use it.
    """
    config, db = status.config, status.db
    app.include_router(fleet_routes.make_router(status))
    app.include_router(console.make_router(orchestra, require))
    app.include_router(recall_routes.make_router(orchestra.runner, require))
    app.include_router(webhooks.make_router(orchestra.runner, open_sources(config, db)))
    location_id = config.node.location_id
    app.include_router(payer_page.make_router(db, location_id, require))
    app.include_router(
        rollout_page.make_router(
            rollout_page.Sources(
                {name: each.title for name, each in orchestra.runner.workflows.items()},
                lambda: silent_report(db, location_id),
                lambda: propose_content(db, location_id),
            )
        )
    )
    app.include_router(approval_page.make_router(orchestra.runner, link_key(config)))
    app.include_router(stop_page.make_router(orchestra.runner, link_key(config)))
    app.include_router(fetching.make_router(orchestra.runner, link_key(config)))
    if config.pms.kind == "open_dental":
        app.include_router(make_events_router(config, db))
    demand_declarations(app)


def parse_parts(only: str) -> frozenset[Part]:
    """Read ``dicom,web`` as parts; raises ConfigError for an unknown one."""
    try:
        return frozenset(Part(name.strip()) for name in only.split(",") if name.strip())
    except ValueError as error:
        known = ", ".join(Part)
        raise ConfigError(f"--only: {error}; the parts are {known}") from None


def _guarded(name: str, action: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            action()
        except BitewingError as error:
            log.warning("%s: %s", name, error)
        except Exception as error:  # noqa: BLE001 - an edge: the loop must go on
            log.error("%s failed (%s)", name, bug_of(error))

    return run


def _look_at(listener: DicomListener) -> Callable[[], Probe]:
    def look() -> Probe:
        if listener.is_listening:
            return Probe(True, f"listens on port {listener.port}")
        return Probe(False, "does not listen; restart the node")

    return look


def _device_uid(key: bytes) -> str:
    """Name this installation as a device for ever: a digest of its own key, not the key."""
    return derived_uid("device", hashlib.sha256(b"device" + key).hexdigest())


def hold_executor(config: Config) -> Callable[[], None]:
    """Keep this location's node from running until the returned function is called.

    Raises ConfigError when one of its processes runs.
    """
    first = Node(config).executor_id
    others = {path.stem for path in config.node.data_dir.glob(f"{first}-*.lock")}
    held = [_lock_executor(config, name) for name in sorted({first, *others})]

    def release() -> None:
        for let_go in held:
            let_go()

    return release


def _lock_executor(config: Config, executor_id: str) -> Callable[[], None]:
    """Hold a lock so that two processes never run under one executor id; return its release."""
    folder = config.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / f"{executor_id}.lock").open("a+")
    except OSError as error:
        raise ConfigError(f"cannot use the data folder {folder} ({error.strerror})") from None
    try:
        _lock(file)
    except OSError:
        file.close()
        raise ConfigError(
            f"another bitewing process already runs on the data folder {folder}"
        ) from None
    return file.close


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
