"""The sandbox as an ASGI program: the API with its faults, the control door and the page."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import parse_qsl

from fastapi import FastAPI, HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from node.errors import ConfigError
from pms_writeback.sandbox.appointments import delete_appointment
from pms_writeback.sandbox.catalog import parse_version
from pms_writeback.sandbox.documents import open_document
from pms_writeback.sandbox.faults import Fault, Faults, LogEntry
from pms_writeback.sandbox.merging import merge_patients
from pms_writeback.sandbox.page import overview_page, patient_page
from pms_writeback.sandbox.service import ALL_PERMISSIONS, MAX_BODY, Office, Request, Service
from pms_writeback.sandbox.store import Chart, Clock, ServerClock, Store, utc_now
from pms_writeback.sandbox.tables import KEYS
from pms_writeback.sandbox.wire import Answer, Refusal

API_PREFIX = "/api/v1"

DEVELOPER_KEY = "bitewing-demo-developer"
CUSTOMER_KEY = "bitewing-demo-practice"
"""Keys of the demonstration practice; they open nothing but a sandbox."""


class Sandbox:
    """The whole program: an ASGI application with its store and its faults at hand."""

    def __init__(self, store: Store, office: Office) -> None:
        self.store = store
        self.office = office
        self.faults = Faults(store)
        self._service = Service(store, office)
        self._pages: ASGIApp = _pages(store, self.faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event; requests below `API_PREFIX` are the vendor's API."""
        if scope["type"] == "http" and scope["path"].startswith(f"{API_PREFIX}/"):
            await self._api(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        method, path = scope["method"], scope["path"].removeprefix(API_PREFIX)
        body = await _body(receive)
        fault = None if self.faults.is_offline else self.faults.take(method, path)
        answer = None
        if not self.faults.is_offline:
            answer = await self._broken(fault, _request(scope, method, path, body))
        entry = LogEntry(
            at=self.store.clock.now().isoformat(sep=" "),
            method=method,
            path=path,
            query=scope["query_string"].decode("latin-1"),
            status=0 if answer is None else answer.status,
            milliseconds=round((time.perf_counter() - began) * 1000, 2),
        )
        self.faults.note(entry)
        is_cut = fault is not None and fault.kind == "cut_answer"
        await (_drop(send) if answer is None else _send(send, answer, is_cut))

    async def _broken(self, fault: Fault | None, request: Request) -> Answer | None:
        """Answer, late or wrongly as the fault says; None means to drop the connection."""
        kind = fault.kind if fault is not None else ""
        if fault is not None and kind == "delay":
            await asyncio.sleep(fault.seconds)
        if kind == "drop_before_commit":
            return None
        if fault is not None and kind == "status":
            return _failure(fault)
        if kind == "ignore_filters":
            request = replace(request, ignores_filters=True)
        answer = await run_in_threadpool(self._service.answer, request)
        if kind == "hide_newest":
            answer = _without_newest(answer, request)
        if fault is not None and kind == "delay_after_commit":
            await asyncio.sleep(fault.seconds)
        if kind == "commit_then_drop":
            return None
        return _failure(fault) if fault is not None and kind == "status_after_commit" else answer


def _without_newest(answer: Answer, request: Request) -> Answer:
    """Leave the newest row out of a list, as an office does that shows what was written later."""
    rows = answer.body
    key = KEYS.get(request.path.strip("/").split("/")[0], "")
    if not isinstance(rows, list) or not rows:
        return answer
    newest = max(rows, key=lambda row: int(str(row.get(key, 0))))
    return replace(answer, body=[row for row in rows if row is not newest])


def _failure(fault: Fault) -> Answer:
    headers = (("retry-after", f"{fault.seconds:g}"),) if fault.seconds > 0 else ()
    return Answer(fault.status, fault.sentence, headers=headers)


def create_app(
    db_path: Path,
    *,
    customer_key: str = CUSTOMER_KEY,
    developer_key: str = DEVELOPER_KEY,
    time_zone: str = "America/New_York",
    faults: Iterable[Fault] = (),
    clock: Clock = utc_now,
    od_version: str = "25.3.36",
    permissions: frozenset[str] = ALL_PERMISSIONS,
    page_cap: int = 100,
    throttle_s: float = 0.0,
    sftp_port: int = 22,
) -> Sandbox:
    """Build the sandbox over the SQLite file at `db_path`, created when missing.

    ``od_version`` is the Open Dental version the office runs: operations and fields newer than it
    are refused or ignored as there. ``faults`` are armed from the start.
    """
    if not customer_key or not developer_key:
        raise ConfigError("the sandbox needs a developer key and a customer key")
    store = Store(db_path, ServerClock(time_zone, clock))
    office = Office(
        developer_key,
        customer_key,
        parse_version(od_version),
        permissions,
        page_cap,
        throttle_s,
        sftp_port,
    )
    _set_version(store, od_version)
    sandbox = Sandbox(store, office)
    for fault in faults:
        sandbox.faults.arm(fault)
    return sandbox


def _set_version(store: Store, od_version: str) -> None:
    values = {"ProgramVersion": od_version, "UpdateInProgressOnComputerName": ""}
    with store.begin() as chart:
        found = {row["PrefName"]: int(row["PrefNum"]) for row in chart.select("preferences")}
        for name, value in values.items():
            if name in found:
                chart.change("preferences", found[name], {"ValueString": value})
            else:
                chart.add("preferences", {"PrefName": name, "ValueString": value})


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        part: bytes = message.get("body", b"")
        size += len(part)
        # One part more than allowed is kept, so that the service sees it is too large.
        if size - len(part) <= MAX_BODY:
            parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _request(scope: Scope, method: str, path: str, body: bytes) -> Request:
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }
    return Request(method, path, query, headers, body)


