"""A sandbox of the partner: NexHealth's wire over one SQLite file, landing and faults included.

It follows the published reference where our notes of it go; what they leave open is named in
docs/curve.md. A write is accepted at once and lands after `landing_s` seconds: until then its row
has no ``foreign_id``. `Faults` are armed by tests or over ``/_sandbox/faults``.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

API_KEY = "bitewing-demo-nexhealth"
SUBDOMAIN = "sandbox-dental"
LOCATION = 1

Clock = Callable[[], datetime]
Row = dict[str, object]

_LISTS = ("patients", "appointments", "operatories", "providers", "document_types")


class Fault(BaseModel):
    """One fault: the next `count` requests of `methods` answer `status`, before or after acting."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["status", "status_after_commit", "landing_fails", "token_expires"]
    status: int = Field(503, ge=400, le=599)
    count: int = Field(1, ge=1, le=10_000)
    methods: tuple[str, ...] = ()


class Store:
    """Rows as JSON, one table; serial."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " resource TEXT NOT NULL, content TEXT NOT NULL, body BLOB)"
        )

    def add(self, resource: str, row: Mapping[str, object], body: bytes | None = None) -> Row:
        """Insert a row under the next number."""
        with self._lock:
            done = self._db.execute(
                "INSERT INTO item (resource, content, body) VALUES (?, ?, ?)",
                (resource, json.dumps(row), body),
            )
            assert done.lastrowid is not None
            return {"id": done.lastrowid, **row}

    def change(self, key: int, values: Mapping[str, object]) -> None:
        """Overwrite fields of a row."""
        with self._lock:
            found = self._db.execute("SELECT content FROM item WHERE id = ?", (key,)).fetchone()
            content = {**json.loads(found[0]), **values}
            self._db.execute("UPDATE item SET content = ? WHERE id = ?", (json.dumps(content), key))

    def rows(self, resource: str) -> list[Row]:
        """Read all rows of a resource in the order of their numbers."""
        with self._lock:
            found = self._db.execute(
                "SELECT id, content FROM item WHERE resource = ? ORDER BY id", (resource,)
            ).fetchall()
        return [{"id": key, **json.loads(content)} for key, content in found]

    def row(self, resource: str, key: int) -> Row | None:
        """Read one row."""
        return next((row for row in self.rows(resource) if row["id"] == key), None)

    def body(self, key: int) -> bytes | None:
        """Read the bytes of a document."""
        with self._lock:
            found = self._db.execute("SELECT body FROM item WHERE id = ?", (key,)).fetchone()
        return found[0] if found else None

    def close(self) -> None:
        """Release the file."""
        self._db.close()


class Partner:
    """What the sandbox knows besides its rows: tokens, faults, its clock and its slowness."""

    def __init__(self, store: Store, clock: Clock, landing_s: float) -> None:
        self.store = store
        self.clock = clock
        self.landing_s = landing_s
        self._tokens: set[str] = set()
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def arm(self, fault: Fault) -> None:
        """Arm a fault; ``token_expires`` takes effect at once."""
        with self._lock:
            if fault.kind == "token_expires":
                self._tokens.clear()
            else:
                self._faults.append(fault)

    def take(self, method: str, *kinds: str) -> Fault | None:
        """Take one use of an armed fault that fits."""
        with self._lock:
            for number, fault in enumerate(self._faults):
                if fault.kind in kinds and (not fault.methods or method in fault.methods):
                    left = fault.count - 1
                    self._faults[number : number + 1] = (
                        [fault.model_copy(update={"count": left})] if left else []
                    )
                    return fault
        return None

    def token(self) -> str:
        """Issue a token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._tokens.add(token)
        return token

    def knows(self, header: str) -> bool:
        """Check a bearer token."""
        with self._lock:
            return header.removeprefix("Bearer ") in self._tokens

    def stamp(self) -> str:
        """Write the clock as the service does."""
        return self.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def shown(self, row: Row) -> Row:
        """Give a row as it is seen now: landed once its time has come, unless it failed."""
        hidden = {name: value for name, value in row.items() if not name.startswith("_")}
        lands = row.get("_lands_at")
        if lands is None or row.get("_fails"):
            return hidden
        if datetime.fromisoformat(str(lands)) <= self.clock():
            hidden["foreign_id"] = f"C{row['id']}"
            hidden["last_sync_time"] = str(lands)
        return hidden


