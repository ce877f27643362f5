"""Reading the columns of a mirrored row, leniently: a wrong value is empty, never an error.

What no public view shows may come under another name: ``x_sandbox_…`` from the sandbox,
``x_site_…`` from columns that a licensed site has named in its settings.
"""

from __future__ import annotations

from datetime import date, datetime

from pms_writeback.bridge.protocol import TableRow

EXTRA_PREFIXES = ("x_site_", "x_sandbox_")


def words(row: TableRow, name: str) -> str:
    """Read a text, trimmed: vendors pad their character columns."""
    value = row.values.get(name)
    return "" if value is None else str(value).strip()


def extra(row: TableRow, name: str) -> str:
    """Read what no public column shows; empty when this site does not tell."""
    return next((found for prefix in EXTRA_PREFIXES if (found := words(row, prefix + name))), "")


def whole(text: str) -> int:
    """Read a whole number; 0 when there is none."""
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return 0


def moment(text: str) -> datetime | None:
    """Read a wall-clock time or a day, naive; None when there is none."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None) if text else None
    except ValueError:
        return None


def day(text: str) -> date | None:
    """Read a day; None when there is none."""
    found = moment(text)
    return None if found is None else found.date()
