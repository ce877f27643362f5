"""``bitewing keys …`` and ``encrypt-data``: the keys of what lies in database and store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.errors import InvalidInput, Rejected

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from node.config import Config
    from node.db.session import Actor

keys_cli = typer.Typer(
    no_args_is_help=True, help="Keys of what lies in the database and the store (encryption)."
)


def _actor(settings: Config) -> Actor:
    from node.db.session import Actor

    return Actor("cli", settings.node.location_id)


@keys_cli.command("create")
def create(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Make the master key's file and the first data keys of an empty location."""
    from node.db import keys
    from node.db.master import is_file_kept, key_path
    from node.db.migrate import migrate
    from node.db.session import open_database

    settings = read_settings(config, data_dir)
    db = open_database(settings.database_url)
    migrate(db)
    if keys.list_keys(db, settings.node.location_id):
        raise Rejected("this location has its keys already; see `bitewing keys list`")
    if keys.open_keys(db, settings, _actor(settings)) is None:
        raise Rejected("this location has data already; `bitewing encrypt-data` seals it")
    typer.echo("keys made")
    if is_file_kept(settings):
        typer.echo(
            f"KEEP A COPY of {key_path(settings)} in another place: without it the data is lost"
        )


@keys_cli.command("list")
def list_command(
    uses: Annotated[
        bool, typer.Option("--uses", help="Count what is sealed with each; reads every file.")
    ] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """List the data keys, what each is for and where its master key is."""
    from node.db import keys
    from node.resealing import count_uses

    settings = read_settings(config, data_dir)
    location = settings.node.location_id
    db = open_db(settings)
    entries = keys.list_keys(db, location)
    typer.echo(f"sealed: {keys.sealing_of(db, location).value}")
    counted = count_uses(db, settings, location) if uses else {}
    for each in entries:
        count = f"  {counted.get(each.key_id, 0)} in use" if uses else ""
        typer.echo(
            f"{each.key_id}  {each.purpose.value:<7} {each.state.value:<8}"
            f" {each.created_at:%Y-%m-%d %H:%M}  {each.master}{count}"
        )
    if uses:
        typer.echo(f"plain: {counted.get('', 0)}")


@keys_cli.command("rotate")
def rotate(
    later: Annotated[
        bool, typer.Option("--later", help="Only make the key; seal old data anew another time.")
    ] = False,
    lookup: Annotated[
        bool,
        typer.Option("--lookup", help="Replace the key of what is looked up; stop the node first."),
    ] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Make a new data key and seal all data with it; the node may run. Goes on if cut off."""
    from node.db import keys
    from node.resealing import reseal

    if lookup and later:
        raise InvalidInput("--later is not for --lookup: that is done at once or not at all")
    settings = read_settings(config, data_dir)
    db = open_db(settings)
    if lookup:
        _rotate_lookup(db, settings)
        return
    typer.echo(f"new key {keys.rotate(db, settings, _actor(settings))}")
    if not later:
        done = reseal(db, settings, _actor(settings), typer.echo)
        typer.echo(f"{done.values} values and {done.files} files sealed anew")
        if done.unreadable:
            raise typer.Exit(1)


def _rotate_lookup(db: Engine, settings: Config) -> None:
    from node.app import hold_executor
    from node.resealing import clear_traces, rotate_lookup

    key_id, done = rotate_lookup(
        db, settings, _actor(settings), typer.echo, lambda: hold_executor(settings)
    )
    typer.echo(f"new key {key_id} for what is looked up; {done.values} values sealed anew")
    if not clear_traces(db):
        typer.echo("the database still holds pages of before; they go as it is used")
    typer.echo("the node may start; the old key seals nothing: `bitewing keys drop` forgets it")


@keys_cli.command("reseal")
def reseal_command(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Seal with the current key what is still sealed with an old one; goes on if cut off."""
    from node.resealing import reseal

    settings = read_settings(config, data_dir)
    done = reseal(open_db(settings), settings, _actor(settings), typer.echo)
    typer.echo(f"{done.values} values and {done.files} files sealed anew")
    if done.unreadable:
        raise typer.Exit(1)


@keys_cli.command("drop")
def drop(
    key_id: Annotated[str, typer.Argument(help="An old key, as `keys list` shows it.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Forget an old key with which nothing is sealed any more; backups from before need it."""
    from node.db import keys
    from node.resealing import count_uses

    settings = read_settings(config, data_dir)
    db = open_db(settings)
    used = count_uses(db, settings, settings.node.location_id)[key_id]
    if used:
        raise Rejected(f"{used} values or files are sealed with it; `bitewing keys reseal` first")
    keys.drop(db, _actor(settings), key_id)
    typer.echo(f"{key_id} is forgotten")


@keys_cli.command("rewrap")
def rewrap(
    to: Annotated[
        Path | None, typer.Option(help="Configuration whose [encryption] names the new master key.")
    ] = None,
    new_key_file: Annotated[
        Path | None, typer.Option(help="Or the file of the new master key; made if missing.")
    ] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Wrap the data keys by another master key; set it in the configuration afterwards."""
    from node.config import EncryptionSection
    from node.db import keys
    from node.db.master import create_key_file, is_file_kept, key_path, open_master
    from node.db.session import open_database
    from node.engine_key import wrap_engine_key

    if (to is None) == (new_key_file is None):
        raise InvalidInput("name either --to or --new-key-file")
    settings = read_settings(config, data_dir)
    section = (
        read_settings(to, None).encryption
        if to is not None
        else EncryptionSection(key_file=str(new_key_file))
    )
    wanted = settings.model_copy(update={"encryption": section})
    if is_file_kept(wanted):
        create_key_file(key_path(wanted))
    old, new = open_master(settings), open_master(wanted)
    db = open_database(settings.database_url)
    if not keys.list_keys(db, settings.node.location_id):
        raise Rejected("there are no keys: nothing is sealed here")
    wrap_engine_key(settings, old, new)  # opens by either until the data keys are done
    count = keys.rewrap(db, settings, wanted, _actor(settings))
    wrap_engine_key(settings, new)
    typer.echo(f"{count} keys wrapped anew; set [encryption] to the new master key and restart")


@keys_cli.command("check")
def check(
    files: Annotated[bool, typer.Option("--files", help="Read every stored file too.")] = False,
    rows: Annotated[
        bool, typer.Option("--rows", help="Look for values that are not their row's own.")
    ] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Say whether the master key opens every data key; more with --files and --rows."""
    from node.db import keys
    from node.resealing import unreadable_files
    from node.row_check import misplaced_rows

    settings = read_settings(config, data_dir)
    db = open_db(settings)
    location = settings.node.location_id
    entries = keys.list_keys(db, location)
    if not entries:
        raise Rejected("there are no keys: nothing is sealed here")
    ring = keys.open_ring(db, settings, location)
    typer.echo(f"{len(entries)} keys open; data is sealed {keys.sealing_of(db, location).value}")
    bad = list(unreadable_files(db, settings, ring)) if files else []
    if rows:
        found = misplaced_rows(db, location)
        bad += [(f"{each.table} {each.row_id}", each.reason) for each in found]
    for place, words in bad:
        typer.echo(f"{place}: {words}", err=True)
    if bad:
        raise typer.Exit(1)


def encrypt_data_command(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Seal what an earlier release left plain; stop the node for the first minute of it."""
    from node.app import hold_executor
    from node.db.migrate import migrate
    from node.db.session import open_database
    from node.resealing import encrypt_data

    settings = read_settings(config, data_dir)
    db = open_database(settings.database_url)
    migrate(db)
    done = encrypt_data(db, settings, _actor(settings), typer.echo, lambda: hold_executor(settings))
    typer.echo(f"{done.values} values and {done.files} files sealed; restart the node")
