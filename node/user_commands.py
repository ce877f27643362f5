"""``bitewing user …`` and ``bitewing token …``: accounts and tokens without the pages.

Whoever may run these on the node's machine may do everything there anyway; what they do stands in
the audit under ``cli``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    import sqlalchemy as sa

    from node.config import Config
    from node.db.session import Actor

users_cli = typer.Typer(no_args_is_help=True, help="Accounts of the people who work here.")
tokens_cli = typer.Typer(no_args_is_help=True, help="Tokens of programs.")

_Name = Annotated[str, typer.Argument(help="The user name.")]


def _open(config: Path | None, data_dir: Path | None) -> tuple[Config, sa.Engine, Actor]:
    from node.db.migrate import migrate
    from node.db.session import Actor

    settings = read_settings(config, data_dir)
    db = open_db(settings)
    migrate(db)
    return settings, db, Actor("cli", settings.node.location_id)


def _find(db: sa.Engine, actor: Actor, username: str) -> str:
    import sqlalchemy as sa

    from node.db.session import read
    from node.db.tables import user_account

    query = sa.select(user_account.c.id).where(
        user_account.c.location_id == actor.location_id,
        user_account.c.username == username.strip().lower(),
    )
    with read(db) as conn:
        found = conn.execute(query).scalar()
    if found is None:
        raise NotFound("there is no such account here")
    return str(found)


@users_cli.command("add")
def add_user(
    username: str,
    role: Annotated[str, typer.Option(help="dentist, hygienist, assistant, office_manager …")],
    name: Annotated[str, typer.Option(help="Name shown on reviews.")] = "",
    password: Annotated[
        str, typer.Option(help="Password; asked for when it is not given (not for a service).")
    ] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Create an account; one with the role service has tokens and no password."""
    from node.web.accounts import create_user

    _, db, actor = _open(config, data_dir)
    if not password and role != "service":
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    create_user(
        db,
        actor,
        username=username,
        display_name=name or username,
        role=role,
        password=password,
    )
    typer.echo(f"{username} may {'use tokens' if role == 'service' else 'sign in'} as {role}")


@users_cli.command("list")
def list_users(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """List the accounts of this location."""
    import sqlalchemy as sa

    from node.db.session import read
    from node.db.tables import user_account

    _, db, actor = _open(config, data_dir)
    columns = user_account.c
    query = sa.select(columns.username, columns.role, columns.is_active, columns.totp_at)
    with read(db) as conn:
        rows = conn.execute(
            query.where(columns.location_id == actor.location_id).order_by(columns.username)
        ).all()
    for row in rows:
        marks = ["" if row.is_active else "disabled", "authenticator" if row.totp_at else ""]
        typer.echo("  ".join(part for part in (row.username, row.role, *marks) if part))


@users_cli.command("change")
def change_user(
    username: _Name,
    role: Annotated[str | None, typer.Option(help="The new role.")] = None,
    name: Annotated[str | None, typer.Option(help="The new name shown on reviews.")] = None,
    is_active: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Let in, or put out at once.")
    ] = None,
    pms_user: Annotated[str | None, typer.Option(help="Who it is in the PMS.")] = None,
    provider: Annotated[str | None, typer.Option(help="Its provider's key in the PMS.")] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Change an account; it counts from the next request on."""
    from node.web.accounts import role_named
    from node.web.people import change_person
    from node.web.people_shapes import PersonChange

    _, db, actor = _open(config, data_dir)
    change = PersonChange(
        display_name=name,
        role=role_named(role) if role else None,
        is_active=is_active,
        pms_user_key=pms_user,
        provider_key=provider,
    )
    change_person(db, actor, _find(db, actor, username), change)
    typer.echo(f"{username} is changed")


@users_cli.command("reset-password")
def reset(username: _Name, config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Give a person a password for one sign-in; PIN and sessions end."""
    from node.web.people import reset_password

    _, db, actor = _open(config, data_dir)
    password = reset_password(db, actor, _find(db, actor, username))
    typer.echo(f"first password of {username}, to be changed at the first sign-in: {password}")


@users_cli.command("remove-second-factor")
def remove_second_factor(
    username: _Name, config: ConfigFile = None, data_dir: DataDir = None
) -> None:
    """Take away a person's authenticator app, when phone and recovery codes are lost."""
    from node.engine import read_engine_key
    from node.web.second_factor import Codes

    settings, db, actor = _open(config, data_dir)
    key = read_engine_key(settings.node.data_dir / "engine.key")
    Codes(db, actor.location_id, key).remove(actor, _find(db, actor, username))
    typer.echo(f"{username} signs in with the password alone, until a new app is set up")


@tokens_cli.command("add")
def add_token(
    username: _Name,
    name: Annotated[str, typer.Option(help="What it is for.")],
    rights: Annotated[list[str], typer.Option("--right", help="images.see …; several times.")],
    days: Annotated[int, typer.Option(help="How long it lasts, 1 to 366.")] = 90,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Make a token of an account and print it, this once."""
    from node.domain.rights import Right
    from node.web.tokens import Tokens

    _, db, actor = _open(config, data_dir)
    try:
        wanted = [Right(right) for right in rights]
    except ValueError:
        raise InvalidInput(f"--right takes one of {', '.join(sorted(Right))}") from None
    tokens = Tokens(db, actor.location_id)
    _, token = tokens.issue(actor, _find(db, actor, username), name, wanted, days)
    typer.echo(token)


@tokens_cli.command("list")
def list_tokens(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """List the tokens of this location; their secrets are kept nowhere."""
    from node.web.tokens import Tokens

    _, db, actor = _open(config, data_dir)
    for row in Tokens(db, actor.location_id).listed():
        state = "revoked" if row.revoked_at else f"until {row.expires_at:%Y-%m-%d}"
        typer.echo(f"{row.id}  {row.username}  {row.name}  {state}  {' '.join(row.rights)}")


@tokens_cli.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(help="As `token list` shows it.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """End a token at once."""
    from node.web.tokens import Tokens

    _, db, actor = _open(config, data_dir)
    Tokens(db, actor.location_id).revoke(actor, token_id)
    typer.echo("revoked")
