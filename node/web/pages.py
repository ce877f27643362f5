"""The HTML shells with their boot block, and the static files, served as written."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from node import __version__
from node.domain.rights import Open, Right
from node.errors import Forbidden, NotFound
from node.web.accounts import Session, Unauthenticated
from node.web.auth import Web, WebDep, audit_read, demand, me_of, opaque_id, page, session_of
from node.web.images import Pictures, pictures_of
from node.web.lean import lean
from node.web.patient_pages import compose_patient_page
from node.web.shapes import Boot
from node.web.studies import compose_study
from node.web.worklist import compose_worklist

_HERE = Path(__file__).parent
_STATIC = _HERE / "static"
_PLACE = "<!--boot-->"
_ENTRY = re.compile(r'<script type="module" src="/static/([^"]+)">')
_IMPORT = re.compile(r'^(?:import|export)\b[^"\n]*"(\.[^"]+)";', re.MULTILINE)
_TYPES = {
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_FILE = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*(\.[a-z0-9]+)+")

router = APIRouter(include_in_schema=False)


def render(page: str, boot: Boot) -> HTMLResponse:
    """Put the boot block into a page's shell.

    ``<`` is escaped, so that no text in the data can end the block or open another.
    """
    shell = (_HERE / "pages" / f"{page}.html").read_text(encoding="utf-8")
    data = boot.model_dump_json().replace("<", "\\u003c")
    block = f'<script type="application/json" id="boot">{data}</script>'
    before, found, after = shell.partition(_PLACE)
    assert found, f"{page}.html has no place for its boot block"
    preloads = "".join(
        f'<link rel="modulepreload" href="/static/{name}">\n' for name in modules_of(shell)
    )
    head, end, rest = before.partition("</head>")
    return HTMLResponse(f"{head}{preloads}{end}{rest}{block}{after}")


@lru_cache(maxsize=16)
def modules_of(shell: str) -> tuple[str, ...]:
    """Name every module that a page's first picture needs, so that they are asked for at once."""
    entry = _ENTRY.search(shell)
    assert entry is not None, "a page has one module to start from"
    found: dict[Path, None] = {}
    waiting = [_STATIC / entry.group(1)]
    while waiting:
        path = waiting.pop().resolve()
        if path in found:
            continue
        found[path] = None
        text = path.read_text(encoding="utf-8")
        waiting += [path.parent / name for name in _IMPORT.findall(text)]
    return tuple(path.relative_to(_STATIC.resolve()).as_posix() for path in found)


@router.get("/login", dependencies=[Depends(Open("shows nothing but the form"))])
def login_page(web: WebDep) -> HTMLResponse:
    """Show the sign-in page."""
    return render("login", _boot(web, "login"))


@router.get("/", dependencies=[Depends(page())])
def worklist_page(request: Request, web: WebDep) -> Response:
    """Show the queue."""
    session = _signed_in(request)
    if session is None:
        return _to_login("/")
    if session.may(Right.WORKFLOWS_SEE) and not session.may(Right.WORKLIST_SEE):
        return RedirectResponse("/workflows", status_code=303)
    boot = _boot(web, "worklist", session)
    if not session.is_locked and session.may(Right.WORKLIST_SEE):
        web.accounts.touch(session)
        worklist = compose_worklist(web, session, "to_review")
        boot = boot.model_copy(update={"worklist": worklist})
    return render("worklist", boot)


@router.get("/review/{study_id}", dependencies=[Depends(page(Right.IMAGES_SEE))])
def review_page(
    study_id: str,
    request: Request,
    web: WebDep,
    pictures: Annotated[Pictures, Depends(pictures_of)],
) -> Response:
    """Show one study; a study that this person may not see is a page without it."""
    session = _signed_in(request)
    if session is None:
        return _to_login(f"/review/{opaque_id(study_id)}")
    boot = _boot(web, "review", session)
    if session.is_locked:
        return render("review", boot)
    if not session.may(Right.IMAGES_SEE):
        raise Forbidden("You need the right: see images. Ask an administrator.")
    web.accounts.touch(session)
    study = compose_study(web, pictures, session, opaque_id(study_id))
    audit_read(web, session, "study.opened", f"study:{study_id}")
    return render("review", boot.model_copy(update={"study": study}))


@router.get("/patient/{study_id}", dependencies=[Depends(page(Right.PATIENT_PAGE_SHOW))])
def patient_page(study_id: str, request: Request, web: WebDep) -> Response:
    """Show what was signed in plain words, for the screen at the chair."""
    session = _signed_in(request)
    if session is None:
        return _to_login(f"/patient/{opaque_id(study_id)}")
    boot = _boot(web, "patient", session)
    if not session.is_locked:
        demand(session, Right.PATIENT_PAGE_SHOW)
        web.accounts.touch(session)
        shown = compose_patient_page(web, session, opaque_id(study_id))
        audit_read(web, session, "patient_page.shown", f"study:{study_id}")
        boot = boot.model_copy(update={"patient_page": shown, "study_id": study_id})
    return render("patient", boot)


@router.get("/search", dependencies=[Depends(page(Right.FINDINGS_SEARCH))])
def search_page(request: Request, web: WebDep) -> Response:
    """Show the search of signed findings."""
    session = _signed_in(request)
    if session is None:
        return _to_login("/search")
    if not session.is_locked:
        demand(session, Right.FINDINGS_SEARCH)
    return render("search", _boot(web, "search", session))


@router.get("/workflows", dependencies=[Depends(page(Right.WORKFLOWS_SEE))])
def workflows_page(request: Request, web: WebDep) -> Response:
    """Show the console of the workflows."""
    session = _signed_in(request)
    if session is None:
        return _to_login("/workflows")
    if not session.is_locked:
        demand(session, Right.WORKFLOWS_SEE)
    return render("workflows", _boot(web, "workflows", session))


@router.get("/static/{name:path}", dependencies=[Depends(Open("files of the pages"))])
def static_file(name: str, request: Request) -> Response:
    """Serve one of the page's files; browsers ask each time whether it changed."""
    if not _FILE.fullmatch(name) or Path(name).suffix not in _TYPES:
        raise NotFound("There is no such file.")
    path = _STATIC / name
    if not path.is_file():
        raise NotFound("There is no such file.")
    stat = path.stat()
    content, digest = _served(path, stat.st_mtime_ns, stat.st_size)
    headers = {"ETag": f'"{digest}"', "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_TYPES[path.suffix], headers=headers)


@lru_cache(maxsize=512)
def _served(path: Path, _changed_ns: int, _size: int) -> tuple[bytes, str]:
    """Read a file as it is served, and its digest; our own modules come without their comments."""
    content = path.read_bytes()
    if path.suffix == ".mjs" and path.parent.name != "vendor":
        content = lean(content.decode()).encode()
    return content, hashlib.sha256(content).hexdigest()[:32]


def _boot(web: Web, page: str, session: Session | None = None) -> Boot:
    return Boot.model_validate(
        {
            "page": page,
            "practice_name": web.config.node.practice_name,
            "software_version": __version__,
            "me": me_of(web, session) if session else None,
        }
    )


def _signed_in(request: Request) -> Session | None:
    try:
        return session_of(request)
    except Unauthenticated:
        return None


def _to_login(next_path: str) -> Response:
    return RedirectResponse(f"/login?next={quote(next_path, safe='/')}", status_code=303)
