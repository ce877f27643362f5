"""The durable engine: workflows, steps, waits and queues on DBOS. The only module that imports it.

Rules that decide success (see docs/decisions/0003-durable-engine.md): the SQLite file is in WAL
before DBOS opens it, the application version is pinned, recovery attempts are unlimited, every job
goes through a named queue, payloads are sealed, and our pool is never DBOS's pool.
"""

from __future__ import annotations

import base64
import logging
import os
import pickle
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions, Serializer

from node.errors import ConfigError, Retryable

P = ParamSpec("P")
R = TypeVar("R")

#: Pinned: a changed version would strand every open workflow. Change running workflows with
#: DBOS.patch instead (tests/node/test_engine.py keeps an old run finishing).
_APPLICATION_VERSION = "bitewing-1"


@dataclass(frozen=True, slots=True)
class Queue:
    """A named queue: how many jobs run at once here, and whether one at a time per location."""

    name: str
    concurrency: int | None = None
    one_per_partition: bool = False
    poll_s: float = 1.0


ANALYSIS = Queue("analysis", concurrency=8, poll_s=0.25)  # as many as a GPU reads at once
STUDIES = Queue("studies", concurrency=4, poll_s=0.5)
WORKFLOWS = Queue("workflows", concurrency=16, poll_s=0.5)
PMS = Queue("pms", one_per_partition=True, poll_s=0.5)
RESULTS = Queue("results", concurrency=4, poll_s=1.0)
ALL_QUEUES = (ANALYSIS, STUDIES, WORKFLOWS, PMS, RESULTS)


class _SealedSerializer(Serializer):
    """AES-256-GCM around pickle: a tampered row never reaches the unpickler.

    The key id stands before the sealed text, so that keys can be rotated.
    """

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        self._keys = {name: AESGCM(key) for name, key in keys.items()}
        self._current = current

    def name(self) -> str:
        return "bitewing_sealed_v1"

    def serialize(self, data: object) -> str:
        nonce = os.urandom(12)
        sealed = self._keys[self._current].encrypt(nonce, pickle.dumps(data), b"dbos")
        return f"{self._current}:{base64.b64encode(nonce + sealed).decode()}"

    def deserialize(self, serialized_data: str) -> object:
        name, _, text = serialized_data.partition(":")
        raw = base64.b64decode(text)
        plain = self._keys[name].decrypt(raw[:12], raw[12:], b"dbos")
        return pickle.loads(plain)  # noqa: S301 - authenticated by AES-GCM with our own key


