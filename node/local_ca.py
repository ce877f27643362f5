"""The practice's own certificate authority: one root, made once, for this node and its neighbours.

The root's key lies in the data folder, for this account only and under a passphrase if the office
wants one. It may certify nothing outside the office's names and networks (name constraints), so
that a workstation that trusts it trusts it for nothing else. What was issued are rows; a revoked
certificate stands in the revocation list beside the root. Bridges have an authority of their own.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from node import certificates
from node.db.session import Actor, begin, read
from node.db.tables import tls_certificate
from node.domain.destinations import Network
from node.errors import ConfigError, InvalidInput, NotFound, Rejected
from node.private_file import read_private, write_private

ROOT_YEARS = 10
#: Browsers take 398 days at most of a server; machines that nobody visits may have Apple's 825.
WEB_DAYS, PEER_DAYS = 397, 825
_ORGANISATION = "Bitewing local authority"
_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
#: Names that no public registry gives out (RFC 6761, 6762, 8375; ICANN for "internal").
OFFICE_DOMAINS = ("localhost", "local", "lan", "internal", "home.arpa")
_OFFICE_NETWORKS: tuple[Network, ...] = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        *("::1/128", "fc00::/7"),
    )
)
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,62})(\.[a-z0-9][a-z0-9-]{0,62})*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Kind(StrEnum):
    """What a certificate is for."""

    WEB = "web"  # the review page
    DICOM = "dicom"  # this node's listener, and this node calling a peer
    PEER = "peer"  # another machine: a sensor's workstation, an archive

    @property
    def days(self) -> int:
        """How long one lives."""
        return PEER_DAYS if self is Kind.PEER else WEB_DAYS

    @property
    def usages(self) -> list[x509.ObjectIdentifier]:
        """What it may be shown for."""
        return [_SERVER] if self is Kind.WEB else [_SERVER, _CLIENT]


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """One issued certificate; ``hosts`` are what it is for."""

    serial: str
    location_id: str
    kind: Kind
    name: str
    hosts: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be certified: a key of ours, or the one of a request that a machine made."""

    kind: Kind
    name: str
    hosts: tuple[str, ...]
    request_pem: bytes = b""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidInput("a certificate's name has letters, digits and . _ - only")
        if not self.hosts and self.kind is not Kind.PEER:
            raise InvalidInput(f"a {self.kind} certificate needs --host: what others call it by")


