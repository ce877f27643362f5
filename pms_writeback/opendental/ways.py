"""The ways into one Open Dental office, tried in their order: service, local, remote.

All lead to the same database under the same keys. The vendor advises the API service first and
its remote API after it; on a workstation the program's own API before both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import urlsplit

import httpx2

from node.domain.destinations import Reach, is_near
from node.errors import ConfigError
from node.outgoing import open_client
from pms_writeback.pace import TokenBucket

#: The API may run on the office's own server.
OFFICE = Reach("pms", takes_near=True)
#: A way that did not answer is left alone for so long while another one does.
_REST_S = 60.0

NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
"""Failures after which the request has certainly not reached anybody."""


class Mode(StrEnum):
    """The three places where Open Dental's API runs."""

    SERVICE = "service"  # a Windows service, normally on the database's server
    LOCAL = "local"  # inside the program on a workstation, while somebody is logged in
    REMOTE = "remote"  # the vendor's cloud, through the office's eConnector


@dataclass(frozen=True, slots=True)
class Way:
    """One address and its limits: rows a page, least seconds between requests, requests at once."""

    url: str
    page_size: int
    min_interval_s: float
    burst: int = 1

    def check(self, allow_plain_http: bool) -> None:
        """Raise ConfigError when patient data would leave the office's network without TLS."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError("pms.base_url must look like https://host/api/v1")
        if parts.scheme == "http" and not allow_plain_http and not is_near(parts.hostname):
            raise ConfigError(
                f"pms.base_url sends patient data to {parts.hostname} without TLS; use https"
            )


_USUAL = {
    Mode.SERVICE: Way("http://localhost:30223/api/v1", 1000, 0.0),
    Mode.LOCAL: Way("http://localhost:30222/api/v1", 1000, 0.0),
    Mode.REMOTE: Way("https://api.opendental.com/api/v1", 100, 1.0),
}


def usual_way(mode: Mode, url: str = "") -> Way:
    """Give a mode's way with the vendor's limits, at its own address or at `url`."""
    way = _USUAL[mode]
    return replace(way, url=url) if url else way


class _Line:
    """One way with its pooled connections and its pace."""

    def __init__(
        self, way: Way, headers: Mapping[str, str], timeout: httpx2.Timeout, reach: Reach
    ) -> None:
        self.way = way
        self.pace = TokenBucket(way.min_interval_s, way.burst)
        self.rests_until = float("-inf")
        self.client = open_client(
            reach,
            base_url=way.url.rstrip("/"),
            headers=headers,
            timeout=timeout,
            # A proxy is for the vendor's cloud, never for the office's own network.
            uses_proxy=not is_near(urlsplit(way.url).hostname or ""),
        )


class Ways:
    """Sends requests by the first way that answers; safe to use from several threads."""

    def __init__(
        self,
        ways: Sequence[Way],
        headers: Mapping[str, str],
        timeout: httpx2.Timeout,
        clock: Callable[[], float] = time.monotonic,
        reach: Reach = OFFICE,
    ) -> None:
        if not ways:
            raise ConfigError("no way into the office is configured")
        self._lines = [_Line(way, headers, timeout, reach) for way in ways]
        self._clock = clock

    def close(self) -> None:
        """Close the pooled connections."""
        for line in self._lines:
            line.client.close()

    @property
    def page_size(self) -> int:
        """Rows to ask for at once by the way that is used next."""
        return next(self._in_order()).way.page_size

    def request(
        self,
        method: str,
        path: str,
        *,
        is_write: bool,
        parameters: Mapping[str, str] | None = None,
        body: Mapping[str, str | int | list[int]] | None = None,
    ) -> httpx2.Response:
        """Ask by one way after the other until one answers.

        A write goes on to the next only when it was certainly not sent. Raises the last way's
        httpx2.RequestError, and OfficeAway while the vendor's service wants a rest.
        """
        lost: httpx2.RequestError | None = None
        for line in self._in_order():
            line.pace.take()
            try:
                answer = line.client.request(
                    method, path, params=dict(parameters or {}), json=None if body is None else body
                )
            except httpx2.RequestError as error:
                line.rests_until = self._clock() + _REST_S
                if is_write and not isinstance(error, NOT_SENT):
                    raise
                lost = error
                continue
            line.rests_until = float("-inf")
            if answer.status_code == 429 and "retry-after" in answer.headers:
                line.pace.hold(retry_after(answer))
            return answer
        assert lost is not None  # there is at least one way
        raise lost

    def _in_order(self) -> Iterator[_Line]:
        """Give the lines as configured, those at rest last."""
        now = self._clock()
        yield from sorted(self._lines, key=lambda line: now < line.rests_until)


def retry_after(answer: httpx2.Response) -> float:
    """Read how many seconds an answer asks to wait, 1 to 600; 5 when it does not say."""
    try:
        return min(600.0, max(1.0, float(answer.headers.get("retry-after", "5"))))
    except ValueError:
        return 5.0
