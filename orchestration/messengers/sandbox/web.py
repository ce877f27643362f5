"""The sandbox's text message API, chat webhook, control door and the page that shows it all."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.etree.ElementTree import Element, SubElement, tostring

import httpx2

from node.errors import InvalidInput
from orchestration.messengers.message import mobile_number
from orchestration.messengers.sandbox.inbox import Arrived, Fault, Inbox, new_message_id
from orchestration.sandbox_request import SandboxRequest
from orchestration.signatures import sign

_MAX_BODY = 100_000


def _utc_now() -> datetime:
    return datetime.now(UTC)


#: Words that carriers have providers obey by themselves.
_STOP_WORDS = ("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT")
_START_WORDS = ("START", "UNSTOP", "YES")


@dataclass(frozen=True, slots=True)
class Account:
    """The invented account: the key that clients show, the secret that signs call backs."""

    key: str
    secret: str
    number: str = "+12125550100"


class WebServer(ThreadingHTTPServer):
    """HTTP on the loopback interface."""

    daemon_threads = True

    def __init__(self, inbox: Inbox, account: Account, port: int) -> None:
        self.inbox = inbox
        self.account = account
        self.callback_url = ""
        self.clock: Callable[[], datetime] = _utc_now
        super().__init__(("127.0.0.1", port), _Handler)

    def receive(self, sender: str, text: str, event_id: str = "") -> None:
        """Have somebody answer by text message; told to the last callback address."""
        word = text.strip().upper()
        if word in _STOP_WORDS:
            self.inbox.opt(sender, out=True)
        elif word in _START_WORDS:
            self.inbox.opt(sender, out=False)
        event = {
            "type": "message.received",
            "event_id": event_id or new_message_id("EV"),
            "from": sender,
            "to": self.account.number,
            "body": text,
        }
        self.tell(event)

    def tell(self, event: Mapping[str, str]) -> int:
        """Call back with a signed event; gives the answer's status, 0 when there was none."""
        if not self.callback_url:
            return 0
        body = json.dumps(event).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Signature": sign(self.account.secret, body, self.clock()),
        }
        try:
            answer = httpx2.post(
                self.callback_url, content=body, headers=headers, timeout=10.0, trust_env=False
            )
        except httpx2.RequestError:
            return 0
        return answer.status_code

    def report(self, arrived: Arrived, status: str, code: str = "") -> None:
        """Say what became of a message, here and to the callback address."""
        self.inbox.set_status(arrived.id, status)
        event = {
            "type": "message.status",
            "event_id": new_message_id("EV"),
            "id": arrived.id,
            "status": status,
        }
        self.tell({**event, "code": code} if code else event)


