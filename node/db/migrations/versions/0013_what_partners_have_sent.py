"""Keep which webhooks have come, once each."""

import sqlalchemy as sa
from alembic import op

from node.db.tables import UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("delivery_id", sa.String(128), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_delivery")),
        sa.UniqueConstraint(
            "location_id",
            "source",
            "delivery_id",
            name=op.f("uq_webhook_delivery_location_id_source_delivery_id"),
        ),
    )


def downgrade() -> None:
    op.drop_table("webhook_delivery")
