"""Searching the archived parts of the audit; each is verified before anything of it is shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from node.db.audit_parts import archived_links, row_of
from node.db.audit_rows import AuditRow
from node.db.audit_search import Wanted, matcher_of
from node.db.tables import audit_checkpoint


@dataclass(frozen=True, slots=True)
class Archives:
    """The archived parts in one folder; `heads` are hashes that were anchored outside, by row."""

    folder: Path
    heads: Mapping[int, str] = field(repr=False)

    def rows(self, conn: sa.Connection) -> Iterator[AuditRow]:
        """Give every row, the oldest first. Raises Rejected when one does not hold."""
        return map(row_of, archived_links(conn, self.folder, self.heads))

    def find(self, conn: sa.Connection, wanted: Wanted) -> Iterator[AuditRow]:
        """Give the rows asked for, the oldest first.

        Raises Rejected when one of any part does not hold, NotFound for what is unknown here.
        """
        return filter(matcher_of(conn, wanted), self.rows(conn))

    def newest(self, conn: sa.Connection, wanted: Wanted, most: int) -> list[AuditRow]:
        """Give the last of the rows asked for, the newest first. Raises as :meth:`find`."""
        return [*reversed(deque(self.find(conn, wanted), maxlen=most))]

    def end(self, conn: sa.Connection) -> int:
        """Give the number of the last archived row; 0 when nothing is archived."""
        return int(conn.execute(sa.select(sa.func.max(audit_checkpoint.c.last_seq))).scalar() or 0)
