"""The HTML shells with their boot block, and the files they ask for.

A shell leaves in two parts: the head first, with everything the browser can fetch meanwhile, then
the boot block once its data is composed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from node import __version__
from node.db.session import read
from node.disk import Room, disk_of
from node.domain.rights import Open, Right
from node.errors import BitewingError, ConfigError, NotFound, Retryable
from node.web.accounts import Session
from node.web.assets import release
from node.web.auth import Web, WebDep, audit_read, me_of, opaque_id, page
from node.web.facts import find_study
from node.web.first_look import first_image, placeholder, preloads
from node.web.images import Pictures, pictures_of
from node.web.patient_pages import compose_patient_page
from node.web.shapes import Boot
from node.web.studies import compose_study
from node.web.worklist import compose_worklist

_PAGES = Path(__file__).parent / "pages"
_PLACE = "<!--boot-->"
_APP = '<div id="app">'
_PRELOADS, _FRAME = "<!--preloads-->", "<!--frame-->"
_ENTRY = re.compile(r'<script type="module" src="/static/([^"]+)">')
_STYLE = re.compile(r'<link rel="stylesheet" href="/static/([^"]+)">')
_SOON = re.compile(r"<!--soon (\S+)-->\n")
_RELEASE = re.compile(r"([0-9a-f]{16})/(.+)")
#: A year: what stands below a release's address never changes.
_KEPT = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


def render(page: str, boot: Boot, notice: str = "") -> HTMLResponse:
    """Put the boot block into a page's shell, and above all a notice in plain words."""
    before, after = _shell(page)
    if notice:
        words = f'<p class="notice bar warn" role="status">{escape(notice)}</p>\n'
        before = before.replace(_APP, words + _APP)
    return HTMLResponse(before + _block(boot) + after)


def _in_parts(before: str, after: str, compose: Callable[[], Boot], empty: Boot) -> Response:
    """Send what stands already, then the boot block; what cannot be composed says why."""

    async def parts() -> AsyncIterator[str]:
        yield before
        try:
            boot = await run_in_threadpool(compose)
        except BitewingError as error:
            boot = empty.model_copy(update={"failure": str(error)})
        yield _block(boot) + after

    return StreamingResponse(parts(), media_type="text/html")


def _block(boot: Boot) -> str:
    """Write the boot block; ``<`` is escaped, so that no text in it can end it or open another."""
    data = boot.model_dump_json().replace("<", "\\u003c")
    return f'<script type="application/json" id="boot">{data}</script>'


@lru_cache(maxsize=16)
def _shell(page: str) -> tuple[str, str]:
    """Read a page's shell, before and after its boot block, with its modules named at its head."""
    text = (_PAGES / f"{page}.html").read_text(encoding="utf-8")
    entry = _ENTRY.search(text)
    assert entry is not None, "a page has one module to start from"
    files = release()
    preloads = "".join(
        f'<link rel="modulepreload" href="/static/{name}">\n'
        for name in files.modules_from(entry.group(1))
    )
    text = _SOON.sub(_prefetches, text.replace("</head>", f"{preloads}</head>"))
    before, found, after = text.replace('="/static/', f'="/static/{files.name}/').partition(_PLACE)
    assert found, f"{page}.html has no place for its boot block"
    return before, after


def _prefetches(soon: re.Match[str]) -> str:
    """Name the files of the page that is opened next; a browser fetches them when it is idle."""
    page = (_PAGES / soon.group(1)).read_text(encoding="utf-8")
    entry = _ENTRY.search(page)
    assert entry is not None, "a page has one module to start from"
    names = [*_STYLE.findall(page), *release().modules_from(entry.group(1))]
    return "".join(f'<link rel="prefetch" href="/static/{name}">\n' for name in names)


@router.get("/login", dependencies=[Depends(Open("shows nothing but the form"))])
def login_page(web: WebDep) -> HTMLResponse:
    """Show the sign-in page."""
    label = web.config.oidc.label if web.config.oidc.issuer else ""
    return render("login", _boot(web, "login").model_copy(update={"sign_in_label": label}))


def login_refused(web: Web, error: Exception) -> HTMLResponse:
    """Show the sign-in page again, and why."""
    label = web.config.oidc.label if web.config.oidc.issuer else ""
    boot = _boot(web, "login")
    answer = render(
        "login", boot.model_copy(update={"sign_in_label": label, "failure": str(error)})
    )
    answer.status_code = 503 if isinstance(error, Retryable | ConfigError) else 403
    return answer


@router.get("/")
def worklist_page(web: WebDep, session: Annotated[Session, Depends(page())]) -> Response:
    """Show the queue; who has none goes where their work is."""
    if not session.may(Right.WORKLIST_SEE) and not session.is_locked:
        may_see_cases = session.may(Right.WORKFLOWS_SEE)
        return RedirectResponse("/workflows" if may_see_cases else "/account", status_code=303)
    boot = _boot(web, "worklist", session)
    if not session.is_locked:
        web.accounts.touch(session)
        worklist = compose_worklist(web, session, "to_review")
        audit_read(web, session, "worklist.shown", "worklist:to_review")
        boot = boot.model_copy(update={"worklist": worklist})
    return render("worklist", boot, _disk_notice(web, session))


