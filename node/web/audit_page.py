"""The audit for whoever examines it: search by person, patient, study, action and day; export.

Filters go in the body, so that no patient's number stands in an address. Looking at the audit is
itself audited.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from node.db import audit
from node.db.audit_export import Form, export_links, write_export
from node.db.audit_search import Wanted, find_rows
from node.db.session import read
from node.db.tables import user_account
from node.domain.rights import Right
from node.web.accounts import Session
from node.web.auth import Web, WebDep, audit_read, require

_SHOWN = 100
#: Rows of the audit that one export of the page may reach over; the command line takes more.
_MOST_EXPORTED = 200_000
_TYPES: dict[Form, str] = {"json": "application/json", "csv": "text/csv; charset=utf-8"}

router = APIRouter(prefix="/api/audit")
Examiner = Annotated[Session, Depends(require(Right.AUDIT_SEE))]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AuditSearch(_Shape):
    """What is looked for; days are the practice's, the last one included."""

    user: str = Field("", max_length=64)
    patient: str = Field("", max_length=64)
    study: str = Field("", max_length=64)
    action: str = Field("", max_length=64)
    since: date | None = None
    until: date | None = None
    before_seq: int | None = Field(None, ge=1)


class AuditExport(AuditSearch):
    """The same as a file."""

    form: Form = "json"


class AuditLine(_Shape):
    """One entry; `who` is an account's name, or a part of the program."""

    seq: int
    at: datetime
    who: str
    action: str
    subject: str
    detail: dict[str, JsonValue]


class AuditFound(_Shape):
    """Entries, the newest first; `next_before` asks for those before them."""

    rows: tuple[AuditLine, ...]
    next_before: int | None
    head_seq: int
    head_hash: str


@router.post("/search")
def post_search(body: AuditSearch, web: WebDep, session: Examiner) -> AuditFound:
    """Find entries, a page at a time."""
    wanted = _wanted(web, body)
    with read(web.db) as conn:
        rows = find_rows(conn, wanted, before_seq=body.before_seq, most=_SHOWN)
        head = audit.read_head(conn)
        names = _names(conn, [str(row.actor) for row in rows])
    _note(web, session, "audit.searched", body, len(rows))
    return AuditFound(
        rows=tuple(
            AuditLine(
                seq=row.seq,
                at=row.at,
                who=names.get(row.actor, row.actor),
                action=row.action,
                subject=row.subject,
                detail=row.detail,
            )
            for row in rows
        ),
        next_before=rows[-1].seq if len(rows) == _SHOWN else None,
        head_seq=head.seq,
        head_hash=head.hash,
    )


@router.post("/export", response_class=Response)
def post_export(body: AuditExport, web: WebDep, session: Examiner) -> Response:
    """Give entries as a file that proves their place in the chain."""
    wanted = _wanted(web, body)
    _note(web, session, "audit.exported", body, 0)
    file = io.StringIO(newline="")
    with read(web.db) as conn:
        write_export(file, body.form, export_links(conn, wanted, _MOST_EXPORTED))
    headers = {"Content-Disposition": f'attachment; filename="audit.{body.form}"'}
    return Response(file.getvalue(), media_type=_TYPES[body.form], headers=headers)


def _wanted(web: Web, body: AuditSearch) -> Wanted:
    zone = web.config.zone

    def midnight(day: date | None) -> datetime | None:
        return datetime.combine(day, time(), zone) if day else None

    last = body.until + timedelta(days=1) if body.until else None
    return Wanted(
        web.location_id,
        user=body.user.strip(),
        patient=body.patient.strip(),
        study=body.study.strip(),
        action=body.action.strip(),
        since=midnight(body.since),
        until=midnight(last),
    )


def _note(web: Web, session: Session, action: str, body: AuditSearch, found: int) -> None:
    """Write down who examined the audit for what; ids of the practice and ours, no names."""
    asked = body.model_dump(mode="json", exclude_defaults=True, exclude={"form", "before_seq"})
    audit_read(web, session, action, "audit", found=found, asked=asked)


def _names(conn: sa.Connection, actors: Sequence[str]) -> dict[str, str]:
    rows = conn.execute(
        sa.select(user_account.c.id, user_account.c.username).where(
            user_account.c.id.in_(set(actors))
        )
    )
    return {row.id: row.username for row in rows}
