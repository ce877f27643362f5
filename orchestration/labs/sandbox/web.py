"""The sandbox laboratory's API, control door and page.

``PUT /v1/cases/{case}/package?name=`` takes a ZIP under a key, ``GET /v1/cases/{case}`` says how it
stands, ``POST /v1/cases/{case}/cancel`` takes it off the bench, ``GET /v1/invoices?since=`` bills.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import re
import time
from datetime import timedelta
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.etree.ElementTree import Element, SubElement, tostring

from node.errors import Conflict, InvalidInput, NotFound
from orchestration.labs.callbacks import update_to_json
from orchestration.labs.sandbox.bench import Bench, Fault, Job
from orchestration.sandbox_request import SandboxRequest

_MAX_PACKAGE = 600_000_000
_MAX_BODY = 100_000
_CASE = re.compile(r"/v1/cases/([A-Za-z0-9-]{4,40})(/package|/cancel)?")


class WebServer(ThreadingHTTPServer):
    """HTTP on the loopback interface."""

    daemon_threads = True

    def __init__(self, bench: Bench, key: str, port: int) -> None:
        self.bench = bench
        self.key = key
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(SandboxRequest):
    """One request."""

    server: WebServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        case = _CASE.fullmatch(url.path)
        if url.path == "/":
            self.server.bench.tick()
            self.send_page(bench_page(self.server.bench))
        elif url.path == "/_sandbox/cases":
            bench = self.server.bench
            bench.tick()
            self.answer(200, {"cases": [_shown(job) for job in bench.jobs.values()]})
        elif not self._is_open():
            return
        elif case is not None and not case[2]:
            self._case(case[1])
        elif url.path == "/v1/invoices":
            since = parse_qs(url.query).get("since", [""])[0]
            self.answer(200, {"invoices": self.server.bench.invoices(since)})
        else:
            self.answer(404, {"message": "not here"})

    def do_PUT(self) -> None:
        url = urlsplit(self.path)
        case = _CASE.fullmatch(url.path)
        content = self.read_body(_MAX_PACKAGE)
        if content is None or not self._is_open():
            return
        if case is None or case[2] != "/package":
            self.answer(404, {"message": "not here"})
            return
        name = parse_qs(url.query).get("name", ["package.zip"])[0]
        self._take(case[1], name, content)

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        case = _CASE.fullmatch(url.path)
        content = self.read_body(_MAX_BODY)
        if content is None:
            return
        if url.path.startswith("/_sandbox/"):
            self._control(url.path, content)
        elif not self._is_open():
            return
        elif case is not None and case[2] == "/cancel":
            try:
                self.answer(200, _shown(self.server.bench.cancel(case[1])))
            except NotFound:
                self.answer(404, {"message": "no such case"})
        else:
            self.answer(404, {"message": "not here"})

    def _take(self, case_number: str, name: str, content: bytes) -> None:
        bench = self.server.bench
        sha256 = hashlib.sha256(content).hexdigest()
        if not hmac.compare_digest(self.headers.get("X-SHA256", ""), sha256):
            self.answer(422, {"message": "the package does not match its sum"})
            return
        is_new = case_number not in bench.jobs
        try:
            job = bench.take(case_number, name, sha256, io.BytesIO(content))
        except Conflict as error:
            self.answer(409, {"message": str(error)})
        except InvalidInput as error:
            self.answer(422, {"message": str(error)})
        else:
            if bench.met("commit_then_drop"):
                self.drop()
            else:
                self.answer(201 if is_new else 200, _shown(job))

    def _case(self, case_number: str) -> None:
        bench = self.server.bench
        bench.tick()
        try:
            job = bench.job(case_number)
        except NotFound:
            self.answer(404, {"message": "no such case"})
            return
        words = [update_to_json(update) for update in bench.updates(case_number)]
        self.answer(200, {**_shown(job), "updates": words})

    def _control(self, path: str, content: bytes) -> None:
        """Faults and the clock, for who tries the sandbox; the loopback interface only."""
        bench = self.server.bench
        try:
            value: object = json.loads(content or b"{}")
            if not isinstance(value, dict):
                raise InvalidInput("not a JSON object")
            if path == "/_sandbox/faults":
                known = {k: value[k] for k in ("kind", "count", "seconds") if k in value}
                bench.arm(Fault(**known))
            elif path == "/_sandbox/clock":
                bench.skip(timedelta(hours=float(value.get("hours", 0))))
                bench.tick()
            else:
                raise InvalidInput("not here")
        except (InvalidInput, ValueError, TypeError, OverflowError):
            self.answer(422, {"message": "no such fault or time"})
        else:
            self.answer(200, {"now": bench.now().isoformat()})

    def _is_open(self) -> bool:
        """Meet the faults of the wire, then ask for the key."""
        bench = self.server.bench
        if bench.is_down:
            self.drop()
            return False
        slow = bench.met("slow")
        if slow is not None:
            time.sleep(min(slow.seconds, 60))
        if bench.met("busy"):
            self.answer(429, {"message": "too many"}, {"Retry-After": "2"})
            return False
        if not self.has_key(self.server.key):
            self.answer(401, {"message": "no such key"})
            return False
        return True


def _shown(job: Job) -> dict[str, object]:
    last = job.told[-1] if job.told else {}
    return {
        "case": job.case_number,
        "lab_case": job.lab_case,
        "sha256": job.sha256,
        "name": job.file_name,
        "status": job.status,
        "received_at": job.received_at,
        "packages": job.packages,
        "eta": next((w["eta"] for w in reversed(job.told) if w.get("eta")), ""),
        "tracking": last.get("tracking", ""),
    }


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; }
tr { border-bottom: 1px solid #ddd; }
.banner { background: #fff3cd; border: 1px solid #e0c96f; padding: .5rem .8rem; }
"""