def seed(store: Store, today: datetime, patients: int = 30) -> None:
    """Fill an empty office: rooms, providers, invented people, today's visits."""
    if store.rows("providers"):
        return
    common = {"updated_at": today.strftime("%Y-%m-%dT%H:%M:%S.000Z"), "location_id": LOCATION}
    rooms = [
        store.add("operatories", {"name": f"Room {n}", "active": True, **common}) for n in (1, 2)
    ]
    dentist = store.add(
        "providers",
        {"first_name": "Noor", "last_name": "Amari", "npi": "1234567893", "inactive": False}
        | common,
    )
    store.add("document_types", {"name": "Forms & Letters"})
    for number in range(1, patients + 1):
        person = store.add(
            "patients",
            {
                "first_name": f"Sample{number}", "last_name": "Fiction", "inactive": False,
                "foreign_id": f"C{number}",
                "bio": {"date_of_birth": f"19{50 + number % 50}-03-0{1 + number % 9}",
                        "gender": "Female" if number % 2 else "Male", "non_patient": False},
                **common,
            },
        )  # fmt: skip
        if number <= 6:
            start = today.replace(hour=13, minute=0, second=0, microsecond=0) + timedelta(
                hours=number
            )
            _visit(store, person, dentist, rooms[number % 2], start, common)


def _visit(
    store: Store, person: Row, dentist: Row, room: Row, start: datetime, common: Row
) -> None:
    store.add(
        "appointments",
        {
            "patient_id": person["id"], "provider_id": dentist["id"], "operatory_id": room["id"],
            "start_time": start.isoformat(), "end_time": (start + timedelta(hours=1)).isoformat(),
            "confirmed": False, "cancelled": False, "unavailable": False, "note": "",
            "foreign_id": f"A{person['id']}", **common,
        },
    )  # fmt: skip


