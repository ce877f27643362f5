"""The node's rows about bridges: tokens, certificates, the kill switch, what was last heard."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from node.db.session import Actor, Tx, begin, read, upsert
from node.db.tables import bridge_certificate, bridge_state, bridge_token
from node.errors import Forbidden, NotFound, Rejected
from pms_writeback.bridge.authority import Authority, Issued
from pms_writeback.bridge.token import EnrolmentToken

Json = Mapping[str, object]
_HEARTBEAT = timedelta(minutes=5)
"""How often "still the same" is written down."""


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """One issued certificate."""

    serial: str
    location_id: str
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class BridgeState:
    """What a location's bridge is told, and what was last heard of it."""

    is_stopped: bool
    offer: Json | None
    last_seen_at: datetime | None
    about: Json
    heartbeat: Json


def make_token(
    db: sa.Engine, actor: Actor, authority: Authority, hours: float, now: datetime
) -> EnrolmentToken:
    """Make a token with which one bridge of the actor's location may enrol, once."""
    token = EnrolmentToken(secrets.token_urlsafe(24), authority.sha256)
    with begin(db, actor, "bridge.token_made") as tx:
        tx.conn.execute(
            bridge_token.insert().values(
                digest=_digest(token.secret),
                location_id=tx.location_id,
                created_at=now,
                expires_at=now + timedelta(hours=hours),
            )
        )
        tx.record("", hours=hours)
    return token


def enrol(
    db: sa.Engine, authority: Authority, secret: str, request_pem: bytes, days: float, now: datetime
) -> Issued:
    """Use a token up and certify the key of the request for the token's location.

    Raises
    ------
    Forbidden
        There is no such token, it was used, or it is too old.
    InvalidInput
        The request cannot be read; the token stays good.
    """
    with read(db) as conn:
        row = _token(conn, secret)
    _check_token(row, now)
    with begin(db, Actor("bridge", row.location_id), "bridge.enrolled") as tx:
        used = tx.conn.execute(
            bridge_token.update()
            .where(bridge_token.c.digest == row.digest, bridge_token.c.used_at.is_(None))
            .values(used_at=now)
        )
        if used.rowcount != 1:
            raise Forbidden("the enrolment token was used already")
        return _issue(tx, authority, request_pem, days, now)


def renew(
    db: sa.Engine,
    authority: Authority,
    location_id: str,
    request_pem: bytes,
    days: float,
    now: datetime,
) -> Issued:
    """Certify a bridge's next key; the present certificate stays good until it expires."""
    with begin(db, Actor("bridge", location_id), "bridge.renewed") as tx:
        return _issue(tx, authority, request_pem, days, now)


def check_certificate(db: sa.Engine, serial: str, location_id: str) -> None:
    """Refuse a certificate that we did not issue for this location, or have revoked.

    Raises Forbidden.
    """
    with read(db) as conn:
        row = conn.execute(
            sa.select(bridge_certificate.c.location_id, bridge_certificate.c.revoked_at).where(
                bridge_certificate.c.serial == serial
            )
        ).first()
    if row is None or row.location_id != location_id:
        raise Forbidden("this certificate is not known here; enrol the bridge again")
    if row.revoked_at is not None:
        raise Forbidden("this certificate was revoked; enrol the bridge again")


def certificates(conn: sa.Connection, location_id: str) -> list[CertificateRow]:
    """List a location's certificates, newest first; those revoked are the revocation list."""
    rows = conn.execute(
        sa.select(bridge_certificate)
        .where(bridge_certificate.c.location_id == location_id)
        .order_by(bridge_certificate.c.issued_at.desc())
    )
    return [CertificateRow(**row._mapping) for row in rows]


def revoke(db: sa.Engine, actor: Actor, serial: str, reason: str) -> None:
    """Refuse a certificate from now on.

    Raises
    ------
    NotFound
        No such certificate at the actor's location.
    Rejected
        It is revoked already.
    """
    with begin(db, actor, "bridge.revoked") as tx:
        row = tx.conn.execute(
            sa.select(bridge_certificate.c.revoked_at).where(
                bridge_certificate.c.serial == serial,
                bridge_certificate.c.location_id == actor.location_id,
            )
        ).first()
        if row is None:
            raise NotFound(f"there is no certificate {serial[:40]!r} at this location")
        if row.revoked_at is not None:
            raise Rejected("this certificate was revoked already")
        tx.conn.execute(
            bridge_certificate.update()
            .where(bridge_certificate.c.serial == serial)
            .values(revoked_at=tx.now, reason=reason[:255])
        )
        tx.record(serial, reason=reason[:255])


