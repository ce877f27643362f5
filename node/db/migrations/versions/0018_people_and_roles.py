"""Second factors, how sessions began, tokens of programs, sign-in services, emergencies."""

import sqlalchemy as sa
from alembic import op

import node.db.tables

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_ACCOUNT = ("lockouts", "must_change_password", "totp_secret", "totp_at", "totp_step")
_PMS = ("pms_user_key", "provider_key")
_SESSION = ("method", "address", "agent")
_TABLES = ("emergency_access", "api_token", "sign_in_flow", "external_login", "recovery_code")


def _id(name: str = "id", nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(32), nullable=nullable)


def _text(name: str, length: int, server_default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False, server_default=server_default)


def _at(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, node.db.tables.UtcDateTime(timezone=True), nullable=nullable)


def _user(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_user_id_user_account")
    return sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=name)


def _pk(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def upgrade() -> None:
    with op.batch_alter_table("user_account") as table:
        table.add_column(sa.Column("lockouts", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(
            sa.Column(
                "must_change_password", sa.Boolean(), nullable=False, server_default=sa.false()
            )
        )
        table.add_column(_text("totp_secret", 255, server_default=""))
        table.add_column(_at("totp_at", nullable=True))
        table.add_column(
            sa.Column("totp_step", sa.BigInteger(), nullable=False, server_default="0")
        )
        for name in _PMS:
            table.add_column(_text(name, 64, server_default=""))
    with op.batch_alter_table("web_session") as table:
        table.add_column(_text("method", 16, server_default="password"))
        table.add_column(_text("address", 64, server_default=""))
        table.add_column(_text("agent", 128, server_default=""))
    op.create_table(
        "recovery_code",
        _text("digest", 64),
        _id("location_id"),
        _id("user_id"),
        _at("created_at"),
        _at("used_at", nullable=True),
        _user("recovery_code"),
        _pk("recovery_code", "digest"),
    )
    op.create_table(
        "external_login",
        _id("location_id"),
        _text("issuer", 255),
        _text("subject", 255),
        _id("user_id"),
        _at("created_at"),
        _user("external_login"),
        _pk("external_login", "location_id", "issuer", "subject"),
    )
    op.create_table(
        "sign_in_flow",
        _text("state_digest", 64),
        _id("location_id"),
        _text("browser_digest", 64),
        _text("nonce", 64),
        _text("verifier", 128),
        _text("next_path", 255),
        _at("created_at"),
        _at("used_at", nullable=True),
        _pk("sign_in_flow", "state_digest"),
    )
    op.create_table(
        "api_token",
        _id(),
        _id("location_id"),
        _id("user_id"),
        _text("name", 64),
        _text("digest", 64),
        sa.Column("rights", sa.JSON(), nullable=False),
        _id("created_by"),
        _at("created_at"),
        _at("expires_at"),
        _at("last_used_at", nullable=True),
        _at("revoked_at", nullable=True),
        _user("api_token"),
        sa.UniqueConstraint("digest", name=op.f("uq_api_token_digest")),
        _pk("api_token", "id"),
    )
    op.create_table(
        "emergency_access",
        _id(),
        _id("location_id"),
        _id("user_id"),
        _id("study_id"),
        _text("reason", 500),
        _at("at"),
        _at("expires_at"),
        _id("reviewed_by", nullable=True),
        _at("reviewed_at", nullable=True),
        _user("emergency_access"),
        _pk("emergency_access", "id"),
    )
    op.create_index(
        "ix_emergency_access_user", "emergency_access", ["location_id", "user_id", "study_id"]
    )


def downgrade() -> None:
    for name in _TABLES:
        op.drop_table(name)
    with op.batch_alter_table("web_session") as table:
        for name in _SESSION:
            table.drop_column(name)
    with op.batch_alter_table("user_account") as table:
        for name in (*_ACCOUNT, *_PMS):
            table.drop_column(name)
