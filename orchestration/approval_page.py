"""The page behind a one-time link to an approval: the draft, and two buttons that decide it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element, SubElement

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from node.db.session import Actor, begin, read
from node.db.tables import approval, user_account
from node.domain.rights import Open, Right
from node.domain.rights import rights_of as rights_of_role
from node.errors import BitewingError, Forbidden, InvalidInput, outcome
from orchestration import approvals
from orchestration.messengers.links import Link, LinkKey, Purpose, was_used
from orchestration.plain_page import Form, page
from orchestration.runner import Runner
from orchestration.workflow import Json

PATH = "/approve"
_MAX_FORM = 16_384
_LATER = ["This did not work just now. Please try again later."]


def make_router(runner: Runner, key: LinkKey) -> APIRouter:
    """Make ``GET`` and ``POST /approve/{token}``; looking uses nothing up, deciding does."""
    router = APIRouter(
        dependencies=[Depends(Open("a signed link, and the right of the person it was made for"))]
    )
    practice = runner.config.node.practice_name

    @router.get(f"{PATH}/{{token}}", include_in_schema=False)
    def show(token: str) -> Response:
        try:
            link = key.look(token, Purpose.APPROVE, runner.clock())
            title, draft, is_held = _read(runner, link, token)
        except BitewingError as error:
            return page(practice, [_sentence(error)], status=outcome(error).http_status)
        words = [title, f"{approvals.HELD[0].upper()}{approvals.HELD[1:]}."] if is_held else [title]
        return page(practice, words, form=_decision(draft, is_held))

    @router.post(f"{PATH}/{{token}}", include_in_schema=False)
    async def decide(token: str, request: Request) -> Response:
        try:
            said = await _fields(request)
            verdict, reason = said.get("verdict", ""), said.get("reason", "")
            await run_in_threadpool(_decide, runner, key, token, verdict, reason)
        except BitewingError as error:
            status = outcome(error).http_status
            words = _LATER if status == 503 else [_sentence(error)]
            return page(practice, words, status=status)
        return page(practice, ["Thank you. Your decision is recorded."])

    return router


async def _fields(request: Request) -> dict[str, str]:
    """Read the form as browsers send it, URL-encoded. Raises InvalidInput when it is none."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM:
            raise InvalidInput("this is too long")
    try:
        return dict(parse_qsl(body.decode("ascii", "replace"), max_num_fields=10))
    except ValueError:
        raise InvalidInput("this is no decision") from None


def _decide(runner: Runner, key: LinkKey, token: str, verdict: str, reason: str) -> None:
    link = key.look(token, Purpose.APPROVE, runner.clock())
    with begin(runner.db, Actor(link.holder, runner.actor.location_id), "approval.decided") as tx:
        key.redeem(tx, token, Purpose.APPROVE)
        approvals.decide(
            tx, runner.engine, runner.workflows, link.subject, by=link.holder,
            rights=rights_of(tx.conn, runner, link.holder), verdict=verdict, reason=reason,
        )  # fmt: skip
        approvals.demand_let_in(tx.conn, runner.config, link.subject, verdict)


def rights_of(conn: sa.Connection, runner: Runner, user_id: str) -> frozenset[Right]:
    """Read what a person may do today; somebody who left may do nothing."""
    role = conn.execute(
        sa.select(user_account.c.role).where(
            user_account.c.id == user_id,
            user_account.c.location_id == runner.actor.location_id,
            user_account.c.is_active,
        )
    ).scalar()
    return rights_of_role(role)


def _read(runner: Runner, link: Link, token: str) -> tuple[str, Mapping[str, Json], bool]:
    """Read a draft that its holder may still decide, and whether it is held; it is audited."""
    with read(runner.db) as conn:
        row = conn.execute(
            sa.select(approval).where(
                approval.c.id == link.subject,
                approval.c.location_id == runner.actor.location_id,
            )
        ).first()
        rights = rights_of(conn, runner, link.holder)
        if row is None or row.state != "waiting" or was_used(conn, token):
            raise Forbidden("this has been decided already")
        if Right(row.right) not in rights:
            raise Forbidden("you may not decide this")
        is_held = approvals.holds_silent(conn, runner.config, link.subject)
    with begin(runner.db, Actor(link.holder, runner.actor.location_id), "approval.opened") as tx:
        tx.record(f"approval:{link.subject}", by="link")
    return row.title, row.draft, is_held


def _decision(draft: Mapping[str, Json], is_held: bool) -> Form:
    def add(form: Element) -> None:
        _list(form, draft)
        label = SubElement(form, "label")
        label.text = "Reason (for a refusal)"
        SubElement(label, "input", name="reason", maxlength="2000")
        for verdict, words in (("approved", "Approve"), ("refused", "Refuse"))[is_held:]:
            attributes = {"type": "submit", "name": "verdict", "value": verdict}
            SubElement(form, "button", attributes).text = words

    return add


def _list(parent: Element, values: Mapping[str, Json]) -> None:
    terms = SubElement(parent, "dl")
    for name, value in values.items():
        if name.startswith("_"):
            continue
        SubElement(terms, "dt").text = name.replace("_", " ").capitalize()
        entry = SubElement(terms, "dd")
        if isinstance(value, Mapping):
            _list(entry, value)
        elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            _list(entry, {str(number): each for number, each in enumerate(value, start=1)})
        elif isinstance(value, list | tuple):
            entry.text = ", ".join(str(each) for each in value)
        else:
            entry.text = "–" if value in (None, "") else str(value)


def _sentence(error: BitewingError) -> str:
    words = str(error)
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."