@dataclass(frozen=True, slots=True)
class Issued:
    """A new certificate; the key is empty where the machine has its own."""

    certificate: bytes
    key: bytes
    serial: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LocalAuthority:
    """The root in a folder; see :func:`create` and :func:`open_authority`."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    db: sa.Engine
    actor: Actor

    @property
    def root_path(self) -> Path:
        """The root's certificate, which is public."""
        return self.folder / "root.pem"

    @property
    def revoked_path(self) -> Path:
        """The revocation list, which is public."""
        return self.folder / "revoked.pem"

    def issue(self, wanted: Request, now: datetime) -> Issued:
        """Certify a key and write the row.

        Raises InvalidInput when a host lies outside what the root may certify, or the request
        cannot be read.
        """
        for host in wanted.hosts:
            self._check_host(host)
        own = None if wanted.request_pem else certificates.new_key()
        key = own.public_key() if own else certificates.load_request(wanted.request_pem)
        expires_at = min(
            now + timedelta(days=wanted.kind.days), self.certificate.not_valid_after_utc
        )
        subject = certificates.common_name(_ORGANISATION, wanted.name)
        builder = certificates.build(subject, key, now, expires_at).add_extension(
            x509.ExtendedKeyUsage(wanted.kind.usages), critical=True
        )
        if wanted.hosts:
            names = certificates.alternative_names(wanted.hosts)
            builder = builder.add_extension(names, critical=False)
        built = certificates.sign(builder, self.certificate.subject, self.key)
        serial = certificates.serial_of(built)
        with begin(self.db, self.actor, "certificate.issued") as tx:
            tx.conn.execute(
                tls_certificate.insert().values(
                    serial=serial,
                    location_id=tx.location_id,
                    kind=wanted.kind.value,
                    name=wanted.name,
                    hosts=list(wanted.hosts),
                    issued_at=now,
                    expires_at=expires_at,
                )
            )
            tx.record(serial, kind=wanted.kind.value)
        pem = certificates.pem_of(built)
        return Issued(pem, certificates.key_pem(own) if own else b"", serial, expires_at)

    def revoke(self, serial: str, reason: str, now: datetime) -> None:
        """Refuse a certificate from now on: the row, then the list that listeners read.

        Raises NotFound or Rejected when there is none such, or it is revoked already.
        """
        with begin(self.db, self.actor, "certificate.revoked") as tx:
            row = tx.conn.execute(
                sa.select(tls_certificate.c.revoked_at).where(
                    tls_certificate.c.serial == serial,
                    tls_certificate.c.location_id == tx.location_id,
                )
            ).first()
            if row is None:
                raise NotFound(f"there is no certificate {serial[:40]!r} at this location")
            if row.revoked_at is not None:
                raise Rejected("this certificate was revoked already")
            tx.conn.execute(
                tls_certificate.update()
                .where(tls_certificate.c.serial == serial)
                .values(revoked_at=now, reason=reason[:255])
            )
            tx.record(serial, reason=reason[:255])
        self.write_revoked(now)

    def write_revoked(self, now: datetime) -> None:
        """Write the revocation list from the rows; good until the root ends or the next one."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - certificates.BACKDATE)
            .next_update(self.certificate.not_valid_after_utc)
        )
        with read(self.db) as conn:
            rows = [each for each in issued(conn, self.actor.location_id) if each.revoked_at]
        number = len(rows) + 1
        for row in rows:
            assert row.revoked_at is not None
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(int(row.serial, 16))
                .revocation_date(row.revoked_at)
                .build()
            )
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        made = (
            builder.add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(identifier, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        write_private(self.revoked_path, made.public_bytes(serialization.Encoding.PEM))

    def _check_host(self, host: str) -> None:
        allowed = self.certificate.extensions.get_extension_for_class(
            x509.NameConstraints
        ).value.permitted_subtrees
        domains = [each.value for each in allowed or () if isinstance(each, x509.DNSName)]
        networks = [str(each.value) for each in allowed or () if isinstance(each, x509.IPAddress)]
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            is_fine = _is_domain(host) and any(
                host == each or host.endswith(f".{each}") for each in domains
            )
        else:
            is_fine = any(address in ipaddress.ip_network(each) for each in networks)
        if not is_fine:
            raise InvalidInput(
                f"{host[:80]} is not among what this root may certify ({', '.join(domains)} and"
                " private addresses); `bitewing ca create --domain` names further domains"
            )


def create(
    folder: Path,
    db: sa.Engine,
    actor: Actor,
    now: datetime,
    *,
    domains: Sequence[str] = (),
    passphrase: bytes = b"",
) -> LocalAuthority:
    """Make the root, its key and an empty revocation list in `folder`.

    ``domains`` are certified besides private addresses and the names of local networks. Raises
    Rejected when there is an authority already, InvalidInput for what is no domain.
    """
    if (folder / "root.key").exists() or (folder / "root.pem").exists():
        raise Rejected(f"there is an authority in {folder} already")
    for each in domains:
        if not _is_domain(each):
            raise InvalidInput(f"{each[:80]!r} is not a domain name in small letters")
    key, name = certificates.new_key(), certificates.common_name(_ORGANISATION, "root")
    permitted: list[x509.GeneralName] = [
        x509.DNSName(each) for each in dict.fromkeys([*OFFICE_DOMAINS, *domains])
    ]
    permitted += [x509.IPAddress(each) for each in _OFFICE_NETWORKS]
    end = now + timedelta(days=365 * ROOT_YEARS)
    builder = (
        certificates.build(name, key.public_key(), now, end, is_authority=True)
        .add_extension(certificates.AUTHORITY_USAGE, critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
    )
    root = certificates.sign(builder, name, key)
    with begin(db, actor, "authority.made") as tx:
        write_private(folder / "root.key", certificates.key_pem(key, passphrase))
        write_private(folder / "root.pem", certificates.pem_of(root))
        tx.record(certificates.serial_of(root))
    made = LocalAuthority(folder, root, key, db, actor)
    made.write_revoked(now)
    return made


def open_authority(
    folder: Path, db: sa.Engine, actor: Actor, passphrase: bytes = b""
) -> LocalAuthority:
    """Open the root in `folder`; raises ConfigError when there is none or it cannot be used."""
    if not (folder / "root.key").exists():
        raise ConfigError("there is no local authority yet: `bitewing ca create` makes it")
    where = str(folder / "root.key")
    pem = read_private(folder / "root.key", "the root's key")
    key = certificates.load_key(pem, where, passphrase)
    root = certificates.read_certificate(folder / "root.pem")
    if root.public_key() != key.public_key():
        raise ConfigError(f"the root's key and certificate in {folder} do not match")
    return LocalAuthority(folder, root, key, db, actor)


def issued(conn: sa.Connection, location_id: str) -> list[CertificateRow]:
    """List what was issued at a location, the newest first."""
    rows = conn.execute(
        sa.select(tls_certificate)
        .where(tls_certificate.c.location_id == location_id)
        .order_by(tls_certificate.c.issued_at.desc(), tls_certificate.c.serial)
    )
    return [
        CertificateRow(
            **{**row._mapping, "kind": Kind(row.kind), "hosts": tuple(row.hosts)},
        )
        for row in rows
    ]


def _is_domain(name: str) -> bool:
    return _DOMAIN.fullmatch(name) is not None
