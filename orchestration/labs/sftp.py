"""A laboratory reached by an SFTP drop, its host key pinned.

A package is written as ``NAME.zip.part``, renamed to ``NAME.zip``, and its sum laid beside it as
``NAME.zip.sha256``: the laboratory takes it once the sum is there. Words about cases lie in a
folder of JSON files, invoices in one of CSV or JSON files.
"""

from __future__ import annotations

import base64
import io
import posixpath
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TypeVar

import paramiko

from node.errors import BitewingError, ConfigError, InvalidInput, Rejected, Retryable
from orchestration.labs.callbacks import MAX_BODY, read_update
from orchestration.labs.invoices import read_invoices
from orchestration.labs.partner import Dispatch, Invoice, LabUpdate, OutcomeUnknown, Receipt

T = TypeVar("T")
_CHUNK = 1 << 18
_MOST_FILES = 20_000
_MAX_INVOICE = 5_000_000
#: How a key of a kind signs, where that has another name (RFC 8332).
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


@dataclass(frozen=True, slots=True)
class SftpSettings:
    """How to reach the drop; ``host_key`` as ``known_hosts`` writes it: ``ssh-ed25519 AAAA…``."""

    host: str
    port: int
    user: str
    host_key: str
    password: str = field(default="", repr=False)
    key_file: Path | None = None
    folder: str = "incoming"
    status_folder: str = "status"
    invoice_folder: str = "invoices"
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.host or not self.user:
            raise ConfigError("an SFTP laboratory needs a host and a user")
        if not self.password and self.key_file is None:
            raise ConfigError("an SFTP laboratory needs a key_file or a password")
        self.pinned()

    def pinned(self) -> tuple[str, bytes]:
        """Give the kind and the bytes of the pinned host key; raises ConfigError."""
        kind, _, text = self.host_key.strip().partition(" ")
        try:
            raw = base64.b64decode(text.split()[0], validate=True)
        except (ValueError, IndexError):
            raise ConfigError("labs.partners.host_key must look like: ssh-ed25519 AAAA…") from None
        return kind, raw


