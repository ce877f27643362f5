"""The node's own certificate authority for bridges: made once, it signs only our two kinds.

Server certificates prove the node to its bridges; client certificates prove a bridge and name the
one location it may speak for. The key stays in the data folder and is part of its backup.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.errors import ConfigError, InvalidInput
from pms_writeback.bridge.vault import write_private

AUTHORITY_YEARS = 10
SERVER_DAYS = 365
SERVER_RENEW_DAYS = 60
_BACKDATE = timedelta(minutes=10)  # a clinic's clock may be behind ours
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
    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    @property
    def sha256(self) -> bytes:
        """The digest by which a bridge knows this authority."""
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return hashlib.sha256(der).digest()

    def issue(self, request_pem: bytes, location_id: str, days: float, now: datetime) -> Issued:
        """Certify a bridge's key for one location; nothing else of the request is taken over.

        Raises InvalidInput when the request cannot be read or does not prove its key.
        """
        try:
            request = x509.load_pem_x509_csr(request_pem)
        except ValueError:
            raise InvalidInput("the certificate request cannot be read") from None
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not request.is_signature_valid:
            raise InvalidInput("the certificate request does not prove an elliptic-curve key")
        expires_at = now + timedelta(days=days)
        subject = _name(location_id)
        built = (
            _builder(subject, key, now, expires_at)
            .issuer_name(self.certificate.subject)
            .add_extension(self._key_identifier, critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        pem = built.public_bytes(serialization.Encoding.PEM)
        return Issued(pem, serial_of(built), expires_at)

    def keep_server_certificate(self, public_name: str, now: datetime) -> bool:
        """Make the listener's certificate unless a good one is there; tells whether it was made."""
        certificate_path, key_path = self.server_paths
        names = _server_names(public_name)
        if certificate_path.exists() and key_path.exists():
            present = x509.load_pem_x509_certificate(certificate_path.read_bytes())
            left = present.not_valid_after_utc - now
            if left > timedelta(days=SERVER_RENEW_DAYS) and _names_of(present) == list(names):
                return False
        key = ec.generate_private_key(ec.SECP256R1())
        built = (
            _builder(_name("node"), key.public_key(), now, now + timedelta(days=SERVER_DAYS))
            .issuer_name(self.certificate.subject)
            .add_extension(self._key_identifier, critical=False)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        write_private(key_path, _key_pem(key))
        write_private(certificate_path, built.public_bytes(serialization.Encoding.PEM))
        return True


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


def serial_of(certificate: x509.Certificate) -> str:
    """Give a certificate's serial number as hex."""
    return f"{certificate.serial_number:x}"


def _make(key_path: Path, certificate_path: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("authority")
    expires_at = now + timedelta(days=365 * AUTHORITY_YEARS)
    built = (
        _builder(name, key.public_key(), now, expires_at, is_authority=True)
        .issuer_name(name)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    write_private(key_path, _key_pem(key))
    write_private(certificate_path, built.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    expires_at: datetime,
    is_authority: bool = False,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(expires_at)
        .add_extension(
            x509.BasicConstraints(is_authority, 0 if is_authority else None), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _server_names(public_name: str) -> x509.SubjectAlternativeName:
    texts = dict.fromkeys(["localhost", "127.0.0.1", *([public_name] if public_name else [])])
    return x509.SubjectAlternativeName([_general_name(each) for each in texts])


def _general_name(words: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(words))
    except ValueError:
        return x509.DNSName(words)


def _names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
