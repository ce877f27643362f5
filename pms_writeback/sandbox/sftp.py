"""A real SFTP server over one folder, on loopback, with its own faults.

Offices' systems fetch uploads from such a server and put downloads there; laboratories take
packages from one. Paths are jailed in the folder. ``faults`` break what a test wants broken.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from paramiko import SFTPAttributes, SFTPHandle, SFTPServerInterface

from node.errors import ConfigError

USER, PASSWORD = "bitewing", "sandbox-sftp"


@dataclass(slots=True)
class SftpFaults:
    """What is broken now: set a field, and set it back.

    ``is_full`` refuses every byte written; ``cut_after`` drops the line once so many bytes of a
    file have come, ``cuts`` times; ``refuses_login`` takes no password; ``is_away`` hangs up on
    everybody.
    """

    is_full: bool = False
    cut_after: int = 0
    cuts: int = 0
    refuses_login: bool = False
    is_away: Callable[[], bool] = lambda: False


def _nothing() -> None:
    """Do nothing when files change."""


@dataclass(slots=True)
class SftpSite:
    """A running server: where it listens, its public key, its folder and its faults.

    It takes its password, and ``client_key`` when there is one; ``on_change`` is called when a file
    has been put or moved.
    """

    host: str
    port: int
    host_key: str
    folder: Path
    user: str
    password: str = field(repr=False)
    faults: SftpFaults = field(default_factory=SftpFaults)
    client_key: paramiko.PKey | None = None
    on_change: Callable[[], object] = _nothing


@contextmanager
def sftp_serving(
    folder: Path,
    *,
    user: str = USER,
    password: str = PASSWORD,
    port: int = 0,
    key_file: Path | None = None,
) -> Iterator[SftpSite]:
    """Serve `folder` while the block runs, under the key kept in `key_file` or one for this run.

    Raises ConfigError when the port is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = _host_key(key_file)
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ConfigError(f"cannot listen on port {port}: {error.strerror}") from error
    listener.settimeout(0.2)
    handle = SftpSite(
        "127.0.0.1",
        listener.getsockname()[1],
        f"{key.get_name()} {key.get_base64()}",
        folder,
        user,
        password,
    )
    stopping = threading.Event()
    server = _Server(handle, key, stopping)
    thread = threading.Thread(target=server.accept, args=(listener,), name="sandbox-sftp")
    thread.start()
    try:
        yield handle
    finally:
        stopping.set()
        thread.join()
        server.close()
        listener.close()


def _host_key(kept: Path | None) -> paramiko.PKey:
    """Read the host key, making it when there is none."""
    if kept is None:
        return paramiko.ECDSAKey.generate()
    if not kept.exists():
        paramiko.ECDSAKey.generate().write_private_key_file(str(kept))
    return paramiko.ECDSAKey.from_private_key_file(str(kept))


