"""Parts of the audit may be closed: their rows leave for a file, and only behind a checkpoint."""

import sqlalchemy as sa
from alembic import op

from node.db.tables import UtcDateTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_WORDS = "the audit is append-only"
_REFUSE = f"BEGIN SELECT RAISE(ABORT, '{_WORDS}'); END"
_CLOSED = "COALESCE((SELECT MAX(last_seq) FROM audit_checkpoint), 0)"


def upgrade() -> None:
    op.create_table(
        "audit_checkpoint",
        sa.Column(
            "last_seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("location_id", sa.String(length=32), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_hash", sa.String(length=64), nullable=False),
        sa.Column("file", sa.String(length=128), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("last_seq", name=op.f("pk_audit_checkpoint")),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_subject", "audit", ["subject"])
    if op.get_bind().dialect.name == "sqlite":
        _protect_sqlite()
    else:
        _protect_postgresql()


def _protect_sqlite() -> None:
    op.execute("DROP TRIGGER IF EXISTS audit_no_delete")
    op.execute(
        f"CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit WHEN OLD.seq > {_CLOSED} " + _REFUSE
    )
    # INSERT OR REPLACE removes rows without asking the trigger above
    op.execute(
        "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit "
        "WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq OR hash = NEW.hash) "
        "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    )
    op.execute(
        "CREATE TRIGGER audit_checkpoint_no_replace BEFORE INSERT ON audit_checkpoint "
        "WHEN EXISTS (SELECT 1 FROM audit_checkpoint WHERE last_seq >= NEW.last_seq) "
        "BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    )
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_checkpoint_no_{verb.lower()} BEFORE {verb} ON audit_checkpoint "
            + _REFUSE
        )


def _protect_postgresql() -> None:
    op.execute("DROP TRIGGER audit_append_only ON audit")
    op.execute(
        "CREATE FUNCTION audit_closed_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF OLD.seq > {_CLOSED} THEN RAISE EXCEPTION '{_WORDS}'; END IF; "
        "RETURN OLD; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
    )
    op.execute(
        "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_closed_only()"
    )
    op.execute(
        "CREATE TRIGGER audit_checkpoint_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
        "ON audit_checkpoint FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
    )


def downgrade() -> None:
    """Give the triggers of before back; what was archived stays in its files."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER audit_no_replace")
        op.execute("DROP TRIGGER audit_no_delete")
        op.execute("CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit " + _REFUSE)
    else:
        op.execute("DROP TRIGGER audit_no_delete ON audit")
        op.execute("DROP TRIGGER audit_append_only ON audit")
        op.execute("DROP FUNCTION audit_closed_only()")
        op.execute(
            "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
        )
    op.drop_index("ix_audit_subject", table_name="audit")
    op.drop_index("ix_audit_at", table_name="audit")
    op.drop_table("audit_checkpoint")
