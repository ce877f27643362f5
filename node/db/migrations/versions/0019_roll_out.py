"""Roll-out: rules, acknowledgements, reports, automatic entries, calibration by decisions."""

import sqlalchemy as sa
from alembic import op

from node.db.tables import UtcDateTime

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_TABLES = (
    "rollout_rule",
    "installed_model",
    "rollout_report",
    "rollout_acknowledgement",
    "acknowledged_model",
    "silent_reading",
    "auto_entry",
    "calibration_version",
)
_CALIBRATED = ("analysis_run", "finding")


def upgrade() -> None:
    op.create_table(
        "rollout_rule",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(96), nullable=False),
        sa.Column("operatory", sa.String(64), nullable=False, server_default=""),
        sa.Column("provider", sa.String(64), nullable=False, server_default=""),
        sa.Column("view", sa.String(16), nullable=False, server_default=""),
        sa.Column("lab", sa.String(64), nullable=False, server_default=""),
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("is_ceiling", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("reason", sa.String(255), nullable=False, server_default=""),
        sa.Column("set_by", sa.String(64), nullable=False),
        sa.Column("set_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.String(64), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout_rule")),
    )
    op.create_index(op.f("ix_rollout_rule_standing"), "rollout_rule", ["location_id", "ended_at"])
    op.create_table(
        "installed_model",
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("card_digest", sa.String(64), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("is_live", sa.Boolean(), nullable=False),
        sa.Column("seen_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("location_id", "name", "version", name=op.f("pk_installed_model")),
    )
    op.create_table(
        "rollout_report",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("studies", sa.Integer(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("made_by", sa.String(64), nullable=False),
        sa.Column("made_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout_report")),
    )
    op.create_index(op.f("ix_rollout_report_made"), "rollout_report", ["location_id", "made_at"])
    op.create_table(
        "rollout_acknowledgement",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("report_id", sa.String(32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("given_by", sa.String(32), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("given_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_by", sa.String(64), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout_acknowledgement")),
        sa.ForeignKeyConstraint(
            ["report_id"],
            ["rollout_report.id"],
            name=op.f("fk_rollout_acknowledgement_report_id_rollout_report"),
        ),
        sa.ForeignKeyConstraint(
            ["given_by"],
            ["user_account.id"],
            name=op.f("fk_rollout_acknowledgement_given_by_user_account"),
        ),
    )
    op.create_index(
        op.f("ix_rollout_acknowledgement_given"),
        "rollout_acknowledgement",
        ["location_id", "given_at"],
    )
    op.create_table(
        "acknowledged_model",
        sa.Column("acknowledgement_id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("card_digest", sa.String(64), nullable=False),
        sa.Column("is_carried", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint(
            "acknowledgement_id", "name", "version", name=op.f("pk_acknowledged_model")
        ),
        sa.ForeignKeyConstraint(
            ["acknowledgement_id"],
            ["rollout_acknowledgement.id"],
            name=op.f("fk_acknowledged_model_acknowledgement_id_rollout_acknowledgement"),
        ),
    )
    op.create_table(
        "silent_reading",
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("study_id", "version", name=op.f("pk_silent_reading")),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_silent_reading_study_id_study")
        ),
    )
    op.create_table(
        "auto_entry",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("instance_id", sa.String(32), nullable=True),
        sa.Column("tag", sa.String(16), nullable=False),
        sa.Column("value", sa.String(255), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("is_sampled", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("decided_by", sa.String(64), nullable=False, server_default=""),
        sa.Column("decided_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("entered_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auto_entry")),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_auto_entry_study_id_study")
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_auto_entry_instance_id_instance")
        ),
    )
    op.create_index(op.f("ix_auto_entry_study"), "auto_entry", ["study_id"])
    op.create_index(
        op.f("ix_auto_entry_state"), "auto_entry", ["location_id", "state", "entered_at"]
    )
    op.create_table(
        "calibration_version",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("made_by", sa.String(64), nullable=False),
        sa.Column("made_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.String(64), nullable=False, server_default=""),
        sa.Column("decided_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(255), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibration_version")),
        sa.UniqueConstraint(
            "location_id", "version", name=op.f("uq_calibration_version_location_id_version")
        ),
    )
    for name in _CALIBRATED:
        op.add_column(name, sa.Column("calibration", sa.Integer(), nullable=True))


def downgrade() -> None:
    for name in _CALIBRATED:
        with op.batch_alter_table(name) as table:
            table.drop_column("calibration")
    for name in reversed(_TABLES):
        op.drop_table(name)
