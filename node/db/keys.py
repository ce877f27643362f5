"""The data keys of a location: made, opened, replaced and wrapped anew.

They stand in the database, wrapped by the master key (:mod:`node.db.master`), so that a backup
carries them and a thief of the backup has nothing without the master.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa

from node.config import Config
from node.db.keyring import DataKey, KeyRing, Purpose, new_key
from node.db.master import Master, create_key_file, is_file_kept, key_path, open_master
from node.db.sealed import give_keys
from node.db.session import Actor, Tx, begin, read
from node.db.tables import data_key, patient, pms_record, sealing, study, workflow_case
from node.errors import BitewingError, ConfigError, NotFound, Rejected, Retryable

_LOG = logging.getLogger(__name__)

#: For so long a process that has not looked again may still seal with a replaced key.
GRACE = timedelta(minutes=10)
_ORDER = {"current": 0, "old": 1}

Row = sa.Row[tuple[object, ...]]


class KeyState(StrEnum):
    """``current`` seals what is new, ``old`` only opens."""

    CURRENT = "current"
    OLD = "old"


class Sealing(StrEnum):
    """How far a location's data is sealed."""

    NONE = "none"  # as release 0.1 left it, or switched off
    PARTLY = "partly"  # what is new is sealed; old plain data is still read
    WHOLLY = "wholly"  # what is not sealed is an error


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key that was made and is not in the database yet."""

    key: DataKey
    wrapped: str
    master: Master


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One data key as an operator may see it."""

    key_id: str
    purpose: Purpose
    state: KeyState
    master: str
    created_at: datetime
    replaced_at: datetime | None


def open_keys(db: sa.Engine, config: Config, actor: Actor) -> KeyRing | None:
    """Open the location's keys and give them to `db`; an empty location gets its first ones.

    Returns None, and leaves data plain, where there is old plain data or encryption is off.

    Raises
    ------
    ConfigError
        The master key is missing or another one than wrapped the keys, or encryption was
        switched off over sealed data.
    Retryable
        The KMS or the database is away.
    """
    location = actor.location_id
    if not _rows(db, location):
        if not config.encryption.enabled or not is_empty(db, location):
            give_keys(db, None)
            return None
        create_keys(db, config, actor, Sealing.WHOLLY)
    return attach_keys(db, config, location)


def attach_keys(db: sa.Engine, config: Config, location_id: str) -> KeyRing | None:
    """Give `db` the keys of the location; None while nothing is sealed. Raises as `open_keys`."""
    ring = None
    if sealing_of(db, location_id) is not Sealing.NONE:
        if not config.encryption.enabled:
            raise ConfigError("the data is sealed: [encryption] enabled cannot be switched off")
        ring = open_ring(db, config, location_id)
    give_keys(db, ring)
    return ring


def open_ring(db: sa.Engine, config: Config, location_id: str) -> KeyRing:
    """Unwrap the location's keys, be anything sealed or not. Raises as `open_keys`."""
    master = open_master(config)
    return KeyRing(
        location_id,
        _unwrapped(master, _rows(db, location_id)),
        is_strict=sealing_of(db, location_id) is Sealing.WHOLLY,
        reload=lambda: _unwrapped(master, _rows(db, location_id)),
    )


def attach_keys_if_there(db: sa.Engine, config: Config) -> KeyRing | None:
    """Give `db` its keys as :func:`attach_keys`; a database without that table has none."""
    if not sa.inspect(db).has_table(data_key.name):
        return None
    return attach_keys(db, config, config.node.location_id)


def create_keys(db: sa.Engine, config: Config, actor: Actor, state: Sealing) -> None:
    """Make the first data key of each purpose; the master key's file too, unless it is there."""
    if is_file_kept(config) and create_key_file(key_path(config)):
        _LOG.warning("made the master key %s: keep a copy elsewhere", key_path(config))
    master = open_master(config)
    made = [(key, master.wrap(key.secret, _about(actor.location_id, key))) for key in _first()]
    with begin(db, actor, "keys.created") as tx:
        _lock(tx)
        if _select(tx.conn, tx.location_id):  # another process was first
            return
        for key, wrapped in made:
            _insert(tx, key, wrapped, master)
        set_sealing(tx, state)
        tx.record("keys", keys=[key.key_id for key, _ in made])


def rotate(db: sa.Engine, config: Config, actor: Actor) -> str:
    """Make a new key for all that is sealed from now on; the old one still opens. Returns its id.

    Raises Rejected when the location has no keys.
    """
    if attach_keys(db, config, actor.location_id) is None:
        raise Rejected("there are no keys to be replaced: nothing is sealed here")
    made = make_key(config, actor.location_id, Purpose.DATA)
    with begin(db, actor, "keys.rotated") as tx:
        put_in_use(tx, made)
        tx.record("keys", key=made.key.key_id, purpose=Purpose.DATA.value)
    attach_keys(db, config, actor.location_id)
    return made.key.key_id


def make_key(config: Config, location_id: str, purpose: Purpose) -> WrappedKey:
    """Make a key and have the master key wrap it; nothing is written. Raises as `open_keys`."""
    master, key = open_master(config), new_key(purpose)
    return WrappedKey(key, master.wrap(key.secret, _about(location_id, key)), master)


def put_in_use(tx: Tx, made: WrappedKey) -> None:
    """Let a key seal what is new of its purpose; the one before it only opens from then on."""
    _lock(tx)
    tx.conn.execute(
        data_key.update()
        .where(
            data_key.c.location_id == tx.location_id,
            data_key.c.purpose == made.key.purpose.value,
            data_key.c.state == KeyState.CURRENT.value,
        )
        .values(state=KeyState.OLD.value, replaced_at=tx.now)
    )
    _insert(tx, made.key, made.wrapped, made.master)


