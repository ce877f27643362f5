"""The audit as this node keeps it: heads anchored outside, old parts archived, all checked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from node.audit_telling import open_collector
from node.config import Config
from node.db import audit
from node.db.audit import DAMAGED, UNREADABLE, AuditBreak, Head, is_away
from node.db.audit_archive import Closed, close_part
from node.db.audit_archived import Archives
from node.db.audit_heads import HeadFile
from node.db.audit_parts import verify_archives
from node.db.session import Actor, begin, read
from node.errors import ConfigError, Rejected
from node.syslog import Message, SyslogSender

_HEADS = "audit-heads.jsonl"
_ARCHIVE = "audit-archive"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look at the whole audit found."""

    rows: int
    archived: int
    heads: int
    broken: AuditBreak | None


@dataclass(slots=True)
class AuditKeeper:
    """Keeps one database's audit; safe to run in every process that shares it."""

    db: sa.Engine
    config: Config
    _syslog: SyslogSender | None = field(init=False)
    _told: Head | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._syslog = _open_syslog(self.config)

    @property
    def head_file(self) -> HeadFile:
        """Where heads are anchored."""
        named = self.config.audit.heads_file
        return HeadFile(Path(named) if named else self.config.node.data_dir / _HEADS)

    @property
    def archive_dir(self) -> Path:
        """Where old parts are kept."""
        named = self.config.audit.archive_dir
        return Path(named) if named else self.config.node.data_dir / _ARCHIVE

    @property
    def archives(self) -> Archives:
        """The archived parts, to be searched."""
        return Archives(self.archive_dir, self.head_file.read())

    def anchor(self) -> Head:
        """Anchor the chain's head in the file and, where configured, with the syslog collector.

        Raises
        ------
        Rejected
            The audit is shorter than what was anchored: rows are missing.
        Retryable
            The file or the collector does not take it.
        """
        with read(self.db) as conn:
            head = audit.read_head(conn)
        last = self.head_file.last()
        if last is not None and last.seq > head.seq:
            raise Rejected(
                f"the audit ends at row {head.seq} and was anchored up to row {last.seq};"
                " run bitewing verify-audit"
            )
        if head.seq and head != last:
            self.head_file.append(head)
        if self._syslog is not None and head.seq and head != self._told:
            words = f"audit head {head.seq} {head.hash}"
            self._syslog.send([Message(words, "audit-head")])
            self._told = head
        return head

    def restart_heads(self, reason: str) -> Path | None:
        """Set the file of heads aside and begin another, after a backup was restored.

        The reason becomes a row of the audit. Returns where the old file is.
        """
        file = self.head_file.path
        aside = file.with_name(f"{file.name}.{datetime.now(UTC):%Y%m%dT%H%M%S}")
        is_there = file.exists()
        with begin(self.db, self._actor, "audit.heads_restarted") as tx:
            tx.record("audit", reason=reason, aside=aside.name if is_there else "")
        if is_there:
            os.replace(file, aside)
        self.anchor()
        return aside if is_there else None

    def check(self, more_heads: Iterable[Path] = ()) -> Checked:
        """Verify archives and chain against every anchored head; further files may be named."""
        files = [self.head_file, *(HeadFile(path) for path in more_heads)]
        heads: dict[int, str] = {}
        for file in files:
            for seq, hash_ in file.read().items():
                if heads.setdefault(seq, hash_) != hash_:
                    raise ConfigError(f"two files of audit heads differ at row {seq}")
        archived = rows = 0
        with read(self.db) as conn:
            try:
                archived, broken = verify_archives(conn, self.archive_dir, heads)
            except UNREADABLE as error:
                if is_away(error):
                    raise
                broken = AuditBreak(archived + 1, DAMAGED)
            if broken is None:
                rows, broken = audit.verify(conn, heads)
        return Checked(rows, archived, len(heads), broken)

    def archive(self, before: datetime | None = None) -> list[Closed]:
        """Close every part older than `before`; left out: older than is kept.

        Raises Rejected where that would close what is to be kept at hand.
        """
        keep = timedelta(days=self.config.audit.keep_days)
        oldest_kept = datetime.now(UTC) - keep
        if before is not None and before > oldest_kept:
            raise Rejected(f"audit.keep_days keeps the last {keep.days} days at hand")
        closed = []
        self.anchor()
        while part := close_part(self.db, self._actor, self.archive_dir, before or oldest_kept):
            closed.append(part)
            self.anchor()
        return closed

    @property
    def _actor(self) -> Actor:
        return Actor("audit", self.config.node.location_id)


def _open_syslog(config: Config) -> SyslogSender | None:
    if not config.audit.syslog_host:
        return None
    return open_collector(config)
