"""Commands to the PMS: queued with their rows, delivered once, in order, honestly failed."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db.session import Actor, begin, read
from node.db.tables import event, patient, pms_command, study
from node.domain.study import MatchState
from node.errors import Conflict, InvalidInput, NotFound
from pms_writeback import outbox
from pms_writeback.command_rows import CommandState, Lane
from pms_writeback.delivery import ASK_A_PERSON, Delivery, Patience
from pms_writeback.pauses import read_pause
from pms_writeback.pms import (
    AppendCommlog,
    AppendProcedureNote,
    CloseTask,
    Command,
    CreateTask,
    UploadDocument,
)
from pms_writeback.practice import open_pms

QUICK = Patience(first_wait_s=0.05, longest_wait_s=0.2, grace_s=0.3)
WHEN = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
ACTOR = Actor("test", "main")


def commlog(case, key: str, text: str = "A signed finding.") -> Command:
    return AppendCommlog(case.patient_key, text, WHEN, outbox.ref_for("main", key))


def task(case, key: str) -> Command:
    return CreateTask(case.patient_key, "Please review.", outbox.ref_for("main", key))


def document(case, key: str, category: str = "AI Imaging") -> Command:
    return UploadDocument(
        patient_key=case.patient_key,
        filename="report.pdf",
        extension=".pdf",
        content=b"%PDF-1.4 report",
        description="Signed report",
        category=category,
        image_type="Document",
        tooth_numbers=("3",),
        created=WHEN,
        ref=outbox.ref_for("main", key),
    )


@pytest.fixture
def deliver(sqlite_database, engine, store, config):
    """Give a function that queues commands for the running engine to deliver."""
    pms = open_pms(config)
    outbox.register(engine, sqlite_database, store, pms, config, QUICK)

    def queue(case, *commands: tuple[str, Command]) -> list[str]:
        with begin(sqlite_database, ACTOR, "test.queued") as tx:
            return [
                outbox.queue(
                    tx,
                    engine,
                    store,
                    key=key,
                    command=command,
                    patient_id=case.patient_id,
                    study_id=case.study_id,
                    review_version=1,
                )
                for key, command in commands
            ]

    yield queue
    pms.close()


def row_of(db: sa.Engine, command_id: str):
    with read(db) as conn:
        return conn.execute(sa.select(pms_command).where(pms_command.c.id == command_id)).one()


def wait_for(db: sa.Engine, command_id: str, *states: str, deadline_s: float = 60.0):
    limit = time.monotonic() + deadline_s
    wanted = states or ("done", "failed", "held")
    while (row := row_of(db, command_id)).state not in wanted:
        assert time.monotonic() < limit, f"still {row.state}: {row.error}"
        time.sleep(0.02)
    return row


def kinds_of_events(db: sa.Engine, command_id: str) -> list[str]:
    with read(db) as conn:
        return list(
            conn.execute(
                sa.select(event.c.kind).where(event.c.subject == command_id).order_by(event.c.seq)
            ).scalars()
        )


# --- queueing ------------------------------------------------------------------------------------


def queue_one(tx, engine, store, case, key="k", command=None) -> str:
    return outbox.queue(
        tx,
        engine,
        store,
        key=key,
        command=command or document(case, key),
        patient_id=case.patient_id,
        study_id=case.study_id,
        review_version=1,
    )


def test_queueing_twice_leaves_one_command(database, engine, store, actor, add_case):
    case = add_case(database, "1")
    with begin(database, actor, "test") as tx:
        first = queue_one(tx, engine, store, case)
    with begin(database, actor, "test") as tx:
        assert queue_one(tx, engine, store, case) == first
    with read(database) as conn:
        rows = conn.execute(sa.select(pms_command)).all()
    assert [(row.id, row.state, row.kind) for row in rows] == [(first, "queued", "UploadDocument")]
    assert rows[0].ref == outbox.ref_for("main", "k")
    assert kinds_of_events(database, first) == ["pms.write_queued"]


def test_a_document_is_a_file_beside_the_row(sqlite_database, engine, store, actor, add_case):
    case = add_case(sqlite_database, "1")
    with begin(sqlite_database, actor, "test") as tx:
        command_id = queue_one(tx, engine, store, case)
    payload = row_of(sqlite_database, command_id).payload["command"]
    assert "content" not in payload
    assert "PDF" not in str(payload)
    with store.open(payload["storage_key"]) as file:
        assert file.read() == b"%PDF-1.4 report"


def test_a_transaction_that_fails_leaves_no_command(
    sqlite_database, engine, store, actor, add_case
):
    case = add_case(sqlite_database, "1")

    def queue_and_fail() -> None:
        with begin(sqlite_database, actor, "test") as tx:
            queue_one(tx, engine, store, case)
            raise KeyError

    with pytest.raises(KeyError):
        queue_and_fail()
    with read(sqlite_database) as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(pms_command)).scalar() == 0
    assert engine.counts()["ENQUEUED"] == 0


def test_a_command_for_another_patient_is_refused(sqlite_database, engine, store, actor, add_case):
    case, other = add_case(sqlite_database, "1"), add_case(sqlite_database, "2")
    with pytest.raises(InvalidInput), begin(sqlite_database, actor, "test") as tx:
        queue_one(tx, engine, store, case, command=task(other, "k"))
    elsewhere = Actor("test", "elsewhere")
    with pytest.raises(InvalidInput), begin(sqlite_database, elsewhere, "test") as tx:
        queue_one(tx, engine, store, case)


def test_a_command_with_a_foreign_token_is_refused(sqlite_database, engine, store, actor, add_case):
    case = add_case(sqlite_database, "1")
    with pytest.raises(InvalidInput), begin(sqlite_database, actor, "test") as tx:
        queue_one(tx, engine, store, case, key="k", command=task(case, "another key"))


def test_tokens_follow_from_location_and_key():
    assert outbox.ref_for("main", "k") == outbox.ref_for("main", "k")
    assert len({outbox.ref_for(a, b) for a in "abc" for b in "def"}) == 9
    assert len(outbox.ref_for("main", "x" * 128)) <= 32


# --- delivery ------------------------------------------------------------------------------------


def test_every_kind_of_command_lands_and_its_receipt_is_kept(
    sqlite_database, office, deliver, add_case
):
    case = add_case(sqlite_database, "1")
    procedure = next(
        str(row["ProcNum"]) for row in office.rows("procedurelogs") if row["PatNum"] == 1
    )
    note = AppendProcedureNote("1", procedure, "Signed.", outbox.ref_for("main", "note"))
    closing = CloseTask("1", outbox.ref_for("main", "task"))
    ids = deliver(
        case,
        ("task", task(case, "task")),
        ("note", note),
        ("commlog", commlog(case, "commlog")),
        ("document", document(case, "document")),
        ("closing", closing),
    )
    rows = [wait_for(sqlite_database, command_id) for command_id in ids]
    assert [row.state for row in rows] == ["done"] * 5, [row.error for row in rows]
    resources = [row.receipt["resource"] for row in rows]
    assert resources == ["tasks", "procnotes", "commlogs", "documents", "tasks"]
    assert office.document(int(rows[3].receipt["key"])) == b"%PDF-1.4 report"
    assert [row["TaskStatus"] for row in office.rows("tasks")] == ["Done"]
    for command_id in ids:
        assert kinds_of_events(sqlite_database, command_id) == [
            "pms.write_queued",
            "pms.write_done",
        ]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "commit_then_drop"},
        {"kind": "drop_before_commit"},
        {"kind": "status_after_commit", "status": 504},
        {"kind": "status", "status": 503, "count": 2},
        {"kind": "status", "status": 429, "count": 2},
        {"kind": "status", "status": 504},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
)
def test_a_broken_wire_gives_one_record(sqlite_database, office, deliver, add_case, fault):
    case = add_case(sqlite_database, "1")
    office.fault(**fault, methods=("POST",))
    (command_id,) = deliver(case, ("k", commlog(case, "k")))
    row = wait_for(sqlite_database, command_id)
    assert (row.state, row.error) == ("done", "")
    assert len(office.rows("commlogs")) == 1


def test_a_practice_that_is_away_is_waited_for(sqlite_database, office, deliver, add_case):
    case = add_case(sqlite_database, "1")
    office.fault("offline")
    (command_id,) = deliver(case, ("k", commlog(case, "k")))
    limit = time.monotonic() + 60
    while row_of(sqlite_database, command_id).attempts < 2:
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert row_of(sqlite_database, command_id).state == "queued"
    office.fault("offline", on=False)
    assert wait_for(sqlite_database, command_id).state == "done"
    assert len(office.rows("commlogs")) == 1


def test_two_lost_answers_without_a_trace_are_for_a_person(
    sqlite_database, office, deliver, add_case, engine
):
    case = add_case(sqlite_database, "1")
    office.fault("drop_before_commit", count=2, methods=("POST",))
    (command_id,) = deliver(case, ("k", commlog(case, "k")))
    row = wait_for(sqlite_database, command_id)
    assert (row.state, row.error) == ("failed", ASK_A_PERSON)
    assert kinds_of_events(sqlite_database, command_id)[-1] == "pms.write_failed"
    assert office.rows("commlogs") == []
    outbox.retry(sqlite_database, engine, ACTOR, command_id)
    assert wait_for(sqlite_database, command_id, "done").error == ""
    assert len(office.rows("commlogs")) == 1


def test_a_refused_command_says_why_and_holds_nobody_up(
    sqlite_database, office, deliver, add_case, engine
):
    case = add_case(sqlite_database, "1")
    refused, following = deliver(
        case, ("bad", document(case, "bad", "No such category")), ("good", commlog(case, "good"))
    )
    assert wait_for(sqlite_database, following).state == "done"
    row = row_of(sqlite_database, refused)
    assert row.state == "failed"
    assert "No such category" in row.error
    assert kinds_of_events(sqlite_database, refused)[-1] == "pms.write_failed"
    office.add("definitions", Category=18, ItemName="No such category", ItemValue="X")
    # The adapter remembers the categories for a while: a person may have to press twice.
    outbox.retry(sqlite_database, engine, ACTOR, refused)
    assert wait_for(sqlite_database, refused).state in ("done", "failed")


def test_only_a_failed_command_can_be_retried(sqlite_database, office, deliver, add_case, engine):
    case = add_case(sqlite_database, "1")
    (command_id,) = deliver(case, ("k", commlog(case, "k")))
    wait_for(sqlite_database, command_id, "done")
    with pytest.raises(Conflict):
        outbox.retry(sqlite_database, engine, ACTOR, command_id)
    with pytest.raises(NotFound):
        outbox.retry(sqlite_database, engine, Actor("test", "elsewhere"), command_id)


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"match_state": MatchState.AMBIGUOUS.value}, "held"),
        ({"match_state": MatchState.SUGGESTED.value}, "held"),
        ({"patient_id": "other"}, "failed"),
    ],
)
def test_a_study_that_is_no_longer_theirs_is_not_written(
    sqlite_database, office, deliver, add_case, engine, values, state
):
    case, other = add_case(sqlite_database, "1"), add_case(sqlite_database, "2")
    if "patient_id" in values:
        values = {"patient_id": other.patient_id}
    with begin(sqlite_database, ACTOR, "test.relinked") as tx:
        tx.conn.execute(study.update().where(study.c.id == case.study_id).values(values))
    (command_id,) = deliver(case, ("k", commlog(case, "k")))
    row = wait_for(sqlite_database, command_id)
    assert row.state == state
    assert row.error
    assert office.rows("commlogs") == []
    with begin(sqlite_database, ACTOR, "test.linked") as tx:
        tx.conn.execute(
            study.update()
            .where(study.c.id == case.study_id)
            .values(match_state=MatchState.LINKED.value, patient_id=case.patient_id)
        )
    outbox.retry(sqlite_database, engine, ACTOR, command_id)
    assert wait_for(sqlite_database, command_id, "done")
    assert len(office.rows("commlogs")) == 1


def test_a_deleted_patient_is_not_written(sqlite_database, office, deliver, add_case):
    case = add_case(sqlite_database, "1")
    with begin(sqlite_database, ACTOR, "test.deleted") as tx:
        tx.conn.execute(
            patient.update().where(patient.c.id == case.patient_id).values(tombstoned_at=tx.now)
        )
    (command_id,) = deliver(case, ("k", commlog(case, "k")))
    assert wait_for(sqlite_database, command_id).state == "failed"
    assert office.rows("commlogs") == []


def test_a_changed_document_is_not_filed(sqlite_database, office, deliver, add_case, store):
    case = add_case(sqlite_database, "1")
    office.fault("offline")
    (command_id,) = deliver(case, ("k", document(case, "k")))
    key = row_of(sqlite_database, command_id).payload["command"]["storage_key"]
    store.path(key).write_bytes(b"%PDF-1.4 tampered")
    office.fault("offline", on=False)
    row = wait_for(sqlite_database, command_id)
    assert row.state == "failed"
    assert "changed" in row.error
    assert office.rows("documents") == []


def test_one_patients_trouble_does_not_hold_the_others_up(
    sqlite_database, office, deliver, add_case
):
    stuck, other = add_case(sqlite_database, "1"), add_case(sqlite_database, "2")
    office.fault("status", status=503, count=10_000, methods=("POST",), path="/api/v1/tasks")
    office.fault("status", status=503, count=10_000, methods=("POST",), path="/tasks")
    first, second = deliver(stuck, ("t", task(stuck, "t")), ("c", commlog(stuck, "c")))
    (others,) = deliver(other, ("o", commlog(other, "o")))
    assert wait_for(sqlite_database, others).state == "done"
    assert row_of(sqlite_database, second).state == "queued"
    office.fault("clear")
    assert wait_for(sqlite_database, first).state == "done"
    assert wait_for(sqlite_database, second).state == "done"


def test_held_commands_go_on_when_the_study_is_linked_again(
    sqlite_database, office, deliver, add_case, engine
):
    case = add_case(sqlite_database, "1")
    this = study.c.id == case.study_id
    with begin(sqlite_database, ACTOR, "test.unlinked") as tx:
        values = {"match_state": MatchState.UNMATCHED.value, "patient_id": None}
        tx.conn.execute(study.update().where(this).values(values))
    ids = deliver(case, ("a", commlog(case, "a", "First.")), ("b", commlog(case, "b", "Second.")))
    assert [wait_for(sqlite_database, each).state for each in ids] == ["held", "held"]
    assert outbox.resume(sqlite_database, engine, ACTOR) == 0
    with begin(sqlite_database, ACTOR, "test.linked") as tx:
        values = {"match_state": MatchState.LINKED.value, "patient_id": case.patient_id}
        tx.conn.execute(study.update().where(this).values(values))
    assert outbox.resume(sqlite_database, engine, ACTOR) == 2
    assert [wait_for(sqlite_database, each, "done").error for each in ids] == ["", ""]
    assert [row["Note"].split(".")[0] for row in office.rows("commlogs")] == ["First", "Second"]


def test_both_databases_deliver(database, engine, store, config, add_case, office):
    case, other = add_case(database, "1"), add_case(database, "2")
    pms = open_pms(config)
    outbox.register(engine, database, store, pms, config, QUICK)
    office.fault("commit_then_drop", methods=("POST",))
    with begin(database, ACTOR, "test") as tx:
        ids = [
            queue_one(tx, engine, store, each, key=key, command=commlog(each, key))
            for each, key in ((case, "a"), (case, "b"), (other, "c"))
        ]
    assert [wait_for(database, each).state for each in ids] == ["done"] * 3
    assert len(office.rows("commlogs")) == 3
    pms.close()


def test_a_lost_run_is_given_back(sqlite_database, engine, store, config, add_case, office):
    """A database restored without the engine's tables still has its commands."""
    case = add_case(sqlite_database, "1")
    with begin(sqlite_database, ACTOR, "test") as tx:
        command_id = queue_one(tx, engine, store, case)
        tx.conn.exec_driver_sql("DELETE FROM workflow_status")
    pms = open_pms(config)
    outbox.register(engine, sqlite_database, store, pms, config, QUICK)
    assert outbox.resume(sqlite_database, engine, ACTOR) == 1
    assert wait_for(sqlite_database, command_id).state == "done"
    assert outbox.resume(sqlite_database, engine, ACTOR) == 0
    pms.close()


