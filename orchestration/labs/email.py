"""A laboratory reached by e-mail: a link to the package, or the package attached.

A mail server cannot be asked what it has sent: when its answer is lost, a person asks the
laboratory. The Message-ID follows from the case, so that a second one is recognised there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

from node.errors import ConfigError, InvalidInput, Rejected, Unsupported
from orchestration.labs.partner import Dispatch, Invoice, LabUpdate, OutcomeUnknown, Receipt
from orchestration.messengers.message import Message, email_address
from orchestration.messengers.message import Receipt as MailReceipt

#: Mail servers refuse more than some 10 to 25 MB; larger packages go by link.
LARGEST_ATTACHMENT = 8_000_000


class Mailer(Protocol):
    """What is needed of the messenger."""

    def send(self, message: Message, key: str) -> MailReceipt:
        """Send one message once."""
        ...

    def send_file(self, message: Message, key: str, name: str, content: bytes) -> MailReceipt:
        """Send one message with a ZIP file attached."""
        ...


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """Where the laboratory takes packages, and whether they are attached or linked."""

    address: str
    form: Literal["link", "attachment"] = "link"

    def __post_init__(self) -> None:
        if email_address(self.address) is None:
            raise ConfigError("labs.partners.email must be an e-mail address")


class EmailLab:
    """One laboratory's mailbox; `link` makes an address where it fetches the package."""

    can_look = False
    can_report = False

    def __init__(
        self, settings: EmailSettings, mailer: Mailer, link: Callable[[Dispatch], str] | None
    ) -> None:
        if settings.form == "link" and link is None:
            raise ConfigError("links need messengers.public_url; or set form = attachment")
        self._settings = settings
        self._mailer = mailer
        self._link = link

    def submit(self, dispatch: Dispatch) -> Receipt:
        """Mail the package.

        Raises
        ------
        Rejected
            The mail server's answer was lost: ask the laboratory before it is sent again.
        InvalidInput
            The package is too large to be attached.
        """
        key = f"lab:{dispatch.case_number}:{dispatch.sha256[:16]}"
        try:
            sent = self._send(dispatch, key)
        except OutcomeUnknown:
            raise Rejected(
                "the mail server's answer was lost: ask the laboratory whether it has the case"
            ) from None
        return Receipt(sent.provider_id)

    def find(self, dispatch: Dispatch) -> Receipt | None:
        """Refuse: a mail server cannot be asked."""
        raise Unsupported("e-mail cannot be looked for")

    def updates(self, case_number: str) -> Sequence[LabUpdate]:
        """Refuse: a laboratory without a connection is asked by people."""
        raise Unsupported("this laboratory reports nothing by itself")

    def invoices(self, since: date) -> Sequence[Invoice]:
        """Refuse: invoices come on paper."""
        raise Unsupported("this laboratory sends no invoices that can be read")

    def _send(self, dispatch: Dispatch, key: str) -> MailReceipt:
        due = dispatch.due_at.date().isoformat() if dispatch.due_at else "as agreed"
        head = f"Case {dispatch.case_number}, due {due}.\nSHA-256 {dispatch.sha256}\n"
        subject = f"Lab case {dispatch.case_number}"
        if self._link is not None and self._settings.form == "link":
            text = f"{head}\nFetch the package here:\n{self._link(dispatch)}\n"
            return self._mailer.send(Message(self._settings.address, text, subject), key)
        if dispatch.size_bytes > LARGEST_ATTACHMENT:
            raise InvalidInput("the package is too large to be attached; set form = link")
        with dispatch.open() as file:
            content = file.read()
        message = Message(self._settings.address, f"{head}\nThe package is attached.\n", subject)
        return self._mailer.send_file(message, key, dispatch.file_name, content)
