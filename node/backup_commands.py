"""``bitewing backup …`` and ``bitewing restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.errors import InvalidInput

backup_cli = typer.Typer(no_args_is_help=True, help="Copies of everything, checked.")

Root = Annotated[Path, typer.Argument(help="The backup folder, on another disk.")]
Name = Annotated[str, typer.Argument(help="Which run; the latest when left out.")]


@backup_cli.command("create")
def create_command(root: Root, config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Make a backup; the node may go on running."""
    from node.backup.runs import create

    settings = read_settings(config, data_dir)
    db = open_db(settings)
    try:
        run = create(db, settings, root)
    finally:
        db.dispose()
    size = run.manifest.size_bytes / 1e6
    typer.echo(f"{run.name}: {len(run.manifest.files)} files, {size:.0f} MB")


@backup_cli.command("list")
def list_command(root: Root) -> None:
    """List the runs of a backup folder."""
    from node.backup.runs import runs_of

    for run in runs_of(root):
        rows = sum(run.manifest.database.rows.values())
        size = run.manifest.size_bytes / 1e6
        files = len(run.manifest.files)
        typer.echo(f"{run.name}  {rows} rows  {files} files  {size:.0f} MB")


@backup_cli.command("verify")
def verify_command(root: Root, name: Name = "") -> None:
    """Read every byte of a run again; ends with status 1 when something is wrong."""
    from node.backup.runs import find_run, problems_of

    run = find_run(root, name)
    found = problems_of(root, run, typer.echo)
    for problem in found:
        typer.echo(problem)
    if found:
        raise typer.Exit(1)
    typer.echo(f"{run.name} is whole")


@backup_cli.command("prune")
def prune_command(
    root: Root, keep: Annotated[int, typer.Option(help="How many runs to keep.")] = 30
) -> None:
    """Remove old runs and what only they held."""
    from node.backup.runs import prune

    runs, files = prune(root, keep)
    typer.echo(f"removed {runs} runs and {files} files")


def restore_command(
    root: Root,
    name: Name = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Bring a backup back into an empty data folder; what leaves the house is then paused."""
    from node.backup.runs import find_run
    from node.restoring import restore

    settings = read_settings(config, data_dir)
    run = find_run(root, name)
    if not yes and not typer.confirm(f"Restore {run.name} into {settings.node.data_dir}?"):
        raise InvalidInput("nothing was restored")
    done = restore(settings, root, run, typer.echo)
    typer.echo(
        f"restored {done.rows} rows and {done.files} files of {done.made_at:%Y-%m-%d %H:%M} UTC; "
        f"the audit holds ({done.audit_rows} rows). Everything outbound is paused: look at what "
        "was sent since, then let it go on (page /workflows)."
    )
    if done.key_problem:
        typer.echo(done.key_problem)
        raise typer.Exit(1)
