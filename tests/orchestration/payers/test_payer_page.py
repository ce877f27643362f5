"""The page beside a doubtful answer: only for whoever may approve, as it came, audited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa
from fastapi import FastAPI, HTTPException, Request
from fastapi.testclient import TestClient

from node.db.session import Actor, begin, new_id, read
from node.db.tables import audit, payer_mail
from node.domain.rights import RIGHTS, Right, Role
from orchestration.payers.page import make_router, page_path


@dataclass
class Desk:
    """Who sits at it."""

    role: Role
    actor: Actor = field(default_factory=lambda: Actor("user-1", "main"))


def client(db: sa.Engine, role: Role) -> TestClient:
    def require(right: Right) -> Callable[[Request], Desk]:
        def check(request: Request) -> Desk:
            if right not in RIGHTS[role]:
                raise HTTPException(403)
            return Desk(role)

        return check

    app = FastAPI()
    app.include_router(make_router(db, "main", require))
    return TestClient(app)


def keep(db: sa.Engine, content: bytes, location: str = "main") -> str:
    mail_id = new_id()
    with begin(db, Actor("test", location), "test") as tx:
        tx.conn.execute(
            payer_mail.insert().values(
                id=mail_id, location_id=location, delivery_id=mail_id, kind="EOB",
                media_type="application/pdf", content=content, state="given", at=tx.now,
            )
        )  # fmt: skip
    return mail_id


def test_the_page_is_shown_as_it_came_and_its_reading_is_kept(sqlite_database: sa.Engine) -> None:
    mail_id = keep(sqlite_database, b"%PDF-1.4 page")
    answer = client(sqlite_database, Role.FRONT_DESK).get(page_path(mail_id))
    assert (answer.status_code, answer.content) == (200, b"%PDF-1.4 page")
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["cache-control"] == "no-store"
    with read(sqlite_database) as conn:
        rows = conn.execute(
            sa.select(audit.c.subject).where(audit.c.action == "payer.mail_read")
        ).scalars().all()  # fmt: skip
    assert rows == [f"payer-mail:{mail_id}"]


@pytest.mark.parametrize("content", [b"<script>alert(1)</script>", b"ISA*00*"])
def test_what_is_no_pdf_is_plain_text(sqlite_database: sa.Engine, content: bytes) -> None:
    answer = client(sqlite_database, Role.DENTIST).get(page_path(keep(sqlite_database, content)))
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_others_see_nothing(sqlite_database: sa.Engine) -> None:
    mail_id = keep(sqlite_database, b"%PDF")
    assert client(sqlite_database, Role.AUDITOR).get(page_path(mail_id)).status_code == 403
    desk = client(sqlite_database, Role.FRONT_DESK)
    assert desk.get(page_path(keep(sqlite_database, b"%PDF", "elsewhere"))).status_code == 404
    assert desk.get(page_path("0" * 32)).status_code == 404
    assert desk.get(page_path("nonsense")).status_code == 422
