"""Who may ask this node for what: AE titles and addresses, service by service.

An AE title is a label that anybody may write; an address is what the network says. Without any
``[[dicom.clients]]`` everybody may send and ask for the worklist, and nobody may query or fetch
what is stored here. A client with a user name is granted its services only where the requestor
proves to be that user (User Identity Negotiation, PS3.7 D.3.3.7).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from node.config import ClientSection
from node.errors import ConfigError


class Service(StrEnum):
    """What a peer may ask for; everyone who is admitted may ask for verification."""

    STORE = "store"
    WORKLIST = "worklist"
    STEPS = "steps"  # Modality Performed Procedure Step
    COMMITMENT = "commitment"
    QUERY = "query"  # what is stored here
    RETRIEVE = "retrieve"
    RESULTS = "results"  # signed ones, among what may be queried and retrieved


#: What everybody may do where no client is configured: bring images, see the worklist.
_OPEN = frozenset({Service.STORE, Service.WORKLIST, Service.STEPS, Service.COMMITMENT})

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class User:
    """Whom a requestor names as its user; `passcode` is None where it only names one."""

    name: str
    passcode: str | None = field(default=None, repr=False)


class Access:
    """The rules of one listener. Raises ConfigError when an address is none."""

    def __init__(self, clients: Iterable[ClientSection]) -> None:
        self._rules = [
            _Rule(
                client.ae_title.strip(),
                tuple(_network(host) for host in client.hosts),
                frozenset(Service(name) for name in client.services),
                client.username,
                client.passcode.get_secret_value(),
            )
            for client in clients
        ]

    def services(self, ae_title: str, address: str, user: User | None = None) -> frozenset[Service]:
        """Return what this peer may ask for; nothing when it is not admitted at all.

        A user who is not the one that rules for this peer name is admitted to nothing.
        """
        if not self._rules:
            return _OPEN
        rules = [rule for rule in self._rules if rule.covers(ae_title, address)]
        if user is not None and any(rule.username for rule in rules):
            rules = [rule for rule in rules if rule.is_of(user)]
        else:
            rules = [rule for rule in rules if not rule.username]
        return frozenset(service for rule in rules for service in rule.services)


@dataclass(frozen=True, slots=True)
class _Rule:
    title: str
    networks: tuple[_Network, ...]
    services: frozenset[Service]
    username: str
    passcode: str = field(repr=False)

    def covers(self, ae_title: str, address: str) -> bool:
        is_named = self.title in ("*", ae_title.strip())
        return is_named and (not self.networks or _is_in(address, self.networks))

    def is_of(self, user: User) -> bool:
        if not self.username or not _is_same(self.username, user.name):
            return False
        return not self.passcode or _is_same(self.passcode, user.passcode or "")


def _is_same(known: str, told: str) -> bool:
    return hmac.compare_digest(known.encode(), told.encode())


def _network(host: str) -> _Network:
    try:
        return ipaddress.ip_network(host.strip(), strict=False)
    except ValueError:
        raise ConfigError(
            f"dicom.clients: {host!r} is no address or network such as 192.0.2.7 or 192.0.2.0/24"
        ) from None


def _is_in(address: str, networks: Iterable[_Network]) -> bool:
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(known, ipaddress.IPv6Address) and known.ipv4_mapped is not None:
        known = known.ipv4_mapped
    return any(known in network for network in networks)
