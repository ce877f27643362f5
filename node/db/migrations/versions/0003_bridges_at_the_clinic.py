"""Bridges at the clinic: enrolment tokens, certificates, what was last heard."""

import sqlalchemy as sa
from alembic import op

import node.db.tables

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = node.db.tables.UtcDateTime(timezone=True)
    op.create_table(
        "bridge_token",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("used_at", moment, nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_bridge_token")),
    )
    op.create_table(
        "bridge_certificate",
        sa.Column("serial", sa.String(40), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("issued_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("revoked_at", moment, nullable=True),
        sa.Column("reason", sa.String(255), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_bridge_certificate")),
    )
    op.create_table(
        "bridge_state",
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("is_stopped", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("offer", sa.JSON(), nullable=True),
        sa.Column("last_seen_at", moment, nullable=True),
        sa.Column("about", sa.JSON(), nullable=True),
        sa.Column("heartbeat", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("location_id", name=op.f("pk_bridge_state")),
    )


def downgrade() -> None:
    op.drop_table("bridge_state")
    op.drop_table("bridge_certificate")
    op.drop_table("bridge_token")