def bench_page(bench: Bench) -> str:
    """Show the cases and the invoices; built as an element tree, so that every text is escaped."""
    html = Element("html", lang="en")
    head = SubElement(html, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width")
    SubElement(head, "meta", {"http-equiv": "refresh", "content": "5"})
    SubElement(head, "title").text = "Sandbox laboratory"
    SubElement(head, "style").text = _STYLE
    body = SubElement(html, "body")
    SubElement(body, "h1").text = "Sandbox laboratory"
    banner = SubElement(body, "p", {"class": "banner"})
    state = "It is down. " if bench.is_down else ""
    banner.text = (
        f"Nothing is really made here. {state}Its clock says {bench.now():%Y-%m-%d %H:%M}."
    )
    _table(
        body,
        ("Case", "Ours", "Work", "Teeth", "Came", "Status", "Expected"),
        [
            (
                job.case_number, job.lab_case, job.restoration.replace("_", " "),
                ", ".join(f"#{tooth}" for tooth in job.teeth), job.received_at[:16], job.status,
                str(_shown(job)["eta"])[:16],
            )
            for job in reversed(bench.jobs.values())
        ],
    )  # fmt: skip
    SubElement(body, "h2").text = "Invoices"
    _table(
        body,
        ("Invoice", "Case", "Date", "Amount"),
        [(b["number"], b["case"], b["date"], b["amount"]) for b in reversed(bench.bills)],
    )
    return "<!doctype html>\n" + tostring(html, encoding="unicode", method="html")


def _table(parent: Element, titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = SubElement(parent, "table")
    line = SubElement(SubElement(table, "thead"), "tr")
    for title in titles:
        SubElement(line, "th", scope="col").text = title
    filled = SubElement(table, "tbody")
    for row in rows[:500]:
        line = SubElement(filled, "tr")
        for cell in row:
            SubElement(line, "td").text = "".join(char for char in cell if char.isprintable())
