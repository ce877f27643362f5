"""The clearinghouse by its REST service: X12 bodies, ids of ours, nothing sent twice.

What was sent and whose answer was lost is :class:`OutcomeUnknown`: look with `find_submission` or
`find_attachment` before it is sent again. The same id with the same bytes is one submission there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx2

from node.domain.destinations import PUBLIC_ONLY, Reach, check_destination
from node.errors import BitewingError, ConfigError, Conflict, InvalidInput, Rejected, Retryable
from node.outgoing import open_client
from pms_writeback.pms import OutcomeUnknown

__all__ = ["Clearinghouse", "ClearinghouseSettings", "OutcomeUnknown", "PayerMail", "Photo"]

_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_MAX_ANSWER = 20_000_000
_MAX_WAIT_S = 600.0


@dataclass(frozen=True, slots=True)
class ClearinghouseSettings:
    """One account at one clearinghouse."""

    url: str
    api_key: str = field(repr=False)
    hosts: Collection[str] = ()
    timeout_s: float = 30.0
    reach: Reach = PUBLIC_ONLY

    def __post_init__(self) -> None:
        check_destination(self.url, "payers.url", self.hosts)
        if not self.api_key:
            raise ConfigError("payers.url needs payers.api_key")


@dataclass(frozen=True, slots=True)
class Photo:
    """One file to attach under our `reference`."""

    reference: str
    file_name: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PayerMail:
    """One answer; ``id`` is the same however often it is delivered.

    ``kind`` is 999, 277CA, 835, EOB or a word unknown to us; ``submission_id`` is ours, empty when
    the clearinghouse does not know it.
    """

    id: str
    kind: str
    submission_id: str
    media_type: str
    content: bytes = field(repr=False)


class Clearinghouse:
    """Calls block; safe to use from several threads."""

    def __init__(self, settings: ClearinghouseSettings) -> None:
        self._base = settings.url.rstrip("/")
        self._client = open_client(
            settings.reach,
            headers={"authorization": f"Bearer {settings.api_key}"},
            timeout=httpx2.Timeout(settings.timeout_s, connect=10.0),
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._client.close()

    def ask(self, x12: str) -> str:
        """Ask an eligibility question (270) and give the answer (271); asking twice is harmless.

        Raises
        ------
        Retryable
            The clearinghouse is away, busy, or its answer was lost.
        Rejected, ConfigError
            It refuses the question, or our key.
        """
        answer = self._read("POST", "/eligibility", x12.encode("ascii"))
        return answer.content.decode("utf-8", "replace")

    def submit(self, submission_id: str, x12: str) -> None:
        """Send a claim once under our id; the same again is one claim there.

        Raises
        ------
        OutcomeUnknown
            It may have been taken; look with `find_submission`.
        Conflict
            Another claim stands there under this id.
        """
        body = x12.encode("ascii")
        self._write(f"/submissions/{quote(submission_id, safe='')}", body, "application/edi-x12")

    def find_submission(self, submission_id: str) -> bool:
        """Look whether a claim arrived under our id."""
        return self._found(f"/submissions/{quote(submission_id, safe='')}") is not None

    def attach(self, photo: Photo) -> str:
        """Send a file once under our reference; returns its control number.

        Raises OutcomeUnknown when it may have been taken; look with `find_attachment`.
        """
        place = f"/attachments/{quote(photo.reference, safe='')}"
        headers = {"x-file-name": photo.file_name}
        return _control_number(self._write(place, photo.content, photo.media_type, headers))

    def find_attachment(self, reference: str) -> str | None:
        """Look for a file under our reference; gives its control number."""
        found = self._found(f"/attachments/{quote(reference, safe='')}")
        return None if found is None else _control_number(found)

    def inbox(self, cursor: str) -> tuple[list[PayerMail], str]:
        """Give the answers behind a cursor ("" from the beginning) and the next cursor.

        A message that cannot be read is passed on with the bytes that came.
        """
        answer = self._read("GET", f"/inbox?after={quote(cursor or '0', safe='')}")
        said = _object(answer)
        rows, following = said.get("messages"), said.get("next")
        if not isinstance(rows, list) or not isinstance(following, str):
            raise Retryable("the clearinghouse's inbox cannot be read", 60.0)
        return [mail for row in rows for mail in _mail(row)], following

    def _found(self, path: str) -> httpx2.Response | None:
        try:
            return self._read("GET", path)
        except _Missing:
            return None

    def _read(self, method: str, path: str, body: bytes | None = None) -> httpx2.Response:
        headers = {"content-type": "application/edi-x12"} if body else {}
        try:
            answer = self._client.request(method, self._base + path, content=body, headers=headers)
        except httpx2.RequestError as error:
            raise _away(error) from None
        if answer.status_code >= 500:
            raise Retryable(f"the clearinghouse failed ({answer.status_code})", _wait(answer))
        return _judged(answer)

    def _write(
        self, path: str, body: bytes, media_type: str, more: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        headers = {"content-type": media_type, **(more or {})}
        try:
            answer = self._client.put(self._base + path, content=body, headers=headers)
        except _NOT_SENT as error:
            raise _away(error) from None
        except httpx2.RequestError as error:
            kind = type(error).__name__
            raise OutcomeUnknown(f"the clearinghouse's answer was lost ({kind})") from None
        if answer.status_code >= 500 and answer.status_code != 503:
            raise OutcomeUnknown(f"the clearinghouse failed ({answer.status_code})", 15.0)
        return _judged(answer)


class _Missing(Rejected):
    """There is no such thing there."""


def _judged(answer: httpx2.Response) -> httpx2.Response:
    if answer.is_success:
        if len(answer.content) > _MAX_ANSWER:
            raise Rejected("the clearinghouse's answer is too large")
        return answer
    raise _failure(answer)


def _failure(answer: httpx2.Response) -> BitewingError:
    """Say what an answer that is no success means; its text may repeat patient data."""
    match answer.status_code:
        case 401 | 403:
            return ConfigError("the clearinghouse refuses our key (payers.api_key)")
        case 404:
            return _Missing("the clearinghouse does not know it")
        case 408 | 425 | 429 | 503:
            return Retryable("the clearinghouse asks to wait", _wait(answer))
        case 409:
            return Conflict("the clearinghouse holds another claim or file under this id")
        case 422:
            return InvalidInput("the clearinghouse cannot read what we sent")
        case status:
            return Rejected(f"the clearinghouse refused it ({status})")


def _away(error: Exception) -> Retryable:
    return Retryable(f"the clearinghouse does not answer ({type(error).__name__})", 15.0)


def _wait(answer: httpx2.Response) -> float:
    try:
        return min(_MAX_WAIT_S, max(1.0, float(answer.headers.get("retry-after", "15"))))
    except ValueError:
        return 15.0


def _object(answer: httpx2.Response) -> Mapping[str, object]:
    try:
        value: object = answer.json()
    except (ValueError, RecursionError):
        raise Retryable("the clearinghouse's answer is cut off", 15.0) from None
    return value if isinstance(value, dict) else {}


def _control_number(answer: httpx2.Response) -> str:
    number = _object(answer).get("control_number")
    if not isinstance(number, str) or not number:
        raise OutcomeUnknown("the clearinghouse gave no control number", 15.0)
    return number


def _mail(row: object) -> list[PayerMail]:
    """Read one message; what has no id cannot be told apart and is left for the next look."""
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise Retryable("a message in the clearinghouse's inbox cannot be read", 60.0)
    try:
        content = base64.b64decode(str(row.get("content", "")), validate=True)
    except (ValueError, binascii.Error):
        content = str(row.get("content", "")).encode()
    return [
        PayerMail(
            row["id"][:100],
            str(row.get("kind", "")),
            str(row.get("submission_id") or ""),
            str(row.get("media_type", "")),
            content,
        )
    ]
