"""A session with an SFTP server that is known by its pinned host key alone."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from node.domain.destinations import PUBLIC_ONLY, Reach
from node.errors import ConfigError, Retryable
from node.outgoing import connect

_KINDS = ("ssh-ed25519", *(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)), "ssh-rsa")
#: How a key of a kind signs, where that has another name (RFC 8332).
_SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
_WRONG_KEY = (
    "the SFTP server shows another host key than the pinned one: it was set up anew, or somebody is"
    " in between; nothing was sent"
)


@dataclass(frozen=True, slots=True)
class PinnedServer:
    """Where a server is and how to prove it; ``host_key`` is ``ssh-ed25519 AAAA…``.

    Either a password or the file of a private key logs in. ``timeout_s`` is the longest wait for
    one answer.
    """

    host: str
    user: str
    host_key: str
    password: str = field(default="", repr=False)
    key_file: Path | None = None
    port: int = 22
    timeout_s: float = 30.0
    reach: Reach = PUBLIC_ONLY

    def __post_init__(self) -> None:
        if not self.host or not self.user:
            raise ConfigError("an SFTP server needs a host and a user")
        if not self.password and self.key_file is None:
            raise ConfigError("an SFTP server needs a password or the file of a private key")
        self._pinned()

    @contextmanager
    def session(self) -> Iterator[paramiko.SFTPClient]:
        """Connect, check the host key, log in.

        Raises
        ------
        ConfigError
            It is not the pinned server, it refuses the user or the folder, or its name leads where
            its party may not stand.
        Retryable
            It is away, full, or breaks off; a full disk is no more than a "failure" there.
        """
        transport = None
        try:
            transport = self._connected()
            sftp = paramiko.SFTPClient.from_transport(transport)
            channel = None if sftp is None else sftp.get_channel()
            if sftp is None or channel is None:
                raise Retryable("the SFTP server gives no session", 60.0)
            channel.settimeout(self.timeout_s)
            yield sftp
        except paramiko.AuthenticationException:
            raise ConfigError("the SFTP server refuses our user") from None
        except PermissionError:
            raise ConfigError("the SFTP server forbids the folder to our user") from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise Retryable(f"the SFTP server fails ({type(error).__name__})", 60.0) from error
        finally:
            if transport is not None:
                transport.close()

    def _connected(self) -> paramiko.Transport:
        kind, raw = self._pinned()
        line = connect(self.reach, self.host, self.port, self.timeout_s)
        transport = paramiko.Transport(line)
        try:
            # Only so does a server of several keys show the pinned one.
            transport.get_security_options().key_types = _SIGNATURES.get(kind, (kind,))
            try:
                transport.start_client(timeout=self.timeout_s)
            except paramiko.ssh_exception.IncompatiblePeer:
                raise ConfigError(_WRONG_KEY) from None
            if not secrets.compare_digest(transport.get_remote_server_key().asbytes(), raw):
                raise ConfigError(_WRONG_KEY)
            self._log_in(transport)
        except BaseException:
            transport.close()
            raise
        return transport

    def _log_in(self, transport: paramiko.Transport) -> None:
        if self.key_file is None:
            transport.auth_password(self.user, self.password)
            return
        try:
            key = paramiko.PKey.from_path(self.key_file)
        except (OSError, ValueError, paramiko.SSHException, paramiko.UnknownKeyType):
            raise ConfigError("the SFTP key file cannot be read as a private key") from None
        transport.auth_publickey(self.user, key)

    def _pinned(self) -> tuple[str, bytes]:
        """Give the kind and the bytes of the pinned key."""
        kind, _, text = self.host_key.strip().partition(" ")
        try:
            raw = base64.b64decode(text.split()[0], validate=True)
        except (ValueError, IndexError):
            raw = b""
        if kind not in _KINDS or not raw:
            raise ConfigError("an SFTP host key must look like: ssh-ed25519 AAAA…")
        return kind, raw