class _Handler(SandboxRequest):
    """One request."""

    server: WebServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/":
            self.send_page(inbox_page(self.server.inbox))
        elif url.path == "/sms/messages" and not self.server.inbox.is_down("sms"):
            if self._is_allowed():
                key = parse_qs(url.query).get("idempotency_key", [""])[0]
                found = self.server.inbox.by_key("sms", key)
                rows = [] if found is None else [{"id": found.id, "status": found.status}]
                self.answer(200, {"messages": rows})
        elif url.path == "/_sandbox/messages":
            self.answer(200, {"messages": [_shown(e) for e in self.server.inbox.messages()]})
        elif url.path.startswith("/sms"):
            self.drop()
        else:
            self.answer(404, {"message": "not here"})

    def do_POST(self) -> None:
        body = self._body()
        if body is None:
            return
        match urlsplit(self.path).path:
            case "/sms/messages":
                self._take_text(body)
            case "/chat/room":
                self._take_chat(body)
            case "/_sandbox/faults":
                self._arm(body)
            case "/_sandbox/replies":
                self.server.receive(str(body.get("from", "")), str(body.get("body", "")))
                self.answer(202, {})
            case _:
                self.answer(404, {"message": "not here"})

    def _take_text(self, body: Mapping[str, object]) -> None:
        inbox = self.server.inbox
        if inbox.is_down("sms"):
            return self.drop()
        if not self._is_allowed():
            return None
        slow = inbox.take("sms", "slow")
        if slow is not None:
            time.sleep(slow.seconds)
        if inbox.take("sms", "busy"):
            return self.answer(429, {"message": "too many"}, {"Retry-After": "2"})
        key = self.headers.get("Idempotency-Key", "")
        known = inbox.by_key("sms", key) if key else None
        if known is not None:
            return self.answer(200, {"id": known.id, "status": known.status})
        number = mobile_number(str(body.get("to", "")))
        if number is None:
            return self.answer(400, {"code": "invalid_number", "message": "no such number"})
        if inbox.has_opted_out(number):
            return self.answer(400, {"code": "opted_out", "message": "the number opted out"})
        callback = str(body.get("status_callback") or "")
        if callback:
            self.server.callback_url = callback
        drop = inbox.take("sms", "commit_then_drop")
        arrived = inbox.put(
            Arrived(
                new_message_id("SM"), "sms", key, str(body.get("from", "")), number, "",
                str(body.get("body", "")), "queued",
            )
        )  # fmt: skip
        if drop is not None:
            self.drop()
        else:
            self.answer(201, {"id": arrived.id, "status": "queued"})
        if callback:
            threading.Thread(target=self._follow, args=(arrived,), daemon=True).start()
        return None

    def _follow(self, arrived: Arrived) -> None:
        """Report what became of a text message, and answer for its recipient if told to."""
        server, inbox = self.server, self.server.inbox
        delayed = inbox.take("sms", "delayed_callback")
        if delayed is not None:
            time.sleep(delayed.seconds)
        if inbox.take("sms", "bounce"):
            server.report(arrived, "undelivered", "unreachable")
            return
        server.report(arrived, "delivered")
        if inbox.take("sms", "stop_reply"):
            server.receive(arrived.to, "STOP")

    def _take_chat(self, body: Mapping[str, object]) -> None:
        inbox = self.server.inbox
        if inbox.is_down("chat"):
            return self.drop()
        if inbox.take("chat", "busy"):
            return self.answer(429, {"message": "too many"}, {"Retry-After": "2"})
        drop = inbox.take("chat", "commit_then_drop")
        text = str(body.get("text", ""))
        inbox.put(Arrived(new_message_id("CH"), "chat", "", "", "room", "", text, "posted"))
        return self.drop() if drop is not None else self.answer(200, {"ok": True})

    def _arm(self, body: Mapping[str, object]) -> None:
        known = {name: body[name] for name in ("kind", "door", "count", "seconds") if name in body}
        try:
            self.server.inbox.arm(Fault(**known))  # type: ignore[arg-type]  # checked there
        except (InvalidInput, TypeError):
            self.answer(422, {"message": "no such fault"})
        else:
            self.answer(204, None)

    def _is_allowed(self) -> bool:
        if self.has_key(self.server.account.key):
            return True
        self.answer(401, {"message": "no such key"})
        return False

    def _body(self) -> Mapping[str, object] | None:
        content = self.read_body(_MAX_BODY)
        if content is None:
            return None
        try:
            value: object = json.loads(content or b"{}")
        except ValueError:
            value = None
        if not isinstance(value, dict):
            self.answer(400, {"message": "not a JSON object"})
            return None
        return value


def _shown(arrived: Arrived) -> dict[str, str]:
    return {
        "id": arrived.id,
        "door": arrived.door,
        "key": arrived.key,
        "to": arrived.to,
        "subject": arrived.subject,
        "text": arrived.text,
        "status": arrived.status,
        "at": arrived.at.isoformat(),
    }


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; }
tr { border-bottom: 1px solid #ddd; }
td.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.banner { background: #fff3cd; border: 1px solid #e0c96f; padding: .5rem .8rem; }
"""
_SHOWN = 500


def inbox_page(inbox: Inbox) -> str:
    """Show the newest messages; built as an element tree, so that every text is escaped."""
    messages = inbox.messages()
    html = Element("html", lang="en")
    head = SubElement(html, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width")
    SubElement(head, "meta", {"http-equiv": "refresh", "content": "5"})
    SubElement(head, "title").text = "Sandbox inbox"
    SubElement(head, "style").text = _STYLE
    body = SubElement(html, "body")
    SubElement(body, "h1").text = "Sandbox inbox"
    banner = SubElement(body, "p", {"class": "banner"})
    banner.text = f"Nothing here reaches anybody. {len(messages)} messages since the start."
    table = SubElement(body, "table")
    line = SubElement(SubElement(table, "thead"), "tr")
    for title in ("When", "By", "To", "Message", "Status"):
        SubElement(line, "th", scope="col").text = title
    rows = SubElement(table, "tbody")
    for each in reversed(messages[-_SHOWN:]):
        line = SubElement(rows, "tr")
        said = "\n".join(part for part in (each.subject, each.text) if part)
        for cell in (f"{each.at:%Y-%m-%d %H:%M:%S}", each.door, each.to, said, each.status):
            SubElement(line, "td", {"class": "text"}).text = "".join(
                char for char in cell if char.isprintable() or char == "\n"
            )
    return "<!doctype html>\n" + tostring(html, encoding="unicode", method="html")