def test_states_are_the_documented_ones():
    assert {state.value for state in CommandState} == {
        *("queued", "sending", "unknown", "done", "failed", "held", "declined", "withdrawn")
    }


# --- lanes and an office that is away ------------------------------------------------------------


def _refs(office) -> list[str]:
    return [row["Note"].rsplit(" ", 1)[-1] for row in office.rows("commlogs")]


def _lane_of(db: sa.Engine, command_id: str) -> int:
    with read(db) as conn:
        query = sa.select(pms_command.c.lane).where(pms_command.c.id == command_id)
        return conn.execute(query).scalar_one()


def test_the_urgent_lane_goes_first_and_each_patient_keeps_its_order(
    database, engine, store, config, add_case, office
):
    """Everything is queued at once, the least urgent first."""
    pms = open_pms(config)
    outbox.register(engine, database, store, pms, config, QUICK)
    cases = {key: add_case(database, key) for key in ("1", "2", "3")}
    plan = [
        ("old film", "1", Lane.BACKFILL),
        ("older film", "2", Lane.BACKFILL),
        ("flag", "3", Lane.WORKFLOW),
        ("signed", "2", Lane.INTERACTIVE),  # takes the older film of its patient along
    ]
    with begin(database, ACTOR, "test") as tx:
        ids = {
            key: outbox.queue(
                tx,
                engine,
                store,
                key=key,
                command=commlog(cases[owner], key),
                patient_id=cases[owner].patient_id,
                lane=lane,
            )
            for key, owner, lane in plan
        }
    assert _lane_of(database, ids["older film"]) == Lane.INTERACTIVE
    assert _lane_of(database, ids["old film"]) == Lane.BACKFILL
    for command_id in ids.values():
        assert wait_for(database, command_id).state == "done"
    in_order = ["older film", "signed", "flag", "old film"]
    assert _refs(office) == [outbox.ref_for("main", key) for key in in_order]
    pms.close()


