"""The sandbox's mail server: enough of SMTP (RFC 5321) for one client, with STARTTLS."""

from __future__ import annotations

import socketserver
import ssl
import time
from contextlib import suppress
from email import message_from_bytes
from email.policy import SMTP

from orchestration.messengers.sandbox.inbox import Arrived, Inbox, new_message_id

_MAX_LINE = 4_096
_MAX_MAIL = 10_000_000


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mail for anybody on the loopback interface and keeps it in the inbox."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, inbox: Inbox, context: ssl.SSLContext | None, port: int) -> None:
        self.inbox = inbox
        self.context = context
        super().__init__(("127.0.0.1", port), _Session)


class _Session(socketserver.StreamRequestHandler):
    """One connection."""

    server: MailServer
    timeout = 60.0

    def handle(self) -> None:
        inbox = self.server.inbox
        if inbox.is_down("smtp"):
            return
        with suppress(OSError, ssl.SSLError):
            self._say("220 sandbox mail")
            self._talk(inbox)

    def _talk(self, inbox: Inbox) -> None:
        sender = to = ""
        while line := self.rfile.readline(_MAX_LINE):
            verb, _, rest = line.decode("latin-1").strip().partition(" ")
            match verb.upper():
                case "EHLO" | "HELO":
                    has_tls = self.server.context is not None and not self._is_encrypted
                    if has_tls:
                        self._say("250-sandbox")
                        self._say("250 STARTTLS")
                    else:
                        self._say("250-sandbox")
                        self._say("250 8BITMIME")
                case "STARTTLS" if self.server.context is not None:
                    self._say("220 go ahead")
                    self._encrypt(self.server.context)
                case "MAIL":
                    if inbox.take("smtp", "busy"):
                        self._say("451 try again later")
                        continue
                    sender = _address(rest)
                    self._say("250 ok")
                case "RCPT":
                    if inbox.take("smtp", "bounce"):
                        self._say("550 no such mailbox")
                        continue
                    to = _address(rest)
                    self._say("250 ok")
                case "DATA":
                    if not self._take_mail(inbox, sender, to):
                        return
                case "RSET" | "NOOP":
                    self._say("250 ok")
                case "QUIT":
                    self._say("221 bye")
                    return
                case _:
                    self._say("502 not here")

    def _take_mail(self, inbox: Inbox, sender: str, to: str) -> bool:
        """Take the content; False when the connection is to be broken off."""
        self._say("354 go on")
        raw = b""
        while (line := self.rfile.readline(_MAX_LINE)) not in (b".\r\n", b""):
            raw += line[1:] if line.startswith(b"..") else line
            if len(raw) > _MAX_MAIL:
                return False
        slow = inbox.take("smtp", "slow")
        if slow is not None:
            time.sleep(slow.seconds)
        drop = inbox.take("smtp", "commit_then_drop")
        inbox.put(_read(raw, sender, to))
        if drop is not None:
            return False
        self._say("250 taken")
        return True

    @property
    def _is_encrypted(self) -> bool:
        return isinstance(self.request, ssl.SSLSocket)

    def _encrypt(self, context: ssl.SSLContext) -> None:
        self.request = context.wrap_socket(self.request, server_side=True)
        self.connection = self.request
        self.rfile = self.request.makefile("rb", -1)
        self.wfile = self.request.makefile("wb", 0)

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


def _address(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


def _read(raw: bytes, sender: str, to: str) -> Arrived:
    mail = message_from_bytes(raw, policy=SMTP)
    body = mail.get_body(("plain",))
    return Arrived(
        id=new_message_id("ML"),
        door="smtp",
        key=str(mail.get("Message-ID", "")),
        sender=sender,
        to=to,
        subject=str(mail.get("Subject", "")),
        text="" if body is None else str(body.get_content()),
        status="taken",
        headers="\n".join(f"{name}: {value}" for name, value in mail.items()),
    )
