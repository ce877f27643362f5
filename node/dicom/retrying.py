"""When something that failed is tried again: rows wait longer after each attempt."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

_FIRST_S = 5.0
_LONGEST_S = 3_600.0


def wait_s(attempts: int) -> float:
    """Return how many seconds to wait after so many attempts: 5, 10, 20 … at most an hour."""
    return 0.0 if attempts == 0 else min(_FIRST_S * 2.0 ** min(attempts - 1, 16), _LONGEST_S)


def is_due(attempts: int, updated_at: datetime, now: datetime) -> bool:
    """Whether a row last touched at `updated_at` may be tried now."""
    return updated_at + timedelta(seconds=wait_s(attempts)) <= now


def claim(conn: sa.Connection, table: sa.Table, row_id: str, seen: datetime, now: datetime) -> bool:
    """Take a row so that no other process tries it at the same time; False when one did."""
    changed = conn.execute(
        table.update()
        .where(table.c.id == row_id, table.c.updated_at == seen)
        .values(updated_at=now, attempts=table.c.attempts + 1)
    )
    return changed.rowcount == 1
