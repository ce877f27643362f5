"""Sealing what lies there: old plain data of an earlier release, and data under a replaced key.

Rows and files that are sealed with the current key are left out, so a run that was killed is simply
started again. Old values are replaced one by one only where nobody changed them meanwhile, so the
node may run. What is looked up is sealed in one transaction with the node stopped: while half of
it were under another key, a search would miss rows and a unique key would not hold.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from node.config import Config
from node.db.keyring import MARK, KeyRing, Purpose, key_id_of
from node.db.keys import (
    Sealing,
    attach_keys,
    create_keys,
    make_key,
    open_ring,
    put_in_use,
    sealing_of,
    set_sealing,
)
from node.db.sealed import Sealed, sealed_columns
from node.db.session import Actor, Tx, begin, read
from node.db.tables import executor_beat, metadata, object_copy
from node.dicom.instances import FolderStore
from node.dicom.object_file import chunks_of
from node.dicom.parts import storage_key_of
from node.dicom.sealed_file import SealedFile
from node.disk import Room, disk_of
from node.errors import BitewingError, ConfigError, InvalidInput, Rejected, Retryable
from node.objects.copies import KEPT, READABLE, CopyState, copies_in
from node.objects.opening import open_objects
from node.objects.shelf import Damaged
from node.objects.store import BucketStore

_BATCH = 500
_CHUNK_BYTES = 1 << 20
#: A process that shares the database and was heard of since counts as running.
_SILENCE = timedelta(seconds=30)

#: Told what was done so far, in words.
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Resealed:
    """How much was sealed anew, and what could not be read and was left as it is."""

    values: int
    files: int
    unreadable: int = 0


def encrypt_data(
    db: sa.Engine, config: Config, actor: Actor, say: Say, hold: Callable[[], Callable[[], None]]
) -> Resealed:
    """Seal all that an earlier release left plain; `hold` keeps the node from running meanwhile.

    Only the first step needs that; a run that was cut goes on from there. Raises ConfigError when
    encryption is off or the node runs.
    """
    if not config.encryption.enabled:
        raise ConfigError("[encryption] enabled is off; nothing is sealed")
    if sealing_of(db, actor.location_id) is Sealing.NONE:
        release = hold()
        try:
            create_keys(db, config, actor, Sealing.NONE)
            ring = open_ring(db, config, actor.location_id)
            with begin(db, actor, "data.sealing") as tx:
                count = sum(_seal_at_once(tx, ring, each, kind) for each, kind in _lookups())
                set_sealing(tx, Sealing.PARTLY)
                tx.record("sealing", values=count)
            say(f"{count} values that are looked up are sealed; the node may start now")
        finally:
            release()
    done = reseal(db, config, actor, say)
    if done.unreadable:
        raise Rejected(f"{done.unreadable} values or files could not be read; see above")
    with begin(db, actor, "data.sealed") as tx:
        set_sealing(tx, Sealing.WHOLLY)
        tx.record("sealing", values=done.values, files=done.files)
    if not clear_traces(db):
        say("the database still holds pages of before: once more, please, with the node stopped")
    return done


def reseal(db: sa.Engine, config: Config, actor: Actor, say: Say) -> Resealed:
    """Seal with the current keys all values and files that are not; bounded in memory.

    Raises Rejected when the location has no keys.
    """
    ring = attach_keys(db, config, actor.location_id)
    if ring is None:
        raise Rejected("there are no keys: nothing is sealed here")
    values = unreadable = 0
    for column, kind in sealed_columns(metadata):
        if kind.for_lookup:
            continue
        count, left = _reseal_column(db, actor, ring, column, kind)
        values, unreadable = values + count, unreadable + left
        if count or left:
            say(f"{column.table.name}.{column.name}: {count}" + (f", {left} left" if left else ""))
    files = 0
    folder = config.node.data_dir / "images"
    for storage_key in _keys_to_reseal(db, config, ring, say):
        try:
            files += reseal_file(folder, storage_key, ring)
        except (BitewingError, OSError) as error:
            unreadable += 1
            say(f"{storage_key}: {error}")
        if files and files % 1000 == 0:
            say(f"files: {files}")
    return Resealed(values, files, unreadable)


def rotate_lookup(
    db: sa.Engine, config: Config, actor: Actor, say: Say, hold: Callable[[], Callable[[], None]]
) -> tuple[str, Resealed]:
    """Replace the key of what is looked up; `hold` keeps the node from running meanwhile.

    The new key and everything sealed with it are one transaction: killed before its end, nothing
    has happened and the old key is in use; after it, the old one seals nothing. Returns the new
    key's id and how many values were sealed anew.

    Raises
    ------
    ConfigError
        The node, or another process over this database, runs.
    Rejected
        The location has no keys.
    InvalidInput
        A value cannot be opened; nothing was changed.
    """
    release = hold()
    try:
        _refuse_others(db, config)
        ring = attach_keys(db, config, actor.location_id)
        if ring is None:
            raise Rejected("there are no keys to be replaced: nothing is sealed here")
        made = make_key(config, actor.location_id, Purpose.LOOKUP)
        newer, count = ring.with_key(made.key), 0
        with begin(db, actor, "keys.rotated") as tx:
            put_in_use(tx, made)
            for column, kind in _lookups():
                done = _seal_at_once(tx, newer, column, kind)
                say(f"{column.table.name}.{column.name}: {done}")
                count += done
            tx.record("keys", key=made.key.key_id, purpose=Purpose.LOOKUP.value, values=count)
        attach_keys(db, config, actor.location_id)
    finally:
        release()
    return made.key.key_id, Resealed(count, 0)


def _refuse_others(db: sa.Engine, config: Config) -> None:
    """Raise ConfigError when another machine's process over this database lives.

    Ours are held by then, whatever they said a moment ago.
    """
    location = config.node.location_id
    ours = f"{config.database.executor_id}-{location}"
    with read(db) as conn:
        living = conn.execute(
            sa.select(executor_beat.c.executor).where(
                executor_beat.c.location_id == location,
                executor_beat.c.beat_at > datetime.now(UTC) - _SILENCE,
            )
        ).scalars()
        others = sorted(each for each in living if each != ours and not each.startswith(f"{ours}-"))
    if others:
        raise ConfigError(
            f"{', '.join(others)} was heard of in the last {_SILENCE.seconds} seconds:"
            " stop every process over this database first"
        )


def _keys_to_reseal(db: sa.Engine, config: Config, ring: KeyRing, say: Say) -> Iterator[str]:
    """List what lies here, then what only the bucket has under another key, brought here.

    Raises Retryable when there is no room for more: the node's mover makes some.
    """
    yield from stored_keys(config.node.data_dir / "images", ring.location_id)
    store = open_objects(config, db, ring)
    if not isinstance(store, BucketStore):
        return
    current = ring.current(Purpose.DATA).key_id
    with read(db) as conn:
        old = copies_in(conn, ring.location_id, KEPT, object_copy.c.key_id != current)
    elsewhere = 0
    for copy in old:
        if store.path(copy.storage_key).is_file():
            continue  # seen above
        if copy.state is CopyState.WAITING:
            elsewhere += 1
            continue
        if disk_of(config).look().room is not Room.PLENTY:
            raise Retryable("the disk is low; the node makes room for more: once more, please", 60)
        try:
            store.bring_home(copy)
        except Damaged as error:
            say(f"{copy.storage_key}: {error}")
            continue
        yield copy.storage_key
    if elsewhere:
        say(f"{elsewhere} files are with other nodes and wait for the bucket: once more, please")


def reseal_file(folder: Path, storage_key: str, ring: KeyRing) -> bool:
    """Seal one stored object with the current key; False when it is already, or gone."""
    plain = SealedFile(folder / storage_key, storage_key, ring.lenient())
    try:
        if plain.key_id() == ring.current(Purpose.DATA).key_id:
            return False
        source = plain.open("rb")
    except FileNotFoundError:
        return False
    location_id, _, rest = storage_key.partition("/")
    store = FolderStore(folder, ring=ring)
    part = store.begin(location_id, rest.rpartition("/")[2])
    try:
        with source:
            while chunk := source.read(_CHUNK_BYTES):
                part.write(chunk)
        if plain.is_file():  # else it was purged meanwhile
            part.finish()
    finally:
        part.discard()
    return True


def stored_keys(folder: Path, location_id: str) -> Iterator[str]:
    """List the storage keys of a location's objects, shard by shard."""
    for shard in sorted((folder / location_id).glob("??")):
        for path in sorted(shard.iterdir()):
            with contextlib.suppress(InvalidInput):  # not a file of ours
                yield storage_key_of(location_id, path.name)


