"""Performed steps, storage commitment, forwarding of images, fetched priors, imported files."""

import sqlalchemy as sa
from alembic import op

import node.db.tables

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def _id(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(32), nullable=nullable)


def _text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False)


def _text_or_empty(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, server_default="")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default="0")


def _at(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, node.db.tables.UtcDateTime(timezone=True), nullable=nullable)


def _fk(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{target}")
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=name)


def _pk(table: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}"))


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def upgrade() -> None:
    with op.batch_alter_table("worklist_item") as table:
        table.add_column(_text_or_empty("performed", 16))
    with op.batch_alter_table("study") as table:
        table.add_column(
            sa.Column("is_prior", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        table.add_column(sa.Column("routed_generation", sa.Integer(), nullable=True))
    # what was there before is not sent anywhere because of an upgrade
    op.execute("UPDATE study SET routed_generation = generation")
    op.create_table(
        "performed_step",
        _id("id"),
        _id("location_id"),
        _text("sop_instance_uid", 64),
        _text("state", 16),
        _text_or_empty("study_instance_uid", 64),
        _text_or_empty("modality", 16),
        _text_or_empty("station_ae_title", 16),
        sa.Column("image_uids", sa.JSON(), nullable=False),
        _text_or_empty("reason", 64),
        _text("match_state", 16),
        _text_or_empty("match_reason", 255),
        _id("patient_id", nullable=True),
        _id("appointment_id", nullable=True),
        _id("worklist_item_id", nullable=True),
        sa.Column("messages", sa.JSON(), nullable=False),
        _text_or_empty("sender_ae_title", 16),
        _at("started_at"),
        _at("ended_at", nullable=True),
        _fk("performed_step", "patient_id", "patient"),
        _fk("performed_step", "appointment_id", "appointment"),
        _fk("performed_step", "worklist_item_id", "worklist_item"),
        _pk("performed_step"),
        _unique("performed_step", "location_id", "sop_instance_uid"),
    )
    op.create_index(
        "ix_performed_step_study", "performed_step", ["location_id", "study_instance_uid"]
    )
    op.create_table(
        "commitment",
        _id("id"),
        _id("location_id"),
        _text("role", 8),
        _text("peer", 32),
        _text("transaction_uid", 64),
        _text("state", 16),
        sa.Column("objects", sa.JSON(), nullable=False),
        sa.Column("failures", sa.JSON(), nullable=False),
        _count("attempts"),
        _text_or_empty("error", 255),
        _at("created_at"),
        _at("updated_at"),
        _pk("commitment"),
        _unique("commitment", "location_id", "role", "peer", "transaction_uid"),
    )
    op.create_index("ix_commitment_state", "commitment", ["location_id", "role", "state"])
    op.create_table(
        "image_delivery",
        _id("id"),
        _id("location_id"),
        _id("instance_id"),
        _text("peer", 32),
        _text("state", 16),
        _count("attempts"),
        _text_or_empty("error", 255),
        _at("updated_at"),
        _fk("image_delivery", "instance_id", "instance"),
        _pk("image_delivery"),
        _unique("image_delivery", "instance_id", "peer"),
    )
    op.create_index("ix_image_delivery_state", "image_delivery", ["location_id", "peer", "state"])
    op.create_table(
        "prior_fetch",
        _id("id"),
        _id("location_id"),
        _id("appointment_id"),
        _id("patient_id"),
        _text("peer", 32),
        _text("state", 16),
        _count("found"),
        _count("fetched"),
        _text_or_empty("error", 255),
        _at("created_at"),
        _at("updated_at"),
        _fk("prior_fetch", "appointment_id", "appointment"),
        _fk("prior_fetch", "patient_id", "patient"),
        _pk("prior_fetch"),
        _unique("prior_fetch", "appointment_id", "peer"),
    )
    op.create_table(
        "import_file",
        _id("id"),
        _id("location_id"),
        _text("sha256", 64),
        _text("kind", 16),
        _text("state", 16),
        _text_or_empty("reason", 255),
        _id("instance_id", nullable=True),
        _at("at"),
        _fk("import_file", "instance_id", "instance"),
        _pk("import_file"),
        _unique("import_file", "location_id", "sha256"),
    )


def downgrade() -> None:
    for name in ("import_file", "prior_fetch", "image_delivery", "commitment", "performed_step"):
        op.drop_table(name)
    with op.batch_alter_table("study") as table:
        table.drop_column("routed_generation")
        table.drop_column("is_prior")
    with op.batch_alter_table("worklist_item") as table:
        table.drop_column("performed")
