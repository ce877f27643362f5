"""What locations report to the node that shows them all."""

import sqlalchemy as sa
from alembic import op

from node.db.tables import UtcDateTime

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fleet_report",
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("reported_location", sa.String(32), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint(
            "location_id", "sender", "reported_location", name=op.f("pk_fleet_report")
        ),
    )


def downgrade() -> None:
    op.drop_table("fleet_report")
