"""Exporting entries of the audit with the proof of their place in the chain."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import IO, Literal

import sqlalchemy as sa

from node.db.audit_archive import as_link
from node.db.audit_rows import AuditRow, content_digest, stored_rows
from node.db.audit_search import Wanted, conditions_of
from node.db.tables import audit
from node.domain.audit_chain import COLUMNS, FORMAT
from node.errors import InvalidInput, Rejected

Form = Literal["json", "csv"]


def export_links(conn: sa.Connection, wanted: Wanted, most: int) -> Iterator[Mapping[str, object]]:
    """Give the entries asked for whole, and of the rows between them the digests.

    They run from the first entry found to the end of the chain, so that its anchored head vouches
    for them. Raises InvalidInput when that would be more than `most` rows; Rejected where the
    chain does not hold.
    """
    conditions = conditions_of(conn, wanted)
    first, count = conn.execute(
        sa.select(sa.func.min(audit.c.seq), sa.func.count()).where(*conditions)
    ).one()
    end = conn.execute(sa.select(sa.func.max(audit.c.seq))).scalar()
    if not count or end is None:
        return
    if int(end) - int(first) >= most:
        raise InvalidInput(
            f"the export would reach over more than {most} rows of the audit; take a later period"
        )
    shown = set(conn.execute(sa.select(audit.c.seq).where(*conditions)).scalars())
    for row, problem in stored_rows(conn, since=int(first), until=int(end)):
        if problem or not row.is_sound:
            raise Rejected(f"the audit does not hold at row {row.seq}; run bitewing verify-audit")
        yield _link(row, row.seq in shown)


def _link(row: AuditRow, is_shown: bool) -> Mapping[str, object]:
    if is_shown:
        return as_link(row)
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