def rewrap(db: sa.Engine, config: Config, to: Config, actor: Actor) -> int:
    """Wrap every data key by another master key; sealed data stays as it is. Returns how many.

    The configuration `to` must be the node's from then on. Raises ConfigError as `open_keys`.
    """
    location = actor.location_id
    old, new = open_master(config), open_master(to)
    rows = _rows(db, location)
    with contextlib.suppress(ConfigError):  # done already, on another machine
        _unwrapped(new, rows)
        return 0
    keys = _unwrapped(old, rows)
    wrapped = {key.key_id: new.wrap(key.secret, _about(location, key)) for key in keys}
    for key in keys:
        if new.unwrap(wrapped[key.key_id], _about(location, key)) != key.secret:
            raise ConfigError(f"{new.source} does not give back what it wrapped; nothing changed")
    with begin(db, actor, "keys.rewrapped") as tx:
        _lock(tx)
        if {row.key_id for row in _select(tx.conn, location)} != set(wrapped):
            raise Rejected("the keys changed meanwhile; once more, please")
        for key_id, text in wrapped.items():
            tx.conn.execute(
                data_key.update()
                .where(data_key.c.key_id == key_id)
                .values(wrapped=text, master=new.source[:255])
            )
        tx.record("keys", keys=len(wrapped))
    return len(wrapped)


def drop(db: sa.Engine, actor: Actor, key_id: str) -> None:
    """Forget a replaced key; the caller has seen that nothing is sealed with it any more.

    Raises Rejected for a key that is in use or was so a moment ago.
    """
    with begin(db, actor, "keys.dropped") as tx:
        row = tx.conn.execute(
            sa.select(data_key.c.state, data_key.c.replaced_at).where(
                data_key.c.key_id == key_id, data_key.c.location_id == tx.location_id
            )
        ).first()
        if row is None:
            raise NotFound("there is no such key")
        if row.state != KeyState.OLD.value or row.replaced_at > tx.now - GRACE:
            raise Rejected("this key is in use, or was until a moment ago")
        tx.conn.execute(data_key.delete().where(data_key.c.key_id == key_id))
        tx.record("keys", key=key_id)


def list_keys(db: sa.Engine, location_id: str) -> list[KeyEntry]:
    """List the location's keys, those in use first; needs no master key."""
    entries = [
        KeyEntry(
            row.key_id,
            Purpose(row.purpose),
            KeyState(row.state),
            row.master,
            row.created_at,
            row.replaced_at,
        )
        for row in _rows(db, location_id)
    ]
    return sorted(entries, key=lambda e: (_ORDER[e.state], e.purpose, e.created_at))


def sealing_of(db: sa.Engine, location_id: str) -> Sealing:
    """Say how far the location's data is sealed."""
    with read(db) as conn:
        state = conn.execute(
            sa.select(sealing.c.state).where(sealing.c.location_id == location_id)
        ).scalar()
    return Sealing(state) if state else Sealing.NONE


def set_sealing(tx: Tx, state: Sealing) -> None:
    """Note how far the location's data is sealed."""
    tx.conn.execute(sealing.delete().where(sealing.c.location_id == tx.location_id))
    tx.conn.execute(
        sealing.insert().values(location_id=tx.location_id, state=state.value, changed_at=tx.now)
    )


def is_empty(db: sa.Engine, location_id: str) -> bool:
    """Whether the location has no data of patients yet."""
    with read(db) as conn:
        return not any(
            conn.execute(
                sa.select(sa.literal(1)).where(table.c.location_id == location_id).limit(1)
            ).first()
            for table in (patient, study, pms_record, workflow_case)
        )


def _first() -> list[DataKey]:
    return [new_key(purpose) for purpose in Purpose]


def _rows(db: sa.Engine, location_id: str) -> list[Row]:
    with read(db) as conn:
        return _select(conn, location_id)


def _select(conn: sa.Connection, location_id: str) -> list[Row]:
    return list(
        conn.execute(
            sa.select(data_key)
            .where(data_key.c.location_id == location_id)
            .order_by(data_key.c.created_at, data_key.c.key_id)
        )
    )


def _unwrapped(master: Master, rows: Iterable[Row]) -> list[DataKey]:
    """Unwrap keys, those in use first. Raises ConfigError when one is not what it was."""
    keys = []
    for row in sorted(rows, key=lambda each: _ORDER[each.state]):
        about = f"{row.location_id}|{row.purpose}|{row.key_id}"
        try:
            key = DataKey(row.key_id, Purpose(row.purpose), master.unwrap(row.wrapped, about))
            is_right = key.proof == row.proof
        except (ConfigError, Retryable):
            raise
        except BitewingError as error:
            raise ConfigError(f"the data key {row.key_id} cannot be opened ({error})") from None
        if not is_right:
            raise ConfigError(
                f"{master.source} gave another key for {row.key_id} than it was made with"
            )
        keys.append(key)
    return keys


def _insert(tx: Tx, key: DataKey, wrapped: str, master: Master) -> None:
    tx.conn.execute(
        data_key.insert().values(
            key_id=key.key_id,
            location_id=tx.location_id,
            purpose=key.purpose.value,
            state=KeyState.CURRENT.value,
            wrapped=wrapped,
            proof=key.proof,
            master=master.source[:255],
            created_at=tx.now,
        )
    )


def _about(location_id: str, key: DataKey) -> str:
    return f"{location_id}|{key.purpose.value}|{key.key_id}"


def _lock(tx: Tx) -> None:
    """Let no two processes change the keys at once; SQLite has one writer anyway."""
    if tx.conn.dialect.name == "postgresql":
        tx.conn.execute(sa.select(sa.func.pg_advisory_xact_lock(4_242_008)))
