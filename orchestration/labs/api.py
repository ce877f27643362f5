"""A laboratory reached by our HTTP form (docs/lab-cases.md), such as the sandbox's.

No laboratory publishes an API; this is what we offer to agree on. A case is one resource under its
number, so that sending it again has one effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from urllib.parse import quote, urlsplit

import httpx2

from node.domain.destinations import PUBLIC_ONLY, Reach, check_destination
from node.errors import ConfigError, InvalidInput, Rejected, Retryable
from node.outgoing import open_client
from orchestration.labs.callbacks import update_of
from orchestration.labs.invoices import read_invoices
from orchestration.labs.partner import Dispatch, Invoice, LabUpdate, OutcomeUnknown, Receipt
from orchestration.messengers.wire import retry_after

_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_MAX_ANSWER = 5_000_000


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Where the laboratory's service is; `allowed_hosts` are the only ones patient data goes to."""

    url: str
    key: str = field(repr=False)
    timeout_s: float = 60.0
    reach: Reach = PUBLIC_ONLY

    def __post_init__(self) -> None:
        if not self.key:
            raise ConfigError("a laboratory's api_key is empty")
        check_destination(self.url, "labs.partners.url", [urlsplit(self.url).hostname or ""])


class ApiLab:
    """One laboratory's service; safe to use from several threads."""

    can_look = True
    can_report = True

    def __init__(self, settings: ApiSettings) -> None:
        self._client = open_client(
            settings.reach,
            base_url=settings.url.rstrip("/"),
            headers={"Authorization": f"Bearer {settings.key}", "Accept": "application/json"},
            timeout=httpx2.Timeout(settings.timeout_s, connect=10.0),
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._client.close()

    def submit(self, dispatch: Dispatch) -> Receipt:
        """Put the package under its case number.

        Raises
        ------
        OutcomeUnknown
            The answer was lost; look before sending again.
        Rejected
            The laboratory has other bytes under this number, or refuses these.
        """
        path = f"/v1/cases/{quote(dispatch.case_number)}/package?name={quote(dispatch.file_name)}"
        headers = {
            "X-SHA256": dispatch.sha256,
            "Content-Type": "application/zip",
            "Content-Length": str(dispatch.size_bytes),
        }
        try:
            with dispatch.open() as file:
                answer = self._client.put(path, content=file, headers=headers)
        except _NOT_SENT as error:
            raise _away(error) from None
        except httpx2.RequestError as error:
            raise OutcomeUnknown(
                f"the laboratory's answer was lost ({type(error).__name__})", 30.0
            ) from None
        if answer.status_code >= 500 and answer.status_code != 503:
            raise OutcomeUnknown(f"the laboratory's service failed ({answer.status_code})", 30.0)
        fields = _read(answer)
        return Receipt(str(fields.get("lab_case", "")), answer.status_code == 200)

    def find(self, dispatch: Dispatch) -> Receipt | None:
        """Look for the case; raises Rejected when it is there with other bytes."""
        fields = self._get(f"/v1/cases/{quote(dispatch.case_number)}")
        if fields is None:
            return None
        if fields.get("sha256") != dispatch.sha256:
            raise Rejected("the laboratory has another package under this case number")
        return Receipt(str(fields.get("lab_case", "")), already_there=True)

    def updates(self, case_number: str) -> Sequence[LabUpdate]:
        """Ask for all words about a case; none where the laboratory does not know it."""
        fields = self._get(f"/v1/cases/{quote(case_number)}") or {}
        words = fields.get("updates", [])
        if not isinstance(words, list):
            raise Rejected("the laboratory's answer holds no list of updates")
        found = [update_of(word) for word in words]
        return [update for update in found if update.case_number == case_number]

    def invoices(self, since: date) -> Sequence[Invoice]:
        """Read the invoices since a day."""
        answer = self._send_get(f"/v1/invoices?since={since.isoformat()}")
        _read(answer)
        try:
            return read_invoices(answer.content)
        except InvalidInput as error:
            raise Rejected(f"the laboratory's invoices cannot be read: {error}") from None

    def _get(self, path: str) -> Mapping[str, object] | None:
        answer = self._send_get(path)
        return None if answer.status_code == 404 else _read(answer)

    def _send_get(self, path: str) -> httpx2.Response:
        try:
            return self._client.get(path)
        except httpx2.RequestError as error:
            raise _away(error) from None


def _away(error: Exception) -> Retryable:
    return Retryable(f"the laboratory does not answer ({type(error).__name__})", 30.0)


def _read(answer: httpx2.Response) -> Mapping[str, object]:
    """Read an answer, or raise what its status means; its text is left out, it may name a case."""
    status = answer.status_code
    if status in (408, 425, 429, 500, 502, 503, 504):
        raise Retryable(f"the laboratory asks to wait ({status})", retry_after(answer))
    if status in (401, 403) or 300 <= status < 400:
        raise ConfigError(f"the laboratory refuses our key or address ({status})")
    if status == 409:
        raise Rejected("the laboratory has another package under this case number")
    if status >= 400:
        raise Rejected(f"the laboratory refused the package ({status})")
    if len(answer.content) > _MAX_ANSWER:
        raise Rejected("the laboratory's answer is too long")
    try:
        value: object = answer.json()
    except (ValueError, RecursionError):
        raise Rejected("the laboratory's answer is not JSON") from None
    if not isinstance(value, dict):
        raise Rejected("the laboratory's answer is not an object")
    return value