@router.get("/review/{study_id}")
def review_page(
    study_id: str,
    web: WebDep,
    pictures: Annotated[Pictures, Depends(pictures_of)],
    session: Annotated[Session, Depends(page(Right.IMAGES_SEE))],
) -> Response:
    """Show one study; a study that this person may not see is a page without it."""
    me = me_of(web, session)
    boot = _boot(web, "review").model_copy(update={"me": me})
    if session.is_locked:
        return render("review", boot)
    web.accounts.touch(session)
    image = first_image(web, opaque_id(study_id))
    audit_read(web, session, "study.opened", f"study:{study_id}")

    def compose() -> Boot:
        study = compose_study(web, pictures, session, study_id)
        return boot.model_copy(update={"study": study})

    before, after = _shell("review")
    before = before.replace(_PRELOADS, preloads(image, pictures))
    before = before.replace(_FRAME, placeholder(image, me.preferences))
    return _in_parts(before, after, compose, boot)


@router.get("/patient/{study_id}")
def patient_page(
    study_id: str, web: WebDep, session: Annotated[Session, Depends(page(Right.PATIENT_PAGE_SHOW))]
) -> Response:
    """Show what was signed in plain words, for the screen at the chair."""
    boot = _boot(web, "patient", session)
    if not session.is_locked:
        web.accounts.touch(session)
        shown = compose_patient_page(web, session, opaque_id(study_id))
        audit_read(web, session, "patient_page.shown", f"study:{study_id}")
        boot = boot.model_copy(update={"patient_page": shown, "study_id": study_id})
    return render("patient", boot)


@router.get("/emergency")
@router.get("/emergency/{study_id}")
def emergency_page(
    web: WebDep,
    session: Annotated[Session, Depends(page(Right.GLASS_BREAK))],
    study_id: str = "",
) -> Response:
    """Ask why a study must be opened in an emergency."""
    if study_id:
        with read(web.db) as conn:
            find_study(conn, web.location_id, opaque_id(study_id))
    boot = _boot(web, "emergency", session)
    return render("emergency", boot.model_copy(update={"study_id": study_id or None}))


#: Pages that ask for their data themselves, and what each needs.
_PLAIN: dict[str, tuple[Right, ...]] = {
    "search": (Right.FINDINGS_SEARCH,),
    "workflows": (Right.WORKFLOWS_SEE,),
    "rollout": (Right.ROLLOUT_SEE,),
    "account": (),
    "people": (Right.USERS_CHANGE,),
    "emergencies": (Right.GLASS_REVIEW,),
    "audit": (Right.AUDIT_SEE,),
    "fleet": (Right.FLEET_SEE,),
    "partners": (Right.PARTNERS_MANAGE,),
}


def _add_plain(name: str, rights: tuple[Right, ...]) -> None:
    """Serve a shell under its own name."""
    gate = page(*rights)

    def show(web: WebDep, session: Session = Depends(gate)) -> Response:
        return render(name, _boot(web, name, session), _disk_notice(web, session))

    router.add_api_route(f"/{name}", show, methods=["GET"], name=f"{name}_page")


for _name, _rights in _PLAIN.items():
    _add_plain(_name, _rights)


@router.get("/static/{name:path}", dependencies=[Depends(Open("files of the pages"))])
async def static_file(name: str, request: Request) -> Response:
    """Serve one of the pages' files.

    Below its release's address it is kept for good; below none browsers ask each time whether it
    changed. A page of another release gets nothing: it must not run parts of both.
    """
    files = release()
    of_release = _RELEASE.fullmatch(name)
    is_current = of_release is not None and of_release.group(1) == files.name
    if of_release is not None and not is_current:
        raise NotFound("This file is of another release. Reload the page.")
    asset = files.assets.get(of_release.group(2) if of_release else name)
    if asset is None:
        raise NotFound("There is no such file.")
    headers = {
        "ETag": f'"{asset.digest}"',
        "Cache-Control": _KEPT if is_current else "no-cache",
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    content = asset.content
    if asset.zipped and "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = asset.zipped, "gzip"
    return Response(content, media_type=asset.media_type, headers=headers)


def _disk_notice(web: Web, session: Session) -> str:
    """Tell who looks after the machine that its disk fills up; "" for others, or with room."""
    if not session.may(Right.FLEET_SEE):
        return ""
    try:
        seen = disk_of(web.config).look()
    except OSError:  # /healthz says so
        return ""
    return "" if seen.room is Room.PLENTY else f"The disk of this node fills up: {seen.words}."


def _boot(web: Web, page: str, session: Session | None = None) -> Boot:
    return Boot.model_validate(
        {
            "page": page,
            "practice_name": web.config.node.practice_name,
            "software_version": __version__,
            "me": me_of(web, session) if session else None,
        }
    )
