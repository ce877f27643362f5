"""The master key that wraps the data keys: in a file, in the environment, or in a KMS.

It is never in the data folder, never in the database and so in no backup of either.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from node.config import Config
from node.db.keyring import KEY_BYTES, NONCE_BYTES
from node.domain.destinations import Reach
from node.errors import ConfigError, Retryable
from node.outgoing import open_client

_KMS_TIMEOUT_S = 20.0
_MAX_ANSWER_BYTES = 65_536


class Master(Protocol):
    """Whatever can wrap a data key and unwrap it again."""

    @property
    def source(self) -> str:
        """Where it is, in words for an operator; nothing secret."""

    def wrap(self, secret: bytes, about: str) -> str:
        """Wrap a key; `about` must be the same to unwrap it."""

    def unwrap(self, wrapped: str, about: str) -> bytes:
        """Unwrap a key. Raises ConfigError when this is not the master that wrapped it."""


@dataclass(frozen=True, slots=True)
class LocalMaster:
    """A master key that this process holds: AES-256-GCM under a random nonce."""

    source: str
    secret: bytes = field(repr=False)

    def wrap(self, secret: bytes, about: str) -> str:
        """Wrap a key."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = AESGCM(self.secret).encrypt(nonce, secret, about.encode())
        return base64.b64encode(nonce + sealed).decode("ascii")

    def unwrap(self, wrapped: str, about: str) -> bytes:
        """Unwrap a key."""
        try:
            raw = base64.b64decode(wrapped, validate=True)
            cipher = AESGCM(self.secret)
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError):
            raise ConfigError(
                f"the master key in {self.source} is not the one that wrapped this database's keys"
            ) from None


@dataclass(frozen=True, slots=True)
class CommandMaster:
    """A KMS behind a program: ``PROGRAM wrap|unwrap``, JSON on standard input and output."""

    program: str

    @property
    def source(self) -> str:
        """The program's name."""
        return f"the program {Path(self.program).name}"

    def wrap(self, secret: bytes, about: str) -> str:
        """Wrap a key."""
        return str(self._ask("wrap", _wrap_request(secret, about)).get("ciphertext", ""))

    def unwrap(self, wrapped: str, about: str) -> bytes:
        """Unwrap a key."""
        return _plaintext(self._ask("unwrap", _unwrap_request(wrapped, about)), self.source)

    def _ask(self, verb: str, request: Mapping[str, str]) -> Mapping[str, object]:
        try:
            done = subprocess.run(
                [self.program, verb],
                input=json.dumps(request).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_KMS_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Retryable(f"{self.source} did not answer") from None
        except OSError as error:
            raise ConfigError(f"cannot run {self.source} ({error.strerror})") from None
        if done.returncode != 0:
            raise ConfigError(f"{self.source} refused to {verb} (exit code {done.returncode})")
        return _object(done.stdout, self.source)


@dataclass(frozen=True, slots=True)
class HttpsMaster:
    """A KMS behind HTTPS: ``POST {url}/wrap`` and ``/unwrap``, JSON, a bearer token."""

    url: str
    token: str = field(repr=False)
    reach: Reach

    @property
    def source(self) -> str:
        """The KMS's host."""
        return f"the KMS at {httpx2.URL(self.url).host}"

    def wrap(self, secret: bytes, about: str) -> str:
        """Wrap a key."""
        return str(self._ask("wrap", _wrap_request(secret, about)).get("ciphertext", ""))

    def unwrap(self, wrapped: str, about: str) -> bytes:
        """Unwrap a key."""
        return _plaintext(self._ask("unwrap", _unwrap_request(wrapped, about)), self.source)

    def _ask(self, verb: str, request: Mapping[str, str]) -> Mapping[str, object]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            timeout = httpx2.Timeout(_KMS_TIMEOUT_S)
            with open_client(self.reach, timeout=timeout, headers=headers) as client:
                answer = client.post(f"{self.url.rstrip('/')}/{verb}", json=dict(request))
        except httpx2.HTTPError as error:
            raise Retryable(f"{self.source} is away ({type(error).__name__})") from None
        if answer.status_code >= 500 or answer.status_code == 429:
            raise Retryable(f"{self.source} is away (status {answer.status_code})")
        if answer.status_code != 200:
            raise ConfigError(f"{self.source} refused to {verb} (status {answer.status_code})")
        return _object(answer.content, self.source)


def open_master(config: Config) -> Master:
    """Open the configured master key.

    Raises
    ------
    ConfigError
        It is missing, no key, readable by others, or configured in two places.
    """
    section = config.encryption
    text = section.master_key.get_secret_value()
    ways = [bool(way) for way in (section.key_file, text, section.kms_command, section.kms_url)]
    if sum(ways) > 1:
        raise ConfigError("[encryption] names more than one place of the master key")
    if text:
        return LocalMaster("BITEWING_ENCRYPTION_MASTER_KEY", _read_key(text, "[encryption]"))
    if section.kms_command:
        return CommandMaster(section.kms_command)
    if section.kms_url:
        return HttpsMaster(
            section.kms_url, section.kms_token.get_secret_value(), config.outgoing.reach("kms")
        )
    return _from_file(key_path(config))


def key_path(config: Config) -> Path:
    """Where the master key's file is: as configured, or beside the data folder, never in it."""
    folder = config.node.data_dir.absolute()
    configured = config.encryption.key_file
    path = Path(configured).absolute() if configured else folder.with_name(f"{folder.name}.key")
    if path.is_relative_to(folder):
        raise ConfigError("the master key must not be in the data folder: backups would carry it")
    return path


def is_file_kept(config: Config) -> bool:
    """Whether the master key is in a file of ours, rather than in the environment or a KMS."""
    section = config.encryption
    return not (section.master_key.get_secret_value() or section.kms_command or section.kms_url)


def create_key_file(path: Path) -> bool:
    """Make a master key's file, mode 0600; False when there is one already.

    Raises ConfigError when the folder cannot be written.
    """
    text = base64.b64encode(os.urandom(KEY_BYTES)).decode("ascii")
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # never over another process's key
        except FileExistsError:
            return False
        finally:
            draft.unlink()
    except OSError as error:
        raise ConfigError(
            f"cannot make the master key {path} ({error.strerror}); "
            "name another place with [encryption] key_file"
        ) from None
    return True


def _from_file(path: Path) -> LocalMaster:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise ConfigError(
            f"the master key {path} is missing; put it back from where it was kept: "
            "without it the data cannot be read"
        ) from None
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"the master key {path} cannot be read") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"the master key {path} is open to others; chmod 600 it")
    return LocalMaster(str(path), _read_key(text, str(path)))


def _read_key(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{where} holds no master key: 32 bytes in base 64 are expected")
    return key


def _wrap_request(secret: bytes, about: str) -> dict[str, str]:
    return {"plaintext": base64.b64encode(secret).decode("ascii"), "context": about}


def _unwrap_request(wrapped: str, about: str) -> dict[str, str]:
    return {"ciphertext": wrapped, "context": about}


def _plaintext(answer: Mapping[str, object], source: str) -> bytes:
    try:
        return base64.b64decode(str(answer.get("plaintext", "")), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{source} did not answer with a key") from None


def _object(data: bytes, source: str) -> Mapping[str, object]:
    try:
        answer = json.loads(data[:_MAX_ANSWER_BYTES])
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise ConfigError(f"{source} did not answer in JSON")
    return answer
