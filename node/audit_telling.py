"""Telling a practice's audit repository by syslog what the node's own audit says (PS3.15 A.6).

The audit itself is the queue: a row of `audit_forward` says up to which entry the collector was
told. What it did not take is told again, in order; `/healthz` says how much waits and why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from node.audit_messages import Kind, Party, Told, compose, kind_of
from node.config import Config
from node.db.session import begin_group, read
from node.db.tables import audit, audit_forward, instance, study, study_identity, user_account
from node.dicom.retrying import is_due
from node.errors import BitewingError, Retryable
from node.syslog import Collector, Message, Severity, SyslogSender, Transport

#: PS3.15 A.6 suggests this name for messages of this form.
MSGID = "DICOM+RFC3881"
_BATCH = 200
_TRANSFERS = ("image.received", "image.sent", "result.done", "archive.moved", "archive.retrieved")
Row = sa.Row[tuple[object, ...]]


def open_collector(config: Config) -> SyslogSender:
    """Open the sender to the configured collector. Raises ConfigError for a bad certificate."""
    section = config.audit
    return SyslogSender(
        Collector(
            section.syslog_host,
            section.syslog_port,
            Transport(section.syslog_transport),
            section.syslog_ca,
            section.syslog_certificate,
            section.syslog_key,
            reach=config.outgoing.reach("audit", takes_near=True),
        )
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the collector was told, how many entries wait, and why, if they do."""

    last_seq: int
    waiting: int
    error: str


def read_progress(conn: sa.Connection, location_id: str) -> Progress:
    """Look how far the collector is behind."""
    state = conn.execute(
        sa.select(audit_forward).where(audit_forward.c.location_id == location_id)
    ).first()
    if state is None:
        return Progress(0, 0, "")
    waiting = conn.execute(
        sa.select(sa.func.count()).where(
            audit.c.location_id == location_id, audit.c.seq > state.last_seq
        )
    ).scalar_one()
    return Progress(int(state.last_seq), int(waiting), str(state.error))


