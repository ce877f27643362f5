"""Exporting entries of the audit with the proof of their place in the chain."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import IO, Literal

import sqlalchemy as sa

from node.db.audit_archive import as_link
from node.db.audit_archived import Archives
from node.db.audit_rows import AuditRow, content_digest, stored_rows
from node.db.audit_search import Wanted, conditions_of
from node.db.tables import audit
from node.domain.audit_chain import COLUMNS, FORMAT
from node.errors import InvalidInput, Rejected

Form = Literal["json", "csv"]


def export_links(
    conn: sa.Connection, wanted: Wanted, most: int, archives: Archives | None = None
) -> Iterator[Mapping[str, object]]:
    """Give the entries asked for whole, and of the rows between them the digests.

    They run from the first entry found to the end of the chain, so that its anchored head vouches
    for them; with `archives` from the first one in an archived part. Raises InvalidInput when that
    would be more than `most` rows; Rejected where the chain does not hold.
    """
    conditions = conditions_of(conn, wanted)
    shown = set(conn.execute(sa.select(audit.c.seq).where(*conditions)).scalars())
    if archives is not None:
        shown.update(row.seq for row in archives.find(conn, wanted))
    end = conn.execute(sa.select(sa.func.max(audit.c.seq))).scalar()
    if not shown or end is None:
        return
    first = min(shown)
    if int(end) - first >= most:
        raise InvalidInput(
            f"the export would reach over more than {most} rows of the audit; take a later period"
        )
    if archives is not None:
        for row in archives.rows(conn):
            if row.seq >= first:
                yield _link(row, row.seq in shown)
    for row, problem in stored_rows(conn, since=first, until=int(end)):
        if problem or not row.is_sound:
            raise Rejected(f"the audit does not hold at row {row.seq}; run bitewing verify-audit")
        yield _link(row, row.seq in shown)


def _link(row: AuditRow, is_shown: bool) -> Mapping[str, object]:
    if is_shown:
        return as_link(row)
    if not row.is_chained:
        raise InvalidInput(
            f"row {row.seq} was written by release 0.1 and cannot be left out: take a later period"
        )
    return {"seq": row.seq, "content_digest": content_digest(row.seq, row.entry)}


def write_export(file: IO[str], form: Form, links: Iterator[Mapping[str, object]]) -> None:
    """Write an export as JSON or CSV, a row at a time."""
    if form == "csv":
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for link in links:
            told = {**link, "detail": json.dumps(link["detail"])} if "detail" in link else link
            writer.writerow([told.get(name, "") for name in COLUMNS])
        return
    made_at = datetime.now(UTC).isoformat()
    file.write(f'{{"format": "{FORMAT}", "made_at": "{made_at}", "rows": [')
    for number, link in enumerate(links):
        file.write((",\n" if number else "\n") + json.dumps(link))
    file.write("\n]}\n")
