"""Keep sites, quality, orientation and operating points of an analysis, and tooth outlines."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_PARTS = ("orientation", "quality", "sites", "operating_points")


def upgrade() -> None:
    with op.batch_alter_table("analysis_run") as table:
        table.add_column(sa.Column("side", sa.String(1), nullable=False, server_default=""))
        table.add_column(sa.Column("region", sa.String(32), nullable=False, server_default=""))
        for name in _PARTS:
            table.add_column(sa.Column(name, sa.JSON(), nullable=True))
    with op.batch_alter_table("tooth_mark") as table:
        table.add_column(sa.Column("outline", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("tooth_mark") as table:
        table.drop_column("outline")
    with op.batch_alter_table("analysis_run") as table:
        for name in (*_PARTS, "region", "side"):
            table.drop_column(name)
