"""The door of :mod:`node.outgoing` for urllib3, which the bucket's client speaks through."""

from __future__ import annotations

import socket
import ssl

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError

from node.domain.destinations import Reach
from node.outgoing import Resolve, connect, resolve_host

_CONNECT_S = 5.0
_READ_S = 30.0


def open_pool(reach: Reach, ca_file: str = "", resolve: Resolve = resolve_host) -> PoolManager:
    """Make a pool of connections that go only to addresses which `reach` allows.

    Nothing is tried twice and no redirect is followed. A request to an address that the party may
    not have raises ConfigError; nothing was sent then.
    """

    def dial(connection: HTTPConnection) -> socket.socket:
        try:
            line = connect(reach, connection.host, connection.port, _CONNECT_S, resolve)
        except OSError as error:
            raise NewConnectionError(connection, type(error).__name__) from None
        for option in connection.socket_options or ():
            line.setsockopt(*option)
        return line

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return dial(self)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return dial(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    manager = PoolManager(
        timeout=Timeout(connect=_CONNECT_S, read=_READ_S),
        maxsize=8,
        retries=Retry(total=0, redirect=0, raise_on_redirect=False),
        ssl_context=ssl.create_default_context(cafile=ca_file or None),
    )
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return manager
