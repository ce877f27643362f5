"""When the words of what was settled long ago were reduced to their digest."""

import sqlalchemy as sa
from alembic import op

from node.db.tables import UtcDateTime

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_TABLES = ("pms_command", "payer_mail", "message_reply")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("reduced_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "reduced_at")
