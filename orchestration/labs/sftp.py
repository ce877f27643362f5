"""A laboratory reached by an SFTP drop, its host key pinned.

A package is written as ``NAME.zip.part``, renamed to ``NAME.zip``, and its sum laid beside it as
``NAME.zip.sha256``: the laboratory takes it once the sum is there. Words about cases lie in a
folder of JSON files, invoices in one of CSV or JSON files.
"""

from __future__ import annotations

import io
import posixpath
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import paramiko

from node.domain.destinations import PUBLIC_ONLY, Reach
from node.errors import InvalidInput, Rejected, Retryable
from orchestration.labs.callbacks import MAX_BODY, read_update
from orchestration.labs.invoices import read_invoices
from orchestration.labs.partner import Dispatch, Invoice, LabUpdate, OutcomeUnknown, Receipt
from pms_writeback.pinned_sftp import PinnedServer

_CHUNK = 1 << 18
_MOST_FILES = 20_000
_MAX_INVOICE = 5_000_000


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
    reach: Reach = PUBLIC_ONLY

    def __post_init__(self) -> None:
        _ = self.server

    @property
    def server(self) -> PinnedServer:
        """The server behind the drop; raises ConfigError when it cannot be one."""
        return PinnedServer(
            self.host,
            self.user,
            self.host_key,
            self.password,
            self.key_file,
            self.port,
            self.timeout_s,
            self.reach,
        )


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
        with self._settings.server.session() as sftp:
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
        with self._settings.server.session() as sftp:
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
        with self._settings.server.session() as sftp:
            names = sorted(name for name in sftp.listdir(folder) if name.endswith(ending))
            return [_read(sftp, posixpath.join(folder, n), largest) for n in names[:_MOST_FILES]]


def _read(sftp: paramiko.SFTPClient, path: str, largest: int) -> bytes:
    with sftp.open(path, "rb") as file:
        content = io.BytesIO(file.read(largest + 1)).getvalue()
    return content if len(content) <= largest else b""
