"""``bitewing agreement …``: which outside parties may be called, and on which paper."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.errors import InvalidInput

agreement_cli = typer.Typer(
    no_args_is_help=True,
    help="Agreements with outside parties (BAA); without one nothing is sent to them.",
)


@agreement_cli.command("list")
def show(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Say how every configured party stands."""
    from node.db.agreements import standings
    from node.db.session import read

    settings = read_settings(config, data_dir)
    with read(open_db(settings)) as conn:
        found = standings(conn, settings, datetime.now(UTC))
    if not found:
        typer.echo("the configuration names no outside party")
    for each in found:
        mark = "ok " if each.may_be_called and not each.words else "   "
        mark = mark if each.may_be_called else "OFF"
        until = f"until {each.agreement.valid_until}, " if each.agreement else ""
        with_whom = f"with {each.agreement.counterparty}" if each.agreement else ""
        words = f"{until}{with_whom}"
        typer.echo(f"{mark} {each.party.key:<24} {each.party.name}: {each.words or words}")
        if each.agreement_id:
            typer.echo(f"{'':>4}{each.agreement_id}")


@agreement_cli.command("record")
def record_command(
    party: Annotated[str, typer.Argument(help="As `bitewing agreement list` names it.")],
    counterparty: Annotated[str, typer.Option("--with", help="The other side's legal name.")],
    signed_by: Annotated[str, typer.Option(help="Who signed for the practice.")],
    signed_on: Annotated[str, typer.Option(help="A day like 2026-01-31.")],
    until: Annotated[str, typer.Option(help="Its last day.")],
    document: Annotated[Path, typer.Option(help="The signed paper; its digest is kept.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Record an agreement; what waited for it goes on."""
    from node.db.agreements import Agreement, record
    from node.db.session import Actor, begin

    settings = read_settings(config, data_dir)
    try:
        digest = hashlib.sha256(document.read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidInput(f"--document cannot be read ({error.strerror})") from None
    made = Agreement(
        party, counterparty, signed_by, _day(signed_on, "--signed-on"), _day(until, "--until"),
        digest,
    )  # fmt: skip
    actor = Actor("cli", settings.node.location_id)
    with begin(open_db(settings), actor, "agreement.recorded") as tx:
        agreement_id = record(tx, settings, made)
    typer.echo(f"{party} may be called until {made.valid_until} ({agreement_id})")


@agreement_cli.command("revoke")
def revoke_command(
    agreement_id: Annotated[str, typer.Argument(help="As `bitewing agreement list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """End an agreement; nothing more is sent to the party."""
    from node.db.agreements import revoke
    from node.db.session import Actor, begin

    settings = read_settings(config, data_dir)
    actor = Actor("cli", settings.node.location_id)
    with begin(open_db(settings), actor, "agreement.revoked") as tx:
        revoke(tx, agreement_id, reason)
    typer.echo("ended")


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{option} takes a day like 2026-01-31") from None
