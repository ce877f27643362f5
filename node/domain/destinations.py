"""Where the program may send to: hosts an operator named, encrypted unless they are near.

:func:`check_destination` judges an address as it is configured, :class:`Reach` the number that its
host stands for at the moment of connecting (:mod:`node.outgoing`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from node.errors import ConfigError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Where clouds hand out their machines' keys and that is not link-local anyway.
_METADATA = frozenset(
    ipaddress.ip_address(each) for each in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")
)
#: IPv6 that carries an IPv4 address in its last 32 bits (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Reach:
    """At which addresses one outside party may be reached; public ones are always allowed.

    ``party`` is the name of its adapter in the configuration. ``networks`` are the private ones an
    operator named for it. With ``takes_near`` the party may stand in the office, so a private
    address is right where the host is :func:`near <is_near>` by its name (and only there). With
    ``stays_near`` it was declared to be the office itself: then it never stands at a public one.
    ``advice`` tells the operator what opens an address that was refused.
    """

    party: str
    networks: tuple[Network, ...] = ()
    takes_near: bool = False
    stays_near: bool = False
    advice: str = "if that is meant, name it in [outgoing] private_networks"

    def allows(self, host: str, number: str) -> bool:
        """Tell whether `host`, as configured, may be connected to at the address `number`.

        Link-local, multicast, unspecified and metadata addresses never; this machine only where
        the host says so itself; other private ones where an operator named them.
        """
        address = _innermost(ipaddress.ip_address(number))
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            return False
        if address in _METADATA:
            return False
        if address.is_loopback:
            return is_this_machine(host)
        if self.stays_near:
            return not address.is_global
        if any(address in network for network in self.networks):
            return True
        if is_near(host):  # such a name, often without TLS, must not lead out of the office
            return self.takes_near and address.is_private
        return address.is_global


#: A party for which no private network was named.
PUBLIC_ONLY = Reach("the outside party")


def _innermost(address: Address) -> Address:
    """Take the IPv4 address out of an IPv6 one that only wraps it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_near(host: str) -> bool:
    """Tell whether a host is this machine or one of the office's own network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".lan"))
    return address.is_loopback or address.is_private


def is_this_machine(host: str) -> bool:
    """Tell whether a host is the loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_destination(url: str, name: str, hosts: Collection[str]) -> str:
    """Refuse an address to send to unless it is HTTP to one of `hosts`, with TLS if not near.

    ``name`` is the key of the configuration that holds it, for the message; an address that
    carries a user, or a link-local one (where clouds keep their machines' keys), is refused too.
    Returns the host. Raises ConfigError.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.fragment:
        raise ConfigError(f"{name} must look like https://host/path")
    if _is_link_local(host):
        raise ConfigError(f"{name} leads to a link-local address")
    if host.casefold() not in {each.casefold() for each in hosts}:
        raise ConfigError(f"{name} leads to a host that is not among the allowed ones")
    if parts.scheme == "http" and not is_this_machine(host):
        raise ConfigError(f"{name} would send without TLS; use https")
    return host


def _is_link_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False
