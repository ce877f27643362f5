"""Whether sealed values stand in the rows they were written to, by what those rows tell elsewhere.

A sealed value is bound to its column and location, not to its row (docs/encryption.md says why), so
that one row's value opens in another's. What a row says besides shows most such exchanges: what was
signed names its study and version, a write's digest stands in the audit, a name has its folded key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from node.db.session import read
from node.db.settled import digest_of
from node.db.tables import audit, patient_identity, pms_command, review
from node.domain.study import name_key, name_start
from node.errors import BitewingError

_PAGE = 500
_KEY_CHARS = 255  # as the sync stores it


@dataclass(frozen=True, slots=True)
class Misplaced:
    """One row with a value that is not its own, or that does not open; ids of ours only."""

    table: str
    row_id: str
    reason: str


def misplaced_rows(db: sa.Engine, location_id: str) -> Iterator[Misplaced]:
    """Compare names, signed reviews and landed writes of a location with what is told of them."""
    yield from _names(db, location_id)
    yield from _reviews(db, location_id)
    yield from _writes(db, location_id)


def _names(db: sa.Engine, location_id: str) -> Iterator[Misplaced]:
    for row_id, row in _rows(db, patient_identity, "patient_id", location_id):
        if isinstance(row, str):
            yield Misplaced(patient_identity.name, row_id, row)
            continue
        key = name_key(row["family_name"], row["given_name"])[:_KEY_CHARS]
        if (row["name_key"], row["name_start"]) != (key, name_start(key)):
            yield Misplaced(patient_identity.name, row_id, "the name is not what it is found by")


def _reviews(db: sa.Engine, location_id: str) -> Iterator[Misplaced]:
    for row_id, row in _rows(db, review, "id", location_id):
        if isinstance(row, str):
            yield Misplaced(review.name, row_id, row)
            continue
        said = tuple(row["content"].get(key) for key in ("study_id", "version", "signer_id"))
        if said != (row["study_id"], row["version"], row["signed_by"]):
            yield Misplaced(review.name, row_id, "what was signed is another study's or version's")


def _writes(db: sa.Engine, location_id: str) -> Iterator[Misplaced]:
    told = _told_of_writes(db, location_id)
    for row_id, row in _rows(db, pms_command, "id", location_id):
        if isinstance(row, str):
            yield Misplaced(pms_command.name, row_id, row)
        elif row["state"] == "done" and row_id in told:
            words = row["payload"]
            digest = words.get("digest") or digest_of(words.get("command"))
            if digest != told[row_id]:
                yield Misplaced(pms_command.name, row_id, "the write is not the one that was sent")


def _told_of_writes(db: sa.Engine, location_id: str) -> dict[str, str]:
    """Give the digest that the audit (the part at hand) told last of each write."""
    query = (
        sa.select(audit.c.subject, audit.c.detail)
        .where(audit.c.location_id == location_id, audit.c.subject.startswith("command:"))
        .order_by(audit.c.seq)
    )
    with read(db) as conn:
        rows = conn.execute(query, execution_options={"yield_per": _PAGE})
        return {
            row.subject.removeprefix("command:"): str(row.detail["command"])
            for row in rows
            if row.detail.get("command")
        }


def _rows(
    db: sa.Engine, table: sa.Table, key: str, location_id: str
) -> Iterator[tuple[str, sa.RowMapping | str]]:
    """Read rows one by one; in place of one that does not open, why."""
    ids = sa.select(table.c[key]).where(table.c.location_id == location_id)
    with read(db) as conn:
        for row_id in conn.execute(ids).scalars().all():
            try:
                found = conn.execute(sa.select(table).where(table.c[key] == row_id)).first()
            except BitewingError as error:
                yield row_id, str(error)
                continue
            if found is not None:  # else it was removed meanwhile
                yield row_id, found._mapping
