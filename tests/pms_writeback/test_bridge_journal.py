"""The journal, the warehouse and the limits of a bridge, alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from node.errors import ConfigError, Conflict, InvalidInput, Rejected, Retryable
from pms_writeback.bridge.commands import Commands, LockPatience
from pms_writeback.bridge.driver import Locked, Table
from pms_writeback.bridge.journal import EntryState, Journal
from pms_writeback.bridge.limits import Hours, KillSwitch
from pms_writeback.bridge.vault import Vault
from pms_writeback.bridge.warehouse import Warehouse
from pms_writeback.bridge.wire import command_key, decode_command, encode_command
from pms_writeback.pms import (
    AppendCommlog,
    CannotSearch,
    CloseTask,
    CreateTask,
    OfficeTime,
    OutcomeUnknown,
    Receipt,
    UploadDocument,
)

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
OFFICE = OfficeTime("America/New_York")
COMMAND = AppendCommlog("1", "Signed.", NOW, "ref:BW-0123456789")
WINDOW = (date(2026, 11, 1), date(2026, 12, 31))
VISITS = Table("visit", ("id",), ("id", "day", "what"), day_column="day")
PEOPLE = Table("person", ("id",), ("id", "name"))


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class Practice:
    """A practice system of one list, in this process, that fails as it is told to."""

    def __init__(self):
        self.landed = []
        self.hidden = []
        self.trouble = []
        self.posting_s = 0.0
        self.is_blind = False

    def execute(self, command):
        trouble = self.trouble.pop(0) if self.trouble else None
        if isinstance(trouble, Locked | Rejected):
            raise trouble
        (self.hidden if self.posting_s else self.landed).append(command.ref)
        if trouble is not None:
            raise trouble
        return Receipt("list", str(len(self.landed)))

    def find(self, command):
        if self.is_blind:
            raise CannotSearch("nothing can be listed here")
        if command.ref in self.landed:
            return Receipt("list", str(self.landed.index(command.ref) + 1), already_there=True)
        return None


@pytest.fixture
def vault(tmp_path):
    return Vault(tmp_path / "vault.key")


@pytest.fixture
def journal(tmp_path, vault):
    opened = Journal(tmp_path / "journal.sqlite", vault)
    yield opened
    opened.close()


@pytest.fixture
def warehouse(tmp_path, vault):
    opened = Warehouse(tmp_path / "warehouse.sqlite", vault)
    yield opened
    opened.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def practice():
    return Practice()


@pytest.fixture
def commands(tmp_path, journal, clock, practice):
    return Commands(
        practice,
        journal,
        KillSwitch(tmp_path, journal),
        Hours.parse((), OFFICE),
        LockPatience(first_s=0.001, longest_s=0.01, total_s=0.05),
        clock,
    )


def test_the_same_command_again_gives_the_first_receipt(commands, practice, journal):
    first = commands.write(COMMAND, 60)
    assert commands.write(COMMAND, 60) == first
    assert commands.find(COMMAND) == first
    assert practice.landed == [COMMAND.ref]
    with pytest.raises(Conflict):
        commands.write(replace(COMMAND, text="Other."), 60)
    assert journal.counts() == {"done": 1}


def test_closing_a_task_is_another_command_than_making_it(commands, practice):
    task = CreateTask("1", "Look.", COMMAND.ref)
    assert command_key(task) != command_key(CloseTask("1", COMMAND.ref))
    commands.write(task, 60)
    assert commands.find(CloseTask("1", COMMAND.ref)) is not None
    assert practice.landed == [COMMAND.ref]


def test_what_landed_before_is_found_and_not_written_again(commands, practice):
    practice.landed.append(COMMAND.ref)
    assert commands.write(COMMAND, 60).already_there
    assert practice.landed == [COMMAND.ref]


def test_a_lock_is_waited_out_and_else_released(commands, practice, journal):
    practice.trouble = [Locked("locked")] * 2
    commands.write(COMMAND, 60)
    other = replace(COMMAND, ref="ref:BW-other")
    practice.trouble = [Locked("locked")] * 100
    with pytest.raises(Locked):
        commands.write(other, 60)
    assert journal.entry(other).state is EntryState.RELEASED
    practice.trouble = []
    commands.write(other, 60)
    assert practice.landed == [COMMAND.ref, other.ref]


def test_a_lost_answer_of_the_practice_is_settled_by_looking(commands, practice, journal):
    practice.trouble = [OutcomeUnknown("lost")]
    with pytest.raises(OutcomeUnknown):
        commands.write(COMMAND, 60)
    assert journal.entry(COMMAND).state is EntryState.BEGUN
    assert commands.write(COMMAND, 60).already_there
    assert practice.landed == [COMMAND.ref]


def test_a_driver_that_breaks_leaves_the_outcome_unknown(commands, practice, journal):
    practice.trouble = [RuntimeError("no patient's name may come out of this")]
    with pytest.raises(OutcomeUnknown, match="RuntimeError") as caught:
        commands.write(COMMAND, 60)
    assert "patient" not in str(caught.value)
    assert commands.recover() == 0
    assert journal.entry(COMMAND).state is EntryState.DONE
    assert practice.landed == [COMMAND.ref]


def test_where_nothing_can_be_searched_a_person_is_asked_before_a_second_write(
    commands, practice, journal
):
    practice.is_blind = True
    practice.trouble = [OutcomeUnknown("lost")]
    with pytest.raises(OutcomeUnknown):
        commands.write(COMMAND, 60, "request-1")
    with pytest.raises(OutcomeUnknown, match="cannot be searched"):
        commands.write(COMMAND, 60, "request-1")
    with pytest.raises(CannotSearch):
        commands.find(COMMAND)
    assert commands.recover() == 0
    assert practice.landed == [COMMAND.ref]
    practice.landed.clear()  # the person looked, and it is not there
    commands.write(COMMAND, 60, "request-2")
    assert practice.landed == [COMMAND.ref]


def test_a_slow_posting_is_not_written_again_before_its_time(commands, practice, journal, clock):
    practice.posting_s = 100.0
    practice.trouble = [OutcomeUnknown("not shown yet")]
    with pytest.raises(OutcomeUnknown):
        commands.write(COMMAND, 60)
    clock.now += timedelta(seconds=50)
    with pytest.raises(OutcomeUnknown, match="not yet shown"):
        commands.write(COMMAND, 60)
    with pytest.raises(OutcomeUnknown):
        commands.find(COMMAND)
    practice.landed, practice.hidden = practice.hidden, []
    assert commands.find(COMMAND) is not None
    assert practice.landed == [COMMAND.ref]


def test_a_write_that_waited_for_a_lock_is_given_its_whole_posting_time(
    commands, practice, clock, monkeypatch
):
    practice.posting_s = 100.0
    practice.trouble = [OutcomeUnknown("not shown yet")]
    write = practice.execute

    def slowly(command):
        clock.now += timedelta(seconds=40)  # locked for so long, then written at the end
        return write(command)

    monkeypatch.setattr(practice, "execute", slowly)
    with pytest.raises(OutcomeUnknown):
        commands.write(COMMAND, 60)
    clock.now += timedelta(seconds=70)
    with pytest.raises(OutcomeUnknown, match="not yet shown"):
        commands.write(COMMAND, 60)
    assert practice.hidden == [COMMAND.ref]


def test_after_a_kill_the_posting_time_counts_from_the_restart(
    commands, practice, journal, clock, tmp_path
):
    practice.posting_s = 100.0
    practice.trouble = [KeyboardInterrupt()]  # the process ends right after the write
    with pytest.raises(KeyboardInterrupt):
        commands.write(COMMAND, 60)
    clock.now += timedelta(seconds=90)
    again = Commands(
        practice,
        journal,
        KillSwitch(tmp_path, journal),
        Hours.parse((), OFFICE),
        LockPatience(first_s=0.001, longest_s=0.01, total_s=0.05),
        clock,
    )
    clock.now += timedelta(seconds=50)
    with pytest.raises(OutcomeUnknown, match="not yet shown"):
        again.write(COMMAND, 60)
    assert practice.hidden == [COMMAND.ref]


def test_a_posting_that_never_showed_is_written_once_more(commands, practice, journal, clock):
    practice.posting_s = 100.0
    practice.trouble = [OutcomeUnknown("not shown yet")]
    with pytest.raises(OutcomeUnknown):
        commands.write(COMMAND, 60)
    practice.hidden.clear()
    clock.now += timedelta(seconds=101)
    assert commands.find(COMMAND) is None
    assert journal.entry(COMMAND).state is EntryState.RELEASED
    practice.posting_s = 0.0
    assert commands.write(COMMAND, 60).key == "1"


def test_what_was_only_taken_is_carried_out_after_a_restart_while_it_may(
    commands, practice, journal, clock
):
    journal.accept(COMMAND, NOW + timedelta(seconds=60))
    late = replace(COMMAND, ref="ref:BW-late")
    journal.accept(late, NOW + timedelta(seconds=10))
    clock.now += timedelta(seconds=30)
    assert commands.recover() == 0
    assert practice.landed == [COMMAND.ref]
    assert journal.entry(late).state is EntryState.RELEASED


def test_a_command_that_came_too_late_is_handed_back(commands, practice, journal):
    with pytest.raises(Retryable, match="waited too long"):
        commands.write(COMMAND, -5)
    assert journal.entry(COMMAND).state is EntryState.RELEASED
    assert practice.landed == []
    commands.write(COMMAND, 60)
    assert commands.write(COMMAND, -5).key == "1", "what is done is answered at any age"


def test_the_kill_switch_by_file_and_by_node(tmp_path, commands, practice, journal):
    switch = KillSwitch(tmp_path, journal)
    (tmp_path / "STOP").touch()
    with pytest.raises(Retryable, match="STOP"):
        commands.write(COMMAND, 60)
    (tmp_path / "STOP").unlink()
    switch.obey(True)
    with pytest.raises(Retryable, match="by the node"):
        commands.write(COMMAND, 60)
    with pytest.raises(Retryable):
        commands.find(COMMAND)
    assert practice.landed == []
    assert KillSwitch(tmp_path, journal).reason, "it outlives a restart"
    switch.obey(False)
    commands.write(COMMAND, 60)


def test_a_done_command_is_answered_even_when_stopped(tmp_path, commands):
    receipt = commands.write(COMMAND, 60)
    (tmp_path / "STOP").touch()
    assert commands.write(COMMAND, 60) == receipt


def test_hours_of_the_office_day():
    hours = Hours.parse(("12:00-13:00", "22:00-06:00"), OFFICE)

    def at(hour, minute=0):
        return datetime(2026, 1, 15, hour, minute, tzinfo=UTC) + timedelta(hours=5)

    assert [hours.are_open(at(hour)) for hour in (5, 6, 11, 12, 13, 21)] == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]
    assert hours.are_open(at(22))
    assert Hours.parse((), OFFICE).are_open(at(9))


@pytest.mark.parametrize("words", ["12-13", "25:00-26:00", "", "12:00", "noon-13:00"])
def test_hours_that_cannot_be_read(words):
    with pytest.raises(ConfigError, match="hours of the day"):
        Hours.parse((words,), OFFICE)


def test_outside_the_hours_nothing_is_written(tmp_path, journal, practice, clock):
    closed = Commands(
        practice,
        journal,
        KillSwitch(tmp_path, journal),
        Hours.parse(("22:00-23:00",), OFFICE),
        LockPatience(),
        clock,
    )
    with pytest.raises(Retryable, match="outside the hours"):
        closed.write(COMMAND, 60)
    assert practice.landed == []


def test_a_command_in_the_journal_is_sealed(journal, tmp_path, vault):
    journal.accept(replace(COMMAND, text="Quite private words"), NOW)
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("journal.sqlite*"))
    assert b"Quite private" not in raw
    (tmp_path / "vault.key").unlink()
    with pytest.raises(ConfigError, match="not the key"):
        Journal(tmp_path / "journal.sqlite", Vault(tmp_path / "vault.key"))


def test_notices_wait_until_the_node_has_them(journal):
    for _ in range(3):
        journal.note(NOW, "line", "The node does not answer")
    journal.note(NOW, "bug", "somewhere")
    first, second = journal.notices()
    assert (first.kind, first.count, second.words) == ("line", 3, "somewhere")
    journal.forget_notices(first.seq)
    assert [each.kind for each in journal.notices()] == ["bug"]


def test_snapshots_tell_what_is_new_changed_and_gone(warehouse):
    rows = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    assert warehouse.take(PEOPLE, rows, WINDOW, NOW).added == 2
    later = NOW + timedelta(minutes=1)
    taken = warehouse.take(PEOPLE, [{"id": 1, "name": "A"}], WINDOW, later)
    assert (taken.added, taken.changed, taken.gone) == (0, 1, 1)
    page = warehouse.page("person", "", 0, 10)
    assert [(row.key, row.is_gone, row.values["name"]) for row in page.rows] == [
        ("1", False, "A"),
        ("2", True, "b"),
    ]
    assert {row.changed_at for row in page.rows} == {later}
    quiet = warehouse.take(PEOPLE, [{"id": 1, "name": "A"}], WINDOW, later)
    assert (quiet.added, quiet.changed, quiet.gone) == (0, 0, 0)
    assert warehouse.page("person", page.epoch, page.seq, 10).rows == ()
    back = warehouse.take(PEOPLE, [{"id": 1, "name": "A"}, {"id": 2, "name": "b"}], WINDOW, later)
    assert back.added == 1


def test_pages_follow_a_cursor_and_a_new_copy_begins_anew(warehouse, tmp_path, vault):
    rows = [{"id": number, "name": "x"} for number in range(25)]
    warehouse.take(PEOPLE, rows, WINDOW, NOW)
    seen, epoch, after = [], "", 0
    while True:
        page = warehouse.page("person", epoch, after, 10)
        seen += [row.key for row in page.rows]
        epoch, after = page.epoch, page.seq
        if page.is_last:
            break
    assert sorted(seen, key=int) == [str(number) for number in range(25)]
    fresh = Warehouse(tmp_path / "other.sqlite", vault)
    fresh.take(PEOPLE, rows[:3], WINDOW, NOW)
    assert len(fresh.page("person", epoch, after, 10).rows) == 3
    fresh.close()


def test_rows_that_leave_the_window_of_days_are_no_deletions(warehouse):
    rows = [
        {"id": 1, "day": "2026-11-02", "what": "x"},
        {"id": 2, "day": "2026-11-20", "what": "y"},
    ]
    warehouse.take(VISITS, rows, WINDOW, NOW)
    moved = (date(2026, 11, 3), date(2027, 1, 2))
    taken = warehouse.take(VISITS, rows[1:], moved, NOW + timedelta(days=2))
    assert taken.gone == 0
    assert warehouse.counts() == {"visit": 1}


def test_a_table_that_loses_most_rows_is_looked_at_twice(warehouse):
    rows = [{"id": number, "name": "x"} for number in range(40)]
    warehouse.take(PEOPLE, rows, WINDOW, NOW)
    first = warehouse.take(PEOPLE, rows[:5], WINDOW, NOW)
    assert first.is_doubtful
    assert warehouse.counts() == {"person": 40}
    second = warehouse.take(PEOPLE, rows[:5], WINDOW, NOW)
    assert (second.is_doubtful, second.gone) == (False, 35)


def test_a_reading_that_breaks_changes_nothing(warehouse):
    warehouse.take(PEOPLE, [{"id": 1, "name": "a"}], WINDOW, NOW)

    def broken():
        yield {"id": 2, "name": "b"}
        raise Locked("locked")

    with pytest.raises(Locked):
        warehouse.take(PEOPLE, broken(), WINDOW, NOW)
    assert warehouse.counts() == {"person": 1}


def test_the_warehouse_is_sealed(warehouse, tmp_path):
    warehouse.take(PEOPLE, [{"id": 1, "name": "Rarename"}], WINDOW, NOW)
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("warehouse.sqlite*"))
    assert b"Rarename" not in raw


def test_a_document_travels_whole_and_damage_is_noticed():
    command = UploadDocument(
        "1", "a.pdf", ".pdf", b"\x00\xff" * 99, "Report", "AI", "Document", ("3",), NOW, COMMAND.ref
    )
    message = encode_command(command)
    assert decode_command(message) == command
    message["content"] = message["content"][:-8] + "AAAAAAA="
    with pytest.raises(InvalidInput):
        decode_command(message)


def test_writers_take_turns(commands, practice):
    each = [replace(COMMAND, ref=f"ref:BW-turn{number:04d}") for number in range(20)]
    threads = [threading.Thread(target=commands.write, args=(command, 60)) for command in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(practice.landed) == [command.ref for command in each]
