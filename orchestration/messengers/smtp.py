"""E-mail by SMTP: TLS verified, one recipient a message, its Message-ID derived from the key.

SMTP has no way to ask whether a message arrived. When the connection breaks after the content was
sent, the outcome is unknown and stays so: the caller must not send it again.
"""

from __future__ import annotations

import hashlib
import re
import smtplib
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, parseaddr
from pathlib import Path
from typing import Literal, NoReturn

from node.domain.destinations import Reach, is_this_machine
from node.errors import BitewingError, ConfigError, InvalidInput, Rejected, Retryable, Unsupported
from node.outgoing import connect
from orchestration.messengers.message import (
    Channel,
    Message,
    OutcomeUnknown,
    Receipt,
    RecipientRefused,
    email_address,
)

#: The practice's mail server may stand in the office.
OFFICE = Reach("messengers", takes_near=True)
Security = Literal["starttls", "tls", "none"]
#: Replies to RCPT that speak of the mailbox, not of us (RFC 5321 4.2.3).
_NO_MAILBOX = (550, 551, 553)


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """How to reach the practice's mail server; ``sender`` is "Name <address>" or an address."""

    host: str
    port: int
    sender: str
    reply_to: str = ""
    security: Security = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    timeout_s: float = 30.0
    reach: Reach = OFFICE

    def __post_init__(self) -> None:
        if not self.host:
            raise ConfigError("messengers.smtp_host is empty")
        if email_address(parseaddr(self.sender)[1]) is None:
            raise ConfigError("messengers.mail_from must be an e-mail address")
        if self.security == "none" and not is_this_machine(self.host):
            raise ConfigError("messengers.smtp_security none is for this machine only")


class SmtpMessenger:
    """Sends e-mail through one server, a connection a message."""

    channel = Channel.EMAIL

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings

    def send(self, message: Message, key: str) -> Receipt:
        """Hand one message to the server.

        Raises
        ------
        OutcomeUnknown
            The connection broke after the content was sent.
        RecipientRefused
            The server knows no such mailbox.
        """
        return self._deliver(self._compose(message, key))

    def send_file(self, message: Message, key: str, name: str, content: bytes) -> Receipt:
        """Hand over one message with a ZIP file attached; raises as :meth:`send`."""
        mail = self._compose(message, key)
        mail.add_attachment(content, maintype="application", subtype="zip", filename=name)
        return self._deliver(mail)

    def _deliver(self, mail: EmailMessage) -> Receipt:
        server = self._connect()
        try:
            self._hand_over(server, mail)
        except OSError as error:  # smtplib's errors are OSErrors; those of the content are not here
            raise Retryable(f"the mail server broke off ({type(error).__name__})", 30.0) from None
        finally:
            server.close()
        return Receipt(self.channel, str(mail["Message-ID"]))

    def find(self, key: str) -> Receipt | None:
        """Refuse: a mail server cannot be asked what it has sent."""
        raise Unsupported("e-mail cannot be looked for; whether it went out stays unknown")

    def message_id(self, key: str) -> str:
        """Derive the Message-ID, the same for a key for ever."""
        domain = parseaddr(self._settings.sender)[1].rpartition("@")[2]
        return f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@{domain}>"

    def _compose(self, message: Message, key: str) -> EmailMessage:
        if email_address(message.to) is None:
            raise InvalidInput("the message has no e-mail address")
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self._settings.sender
        mail["To"] = message.to
        mail["Subject"] = message.subject or "A message from your dental practice"
        mail["Date"] = formatdate()
        mail["Message-ID"] = self.message_id(key)
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic answer, please
        if self._settings.reply_to:
            mail["Reply-To"] = self._settings.reply_to
        if message.stop_url:
            mail["List-Unsubscribe"] = f"<{message.stop_url}>"
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"  # RFC 8058
        mail.set_content(message.text)
        return mail

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        try:
            context = ssl.create_default_context(
                cafile=str(settings.ca_file) if settings.ca_file else None
            )
        except OSError:
            raise ConfigError("messengers.smtp_ca_file cannot be read") from None
        try:
            return self._open(context)
        except ssl.SSLCertVerificationError:
            raise ConfigError(
                "the mail server's certificate is not trusted; see messengers.smtp_ca_file"
            ) from None
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError) as error:
            raise ConfigError(
                f"the mail server refuses messengers.smtp_user ({type(error).__name__})"
            ) from None
        except (OSError, smtplib.SMTPException) as error:
            raise Retryable(f"the mail server is away ({type(error).__name__})", 30.0) from None

    def _open(self, context: ssl.SSLContext) -> smtplib.SMTP:
        settings = self._settings
        server = _Server(settings, context if settings.security == "tls" else None)
        try:
            server.ehlo(_our_name())
            if settings.security == "starttls":
                if not server.has_extn("starttls"):
                    raise ConfigError("the mail server offers no TLS; nothing was sent")
                server.starttls(context=context)
                server.ehlo(_our_name())
            if settings.user:
                server.login(settings.user, settings.password)
        except BaseException:
            server.close()
            raise
        return server

    def _hand_over(self, server: smtplib.SMTP, mail: EmailMessage) -> None:
        sender = parseaddr(str(mail["From"]))[1]
        _expect(server.mail(sender), 250)
        _expect(server.rcpt(str(mail["To"])), 250, is_recipient=True)
        _expect(server.docmd("DATA"), 354)
        content = re.sub(rb"(?m)^\.", b"..", mail.as_bytes())
        try:
            server.send(content + b".\r\n")
            answer = server.getreply()
        except OSError as error:  # the server may have taken it
            raise OutcomeUnknown(
                f"the mail server's answer was lost ({type(error).__name__})"
            ) from None
        _expect(answer, 250)
        with suppress(OSError):  # it is taken; a farewell changes nothing
            server.quit()


class _Server(smtplib.SMTP):
    """A session whose connection is made by the door; over TLS from the start with `context`."""

    def __init__(self, settings: SmtpSettings, context: ssl.SSLContext | None) -> None:
        self._reach = settings.reach
        self._tls = context
        super().__init__(settings.host, settings.port, timeout=settings.timeout_s)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """Stand in for smtplib's own, the one place where it connects."""
        plain = connect(self._reach, host, port, timeout)
        if self._tls is None:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise


def _expect(answer: tuple[int, bytes], code: int, *, is_recipient: bool = False) -> None:
    if answer[0] != code:
        _fail(answer[0], is_recipient=is_recipient)


def _fail(code: int, *, is_recipient: bool) -> NoReturn:
    """Raise what a reply means; its text is left out, it repeats the address."""
    if is_recipient and code in _NO_MAILBOX:
        raise RecipientRefused(f"the mail server knows no such mailbox ({code})")
    error: type[BitewingError] = Retryable if 400 <= code < 500 or code < 0 else Rejected
    raise error(f"the mail server refused the message ({code})")


def _our_name() -> str:
    """Name ourselves in EHLO by an address literal: the machine's name is nobody's business."""
    try:
        return f"[{socket.gethostbyname(socket.gethostname())}]"
    except OSError:
        return "[127.0.0.1]"
