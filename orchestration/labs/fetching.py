"""The page where a laboratory fetches a package whose link it was mailed.

The link names a case and nobody else, and ends a week after the work is due. Looking at it shows a
button; the button gives the ZIP while the laboratory's agreement is in force, and every fetch
stands in the audit.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import cast

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse

from node.config import Config
from node.db.agreements import NoAgreement, demand
from node.db.session import Actor, begin, read
from node.db.tables import workflow_case
from node.dicom.object_file import chunks_of, size_of
from node.domain.rights import Open
from node.errors import Forbidden, Rejected
from orchestration.labs.partner import Dispatch
from orchestration.labs.source import LAB_CASE, case_key
from orchestration.messengers.links import Link, LinkKey, Purpose
from orchestration.messengers.office import public
from orchestration.plain_page import button, page
from orchestration.runner import Runner

PATH = "/lab-packages"
_AFTER_DUE = timedelta(days=7)
_LOG = logging.getLogger("bitewing")
_NO_AGREEMENT = (
    "The practice has no agreement with your laboratory in force, so this package cannot be given"
    " out. Please call the practice."
)


def package_link(config: Config, key: LinkKey, dispatch: Dispatch) -> str:
    """Make the link to a package, the same for the same package; empty without public_url.

    Raises Rejected when the work has no due date.
    """
    if dispatch.due_at is None:
        raise Rejected("a link needs a due date, after which it ends")
    link = Link(Purpose.PACKAGE, dispatch.case_number, "", dispatch.due_at + _AFTER_DUE)
    return public(config, f"{PATH}/{key.make(link)}")


def make_router(runner: Runner, key: LinkKey) -> APIRouter:
    """Make ``GET`` and ``POST /lab-packages/{token}``."""
    router = APIRouter(dependencies=[Depends(Open("a signed link"))])
    practice = runner.config.node.practice_name

    @router.get(f"{PATH}/{{token}}", include_in_schema=False)
    def show(token: str) -> Response:
        try:
            link = key.look(token, Purpose.PACKAGE, runner.clock())
        except Forbidden as error:
            return page(practice, [f"{str(error).capitalize()}."], status=403)
        return page(practice, [f"Package of case {link.subject}."], form=button("Download"))

    @router.post(f"{PATH}/{{token}}", include_in_schema=False)
    def fetch(token: str) -> Response:
        try:
            link = key.look(token, Purpose.PACKAGE, runner.clock())
        except Forbidden as error:
            return page(practice, [f"{str(error).capitalize()}."], status=403)
        try:
            found = _package(runner, link.subject)
        except NoAgreement as error:
            _LOG.warning("a package was not given out: %s", error)
            return page(practice, [_NO_AGREEMENT], status=403)
        if found is None:
            return page(practice, ["There is no such package any more."], status=404)
        with begin(runner.db, Actor("lab-link", runner.actor.location_id), "lab.fetched") as tx:
            tx.record(f"lab-case:{link.subject}")
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        package = runner.store.file(found["key"])
        name = found["name"].replace('"', "")
        return StreamingResponse(
            chunks_of(package),
            media_type="application/zip",
            headers={
                **headers,
                "Content-Length": str(size_of(package)),
                "Content-Disposition": f'attachment; filename="{name}"',
            },
        )

    return router


def _package(runner: Runner, case_number: str) -> Mapping[str, str] | None:
    """Find the stored package of exactly this round of a case that is not cancelled.

    Raises NoAgreement when its laboratory may not have it (any more).
    """
    with read(runner.db) as conn:
        data = conn.execute(
            sa.select(workflow_case.c.data).where(
                workflow_case.c.location_id == runner.actor.location_id,
                workflow_case.c.workflow == LAB_CASE,
                workflow_case.c.key == case_key(case_number),
                workflow_case.c.state != "cancelled",
            )
        ).scalar()
        lab_key = str((data or {}).get("lab", ""))
        if lab_key not in {each.key for each in runner.config.labs.partners}:
            return None  # a laboratory that is configured no more
        demand(conn, runner.config, f"lab:{lab_key}", runner.clock())
    package = cast("Mapping[str, str]", (data or {}).get("package", {}))
    return package if package.get("case") == case_number else None
