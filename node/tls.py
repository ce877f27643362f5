"""TLS contexts after BCP 195, whose files may change while they are in use.

TLS 1.2 at least, forward secrecy and authenticated encryption only. Source: RFC 9325, RFC 8996;
for DICOM the same is the profile of PS3.15 B.12.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from node.errors import ConfigError

_LOG = logging.getLogger(__name__)
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!PSK"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one server: its own, and who may call it.

    With ``authority`` set a client needs a certificate of it; with ``revoked``, one that does not
    stand in that revocation list. ``section`` is where the configuration names them.
    """

    section: str
    certificate: str
    key: str = ""
    authority: str = ""
    revoked: str = ""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are named."""
        named = (self.certificate, self.key, self.authority, self.revoked)
        return tuple(Path(each) for each in named if each)


class ServerTls:
    """One server's context; :meth:`refresh` takes over files that were replaced."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = _stamp(files)
        self.context = self._first = _context(files)

    def refresh(self) -> bool:
        """Load the files again when one of them changed; tells whether it did.

        ``context`` is another one then (what a revocation list once said cannot be taken out of
        one); the first shows the new certificate too, for a server that holds on to it. Open
        connections go on. Files that do not fit together (one of them is being replaced) leave
        everything as it is until the next look.
        """
        stamp, files = _stamp(self._files), self._files
        if stamp == self._stamp:
            return False
        try:
            context = _context(files)
        except ConfigError as error:
            _LOG.warning("kept the certificate in use: %s", error)
            return False
        _load_own(self._first, files)
        self.context, self._stamp = context, stamp
        _LOG.info("took over a new certificate or revocation list of %s", files.section)
        return True


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    harden(context)
    _load_own(context, files)
    if files.authority:
        load_authority(context, files.authority, f"{files.section}.tls_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    if files.revoked:
        load_revoked(context, files.revoked, f"{files.section}.tls_crl")
    return context


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    load_certificate(context, files.certificate, files.key, f"{files.section}.tls_certificate")


def harden(context: ssl.SSLContext) -> None:
    """Allow nothing that RFC 9325 advises against."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)


def load_certificate(context: ssl.SSLContext, certificate: str, key: str, where: str) -> None:
    """Show this certificate; raises ConfigError, naming `where`, when it cannot be used."""
    try:
        context.load_cert_chain(Path(certificate), Path(key) if key else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{where} or its key cannot be used ({_words(error)})") from None


def load_authority(context: ssl.SSLContext, path: str, where: str) -> None:
    """Trust this authority; raises ConfigError, naming `where`, when it cannot be used."""
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{where} cannot be used ({_words(error)})") from None


def load_revoked(context: ssl.SSLContext, path: str, where: str) -> None:
    """Refuse what stands in this revocation list, and everything once the list has run out.

    Raises ConfigError, naming `where`, when it cannot be used.
    """
    load_authority(context, path, where)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def _stamp(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    """Tell apart one state of the files from the next."""
    stamps = []
    for path in files.paths:
        try:
            state = path.stat()
        except OSError:
            stamps.append((0, 0, 0))
        else:
            stamps.append((state.st_ino, state.st_mtime_ns, state.st_size))
    return tuple(stamps)


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not in PEM form"
    return error.strerror or "unreadable"
