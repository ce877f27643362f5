"""Where the program may send to: hosts an operator named, encrypted unless they are near."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from node.errors import ConfigError


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
