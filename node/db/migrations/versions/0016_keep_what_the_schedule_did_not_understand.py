"""What came with patients, visits and procedures and was not understood."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_TABLES = ("patient", "appointment", "procedure")


def upgrade() -> None:
    for name in _TABLES:
        op.add_column(name, sa.Column("raw", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    for name in _TABLES:
        with op.batch_alter_table(name) as table:
            table.drop_column("raw")