class SftpLab:
    """One laboratory's drop; a connection for each call."""

    can_look = True

    def __init__(self, settings: SftpSettings) -> None:
        self._settings = settings

    @property
    def can_report(self) -> bool:
        """Whether the laboratory lays words about cases out."""
        return bool(self._settings.status_folder)

    def submit(self, dispatch: Dispatch) -> Receipt:
        """Lay the package down; what lies there complete already is left alone.

        Raises
        ------
        OutcomeUnknown
            The connection broke after the package was moved into place.
        """
        with self._session() as sftp:
            if self._is_there(sftp, dispatch):
                return Receipt("", already_there=True)
            final = posixpath.join(self._settings.folder, dispatch.file_name)
            part = f"{final}.part"
            with dispatch.open() as source, sftp.open(part, "wb") as target:
                target.set_pipelined(True)
                shutil.copyfileobj(source, target, _CHUNK)
            if sftp.stat(part).st_size != dispatch.size_bytes:
                raise Retryable("the package did not arrive whole at the laboratory", 30.0)
            try:
                sftp.posix_rename(part, final)
                with sftp.open(f"{final}.sha256.part", "wb") as target:
                    target.write(f"{dispatch.sha256}  {dispatch.file_name}\n".encode())
                sftp.posix_rename(f"{final}.sha256.part", f"{final}.sha256")
            except (OSError, EOFError, paramiko.SSHException) as error:
                words = f"the laboratory's drop broke off ({type(error).__name__})"
                raise OutcomeUnknown(words, 30.0) from None
        return Receipt()

    def find(self, dispatch: Dispatch) -> Receipt | None:
        """Look whether the package lies there, complete with its sum."""
        with self._session() as sftp:
            return Receipt("", already_there=True) if self._is_there(sftp, dispatch) else None

    def updates(self, case_number: str) -> Sequence[LabUpdate]:
        """Read the words about a case that lie in the status folder, oldest first.

        A file that is no word is left alone: somebody may still be writing it.
        """
        found = []
        for content in self._contents(self._settings.status_folder, ".json", MAX_BODY):
            try:
                update = read_update(content)
            except InvalidInput:
                continue
            if update.case_number == case_number:
                found.append(update)
        return sorted(found, key=lambda update: (update.at, update.delivery_id))

    def invoices(self, since: date) -> Sequence[Invoice]:
        """Read the invoices that lie there; raises Rejected for a file that is none."""
        found: list[Invoice] = []
        for ending in (".csv", ".json"):
            for content in self._contents(self._settings.invoice_folder, ending, _MAX_INVOICE):
                try:
                    found += read_invoices(content)
                except InvalidInput as error:
                    raise Rejected(f"a laboratory's invoice cannot be read: {error}") from None
        return [invoice for invoice in found if invoice.day >= since]

    def _is_there(self, sftp: paramiko.SFTPClient, dispatch: Dispatch) -> bool:
        final = posixpath.join(self._settings.folder, dispatch.file_name)
        try:
            with sftp.open(f"{final}.sha256", "rb") as file:
                digest = file.read(200).split()[:1]
        except FileNotFoundError:
            return False
        if digest != [dispatch.sha256.encode()]:
            raise Rejected("another package lies under this name at the laboratory")
        return True

    def _contents(self, folder: str, ending: str, largest: int) -> list[bytes]:
        if not folder:
            return []
        with self._session() as sftp:
            names = sorted(name for name in sftp.listdir(folder) if name.endswith(ending))
            return [_read(sftp, posixpath.join(folder, n), largest) for n in names[:_MOST_FILES]]

    @contextmanager
    def _session(self) -> Iterator[paramiko.SFTPClient]:
        """Connect, check the host key, log in; what fails underway is Retryable."""
        try:
            with self._connected() as transport:
                sftp = paramiko.SFTPClient.from_transport(transport)
                if sftp is None:
                    raise Retryable("the laboratory's server opens no SFTP", 60.0)
                sftp.get_channel().settimeout(self._settings.timeout_s)
                yield sftp
        except BitewingError:
            raise
        except PermissionError:
            raise Rejected("the laboratory's server does not let us into a folder") from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise Retryable(
                f"the laboratory's drop is away ({type(error).__name__})", 60.0
            ) from None

    @contextmanager
    def _connected(self) -> Iterator[paramiko.Transport]:
        settings = self._settings
        kind, raw = settings.pinned()
        transport = paramiko.Transport((settings.host, settings.port))
        try:
            options = transport.get_security_options()
            wanted = _ALGORITHMS.get(kind, (kind,))
            if set(wanted) <= set(options.key_types):  # so that the server shows the pinned key
                options.key_types = wanted
            transport.start_client(timeout=settings.timeout_s)
            key = transport.get_remote_server_key()
            if (key.get_name(), key.asbytes()) != (kind, raw):
                raise ConfigError(
                    "the laboratory's server shows another host key than the pinned one; "
                    "nothing was sent"
                )
            self._log_in(transport)
            yield transport
        finally:
            transport.close()

    def _log_in(self, transport: paramiko.Transport) -> None:
        settings = self._settings
        try:
            if settings.key_file is not None:
                key = _guarded(lambda: paramiko.PKey.from_path(settings.key_file))
                transport.auth_publickey(settings.user, key)
            else:
                transport.auth_password(settings.user, settings.password)
        except paramiko.AuthenticationException:
            raise ConfigError("the laboratory's server refuses our user") from None


def _read(sftp: paramiko.SFTPClient, path: str, largest: int) -> bytes:
    with sftp.open(path, "rb") as file:
        content = io.BytesIO(file.read(largest + 1)).getvalue()
    return content if len(content) <= largest else b""


def _guarded(read: Callable[[], T]) -> T:
    try:
        return read()
    except (OSError, ValueError, paramiko.SSHException):
        raise ConfigError("labs.partners.key_file cannot be read as a private key") from None
