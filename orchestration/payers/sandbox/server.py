"""The invented clearinghouse on the wire: REST with X12 bodies, a control door, a page to look at.

Requests below ``/v1`` carry the key as a bearer token. ``PUT /v1/submissions/{id}`` and ``PUT
/v1/attachments/{reference}`` are idempotent by the sender's own id.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import cast, get_args
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree.ElementTree import Element, SubElement, tostring

from node.errors import BitewingError, ConfigError, Conflict, InvalidInput, NotFound
from orchestration.payers.sandbox.answers import Decision, Plan
from orchestration.payers.sandbox.desk import Clock, Desk, Fault, FaultKind, utc_now
from orchestration.sandbox_request import SandboxRequest

DEFAULT_PORT = 8027
API_KEY = "bitewing-demo-clearinghouse"
_MAX_BODY = 12_000_000
_STATUS: dict[type[BitewingError], int] = {InvalidInput: 422, Conflict: 409, NotFound: 404}


@dataclass(frozen=True, slots=True)
class PayerHandle:
    """A running sandbox payer and what a test or a demonstration may do with it."""

    page_url: str
    api_key: str = field(repr=False)
    desk: Desk = field(repr=False)

    @property
    def url(self) -> str:
        """Base of the clearinghouse's service."""
        return f"{self.page_url}v1"

    def fault(
        self,
        kind: FaultKind,
        *,
        count: int = 1,
        seconds: float = 0.0,
        path: str = "/v1/",
        methods: tuple[str, ...] = (),
    ) -> None:
        """Arm a fault; see `Fault`."""
        self.desk.arm(Fault(kind, count, seconds, path, methods))

    def settings(self) -> dict[str, object]:
        """Give the part of ``[payers]`` that leads a node here, an invented practice included."""
        return {
            "url": self.url,
            "allowed_hosts": ("127.0.0.1",),
            "is_sandbox": True,
            "api_key": self.api_key,
            "sender": "BITEWING",
            "receiver": "SANDBOXCH",
            "npi": "1234567893",
            "tax_id": "123456789",
            "phone": "5035550100",
            "street": "1 Main St",
            "city": "Springfield",
            "state": "OR",
            "postal_code": "974770000",
            "dentists": (
                {"provider": "1", "family_name": "Ames", "given_name": "Ann", "npi": "1234567893"},
                {"provider": "2", "family_name": "Boyd", "given_name": "Bob", "npi": "1234567893"},
                {"provider": "3", "family_name": "Cole", "given_name": "Cy", "npi": "1234567893"},
            ),
        }


@contextmanager
def running_payer(
    folder: Path,
    *,
    port: int = 0,
    api_key: str = API_KEY,
    clock: Clock = utc_now,
    answer_after: timedelta = timedelta(days=3),
) -> Iterator[PayerHandle]:
    """Run a sandbox payer beside the caller; port 0 is any free one.

    Its file lies in `folder`. Raises ConfigError when the port is taken.
    """
    desk = Desk(folder / "sandbox-payer.sqlite", clock, answer_after)
    try:
        server = _Server(desk, api_key, port)
    except OSError as error:
        desk.close()
        raise ConfigError(f"the payer's port {port} cannot be opened ({error.strerror})") from None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield PayerHandle(f"http://127.0.0.1:{server.server_address[1]}/", api_key, desk)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
        desk.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, desk: Desk, api_key: str, port: int) -> None:
        self.desk = desk
        self.api_key = api_key
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(SandboxRequest):
    server: _Server
    server_version = "SandboxPayer"

    def do_GET(self) -> None:
        """Answer a read."""
        self._serve()

    def do_PUT(self) -> None:
        """Answer an idempotent write."""
        self._serve()

    def do_POST(self) -> None:
        """Answer a question or the control door."""
        self._serve()

    def _serve(self) -> None:
        desk, path = self.server.desk, urlsplit(self.path).path
        body = self.read_body(_MAX_BODY)
        if body is None:
            return
        if desk.is_offline and path.startswith("/v1/"):
            self.drop()
            return
        fault = desk.take(self.command, path)
        kind = fault.kind if fault else ""
        if fault and kind == "slow":
            time.sleep(fault.seconds)
        if kind == "drop":
            self.drop()
            return
        if kind == "down":
            self.answer(503, {"error": "try again later"}, {"Retry-After": "1"})
            return
        try:
            status, answer, media_type = self._route(path, body)
        except BitewingError as error:
            status = next((s for t, s in _STATUS.items() if isinstance(error, t)), 500)
            answer, media_type = json.dumps({"error": str(error)}).encode(), "application/json"
        if kind == "commit_then_drop":
            self.drop()
            return
        self.send(status, media_type, answer)

    def _route(self, path: str, body: bytes) -> tuple[int, bytes, str]:
        if path.startswith("/v1/"):
            if not self.has_key(self.server.api_key):
                return 401, b'{"error": "wrong key"}', "application/json"
            return self._api(path.removeprefix("/v1/"), body)
        if path == "/" and self.command == "GET":
            return 200, _page(self.server.desk).encode(), "text/html; charset=utf-8"
        if path.startswith("/attachments/") and self.command == "GET":
            media_type, content = self.server.desk.attachment_content(path.split("/")[-1])
            return 200, content, media_type
        if path.startswith("/_sandbox/") and self.command == "POST":
            return self._control(path.removeprefix("/_sandbox/"), body)
        raise NotFound("there is nothing here")

    def _api(self, path: str, body: bytes) -> tuple[int, bytes, str]:
        desk = self.server.desk
        name, _, key = path.partition("/")
        key = unquote(key)
        match self.command, name:
            case "POST", "eligibility":
                return 200, desk.ask(_x12(body)).encode(), "application/edi-x12"
            case "PUT", "submissions":
                _check_key(key)
                done = desk.submit(key, _x12(body))
                answer = {"submission_id": done.id, "state": "received"}
                return 202 if done.is_new else 200, json.dumps(answer).encode(), "application/json"
            case "GET", "submissions":
                done = desk.find(key)
                answer = {"submission_id": done.id, "state": "received"}
                return 200, json.dumps(answer).encode(), "application/json"
            case "PUT", "attachments":
                _check_key(key)
                media_type = self.headers.get("content-type", "")
                file_name = self.headers.get("x-file-name", "attachment")[:100]
                stored = desk.attach(key, file_name, media_type, body)
                return 201, json.dumps(
                    {"reference": key, "control_number": stored.control_number}
                ).encode(), "application/json"  # fmt: skip
            case "GET", "attachments":
                stored = desk.find_attachment(key)
                return 200, json.dumps(
                    {"reference": key, "control_number": stored.control_number}
                ).encode(), "application/json"  # fmt: skip
            case "GET", "inbox":
                query = parse_qs(urlsplit(self.path).query)
                return 200, _inbox(desk, query.get("after", ["0"])[0]), "application/json"
            case _:
                raise NotFound("there is no such resource")

    def _control(self, path: str, body: bytes) -> tuple[int, bytes, str]:
        """Arm faults, arrange decisions and plans: for demonstrations, without a key."""
        desk = self.server.desk
        try:
            said = json.loads(body or b"{}")
            match path:
                case "faults" if said["kind"] in get_args(FaultKind):
                    seconds = float(said.get("seconds", 0))
                    desk.arm(Fault(said["kind"], int(said.get("count", 1)), seconds))
                case "faults" if said["kind"] == "clear":
                    desk.clear_faults()
                case "faults" if said["kind"] == "offline":
                    desk.is_offline = bool(said.get("on", True))
                case "decisions" if said["decision"] in get_args(Decision):
                    desk.decide(cast("Decision", said["decision"]))
                case "plans" if said["coverage"] in ("active", "inactive", "missing", "later"):
                    desk.set_plan(str(said["member_id"]), Plan(coverage=said["coverage"]))
                case _:
                    raise InvalidInput("no such fault, decision or plan")
        except (ValueError, KeyError, TypeError):
            raise InvalidInput("the control door takes a JSON object") from None
        return 200, b"{}", "application/json"