def create_app(partner: Partner) -> FastAPI:
    """Build the ASGI program."""
    app = FastAPI(title="Sandbox NexHealth", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/_sandbox/faults", status_code=204)
    def arm(fault: Fault) -> None:
        partner.arm(fault)

    @app.post("/authenticates")
    def authenticate(request: Request) -> Response:
        if request.headers.get("authorization") != API_KEY:
            return _refuse(401, "Invalid API key")
        return _answer({"token": partner.token()})

    @app.api_route("/{path:path}", methods=["GET", "POST", "PATCH"])
    async def serve(path: str, request: Request) -> Response:
        refusal = _door(partner, request)
        if refusal is not None:
            return refusal
        answer = _route(partner, request.method, path, request, await request.body())
        late = partner.take(request.method, "status_after_commit")
        return _refuse(late.status, "Server error") if late else answer

    return app


def _door(partner: Partner, request: Request) -> Response | None:
    if not partner.knows(request.headers.get("authorization", "")):
        return _refuse(401, "Unauthorized")
    if "nex-api-version" not in request.headers:
        return _refuse(400, "Nex-Api-Version is missing")
    query = request.query_params
    if query.get("subdomain") != SUBDOMAIN or query.get("location_id") != str(LOCATION):
        return _refuse(403, "No access to this location")
    fault = partner.take(request.method, "status")
    return _refuse(fault.status, "Server error") if fault else None


def _route(partner: Partner, method: str, path: str, request: Request, body: bytes) -> Response:
    parts = path.split("/")
    match (method, parts):
        case ("GET", [resource]) if resource in _LISTS:
            return _list(partner, resource, request)
        case ("GET", [("patients" | "appointments") as resource, key]) if key.isdigit():
            row = partner.store.row(resource, int(key))
            return _answer(partner.shown(row)) if row else _refuse(404, "Not found")
        case ("POST", ["patients", key, "documents"]) if key.isdigit():
            return _add_document(partner, int(key), request, body)
        case ("POST", ["appointments"]):
            return _add_visit(partner, body)
        case ("PATCH", ["appointments", key]) if key.isdigit():
            return _change_visit(partner, int(key), body)
        case _:
            return _refuse(404, "Not found")


def _list(partner: Partner, resource: str, request: Request) -> Response:
    query = request.query_params
    if resource == "appointments" and not ("start" in query and "end" in query):
        return _refuse(400, "start and end are required")
    rows = [row for row in partner.store.rows(resource) if _is_wanted(row, query)]
    size = min(int(query.get("per_page", "5")), 1000)
    begin = int(query.get("start_cursor") or 0)
    page = rows[begin : begin + size]
    has_next = begin + size < len(rows)
    info = {"has_next_page": has_next, "end_cursor": str(begin + size) if has_next else None}
    return _answer([partner.shown(row) for row in page], count=len(rows), page_info=info)


def _is_wanted(row: Row, query: Mapping[str, str]) -> bool:
    if "start" in query and not query["start"] <= _utc(str(row["start_time"])) < query["end"]:
        return False
    return "updated_since" not in query or str(row["updated_at"]) >= query["updated_since"]


def _utc(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _add_visit(partner: Partner, body: bytes) -> Response:
    given = _appt(body)
    needed = ("patient_id", "provider_id", "start_time", "end_time")
    if given is None or any(name not in given for name in needed):
        return _refuse(400, "appt is missing a required field")
    if partner.store.row("patients", int(str(given["patient_id"]))) is None:
        return _refuse(404, "Patient not found")
    if datetime.fromisoformat(str(given["start_time"])) <= partner.clock():
        return _refuse(400, "start_time must be in the future")
    blank: Row = {"confirmed": False, "cancelled": False, "unavailable": False, "note": ""}
    row = partner.store.add("appointments", {**blank, **given, **_accepted(partner)})
    return _answer(partner.shown(row), status=201)


def _change_visit(partner: Partner, key: int, body: bytes) -> Response:
    given = _appt(body)
    if given is None or partner.store.row("appointments", key) is None:
        return _refuse(404, "Appointment not found")
    partner.store.change(key, {**given, "updated_at": partner.stamp()})
    row = partner.store.row("appointments", key)
    assert row is not None
    return _answer(partner.shown(row))


def _add_document(partner: Partner, key: int, request: Request, body: bytes) -> Response:
    if partner.store.row("patients", key) is None:
        return _refuse(404, "Patient not found")
    content_type = request.headers.get("content-type", "")
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    parts = BytesParser(policy=HTTP).parsebytes(head + body)
    files = [part for part in parts.iter_parts() if part.get_filename()] if parts else []
    if not files or "document_type_id" not in request.query_params:
        return _refuse(400, "file and document_type_id are required")
    content = files[0].get_payload(decode=True)
    if not isinstance(content, bytes) or not content.startswith(b"%PDF-"):
        return _refuse(400, "Only PDF files are accepted")
    row = partner.store.add(
        "documents",
        {"patient_id": key, "filename": files[0].get_filename(), **_accepted(partner)},
        content,
    )
    return _answer(partner.shown(row), status=201)


def _accepted(partner: Partner) -> Row:
    lands = partner.clock() + timedelta(seconds=partner.landing_s)
    fails = partner.take("POST", "landing_fails") is not None
    return {
        "foreign_id": None, "last_sync_time": None, "updated_at": partner.stamp(),
        "_lands_at": lands.isoformat(), "_fails": fails,
    }  # fmt: skip


def _appt(body: bytes) -> Row | None:
    try:
        value: object = json.loads(body)
    except ValueError:
        return None
    given = value.get("appt") if isinstance(value, dict) else None
    return given if isinstance(given, dict) else None


def _answer(data: object, status: int = 200, **more: object) -> Response:
    envelope = {"code": True, "description": None, "error": None, "data": data, **more}
    return JSONResponse(envelope, status_code=status)


def _refuse(status: int, text: str) -> Response:
    envelope = {"code": False, "description": text, "error": [text], "data": None}
    return JSONResponse(envelope, status_code=status)


@contextmanager
def running(
    path: Path, *, clock: Clock = lambda: datetime.now(UTC), landing_s: float = 0.0
) -> Iterator[tuple[str, Partner]]:
    """Serve the sandbox from a thread while the block runs; gives its address and itself."""
    from pms_writeback.sandbox.server import serving

    store = Store(path)
    partner = Partner(store, clock, landing_s)
    seed(store, clock())
    with serving(create_app(partner)) as address:
        try:
            yield address, partner
        finally:
            store.close()
