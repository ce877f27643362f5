"""How much one account, one address and one request may ask for.

Rates are kept by this process: tokens fill a bucket evenly, each request takes one. Bodies are
refused by their announced length before anything of them is read, and while they are read.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from node.errors import BitewingError

#: No request of the pages is larger than a hundred operations.
BODY_BYTES = 2 << 20
#: An intraoral series or a cone beam volume.
STOW_BYTES = 1 << 30
#: The longest body by the beginning of the path; the first that fits.
_BODIES: tuple[tuple[str, int], ...] = (
    ("/dicomweb/studies", STOW_BYTES),
    ("/api/login", 4 << 10),
    ("/api/switch", 4 << 10),
    ("/api/prove", 4 << 10),
    ("/api/password", 4 << 10),
    ("/api/pin", 4 << 10),
    ("/oidc/", 0),
)


class TooMany(BitewingError):
    """Too many requests in a short time; the same one may be sent again after a while."""

    def __init__(self, words: str, retry_after_s: float) -> None:
        super().__init__(words)
        self.retry_after_s = retry_after_s


class TooLarge(BitewingError):
    """The body is longer than this route takes."""

    def __init__(self) -> None:
        super().__init__("The request is too large.")


def sender_of(address: str) -> str:
    """Name who asks from an address: an IPv6 network of /64 is one sender, who has all of it.

    Source: RFC 6177 and RFC 4291, 2.5.4: a single site, even a single host, gets at least a /64.
    """
    try:
        host = ipaddress.ip_address(address)
    except ValueError:  # a socket without one
        return address
    if host.version == 4:
        return address
    if host.ipv4_mapped is not None:
        return str(host.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(host), 64), strict=False))


class Pace:
    """At most `per_minute` a minute for each key, and as many at once; 0 means no limit.

    Forgets the keys that asked longest ago, which by then have a full bucket again.
    """

    def __init__(
        self,
        per_minute: int,
        words: str,
        clock: Callable[[], float] = time.monotonic,
        most_keys: int = 20_000,
    ) -> None:
        self._per_minute = per_minute
        self._words = words
        self._clock = clock
        self._most = most_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._guard = threading.Lock()

    def take(self, key: str) -> None:
        """Count one request. Raises TooMany."""
        if not self._per_minute:
            return
        now = self._clock()
        with self._guard:
            left, at = self._buckets.pop(key, (float(self._per_minute), now))
            left = min(self._per_minute, left + (now - at) * self._per_minute / 60)
            is_free = left >= 1
            self._buckets[key] = (left - 1 if is_free else left, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        if not is_free:
            raise TooMany(self._words, max(1.0, (1 - left) * 60 / self._per_minute))


def body_limit(path: str) -> int:
    """Say how many bytes a request to `path` may bring."""
    return next((most for start, most in _BODIES if path.startswith(start)), BODY_BYTES)
