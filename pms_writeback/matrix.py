"""What each practice system can be asked and told, as the adapters themselves say it.

``python -m pms_writeback.matrix`` prints ``docs/pms-capabilities.md``; a test keeps the two equal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, get_args

from pms_writeback.bridge.driver import Table
from pms_writeback.bridge.odbc import ReadOnlyOdbc
from pms_writeback.bridge.office import TableNames
from pms_writeback.bridge.sandbox import KINDS
from pms_writeback.curve.adapter import CAPABILITIES as CURVE
from pms_writeback.dentrix import views
from pms_writeback.dentrix.shapes import DentrixShapes
from pms_writeback.eaglesoft import tables
from pms_writeback.eaglesoft.shapes import EaglesoftShapes
from pms_writeback.opendental.versions import capabilities as open_dental
from pms_writeback.pms import Capability, Command, Support

YES, NO, NOT_LICENSED = "yes", "no", "not licensed"
SANDBOX_ONLY = f"{NOT_LICENSED}; sandbox: yes"

READS = (
    "patients",
    "visits of a day",
    "their time of day",
    "their room",
    "rooms",
    "providers",
    "procedures of a visit",
    "what changed",
    "what was deleted",
    "records (allergies, plans, claims …)",
)


@dataclass(frozen=True, slots=True)
class System:
    """One column: a word for each read and each command, by its name."""

    name: str
    reads: Mapping[str, str]
    commands: Mapping[str, str]


def systems() -> tuple[System, ...]:
    """Ask every adapter; nothing is connected."""
    return (_open_dental(), _dentrix(), _eaglesoft(), _curve())


def render() -> str:
    """Write the page."""
    columns = systems()
    heads = " | ".join(each.name for each in columns)
    rule = "|---" * (len(columns) + 1) + "|"
    lines = [_HEAD, f"| read | {heads} |", rule]
    lines += [_line(name, [each.reads[name] for each in columns]) for name in READS]
    lines += ["", f"| command | {heads} |", rule]
    names = [command.__name__ for command in get_args(Command)]
    lines += [_line(f"`{name}`", [each.commands[name] for each in columns]) for name in names]
    return "\n".join([*lines, "", _FOOT])


_HEAD = """# What each practice system can do

Made by `python -m pms_writeback.matrix` from the adapters; a test keeps it current. A command that
a system cannot take is refused before anything is sent, and waits for a person.
"""

_FOOT = """- *from 24.2.29*: the first version of the office's program that can.
- *not licensed*: the vendor keeps this interface for licensed partners. [The bridge](bridge.md)
  refuses the command until a licensed driver is put in. Documents can go to a folder at the
  clinic instead, for staff to file.
- *licensed column*: read once the site has named it from its licensed documentation.
- *sandbox*: the invented practice of the bridge's own driver.
- *taken*: the partner confirms that it has it, not that it landed: [Curve](curve.md).
"""


def _line(name: str, cells: list[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def _open_dental() -> System:
    found = open_dental("0.0", has_tasks=True)
    commands = {name: _since(found.of(command).reason) for name, command in _commands().items()}
    reads = dict.fromkeys(READS, YES) | {"what was deleted": "from 23.1.30"}
    return System("Open Dental", reads, commands)


def _since(reason: str) -> str:
    """Read the needed version out of a refusal for the oldest version that there is."""
    needed = re.search(r"needs Open Dental ([\d.]+)", reason)
    return f"from {needed.group(1)}" if needed else NO


def _dentrix() -> System:
    return System(
        "Dentrix",
        _bridged_reads(views.PUBLIC, DentrixShapes.tables, views.APPOINTMENT, "start_time"),
        _bridged_commands(views.PUBLIC),
    )


def _eaglesoft() -> System:
    return System(
        "Eaglesoft",
        _bridged_reads(tables.PUBLIC, EaglesoftShapes.tables, tables.APPOINTMENT, "start_time"),
        _bridged_commands(tables.PUBLIC),
    )


def _bridged_reads(
    public: tuple[Table, ...], names: TableNames, visit: Table, time_column: str
) -> dict[str, str]:
    shown = {table.name for table in public}

    def of(table: str) -> str:
        return YES if table in shown else SANDBOX_ONLY

    def column(name: str) -> str:
        return YES if name in visit.columns else "licensed column; sandbox: yes"

    return {
        "patients": of(names.patients),
        "visits of a day": of(names.appointments),
        "their time of day": column(time_column),
        "their room": column("operatory_id"),
        "rooms": of(names.operatories),
        "providers": of(names.providers),
        "procedures of a visit": of(names.procedures),
        "what changed": "by comparing",
        "what was deleted": "by comparing",
        "records (allergies, plans, claims …)": f"chart lines only: {of(names.procedures)}",
    }


def _bridged_commands(public: tuple[Table, ...]) -> dict[str, str]:
    options = {"enabled": True, "connection_string": "none is opened"}
    said = ReadOnlyOdbc("", public, options, connector=_never).operations()
    words = {each.operation: _word(each) for each in said}
    written = {command.__name__ for command in KINDS}
    return {
        name: f"{word}; sandbox: yes" if name in written else word for name, word in words.items()
    }


def _never(_dsn: str) -> NoReturn:
    raise AssertionError("asking for capabilities opens nothing")


def _curve() -> System:
    commands = {name: _taken(CURVE.of(command)) for name, command in _commands().items()}
    reads = dict.fromkeys(READS, YES) | {
        "procedures of a visit": NO,
        "what was deleted": "by reading the whole window",
        "records (allergies, plans, claims …)": NO,
    }
    return System("Curve", reads, commands)


def _word(capability: Capability) -> str:
    match capability.support:
        case Support.SUPPORTED:
            return YES
        case Support.NOT_LICENSED:
            return NOT_LICENSED
        case _:
            return NO


def _taken(capability: Capability) -> str:
    """Say how far a command reaches by way of a partner, with the first word of its reason."""
    word = _word(capability)
    limit, has_limit, _ = capability.reason.partition(" only")
    return word if word == NO else f"taken ({limit} only)" if has_limit else "taken"


def _commands() -> dict[str, type[Command]]:
    return {command.__name__: command for command in get_args(Command)}


if __name__ == "__main__":
    sys.stdout.write(render())
