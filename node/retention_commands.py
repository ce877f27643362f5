"""``bitewing retention …`` and ``bitewing hold …``: what may go, what went, and what must stay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.open_store import open_store

if TYPE_CHECKING:
    from node.config import Config
    from node.db.session import Actor
    from node.dicom.retention import Report, Retention

retention_cli = typer.Typer(
    no_args_is_help=True, help="Pixels that an archive keeps, and how long anything is kept."
)
hold_cli = typer.Typer(
    no_args_is_help=True, help="Legal holds: nothing of a patient or a study is given up."
)


@retention_cli.command()
def plan(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Say what would be given up now, and why the rest stays; changes nothing."""
    from node.db.settled import count_settled
    from node.db.shedding import count_old

    settings = read_settings(config, data_dir)
    _show(_open(settings).run(datetime.now(UTC), is_dry=True), "would be given up")
    for name, count in count_old(open_db(settings), settings, datetime.now(UTC)).items():
        typer.echo(f"{count} old rows of {name} would be removed")
    for name, count in count_settled(open_db(settings), settings, datetime.now(UTC)).items():
        typer.echo(f"{count} of {name} would be reduced to their digest")


@retention_cli.command()
def run(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Give up now what may go; the running node does so every hour."""
    from node.db.settled import reduce_settled
    from node.db.shedding import shed

    settings = read_settings(config, data_dir)
    _show(_open(settings).run(datetime.now(UTC)), "given up")
    for name, count in shed(open_db(settings), settings, datetime.now(UTC)).items():
        typer.echo(f"{count} old rows of {name} removed")
    for name, count in reduce_settled(open_db(settings), settings, datetime.now(UTC)).items():
        typer.echo(f"{count} of {name} reduced to their digest")


@retention_cli.command()
def report(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """List what is not here: study, image, who holds it, since when, by which promise."""
    import sqlalchemy as sa

    from node.db.session import read
    from node.db.tables import instance, pixel_purge

    settings = read_settings(config, data_dir)
    with read(open_db(settings)) as conn:
        rows = conn.execute(
            sa.select(pixel_purge, instance.c.study_id)
            .join(instance, instance.c.id == pixel_purge.c.instance_id)
            .where(pixel_purge.c.location_id == settings.node.location_id)
            .order_by(pixel_purge.c.purged_at, pixel_purge.c.instance_id)
        ).all()
    for row in rows:
        since = row.restored_at if row.state == "restored" else row.purged_at
        typer.echo(
            f"study {row.study_id}  image {row.instance_id}  {row.state} {since:%Y-%m-%d}"
            f"  {row.basis} {row.holder} {row.transaction_uid}".rstrip()
        )
    away = sum(row.state != "restored" for row in rows)
    typer.echo(f"{away} images are held elsewhere, {len(rows) - away} came back")


@hold_cli.command()
def add(
    reason: Annotated[str, typer.Option(help="Why; who examines the audit reads it.")],
    patient: Annotated[str, typer.Option(help="Key of the patient in the practice's system.")] = "",
    study: Annotated[str, typer.Option(help="Study Instance UID.")] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Hold everything of one patient, or one study, until it is released."""
    from node.dicom.holds import place_hold

    settings = read_settings(config, data_dir)
    made = place_hold(
        open_db(settings), _actor(settings), reason, patient_key=patient, study_uid=study
    )
    typer.echo(f"hold {made} stands")


@hold_cli.command("list")
def list_command(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Show every hold, ended ones too."""
    from node.db.session import read
    from node.dicom.holds import holds

    settings = read_settings(config, data_dir)
    with read(open_db(settings)) as conn:
        rows = holds(conn, settings.node.location_id)
    for row in rows:
        subject = f"patient {row.patient_id}" if row.patient_id else f"study {row.study_id}"
        end = f", released {row.released_at:%Y-%m-%d}" if row.released_at else ""
        typer.echo(
            f"{row.id}  {subject}  since {row.placed_at:%Y-%m-%d} by {row.placed_by}{end}:"
            f" {row.reason}"
        )


@hold_cli.command()
def release(
    hold: Annotated[str, typer.Argument(help="As `bitewing hold list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why it ends.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """End a hold."""
    from node.dicom.holds import release_hold

    settings = read_settings(config, data_dir)
    release_hold(open_db(settings), _actor(settings), hold, reason)
    typer.echo(f"hold {hold} has ended")


def _actor(settings: Config) -> Actor:
    from node.db.session import Actor

    return Actor("cli", settings.node.location_id)


def _open(settings: Config) -> Retention:
    from node.dicom.retention import Retention

    db = open_db(settings)
    return Retention(db, open_store(settings, db), settings)


def _show(found: Report, words: str) -> None:
    typer.echo(
        f"{found.images} images of {found.studies} studies"
        f" ({found.size_bytes / 1e6:.1f} MB) {words}"
    )
    for reason, studies in found.kept.items():
        typer.echo(f"  {studies} studies stay: {reason}")
