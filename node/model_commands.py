"""The command line of the models: ``bitewing models list | verify | compare | calibration``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from models.registry import Choice, Listed
    from node.analysis.agreement import Agreement, Row
    from node.analysis.reliability import Reliability
    from node.config import Config

models_cli = typer.Typer(
    no_args_is_help=True,
    help="The installed networks: what runs, whether it is intact, how it does in this practice.",
)

_Since = Annotated[str, typer.Option(help="Only what was signed since this day, YYYY-MM-DD.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_SEEN_NOTE = (
    "Readers saw the live suggestions and not the shadow's, so these figures favour the live "
    "network (not in silent mode)."
)
_NO_CHANGE_NOTE = "No threshold is changed by this report."


@models_cli.command("list")
def list_models(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """List every network with its role; one that cannot run says why."""
    from models import registry
    from node.analysis.shadow import all_choices

    listed = registry.listed(all_choices(read_settings(config, data_dir).analysis))
    _table(("task", "version", "role", "digest", "folder", "state"), map(_listed_row, listed))


@models_cli.command()
def verify(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder to look at before it is configured.")
    ] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Load every network as the node would; fails when one is not what it claims."""
    from models import registry, weights
    from models.registry import Choice, Role
    from node.analysis.shadow import all_choices

    if folder is None:
        chosen = all_choices(read_settings(config, data_dir).analysis)
    else:
        chosen = tuple(Choice(entry.task, folder) for entry in weights.manifest(folder))
        if not chosen:
            raise ConfigError(f"the folder {folder} has no manifest.json with weights")
    wanted = [choice for choice in chosen if choice.role is not Role.OFF]
    problems = [_problem(listed) for listed in registry.listed(wanted)]
    for choice, problem in zip(wanted, problems, strict=True):
        typer.echo(f"{'FAIL' if problem else 'ok  '}  {choice.task:<17} {problem or choice.folder}")
    if any(problems):
        raise typer.Exit(2)


@models_cli.command()
def compare(
    task: Annotated[str, typer.Option(help="The task whose shadow networks are compared.")],
    version: Annotated[str, typer.Option(help="Only this version of the shadow.")] = "",
    since: _Since = "",
    as_json: _Json = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Set shadow and live networks against the signed reviews of the same images."""
    from models.weights import TASKS
    from node.analysis.agreement import compare as compare_runs

    if task not in TASKS:
        raise InvalidInput(f"unknown task {task!r}; known: {', '.join(TASKS)}")
    settings = read_settings(config, data_dir)
    found = compare_runs(
        open_db(settings), settings.node.location_id, task, version, _day(since, settings)
    )
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    if not found:
        typer.echo(f"no network has run in the shadow for {task}")
    for one in found:
        _print_agreement(one)


@models_cli.command("calibration")
def calibration_report(
    since: _Since = "",
    as_json: _Json = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Report how often this practice kept suggestions of each probability."""
    from node.analysis.reliability import reliability

    settings = read_settings(config, data_dir)
    found = reliability(open_db(settings), settings.node.location_id, _day(since, settings))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    if not found:
        typer.echo("no suggestion with a probability has been decided and signed yet")
        return
    for one in found:
        _print_reliability(one)
    typer.echo(_NO_CHANGE_NOTE)


def _day(text: str, settings: Config) -> datetime | None:
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=settings.zone)
    except ValueError:
        raise InvalidInput("--since is a day like 2026-03-31") from None
    return day.astimezone(UTC)


def _listed_row(one: Listed) -> Sequence[str]:
    entry, choice = one.entry, one.choice
    return (
        choice.task,
        entry.version if entry else choice.version or "?",
        choice.role.value,
        entry.sha256[:12] if entry else "",
        str(choice.folder),
        one.problem or "ok",
    )


def _problem(one: Listed) -> str:
    return one.problem or _load_problem(one.choice)


def _load_problem(choice: Choice) -> str:
    from models.pipeline import Pipeline

    try:
        Pipeline().with_network(choice)
    except ConfigError as error:
        return str(error)
    return ""


def _print_agreement(one: Agreement) -> None:
    typer.echo(
        f"{one.task} {one.version} ({one.digest[:12]}) in the shadow: {one.images} signed images "
        f"of {one.studies} studies, {one.patients} patients; {one.failed} images failed"
    )
    teeth = "" if one.teeth_alike is None else f", tooth numbers alike {one.teeth_alike:.3f}"
    typer.echo(f"same view as live on {one.same_views} of {one.images}{teeth}")
    live, shadow = ({(r.kind, r.level): r for r in rows} for rows in (one.live, one.shadow))
    rows = [
        (*key, name, *_agreement_row(rows[key]))
        for key in sorted({*live, *shadow})
        for name, rows in (("live", live), ("shadow", shadow))
        if key in rows
    ]
    _table(
        ("kind", "per", "network", "signed", "said", "both", "sensitivity", "precision", ""), rows
    )
    typer.echo(_SEEN_NOTE + "\n")


def _agreement_row(row: Row) -> tuple[str, ...]:
    counts = (str(row.signed), str(row.said), str(row.both))
    few = "too few to say" if row.is_few else ""
    return (*counts, row.sensitivity.words, row.precision.words, few)


def _print_reliability(one: Reliability) -> None:
    typer.echo(
        f"{one.model}, {one.kind}: {one.count} decided suggestions of {one.patients} patients, "
        f"{one.kept} kept" + ("; too few to say" if one.is_few else "")
    )
    typer.echo(f"  ECE {one.expected_error.words}, Brier {one.brier.words}")
    _table(
        ("  n", "said", "kept"),
        [(f"  {b.count}", f"{b.said:.2f}", f"{b.true:.2f}") for b in one.bins],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
