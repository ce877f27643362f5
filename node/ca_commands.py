"""``bitewing ca …``: the practice's own certificate authority."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from node.config import Config
    from node.db.session import Actor
    from node.local_ca import CertificateRow, Issued, LocalAuthority, Request

ca_cli = typer.Typer(
    no_args_is_help=True,
    help="The practice's own certificate authority, for TLS in the office (docs/tls.md).",
)

PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File with the passphrase of the root's key (mode 0600)."),
]
Out = Annotated[
    Path | None, typer.Option(help="Folder for the files; <data-dir>/tls when left out.")
]


@ca_cli.command()
def create(
    domain: Annotated[
        list[str] | None, typer.Option(help="A domain of the office that it may certify.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Make the root; once for a practice."""
    from node import local_ca
    from node.db.migrate import migrate

    settings = read_settings(config, data_dir)
    db = open_db(settings)
    migrate(db)
    made = local_ca.create(
        _folder(settings),
        db,
        _actor(settings),
        datetime.now(UTC),
        domains=domain or (),
        passphrase=_passphrase(passphrase_file),
    )
    typer.echo(
        f"root {made.root_path}\nlet the office's machines trust it (docs/tls.md); its key"
        f" {made.folder / 'root.key'} goes into the backup and nowhere else"
    )


@ca_cli.command()
def issue(
    kind: Annotated[str, typer.Argument(help="web, dicom, bridge or peer.")],
    name: Annotated[str, typer.Argument(help="Name of the files; the kind when left out.")] = "",
    host: Annotated[
        list[str] | None, typer.Option(help="A name or address by which others call it.")
    ] = None,
    request: Annotated[
        Path | None, typer.Option(help="Certificate request of a machine that has its own key.")
    ] = None,
    out: Out = None,
    passphrase_file: PassphraseFile = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Make a certificate and its key, or certify the key of a request."""
    from node.local_ca import Kind, Request

    if kind == "bridge":
        raise InvalidInput(
            "a bridge's key is made at the clinic: `bitewing bridge token` gives its one-time code"
        )
    if kind not in list(Kind):
        raise InvalidInput("the kinds are web, dicom, bridge and peer")
    settings = read_settings(config, data_dir)
    authority = _open(settings, passphrase_file)
    pem = _read(request) if request else b""
    wanted = Request(Kind(kind), name or kind, tuple(host or ()), pem)
    made = authority.issue(wanted, datetime.now(UTC))
    _write(out or settings.node.data_dir / "tls", wanted, made)


@ca_cli.command("list")
def list_command(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Show every certificate, the bridges' too, and how long it is good."""
    from node.db.session import read
    from node.local_ca import issued
    from pms_writeback.bridge.registry import certificates

    settings = read_settings(config, data_dir)
    now, location_id = datetime.now(UTC), settings.node.location_id
    with read(open_db(settings)) as conn:
        rows = issued(conn, location_id)
        bridges = certificates(conn, location_id)
    for row in rows:
        words = _standing(row.expires_at, row.revoked_at, row.reason, now)
        typer.echo(f"{row.serial}  {row.kind:<6} {row.name}  {' '.join(row.hosts)}  {words}")
    for bridge in bridges:
        words = _standing(bridge.expires_at, bridge.revoked_at, bridge.reason, now)
        typer.echo(f"{bridge.serial}  bridge {bridge.location_id}  {words}")


@ca_cli.command()
def renew(
    name: Annotated[str, typer.Argument(help="Name or serial number of a certificate.")],
    request: Annotated[
        Path | None, typer.Option(help="New request of a machine that has its own key.")
    ] = None,
    out: Out = None,
    passphrase_file: PassphraseFile = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Make the next certificate, with a new key, for the same names; the node takes it over."""
    from node.local_ca import Request

    settings = read_settings(config, data_dir)
    authority = _open(settings, passphrase_file)
    old = _find(settings, name)
    wanted = Request(old.kind, old.name, old.hosts, _read(request) if request else b"")
    made = authority.issue(wanted, datetime.now(UTC))
    _write(out or settings.node.data_dir / "tls", wanted, made)


@ca_cli.command()
def revoke(
    serial: Annotated[str, typer.Argument(help="As `bitewing ca list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit.")],
    passphrase_file: PassphraseFile = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Refuse a certificate from now on, a bridge's too."""
    from node.db.session import read
    from pms_writeback.bridge import registry

    settings = read_settings(config, data_dir)
    db, actor = open_db(settings), _actor(settings)
    with read(db) as conn:
        bridges = registry.certificates(conn, settings.node.location_id)
    if any(each.serial == serial for each in bridges):
        registry.revoke(db, actor, serial, reason)
    else:
        _open(settings, passphrase_file).revoke(serial, reason, datetime.now(UTC))
    typer.echo(f"{serial} is refused from now on")


def _folder(settings: Config) -> Path:
    return settings.node.data_dir / "ca"


def _actor(settings: Config) -> Actor:
    from node.db.session import Actor

    return Actor("cli", settings.node.location_id)


def _open(settings: Config, passphrase_file: Path | None) -> LocalAuthority:
    from node import local_ca

    return local_ca.open_authority(
        _folder(settings), open_db(settings), _actor(settings), _passphrase(passphrase_file)
    )


def _passphrase(file: Path | None) -> bytes:
    from node.private_file import read_private

    if file is None:
        return b""
    found = read_private(file, "--passphrase-file").strip()
    if not found:
        raise InvalidInput("the file with the passphrase is empty")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror})") from None


def _find(settings: Config, name: str) -> CertificateRow:
    from node.db.session import read
    from node.local_ca import issued

    with read(open_db(settings)) as conn:
        rows = issued(conn, settings.node.location_id)
    for row in rows:
        if name in (row.serial, row.name) and row.revoked_at is None:
            return row
    raise NotFound(f"there is no certificate {name[:64]!r} that could be renewed")


def _write(folder: Path, wanted: Request, made: Issued) -> None:
    """Write the key before its certificate: listeners look for a pair that fits."""
    from node.private_file import write_private

    if made.key:
        write_private(folder / f"{wanted.name}.key", made.key)
    write_private(folder / f"{wanted.name}.pem", made.certificate)
    typer.echo(
        f"{folder / wanted.name}.pem, good until {made.expires_at:%Y-%m-%d}, serial {made.serial}"
    )


def _standing(expires_at: datetime, revoked_at: datetime | None, reason: str, now: datetime) -> str:
    if revoked_at is not None:
        return f"revoked {revoked_at:%Y-%m-%d} ({reason})"
    if expires_at <= now:
        return f"EXPIRED {expires_at:%Y-%m-%d}"
    left = (expires_at - now).days
    warning = ", renew it soon" if left < 30 else ""
    return f"until {expires_at:%Y-%m-%d}{warning}"