def read_engine_key(path: Path) -> bytes:
    """Read the 32-byte key that seals engine payloads, making it (mode 0600) when it is missing.

    Raises ConfigError when the file is not a key.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
    else:
        key = AESGCM.generate_key(256)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
    if len(key) != 32:
        raise ConfigError(f"{path} is not a 32-byte engine key; restore it from the backup")
    return key


@dataclass(frozen=True, slots=True)
class Run:
    """An unfinished run: what it takes to queue it again, elsewhere."""

    workflow: str
    workflow_id: str
    queue: str
    partition: str | None
    delay_s: float | None
    arguments: tuple[str | int | float | bool | None, ...]


class DurableEngine:
    """Workflows of one process: register functions, then launch, then enqueue.

    ``url`` names the same database as the product's own tables, so that a row and the job that
    follows from it commit together (:meth:`enqueue`). Every queue belongs to one location, so a
    process never takes another location's job from a shared database.
    """

    def __init__(
        self,
        url: str,
        key: bytes,
        executor_id: str,
        location_id: str = "main",
        poll_s: float = 5.0,
    ) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._location_id = location_id
        self._serializer = _SealedSerializer({"k1": key}, "k1")
        self._executor_id = executor_id
        self._poll_s = poll_s
        self._client: DBOSClient | None = None

    def workflow(self, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Register a durable function under `name`; deterministic between steps, never lost."""
        return DBOS.workflow(name=name, max_recovery_attempts=None)

    def launch(self, listen: Iterable[Queue] = ALL_QUEUES) -> None:
        """Start the engine: own its schema, recover this executor's runs, listen to queues."""
        logging.getLogger("dbos").addFilter(_withhold_traceback)
        queues = tuple(listen)
        config: DBOSConfig = {
            "name": "bitewing",
            "system_database_url": self._url,
            "application_version": _APPLICATION_VERSION,
            "executor_id": self._executor_id,
            "serializer": self._serializer,
            "enable_otlp": False,
            "log_level": "WARNING",
        }
        if self._url.startswith("sqlite"):
            config["notification_listener_polling_interval_sec"] = self._poll_s
        DBOS(config=config)
        DBOS.listen_queues([self._queue_name(queue) for queue in queues])
        DBOS.launch()
        for queue in queues:
            DBOS.register_queue(
                self._queue_name(queue),
                worker_concurrency=queue.concurrency,
                partition_concurrency=1 if queue.one_per_partition else None,
                polling_interval_sec=queue.poll_s,
            )
        self._client = self._open_client()

    def connect(self) -> None:
        """Only enqueue from this process; another one runs the workflows."""
        self._client = self._open_client()

    def migrate(self) -> None:
        """Create or upgrade the engine's own tables."""
        DBOS.migrate(self._url)

    def close(self, wait_s: int = 5) -> None:
        """Stop listening; running workflows go on at the next start."""
        if self._client is not None:
            self._client.destroy()
            self._client = None
        DBOS.destroy(workflow_completion_timeout_sec=wait_s)

    def enqueue(
        self,
        conn: sa.Connection,
        queue: Queue,
        workflow: str,
        workflow_id: str,
        *args: str | int | float | bool | None,
        partition: str | None = None,
        delay_s: float | None = None,
        priority: int = 0,
    ) -> None:
        """Queue a run in the caller's transaction; the same `workflow_id` again has no effect.

        Lower `priority` runs first; within one, what was queued first. `workflow_id` and
        `partition` are stored in the clear: opaque ids only.
        """
        if self._client is None:
            raise ConfigError("the durable engine is not running in this process")
        options: EnqueueOptions = {
            "workflow_name": workflow,
            "queue_name": self._queue_name(queue),
            "workflow_id": workflow_id,
            "app_version": _APPLICATION_VERSION,
        }
        if partition is not None:
            options["queue_partition_key"] = partition
        if delay_s is not None:
            options["delay_seconds"] = delay_s
        if priority:
            options["priority"] = priority
        self._client.enqueue_in_transaction(conn, options, *args)

    def step(
        self,
        name: str,
        function: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run one step of the workflow in progress: its result is kept, it is not run again.

        A step cut by a crash runs again: it must have one effect when run twice.
        """
        return DBOS.run_step({"name": name}, function, *args, **kwargs)

    def step_until_done(
        self,
        name: str,
        function: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run a step, waiting durably and trying again for as long as it raises Retryable.

        Waits grow from the error's own `retry_after_s` by two up to five minutes.
        """
        attempt = 0
        while True:
            outcome = DBOS.run_step({"name": f"{name}-{attempt}"}, _attempt, function, args, kwargs)
            if outcome[0]:
                return outcome[1]  # type: ignore[return-value]
            DBOS.sleep(min(float(str(outcome[1])) * 2 ** min(attempt, 8), 300.0))
            attempt += 1

    def sleep(self, seconds: float) -> None:
        """Wait durably inside a workflow."""
        DBOS.sleep(seconds)

    def status(self, workflow_id: str) -> str | None:
        """Return the engine's word for a run's state; None when there is no such run."""
        found = DBOS.list_workflows(workflow_ids=[workflow_id], load_input=False, load_output=False)
        return str(found[0].status) if found else None

    def counts(self) -> dict[str, int]:
        """Return how many runs stand in each unfinished or failed state."""
        states = ("ENQUEUED", "DELAYED", "PENDING", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
        runs = DBOS.list_workflows(status=list(states), load_input=False, load_output=False)
        return {state: sum(run.status == state for run in runs) for state in states}

    def unfinished(self) -> list[Run]:
        """Read every run that has not ended, in the order in which they were queued.

        Runs take plain values and may be cut anywhere, so one that was at work is simply queued
        again. The engine must be connected.
        """
        if self._client is None:
            raise ConfigError("the durable engine is not running in this process")
        found = self._client.list_workflows(
            status=["ENQUEUED", "DELAYED", "PENDING"], load_output=False
        )
        return [
            Run(
                run.name,
                run.workflow_id,
                str(run.queue_name or ""),
                run.queue_partition_key,
                _seconds_until(run.delay_until_epoch_ms),
                tuple(run.input["args"]) if run.input else (),
            )
            for run in found
        ]

    def take(self, conn: sa.Connection, run: Run) -> None:
        """Queue a run that another database's engine had, in the caller's transaction."""
        queue = next((q for q in ALL_QUEUES if self._queue_name(q) == run.queue), None)
        if queue is None:
            raise ConfigError(f"this location has no queue {run.queue}")
        self.enqueue(
            conn, queue, run.workflow, run.workflow_id, *run.arguments,
            partition=run.partition, delay_s=run.delay_s,
        )  # fmt: skip

    def _queue_name(self, queue: Queue) -> str:
        return f"{queue.name}@{self._location_id}"

    def _open_client(self) -> DBOSClient:
        return DBOSClient(system_database_url=self._url, serializer=self._serializer)


def _seconds_until(epoch_ms: int | None) -> float | None:
    return None if epoch_ms is None else max(epoch_ms / 1000 - time.time(), 0.0)


def _attempt(
    function: Callable[..., R], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> tuple[bool, R | float]:
    try:
        return True, function(*args, **kwargs)
    except Retryable as error:
        return False, error.retry_after_s


def _withhold_traceback(record: logging.LogRecord) -> bool:
    """Keep step errors out of the log: their text could carry what a peer said."""
    record.exc_info = None
    record.exc_text = None
    return True
