"""``bitewing check``: can this configuration run, in plain words."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from node.config import Config
from node.db.agreements import parties, standings
from node.db.keys import Sealing, attach_keys, is_empty, sealing_of
from node.db.migrate import current_revision, head_revision
from node.db.session import open_database, read
from node.disk import Room, disk_of
from node.domain import cdt
from node.errors import BitewingError, ConfigError, InvalidInput, Unsupported
from node.expiry import find_expiries
from node.objects.opening import open_bucket
from orchestration.labs import directory
from pms_writeback.bridge.office import BridgedPms
from pms_writeback.bridge.registry import state_of
from pms_writeback.merging import MergeSource
from pms_writeback.practice import open_pms, sftp_folder
from pms_writeback.record_state import record_errors
from pms_writeback.task_users import read_mapping

#: Keys whose values the first line tells anyway.
_SAID = {("node", key) for key in ("location_id", "mode", "time_zone", "data_dir")}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One verdict: ``ok``, ``warn`` (runs, but look at it) or ``fail`` (will not run)."""

    name: str
    level: Literal["ok", "warn", "fail"]
    words: str


def run_checks(config: Config, only: str = "") -> list[CheckResult]:
    """Run every check, or one; none changes anything but an empty data folder's existence.

    A bucket is tried with an object of our own, which goes again. Raises InvalidInput for a check
    that there is not.
    """
    checks: list[tuple[str, Callable[[Config], CheckResult]]] = [
        ("config", _check_config),
        ("database", _check_database),
        ("encryption", _check_encryption),
        ("disk", _check_disk),
        ("dicom", lambda c: _check_port("dicom", c.dicom.host, c.dicom.port, c.dicom.ae_title)),
        ("web", lambda c: _check_port("web", c.web.host, c.web.port, "review page")),
        ("tls", _check_certificates),
        ("weights", _check_weights),
        ("codes", _check_codes),
        ("pms", _check_pms),
        ("records", _check_records),
        ("documents", _check_documents),
        ("labs", _check_labs),
        ("partners", _check_partners),
        ("objects", _check_objects),
    ]
    wanted = [each for each in checks if only in ("", each[0])]
    if not wanted:
        raise InvalidInput(f"the checks are {', '.join(name for name, _ in checks)}")
    return [_guarded(name, check, config) for name, check in wanted]


def _guarded(name: str, check: Callable[[Config], CheckResult], config: Config) -> CheckResult:
    try:
        return check(config)
    except BitewingError as error:
        return CheckResult(name, "fail", str(error))
    except Exception as error:  # noqa: BLE001 - an edge: the other checks must still run
        return CheckResult(name, "fail", f"{type(error).__name__}")


def _check_partners(config: Config) -> CheckResult:
    """Name every outside party that may not be called, or soon may not."""
    known = parties(config)
    if not known:
        return CheckResult("partners", "ok", "none configured")
    if not _is_migrated(config):
        return CheckResult("partners", "warn", "agreements: no database of this release yet")
    db = open_database(config.database_url)
    with read(db) as conn:
        found = standings(conn, config, datetime.now(UTC))
    db.dispose()
    told = [each.words for each in found if each.words and each.party.needs_agreement]
    words = "; ".join(told) or f"{len(found)} may be called"
    return CheckResult("partners", "warn" if told else "ok", words)


def _check_objects(config: Config) -> CheckResult:
    """Put a small object into the bucket, fetch it and remove it again."""
    section = config.objects
    if not section.endpoint:
        return CheckResult("objects", "ok", "no bucket: images lie in the data folder alone")
    if not config.encryption.enabled:
        raise ConfigError("[objects] takes sealed objects only: set [encryption] enabled")
    open_bucket(config).try_out()
    return CheckResult("objects", "ok", f"{section.host} took, gave and removed a test object")


def _is_migrated(config: Config) -> bool:
    db = open_database(config.database_url)
    try:
        return current_revision(db) == head_revision(db)
    finally:
        db.dispose()


