"""TLS for associations: the BCP 195 profile (PS3.15 B.12), certificates on one side or on both."""

from __future__ import annotations

import ssl

from node.config import DicomSection, PeerSection
from node.tls import (
    ServerTls,
    TlsFiles,
    harden,
    load_authority,
    load_certificate,
    load_revoked,
)


def server_tls(section: DicomSection) -> ServerTls:
    """Make the listener's side; with ``tls_ca`` set, a client needs a certificate of it.

    Raises ConfigError when a file is missing or is not what it should be.
    """
    return ServerTls(
        TlsFiles("dicom", section.tls_certificate, section.tls_key, section.tls_ca, section.tls_crl)
    )


def client_context(peer: PeerSection) -> ssl.SSLContext:
    """Make our side towards a peer: it must hold a certificate for its host name or address.

    Raises ConfigError when a file is missing or is not what it should be.
    """
    context = ssl.create_default_context()
    harden(context)
    where = f"dicom.peers {peer.name}"
    if peer.tls_ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        harden(context)
        load_authority(context, peer.tls_ca, f"{where}: tls_ca")
    if peer.tls_crl:
        load_revoked(context, peer.tls_crl, f"{where}: tls_crl")
    if peer.tls_certificate:
        load_certificate(context, peer.tls_certificate, peer.tls_key, f"{where}: tls_certificate")
    return context
