"""Certificates of the local authority, legal holds, and pixels that an archive holds for us."""

import sqlalchemy as sa
from alembic import op

from node.db.tables import UtcDateTime

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def _location() -> sa.Column[str]:
    return sa.Column("location_id", sa.String(32), nullable=False)


def _at(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, UtcDateTime(), nullable=nullable)


def _words(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, server_default="")


def upgrade() -> None:
    op.create_table(
        "tls_certificate",
        sa.Column("serial", sa.String(40), nullable=False),
        _location(),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("hosts", sa.JSON(), nullable=False),
        _at("issued_at"),
        _at("expires_at"),
        _at("revoked_at", nullable=True),
        _words("reason", 255),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_tls_certificate")),
    )
    op.create_table(
        "pixel_purge",
        sa.Column("instance_id", sa.String(32), nullable=False),
        _location(),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("basis", sa.String(16), nullable=False),
        _words("transaction_uid", 64),
        sa.Column("pixel_sha256", sa.String(64), nullable=False),
        _at("purged_at"),
        _at("removed_at", nullable=True),
        _at("restored_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_pixel_purge_instance_id_instance")
        ),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_pixel_purge")),
    )
    op.create_index("ix_pixel_purge_state", "pixel_purge", ["location_id", "state"])
    op.create_table(
        "pixel_fetch",
        sa.Column("id", sa.String(32), nullable=False),
        _location(),
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        _words("error", 255),
        _at("created_at"),
        _at("updated_at"),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_pixel_fetch_study_id_study")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pixel_fetch")),
        sa.UniqueConstraint("study_id", name=op.f("uq_pixel_fetch_study_id")),
    )
    op.create_index("ix_pixel_fetch_state", "pixel_fetch", ["location_id", "state"])
    op.create_table(
        "legal_hold",
        sa.Column("id", sa.String(32), nullable=False),
        _location(),
        sa.Column("patient_id", sa.String(32), nullable=True),
        sa.Column("study_id", sa.String(32), nullable=True),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("placed_by", sa.String(64), nullable=False),
        _at("placed_at"),
        _words("released_by", 64),
        _words("release_reason", 255),
        _at("released_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.id"], name=op.f("fk_legal_hold_patient_id_patient")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_legal_hold_study_id_study")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_legal_hold")),
    )
    op.create_index("ix_legal_hold_patient", "legal_hold", ["location_id", "patient_id"])
    op.create_index("ix_legal_hold_study", "legal_hold", ["location_id", "study_id"])


def downgrade() -> None:
    for name in ("legal_hold", "pixel_fetch", "pixel_purge", "tls_certificate"):
        op.drop_table(name)
