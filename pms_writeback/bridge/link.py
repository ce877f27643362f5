"""The line from the bridge to the node: HTTPS with both certificates, dialled from the clinic.

One exchange: ``hello`` settles the protocol version; ``next`` waits at the node for questions and
carries the heartbeat; ``answer`` brings one result back.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2

from node.errors import ConfigError, InvalidInput, Rejected, Retryable
from pms_writeback.bridge.identity import away
from pms_writeback.bridge.protocol import (
    VERSIONS,
    Answer,
    Json,
    Request,
    as_list,
    as_object,
    number,
    text,
)
from pms_writeback.bridge.updates import MAX_PACKAGE_BYTES, Package, offer_from

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0


class SessionEnded(Retryable):
    """The node forgot this session, or took up a newer one: say hello again."""


@dataclass(frozen=True, slots=True)
class Session:
    """What the node settled at hello."""

    id: str
    version: int
    is_stopped: bool


@dataclass(frozen=True, slots=True)
class News:
    """What one wait at the node brought.

    ``notices_seen`` is the last notice that the node has kept.
    """

    requests: tuple[Request, ...]
    is_stopped: bool
    offer: Package | None
    notices_seen: int


class Link:
    """One bridge's line to its node; safe to use from several threads. Close it when done."""

    def __init__(
        self, node_url: str, context: ssl.SSLContext, versions: Sequence[int] = VERSIONS
    ) -> None:
        self._versions = tuple(versions)
        self._client = httpx2.Client(
            base_url=node_url,
            verify=context,
            timeout=httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def hello(self, about: Json) -> Session:
        """Introduce this bridge.

        Raises
        ------
        ConfigError
            No common protocol version, or the certificate is not (or no longer) accepted.
        Retryable
            The node does not answer.
        """
        data = self._post("/bridge/hello", {"versions": list(self._versions), **about})
        version = int(number(data, "version", 0))
        if version not in self._versions:
            raise ConfigError(f"the node chose protocol version {version}, which nobody offered")
        return Session(text(data, "session"), version, data.get("is_stopped") is True)

    def next(self, session: Session, status: Json) -> News:
        """Tell how we are, and wait for questions."""
        data = self._post("/bridge/next", {"session": session.id, "status": dict(status)})
        return News(
            tuple(Request.from_json(each) for each in as_list(data.get("requests", []))),
            data.get("is_stopped") is True,
            offer_from(data),
            int(number(data, "notices_seen", 0)),
        )

    def answer(self, session: Session, answer: Answer) -> None:
        """Bring one answer back."""
        self._post("/bridge/answer", {"session": session.id, "answer": answer.to_json()})

    def renew(self, request_pem: bytes) -> bytes:
        """Ask for a new certificate with the present one."""
        data = self._post("/bridge/renew", {"request": request_pem.decode("ascii")})
        return text(data, "certificate").encode("ascii")

    def fetch(self, package: Package) -> bytes:
        """Fetch an offered wheel; never more bytes than were signed."""
        parts: list[bytes] = []
        size = 0
        try:
            with self._client.stream("GET", f"/bridge/package/{package.sha256}") as answer:
                if not answer.is_success:
                    raise Rejected(f"the node has no such package ({answer.status_code})")
                for part in answer.iter_bytes():
                    size += len(part)
                    if size > min(package.size, MAX_PACKAGE_BYTES):
                        raise Rejected("the package is larger than was signed")
                    parts.append(part)
        except httpx2.RequestError as error:
            raise away(error) from None
        return b"".join(parts)

    def _post(self, path: str, body: Json) -> Json:
        try:
            answer = self._client.post(path, json=dict(body))
            data = as_object(answer.json())
        except httpx2.RequestError as error:
            raise away(error) from None
        except (ValueError, InvalidInput):
            raise Retryable("the node's answer cannot be read", 15.0) from None
        if answer.is_success:
            return data
        said = str(data.get("message", "no reason given"))[:300]
        if answer.status_code == 409:
            raise SessionEnded(said, 1.0)
        if answer.status_code in (401, 403, 426):
            raise ConfigError(f"the node refuses this bridge: {said}")
        if answer.status_code >= 500:
            raise Retryable(f"the node failed ({answer.status_code}): {said}", 15.0)
        raise Rejected(f"the node refused ({answer.status_code}): {said}")
