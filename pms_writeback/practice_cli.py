"""``bitewing practice …``: what an office's manager or IT person asks of the practice's records."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer

from node.command_options import ConfigFile, DataDir, open_db, read_settings
from node.errors import InvalidInput, Unsupported
from pms_writeback.records import MapKind

practice_cli = typer.Typer(
    no_args_is_help=True, help="The practice's records: free times, merged patients, who is who."
)


@practice_cli.command()
def slots(
    provider: Annotated[str, typer.Option(help="The provider's key in the practice's system.")],
    minutes: Annotated[int, typer.Option(help="Length of the visit.")] = 60,
    first: Annotated[str, typer.Option(help="First day, YYYY-MM-DD; today if left out.")] = "",
    last: Annotated[str, typer.Option(help="Last day; the first if left out.")] = "",
    visit: Annotated[
        str, typer.Option("--type", help="Type of visit, as in [[pms.windows]].")
    ] = "",
    step: Annotated[int, typer.Option(help="Minutes between two offers.")] = 30,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """List when and where a visit could be booked, from our copy of the schedule."""
    from node.db.session import read
    from pms_writeback.availability import open_slots
    from pms_writeback.pms import OfficeTime

    settings = read_settings(config, data_dir)
    office, now = OfficeTime(settings.node.time_zone), datetime.now(UTC)
    begin = _day(first) or office.today(now)
    with read(open_db(settings)) as conn:
        found = open_slots(
            conn, settings, now=now, first=begin, last=_day(last) or begin, minutes=minutes,
            provider_key=provider, appointment_type=visit, step_min=step,
        )  # fmt: skip
    for slot in found:
        start = office.to_wall(slot.starts_at)
        end = office.to_wall(slot.starts_at + timedelta(minutes=slot.minutes))
        typer.echo(f"{start:%Y-%m-%d %H:%M}-{end:%H:%M}  room {slot.operatory_key}")
    if not found:
        typer.echo("nothing free")


@practice_cli.command()
def merge(
    old: Annotated[str, typer.Argument(help="The patient's old key in the practice's system.")],
    new: Annotated[str, typer.Argument(help="The key that remains.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit.")],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Move our studies and unsent writes to the patient who remains after a merge there.

    Needed only where the practice's system cannot tell: Open Dental without the permission
    Queries, Dentrix, Eaglesoft, Curve.
    """
    from node.db.session import Actor
    from pms_writeback.merging import PatientMove, merge_by_hand
    from pms_writeback.practice import open_pms

    settings = read_settings(config, data_dir)
    pms = open_pms(settings)
    if pms is None:
        raise Unsupported("no practice management system is set up")
    actor = Actor("cli", settings.node.location_id)
    moved = merge_by_hand(open_db(settings), pms, actor, PatientMove(old, new), reason)
    typer.echo(", ".join(f"{number} {name}" for name, number in moved.items()) or "nothing to move")


@practice_cli.command("map")
def map_key(
    kind: Annotated[MapKind | None, typer.Argument(help="provider or operatory.")] = None,
    key: Annotated[str, typer.Argument(help="Its key in the practice's system.")] = "",
    name: Annotated[str, typer.Option(help="Whom or what it stands for here.")] = "",
    first: Annotated[str, typer.Option(help="First day, YYYY-MM-DD; today if left out.")] = "",
    last: Annotated[str, typer.Option(help="Last day; without an end if left out.")] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Say whom a key stands for, or list the map.

    Once a kind has an entry, only mapped keys are written for.
    """
    from node.db.session import Actor, read
    from pms_writeback.pms import OfficeTime
    from pms_writeback.provider_map import MapEntry, add_entry, read_map

    settings = read_settings(config, data_dir)
    db, location = open_db(settings), settings.node.location_id
    if kind is not None and key:
        today = OfficeTime(settings.node.time_zone).today(datetime.now(UTC))
        entry = MapEntry(kind, key, name, _day(first) or today, _day(last))
        add_entry(db, Actor("cli", location), entry)
    with read(db) as conn:
        kinds = [kind] if kind else list(MapKind)
        found = [entry for each in kinds for entry in read_map(conn, location, each)]
    for entry in found:
        until = entry.valid_to or "…"
        typer.echo(f"{entry.kind:<9} {entry.key:<8} {entry.valid_from} to {until}  {entry.meaning}")
    if not found:
        typer.echo("no map: whoever is not hidden may be written for")


@practice_cli.command()
def unmap(
    kind: Annotated[MapKind, typer.Argument(help="provider or operatory.")],
    key: Annotated[str, typer.Argument(help="Its key in the practice's system.")],
    last: Annotated[str, typer.Option(help="Its last day, YYYY-MM-DD; today if left out.")] = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """End what a key stands for; the entry stays for what was written in its time."""
    from node.db.session import Actor
    from pms_writeback.pms import OfficeTime
    from pms_writeback.provider_map import end_entry

    settings = read_settings(config, data_dir)
    day = _day(last) or OfficeTime(settings.node.time_zone).today(datetime.now(UTC))
    end_entry(open_db(settings), Actor("cli", settings.node.location_id), kind, key, day)
    typer.echo(f"{kind} {key} ends on {day}")


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidInput(f"not a day: {text[:20]!r} (expected 2026-01-31)") from None
