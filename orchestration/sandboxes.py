"""``bitewing sandbox …``: invented outside parties, each a program on the loopback interface."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

cli = typer.Typer(no_args_is_help=True, help="Invented outside parties for trials and the demo.")


@cli.callback()
def sandboxes() -> None:
    """Keep the commands below this name, also while there is only one."""


@cli.command()
def inbox(
    port: Annotated[int, typer.Option(help="Page, text message API and chat webhook.")] = 8025,
    mail_port: Annotated[int, typer.Option(help="The mail server's port.")] = 2525,
    data_dir: Annotated[Path, typer.Option(help="Where its certificate is kept.")] = Path(".demo"),
) -> None:
    """Run an invented mail server, text message provider and chat room until Ctrl-C."""
    from orchestration.messengers.sandbox.server import running_inbox
    from orchestration.messengers.sandbox.web import Account

    # the same at every start, so that a configuration stays good; they open nothing but a sandbox
    account = Account("bitewing-sandbox-key", "bitewing-sandbox-secret")
    with running_inbox(data_dir, port=port, mail_port=mail_port, account=account) as running:
        typer.echo(f"sandbox inbox on {running.page_url} (Ctrl-C ends it)\n\n[messengers]")
        for key, value in running.settings().items():
            if value:
                typer.echo(f"{key} = {_toml(value)}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("stopped")


@cli.command()
def payer(
    port: Annotated[int, typer.Option(help="Service and page.")] = 8027,
    data_dir: Annotated[Path, typer.Option(help="Where its file is kept.")] = Path(".demo"),
    answer_minutes: Annotated[float, typer.Option(help="How soon claims are answered.")] = 5.0,
) -> None:
    """Run an invented clearinghouse and payer until Ctrl-C."""
    from datetime import timedelta

    from orchestration.payers.sandbox.server import running_payer

    data_dir.mkdir(parents=True, exist_ok=True)
    answer_after = timedelta(minutes=answer_minutes)
    with running_payer(data_dir, port=port, answer_after=answer_after) as running:
        typer.echo(f"sandbox payer on {running.page_url} (Ctrl-C ends it)\n\n[payers]")
        for key, value in running.settings().items():
            typer.echo(f"{key} = {_toml(value)}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("stopped")


def _toml(value: object) -> str:
    """Write a setting as the configuration file takes it."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, bool | int):
        return str(value).lower()
    return f'"{value}"'


@cli.command()
def lab(
    port: Annotated[int, typer.Option(help="Page and API.")] = 8026,
    sftp_port: Annotated[int, typer.Option(help="The SFTP drop's port.")] = 2226,
    data_dir: Annotated[Path, typer.Option(help="Where its cases are kept.")] = Path(".demo"),
    callback_url: Annotated[
        str, typer.Option(help="Where it calls back: http://127.0.0.1:8080/api/hooks/…")
    ] = "",
) -> None:
    """Run an invented dental laboratory until Ctrl-C."""
    from orchestration.labs.sandbox.server import running_lab

    with running_lab(
        data_dir / "sandbox-lab",
        port=port,
        sftp_port=sftp_port,
        callback_url=callback_url,
        is_working=True,
    ) as running:
        typer.echo(f"sandbox laboratory on {running.url}/ (Ctrl-C ends it)\n\n[[labs.partners]]")
        for key, value in running.settings().items():
            typer.echo(f"{key} = {_toml(value)}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("stopped")


@cli.command()
def openid(
    port: Annotated[int, typer.Option(help="Where people sign in.")] = 8028,
    public_url: Annotated[
        str, typer.Option(help="Where the node's pages are.")
    ] = "http://127.0.0.1:8080",
) -> None:
    """Run an invented sign-in service (OpenID Connect) until Ctrl-C."""
    from orchestration.sandbox_openid import running_openid

    # the same at every start, so that a configuration stays good; it opens nothing but a sandbox
    with running_openid(port, "bitewing-sandbox-openid-secret") as running:
        typer.echo(f"sandbox sign-in service on {running.issuer} (Ctrl-C ends it)\n\n[oidc]")
        for key, value in running.settings(public_url).items():
            if key != "groups":
                typer.echo(f"{key} = {_toml(value)}")
            for group in value if isinstance(value, tuple) else ():
                lines = "\n".join(f"{name} = {_toml(each)}" for name, each in group.items())
                typer.echo(f"\n[[oidc.groups]]\n{lines}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("stopped")
