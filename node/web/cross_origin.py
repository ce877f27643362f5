"""Viewers on other origins that may use DICOMweb from a browser (CORS, Fetch standard 3.2).

Only the configured origins, only below ``/dicomweb``, never with the page's cookie: such a viewer
sends its own name and password or token.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.web.auth import FROM_KNOWN_ORIGIN

_PREFIX = "/dicomweb/"
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Accept, Content-Type",
    "Access-Control-Max-Age": "600",
}


class CrossOrigin:
    """Answers preflights and names the origin, where it is one of those configured."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIX):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        is_known = origin in self._origins
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            answer = Response(status_code=204 if is_known else 403)
            answer.headers["Vary"] = "Origin"
            if is_known:
                answer.headers.update({"Access-Control-Allow-Origin": origin, **_PREFLIGHT})
            await answer(scope, receive, send)
            return

        scope.setdefault("state", {})[FROM_KNOWN_ORIGIN] = is_known

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                answered.add_vary_header("Origin")
                if is_known:
                    answered["Access-Control-Allow-Origin"] = origin
                    answered["Access-Control-Expose-Headers"] = "Warning, Retry-After"
            await send(message)

        await self._app(scope, receive, send_named)
