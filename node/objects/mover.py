"""The mover: what lies in the folder of images goes into the bucket, and is written down there.

The queue is the folder itself, so nothing can be missed: every file that no row knows gets one, and
every row that waits is worked off by the mover of the data folder that has its file. All of it can
be cut off at any place and begun again; the names in the bucket end in the digest, so putting a
file twice leaves it once. One mover runs on a data folder at a time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from node.config import Config
from node.db.agreements import demand
from node.db.session import Actor, begin, read, upsert
from node.db.tables import object_copy, sync_state
from node.dicom.parts import retryable, storage_key_of
from node.dicom.sealed_file import SealedFile
from node.errors import BitewingError, InvalidInput
from node.objects.copies import (
    KEPT,
    Copy,
    CopyState,
    add_waiting,
    confirm,
    copies_in,
    find_copies,
    give_up,
    mark,
)
from node.objects.room import Room, let_go, put_back
from node.objects.standing import RESOURCE
from node.objects.store import BucketStore

_LOG = logging.getLogger("bitewing.objects")
_MOST = 200
_TOGETHER = 20
_REST_S = 5.0
_LONGEST_REST_S = 60.0
_ROOM_EVERY_S = 60.0
_HEAL_EVERY_S = 60.0
#: A folder that changed so lately may change again within the file system's clock.
_SETTLED_NS = 2_000_000_000
_RECENT = timedelta(minutes=15)
_CHUNK_BYTES = 1 << 20


@dataclass(slots=True)
class Mover:
    """The mover of one data folder, and of the configuration's location."""

    db: sa.Engine
    store: BucketStore
    config: Config
    room: Room | None = None
    _stamps: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    _unsealed: set[str] = field(default_factory=set)
    _is_begun: bool = False
    _rest_s: float = 0.0
    _rest_until: float = 0.0
    _room_at: float = 0.0
    _heal_at: float = 0.0
    _said: str | None = None

    def run_once(self, now: datetime | None = None) -> None:
        """Look at the folder, then put, remove and make room as far as the bucket lets us.

        Raises what stopped it; it goes on at the next call, after a rest.
        """
        now = now or datetime.now(UTC)
        if not self._is_begun:
            self._put_back()
            self.store.shelf.sweep()
            self._drop_stale(None)
            self._is_begun = True
        self._take_notes()
        self._look()
        self._drop_stale(now - _RECENT)
        if time.monotonic() < self._rest_until:
            return
        try:
            self._heal()
            self._upload(now)
            self._remove()
            self._make_room(now)
        except BitewingError as error:
            self._rest_s = min(max(_REST_S, 2 * self._rest_s), _LONGEST_REST_S)
            self._rest_until = time.monotonic() + self._rest_s
            self._say(now, str(error))
            raise
        self._rest_s = 0.0
        self._say(now, self._plain_words())

    @property
    def _actor(self) -> Actor:
        return Actor("objects", self.config.node.location_id)

    @property
    def _location(self) -> str:
        return self.config.node.location_id

    # --- what lies here ----------------------------------------------------------------------

    def _look(self) -> None:
        """Give every file that no row knows one, and let go what was replaced or given up."""
        for shard in sorted((self.store.folder / self._location).glob("??")):
            stamp = shard.stat().st_mtime_ns
            if self._stamps.get(shard.name) == stamp:
                continue
            found = dict(_files(shard))
            seen = self._seen.get(shard.name, {})
            fresh = {name for name, state in found.items() if seen.get(name) != state}
            gone = {name for name in self._unsealed if name[:2] == shard.name} - set(found)
            self._unsealed -= gone
            again = self._register(shard, fresh)
            for name in again:
                found.pop(name, None)
            self._seen[shard.name] = found
            if not again and time.time_ns() - stamp > _SETTLED_NS:
                self._stamps[shard.name] = stamp

    def _register(self, shard: Path, names: set[str]) -> list[str]:
        """Write rows for new files; return the names that are to be looked at again."""
        keys = {storage_key_of(self._location, name): name for name in names}
        if not keys:
            return []
        with read(self.db) as conn:
            known: dict[str, list[Copy]] = {}
            for each in find_copies(conn, keys):
                known.setdefault(each.storage_key, []).append(each)
        again: list[str] = []
        waiting: list[Copy] = []
        for key, name in keys.items():
            copies = known.get(key, [])
            path = shard / name
            same = next((each for each in copies if each.is_of(path)), None)
            try:
                new = None if same else self._read(key, path)
            except OSError:
                again.append(name)
                continue
            if new is not None:
                same = next((each for each in copies if each.sha256 == new.sha256), None)
                if same is not None:  # the same bytes under another time, brought back by a person
                    os.utime(path, ns=(path.stat().st_atime_ns, same.mtime_ns))
                    again.append(name)
            if same is not None:
                self._settle(same)
            elif new is not None:
                waiting.append(new)
        if waiting:
            with begin(self.db, self._actor, "objects.waiting") as tx:
                for copy in waiting:
                    add_waiting(tx, copy)
                tx.record("objects", waiting=len(waiting))
        return again

    def _read(self, storage_key: str, path: Path) -> Copy | None:
        """Digest a file; None for one that is not sealed, which never leaves the machine."""
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            key_id = SealedFile(path, storage_key).key_id()
            if not key_id:
                self._unsealed.add(path.name)
                return None
            self._unsealed.discard(path.name)
            digest = hashlib.sha256()
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return Copy(
            storage_key, digest.hexdigest(), status.st_size, status.st_mtime_ns, key_id,
            CopyState.WAITING, self.store.shelf.folder_id, datetime.now(UTC),
        )  # fmt: skip

    def _settle(self, copy: Copy) -> None:
        """Do what is to be done for a file whose row is known."""
        mine = self.store.shelf.folder_id
        if copy.state not in KEPT:
            self._let_go(copy)
        elif copy.state is CopyState.WAITING and copy.folder_id != mine:
            with begin(self.db, self._actor, "objects.waiting") as tx:
                mark(tx, copy, CopyState.WAITING, mine)
                tx.record("objects", waiting=1)

    def _put_back(self) -> None:
        """Put back what a killed mover was letting go."""
        for path in self.store.shelf.aside.iterdir():
            put_back(path, self.store.path(storage_key_of(self._location, path.name)))

    def _drop_stale(self, since: datetime | None) -> None:
        """Let go the local files of copies that were replaced or given up, here or elsewhere."""
        gone = (CopyState.REMOVING.value, CopyState.REMOVED.value)
        if since is not None:
            with read(self.db) as conn:
                copies = copies_in(conn, self._location, gone, object_copy.c.changed_at > since)
            for copy in copies:
                self._let_go(copy)
            return
        names = list(self.store.shelf.cached_names(self._location))
        with read(self.db) as conn:
            kept = {
                copy.name
                for copy in find_copies(conn, {key for key, _, _ in names})
                if copy.state in KEPT
            }
        for key, sha256, path in names:
            if f"{key}.{sha256}" not in kept:
                path.unlink(missing_ok=True)

    def _let_go(self, copy: Copy) -> None:
        self.store.shelf.cached(copy).unlink(missing_ok=True)
        let_go(self.store, copy)

    # --- notes of the readers ----------------------------------------------------------------

    def _take_notes(self) -> None:
        """Write down what was discarded, and what was fetched and is damaged."""
        for storage_key, note in self.store.shelf.removed():
            with begin(self.db, self._actor, "object.given-up") as tx:
                give_up(tx, storage_key)
                tx.record("objects", removed=1)
            note.unlink()
        for name, note in self.store.shelf.damaged():
            storage_key, _, sha256 = name.rpartition(".")
            with read(self.db) as conn:
                copies = find_copies(conn, [storage_key])
            self._note_damage(
                [
                    each
                    for each in copies
                    if (each.sha256, each.state.value) == (sha256, "confirmed")
                ]
            )
            note.unlink()

    # --- the bucket --------------------------------------------------------------------------

    def _heal(self) -> None:
        """Put a damaged copy anew where this folder has its bytes."""
        if time.monotonic() < self._heal_at:
            return
        self._heal_at = time.monotonic() + _HEAL_EVERY_S
        with read(self.db) as conn:
            damaged = copies_in(conn, self._location, (CopyState.DAMAGED.value,), limit=_MOST)
        for copy in damaged:
            source = self._source(copy)
            if source is not None and self._put(copy, source):
                self._confirm([copy])

    def _upload(self, now: datetime) -> None:
        while True:
            with read(self.db) as conn:
                waiting = copies_in(
                    conn,
                    self._location,
                    (CopyState.WAITING.value,),
                    object_copy.c.folder_id == self.store.shelf.folder_id,
                    limit=_MOST,
                )
                if waiting:
                    demand(conn, self.config, "objects", now)
            done: list[Copy] = []
            try:
                for copy in waiting:
                    source = self._source(copy)
                    if source is None:
                        self._miss(copy)
                    elif self._put(copy, source):
                        done.append(copy)
                    else:
                        self._note_damage([copy])
                    if len(done) >= _TOGETHER:
                        self._confirm(done)
            finally:
                self._confirm(done)
            if len(waiting) < _MOST:
                return

    def _put(self, copy: Copy, source: Path) -> bool:
        """Put a file; False when it has not the bytes that were written down."""
        try:
            with source.open("rb") as file:
                self.store.bucket.put(copy.name, file, copy.size_bytes, copy.sha256)
        except InvalidInput:
            return False
        except OSError as error:
            raise retryable(error) from None
        return True

    def _note_damage(self, copies: list[Copy]) -> None:
        with begin(self.db, self._actor, "object.damaged") as tx:
            for copy in copies:
                mark(tx, copy, CopyState.DAMAGED)
            tx.record("objects", damaged=len(copies))
        _LOG.error("an object is lost or changed, in the bucket or before it came there")

    def _miss(self, copy: Copy) -> None:
        """Write down that a file that waits is not here: replaced, given up, or lost."""
        is_replaced = self.store.path(copy.storage_key).exists()
        with begin(self.db, self._actor, "object.missing") as tx:
            mark(tx, copy, CopyState.REMOVING if is_replaced else CopyState.DAMAGED)
            tx.record("objects", missing=1)

    def _source(self, copy: Copy) -> Path | None:
        home, cached = self.store.path(copy.storage_key), self.store.shelf.cached(copy)
        if copy.is_of(home):
            return home
        return cached if cached.is_file() else None

    def _confirm(self, done: list[Copy]) -> None:
        if not done:
            return
        with begin(self.db, self._actor, "objects.confirmed") as tx:
            for copy in done:
                confirm(tx, copy)
            tx.record("objects", confirmed=len(done))
        done.clear()

    def _remove(self) -> None:
        with read(self.db) as conn:
            removing = copies_in(conn, self._location, (CopyState.REMOVING.value,), limit=_MOST)
        if not removing:
            return
        for copy in removing:
            self.store.bucket.remove(copy.name)
            self._let_go(copy)
        with begin(self.db, self._actor, "objects.removed") as tx:
            for copy in removing:
                mark(tx, copy, CopyState.REMOVED)
            tx.record("objects", removed=len(removing))

    def _make_room(self, now: datetime) -> None:
        if self.room is None or time.monotonic() < self._room_at:
            return
        self._room_at = time.monotonic() + _ROOM_EVERY_S
        for copy in self.room.make(now):
            with begin(self.db, self._actor, "object.lost") as tx:
                mark(tx, copy, CopyState.WAITING, self.store.shelf.folder_id)
                tx.record("objects", waiting=1)
            _LOG.error("the bucket has lost an object; it is put there again")

    # --- what is said of it ------------------------------------------------------------------

    def _plain_words(self) -> str:
        count = len(self._unsealed)
        return (
            f"{count} files are not sealed and stay here: `bitewing encrypt-data`" if count else ""
        )

    def _say(self, now: datetime, error: str) -> None:
        """Keep how the last try went, when that has changed."""
        if error == self._said:
            return
        with begin(self.db, self._actor, "objects.standing") as tx:
            row: dict[str, object] = {
                "location_id": tx.location_id,
                "resource": RESOURCE + self.store.shelf.folder_id,
                "last_try_at": now,
                "error": error[:255],
            }
            if not error:
                row["last_ok_at"] = now
            upsert(tx.conn, sync_state, ("location_id", "resource"), row)
            tx.record("objects", is_well=not error)
        self._said = error


def _files(shard: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """List a shard's objects, with the time and size that make one file the same."""
    with os.scandir(shard) as entries:
        for entry in entries:
            try:
                storage_key_of(shard.parent.name, entry.name)
                status = entry.stat(follow_symlinks=False)
            except (InvalidInput, FileNotFoundError):
                continue
            yield entry.name, (status.st_mtime_ns, status.st_size)