def count_uses(db: sa.Engine, config: Config, location_id: str) -> Counter[str]:
    """Count values and files by the id of the key that sealed them; "" counts plain ones."""
    uses: Counter[str] = Counter()
    with read(db) as conn:
        for column, _ in sealed_columns(metadata):
            table, raw = _raw(column)
            text = sa.func.substr(raw, 1, len(MARK) + 16)
            found = conn.execute(
                sa.select(text, sa.func.count())
                .where(table.c.location_id == location_id, raw != "")
                .group_by(text)
            )
            for start, count in found:
                uses[key_id_of(str(start))] += int(count)
    folder = config.node.data_dir / "images"
    for storage_key in stored_keys(folder, location_id):
        with contextlib.suppress(FileNotFoundError):
            uses[SealedFile(folder / storage_key, storage_key).key_id()] += 1
    with read(db) as conn:
        copies = copies_in(conn, location_id, KEPT)
    uses.update(each.key_id for each in copies if not (folder / each.storage_key).exists())
    return uses


def clear_traces(db: sa.Engine) -> bool:
    """Let the database file give up the pages that held plain values; False when it is in use."""
    try:
        with db.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            if conn.dialect.name == "sqlite":
                conn.exec_driver_sql("VACUUM")
                is_busy, *_ = conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
                return not is_busy
            for name in dict.fromkeys(column.table.name for column, _ in sealed_columns(metadata)):
                conn.execute(sa.text(f'VACUUM FULL "{name}"'))
    except sa.exc.OperationalError:
        return False
    return True


