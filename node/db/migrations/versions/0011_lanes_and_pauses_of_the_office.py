"""Let writes to the practice's system overtake by lane, and keep when its office is away."""

import sqlalchemy as sa
from alembic import op

import node.db.tables

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "pms_command", sa.Column("lane", sa.Integer(), nullable=False, server_default="0")
    )
    op.create_table(
        "pms_pause",
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("command_id", sa.String(32), nullable=False),
        sa.Column("until", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("location_id", name=op.f("pk_pms_pause")),
    )


def downgrade() -> None:
    op.drop_table("pms_pause")
    with op.batch_alter_table("pms_command") as table:
        table.drop_column("lane")
