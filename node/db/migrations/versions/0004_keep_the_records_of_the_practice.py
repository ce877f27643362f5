"""Keep our copy of everything the practice's system says besides the schedule."""

import sqlalchemy as sa
from alembic import op

import node.db.tables

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = node.db.tables.UtcDateTime(timezone=True)
    op.create_table(
        "pms_record",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("pms_key", sa.String(64), nullable=False),
        sa.Column("patient_key", sa.String(64), nullable=False, server_default=""),
        sa.Column("clinic_key", sa.String(64), nullable=False, server_default=""),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("raw", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("changed_at", moment, nullable=True),
        sa.Column("synced_at", moment, nullable=False),
        sa.Column("tombstoned_at", moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pms_record")),
        sa.UniqueConstraint(
            "location_id", "kind", "pms_key", name=op.f("uq_pms_record_location_id_kind_pms_key")
        ),
    )
    op.create_index("ix_pms_record_patient", "pms_record", ["location_id", "patient_key", "kind"])


def downgrade() -> None:
    op.drop_index("ix_pms_record_patient", table_name="pms_record")
    op.drop_table("pms_record")
