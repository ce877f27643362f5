"""One office's Open Dental API on the wire: keys, paging, pace, and what each failure means.

Everything vendor-specific about HTTP is here; rows are read in `rows`, meanings in `adapter`.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx2

from node.domain.destinations import Reach
from node.errors import (
    BitewingError,
    ConfigError,
    NotFound,
    Rejected,
    Retryable,
    Unsupported,
)
from pms_writeback.opendental.rows import Fields, Oddities
from pms_writeback.opendental.ways import NOT_SENT, OFFICE, Way, Ways, retry_after
from pms_writeback.pms import OfficeAway, OutcomeUnknown
from pms_writeback.wording import without_names

log = logging.getLogger(__name__)

PAGE_CAPS = (100, 1000, 10_000)
"""Row caps of the remote, local and enterprise services; a page this long may not be the last."""

MAX_PAGES = 20_000
#: A list whose rows moved while it was read is begun again this often.
_CAREFUL_READINGS = 3

_QUERY = "/queries/ShortQuery"
_QUERY_CAP = 100


@dataclass(frozen=True, slots=True)
class OpenDentalSettings:
    """How to reach and use one office.

    ``base_url`` ends in ``/api/v1``. ``task_list`` and ``task_user`` are names or numbers; empty
    means that no tasks are written. ``min_interval_s`` is the least time between two requests: 5
    for a read-only key on the remote service, 1 with any other permission, 0.5 with Enterprise, 0
    for the local ones; ``burst`` requests may follow each other at once after a rest. ``ways``,
    where given, take the place of ``base_url`` and its limits.
    The vendor's remote service gives up after 60 s, so ``read_timeout_s`` is longer than that.
    """

    base_url: str
    developer_key: str = field(repr=False)
    customer_key: str = field(repr=False)
    time_zone: str
    task_list: str = ""
    task_user: str = ""
    min_interval_s: float = 0.0
    burst: int = 1
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 65.0
    page_size: int = 100
    update_check_s: float = 30.0
    allow_plain_http: bool = False
    ways: tuple[Way, ...] = ()
    reach: Reach = OFFICE

    def __post_init__(self) -> None:
        if not self.developer_key or not self.customer_key:
            raise ConfigError("Open Dental needs a developer key and a customer key")
        if not _is_header_text(self.developer_key + self.customer_key):
            raise ConfigError("the Open Dental keys hold characters that no key has")
        for way in self.all_ways:
            way.check(self.allow_plain_http)

    @property
    def all_ways(self) -> tuple[Way, ...]:
        """The ways in the order of use; the one of ``base_url`` unless others are given."""
        if self.ways:
            return self.ways
        return (Way(self.base_url, self.page_size, self.min_interval_s, self.burst),)


class _Shifted(Exception):
    """A list changed while its pages were read."""


def _is_same(row: object, before: object) -> bool:
    """Whether two readings of a row are of one record, changed meanwhile or not."""
    key = _first_number(row)
    return row == before if key is None else key == _first_number(before)


def _first_number(row: object) -> tuple[str, object] | None:
    """Give the first of a row's numbers, its own: before it stands at most the server's clock."""
    members = row.items() if isinstance(row, dict) else ()
    return next(((name, value) for name, value in members if str(name).endswith("Num")), None)


def _is_header_text(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


class Connection:
    """Requests to one office; safe to use from several threads."""

    def __init__(self, settings: OpenDentalSettings) -> None:
        self.oddities = Oddities()
        keys = f"{settings.developer_key}/{settings.customer_key}"
        headers = {
            "Authorization": f"ODFHIR {keys}",
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        timeout = httpx2.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s)
        self._ways = Ways(settings.all_ways, headers, timeout, reach=settings.reach)

    def close(self) -> None:
        """Close the pooled connections."""
        self._ways.close()

    def rows(self, path: str, parameters: Mapping[str, str] | None = None) -> list[Fields]:
        """Read a whole list, page by page, until a page is short."""
        for _ in range(_CAREFUL_READINGS):
            with contextlib.suppress(_Shifted):
                return [row for page in self._read_once(path, parameters) for row in page]
        return [row for page in self._read_restless(path, parameters) for row in page]

    def pages(
        self, path: str, parameters: Mapping[str, str] | None = None
    ) -> Iterator[list[Fields]]:
        """Read a list a page at a time, until a page is short.

        A list that changed while it was read is read again: its rows may come twice.
        """
        for _ in range(_CAREFUL_READINGS):
            with contextlib.suppress(_Shifted):
                yield from self._read_once(path, parameters)
                return
        yield from self._read_restless(path, parameters)

    def _read_restless(
        self, path: str, parameters: Mapping[str, str] | None
    ) -> Iterator[list[Fields]]:
        """Read a list that never holds still, as it comes."""
        log.warning("the list %s changed each time while it was read", _resource(path))
        return self._read_once(path, parameters, is_careful=False)

    def _read_once(
        self, path: str, parameters: Mapping[str, str] | None, *, is_careful: bool = True
    ) -> Iterator[list[Fields]]:
        """Read a list; to be careful each page begins with the last row of the one before.

        Offsets count from the front: a row deleted there while pages are read moves the others
        up, and one that is alive would be skipped, and taken for deleted. Raises _Shifted then.
        """
        previous: list[object] = []
        offset = 0
        for _ in range(MAX_PAGES):
            limit = self._ways.page_size
            overlap = 1 if is_careful and previous and limit > 1 else 0
            paging = {"Limit": str(limit), "Offset": str(offset - overlap)}
            page = self._json(self._read(path, {**(parameters or {}), **paging}), path)
            if not isinstance(page, list):
                raise Rejected(f"Open Dental answered {path} with something that is not a list")
            if page and page == previous:
                raise Rejected(f"Open Dental answers {path} with the same page again")
            if overlap and not (page and _is_same(page[0], previous[-1])):
                raise _Shifted
            previous = page
            offset += len(page) - overlap
            yield self._fields(path, page[overlap:])
            if len(page) < limit and len(page) not in PAGE_CAPS:
                return
        raise Rejected(f"Open Dental's list {path} does not end")

    def page(self, path: str, parameters: Mapping[str, str]) -> list[Fields]:
        """Read one page as asked, without going on."""
        page = self._json(self._read(path, parameters), path)
        return self._fields(path, page) if isinstance(page, list) else []

    def query(self, sql: str) -> list[Fields]:
        """Read the rows of one SQL statement; needs the permission Queries.

        The office's audit trail keeps the statement: never put anybody's data into it.
        """
        found: list[Fields] = []
        for _ in range(MAX_PAGES):
            answer = self._read(_QUERY, {"Offset": str(len(found))}, {"SqlCommand": sql})
            page = self._json(answer, _QUERY)
            if not isinstance(page, list):
                raise Rejected("Open Dental answered a query with something that is not a list")
            found += self._fields(_QUERY, page)
            if len(page) < _QUERY_CAP:
                return found
        raise Rejected("Open Dental's answer to a query does not end")

    def row(self, path: str) -> Fields:
        """Read one row; raises NotFound."""
        found = self._json(self._read(path, {}), path)
        if not isinstance(found, dict):
            raise Rejected(f"Open Dental answered {_resource(path)} with something not a row")
        return Fields(_resource(path), found, self.oddities)

    def definition(self, category: int, name: str) -> str:
        """Find one of the office's own definitions by its name; empty when there is none."""
        for row in self.rows("/definitions", {"Category": str(category)}):
            # an old version ignores the filter
            if row.number("Category") == category and row.text("ItemName") == name:
                return row.own_key("DefNum")
        return ""

    def write(self, method: str, path: str, body: Mapping[str, str | int | list[int]]) -> Fields:
        """Send one write once and give the row it answered.

        Raises
        ------
        OutcomeUnknown
            The request may have been executed: its answer was lost, or cannot be read.
        """
        try:
            answer = self._ways.request(method, path, is_write=True, body=body)
        except NOT_SENT as error:
            raise _away(error) from error
        except httpx2.RequestError as error:
            raise OutcomeUnknown(f"the answer to a write was lost ({_kind(error)})") from error
        if not answer.is_success:
            raise _write_failure(answer)
        if not answer.content:  # some updates answer nothing but their status
            return Fields(_resource(path), {}, self.oddities)
        try:
            row: object = answer.json()
        except (ValueError, RecursionError) as error:
            raise OutcomeUnknown("the answer to a write cannot be read") from error
        if not isinstance(row, dict):
            raise OutcomeUnknown("the answer to a write is not a row")
        return Fields(_resource(path), row, self.oddities)

    def _read(
        self,
        path: str,
        parameters: Mapping[str, str],
        query: Mapping[str, str | int | list[int]] | None = None,
    ) -> httpx2.Response:
        """Ask for something; `query` is the body of the one question that is sent by PUT."""
        method = "GET" if query is None else "PUT"
        try:
            answer = self._ways.request(
                method, path, is_write=False, parameters=parameters, body=query
            )
        except httpx2.RequestError as error:
            raise _away(error) from error
        if not answer.is_success:
            raise _read_failure(answer)
        return answer

    def _json(self, answer: httpx2.Response, path: str) -> object:
        try:
            value: object = answer.json()
        except (ValueError, RecursionError) as error:
            raise Retryable(f"Open Dental's answer to {_resource(path)} is cut off") from error
        return value

    def _fields(self, path: str, page: list[object]) -> list[Fields]:
        resource = _resource(path)
        return [Fields(resource, row, self.oddities) for row in page if isinstance(row, dict)]


