"""A payer's answer as it came, for the person who reads it because the program was not sure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response

from node.db.session import Actor, begin
from node.domain.rights import Right
from node.errors import BitewingError, InvalidInput, outcome
from orchestration.payers.mail import read_mail

PATH = "/api/payers/mail"


class Person(Protocol):
    """Who asks: a signed-in session of the web."""

    @property
    def actor(self) -> Actor: ...  # noqa: D102


def page_path(mail_id: str) -> str:
    """Give the address of one answer on this node."""
    return f"{PATH}/{mail_id}"


def make_router(
    db: sa.Engine, location_id: str, require: Callable[[Right], Callable[[Request], Person]]
) -> APIRouter:
    """Make ``GET /api/payers/mail/{id}``, for whoever may approve pre-authorisations; audited."""
    router = APIRouter()
    approve = Depends(require(Right.PREAUTHS_APPROVE))

    @router.get(f"{PATH}/{{mail_id}}")
    def show(mail_id: str, person: Person = approve) -> Response:
        try:
            if len(mail_id) != 32 or not mail_id.isalnum():
                raise InvalidInput("not the id of an answer")
            mail = read_mail(db, location_id, mail_id)
        except BitewingError as error:
            return Response(status_code=outcome(error).http_status)
        with begin(db, person.actor, "payer.mail_read") as tx:
            tx.record(f"payer-mail:{mail_id}")
        is_pdf = mail.content.startswith(b"%PDF")
        headers = {
            "content-disposition": "inline",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
        }
        media_type = "application/pdf" if is_pdf else "text/plain; charset=latin-1"
        return Response(mail.content, media_type=media_type, headers=headers)

    return router
