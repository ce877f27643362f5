"""Keep what is said of a study as a whole, and the number a model gave before a renumbering."""

import sqlalchemy as sa
from alembic import op

import node.db.tables

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NUMBERED = ("tooth_mark", "finding")


def upgrade() -> None:
    op.create_table(
        "study_reading",
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.String(32), nullable=True),
        sa.Column("inputs", sa.String(64), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("computed_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_study_reading_study_id_study")
        ),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.id"], name=op.f("fk_study_reading_patient_id_patient")
        ),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_study_reading")),
    )
    for name in _NUMBERED:
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("original_tooth", sa.String(3), nullable=True))


def downgrade() -> None:
    for name in _NUMBERED:
        with op.batch_alter_table(name) as table:
            table.drop_column("original_tooth")
    op.drop_table("study_reading")
