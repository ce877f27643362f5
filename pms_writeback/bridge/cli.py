"""``bitewing bridge …``: the node's and the clinic's commands around a bridge."""

from __future__ import annotations

import json
import logging
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    import sqlalchemy as sa

    from node.config import Config
    from node.db.session import Actor
    from pms_writeback.bridge.driver import Driver
    from pms_writeback.bridge.service import Bridge
    from pms_writeback.bridge.settings import BridgeSettings

cli = typer.Typer(
    no_args_is_help=True,
    help="The bridge between a clinic's own machine (Dentrix, Eaglesoft) and the node.",
)

Folder = Annotated[Path, typer.Option("--folder", help="The bridge's own folder.")]

DEFAULT_FOLDER = Path("bitewing-bridge")


@cli.command()
def token(
    hours: Annotated[float, typer.Option(min=0.01, max=72, help="How long it is good.")] = 1.0,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """On the node: print a token with which one bridge may enrol, once."""
    from pms_writeback.bridge import registry
    from pms_writeback.bridge.authority import open_authority
    from pms_writeback.bridge.listener import bridge_folder

    settings = read_settings(config, data_dir)
    if settings.pms.kind not in ("dentrix", "eaglesoft"):
        raise ConfigError('[pms] kind must be "dentrix" or "eaglesoft" for a bridge')
    now = datetime.now(UTC)
    authority = open_authority(bridge_folder(settings), now)
    made = registry.make_token(_open(settings), _actor(settings), authority, hours, now)
    typer.echo(str(made))


@cli.command("list")
def list_command(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """On the node: show the bridge that was last heard, and every certificate."""
    from node.db.session import read
    from pms_writeback.bridge import registry

    settings = read_settings(config, data_dir)
    with read(_open(settings)) as conn:
        state = registry.state_of(conn, settings.node.location_id)
        issued = registry.certificates(conn, settings.node.location_id)
    if state.last_seen_at is None:
        typer.echo("no bridge was heard of yet")
    else:
        about = state.about
        typer.echo(
            f"{about.get('product')} {about.get('pms_version')} ({about.get('driver')}),"
            f" bridge {about.get('bridge_version')}, protocol {about.get('protocol')},"
            f" last heard {state.last_seen_at:%Y-%m-%d %H:%M} UTC"
        )
        stopped = state.heartbeat.get("stopped")
        if stopped or state.is_stopped:
            typer.echo(f"it is {stopped or 'told to stop'}")
    for row in issued:
        end = f"revoked ({row.reason})" if row.revoked_at else f"until {row.expires_at:%Y-%m-%d}"
        typer.echo(f"certificate {row.serial}  issued {row.issued_at:%Y-%m-%d}, {end}")


@cli.command()
def revoke(
    serial: Annotated[str, typer.Argument(help="As `bitewing bridge list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """On the node: refuse a certificate from now on."""
    from pms_writeback.bridge import registry

    settings = read_settings(config, data_dir)
    registry.revoke(_open(settings), _actor(settings), serial, reason)
    typer.echo(f"{serial} is refused from now on")


@cli.command()
def stop(
    reason: Annotated[str, typer.Option(help="Why, for the audit.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """On the node: let the bridge touch nothing until `bitewing bridge go`."""
    _set_stopped(config, data_dir, True, reason)
    typer.echo("the bridge is told to stop at its next word")


@cli.command()
def go(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """On the node: let a stopped bridge work again."""
    _set_stopped(config, data_dir, False, "")
    typer.echo("the bridge is told to go on at its next word")


@cli.command()
def offer(
    manifest: Annotated[
        Path | None, typer.Argument(help="The .json beside a signed wheel; none withdraws.")
    ] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """On the node: offer a signed package to the bridge."""
    from node.private_file import write_private
    from pms_writeback.bridge import registry
    from pms_writeback.bridge.listener import bridge_folder
    from pms_writeback.bridge.updates import Package

    settings = read_settings(config, data_dir)
    package = None
    if manifest is not None:
        package = Package.from_json(_read_json(manifest))
        wheel = manifest.parent / package.wheel
        if not wheel.exists():
            raise ConfigError(f"the wheel {wheel} is not there")
        target = bridge_folder(settings) / "packages" / f"{package.sha256}.whl"
        write_private(target, wheel.read_bytes())
    offered = package.to_json() if package else None
    registry.set_offer(_open(settings), _actor(settings), offered)
    typer.echo(f"offered: {package.version}" if package else "nothing is offered now")


@cli.command()
def enrol(
    node: Annotated[str, typer.Option(help="The node's bridge address, https://host:11443.")],
    token: Annotated[
        str, typer.Option(prompt=True, hide_input=True, help="From `bitewing bridge token`.")
    ],
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """At the clinic: make a key and have it certified by the node."""
    from pms_writeback.bridge.identity import enrol as enrol_bridge

    identity = enrol_bridge(folder, node, token)
    until = identity.certificate.not_valid_after_utc
    typer.echo(f"enrolled; the certificate is good until {until:%Y-%m-%d} and renews itself")


@cli.command()
def run(folder: Folder = DEFAULT_FOLDER) -> None:
    """At the clinic: run the bridge until Ctrl-C."""
    from node import logs

    bridge = open_bridge(folder)
    logs.configure(bridge.settings.log_level)
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):  # SIGBREAK is Windows' own
            signal.signal(getattr(signal, name), lambda *_: bridge.stop_soon())
    bridge.start()
    logging.getLogger("bitewing").info("bridge started")
    bridge.wait()
    bridge.stop()


@cli.command()
def check(folder: Folder = DEFAULT_FOLDER) -> None:
    """At the clinic: say in plain words whether this bridge can run."""
    from pms_writeback.bridge.identity import Identity
    from pms_writeback.bridge.settings import read_settings

    settings = read_settings(folder)
    typer.echo(f"ok    settings   {settings.pms} by {settings.driver}, node {settings.node_url}")
    identity = Identity(folder)
    identity.context()
    until = identity.certificate.not_valid_after_utc
    typer.echo(f"ok    identity   certificate until {until:%Y-%m-%d}")
    driver = _open_driver(settings, folder)
    about = driver.about()
    typer.echo(f"ok    driver     {about.product} {about.version}, {about.driver}")
    for each in driver.operations():
        words = f" ({each.reason})" if each.reason else ""
        typer.echo(f"      {each.operation:<20} {each.support.value}{words}")


@cli.command()
def sandbox(
    pms: Annotated[str, typer.Option(help="dentrix or eaglesoft.")],
    folder: Folder = DEFAULT_FOLDER,
    patients: Annotated[int, typer.Option(min=1, max=20_000, help="How many people.")] = 40,
    time_zone: Annotated[str, typer.Option(help="The office's IANA zone.")] = "UTC",
) -> None:
    """Make an invented practice with a vendor's public views, for the driver "sandbox"."""
    from pms_writeback.pms import OfficeTime

    if pms == "dentrix":
        from pms_writeback.dentrix.sandbox import make_practice
    elif pms == "eaglesoft":
        from pms_writeback.eaglesoft.sandbox import make_practice
    else:
        raise InvalidInput("--pms is dentrix or eaglesoft")
    path = folder / f"{pms}.sqlite"
    today = OfficeTime(time_zone).today(datetime.now(UTC))
    make_practice(path, today, patients, time_zone=time_zone)
    typer.echo(f"an invented practice of {patients} patients in {path}")


@cli.command("install-update")
def install_update(folder: Folder = DEFAULT_FOLDER) -> None:
    """At the clinic: install the package that was staged; restart the bridge afterwards."""
    from node import __version__
    from pms_writeback.bridge.settings import read_settings
    from pms_writeback.bridge.updates import Updates

    settings = read_settings(folder)
    version = Updates(folder / "updates", settings.update_key, __version__).install()
    typer.echo(f"{version} is installed; restart the bridge")


@cli.command("new-key")
def new_key(path: Annotated[Path, typer.Argument(help="Where the private key goes.")]) -> None:
    """For releases: make an Ed25519 key and print the `update_key` that bridges trust."""
    from node.private_file import write_private
    from pms_writeback.bridge.updates import new_signing_key

    if path.exists():
        raise ConfigError(f"{path} is there already")
    pem, public = new_signing_key()
    write_private(path, pem)
    typer.echo(f'update_key = "{public}"')


@cli.command()
def sign(
    wheel: Annotated[Path, typer.Argument(help="The wheel, bitewing-….whl.")],
    version: Annotated[str, typer.Option(help="Its release number.")],
    key: Annotated[Path, typer.Option(help="The private key of `bitewing bridge new-key`.")],
) -> None:
    """For releases: write a signed manifest beside a wheel."""
    from pms_writeback.bridge.updates import sign_package

    try:
        package = sign_package(wheel, version, key.read_bytes())
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    target = wheel.with_suffix(".json")
    target.write_text(json.dumps(package.to_json(), indent=2) + "\n")
    typer.echo(f"signed: {target}")


@cli.command()
def service(
    action: Annotated[str, typer.Argument(help="install, remove, start or stop.")],
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """On Windows: run the bridge as a service (on Linux use the systemd unit in deploy/)."""
    from node.windows_service import BRIDGE, command_line, control

    command = command_line("bridge", "run", "--folder", str(folder.absolute()))
    typer.echo(control(action, BRIDGE, command))


def open_bridge(folder: Path) -> Bridge:
    """Open the bridge of a folder; raises ConfigError when an operator must act first."""
    from pms_writeback.bridge.service import Bridge
    from pms_writeback.bridge.settings import read_settings

    settings = read_settings(folder)
    return Bridge(folder, settings, _open_driver(settings, folder))


def _open_driver(settings: BridgeSettings, folder: Path) -> Driver:
    from pms_writeback.bridge.driver import open_driver
    from pms_writeback.bridge.export import with_export

    driver = open_driver(settings.pms, settings.driver, settings.driver_options, folder)
    return with_export(driver, settings.export_folder)


def _set_stopped(config: Path | None, data_dir: Path | None, is_stopped: bool, reason: str) -> None:
    from pms_writeback.bridge import registry

    settings = read_settings(config, data_dir)
    registry.set_stopped(_open(settings), _actor(settings), is_stopped, reason)


def _open(config: Config) -> sa.Engine:
    from node.db.migrate import migrate

    db = open_db(config)
    migrate(db)
    return db


def _actor(config: Config) -> Actor:
    from node.db.session import Actor

    return Actor("cli", config.node.location_id)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise InvalidInput(f"{path} is not a manifest") from None
