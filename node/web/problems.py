"""The HTTP edge: every error becomes one problem document, and every answer gets its headers."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.db.session import new_id
from node.errors import (
    BitewingError,
    ConfigError,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Rejected,
    Retryable,
    outcome,
    place_of,
)
from node.web.accounts import Locked, Unauthenticated, WrongCredentials
from node.web.assets import release
from node.web.auth import BadToken, GoTo, Owing
from node.web.limits import TooLarge, TooMany, body_limit
from node.web.pins import WrongPin
from node.web.second_factor import CodeMissing
from node.web.shapes import Blocker, Problem

log = logging.getLogger(__name__)

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class NotSignable(Rejected):
    """Signing is refused now, for these reasons."""

    def __init__(self, blockers: tuple[Blocker, ...]) -> None:
        super().__init__(blockers[0].words if len(blockers) == 1 else "Not everything is decided.")
        self.blockers = blockers


#: Type and status of each family; the first that fits. What is not here takes its status from
#: node.errors.outcome.
_TYPES: tuple[tuple[type[BitewingError], str, int | None], ...] = (
    (Unauthenticated, "unauthenticated", 401),
    (Locked, "locked", 401),
    (WrongCredentials, "credentials", 401),
    (WrongPin, "credentials", 401),
    (CodeMissing, "second_factor", 401),
    (TooMany, "too_many", 429),
    (TooLarge, "invalid", 413),
    (BadToken, "csrf", None),
    (Owing, "owing", None),
    (NotSignable, "not_signable", None),
    (Forbidden, "forbidden", None),
    (NotFound, "not_found", None),
    (Conflict, "conflict", None),
    (Rejected, "rejected", None),
    (InvalidInput, "invalid", None),
    (Retryable, "unavailable", None),
    (ConfigError, "unavailable", None),
)


_TITLES = {404: "There is no such page.", 413: "The request is too large."}


def problem_of(error: Exception) -> Problem:
    """Put an error into words for the page; a bug gets an id under which the log names its place.

    The text of a bug never leaves: it could hold patient data.
    """
    for family, name, status in _TYPES:
        if isinstance(error, family):
            return Problem(
                type=name,
                title=str(error),
                status=status or outcome(error).http_status,
                retry_after=_retry_after(error),
                blockers=error.blockers if isinstance(error, NotSignable) else (),
            )
    if isinstance(error, RequestValidationError):
        places = {".".join(str(part) for part in item["loc"]) for item in error.errors()}
        detail = "Not acceptable: " + ", ".join(sorted(places)) + "."
        return Problem(
            type="invalid", title="The request is not as it must be.", status=422, detail=detail
        )
    if isinstance(error, HTTPException):
        name = "not_found" if error.status_code == 404 else "invalid"
        title = _TITLES.get(error.status_code, "The request is not as it must be.")
        return Problem(type=name, title=title, status=error.status_code)
    error_id = new_id()[:12]
    log.error("bug %s: %s at %s", error_id, type(error).__name__, place_of(error))
    return Problem(
        type="bug",
        title="Something went wrong on the node.",
        status=500,
        detail=f"Nothing was changed. Tell support the error id {error_id}.",
        error_id=error_id,
    )


def _retry_after(error: BitewingError) -> float | None:
    return error.retry_after_s if isinstance(error, Retryable | TooMany) else None


def answer_of(error: Exception) -> JSONResponse:
    """Make the response for an error."""
    problem = problem_of(error)
    headers = {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after)))
    return JSONResponse(
        problem.model_dump(mode="json"),
        status_code=problem.status,
        headers=headers,
        media_type="application/problem+json",
    )


def install(app: FastAPI) -> None:
    """Give `app` the one error handler and the headers of every answer."""

    async def handle(_request: Request, error: Exception) -> JSONResponse:
        return answer_of(error)

    async def lead(_request: Request, error: Exception) -> RedirectResponse:
        assert isinstance(error, GoTo)
        return RedirectResponse(error.path, status_code=303)

    app.add_exception_handler(GoTo, lead)
    for family in (BitewingError, RequestValidationError, HTTPException):
        app.add_exception_handler(family, handle)
    app.add_middleware(_Edge)


#: For half a year a browser asks for nothing without TLS.
_HSTS_S = 180 * 86_400


class _Edge:
    """The outermost layer: security headers, no caching unless a route says so, bugs caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = f"max-age={_HSTS_S}"
                headers.setdefault("Cache-Control", "private, no-store")
                headers["X-Release"] = release().name
            await send(message)

        received = 0
        limit = body_limit(scope["path"])
        if _announced(scope) > limit:
            await answer_of(TooLarge())(scope, receive, send_with_headers)
            return

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413)
            return message

        try:
            await self._app(scope, receive_bounded, send_with_headers)
        except Exception as error:  # noqa: BLE001 - the HTTP edge
            if is_started:
                log.error("answer cut: %s at %s", type(error).__name__, place_of(error))
                raise ConnectionResetError from None
            await answer_of(error)(scope, receive, send_with_headers)


def _announced(scope: Scope) -> int:
    """Read how long the body says it is; 0 when it does not say."""
    said = dict(scope["headers"]).get(b"content-length", b"")
    return int(said) if said.isdigit() else 0
