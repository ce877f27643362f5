"""Other DICOM systems, and opening an association with one of them as requestor."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import (
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext

from node.config import PeerSection
from node.dicom.tls import client_context
from node.domain.destinations import Network, Reach, is_near
from node.errors import ConfigError, InvalidInput, Rejected, Retryable
from node.outgoing import numbers_of

#: PS3.8 9.3.2.2: context ids are the odd numbers 1..255.
MAX_CONTEXTS = 128
_CONNECT_S = 10.0
_ANSWER_S = 60.0
_PERMANENT = 1
#: A name that leads astray is looked up again so often.
_ASTRAY_S = 900.0

#: An event of pynetdicom and what to do about it.
Handler = tuple[object, Callable[..., object]]


class Receiver(Protocol):
    """Where to send: a :class:`Peer` or a peer of the configuration."""

    @property
    def ae_title(self) -> str:
        """The called AE title."""

    @property
    def host(self) -> str:
        """Name or address."""

    @property
    def port(self) -> int:
        """TCP port."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A DICOM peer on the network."""

    ae_title: str
    host: str
    port: int

    def __post_init__(self) -> None:
        require_ae_title(self.ae_title)
        if not self.host:
            raise InvalidInput("a peer has a host name or address")
        if not 1 <= self.port <= 65535:
            raise InvalidInput("a port lies between 1 and 65535")


def require_ae_title(text: str) -> None:
    """Raise InvalidInput unless `text` may be an AE title."""
    # PS3.5 6.2: AE
    if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", text) or not text.strip():
        raise InvalidInput("an AE title has 1 to 16 ASCII characters and no backslash")


def parse_peer(text: str) -> Peer:
    """Read ``AE@host:port``; an IPv6 address stands in brackets."""
    match = re.fullmatch(r"([^@]+)@(\[[0-9A-Fa-f:.]+\]|[^@:\[\]\s]+):(\d{1,5})", text.strip())
    if match is None:
        raise InvalidInput("a peer is written AE@host:port")
    return Peer(match[1], match[2].strip("[]"), int(match[3]))


def associate(
    peer: Receiver,
    calling_ae: str,
    contexts: Sequence[PresentationContext],
    *,
    roles: Iterable[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Iterable[Handler] = (),
) -> Association:
    """Open an association; it may be that some or all of the `contexts` were refused.

    Raises
    ------
    Retryable
        The peer is away, takes no association now, or its name leads where it may not stand.
    Rejected
        The peer refuses associations with us.
    """
    number = number_of(peer)
    ae = AE(ae_title=calling_ae)
    ae.connection_timeout = _CONNECT_S
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _ANSWER_S
    where = f"{peer.ae_title} at {peer.host}:{peer.port}"
    try:
        assoc = ae.associate(
            number,
            peer.port,
            contexts=list(contexts),
            ae_title=peer.ae_title,
            ext_neg=[*roles, *user_items(peer)],
            tls_args=tls_of(peer),
            evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay), *handlers],
        )
    except OSError:
        raise Retryable(f"{where} cannot be reached") from None
    if assoc.is_established or assoc.rejected_contexts:
        return assoc
    answer = assoc.acceptor.primitive
    if not assoc.is_rejected or answer is None:
        raise Retryable(f"{where} cannot be reached or does not answer")
    if answer.result == _PERMANENT:
        raise Rejected(f"{where} refuses an association with {calling_ae}: {answer.reason_str}")
    raise Retryable(f"{where} takes no association now: {answer.reason_str}")


def number_of(peer: Receiver) -> str:
    """Look up where to connect to; raises Retryable when there is nowhere it may be.

    An address written as a number is meant; a name must lead into the office where the peer is the
    office's own, and to a public address where it is not.
    """
    where = f"{peer.ae_title} at {peer.host}:{peer.port}"
    try:
        return numbers_of(_reach_of(peer), peer.host, peer.port)[0]
    except ConfigError as error:
        raise Retryable(f"{where} is not called: {error}", _ASTRAY_S) from None
    except (OSError, UnicodeError):
        raise Retryable(f"{where} cannot be reached: no such host") from None


def _reach_of(peer: Receiver) -> Reach:
    is_inside = not peer.is_outside if isinstance(peer, PeerSection) else is_near(peer.host)
    try:
        meant: tuple[Network, ...] = (ipaddress.ip_network(peer.host),)
    except ValueError:
        meant = ()
    advice = "write its number as the host, or say with external whether it is the office's own"
    return Reach("the DICOM peer", meant, True, is_inside, advice)


def user_items(peer: Receiver) -> Iterator[UserIdentityNegotiation]:
    """Name the user of a configured peer, if it wants one (PS3.7 D.3.3.7)."""
    if isinstance(peer, PeerSection) and peer.username:
        passcode = peer.passcode.get_secret_value()
        item = UserIdentityNegotiation()
        item.user_identity_type = 2 if passcode else 1
        item.positive_response_requested = False
        item.primary_field = peer.username.encode()
        if passcode:
            item.secondary_field = passcode.encode()
        yield item


def tls_of(peer: Receiver) -> tuple[ssl.SSLContext, str] | None:
    """Give the context and name for TLS to a configured peer, if it wants that."""
    if isinstance(peer, PeerSection) and peer.tls:
        return client_context(peer), peer.host
    return None


def _no_delay(event: evt.Event) -> None:
    # Without it every object waits about 40 ms for a delayed acknowledgement (Linux, measured).
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
