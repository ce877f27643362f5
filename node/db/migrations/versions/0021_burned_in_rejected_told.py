"""Burned-in lettering, rejection notes, availability notices, the audit told to a collector."""

import sqlalchemy as sa
from alembic import op

from node.db.tables import UtcDateTime

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("dicom_result") as table:
        table.add_column(
            sa.Column("series_instance_uid", sa.String(64), nullable=False, server_default="")
        )
        table.add_column(sa.Column("modality", sa.String(16), nullable=False, server_default=""))
        table.add_column(sa.Column("instance_number", sa.Integer, nullable=True))
    op.create_table(
        "burned_in",
        sa.Column("instance_id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("words", sa.String(255), nullable=False),
        sa.Column("found_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("released_by", sa.String(64), nullable=False, server_default=""),
        sa.Column("released_reason", sa.String(255), nullable=False, server_default=""),
        sa.Column("released_at", UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_burned_in_instance_id")
        ),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_burned_in")),
    )
    op.create_table(
        "rejected_object",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("note_id", sa.String(32), nullable=False),
        sa.Column("code", sa.String(16), nullable=False),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["note_id"], ["instance.id"], name=op.f("fk_rejected_object_note_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejected_object")),
        sa.UniqueConstraint(
            "location_id",
            "sop_instance_uid",
            name=op.f("uq_rejected_object_location_id_sop_instance_uid"),
        ),
    )
    op.create_table(
        "availability_notice",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("peer", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error", sa.String(255), nullable=False, server_default=""),
        sa.Column("updated_at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_availability_notice_study_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_availability_notice")),
        sa.UniqueConstraint(
            "study_id",
            "generation",
            "peer",
            name=op.f("uq_availability_notice_study_id_generation_peer"),
        ),
    )
    op.create_index("ix_availability_notice_state", "availability_notice", ["location_id", "state"])
    op.create_table(
        "audit_forward",
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("sent", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error", sa.String(255), nullable=False, server_default=""),
        sa.Column("updated_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("location_id", name=op.f("pk_audit_forward")),
    )


def downgrade() -> None:
    for name in ("audit_forward", "availability_notice", "rejected_object", "burned_in"):
        op.drop_table(name)
    with op.batch_alter_table("dicom_result") as table:
        for name in ("instance_number", "modality", "series_instance_uid"):
            table.drop_column(name)
