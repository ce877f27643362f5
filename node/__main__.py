"""The command line: ``bitewing serve | demo | send | check | migrate | …``.

Commands import what they need when they run, so that ``bitewing --help`` answers at once.
"""

from __future__ import annotations

import json
import logging
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from node import __version__
from node.agreement_commands import agreement_cli
from node.audit_commands import audit_cli, verify_audit
from node.backup_commands import backup_cli, restore_command
from node.ca_commands import ca_cli
from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.config_show import show_config
from node.errors import BitewingError, InvalidInput, Unsupported, outcome, place_of
from node.keys_commands import encrypt_data_command, keys_cli
from node.model_commands import models_cli
from node.open_store import open_store
from node.retention_commands import hold_cli, retention_cli
from node.rollout_commands import pilot, rollout_cli
from node.user_commands import tokens_cli, users_cli
from orchestration.sandboxes import cli as sandbox_cli
from pms_writeback.bridge.cli import cli as bridge_cli
from pms_writeback.practice_cli import practice_cli

if TYPE_CHECKING:
    import sqlalchemy as sa

    from node.config import Config
    from node.db.session import Actor

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Bitewing: the dental imaging AI node. Not a medical device; for evaluation only.",
)
cli.add_typer(users_cli, name="user")
cli.add_typer(tokens_cli, name="token")
cli.add_typer(sandbox_cli, name="sandbox")
cli.add_typer(models_cli, name="models")
cli.add_typer(rollout_cli, name="rollout")
cli.command("pilot")(pilot)
cli.add_typer(bridge_cli, name="bridge")
cli.add_typer(practice_cli, name="practice")
cli.add_typer(ca_cli, name="ca")
cli.add_typer(retention_cli, name="retention")
cli.add_typer(hold_cli, name="hold")
cli.add_typer(audit_cli, name="audit")
cli.add_typer(agreement_cli, name="agreement")
cli.add_typer(backup_cli, name="backup")
cli.command("verify-audit")(verify_audit)
cli.command("config")(show_config)
cli.add_typer(keys_cli, name="keys")
cli.command("encrypt-data")(encrypt_data_command)
cli.command("restore")(restore_command)


def _config(
    config: Path | None,
    data_dir: Path | None = None,
    **overrides: dict[str, object],
) -> Config:
    return read_settings(config, data_dir, overrides)


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


@cli.command()
def serve(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    dicom_port: Annotated[int | None, typer.Option(help="DICOM listener's port.")] = None,
    http_port: Annotated[int | None, typer.Option(help="Review page's port.")] = None,
    ae_title: Annotated[str | None, typer.Option(help="Our Application Entity title.")] = None,
    only: Annotated[
        str, typer.Option(help="Run only these parts: dicom,web,analysis,workflows.")
    ] = "",
) -> None:
    """Run the node until Ctrl-C."""
    from node import logs
    from node.app import ALL_PARTS, Node, parse_parts

    settings = _config(
        config,
        data_dir,
        dicom=_given(port=dicom_port, ae_title=ae_title),
        web=_given(port=http_port),
    )
    logs.configure(settings.node.log_level)
    node = Node(settings, parse_parts(only) if only else ALL_PARTS)
    _stop_on_signal(node.stop_soon)
    node.start()
    log = logging.getLogger("bitewing")
    log.info(
        "started",
        extra={
            "location_id": settings.node.location_id,
            "mode": settings.node.mode.value,
            "dicom_port": node.listener.port if node.listener else None,
            "http_port": node.web_port,
        },
    )
    node.wait()
    node.stop()
    log.info("stopped")


@cli.command()
def demo(
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    data_dir: Annotated[Path, typer.Option(help="Where the demo keeps its data.")] = Path(".demo"),
    dicom_port: Annotated[int, typer.Option(help="DICOM port; 0 = any free one.")] = 11112,
    http_port: Annotated[int, typer.Option(help="Web port; 0 = any free one.")] = 8080,
) -> None:
    """Start a sandbox practice, the node, and send it the sample studies by real C-STORE."""
    from node.demo import run_demo

    run_demo(data_dir, dicom_port=dicom_port, http_port=http_port, open_browser=not no_browser)


