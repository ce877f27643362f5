"""How people are reached and what they chose; messages and replies; links; recall's rows."""

import sqlalchemy as sa
from alembic import op

import node.db.tables

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _id(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(32), nullable=nullable)


def _at(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, node.db.tables.UtcDateTime(timezone=True), nullable=nullable)


def _pk(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _fk(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name)


def upgrade() -> None:
    op.create_table(
        "patient_contact",
        _id("patient_id"),
        _id("location_id"),
        sa.Column("email", sa.String(254), nullable=False, server_default=""),
        sa.Column("mobile", sa.String(32), nullable=False, server_default=""),
        sa.Column("text_allowed", sa.String(8), nullable=False, server_default=""),
        sa.Column("contact_method", sa.String(32), nullable=False, server_default=""),
        sa.Column("recall_method", sa.String(32), nullable=False, server_default=""),
        sa.Column("language", sa.String(32), nullable=False, server_default=""),
        sa.Column("guarantor_key", sa.String(64), nullable=False, server_default=""),
        _fk("patient_contact", "patient_id", "patient"),
        _pk("patient_contact", "patient_id"),
    )
    op.create_table(
        "contact_choice",
        _id("id"),
        _id("location_id"),
        sa.Column("key", sa.String(128), nullable=False),
        _id("patient_id", nullable=True),
        sa.Column("address_digest", sa.String(32), nullable=False, server_default=""),
        sa.Column("scope", sa.String(8), nullable=False),
        sa.Column("choice", sa.String(8), nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        _at("at"),
        _fk("contact_choice", "patient_id", "patient"),
        _pk("contact_choice", "id"),
        sa.UniqueConstraint("location_id", "key", name=op.f("uq_contact_choice_location_id_key")),
    )
    op.create_index(
        "ix_contact_choice_address", "contact_choice", ["location_id", "address_digest"]
    )
    op.create_index("ix_contact_choice_patient", "contact_choice", ["location_id", "patient_id"])
    op.create_table(
        "message",
        _id("id"),
        _id("location_id"),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("channel", sa.String(8), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        _id("patient_id", nullable=True),
        _id("case_id", nullable=True),
        sa.Column("template", sa.String(64), nullable=False, server_default=""),
        sa.Column("address_digest", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("provider_id", sa.String(128), nullable=False, server_default=""),
        sa.Column("error", sa.String(255), nullable=False, server_default=""),
        _at("created_at"),
        _at("updated_at"),
        _fk("message", "case_id", "workflow_case"),
        _fk("message", "patient_id", "patient"),
        _pk("message", "id"),
        sa.UniqueConstraint("location_id", "key", name=op.f("uq_message_location_id_key")),
    )
    op.create_index("ix_message_patient", "message", ["location_id", "patient_id", "created_at"])
    op.create_index("ix_message_provider", "message", ["location_id", "provider_id"])
    op.create_table(
        "message_reply",
        _id("id"),
        _id("location_id"),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("channel", sa.String(8), nullable=False),
        sa.Column("address_digest", sa.String(32), nullable=False),
        _id("patient_id", nullable=True),
        sa.Column("meaning", sa.String(16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        _at("at"),
        _fk("message_reply", "patient_id", "patient"),
        _pk("message_reply", "id"),
        sa.UniqueConstraint("location_id", "key", name=op.f("uq_message_reply_location_id_key")),
    )
    op.create_index(
        "ix_message_reply_patient", "message_reply", ["location_id", "patient_id", "at"]
    )
    op.create_table(
        "link_use",
        sa.Column("digest", sa.String(64), nullable=False),
        _id("location_id"),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        _at("used_at"),
        _pk("link_use", "digest"),
    )
    op.create_table(
        "recall_policy",
        _id("id"),
        _id("location_id"),
        sa.Column("segment", sa.String(32), nullable=False),
        sa.Column("template", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        _id("approved_by"),
        sa.Column("reason", sa.String(255), nullable=False),
        _at("approved_at"),
        _at("ends_at"),
        _at("revoked_at", nullable=True),
        sa.Column("revoked_by", sa.String(64), nullable=False, server_default=""),
        _fk("recall_policy", "approved_by", "user_account"),
        _pk("recall_policy", "id"),
    )
    op.create_index(
        "ix_recall_policy_segment", "recall_policy", ["location_id", "segment", "template"]
    )
    op.create_table(
        "recall_trial",
        _id("location_id"),
        sa.Column("case_key", sa.String(128), nullable=False),
        sa.Column("arm", sa.String(8), nullable=False),
        sa.Column("seed", sa.String(64), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("delay_days", sa.Integer(), nullable=False),
        _at("assigned_at"),
        _at("booked_at", nullable=True),
        _pk("recall_trial", "location_id", "case_key"),
    )
    # Patients that we know already are read once more: how they are reached was not kept before.
    op.execute("UPDATE sync_state SET watermark = NULL WHERE resource = 'schedule'")


def downgrade() -> None:
    for table in (
        "recall_trial",
        "recall_policy",
        "link_use",
        "message_reply",
        "message",
        "contact_choice",
        "patient_contact",
    ):
        op.drop_table(table)