def _check_config(config: Config) -> CheckResult:
    node = config.node
    words = f"location {node.location_id}, mode {node.mode.value}, zone {node.time_zone}, "
    words += f"data in {node.data_dir.absolute()}"
    settings = _changed(config)
    return CheckResult(
        "config", "ok", words + (f"; set: {', '.join(settings)}" if settings else "")
    )


def _changed(config: Config) -> list[str]:
    """List every key that differs from its default, ``section.key = value``; secrets masked."""
    given, default = config.model_dump(), Config().model_dump()
    return [
        f"{section}.{key} = {value}"
        for section, values in given.items()
        for key, value in values.items()
        if value != default[section][key] and (section, key) not in _SAID
    ]


def _check_database(config: Config) -> CheckResult:
    db = open_database(config.database_url)
    try:
        current, head = current_revision(db), head_revision(db)
    finally:
        db.dispose()
    kind = "PostgreSQL" if config.database_url.startswith("postgresql") else "SQLite"
    if current is None:
        return CheckResult("database", "ok", f"{kind}, empty: `serve` will create it")
    if current != head:
        return CheckResult("database", "ok", f"{kind}, {current}: `serve` will bring it to {head}")
    return CheckResult("database", "ok", f"{kind}, schema {head}")


def _check_encryption(config: Config) -> CheckResult:
    """Whether what lies on the disk is sealed, and the master key opens it."""
    location_id = config.node.location_id
    with _current_database(config) as db:  # raises when the key is not the right one
        state = Sealing.NONE if db is None else sealing_of(db, location_id)
        is_new = db is None or is_empty(db, location_id)
    if state is Sealing.WHOLLY:
        return CheckResult("encryption", "ok", "sealed; keep a copy of the master key elsewhere")
    if state is Sealing.PARTLY:
        return CheckResult("encryption", "warn", "partly sealed; run `bitewing encrypt-data` again")
    if not config.encryption.enabled:
        return CheckResult("encryption", "warn", "off: names and images lie plain on the disk")
    if is_new:
        return CheckResult("encryption", "ok", "`serve` will make the keys")
    return CheckResult("encryption", "warn", "old data lies plain; run `bitewing encrypt-data`")


def _check_disk(config: Config) -> CheckResult:
    folder = config.node.data_dir.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    seen = replace(disk_of(config), folder=existing).look()
    return CheckResult("disk", "ok" if seen.room is Room.PLENTY else "warn", seen.words)


def _check_port(name: str, host: str, port: int, what: str) -> CheckResult:
    if port == 0:
        return CheckResult(name, "ok", f"{what} on any free port of {host}")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            words = f"port {port} is taken or not allowed ({error.strerror})"
            return CheckResult(name, "warn", words + "; fine if the node already runs")
    return CheckResult(name, "ok", f"{what} on {host}:{port}, free")


def _check_certificates(config: Config) -> CheckResult:
    now = datetime.now(UTC)
    with _current_database(config) as db:
        found = [] if db is None else find_expiries(config, db)
    words = "; ".join(each.words(now) for each in found)
    if not words:
        is_open = config.web.host not in ("127.0.0.1", "localhost", "::1")
        words = "no TLS certificate is configured (docs/tls.md)"
        return CheckResult("tls", "warn" if is_open else "ok", words)
    return CheckResult("tls", "ok" if all(each.is_fine(now) for each in found) else "warn", words)


def _check_labs(config: Config) -> CheckResult:
    is_fine, words = directory.describe(config)
    return CheckResult("labs", "ok" if is_fine else "warn", words)