class _Server:
    def __init__(self, handle: SftpSite, key: paramiko.PKey, stopping: threading.Event) -> None:
        self._handle = handle
        self._key = key
        self._stopping = stopping
        self._open: list[paramiko.Transport] = []

    def accept(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                line, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if self._handle.faults.is_away():
                line.close()
                continue
            transport = paramiko.Transport(line)
            transport.add_server_key(self._key)
            transport.set_subsystem_handler(
                "sftp", paramiko.SFTPServer, _Files, self._handle, transport
            )
            with suppress(paramiko.SSHException, OSError, EOFError):
                transport.start_server(event=threading.Event(), server=_Door(self._handle))
            self._open = [each for each in self._open if each.is_active()] + [transport]

    def close(self) -> None:
        for transport in self._open:
            transport.close()


class _Door(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko has no types
    """Who may come in, and for what: SFTP with one password or key."""

    def __init__(self, handle: SftpSite) -> None:
        self._handle = handle

    def get_allowed_auths(self, username: str) -> str:
        return "publickey,password"

    def check_auth_password(self, username: str, password: str) -> int:
        return self._verdict(username, password == self._handle.password)

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._verdict(username, key == self._handle.client_key)

    def _verdict(self, username: str, is_right: bool) -> int:
        handle = self._handle
        if is_right and username == handle.user and not handle.faults.refuses_login:
            return int(paramiko.AUTH_SUCCESSFUL)
        return int(paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        is_session = kind == "session"
        refused = paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        return int(paramiko.OPEN_SUCCEEDED if is_session else refused)


class _Files(SFTPServerInterface):  # type: ignore[misc]  # paramiko has no types
    """The folder's files, never anything outside it."""

    def __init__(self, server: _Door, handle: SftpSite, transport: paramiko.Transport) -> None:
        super().__init__(server)
        self._root = handle.folder.resolve()
        self._handle = handle
        self._transport = transport

    def _inside(self, path: str) -> Path:
        """Map a path of the wire into the folder; ``..`` stops at its top."""
        clean = str(self.canonicalize(path)).lstrip("/")
        found = self._root / clean
        if not found.resolve().is_relative_to(self._root):
            raise PermissionError(13, "outside")
        return found

    def _entry(self, path: str) -> Path:
        """Map a path to the entry itself, which may be a link that leads out."""
        parent, _, name = str(self.canonicalize(path)).rpartition("/")
        return self._inside(parent or "/") / name

    def list_folder(self, path: str) -> list[SFTPAttributes] | int:
        try:
            folder = self._inside(path)
            return [
                SFTPAttributes.from_stat(each.lstat(), each.name)
                for each in sorted(folder.iterdir())
            ]
        except OSError as error:
            return int(paramiko.SFTPServer.convert_errno(error.errno))

    def stat(self, path: str) -> SFTPAttributes | int:
        try:
            return SFTPAttributes.from_stat(self._inside(path).stat())
        except OSError as error:
            return int(paramiko.SFTPServer.convert_errno(error.errno))

    def lstat(self, path: str) -> SFTPAttributes | int:
        try:
            return SFTPAttributes.from_stat(self._entry(path).lstat())
        except OSError as error:
            return int(paramiko.SFTPServer.convert_errno(error.errno))

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> SFTPHandle | int:
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        try:
            descriptor = os.open(self._inside(path), flags | getattr(os, "O_BINARY", 0), 0o600)
        except OSError as error:
            return int(paramiko.SFTPServer.convert_errno(error.errno))
        opened = _OpenFile(flags, self._handle.faults, self._transport)
        file = os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "wb" if writes else "rb")
        opened.readfile = opened.writefile = file
        return opened

    def remove(self, path: str) -> int:
        return self._done(lambda: self._entry(path).unlink())

    def rename(self, oldpath: str, newpath: str) -> int:
        if self._inside(newpath).exists():  # draft-ietf-secsh-filexfer-02, 6.5: it is an error
            return int(paramiko.SFTP_FAILURE)
        return self.posix_rename(oldpath, newpath)

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        done = self._done(lambda: self._inside(oldpath).replace(self._inside(newpath)))
        self._handle.on_change()
        return done

    def session_ended(self) -> None:
        self._handle.on_change()

    def mkdir(self, path: str, attr: SFTPAttributes) -> int:
        return self._done(lambda: self._inside(path).mkdir())

    def rmdir(self, path: str) -> int:
        return self._done(lambda: self._inside(path).rmdir())

    def _done(self, change: Callable[[], object]) -> int:
        try:
            change()
        except OSError as error:
            return int(paramiko.SFTPServer.convert_errno(error.errno))
        return int(paramiko.SFTP_OK)


class _OpenFile(SFTPHandle):  # type: ignore[misc]  # paramiko has no types
    """One file being written or read, as long as the faults let it."""

    def __init__(self, flags: int, faults: SftpFaults, transport: paramiko.Transport) -> None:
        super().__init__(flags)
        self._faults = faults
        self._transport = transport

    def write(self, offset: int, data: bytes) -> int:
        if self._faults.is_full:
            return int(paramiko.SFTP_FAILURE)
        if self._faults.cuts > 0 and offset + len(data) > self._faults.cut_after:
            self._faults.cuts -= 1
            self._transport.close()
            return int(paramiko.SFTP_CONNECTION_LOST)
        return int(super().write(offset, data))