def _x12(body: bytes) -> str:
    try:
        return body.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidInput("X12 is ASCII here") from None


def _check_key(key: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,80}", key):
        raise InvalidInput("an id is 1 to 80 letters, digits and . _ : -")


def _inbox(desk: Desk, after: str) -> bytes:
    if not after.isdecimal() or len(after) > 15:
        raise InvalidInput("after is a number")
    mails = desk.inbox(int(after))
    messages = [
        {
            "id": mail.name,
            "kind": mail.kind,
            "submission_id": mail.submission_id,
            "media_type": mail.media_type,
            "content": base64.b64encode(mail.content).decode(),
        }
        for mail in mails
    ]
    last = mails[-1].place if mails else int(after)
    return json.dumps({"messages": messages, "next": str(last)}).encode()


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
table { border-collapse: collapse; width: 100%; margin-bottom: 1.5rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; }
tr { border-bottom: 1px solid #ddd; }
.banner { background: #fff3cd; border: 1px solid #e0c96f; padding: .5rem .8rem; }
img { max-width: 14rem; max-height: 9rem; }
"""


def _page(desk: Desk) -> str:
    """Show what was received, as trees, so that every text is escaped."""
    page = Element("html", {"lang": "en"})
    head = SubElement(page, "head")
    SubElement(head, "title").text = "Sandbox payer"
    SubElement(head, "style").text = _STYLE
    body = SubElement(page, "body")
    SubElement(body, "h1").text = "Sandbox payer"
    banner = SubElement(body, "p", {"class": "banner"})
    banner.text = "An invented payer for trials. Nothing here reaches anybody."
    SubElement(body, "h2").text = "Submissions"
    titles = ("Received", "Submission", "Claim", "Patient", "Lines", "Narrative", "Decision")
    table = _table(body, titles)
    for submission, claim in desk.submissions():
        lines = ", ".join(f"{line.cdt_code} {line.fee}" for line in claim.lines)
        kind = "predetermination" if claim.is_predetermination else "claim"
        cells = (
            f"{submission.received_at:%Y-%m-%d %H:%M}", submission.id, f"{claim.id} ({kind})",
            f"{claim.given_name} {claim.family_name}", lines, claim.narrative,
            f"{submission.decision} ({submission.payer_number})",
        )  # fmt: skip
        _row(table, cells)
    SubElement(body, "h2").text = "Attachments"
    table = _table(body, ("Control number", "File", "Size", "Picture"))
    for stored in desk.attachments():
        size = f"{stored.size_bytes:,} bytes"
        row = _row(table, (stored.control_number, stored.file_name, size))
        place = f"/attachments/{stored.control_number}"
        cell = SubElement(row, "td")
        if stored.media_type.startswith("image/"):
            SubElement(cell, "img", {"src": place, "alt": stored.file_name})
        else:
            SubElement(cell, "a", {"href": place}).text = "open"
    return "<!doctype html>" + tostring(page, encoding="unicode", method="html")


def _table(body: Element, titles: tuple[str, ...]) -> Element:
    table = SubElement(body, "table")
    row = SubElement(table, "tr")
    for title in titles:
        SubElement(row, "th").text = title
    return table


def _row(table: Element, cells: tuple[str, ...]) -> Element:
    row = SubElement(table, "tr")
    for text in cells:
        SubElement(row, "td").text = text
    return row
