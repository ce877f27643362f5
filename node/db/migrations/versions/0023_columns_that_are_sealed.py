"""Room for sealed values, and the start of family names to look for.

SQLite does not look at the type of a column, so nothing but PostgreSQL's columns is altered; values
stay plain until `bitewing encrypt-data`.
"""

import base64

import sqlalchemy as sa
from alembic import op

from node.errors import Unsupported

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_TEXTS = {
    "patient": ("pms_key",),
    "patient_identity": ("family_name", "given_name", "middle_name", "name_key"),
    "appointment": ("description",),
    "worklist_item": ("description",),
    "pms_record": ("pms_key", "patient_key", "digest"),
    "study_identity": ("patient_name", "patient_id_text", "birth_date"),
    "retraction": ("reason",),
    "review": ("reason",),
    "pms_command": ("error",),
    "approval": ("title",),
    "patient_contact": ("email", "mobile", "guarantor_key"),
    "contact_choice": ("address_digest",),
    "message": ("address_digest",),
    "message_reply": ("address_digest",),
    "emergency_access": ("reason",),
}
_JSON = {
    "patient": ("raw",),
    "appointment": ("raw",),
    "procedure": ("raw",),
    "pms_record": ("record", "raw"),
    "operation": ("data", "before"),
    "retraction": ("steps",),
    "review": ("content",),
    "pms_command": ("payload", "receipt"),
    "workflow_case": ("woken_by", "data"),
    "case_step": ("result",),
    "case_signal": ("payload",),
    "approval": ("draft", "decided_draft"),
}
_BATCH = 500


def upgrade() -> None:
    conn = op.get_bind()
    if conn.dialect.name == "postgresql":
        for table, columns in [*_TEXTS.items(), *_JSON.items()]:
            for column in columns:
                _as_text(table, column, f'"{column}"::text')
        _as_text("patient_identity", "birth_date", "to_char(birth_date, 'YYYY-MM-DD')")
        _as_text("payer_mail", "content", "encode(content, 'base64')")
    else:
        _mail_as_text(conn)
    with op.batch_alter_table("patient_identity") as batch:
        batch.add_column(sa.Column("name_start", sa.Text, nullable=False, server_default=""))
    op.create_index("ix_patient_identity_start", "patient_identity", ["location_id", "name_start"])
    _fill_starts(conn)


def downgrade() -> None:
    raise Unsupported("what is sealed does not fit into the columns of before: restore a backup")


def _as_text(table: str, column: str, using: str) -> None:
    op.alter_column(table, column, type_=sa.Text(), postgresql_using=using)


def _mail_as_text(conn: sa.Connection) -> None:
    mail = sa.table("payer_mail", sa.column("id"), sa.column("content"))
    for (row_id,) in conn.execute(sa.select(mail.c.id)).all():
        content = conn.execute(sa.select(mail.c.content).where(mail.c.id == row_id)).scalar_one()
        text = base64.b64encode(content).decode("ascii")
        conn.execute(sa.update(mail).where(mail.c.id == row_id).values(content=text))


def _fill_starts(conn: sa.Connection) -> None:
    people = sa.table("patient_identity", sa.column("patient_id"), *map(sa.column, _NAMES))
    rows = conn.execute(sa.select(people.c.patient_id, people.c.name_key)).all()
    for at in range(0, len(rows), _BATCH):
        conn.execute(
            sa.update(people)
            .where(people.c.patient_id == sa.bindparam("key"))
            .values(name_start=sa.bindparam("start")),
            [
                {"key": row.patient_id, "start": row.name_key.partition("^")[0][:3]}
                for row in rows[at : at + _BATCH]
            ],
        )


_NAMES = ("name_key", "name_start")
