"""Signed packages: a release that the node offers and the bridge verifies, stages and may install.

A package is a wheel and a manifest; the manifest is signed with Ed25519 by whoever releases the
program, never by the node. A bridge without ``update_key`` takes no package at all.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from node.errors import ConfigError, InvalidInput, Rejected
from node.private_file import write_private
from pms_writeback.bridge.protocol import Json, as_object, number, text

PRODUCT = "bitewing"
MAX_PACKAGE_BYTES = 200_000_000
_STAGED = "staged.json"


@dataclass(frozen=True, slots=True)
class Package:
    """What a manifest says about a wheel, and the signature over exactly that."""

    version: str
    wheel: str
    sha256: str
    size: int
    signature: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+(\.\d+){1,3}", self.version):
            raise InvalidInput(f"not a release number: {self.version[:30]!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InvalidInput("a package's digest is 64 hex digits")
        if not re.fullmatch(r"bitewing-[A-Za-z0-9_.+-]{1,100}\.whl", self.wheel):
            raise InvalidInput(f"not a wheel of {PRODUCT}: {self.wheel[:60]!r}")
        if not 0 < self.size <= MAX_PACKAGE_BYTES:
            raise InvalidInput(f"a package of {self.size} bytes is not accepted")

    @property
    def signed_bytes(self) -> bytes:
        """The bytes under the signature."""
        fields = {
            "product": PRODUCT,
            "version": self.version,
            "wheel": self.wheel,
            "sha256": self.sha256,
            "size": self.size,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def to_json(self) -> dict[str, object]:
        """Encode it."""
        return {
            "version": self.version,
            "wheel": self.wheel,
            "sha256": self.sha256,
            "size": self.size,
            "signature": self.signature,
        }

    @classmethod
    def from_json(cls, data: object) -> Package:
        """Decode it; raises InvalidInput."""
        fields = as_object(data)
        return cls(
            text(fields, "version"),
            text(fields, "wheel"),
            text(fields, "sha256"),
            int(number(fields, "size", 0)),
            text(fields, "signature"),
        )


def new_signing_key() -> tuple[bytes, str]:
    """Make a release key: its PEM, kept away from every node, and the ``update_key``."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def sign_package(wheel: Path, version: str, key_pem: bytes) -> Package:
    """Describe a wheel and sign it.

    Raises
    ------
    ConfigError
        The key is not an Ed25519 key.
    InvalidInput
        The file is no wheel of this product.
    """
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError):
        raise ConfigError("the signing key cannot be read") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("packages are signed with an Ed25519 key")
    content = wheel.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    unsigned = Package(version, wheel.name, digest, len(content), "none")
    signature = base64.b64encode(key.sign(unsigned.signed_bytes)).decode("ascii")
    return Package(version, wheel.name, digest, len(content), signature)


def verify(package: Package, update_key: str) -> None:
    """Check the signature.

    Raises
    ------
    ConfigError
        This bridge has no key, or not a key.
    Rejected
        The signature is not by that key.
    """
    if not update_key:
        raise ConfigError("this bridge takes no packages: update_key is not set in bridge.toml")
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(update_key, validate=True))
    except (ValueError, binascii.Error):
        raise ConfigError("update_key in bridge.toml is not an Ed25519 public key") from None
    try:
        public.verify(base64.b64decode(package.signature, validate=True), package.signed_bytes)
    except (InvalidSignature, ValueError, binascii.Error):
        raise Rejected(f"the package {package.version} is not signed by the release key") from None


@dataclass(frozen=True, slots=True)
class Updates:
    """The packages of one bridge: verified, staged in its folder, installed when told to."""

    folder: Path
    update_key: str
    running: str

    def is_wanted(self, package: Package) -> bool:
        """Tell whether a package is newer than what runs and what is staged."""
        staged = self.staged
        known = max(_number(self.running), _number(staged.version) if staged else (0,))
        return _number(package.version) > known

    def stage(self, package: Package, fetch: Callable[[Package], bytes]) -> Path:
        """Verify an offered package, fetch its wheel and keep it; returns the wheel's path.

        Nothing is fetched before the signature holds.

        Raises
        ------
        Rejected
            The signature, size or digest is wrong, or the package is not newer.
        ConfigError
            This bridge has no ``update_key``.
        """
        verify(package, self.update_key)
        if not self.is_wanted(package):
            raise Rejected(f"the package {package.version} is not newer; nothing was staged")
        content = fetch(package)
        _check_content(package, content)
        path = self.folder / package.version / package.wheel
        write_private(path, content)
        write_private(self.folder / _STAGED, json.dumps(package.to_json()).encode())
        return path

    @property
    def staged(self) -> Package | None:
        """The package that waits to be installed; None when there is none or it is damaged."""
        try:
            return Package.from_json(json.loads((self.folder / _STAGED).read_bytes()))
        except (OSError, ValueError, InvalidInput):
            return None

    def install(self, pip_options: tuple[str, ...] = ()) -> str:
        """Verify the staged package again and install it with pip; returns its version.

        Raises
        ------
        Rejected
            Nothing is staged, it was changed since, or pip refused it.
        """
        package = self.staged
        if package is None:
            raise Rejected("no package is staged")
        verify(package, self.update_key)
        path = self.folder / package.version / package.wheel
        try:
            _check_content(package, path.read_bytes())
        except OSError:
            raise Rejected("the staged package is no longer there") from None
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--upgrade"]
        done = subprocess.run(
            [*command, *pip_options, str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Rejected(f"pip refused the package {package.version}: {last[:200]}")
        (self.folder / _STAGED).unlink()
        return package.version


def _check_content(package: Package, content: bytes) -> None:
    if len(content) != package.size or hashlib.sha256(content).hexdigest() != package.sha256:
        raise Rejected(f"the package {package.version} is not what was signed; nothing was staged")


def _number(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else (0,)


def offer_from(data: Json) -> Package | None:
    """Read the node's offer; one of a form that we do not know counts as none."""
    try:
        return Package.from_json(data.get("offer"))
    except InvalidInput:
        return None
