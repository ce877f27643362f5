"""Keep every answer of a payer as it came."""

import sqlalchemy as sa
from alembic import op

from node.db.tables import UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "payer_mail",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("delivery_id", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("submission_id", sa.String(128), nullable=False, server_default=""),
        sa.Column("media_type", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("case_id", sa.String(32), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id"], ["workflow_case.id"], name=op.f("fk_payer_mail_case_id_workflow_case")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payer_mail")),
        sa.UniqueConstraint(
            "location_id", "delivery_id", name=op.f("uq_payer_mail_location_id_delivery_id")
        ),
    )
    op.create_table(
        "payer_inbox",
        sa.Column("location_id", sa.String(32), nullable=False),
        sa.Column("cursor", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("location_id", name=op.f("pk_payer_inbox")),
    )


def downgrade() -> None:
    op.drop_table("payer_inbox")
    op.drop_table("payer_mail")