def test_an_office_that_is_away_is_asked_once_for_all_its_commands(
    sqlite_database, engine, store, config, add_case, office
):
    cases = [add_case(sqlite_database, str(number)) for number in range(1, 9)]
    pms = open_pms(config)
    pms.capabilities()
    office.fault("status", status=429, seconds=1, methods=("GET",), path="/commlogs")
    patience = Patience(first_wait_s=0.4, longest_wait_s=5.0, grace_s=0.3)
    outbox.register(engine, sqlite_database, store, pms, config, patience)
    with begin(sqlite_database, ACTOR, "test") as tx:
        ids = [
            queue_one(tx, engine, store, case, key=str(number), command=commlog(case, str(number)))
            for number, case in enumerate(cases)
        ]
    for command_id in ids:
        assert wait_for(sqlite_database, command_id).state == "done"
    assert sum(entry.status == 429 for entry in office.log()) == 1
    assert sorted(_refs(office)) == sorted(outbox.ref_for("main", str(n)) for n in range(8))
    with read(sqlite_database) as conn:
        assert read_pause(conn, "main") is None, "it answered"
    pms.close()


def test_a_pause_of_the_office_outlives_the_node(database, engine, store, config, add_case, office):
    first, second = add_case(database, "1"), add_case(database, "2")
    with begin(database, ACTOR, "test") as tx:
        ids = [
            queue_one(tx, engine, store, case, key=case.patient_key, command=commlog(case, key))
            for case, key in ((first, "1"), (second, "2"))
        ]
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def delivery(pms):
        return Delivery(database, engine, store, pms, "main", Patience(), lambda: now)

    with closing(open_pms(config)) as pms:
        office.fault("status", status=429, seconds=120, methods=("GET",), path="/commlogs")
        assert delivery(pms).run(ids[0], 0) == "queued"
    asked = len(office.log())
    with closing(open_pms(config)) as pms:
        assert delivery(pms).run(ids[1], 0) == "queued"
        assert len(office.log()) == asked, "nothing was sent while the office rests"
        now += timedelta(seconds=121)
        assert delivery(pms).run(ids[1], 1) == "done"
    assert "429" in row_of(database, ids[0]).error


def test_a_locked_record_holds_up_its_own_patient_only(sqlite_database, office, deliver, add_case):
    stuck, other = add_case(sqlite_database, "1"), add_case(sqlite_database, "2")
    text = "Lock wait timeout exceeded; try restarting transaction"
    office.fault("status", status=423, text=text, count=3, methods=("POST",), path="/tasks")
    first, second = deliver(stuck, ("t", task(stuck, "t")), ("c", commlog(stuck, "c")))
    (others,) = deliver(other, ("o", commlog(other, "o")))
    for command_id in (first, second, others):
        assert wait_for(sqlite_database, command_id).state == "done"
    with read(sqlite_database) as conn:
        assert read_pause(conn, "main") is None, "one record is no office"
    assert len(office.rows("tasks")) == 1
