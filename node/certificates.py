"""X.509 on elliptic-curve P-256 keys: the parts that our authorities build certificates from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from node.errors import ConfigError, InvalidInput

#: Clocks of other machines may be behind ours.
BACKDATE = timedelta(minutes=10)

#: What an authority's key is for: certificates and revocation lists, nothing else.
AUTHORITY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    """Write a key as PKCS #8, encrypted when there is a passphrase."""
    encryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def load_key(pem: bytes, where: str, passphrase: bytes = b"") -> ec.EllipticCurvePrivateKey:
    """Read a key that we wrote; raises ConfigError, naming `where`, when it cannot be used."""
    try:
        key = serialization.load_pem_private_key(pem, passphrase or None)
    except TypeError:
        words = "is not encrypted" if passphrase else "needs its passphrase"
        raise ConfigError(f"the key in {where} {words}") from None
    except ValueError:
        words = "is damaged, or the passphrase is another" if passphrase else "is damaged"
        raise ConfigError(f"the key in {where} {words}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"the key in {where} is not one that we made")
    return key


def load_request(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Read the key out of a certificate request; nothing else of it is taken over.

    Raises InvalidInput when it cannot be read or does not prove its key.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
    except ValueError:
        raise InvalidInput("the certificate request cannot be read") from None
    key = request.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not request.is_signature_valid:
        raise InvalidInput("the certificate request does not prove an elliptic-curve key")
    return key


def build(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    expires_at: datetime,
    is_authority: bool = False,
) -> x509.CertificateBuilder:
    """Begin a certificate; the issuer and what it is for are still to be added."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(expires_at)
        .add_extension(
            x509.BasicConstraints(is_authority, 0 if is_authority else None), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def sign(
    builder: x509.CertificateBuilder, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """Sign a certificate, naming the issuer's key in it."""
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    named = builder.issuer_name(issuer).add_extension(identifier, critical=False)
    return named.sign(key, hashes.SHA256())


def common_name(organisation: str, name: str) -> x509.Name:
    """Compose a subject."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def alternative_names(hosts: Iterable[str]) -> x509.SubjectAlternativeName:
    """Compose the names and addresses that a server's certificate is for."""
    return x509.SubjectAlternativeName([_general_name(each) for each in dict.fromkeys(hosts)])


def pem_of(certificate: x509.Certificate) -> bytes:
    """Write a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def serial_of(certificate: x509.Certificate) -> str:
    """Give a certificate's serial number as hex."""
    return f"{certificate.serial_number:x}"


def read_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file; raises ConfigError."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigError(f"{path} is not a certificate") from None


def _general_name(words: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(words))
    except ValueError:
        return x509.DNSName(words)
