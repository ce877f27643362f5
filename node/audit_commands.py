"""``bitewing audit …`` and ``bitewing verify-audit``: search, export, anchor, archive, verify."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.errors import InvalidInput

if TYPE_CHECKING:
    from sqlalchemy import Row

    from node.audit_keeping import AuditKeeper
    from node.config import Config
    from node.db.audit_export import Form
    from node.db.audit_rows import AuditEntry
    from node.db.audit_search import Wanted

audit_cli = typer.Typer(no_args_is_help=True, help="Who did and saw what; the chained audit.")

_MOST_EXPORTED = 5_000_000

User = Annotated[str, typer.Option("--user", help="An account's name, or a part as dicom.")]
Patient = Annotated[str, typer.Option("--patient", help="The PMS's number, or our id.")]
StudyName = Annotated[str, typer.Option("--study", help="Study Instance UID, or our id.")]
ActionName = Annotated[str, typer.Option("--action", help="As image.opened, or image for all.")]
Since = Annotated[str, typer.Option("--since", help="First day, as 2026-01-31.")]
Archived = Annotated[
    bool, typer.Option("--archived", help="Read the archived parts as well, each verified first.")
]
Until = Annotated[str, typer.Option("--until", help="Last day, as 2026-01-31.")]


def verify_audit(
    heads: Annotated[
        list[Path] | None,
        typer.Option("--heads", help="A further file of heads, as one kept elsewhere."),
    ] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Walk the audit chain, its archives and its anchored heads, and name the first break."""
    checked = _keeper(read_settings(config, data_dir)).check(heads or ())
    if checked.broken is not None:
        reason = f"row {checked.broken.seq}: {checked.broken.reason}"
        held = checked.archived + checked.rows
        typer.echo(f"{reason} ({held} rows before it hold)", err=True)
        raise typer.Exit(1)
    words = [f"{checked.rows} audit rows, chain intact"]
    if checked.archived:
        words.append(f"{checked.archived} archived")
    if checked.heads:
        words.append(f"{checked.heads} anchored heads agree")
    typer.echo("; ".join(words))


@audit_cli.command("search")
def search(
    user: User = "",
    patient: Patient = "",
    study: StudyName = "",
    action: ActionName = "",
    since: Since = "",
    until: Until = "",
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 100,
    archived: Archived = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Print entries, the newest first."""
    from node.db.audit_search import find_rows
    from node.db.session import read

    settings = read_settings(config, data_dir)
    wanted = _wanted(settings, user, patient, study, action, since, until)
    keeper = _keeper(settings)
    with read(keeper.db) as conn:
        rows = find_rows(conn, wanted, most=most)
        for row in rows:
            _show(settings, row.seq, row)
        if archived and len(rows) < most:
            for old in keeper.archives.newest(conn, wanted, most - len(rows)):
                _show(settings, old.seq, old.entry)
        elif len(rows) < most and (end := keeper.archives.end(conn)):
            typer.echo(f"rows up to {end} are archived; --archived reads them too", err=True)


def _show(settings: Config, seq: int, entry: AuditEntry | Row[Any]) -> None:
    at = entry.at.astimezone(settings.zone).strftime("%Y-%m-%d %H:%M:%S")
    typer.echo(f"{seq:>8}  {at}  {entry.actor:<32} {entry.action:<26} {entry.subject}")
    if entry.detail:
        typer.echo(f"{'':>10}{json.dumps(dict(entry.detail), sort_keys=True)[:300]}")


@audit_cli.command("export")
def export(
    out: Annotated[Path, typer.Option("--out", help="File to make: .json or .csv.")],
    user: User = "",
    patient: Patient = "",
    study: StudyName = "",
    action: ActionName = "",
    since: Since = "",
    until: Until = "",
    archived: Archived = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Export entries with the proof of their place in the chain; the export is audited."""
    from node.db.audit_export import export_links, write_export
    from node.db.session import Actor, begin, read

    if out.suffix not in (".json", ".csv"):
        raise InvalidInput("--out ends in .json or .csv")
    settings = read_settings(config, data_dir)
    wanted = _wanted(settings, user, patient, study, action, since, until)
    db = open_db(settings)
    with begin(db, Actor("cli", settings.node.location_id), "audit.exported") as tx:
        tx.record("audit", form=out.suffix[1:], patient=patient, study=study, user=user)
    archives = _keeper(settings).archives if archived else None
    form: Form = "json" if out.suffix == ".json" else "csv"
    with read(db) as conn, out.open("w", encoding="utf-8", newline="") as file:
        write_export(file, form, export_links(conn, wanted, _MOST_EXPORTED, archives))
    typer.echo(f"{out}: verify it anywhere with python audit_chain.py {out.name}")


@audit_cli.command("verify-export")
def verify_export_command(
    path: Annotated[Path, typer.Argument(help="An export.")],
    head: Annotated[str, typer.Option(help="The anchored hash of its last row.")] = "",
) -> None:
    """Verify an export without a database."""
    from node.domain.audit_chain import verify_export

    proof = verify_export(path, head)
    if proof.problem:
        typer.echo(proof.problem, err=True)
        raise typer.Exit(1)
    typer.echo(f"{proof.shown} rows hold, {proof.left_out} left out; head {proof.head}")


@audit_cli.command("anchor")
def anchor(
    after_restore: Annotated[
        str, typer.Option(help="Begin a new file of heads after a restore; why, for the audit.")
    ] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Anchor the audit's head now."""
    keeper = _keeper(read_settings(config, data_dir))
    if after_restore:
        keeper.restart_heads(after_restore)
    head = keeper.anchor()
    typer.echo(f"row {head.seq} {head.hash} in {keeper.head_file.path}")


@audit_cli.command("archive")
def archive(
    before: Annotated[str, typer.Option(help="Older than this day; else than keep_days.")] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Move the oldest part of the audit into verified files; the chain goes on behind it."""
    keeper = _keeper(read_settings(config, data_dir))
    closed = keeper.archive(_day(before, "--before") if before else None)
    for part in closed:
        typer.echo(f"rows {part.first_seq} to {part.last_seq} in {part.path}")
    if not closed:
        typer.echo("nothing is old enough")


def _keeper(settings: Config) -> AuditKeeper:
    from node.audit_keeping import AuditKeeper

    return AuditKeeper(open_db(settings), settings)


def _wanted(
    settings: Config, user: str, patient: str, study: str, action: str, since: str, until: str
) -> Wanted:
    from node.db.audit_search import Wanted

    last = _day(until, "--until", settings) + timedelta(days=1) if until else None
    return Wanted(
        settings.node.location_id,
        user=user,
        patient=patient,
        study=study,
        action=action,
        since=_day(since, "--since", settings) if since else None,
        until=last,
    )


def _day(text: str, option: str, settings: Config | None = None) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{option} takes a day like 2026-01-31") from None
    return datetime(day.year, day.month, day.day, tzinfo=settings.zone if settings else UTC)
