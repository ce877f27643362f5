"""The bridge's own certificate: asked for once with a token, renewed before it expires.

The private key is made here and never leaves the machine. The node is known by its authority's
certificate, whose digest stands in the enrolment token: nothing is trusted on first sight.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from node.certificates import key_pem, load_key, new_key, read_certificate
from node.errors import BitewingError, ConfigError, Rejected, Retryable
from node.private_file import write_private
from pms_writeback.bridge.protocol import Json, as_object, text
from pms_writeback.bridge.token import EnrolmentToken

_KEY, _CERTIFICATE, _AUTHORITY = "bridge.key", "bridge.pem", "authority.pem"
_NEXT_KEY = "bridge.key.next"
RENEW_SHARE = 1 / 3
"""A certificate is renewed when less than this share of its life is left."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The certificate, key and authority in a bridge's folder."""

    folder: Path

    @property
    def is_enrolled(self) -> bool:
        """Tell whether all three files are there."""
        return all((self.folder / name).exists() for name in (_KEY, _CERTIFICATE, _AUTHORITY))

    def context(self) -> ssl.SSLContext:
        """Make the TLS context that shows our certificate and trusts only our authority.

        Raises ConfigError when this bridge was never enrolled or its files are damaged.
        """
        if not self.is_enrolled:
            raise ConfigError("this bridge is not enrolled yet: run `bitewing bridge enrol`")
        context = _context()
        try:
            context.load_verify_locations(self.folder / _AUTHORITY)
            context.load_cert_chain(self.folder / _CERTIFICATE, self.folder / _KEY)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"the bridge's certificate cannot be used ({error})") from None
        return context

    @property
    def certificate(self) -> x509.Certificate:
        """Our certificate; raises ConfigError."""
        return read_certificate(self.folder / _CERTIFICATE)

    def check_alive(self, now: datetime) -> None:
        """Raise ConfigError when the certificate has expired: only a new enrolment helps."""
        end = self.certificate.not_valid_after_utc
        if now >= end:
            raise ConfigError(
                f"the bridge's certificate expired on {end:%Y-%m-%d}: run `bitewing bridge enrol`"
                " again with a new token"
            )

    def wants_renewal(self, now: datetime) -> bool:
        """Tell whether little of the certificate's life is left."""
        mine = self.certificate
        life = mine.not_valid_after_utc - mine.not_valid_before_utc
        return mine.not_valid_after_utc - now < life * RENEW_SHARE

    def prepare_renewal(self) -> bytes:
        """Make the next key, or take up the one of an interrupted renewal; give its request."""
        path = self.folder / _NEXT_KEY
        if not path.exists():
            write_private(path, key_pem(new_key()))
        return _request(path.read_bytes())

    def complete_renewal(self, certificate: bytes) -> None:
        """Put the new certificate and key in place of the old ones.

        Raises Rejected when the certificate is not for our next key.
        """
        path = self.folder / _NEXT_KEY
        _check_match(certificate, path.read_bytes())
        # Key and certificate lie in one file for a moment: no crash leaves one without the other.
        write_private(self.folder / _CERTIFICATE, certificate + path.read_bytes())
        self.repair()

    def repair(self) -> None:
        """Finish a renewal that was cut between its two files."""
        if not self.is_enrolled:
            return
        chain = (self.folder / _CERTIFICATE).read_bytes()
        begin = chain.find(b"-----BEGIN PRIVATE KEY")
        if begin < 0:
            return
        write_private(self.folder / _KEY, chain[begin:])
        write_private(self.folder / _CERTIFICATE, chain[:begin])
        (self.folder / _NEXT_KEY).unlink(missing_ok=True)


def enrol(folder: Path, node_url: str, token_text: str) -> Identity:
    """Ask the node for this bridge's first certificate; returns the identity in `folder`.

    Raises
    ------
    InvalidInput
        The token cannot be read.
    Rejected
        The node at this address is not the one of the token, or the token was used or is old.
    Retryable
        The node does not answer.
    """
    token = EnrolmentToken.parse(token_text)
    base = node_url.rstrip("/")
    authority = _fetch_authority(base, token)
    key = key_pem(new_key())
    context = _context()
    context.load_verify_locations(cadata=authority.decode("ascii"))
    body = {"token": token.secret, "request": _request(key).decode("ascii")}
    answer = _ask(base + "/bridge/enrol", context, body)
    certificate = text(answer, "certificate").encode("ascii")
    _check_match(certificate, key)
    identity = Identity(folder)
    write_private(folder / _AUTHORITY, authority)
    write_private(folder / _CERTIFICATE, certificate)
    write_private(folder / _KEY, key)
    return identity


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _fetch_authority(base: str, token: EnrolmentToken) -> bytes:
    """Read the authority's certificate over an unproven line; the token's digest proves it."""
    unproven = _context()
    unproven.check_hostname = False
    unproven.verify_mode = ssl.CERT_NONE
    answer = _ask(base + "/bridge/authority", unproven, {})
    pem = text(answer, "certificate").encode("ascii", "replace")
    try:
        der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    except ValueError:
        raise Rejected("the node's authority certificate cannot be read") from None
    if hashlib.sha256(der).digest() != token.authority_sha256:
        raise Rejected(
            "the node at this address is not the one that made the token; nothing was sent to it"
        )
    return pem


def _ask(url: str, context: ssl.SSLContext, body: Json) -> Json:
    try:
        with httpx2.Client(verify=context, timeout=30.0) as client:
            answer = client.post(url, json=dict(body))
            data = as_object(answer.json())
    except httpx2.RequestError as error:
        raise away(error) from None
    except ValueError:
        raise Rejected("what answers at this address is not a node's bridge listener") from None
    if not answer.is_success:
        raise Rejected(str(data.get("message", f"the node refused ({answer.status_code})"))[:300])
    return data


def away(error: httpx2.RequestError) -> BitewingError:
    """Say why the node could not be reached: silence, or a certificate that is not its own."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ConfigError(
            "what answers at this address has no certificate of our node for this name: on the"
            " node set [bridge] public_name to the name that the bridge dials"
        )
    return Retryable(f"the node does not answer ({type(error).__name__})", retry_after_s=5.0)


def _request(key: bytes) -> bytes:
    # The node writes the subject; what is asked for here is only the key.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bridge")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.sign(load_key(key, _KEY), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def _check_match(certificate: bytes, key: bytes) -> None:
    try:
        public = x509.load_pem_x509_certificate(certificate).public_key()
    except ValueError:
        raise Rejected("the node sent a certificate that cannot be read") from None
    if public != load_key(key, _KEY).public_key():
        raise Rejected("the node sent a certificate for another key")
