"""Keep what networks in trial say of an image, apart from everything that is shown."""

import sqlalchemy as sa
from alembic import op

import node.db.tables

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shadow_run",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("instance_id", sa.String(32), nullable=False),
        sa.Column("task", sa.String(32), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("pipeline", sa.String(64), nullable=False),
        sa.Column("view", sa.String(16), nullable=True),
        sa.Column("findings", sa.JSON(), nullable=True),
        sa.Column("teeth", sa.JSON(), nullable=True),
        sa.Column("sites", sa.JSON(), nullable=True),
        sa.Column("failure", sa.String(255), nullable=False, server_default=""),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("finished_at", node.db.tables.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_shadow_run_instance_id_instance")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow_run")),
        sa.UniqueConstraint(
            "instance_id", "model_digest", name=op.f("uq_shadow_run_instance_id_model_digest")
        ),
    )
    op.create_index("ix_shadow_run_task", "shadow_run", ["location_id", "task", "finished_at"])


def downgrade() -> None:
    op.drop_index("ix_shadow_run_task", table_name="shadow_run")
    op.drop_table("shadow_run")