@cli.command()
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders.")],
    to: Annotated[str, typer.Option("--to", help="The receiver as AE@host:port.")],
    calling_ae: Annotated[
        str, typer.Option(help="Our title in this association.")
    ] = "BITEWING-SCU",
) -> None:
    """Send files by C-STORE, byte for byte as they are."""
    from rich.progress import Progress

    from node.dicom.peers import parse_peer
    from node.dicom.send import send_paths

    with Progress(transient=not sys.stderr.isatty()) as bar:
        task = bar.add_task("sending", total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        report = send_paths(paths, parse_peer(to), calling_ae=calling_ae, progress=advance)
    typer.echo(
        f"{len(report.sent)} sent, {len(report.failed)} refused, {len(report.skipped)} skipped"
    )
    for path, reason in [*report.failed, *report.skipped]:
        typer.echo(f"  {path}: {reason}", err=True)
    if report.failed or not report.sent:
        raise typer.Exit(1)


@cli.command()
def check(
    only: Annotated[str, typer.Option(help="One check, such as objects.")] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Say in plain words whether this configuration can run."""
    from node.check import run_checks

    settings = _config(config, data_dir)
    results = run_checks(settings, only)
    for result in results:
        mark = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}[result.level]
        typer.echo(f"{mark}  {result.name:<10} {result.words}")
    if any(result.level == "fail" for result in results):
        raise typer.Exit(2)


@cli.command("migrate")
def migrate_command(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Bring the database to this release."""
    from node.db.migrate import current_revision, migrate

    db = open_db(_config(config, data_dir))
    before = current_revision(db)
    after = migrate(db)
    typer.echo(f"{before or 'empty'} -> {after}" if before != after else f"already at {after}")


@cli.command("move-database")
def move_database_command(
    to: Annotated[str, typer.Option(help="postgresql://user@host/database, empty.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Move a practice's SQLite database to PostgreSQL, open work included; stop the node first."""
    from node.move import move_database

    moved = move_database(_config(config, data_dir), to, typer.echo)
    typer.echo(
        f"{moved.rows} rows, {moved.runs} unfinished runs; {moved.audit_rows} audit rows verified\n"
        "now set [database] url to the new address and start the node"
    )


@cli.command("reconcile")
def reconcile_command(
    patient: Annotated[
        str, typer.Option(help="Only this patient, by the key of the practice's system.")
    ] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Compare our copy of the practice's records with its system, and mend it."""
    from datetime import UTC, datetime

    from pms_writeback.practice import open_pms
    from pms_writeback.records import RecordSource
    from pms_writeback.warehouse import Warehouse

    settings = _config(config, data_dir)
    source: object = open_pms(settings)
    if not isinstance(source, RecordSource):
        raise Unsupported("this practice's system cannot list its records")
    warehouse, now = Warehouse(open_db(settings), source, settings), datetime.now(UTC)
    reports = warehouse.refresh_patient(patient, now) if patient else warehouse.reconcile(now)
    for each in reports:
        words = each.error or f"{each.read} read, {each.drift} differed"
        typer.echo(f"{each.kind.value:<26} {words}")
    if any(each.error for each in reports):
        raise typer.Exit(1)


@cli.command("sandbox-pms")
def sandbox_pms(
    port: Annotated[int, typer.Option(help="Port on the loopback interface.")] = 30223,
    data_dir: Annotated[Path, typer.Option(help="Where the practice is kept.")] = Path(".demo"),
    time_zone: Annotated[str, typer.Option(help="The office's IANA zone.")] = "UTC",
) -> None:
    """Run an invented practice that speaks the Open Dental API."""
    from pms_writeback.sandbox.server import serve as serve_sandbox

    data_dir.mkdir(parents=True, exist_ok=True)
    typer.echo(f"sandbox practice on http://127.0.0.1:{port}/ (Ctrl-C ends it)")
    serve_sandbox(data_dir / "sandbox-pms.sqlite", port=port, time_zone=time_zone)


@cli.command("open-study")
def open_study(
    url: Annotated[str, typer.Option(envvar="BITEWING_URL", help="The node's address.")],
    key_file: Annotated[Path, typer.Option(help="File with the node's link key.")],
    patient: Annotated[str, typer.Option(help="The patient's number in the PMS.")] = "",
    accession: Annotated[str, typer.Option(help="Or the visit's accession number.")] = "",
) -> None:
    """Open the latest study of a patient in the browser; for a program link of the chart."""
    import webbrowser

    from node.open_study import link_to_study

    if not key_file.is_file():
        raise InvalidInput(f"there is no file {key_file.name} with the link key")
    key = key_file.read_text(encoding="utf-8").strip()
    address = link_to_study(url, key, patient_key=patient, accession_number=accession)
    if not webbrowser.open(address):
        typer.echo(address)


@cli.command("export-findings")
def export_findings(
    study: Annotated[str, typer.Argument(help="Study Instance UID, accession number or id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    include_silent: Annotated[
        bool,
        typer.Option("--include-silent", help="Also what the roll-out keeps silent; needs --user."),
    ] = False,
    user: Annotated[
        str, typer.Option("--user", help="An account with the right to lead the roll-out.")
    ] = "",
    password: Annotated[str, typer.Option("--password", help="Its password.")] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Print what the models and people say about one study; names of people excluded.

    With --include-silent it is the instrument for measuring the models: it tells also what the
    roll-out keeps from everybody, and says of each finding whether it is shown.
    """
    from node.db.session import Actor, look, note_reads, read
    from node.domain import cdt
    from node.export import describe, export_study
    from node.rollout.showing import read_showing

    settings = _config(config, data_dir)
    table = settings.analysis.cdt_table
    codes = cdt.load(Path(table) if table else None)
    db = open_db(settings)
    with read(db) as conn:
        showing = read_showing(conn, settings)
    who = Actor("cli", settings.node.location_id)
    if include_silent:
        who = _leader(db, settings, user, password)
    exported = export_study(
        db, settings.node.location_id, study, codes, showing, includes_silent=include_silent
    )
    subject = f"study:{exported['study_id']}"
    note_reads(db, [look(who, "findings.printed", subject, silent=include_silent)])
    typer.echo(json.dumps(exported, indent=2) if as_json else describe(exported))


def _leader(db: sa.Engine, settings: Config, user: str, password: str) -> Actor:
    """Check that an account may see what is silent. Raises Forbidden, or InvalidInput for none."""
    from node.domain.rights import Right
    from node.errors import InvalidInput
    from node.rollout_commands import account_with

    if not user:
        raise InvalidInput("--include-silent needs --user: an account that leads the roll-out")
    secret = password or typer.prompt("Password", hide_input=True)
    return account_with(db, settings, user, secret, Right.ROLLOUT_LEAD)


@cli.command("export-training")
def export_training_command(
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    since: Annotated[str, typer.Option(help="Only reviews signed from this day on.")] = "",
    task: Annotated[
        str, typer.Option(help="intraoral or panoramic_caries; both if left out.")
    ] = "",
    include_burned_in: Annotated[
        bool, typer.Option(help="Also images that may carry text in their pixels.")
    ] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Write signed reviews as training data that name nobody; off unless the practice opted in."""
    from datetime import date

    from rich.progress import Progress

    from node.errors import InvalidInput
    from node.training_export import Wish, export_training

    settings = _config(config, data_dir)
    try:
        day = date.fromisoformat(since) if since else None
    except ValueError:
        raise InvalidInput("--since takes a day like 2026-01-31") from None
    db = open_db(settings)
    with Progress(transient=not sys.stderr.isatty()) as bar:
        line = bar.add_task("exporting", total=None)
        done = export_training(
            db,
            open_store(settings, db),
            settings,
            Wish(out, day, task, include_burned_in),
            lambda count, total: bar.update(line, completed=count, total=total),
        )
    typer.echo(
        f"{done.images} images of {done.patients} patients, {done.findings} findings, "
        f"{done.hard_negatives} rejected suggestions in {out}; left out: "
        f"{done.left_out_burned_in} that may have text burned in, "
        f"{done.left_out_unreadable} unreadable, {done.left_out_view} of other views"
    )


@cli.command()
def service(
    action: Annotated[str, typer.Argument(help="install, remove, start or stop.")],
    config: Annotated[Path, typer.Option(help="TOML file.")] = Path("bitewing.toml"),
) -> None:
    """On Windows: run the node as a service (on Linux use the systemd unit in deploy/)."""
    from node.windows_service import NODE, command_line, control

    typer.echo(control(action, NODE, command_line("serve", "--config", str(config.absolute()))))


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _stop_on_signal(stop: Callable[[], None]) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):  # SIGBREAK is Windows' own: how its service asks
            signal.signal(getattr(signal, name), lambda *_: stop())


def main() -> NoReturn:
    """Run the command line; every error becomes one sentence and the exit code of its family."""
    try:
        status = cli(standalone_mode=False)  # a typer.Exit comes back as its code
    except typer.Abort:
        sys.exit(130)
    except BitewingError as error:
        typer.echo(f"bitewing: {error}", err=True)
        sys.exit(outcome(error).exit_code)
    except typer.TyperException as error:
        typer.echo(f"bitewing: {error.format_message()} (see bitewing --help)", err=True)
        sys.exit(2)
    except Exception as error:  # noqa: BLE001 - the edge of the command line
        error_id = secrets.token_hex(4)
        where = place_of(error)
        typer.echo(f"bitewing: a bug ({type(error).__name__} at {where}), id {error_id}", err=True)
        sys.exit(outcome(error).exit_code)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
