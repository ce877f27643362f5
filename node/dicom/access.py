"""Who may ask this node for what: AE titles and addresses, service by service.

An AE title is a label that anybody may write; an address is what the network says. Without any
``[[dicom.clients]]`` everybody may send and ask for the worklist, and nobody may query or fetch
what is stored here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
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


class Access:
    """The rules of one listener. Raises ConfigError when an address is none."""

    def __init__(self, clients: Iterable[ClientSection]) -> None:
        self._rules = [
            (
                client.ae_title.strip(),
                tuple(_network(host) for host in client.hosts),
                frozenset(Service(name) for name in client.services),
            )
            for client in clients
        ]

    def services(self, ae_title: str, address: str) -> frozenset[Service]:
        """Return what this peer may ask for; nothing when it is not admitted at all."""
        if not self._rules:
            return _OPEN
        granted: set[Service] = set()
        for title, networks, services in self._rules:
            if title in ("*", ae_title.strip()) and (not networks or _is_in(address, networks)):
                granted |= services
        return frozenset(granted)


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
