"""Who a task in the practice's system is from: the user there of the person who decided.

An administrator says of each account who it is in the practice's system (*People*, *Change*). A
task that follows from somebody's decision carries that user; where nothing is said, or the office
knows that user no more, the office's own setting stands (``pms.task_user``). That is authorship
and never a signature: nothing is signed on anybody's behalf.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy as sa

from node.config import Config
from node.db.tables import user_account
from node.domain.rights import Right, Role, rights_of
from pms_writeback.pms import Command, CreateTask

#: Who holds one of these decides what tasks follow from.
_DECIDES = frozenset(
    {
        Right.FINDINGS_SIGN,
        Right.PREAUTHS_APPROVE,
        Right.LAB_CASES_MANAGE,
        Right.MESSAGES_APPROVE,
        Right.RECALLS_ADJUST,
    }
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """How many active accounts decide something, and how many are mapped to a user there."""

    deciding: int
    mapped: int

    @property
    def words(self) -> str:
        """Say it in a sentence without a name."""
        if self.mapped == self.deciding:
            return f"all {self.deciding} accounts that decide are users there"
        return (
            f"{self.deciding - self.mapped} of {self.deciding} accounts that decide are no users"
            " there: their tasks carry pms.task_user (People, Change)"
        )


def task_user_of(conn: sa.Connection, location_id: str, user_id: str) -> str:
    """Find the key of a person's user in the practice's system; empty where nothing is said."""
    found = conn.execute(
        sa.select(user_account.c.pms_user_key).where(
            user_account.c.id == user_id, user_account.c.location_id == location_id
        )
    ).scalar()
    return str(found or "")


def authored(command: Command, conn: sa.Connection, location_id: str, user_id: str) -> Command:
    """Give a task its author; any other command as it is."""
    if not isinstance(command, CreateTask):
        return command
    return replace(command, user_key=task_user_of(conn, location_id, user_id))


def read_mapping(conn: sa.Connection, config: Config) -> Mapping:
    """Count who is mapped, of those who sign or approve at this location."""
    rows = conn.execute(
        sa.select(user_account.c.role, user_account.c.pms_user_key).where(
            user_account.c.location_id == config.node.location_id, user_account.c.is_active
        )
    ).all()
    deciding = [
        row for row in rows if row.role != Role.SERVICE.value and rights_of(row.role) & _DECIDES
    ]
    return Mapping(len(deciding), sum(bool(row.pms_user_key) for row in deciding))
