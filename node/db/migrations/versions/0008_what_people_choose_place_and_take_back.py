"""PINs and preferences; places, calibrations and presence; links from a chart; retractions."""

import sqlalchemy as sa
from alembic import op

import node.db.tables

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _id(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(32), nullable=nullable)


def _at(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, node.db.tables.UtcDateTime(timezone=True), nullable=nullable)


def _fk(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name)


def _pk(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def upgrade() -> None:
    with op.batch_alter_table("user_account") as table:
        table.add_column(sa.Column("pin_hash", sa.String(255), nullable=False, server_default=""))
        table.add_column(
            sa.Column("pin_failures", sa.Integer(), nullable=False, server_default="0")
        )
    op.create_table(
        "user_preference",
        _id("user_id"),
        _id("location_id"),
        sa.Column("content", sa.JSON(), nullable=False),
        _at("changed_at"),
        _fk("user_preference", "user_id", "user_account"),
        _pk("user_preference", "user_id"),
    )
    op.create_table(
        "image_place",
        _id("instance_id"),
        _id("location_id"),
        _id("study_id"),
        sa.Column("slot", sa.String(24), nullable=False),
        sa.Column("quarter_turns", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("is_mirrored", sa.Boolean(), nullable=False, server_default=sa.false()),
        _id("placed_by"),
        _at("placed_at"),
        _fk("image_place", "instance_id", "instance"),
        _fk("image_place", "study_id", "study"),
        _fk("image_place", "placed_by", "user_account"),
        _pk("image_place", "instance_id"),
    )
    op.create_index("ix_image_place_study", "image_place", ["study_id"])
    op.create_table(
        "image_calibration",
        _id("instance_id"),
        _id("location_id"),
        sa.Column("points", sa.JSON(), nullable=False),
        sa.Column("known_mm", sa.Float(), nullable=False),
        _id("calibrated_by"),
        _at("calibrated_at"),
        _fk("image_calibration", "instance_id", "instance"),
        _fk("image_calibration", "calibrated_by", "user_account"),
        _pk("image_calibration", "instance_id"),
    )
    op.create_table(
        "study_presence",
        _id("study_id"),
        _id("user_id"),
        _id("location_id"),
        _id("instance_id", nullable=True),
        _at("seen_at"),
        _fk("study_presence", "study_id", "study"),
        _fk("study_presence", "user_id", "user_account"),
        _fk("study_presence", "instance_id", "instance"),
        _pk("study_presence", "study_id", "user_id"),
    )
    op.create_table(
        "study_link",
        sa.Column("token_hash", sa.String(64), nullable=False),
        _id("location_id"),
        _id("study_id"),
        _at("created_at"),
        _at("expires_at"),
        _at("used_at", nullable=True),
        _fk("study_link", "study_id", "study"),
        _pk("study_link", "token_hash"),
    )
    op.create_table(
        "retraction",
        _id("id"),
        _id("location_id"),
        _id("study_id"),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("finding_ids", sa.JSON(), nullable=False),
        _id("patient_id", nullable=True),
        _id("new_patient_id", nullable=True),
        sa.Column("steps", sa.JSON(), nullable=False),
        _id("retracted_by"),
        _at("at"),
        _fk("retraction", "study_id", "study"),
        _fk("retraction", "patient_id", "patient"),
        _fk("retraction", "new_patient_id", "patient"),
        _fk("retraction", "retracted_by", "user_account"),
        _pk("retraction", "id"),
    )
    op.create_index("ix_retraction_study", "retraction", ["study_id"])


def downgrade() -> None:
    for name in ("retraction", "study_link", "study_presence", "image_calibration", "image_place"):
        op.drop_table(name)
    op.drop_table("user_preference")
    with op.batch_alter_table("user_account") as table:
        table.drop_column("pin_failures")
        table.drop_column("pin_hash")
