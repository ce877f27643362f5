"""A folder on an SFTP server, by which files go to an office's system and come from it.

The server is known by its pinned host key alone. Names are of our own making; what lies there under
other names, links included, is never followed.
"""

from __future__ import annotations

import io
import logging
import posixpath
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import paramiko

from node.domain.destinations import Reach
from node.errors import ConfigError, InvalidInput, NotFound, Rejected, Retryable
from pms_writeback.pinned_sftp import PinnedServer

log = logging.getLogger(__name__)

#: The folder may lie on a server of the office.
OFFICE = Reach("pms", takes_near=True)
MAX_FILE_BYTES = 256 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class SftpSettings:
    """Where the folder is and how to prove it.

    ``host_key`` is the server's public key as ``ssh-keyscan`` prints it without the host:
    ``ssh-ed25519 AAAA…``. ``folder`` is relative to the user's home or absolute. ``office_host``
    is the server's name as the office's system reaches it (port 22); empty when it is the same.
    """

    host: str
    user: str
    password: str = field(repr=False)
    host_key: str
    folder: str
    port: int = 22
    office_host: str = ""
    reach: Reach = OFFICE

    def __post_init__(self) -> None:
        _ = self.server
        parts = self.folder.strip("/").split("/")
        if not all(_NAME.fullmatch(part) for part in parts):
            raise ConfigError("pms.sftp_folder must be a plain path without .. or spaces")

    @property
    def server(self) -> PinnedServer:
        """The server as this node reaches it."""
        return PinnedServer(
            self.host, self.user, self.host_key, self.password, port=self.port, reach=self.reach
        )

    def address(self, name: str) -> str:
        """Name a file or folder below the folder as the office's system is told it."""
        host = self.office_host or self.host
        return f"{host}/{self.folder.strip('/')}/{name}"


class SftpFolder:
    """One folder; each call is a connection of its own, so threads do not meet."""

    def __init__(self, settings: SftpSettings) -> None:
        self.settings = settings

    def put(self, name: str, content: bytes) -> None:
        """Store a file whole or not at all; the same name again replaces it.

        Raises Retryable when the server is away, full or breaks off, ConfigError when it is not
        the server that was pinned or refuses the user.
        """
        _check_name(name)
        with self.settings.server.session() as sftp:
            _make_folder(sftp, self.settings.folder)
            path, part = self._path(name), self._path(f"{name}.part")
            sftp.putfo(io.BytesIO(content), part, len(content), confirm=True)
            sftp.posix_rename(part, path)

    def exists(self, name: str) -> bool:
        """Tell whether a file lies there."""
        _check_name(name)
        with self.settings.server.session() as sftp:
            return _is_there(sftp, self._path(name))

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone already is no error."""
        _check_name(name)
        with self.settings.server.session() as sftp, suppress(FileNotFoundError):
            sftp.remove(self._path(name))

    @contextmanager
    def mailbox(self) -> Iterator[Mailbox]:
        """Make an empty folder for one delivery to us, and take it away with all that it holds."""
        name = f"get-{secrets.token_hex(8)}"
        with self.settings.server.session() as sftp:
            _make_folder(sftp, self.settings.folder)
            sftp.mkdir(self._path(name), 0o700)
        try:
            yield Mailbox(self, name)
        finally:
            try:
                self._clear(name)
            except (Retryable, ConfigError):
                log.warning("an SFTP folder could not be cleared: %s", name)

    def _only_file(self, mailbox: str) -> bytes:
        """Read the one regular file of a mailbox."""
        with self.settings.server.session() as sftp:
            files = [each for each in sftp.listdir_attr(self._path(mailbox)) if _is_file(each)]
            if not files:
                raise NotFound("the office's system delivered no file")
            if len(files) > 1:
                raise Rejected("the office's system delivered more than one file")
            if (files[0].st_size or 0) > MAX_FILE_BYTES:
                raise Rejected("the file that the office's system delivered is too large")
            path = posixpath.join(self._path(mailbox), _leaf(files[0].filename))
            with sftp.open(path, "rb") as file:
                file.prefetch(files[0].st_size)
                content: bytes = file.read(MAX_FILE_BYTES + 1)
        if len(content) != files[0].st_size:
            raise Retryable("the file that the office's system delivered is not whole yet")
        return content

    def _clear(self, mailbox: str) -> None:
        with self.settings.server.session() as sftp:
            path = self._path(mailbox)
            for each in sftp.listdir(path):
                sftp.remove(posixpath.join(path, _leaf(each)))
            sftp.rmdir(path)

    def _path(self, name: str) -> str:
        return posixpath.join(self.settings.folder.rstrip("/"), name)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An empty folder that the office's system puts one file into."""

    folder: SftpFolder
    name: str

    @property
    def address(self) -> str:
        """The folder as the office's system is told it."""
        return self.folder.settings.address(self.name)

    def read(self) -> bytes:
        """Read what was delivered; raises NotFound when nothing was, Retryable when half was."""
        return self.folder._only_file(self.name)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput("not a file name of ours")


def _leaf(name: str) -> str:
    """Refuse a listed name that leads elsewhere."""
    if not name or "/" in name or "\\" in name or name in (".", ".."):
        raise Rejected("the SFTP server lists a name that is none")
    return name


def _make_folder(sftp: paramiko.SFTPClient, folder: str) -> None:
    path = "/" if folder.startswith("/") else ""
    for part in folder.strip("/").split("/"):
        path = posixpath.join(path, part)
        if not _is_there(sftp, path):
            sftp.mkdir(path, 0o700)


def _is_there(sftp: paramiko.SFTPClient, path: str) -> bool:
    try:
        sftp.stat(path)
    except FileNotFoundError:
        return False
    return True


def _is_file(entry: paramiko.SFTPAttributes) -> bool:
    return stat.S_ISREG(entry.st_mode or 0)