def _resource(path: str) -> str:
    return path.strip("/").split("/")[0]


def _kind(error: Exception) -> str:
    return type(error).__name__


def _away(error: Exception) -> OfficeAway:
    return OfficeAway(f"Open Dental does not answer ({_kind(error)})", retry_after_s=15.0)


_UPDATING = ("update in progress", "being updated")
#: Somebody holds the row. A procedure that "is locked" for good is no such thing.
_LOCKED = ("lock wait timeout", "locked by", "in use by", "deadlock")
_TRANSIENT = ("econnector", "timeout", "timed out", "connectivity", "try again")


def sentence(answer: httpx2.Response) -> str:
    """Read the human sentence of an error: plain text, a JSON string or ``{"message": …}``.

    It may quote the chart: only what names nobody is given.
    """
    text = answer.text.strip()
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, dict):
        value = value.get("message") or value.get("Message") or ""
    if not isinstance(value, str) or value.startswith("<"):
        return answer.reason_phrase
    return without_names(value)[:300] or answer.reason_phrase


def _common_failure(answer: httpx2.Response, said: str) -> BitewingError | None:
    status, words = answer.status_code, said.lower()
    if status in (400, 503) and any(each in words for each in _UPDATING):
        return OfficeAway("Open Dental is being updated at this office", retry_after_s=120.0)
    if status == 423 or (status in (400, 409) and any(each in words for each in _LOCKED)):
        return Retryable(f"the record is locked in Open Dental ({status})", retry_after(answer))
    if status == 401:
        return ConfigError(f"Open Dental refuses the keys or their permissions: {said}")
    if status in (429, 503):
        return OfficeAway(f"Open Dental asks to wait ({status}): {said}", retry_after(answer))
    if status == 410:
        return Unsupported(f"Open Dental has retired this method: {said}")
    if 300 <= status < 400:
        return ConfigError("pms.base_url is redirected elsewhere; configure the final address")
    return None