async def _send(send: Send, answer: Answer, is_cut: bool = False) -> None:
    """Send an answer; a cut one breaks off in the middle of its body."""
    body = b"" if answer.body is None else json.dumps(answer.body).encode()
    headers = [("content-type", "application/json; charset=utf-8"), *answer.headers]
    if answer.location:
        headers.append(("location", f"{API_PREFIX}{answer.location}"))
    headers.append(("content-length", str(len(body))))
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    if is_cut:
        half = {"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True}
        await send(half)
        await _drop(send)
    else:
        await send({"type": "http.response.body", "body": body})


async def _drop(send: Send) -> None:
    """Close the connection without a word; ASGI has no message for that.

    uvicorn's ``send`` is a method of the request cycle, which knows its socket.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if not isinstance(transport, asyncio.Transport):
        raise ConfigError("connections can only be dropped under uvicorn")
    transport.abort()
    await asyncio.sleep(0)  # lets the loss of the connection be noticed before this returns


def _pages(store: Store, faults: Faults) -> FastAPI:
    app = FastAPI(title="Sandbox PMS", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(
        request: HttpRequest, proceed: Callable[[HttpRequest], Awaitable[Response]]
    ) -> Response:
        if request.url.path.startswith("/_sandbox/") and not _is_local(request):
            return Response("the control door opens from this machine only", status_code=403)
        response = await proceed(request)
        response.headers["x-content-type-options"] = "nosniff"
        if not request.url.path.startswith("/documents/"):  # a PDF viewer needs its own rules
            response.headers["content-security-policy"] = _POLICY
        response.headers["referrer-policy"] = "no-referrer"
        return response

    @app.get("/", response_class=HTMLResponse)
    def overview() -> str:
        return overview_page(store)

    @app.get("/patients/{key}", response_class=HTMLResponse)
    def patient(key: int) -> str:
        page = patient_page(store, key)
        if page is None:
            raise HTTPException(404, "Patient not found")
        return page

    @app.get("/documents/{key}")
    def document(key: int) -> Response:
        with store.begin() as chart:
            found = open_document(chart, key)
        if found is None:
            raise HTTPException(404, "Document not found")
        return _file(key, *found)

    @app.post("/_sandbox/faults", status_code=204)
    def arm(fault: Fault) -> None:
        faults.arm(fault)

    @app.get("/_sandbox/log")
    def log() -> list[dict[str, str | int | float]]:
        return [asdict(entry) for entry in faults.log()]

    @app.delete("/_sandbox/appointments/{key}", status_code=204)
    def delete(key: int) -> None:
        _as_a_user(store, lambda chart: delete_appointment(chart, key))

    @app.post("/_sandbox/patients/{key}/merge/{target}", status_code=204)
    def merge(key: int, target: int) -> None:
        _as_a_user(store, lambda chart: merge_patients(chart, key, target))

    return app


def _as_a_user(store: Store, change: Callable[[Chart], None]) -> None:
    try:
        with store.begin() as chart:
            change(chart)
    except Refusal as refusal:
        raise HTTPException(refusal.status, refusal.text) from None


_POLICY = "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'self'"
_TYPES = {
    ".pdf": "application/pdf",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
}


def _file(key: int, extension: str, content: bytes) -> Response:
    shown = extension in _TYPES
    disposition = "inline" if shown else "attachment"
    return Response(
        content,
        media_type=_TYPES.get(extension, "application/octet-stream"),
        headers={"content-disposition": f'{disposition}; filename="Document{key}{extension}"'},
    )


def _is_local(request: HttpRequest) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
