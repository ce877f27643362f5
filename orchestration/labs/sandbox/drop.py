"""The sandbox laboratory's SFTP drop: packages come into ``incoming/``, words and bills lie ready.

A package counts once it is renamed to ``*.zip`` and its ``*.zip.sha256`` lies beside it. Words are
``status/<id>.json``, invoices ``invoices/<number>.csv``.
"""

from __future__ import annotations

import csv
import hmac
import io
import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import paramiko

from node.errors import BitewingError, ConfigError
from orchestration.labs.callbacks import update_to_json
from orchestration.labs.package import read_package
from orchestration.labs.sandbox.bench import Bench

#: No links followed, and bytes as they are; each where the system knows it.
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

FOLDERS = ("incoming", "status", "invoices", "refused")


class Drop:
    """The folders behind the SFTP server, and taking in what lies there."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)

    def run_once(self) -> int:
        """Take packages in, lay words and invoices out; returns how many packages were taken."""
        taken = sum(self._take(path) for path in sorted((self.folder / "incoming").glob("*.zip")))
        for job in self.bench.jobs.values():
            for update in self.bench.updates(job.case_number):
                text = json.dumps(update_to_json(update))
                self._lay(self.folder / "status" / f"{update.delivery_id}.json", text)
        for bill in self.bench.invoices():
            sheet = io.StringIO()
            writer = csv.DictWriter(sheet, list(bill))
            writer.writeheader()
            writer.writerow(bill)
            self._lay(self.folder / "invoices" / f"{bill['number']}.csv", sheet.getvalue())
        return taken

    def _take(self, path: Path) -> bool:
        """Take one package unless it was taken before; what is none is put aside."""
        digest = path.with_name(path.name + ".sha256")
        if not digest.exists() or any(j.file_name == path.name for j in self.bench.jobs.values()):
            return False
        sha256 = digest.read_text().split()[0]
        try:
            with path.open("rb") as file:
                number = read_package(file).rx.case_number
                file.seek(0)
                self.bench.take(number, path.name, sha256, file)
        except BitewingError:
            path.rename(self.folder / "refused" / path.name)
            return False
        return True

    @staticmethod
    def _lay(path: Path, text: str) -> None:
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_text(text)
            part.replace(path)


class _Gate(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko is untyped
    """One user with one key or password; SFTP only."""

    def __init__(self, user: str, password: str, key: paramiko.PKey | None) -> None:
        self._user, self._password, self._key = user, password, key

    def check_auth_password(self, username: str, password: str) -> int:
        is_right = hmac.compare_digest(password.encode(), self._password.encode())
        return self._verdict(bool(self._password) and username == self._user and is_right)

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._verdict(username == self._user and key == self._key)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey,password"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind == "session":
            return int(paramiko.OPEN_SUCCEEDED)
        return int(paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)

    @staticmethod
    def _verdict(is_allowed: bool) -> int:
        return int(paramiko.AUTH_SUCCESSFUL if is_allowed else paramiko.AUTH_FAILED)


class _Files(paramiko.SFTPServerInterface):  # type: ignore[misc]  # paramiko is untyped
    """The folders, and nothing above them."""

    def __init__(self, server: paramiko.ServerInterface, drop: Drop) -> None:
        super().__init__(server)
        self._drop = drop

    def _path(self, path: str) -> Path:
        return self._drop.folder / str(self.canonicalize(path)).lstrip("/")

    def list_folder(self, path: str) -> list[paramiko.SFTPAttributes] | int:
        try:
            found: list[paramiko.SFTPAttributes] = []
            for entry in sorted(self._path(path).iterdir()):
                attributes = paramiko.SFTPAttributes.from_stat(entry.stat())
                attributes.filename = entry.name
                found.append(attributes)
            return found
        except OSError as error:
            return _refusal(error)

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(self._path(path).stat())
        except OSError as error:
            return _refusal(error)

    lstat = stat

    def open(self, path: str, flags: int, attr: object) -> paramiko.SFTPHandle | int:
        try:
            descriptor = os.open(self._path(path), flags | _PLAIN, 0o600)
        except OSError as error:
            return _refusal(error)
        mode = "r+b" if flags & os.O_RDWR else "wb" if flags & os.O_WRONLY else "rb"
        file = os.fdopen(descriptor, mode)
        handle = paramiko.SFTPHandle(flags)
        handle.readfile = handle.writefile = file  # paramiko reads these by name
        return handle

    def remove(self, path: str) -> int:
        return self._done(lambda: self._path(path).unlink())

    def rename(self, oldpath: str, newpath: str) -> int:
        if self._path(newpath).exists():
            return int(paramiko.SFTP_FAILURE)
        return self.posix_rename(oldpath, newpath)

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        done = self._done(lambda: self._path(oldpath).replace(self._path(newpath)))
        self._drop.run_once()
        return done

    def session_ended(self) -> None:
        self._drop.run_once()

    @staticmethod
    def _done(act: Callable[[], object]) -> int:
        try:
            act()
        except OSError as error:
            return _refusal(error)
        return int(paramiko.SFTP_OK)


def _refusal(error: OSError) -> int:
    return int(paramiko.SFTPServer.convert_errno(error.errno or 0))


class SftpServer:
    """SFTP on the loopback interface with a host key of its own, kept in the drop's folder."""

    def __init__(self, drop: Drop, user: str, password: str, port: int = 0) -> None:
        self._drop, self._user, self._password = drop, user, password
        self.client_key: paramiko.PKey | None = None
        self.host_key = _host_key(drop.folder / "host_key")
        try:
            self._listener = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(f"the SFTP port {port} cannot be opened ({error.strerror})") from None
        self.port = int(self._listener.getsockname()[1])
        self._transports: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._accept, name="sandbox-sftp", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end every session."""
        with suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for transport in self._transports:
            transport.close()
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._drop.bench.is_down:
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        self._transports.append(transport)
        transport.add_server_key(self.host_key)
        transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files, self._drop)
        try:
            transport.start_server(server=_Gate(self._user, self._password, self.client_key))
        except (paramiko.SSHException, EOFError, OSError):
            transport.close()


def _host_key(path: Path) -> paramiko.PKey:
    """Read the host key, making it when it is missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        paramiko.ECDSAKey.generate().write_private_key_file(str(path))
    return paramiko.ECDSAKey.from_private_key_file(str(path))
