"""Data keys, wrapped by a master key, and how far a location's data is sealed."""

import sqlalchemy as sa
from alembic import op

from node.db.tables import UtcDateTime

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_key",
        sa.Column("key_id", sa.String(16), primary_key=True),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("wrapped", sa.Text, nullable=False),
        sa.Column("proof", sa.String(32), nullable=False),
        sa.Column("master", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("replaced_at", UtcDateTime, nullable=True),
    )
    op.create_index("ix_data_key_location", "data_key", ["location_id", "purpose", "state"])
    op.create_table(
        "sealing",
        sa.Column("location_id", sa.String(32), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("sealing")
    op.drop_table("data_key")
