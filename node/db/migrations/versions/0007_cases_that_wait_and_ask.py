"""Cases that wait, steps done once, timelines, signals, approvals, switches and paces."""

import sqlalchemy as sa
from alembic import op

from node.db.tables import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _at(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, UtcDateTime(timezone=True), nullable=nullable)


def _text(name: str, length: int, default: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.String(length), nullable=False, server_default=default)


def upgrade() -> None:
    with op.batch_alter_table("workflow_case") as batch:
        batch.add_column(sa.Column("patient_id", sa.String(32), nullable=True))
        batch.create_foreign_key(
            op.f("fk_workflow_case_patient_id_patient"), "patient", ["patient_id"], ["id"]
        )
        batch.add_column(_text("stage", 64, ""))
        batch.add_column(sa.Column("leg", sa.Integer, nullable=False, server_default="0"))
        batch.add_column(sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
        batch.add_column(sa.Column("waits", sa.JSON, nullable=True))
        batch.add_column(sa.Column("woken_by", sa.JSON, nullable=True))
        batch.add_column(_at("wake_at", nullable=True))
        batch.add_column(_text("executor", 64, ""))
        batch.create_index("ix_workflow_case_wake", ["location_id", "wake_at"])
        batch.create_index("ix_workflow_case_state", ["location_id", "state", "workflow"])
        batch.create_index("ix_workflow_case_patient", ["patient_id"])
    op.create_table(
        "case_step",
        _text("case_id", 32),
        _text("name", 64),
        _text("location_id", 32),
        _text("state", 16),
        sa.Column("result", sa.JSON, nullable=True),
        _at("started_at"),
        _at("done_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["case_id"], ["workflow_case.id"], name=op.f("fk_case_step_case_id_workflow_case")
        ),
        sa.PrimaryKeyConstraint("case_id", "name", name=op.f("pk_case_step")),
    )
    op.create_table(
        "case_entry",
        _text("id", 32),
        _text("location_id", 32),
        _text("case_id", 32),
        _at("at"),
        _text("kind", 32),
        _text("stage", 64, ""),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id"], ["workflow_case.id"], name=op.f("fk_case_entry_case_id_workflow_case")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_entry")),
    )
    op.create_index("ix_case_entry_case", "case_entry", ["case_id", "at"])
    op.create_table(
        "case_signal",
        _text("id", 32),
        _text("location_id", 32),
        _text("case_id", 32),
        _text("topic", 64),
        _text("delivery_id", 128),
        sa.Column("payload", sa.JSON, nullable=False),
        _at("at"),
        _at("taken_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["case_id"], ["workflow_case.id"], name=op.f("fk_case_signal_case_id_workflow_case")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_signal")),
        sa.UniqueConstraint(
            "case_id", "delivery_id", name=op.f("uq_case_signal_case_id_delivery_id")
        ),
    )
    op.create_table(
        "approval",
        _text("id", 32),
        _text("location_id", 32),
        _text("case_id", 32),
        _text("kind", 48),
        _text("title", 128),
        _text("right", 48),
        sa.Column("draft", sa.JSON, nullable=False),
        _text("state", 16),
        sa.Column("decided_draft", sa.JSON, nullable=True),
        _text("decided_by", 64, ""),
        _at("decided_at", nullable=True),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        _at("due_at", nullable=True),
        _text("escalate_to", 32, ""),
        _at("escalated_at", nullable=True),
        _at("created_at"),
        sa.ForeignKeyConstraint(
            ["case_id"], ["workflow_case.id"], name=op.f("fk_approval_case_id_workflow_case")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval")),
    )
    op.create_index("ix_approval_state", "approval", ["location_id", "state", "created_at"])
    op.create_index("ix_approval_case", "approval", ["case_id"])
    op.create_table(
        "workflow_switch",
        _text("location_id", 32),
        _text("scope", 96),
        sa.Column("is_paused", sa.Boolean, nullable=False),
        _text("reason", 255, ""),
        _text("changed_by", 64),
        _at("changed_at"),
        sa.PrimaryKeyConstraint("location_id", "scope", name=op.f("pk_workflow_switch")),
    )
    op.create_table(
        "partner_pace",
        _text("location_id", 32),
        _text("partner", 64),
        _at("next_at"),
        sa.PrimaryKeyConstraint("location_id", "partner", name=op.f("pk_partner_pace")),
    )
    op.create_table(
        "hook_cursor",
        _text("location_id", 32),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("location_id", name=op.f("pk_hook_cursor")),
    )
    op.create_table(
        "executor_beat",
        _text("location_id", 32),
        _text("executor", 64),
        _at("beat_at"),
        sa.PrimaryKeyConstraint("location_id", "executor", name=op.f("pk_executor_beat")),
    )


def downgrade() -> None:
    for table in ("executor_beat", "hook_cursor", "partner_pace", "workflow_switch", "approval"):
        op.drop_table(table)
    for table in ("case_signal", "case_entry", "case_step"):
        op.drop_table(table)
    with op.batch_alter_table("workflow_case") as batch:
        for index in (
            "ix_workflow_case_wake",
            "ix_workflow_case_state",
            "ix_workflow_case_patient",
        ):
            batch.drop_index(index)
        batch.drop_constraint(op.f("fk_workflow_case_patient_id_patient"), type_="foreignkey")
        for column in (
            "patient_id",
            "stage",
            "leg",
            "attempts",
            "waits",
            "woken_by",
            "wake_at",
            "executor",
        ):
            batch.drop_column(column)
