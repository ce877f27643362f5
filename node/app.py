"""The composition root: a Config becomes a running node. The only module that knows every part."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import IO

import sqlalchemy as sa
import uvicorn
from pms_writeback.practice import open_pms
from pms_writeback.sync import ScheduleSync
from prometheus_client import CollectorRegistry

from node.analysis.completion import complete_quiet_studies, requeue_forgotten_images
from node.analysis.inference import InferenceProcess
from node.analysis.workflows import Analyser
from node.config import Config
from node.db.migrate import migrate
from node.db.session import Actor, open_database, read
from node.db.tables import study
from node.dicom.identity import match_study
from node.dicom.instances import FolderStore
from node.dicom.scp import DicomListener
from node.dicom.send import send_objects
from node.domain.study import MatchState
from node.engine import (
    ANALYSIS,
    PMS,
    RESULTS,
    STUDIES,
    WORKFLOWS,
    DurableEngine,
    Queue,
    read_engine_key,
)
from node.errors import BitewingError, ConfigError, place_of
from node.status import Probe, Probes, metrics
from node.web.app import create_web
from orchestration.workflows import chart_findings, flag_study, publish_results
from pms_writeback import outbox

log = logging.getLogger("bitewing")

_TICK_S = 1.0
_HEAL_EVERY_S = 60.0


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
        store = FolderStore(config.node.data_dir / "images", config.dicom.min_free_mb)
        key = read_engine_key(config.node.data_dir / "engine.key")
        engine = DurableEngine(config.database_url, key, self.executor_id, config.node.location_id)
        inference = InferenceProcess(config.analysis)
        pms = open_pms(config)
        actor = Actor("analysis", config.node.location_id)
        Analyser(
            db, actor, inference, store.path, lambda tx, study_id: match_study(tx, study_id, config)
        ).register(engine)
        outbox.register(engine, db, store, pms, config)
        chart_findings.register(engine, db, store, config)
        flag_study.register(engine, db, config)
        publish_results.register(engine, db, store, config, send_objects)
        queues = [queue for part in sorted(self.parts) for queue in _QUEUES[part]]
        if queues:
            engine.launch(queues)
        else:
            engine.migrate()
            engine.connect()
        self._closers.append(engine.close)
        self._closers.append(inference.close)
        probes = Probes(db=db, config=config, engine=engine, parts=self.parts)
        if Part.ANALYSIS in self.parts:
            self._start_analysis(db, engine, actor, inference, probes)
        if Part.WORKFLOWS in self.parts:
            self._start_sync(db, engine, pms, probes)
        if Part.DICOM in self.parts:
            self.listener = DicomListener(config, db, store, engine)
            self.listener.start()
            self._closers.append(self.listener.stop)
        if Part.WEB in self.parts:
            self._start_web(db, store, engine, probes)

    @property
    def executor_id(self) -> str:
        """A stable name per process kind, so that a restart recovers its own runs."""
        config = self.config
        parts = "" if self.parts == ALL_PARTS else "-" + "-".join(sorted(self.parts))
        return f"{config.database.executor_id}-{config.node.location_id}{parts}"

    def _start_analysis(
        self,
        db: sa.Engine,
        engine: DurableEngine,
        actor: Actor,
        inference: InferenceProcess,
        probes: Probes,
    ) -> None:
        quiet_s = self.config.dicom.study_quiet_s
        last_heal = [datetime.now(UTC)]

        def tick() -> None:
            now = datetime.now(UTC)
            complete_quiet_studies(db, engine, actor, quiet_s, now)
            if now - last_heal[0] > timedelta(seconds=_HEAL_EVERY_S):
                last_heal[0] = now
                requeue_forgotten_images(db, engine, actor, now - timedelta(minutes=10))

        def warm() -> None:
            installed = inference.installed()
            probes.models = Probe(
                not installed.absent,
                "ready" if not installed.absent else "no weights: " + ", ".join(installed.absent),
            )

        self._every(_TICK_S, "study-clock", tick)
        threading.Thread(
            target=_guarded("inference-start", warm), name="inference-start", daemon=True
        ).start()

    def _start_sync(
        self, db: sa.Engine, engine: DurableEngine, pms: object, probes: Probes
    ) -> None:
        config = self.config
        actor = Actor("workflows", config.node.location_id)
        self._every(5.0, "flag-sweep", lambda: flag_study.sweep(db, engine, actor, config))
        if pms is None:
            return
        sync = ScheduleSync(db, pms, config)  # type: ignore[arg-type]  # narrowed by open_pms

        def run() -> None:
            report = sync.run_once(datetime.now(UTC))
            if report.changed:
                self._rematch(db)

        probes.sync_now = run
        self._every(config.pms.poll_s, "pms-sync", run, at_once=True)

    def _rematch(self, db: sa.Engine) -> None:
        """Try again to place recent studies whose patient was not known when they came."""
        from node.db.session import begin

        config = self.config
        with read(db) as conn:
            open_studies = list(
                conn.execute(
                    sa.select(study.c.id).where(
                        study.c.location_id == config.node.location_id,
                        study.c.match_state.in_(
                            [MatchState.PENDING.value, MatchState.UNMATCHED.value]
                        ),
                        study.c.received_at > datetime.now(UTC) - timedelta(days=14),
                    )
                ).scalars()
            )
        for study_id in open_studies:
            with begin(db, Actor("identity", config.node.location_id), "study.rematched") as tx:
                match_study(tx, study_id, config)

    def _start_web(
        self, db: sa.Engine, store: FolderStore, engine: DurableEngine, probes: Probes
    ) -> None:
        registry = CollectorRegistry()
        metrics(registry, db, self.config)
        app = create_web(
            self.config, db, store, engine, probes=probes.all, metrics_registry=registry
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=self.config.web.host,
                port=self.config.web.port,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=3,
                server_header=False,
            )
        )
        sock = _bind(self.config.web.host, self.config.web.port)
        self.web_port = sock.getsockname()[1]
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [sock]}, name="web", daemon=True
        )
        thread.start()

        def close() -> None:
            server.should_exit = True
            thread.join(timeout=8)

        self._closers.append(close)

    def _every(
        self, seconds: float, name: str, action: Callable[[], None], at_once: bool = False
    ) -> None:
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


def parse_parts(only: str) -> frozenset[Part]:
    """Read ``dicom,web`` as parts; raises ConfigError for an unknown one."""
    try:
        return frozenset(Part(name.strip()) for name in only.split(",") if name.strip())
    except ValueError as error:
        known = ", ".join(Part)
        raise ConfigError(f"--only: {error}; the parts are {known}") from None


def _guarded(name: str, action: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            action()
        except BitewingError as error:
            log.warning("%s: %s", name, error)
        except Exception as error:  # noqa: BLE001 - an edge: the loop must go on
            log.error("%s failed (%s at %s)", name, type(error).__name__, place_of(error))

    return run


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    if os.name != "nt":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"the web port {port} cannot be opened ({error.strerror}); "
            "choose another with --http-port"
        ) from None
    sock.listen(128)
    return sock


def _lock_executor(config: Config, executor_id: str) -> Callable[[], None]:
    """Hold a lock so that two processes never run under one executor id; return its release."""
    folder = config.node.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
