"""Running the sandbox inbox: as a program of its own, or beside a test or a demonstration."""

from __future__ import annotations

import secrets
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from node.errors import ConfigError
from orchestration.messengers.sandbox.certificates import loopback_context
from orchestration.messengers.sandbox.inbox import Arrived, Door, Fault, FaultKind, Inbox
from orchestration.messengers.sandbox.mail import MailServer
from orchestration.messengers.sandbox.web import Account, WebServer

DEFAULT_PORT = 8025


@dataclass(frozen=True, slots=True)
class InboxHandle:
    """A running sandbox and what a test or a demonstration may do with it."""

    page_url: str
    mail_port: int
    ca_file: Path
    account: Account = field(repr=False)
    inbox: Inbox = field(repr=False)
    web: WebServer = field(repr=False)

    @property
    def sms_url(self) -> str:
        """Base of the text message API."""
        return f"{self.page_url}sms"

    @property
    def chat_url(self) -> str:
        """The chat room's incoming webhook."""
        return f"{self.page_url}chat/room"

    def fault(
        self, kind: FaultKind, door: Door = "sms", *, count: int = 1, seconds: float = 0.0
    ) -> None:
        """Arm a fault; see `Fault`."""
        self.inbox.arm(Fault(kind, door, count, seconds))

    def messages(self, door: Door | None = None, to: str | None = None) -> list[Arrived]:
        """Give what arrived, oldest first."""
        return self.inbox.messages(door, to)

    def reply(self, sender: str, text: str, event_id: str = "") -> None:
        """Have a number answer; `event_id` again is the same delivery told twice."""
        self.web.receive(sender, text, event_id)

    def settings(self, callback_url: str = "") -> dict[str, object]:
        """Give the ``[messengers]`` section that leads a node here."""
        return {
            "smtp_host": "127.0.0.1",
            "smtp_port": self.mail_port,
            "smtp_ca_file": str(self.ca_file.absolute()),
            "mail_from": "Sandbox Dental <office@sandbox-dental.example>",
            "sms_url": self.sms_url,
            "sms_key": self.account.key,
            "sms_secret": self.account.secret,
            "sms_from": self.account.number,
            "public_url": callback_url,
            "chat_url": self.chat_url,
            "allowed_hosts": ("127.0.0.1",),
            "is_sandbox": True,
        }


@contextmanager
def running_inbox(
    folder: Path, *, port: int = 0, mail_port: int = 0, account: Account | None = None
) -> Iterator[InboxHandle]:
    """Run a sandbox inbox beside the caller; port 0 is any free one.

    `folder` receives its certificate. Raises ConfigError when a port is taken.
    """
    inbox = Inbox()
    context, ca_file = loopback_context(folder)
    account = account or Account(secrets.token_hex(16), secrets.token_hex(16))
    try:
        web = WebServer(inbox, account, port)
    except OSError as error:
        raise ConfigError(f"the inbox's port {port} cannot be opened ({error.strerror})") from None
    try:
        mail = MailServer(inbox, context, mail_port)
    except OSError as error:
        web.server_close()
        raise ConfigError(
            f"the mail port {mail_port} cannot be opened ({error.strerror})"
        ) from None
    servers: tuple[socketserver.BaseServer, ...] = (web, mail)
    threads = [
        threading.Thread(target=each.serve_forever, args=(0.1,), daemon=True) for each in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield InboxHandle(
            f"http://127.0.0.1:{web.server_address[1]}/",
            int(mail.server_address[1]),
            ca_file,
            account,
            inbox,
            web,
        )
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join(timeout=5)
