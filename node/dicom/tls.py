"""TLS for associations: the BCP 195 profile (PS3.15 B.12), certificates on one side or on both.

TLS 1.2 at least, forward secrecy and authenticated encryption only. Source: RFC 9325, RFC 8996.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from node.config import DicomSection, PeerSection
from node.errors import ConfigError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!PSK"


def server_context(section: DicomSection) -> ssl.SSLContext:
    """Make the listener's side; with ``tls_ca`` set, a client needs a certificate of it.

    Raises ConfigError when a file is missing or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _load_certificate(context, section.tls_certificate, section.tls_key, "dicom.tls_certificate")
    if section.tls_ca:
        _load_authority(context, section.tls_ca, "dicom.tls_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(peer: PeerSection) -> ssl.SSLContext:
    """Make our side towards a peer: it must hold a certificate for its host name or address.

    Raises ConfigError when a file is missing or is not what it should be.
    """
    context = ssl.create_default_context()
    _harden(context)
    where = f"dicom.peers {peer.name}"
    if peer.tls_ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _harden(context)
        _load_authority(context, peer.tls_ca, f"{where}: tls_ca")
    if peer.tls_certificate:
        _load_certificate(context, peer.tls_certificate, peer.tls_key, f"{where}: tls_certificate")
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str, where: str) -> None:
    try:
        context.load_cert_chain(Path(certificate), Path(key) if key else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{where} or its key cannot be used ({_words(error)})") from None


def _load_authority(context: ssl.SSLContext, path: str, where: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{where} cannot be used ({_words(error)})") from None


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not in PEM form"
    return error.strerror or "unreadable"
