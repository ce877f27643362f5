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

    with running_inbox(data_dir, port=port, mail_port=mail_port) as running:
        typer.echo(f"sandbox inbox on {running.page_url} (Ctrl-C ends it)\n\n[messengers]")
        for key, value in running.settings().items():
            if value:
                written = list(value) if isinstance(value, tuple) else value
                typer.echo(f"{key} = {written!r}".replace("'", '"'))
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("stopped")