@dataclass(frozen=True, slots=True)
class AuditTeller:
    """Tells one location's audit to the collector, from the moment this was switched on."""

    db: sa.Engine
    config: Config
    sender: SyslogSender

    def run_due(self, now: datetime) -> int:
        """Tell what is new, unless the last try failed a moment ago; returns messages sent."""
        state = self._state(now)
        if not is_due(state.attempts, state.updated_at, now):
            return 0
        sent = 0
        last_seq = int(state.last_seq)
        while True:
            with read(self.db) as conn:
                rows = conn.execute(
                    sa.select(audit)
                    .where(
                        audit.c.location_id == self.config.node.location_id,
                        audit.c.seq > last_seq,
                    )
                    .order_by(audit.c.seq)
                    .limit(_BATCH)
                ).all()
                messages = self._messages(conn, rows)
            if not rows:
                return sent
            try:
                self.sender.send(messages)
            except BitewingError as error:
                self._note(last_seq, 0, str(error), now)
                if isinstance(error, Retryable):
                    return sent
                raise
            last_seq, sent = int(rows[-1].seq), sent + len(messages)
            self._note(last_seq, len(messages), "", now)

    def _state(self, now: datetime) -> Row:
        """Read the cursor; the first time it stands at the end of the audit."""
        location_id = self.config.node.location_id
        query = sa.select(audit_forward).where(audit_forward.c.location_id == location_id)
        with begin_group(self.db) as conn:
            found = conn.execute(query).first()
            if found is None:
                newest = conn.execute(sa.select(sa.func.max(audit.c.seq))).scalar() or 0
                conn.execute(
                    audit_forward.insert().values(
                        location_id=location_id, last_seq=newest, updated_at=now
                    )
                )
                found = conn.execute(query).one()
        return found

    def _note(self, last_seq: int, sent: int, error: str, now: datetime) -> None:
        """Move the cursor. It is no entry of the audit: that would have to be told again."""
        with begin_group(self.db) as conn:
            conn.execute(
                audit_forward.update()
                .where(audit_forward.c.location_id == self.config.node.location_id)
                .values(
                    last_seq=last_seq,
                    sent=audit_forward.c.sent + sent,
                    attempts=audit_forward.c.attempts + 1 if error else 0,
                    error=error[:255],
                    updated_at=now,
                )
            )

    def _messages(self, conn: sa.Connection, rows: Sequence[Row]) -> list[Message]:
        told = [(row, kind) for row in rows if (kind := kind_of(str(row.action))) is not None]
        about = _About.read(conn, [row for row, _ in told])
        return [self._message(row, kind, about) for row, kind in told]

    def _message(self, row: Row, kind: Kind, about: _About) -> Message:
        image, of_study = about.objects(row)
        told = Told(
            at=row.at.astimezone(self.config.zone),
            source_id=self.config.dicom.ae_title,
            site_id=str(row.location_id),
            parties=self._parties(row, image, about),
            patient_id=str(of_study.patient_id_text) if of_study else "",
            study_uid=str(of_study.study_instance_uid) if of_study else "",
            sop_classes={str(image.sop_class_uid): 1} if image else {},
            query=str(row.subject) if kind.event == "110112" else "",
        )
        severity = Severity.WARNING if kind.outcome else Severity.NOTICE
        return Message(compose(kind, told), MSGID, row.at.astimezone(UTC), severity)

    def _parties(self, row: Row, image: Row | None, about: _About) -> tuple[Party, ...]:
        own = self.config.dicom.ae_title
        peer = str(row.detail.get("peer", "")) if isinstance(row.detail, Mapping) else ""
        if row.action == "image.received":
            sender = str(image.sender_ae_title) if image and image.sender_ae_title else "unknown"
            return Party(sender, True, "110153"), Party(own, False, "110152")
        if row.action in _TRANSFERS:
            return Party(own, True, "110153"), Party(peer or "unknown", False, "110152")
        name = about.users.get(str(row.actor))
        if name is not None:
            return (Party(name, True, other_id=str(row.actor)),)
        if peer:
            return (Party(peer, True, "110153"), Party(own, False, "110152"))
        return (Party(f"{own}/{row.actor}", True, "110150"),)


@dataclass(frozen=True, slots=True)
class _About:
    """What the entries of one batch speak of, read in a few queries."""

    users: Mapping[str, str]
    images: Mapping[str, Row]
    studies: Mapping[str, Row]

    @classmethod
    def read(cls, conn: sa.Connection, rows: Sequence[Row]) -> _About:
        ids = {_object_id(str(row.subject)) for row in rows} - {""}
        images = _by_id(conn, sa.select(instance).where(instance.c.id.in_(ids)))
        study_ids = ids | {str(image.study_id) for image in images.values()}
        studies = _by_id(
            conn,
            sa.select(study.c.id, study.c.study_instance_uid, study_identity.c.patient_id_text)
            .join(study_identity, study_identity.c.study_id == study.c.id)
            .where(study.c.id.in_(study_ids)),
        )
        actors = {str(row.actor) for row in rows}
        users = conn.execute(
            sa.select(user_account.c.id, user_account.c.username).where(
                user_account.c.id.in_(actors)
            )
        )
        return cls({row.id: row.username for row in users}, images, studies)

    def objects(self, row: Row) -> tuple[Row | None, Row | None]:
        """Give the image and the study of an entry, where it speaks of one."""
        object_id = _object_id(str(row.subject))
        image = self.images.get(object_id)
        return image, self.studies.get(str(image.study_id) if image else object_id)


def _by_id(conn: sa.Connection, query: sa.Select) -> dict[str, Row]:  # type: ignore[type-arg]
    return {str(row.id): row for row in conn.execute(query)}


def _object_id(subject: str) -> str:
    """Read the opaque id of ``study:<id>``, ``instance:<id>`` or a bare one."""
    found = re.fullmatch(r"(?:(?:study|instance):)?([0-9a-f]{32})", subject)
    return found[1] if found else ""