def set_stopped(db: sa.Engine, actor: Actor, is_stopped: bool, reason: str = "") -> None:
    """Turn a location's bridge off or on again; it obeys at its next exchange."""
    action = "bridge.stopped" if is_stopped else "bridge.released"
    with begin(db, actor, action) as tx:
        values = {"location_id": actor.location_id, "is_stopped": is_stopped}
        upsert(tx.conn, bridge_state, ("location_id",), values)
        tx.record("", reason=reason[:255])


def set_offer(db: sa.Engine, actor: Actor, offer: Json | None) -> None:
    """Offer a signed package to a location's bridge, or none."""
    with begin(db, actor, "bridge.package_offered") as tx:
        values = {"location_id": actor.location_id, "offer": dict(offer) if offer else sa.null()}
        upsert(tx.conn, bridge_state, ("location_id",), values)
        tx.record("", version=str((offer or {}).get("version", "")))


def state_of(conn: sa.Connection, location_id: str) -> BridgeState:
    """Read a location's row; a fresh one when nothing was heard yet."""
    row = conn.execute(
        sa.select(bridge_state).where(bridge_state.c.location_id == location_id)
    ).first()
    if row is None:
        return BridgeState(False, None, None, {}, {})
    return BridgeState(
        row.is_stopped, row.offer, row.last_seen_at, row.about or {}, row.heartbeat or {}
    )


def keep_heard(
    db: sa.Engine,
    location_id: str,
    now: datetime,
    *,
    about: Json | None = None,
    heartbeat: Json | None = None,
) -> None:
    """Write down what a bridge said when it is news, or the last word is some minutes old."""
    with read(db) as conn:
        known = state_of(conn, location_id)
    if not _is_news(known, now, about, heartbeat):
        return
    values: dict[str, object] = {"location_id": location_id, "last_seen_at": now}
    if about is not None:
        values["about"] = dict(about)
    if heartbeat is not None:
        values["heartbeat"] = dict(heartbeat)
    with begin(db, Actor("bridge", location_id), "bridge.heard") as tx:
        upsert(tx.conn, bridge_state, ("location_id",), values)
        tx.record("")


def _is_news(known: BridgeState, now: datetime, about: Json | None, heartbeat: Json | None) -> bool:
    if known.last_seen_at is None or not timedelta() <= now - known.last_seen_at < _HEARTBEAT:
        return True
    if about is not None and _steady(about) != _steady(known.about):
        return True
    return heartbeat is not None and _steady(heartbeat) != _steady(known.heartbeat)


_UNSTEADY = ("now", "rows", "commands", "notices")


def _steady(said: Json) -> dict[str, object]:
    return {name: value for name, value in said.items() if name not in _UNSTEADY}


def _token(conn: sa.Connection, secret: str) -> sa.Row[tuple[object, ...]]:
    row = conn.execute(
        sa.select(bridge_token).where(bridge_token.c.digest == _digest(secret))
    ).first()
    if row is None:
        raise Forbidden("there is no such enrolment token")
    return row


def _check_token(row: sa.Row[tuple[object, ...]], now: datetime) -> None:
    if row.used_at is not None:
        raise Forbidden("the enrolment token was used already")
    if now >= row.expires_at:
        raise Forbidden("the enrolment token is too old; make another")


def _issue(tx: Tx, authority: Authority, request_pem: bytes, days: float, now: datetime) -> Issued:
    issued = authority.issue(request_pem, tx.location_id, days, now)
    tx.conn.execute(
        bridge_certificate.insert().values(
            serial=issued.serial,
            location_id=tx.location_id,
            issued_at=now,
            expires_at=issued.expires_at,
        )
    )
    tx.record(issued.serial)
    return issued


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def utc_now() -> datetime:
    """Read this machine's clock."""
    return datetime.now(UTC)