def _check_weights(config: Config) -> CheckResult:
    if find_spec("torch") is None:
        words = "torch is not installed: install bitewing[analysis], or run --only without analysis"
        return CheckResult("weights", "warn", words)
    from models.pipeline import Pipeline
    from node.analysis.shadow import choice_of, shadow_sections

    folder = Path(config.analysis.weights_dir) if config.analysis.weights_dir else None
    chosen = [choice_of(section) for section in config.analysis.models]
    pipeline = Pipeline.load(folder, config.analysis.disabled_models, chosen=chosen)
    loaded = ", ".join(str(version) for version in pipeline.versions) or "none"
    for shadow in shadow_sections(config.analysis):
        version = pipeline.with_network(choice_of(shadow)).version_of(shadow.task)
        loaded += f", {version} in the shadow"
    if pipeline.absent:
        words = f"loaded: {loaded}; without weights: {', '.join(pipeline.absent)}"
        return CheckResult("weights", "warn", words)
    return CheckResult("weights", "ok", loaded)


def _check_codes(config: Config) -> CheckResult:
    table = config.analysis.cdt_table
    rules = len(cdt.load(Path(table) if table else None).rules)
    return CheckResult("codes", "ok", f"{rules} rules in {table or 'the shipped table'}")


def _check_pms(config: Config) -> CheckResult:
    pms = open_pms(config)
    if pms is None:
        return CheckResult("pms", "warn", "none configured: no schedule, nothing is written")
    if isinstance(pms, BridgedPms):
        return _check_bridge(config)
    capabilities = pms.capabilities()
    offset_s = pms.clock_offset().total_seconds()
    words = f"{capabilities.product} {capabilities.version}, its clock is {offset_s:+.0f} s off"
    with _current_database(config) as db:
        if db is not None:
            with read(db) as conn:
                people = read_mapping(conn, config)
            words = f"{words}; {people.words}"
            if people.mapped < people.deciding:
                return CheckResult("pms", "warn", words)
    if isinstance(pms, MergeSource):
        try:
            pms.merged_patients()
        except Unsupported as error:
            return CheckResult("pms", "warn", f"{words}; {error}")
    return CheckResult("pms", "ok", words)


def _check_bridge(config: Config) -> CheckResult:
    """Say what was last heard of the clinic's bridge; only the running node is connected to it."""
    with _current_database(config) as db:
        if db is None:
            return CheckResult("pms", "warn", "a bridge, never heard of yet")
        with read(db) as conn:
            state = state_of(conn, config.node.location_id)
    if state.last_seen_at is None:
        words = "no bridge has called yet: make a token with `bitewing bridge token`"
        return CheckResult("pms", "warn", words)
    about = state.about
    words = f"{about.get('product')} {about.get('pms_version')} by a bridge"
    words += f" ({about.get('driver')}), last heard {state.last_seen_at:%Y-%m-%d %H:%M} UTC"
    if state.is_stopped:
        return CheckResult("pms", "warn", words + "; stopped by this node")
    return CheckResult("pms", "ok", words)


def _check_records(config: Config) -> CheckResult:
    """Say which kinds of record could not be read the last time, each with its reason."""
    with _current_database(config) as db:
        if config.pms.kind == "none" or db is None:
            return CheckResult("records", "ok", "none read yet")
        with read(db) as conn:
            errors = record_errors(conn, config.node.location_id)
    if errors:
        words = "; ".join(f"{kind}: {error}" for kind, error in errors.items())
        return CheckResult("records", "warn", f"not read the last time: {words}")
    return CheckResult("records", "ok", "no kind of record failed the last time")


def _check_documents(config: Config) -> CheckResult:
    """Say how documents go to the practice's system; the SFTP server must show its pinned key."""
    folder = sftp_folder(config)
    if folder is None:
        return CheckResult("documents", "ok", "no SFTP folder is configured")
    folder.exists("check")
    return CheckResult("documents", "ok", f"by SFTP over {config.pms.sftp_host}, the pinned key")


@contextmanager
def _current_database(config: Config) -> Iterator[sa.Engine | None]:
    """Open the database; None while it has not been brought to this release."""
    db = open_database(config.database_url)
    try:
        is_current = current_revision(db) == head_revision(db)
        if is_current:
            attach_keys(db, config, config.node.location_id)
        yield db if is_current else None
    finally:
        db.dispose()
