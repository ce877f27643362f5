"""Patients merged in the practice's system, and whom its keys of providers and rooms stand for."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("patient", sa.Column("merged_into", sa.String(32), nullable=True))
    op.create_table(
        "pms_map",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("pms_key", sa.String(64), nullable=False),
        sa.Column("meaning", sa.String(128), nullable=False, server_default=""),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_to", sa.Date(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pms_map")),
        sa.UniqueConstraint(
            "location_id",
            "kind",
            "pms_key",
            "valid_from",
            name=op.f("uq_pms_map_location_id_kind_pms_key_valid_from"),
        ),
    )


def downgrade() -> None:
    op.drop_table("pms_map")
    with op.batch_alter_table("patient") as table:
        table.drop_column("merged_into")