def _lookups() -> Iterator[tuple[sa.Column[object], Sealed[object]]]:
    return ((column, kind) for column, kind in sealed_columns(metadata) if kind.for_lookup)


def _seal_at_once(tx: Tx, ring: KeyRing, column: sa.Column[object], kind: Sealed[object]) -> int:
    """Seal a column that is looked up, all of it in one transaction: half of it would be lost."""
    count = 0
    for rows in _batches(tx.conn, ring, column, Purpose.LOOKUP):
        for key, value in rows:
            sealed = ring.seal_for_lookup(ring.open(value, kind.about), kind.about)
            count += _replace(tx.conn, column, key, value, sealed)
    return count


def _reseal_column(
    db: sa.Engine, actor: Actor, ring: KeyRing, column: sa.Column[object], kind: Sealed[object]
) -> tuple[int, int]:
    """Seal a column batch by batch; return how many values were, and how many cannot be read."""
    count = unreadable = 0
    lenient = ring.lenient()
    with read(db) as conn:
        for rows in _batches(conn, ring, column, Purpose.DATA):
            conn.rollback()  # a long read would keep SQLite's log from being cleared
            with begin(db, actor, "data.resealed") as tx:
                for key, value in rows:
                    try:
                        sealed = ring.seal(lenient.open(value, kind.about), kind.about)
                    except BitewingError:
                        unreadable += 1
                        continue
                    count += _replace(tx.conn, column, key, value, sealed)
                tx.record(f"{column.table.name}.{column.name}", values=len(rows))
    return count, unreadable


def _batches(
    conn: sa.Connection, ring: KeyRing, column: sa.Column[object], purpose: Purpose
) -> Iterator[list[tuple[tuple[object, ...], str]]]:
    """Give primary keys and raw values that the current key has not sealed, in key order."""
    table, raw = _raw(column)
    keys = [table.c[each.name] for each in column.table.primary_key.columns]
    current = f"{MARK}{ring.current(purpose).key_id}:"
    query = (
        sa.select(*keys, raw)
        .where(
            table.c.location_id == ring.location_id,
            raw != "",
            sa.func.substr(raw, 1, len(current)) != current,
        )
        .order_by(*keys)
        .limit(_BATCH)
    )
    last: tuple[object, ...] | None = None
    while True:
        more = (
            query if last is None else query.where(sa.tuple_(*keys) > sa.tuple_(*map(_bound, last)))
        )
        rows = [(tuple(row[:-1]), str(row[-1])) for row in conn.execute(more)]
        if not rows:
            return
        yield rows
        last = rows[-1][0]


def _bound(value: object) -> sa.BindParameter[object]:
    return sa.literal(value)


def _replace(
    conn: sa.Connection, column: sa.Column[object], key: tuple[object, ...], old: str, new: str
) -> int:
    table, raw = _raw(column)
    keys = [table.c[each.name] for each in column.table.primary_key.columns]
    done = conn.execute(
        sa.update(table)
        .where(*(each == value for each, value in zip(keys, key, strict=True)), raw == old)
        .values({raw.name: new})
    )
    return done.rowcount


def _raw(column: sa.Column[object]) -> tuple[sa.TableClause, sa.ColumnClause[str]]:
    """Return a column's table as the database has it, without the types that seal."""
    names = dict.fromkeys(
        ("location_id", *(each.name for each in column.table.primary_key.columns), column.name)
    )
    table = sa.table(column.table.name, *(sa.column(name) for name in names))
    raw: sa.ColumnClause[str] = sa.column(column.name, sa.Text, _selectable=table)
    return table, raw


def unreadable_files(db: sa.Engine, config: Config, ring: KeyRing) -> Iterator[tuple[str, str]]:
    """Read every stored object to its end; give those that cannot be, and why.

    What only the bucket has is fetched.
    """
    store = open_objects(config, db, ring)
    keys = set(stored_keys(store.folder, ring.location_id))
    with read(db) as conn:
        keys |= {each.storage_key for each in copies_in(conn, ring.location_id, READABLE)}
    for storage_key in sorted(keys):
        try:
            for _ in chunks_of(store.file(storage_key)):
                continue
        except FileNotFoundError:  # purged meanwhile
            continue
        except (BitewingError, OSError) as error:
            yield storage_key, str(error)
