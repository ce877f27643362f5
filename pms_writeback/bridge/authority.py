"""The node's own certificate authority for bridges: made once, it signs only our two kinds.

Server certificates prove the node to its bridges; client certificates prove a bridge and name the
one location it may speak for. The key stays in the data folder and is part of its backup.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.certificates import (
    AUTHORITY_USAGE,
    alternative_names,
    build,
    common_name,
    key_pem,
    load_request,
    new_key,
    pem_of,
    serial_of,
    sign,
)
from node.errors import ConfigError
from node.private_file import write_private

AUTHORITY_YEARS = 10
SERVER_DAYS = 365
SERVER_RENEW_DAYS = 60
_ORGANISATION = "Bitewing bridge"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate for one bridge."""

    pem: bytes
    serial: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """The certificate and key in a folder; see `open_authority`."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_path(self) -> Path:
        """The authority's certificate, which is public."""
        return self.folder / "authority.pem"

    @property
    def server_paths(self) -> tuple[Path, Path]:
        """The node's certificate and key for the bridge listener."""
        return self.folder / "server.pem", self.folder / "server.key"

    @property
    def sha256(self) -> bytes:
        """The digest by which a bridge knows this authority."""
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return hashlib.sha256(der).digest()

    def issue(self, request_pem: bytes, location_id: str, days: float, now: datetime) -> Issued:
        """Certify a bridge's key for one location; nothing else of the request is taken over.

        Raises InvalidInput when the request cannot be read or does not prove its key.
        """
        key = load_request(request_pem)
        expires_at = now + timedelta(days=days)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = build(common_name(_ORGANISATION, location_id), key, now, expires_at)
        built = self._sign(builder.add_extension(usage, critical=True))
        return Issued(pem_of(built), serial_of(built), expires_at)

    def keep_server_certificate(self, public_name: str, now: datetime) -> bool:
        """Make the listener's certificate unless a good one is there; tells whether it was made."""
        certificate_path, key_path = self.server_paths
        names = _server_names(public_name)
        if certificate_path.exists() and key_path.exists():
            present = x509.load_pem_x509_certificate(certificate_path.read_bytes())
            left = present.not_valid_after_utc - now
            if left > timedelta(days=SERVER_RENEW_DAYS) and _names_of(present) == list(names):
                return False
        key = new_key()
        subject = common_name(_ORGANISATION, "node")
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = build(subject, key.public_key(), now, now + timedelta(days=SERVER_DAYS))
        built = self._sign(
            builder.add_extension(names, critical=False).add_extension(usage, critical=True)
        )
        write_private(key_path, key_pem(key))
        write_private(certificate_path, pem_of(built))
        return True

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return sign(builder, self.certificate.subject, self.key)


def open_authority(folder: Path, now: datetime) -> Authority:
    """Open the authority in `folder`, making it when there is none.

    Raises ConfigError when its files are damaged or one of the two is missing.
    """
    key_path, certificate_path = folder / "authority.key", folder / "authority.pem"
    if not key_path.exists() and not certificate_path.exists():
        _make(key_path, certificate_path, now)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except (OSError, ValueError):
        raise ConfigError(
            f"the bridge authority in {folder} is damaged; restore it from the backup"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise ConfigError(f"the bridge authority's key and certificate in {folder} do not match")
    return Authority(folder, certificate, key)


def location_of(certificate: x509.Certificate) -> str:
    """Read which location a bridge's certificate names."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _make(key_path: Path, certificate_path: Path, now: datetime) -> None:
    key = new_key()
    name = common_name(_ORGANISATION, "authority")
    expires_at = now + timedelta(days=365 * AUTHORITY_YEARS)
    builder = build(name, key.public_key(), now, expires_at, is_authority=True)
    built = sign(builder.add_extension(AUTHORITY_USAGE, critical=True), name, key)
    write_private(key_path, key_pem(key))
    write_private(certificate_path, pem_of(built))


def _server_names(public_name: str) -> x509.SubjectAlternativeName:
    return alternative_names(["localhost", "127.0.0.1", *([public_name] if public_name else [])])


def _names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
