"""Which patients an Open Dental office merged: its table of links, which only a query reads."""

from __future__ import annotations

from node.errors import ConfigError, Rejected, Unsupported
from pms_writeback.merging import PatientMove
from pms_writeback.opendental.connection import Connection

#: Table and type 1, "Merge", as in the published schema (patientlink, PatientLinkType).
_MERGES = (
    "SELECT PatNumFrom, PatNumTo FROM patientlink WHERE LinkType = 1 "
    "ORDER BY DateTimeLink, PatientLinkNum"
)


def read_merges(connection: Connection) -> tuple[PatientMove, ...]:
    """Read every merge, the oldest first.

    Raises Unsupported when the key lacks the permission Queries or the office has no such table.
    """
    try:
        rows = connection.query(_MERGES)
    except (ConfigError, Rejected) as error:
        raise Unsupported(
            f"who was merged cannot be read, which needs the permission Queries ({error})"
        ) from None
    return tuple(PatientMove(row.own_key("PatNumFrom"), row.own_key("PatNumTo")) for row in rows)
