"""Random histories: what the node mirrors is what the table holds; what is sent lands once."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import Retryable
from pms_writeback.bridge.commands import Commands, LockPatience
from pms_writeback.bridge.driver import Locked, Table
from pms_writeback.bridge.journal import Journal
from pms_writeback.bridge.limits import Hours, KillSwitch
from pms_writeback.bridge.protocol import rows_from_json, rows_to_json
from pms_writeback.bridge.vault import Vault
from pms_writeback.bridge.warehouse import Warehouse
from pms_writeback.pms import AppendCommlog, OfficeTime, OutcomeUnknown, Receipt

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
WINDOW = (date(2026, 11, 1), date(2026, 12, 31))
PEOPLE = Table("person", ("id",), ("id", "name"))
OFFICE = OfficeTime("America/New_York")

STATES = st.lists(
    st.dictionaries(st.integers(0, 12), st.sampled_from("abc"), max_size=12), max_size=8
)


@settings(deadline=None, max_examples=60)
@given(states=STATES, page=st.integers(1, 5), version=st.sampled_from((1, 2)), reset=st.booleans())
def test_a_mirror_by_cursor_equals_the_table(states, page, version, reset):
    with tempfile.TemporaryDirectory() as folder:
        vault = Vault(Path(folder) / "vault.key")
        warehouse = Warehouse(Path(folder) / "one.sqlite", vault)
        mirror, epoch, after = {}, "", 0
        for number, state in enumerate(states):
            if reset and number == 3:  # the clinic's copy was lost
                warehouse.close()
                warehouse = Warehouse(Path(folder) / "two.sqlite", vault)
            rows = [{"id": key, "name": name} for key, name in state.items()]
            warehouse.take(PEOPLE, rows, WINDOW, NOW + timedelta(minutes=number))
            while True:
                found = warehouse.page("person", epoch, after, page)
                if found.epoch != epoch:
                    mirror.clear()
                for row in rows_from_json(rows_to_json(found.rows, version)):
                    mirror[row.key] = row
                epoch, after = found.epoch, found.seq
                if found.is_last:
                    break
            alive = {row.key: row.values["name"] for row in mirror.values() if not row.is_gone}
            assert alive == {str(key): name for key, name in state.items()}
        warehouse.close()


class Killed(BaseException):
    """The bridge's process ends here."""


class Practice:
    """A list of what landed, with trouble by plan."""

    posting_s = 0.0

    def __init__(self, plan):
        self.landed = []
        self.plan = list(plan)

    def execute(self, command):
        trouble = self.plan.pop(0) if self.plan else "none"
        if trouble == "locked":
            raise Locked("locked")
        if trouble == "killed before":
            raise Killed
        self.landed.append(command.ref)
        if trouble == "killed after":
            raise Killed
        if trouble == "answer lost":
            raise OutcomeUnknown("lost")
        if trouble == "driver broke":
            raise RuntimeError
        return Receipt("list", str(len(self.landed)))

    def find(self, command):
        if command.ref not in self.landed:
            return None
        return Receipt("list", str(self.landed.index(command.ref) + 1), already_there=True)


TROUBLE = ["none", "locked", "killed before", "killed after", "answer lost", "driver broke"]


@settings(deadline=None, max_examples=60)
@given(plan=st.lists(st.sampled_from(TROUBLE), max_size=25), count=st.integers(1, 6))
def test_each_command_lands_once_and_in_the_order_sent(plan, count):
    practice = Practice(plan)
    sent = [AppendCommlog("1", "Signed.", NOW, f"ref:BW-{number:04d}") for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        running = start(Path(folder), practice)
        for command in sent:
            receipt = None
            while receipt is None:
                try:
                    with suppress(Retryable):
                        receipt = running[1].write(command, 60)
                except Killed:
                    running[0].close()
                    running = start(Path(folder), practice)
            assert running[1].write(command, 60) == receipt
        running[0].close()
    assert practice.landed == [command.ref for command in sent]


def start(folder, practice):
    """Open the folder as a started process does."""
    journal = Journal(folder / "journal.sqlite", Vault(folder / "vault.key"))
    commands = Commands(
        practice,
        journal,
        KillSwitch(folder, journal),
        Hours.parse((), OFFICE),
        LockPatience(first_s=0.0, longest_s=0.0, total_s=0.0),
        lambda: NOW,
    )
    with suppress(Killed):  # killed again while it recovers; the next start goes on
        commands.recover()
    return journal, commands