def _is_transient(answer: httpx2.Response, said: str) -> bool:
    return answer.status_code == 400 and any(word in said.lower() for word in _TRANSIENT)


def _read_failure(answer: httpx2.Response) -> BitewingError:
    said = sentence(answer)
    is_failure = answer.status_code >= 500 and answer.status_code != 503
    if is_failure or _is_transient(answer, said):
        return Retryable(f"Open Dental failed ({answer.status_code}): {said}", retry_after_s=15.0)
    common = _common_failure(answer, said)
    if common is not None:
        return common
    if answer.status_code == 404:
        return NotFound(f"Open Dental refuses (404): {said}")
    return Rejected(f"Open Dental refuses ({answer.status_code}): {said}")


def _write_failure(answer: httpx2.Response) -> BitewingError:
    said = sentence(answer)
    common = _common_failure(answer, said)
    if common is not None:
        return common
    if answer.status_code >= 500 or _is_transient(answer, said):
        # 504 comes after 60 s, an eConnector may break off after handing the request on.
        return OutcomeUnknown(f"Open Dental failed on a write ({answer.status_code}): {said}", 15.0)
    if answer.status_code == 404:
        return NotFound(f"Open Dental refuses (404): {said}")
    return Rejected(f"Open Dental refuses ({answer.status_code}): {said}")
