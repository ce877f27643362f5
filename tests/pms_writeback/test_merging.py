"""Patients merged or renumbered in the practice's system, against the sandbox over HTTP."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from node.db.session import Actor, begin, new_id, read
from node.db.tables import appointment, audit, patient, pms_command, study
from node.domain.study import MatchState
from node.errors import Conflict, Unsupported
from pms_writeback import outbox
from pms_writeback.delivery import Patience
from pms_writeback.merging import (
    PatientMove,
    current_patient,
    merge_by_hand,
    move_patient,
    remaining,
)
from pms_writeback.opendental import OpenDental
from pms_writeback.outbox import queue, ref_for
from pms_writeback.pms import AppendCommlog
from pms_writeback.practice import open_pms
from pms_writeback.record_rows import read_records
from pms_writeback.records import RecordKind
from pms_writeback.sandbox.server import running
from pms_writeback.sandbox.service import ALL_PERMISSIONS
from pms_writeback.sync import ScheduleSync
from pms_writeback.warehouse import Warehouse

ACTOR = Actor("test", "main")


@pytest.fixture
def pms(config):
    pms = open_pms(config)
    yield pms
    pms.close()


def patient_row(db, key):
    with read(db) as conn:
        return conn.execute(sa.select(patient).where(patient.c.pms_key == key)).one()


def add_study(db, key):
    """A study that a person linked to the patient, as matched ones are."""
    row, study_id = patient_row(db, key), new_id()
    with begin(db, ACTOR, "test.study") as tx:
        tx.conn.execute(
            study.insert().values(
                id=study_id, location_id="main", study_instance_uid=f"1.2.3.{key}",
                state="signed", match_state=MatchState.MATCHED.value, patient_id=row.id,
                review_version=1, received_at=tx.now, last_image_at=tx.now,
            )
        )  # fmt: skip
    return study_id


def queue_note(db, engine, store, key, study_id, name="a note"):
    row = patient_row(db, key)
    with begin(db, ACTOR, "test.queue") as tx:
        ref = ref_for("main", name)
        command = AppendCommlog(key, f"{name} {ref}", datetime.now(UTC), ref)
        return queue(
            tx, engine, store, key=name, command=command, patient_id=row.id, study_id=study_id
        )


def command_row(db, command_id):
    with read(db) as conn:
        return conn.execute(sa.select(pms_command).where(pms_command.c.id == command_id)).one()


def test_a_merge_moves_our_links_and_says_so(database, office, config, pms, engine, store):
    db = database
    sync = ScheduleSync(db, pms, config)
    assert sync.run_once(datetime.now(UTC)).is_ok
    Warehouse(db, pms, config).run_once(datetime.now(UTC))
    study_id = add_study(db, "11")
    command_id = queue_note(db, engine, store, "11", study_id)
    with read(db) as conn:
        recalls = len(read_records(conn, "main", RecordKind.RECALL, patient_key="11"))
    office.merge_patients(11, 12)
    assert sync.run_once(datetime.now(UTC) + timedelta(minutes=1)).is_ok
    old, new = patient_row(db, "11"), patient_row(db, "12")
    assert (old.merged_into, old.tombstoned_at is None) == (new.id, False)
    with read(db) as conn:
        assert current_patient(conn, "main", old.id) == new.id
        assert conn.execute(sa.select(study.c.patient_id)).scalar_one() == new.id
        visits = conn.execute(
            sa.select(appointment.c.id).where(appointment.c.patient_id == old.id)
        ).all()
        moved = read_records(conn, "main", RecordKind.RECALL, patient_key="12")
        entry = conn.execute(sa.select(audit).where(audit.c.action == "pms.patient_merged")).one()
    assert visits == []
    assert recalls
    assert len(moved) >= 2 * recalls - 1
    assert (entry.subject, entry.detail["into"]) == (old.id, new.id)
    assert entry.detail["moved"]["study"] == 1
    row = command_row(db, command_id)
    assert (row.patient_id, row.payload["command"]["patient_key"]) == (new.id, "12")
    # Another look moves nothing more, and what is merged stays buried.
    assert sync.run_once(datetime.now(UTC) + timedelta(hours=2)).is_ok
    assert patient_row(db, "11").tombstoned_at is not None
    with read(db) as conn:
        merges = sa.select(sa.func.count()).where(audit.c.action == "pms.patient_merged")
        assert conn.execute(merges).scalar_one() == 1


def test_what_waits_for_a_merged_patient_lands_with_the_one_who_remains(
    sqlite_database, office, config, pms, engine, store
):
    db = sqlite_database
    sync = ScheduleSync(db, pms, config)
    sync.run_once(datetime.now(UTC))
    study_id = add_study(db, "11")
    office.fault("offline")
    outbox.register(engine, db, store, pms, config, Patience(0.05, 0.2, 0.0))
    command_id = queue_note(db, engine, store, "11", study_id)
    office.merge_patients(11, 12)
    office.fault("offline", on=False)
    sync.run_once(datetime.now(UTC) + timedelta(minutes=1))
    limit = time.monotonic() + 60
    while command_row(db, command_id).state in ("queued", "sending", "unknown"):
        assert time.monotonic() < limit
        time.sleep(0.05)
    row = command_row(db, command_id)
    if row.state == "failed":  # it was tried between the merge there and our look
        outbox.retry(db, engine, ACTOR, command_id)
    while command_row(db, command_id).state != "done":
        assert time.monotonic() < limit, command_row(db, command_id).error
        time.sleep(0.05)
    assert [row["PatNum"] for row in office.rows("commlogs") if "a note" in str(row["Note"])] == [
        12
    ]


def test_chains_and_merges_back_end_where_the_practice_ended():
    move = PatientMove
    assert remaining([move("1", "2"), move("2", "3")]) == {"1": "3", "2": "3"}
    assert remaining([move("1", "2"), move("2", "1")]) == {"2": "1"}
    assert remaining([move("1", "1")]) == {}


def test_every_old_number_leads_straight_to_who_remains(sqlite_database, office, config, pms):
    ScheduleSync(sqlite_database, pms, config).run_once(datetime.now(UTC))
    for move in (PatientMove("11", "12"), PatientMove("12", "13")):
        move_patient(sqlite_database, ACTOR, move, "test")
    last = patient_row(sqlite_database, "13").id
    assert {patient_row(sqlite_database, key).merged_into for key in ("11", "12")} == {last}


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=12))
def test_whoever_is_gone_leads_to_somebody_who_is_not(pairs):
    into = remaining([PatientMove(str(a), str(b)) for a, b in pairs])
    assert all(target not in into for target in into.values())


def test_a_merge_back_makes_the_first_number_alive_again(sqlite_database, office, config, pms):
    db = sqlite_database
    ScheduleSync(db, pms, config).run_once(datetime.now(UTC))
    add_study(db, "11")
    move_patient(db, ACTOR, PatientMove("11", "12"), "test")
    move_patient(db, ACTOR, PatientMove("12", "11"), "test")
    old, new = patient_row(db, "12"), patient_row(db, "11")
    assert (new.merged_into, new.tombstoned_at, old.merged_into) == (None, None, new.id)
    with read(db) as conn:
        assert conn.execute(sa.select(study.c.patient_id)).scalar_one() == new.id


def test_a_number_that_is_in_use_again_keeps_what_is_its_own(sqlite_database, office, config, pms):
    db, sync = sqlite_database, ScheduleSync(sqlite_database, pms, config)
    sync.run_once(datetime.now(UTC))
    add_study(db, "11")
    office.merge_patients(11, 12)
    office.change("patients", 11, PatStatus="Patient")
    assert ScheduleSync(db, pms, config).run_once(datetime.now(UTC)).is_ok
    row = patient_row(db, "11")
    assert (row.merged_into, row.tombstoned_at) == (None, None)
    with read(db) as conn:
        assert conn.execute(sa.select(study.c.patient_id)).scalar_one() == row.id


def test_without_the_permission_nobody_is_guessed(tmp_path, sqlite_database, configure, caplog):
    db = sqlite_database
    allowed = ALL_PERMISSIONS - {"Queries"}
    with running(tmp_path / "plain.sqlite", permissions=allowed) as office:
        config = configure(office)
        pms = open_pms(config)
        assert isinstance(pms, OpenDental)
        with pytest.raises(Unsupported):
            pms.merged_patients()
        sync = ScheduleSync(db, pms, config)
        sync.run_once(datetime.now(UTC))
        study_id = add_study(db, "11")
        office.merge_patients(11, 12)
        for minutes in (1, 2):
            assert sync.run_once(datetime.now(UTC) + timedelta(minutes=minutes)).is_ok
        assert len([each for each in caplog.records if "merges" in each.message]) == 1
        with read(db) as conn:
            owner = sa.select(study.c.patient_id).where(study.c.id == study_id)
            assert conn.execute(owner).scalar_one() == patient_row(db, "11").id
        # A person says it; somebody who is still active there is never moved.
        with pytest.raises(Conflict):
            merge_by_hand(db, pms, ACTOR, PatientMove("13", "12"), "by mistake")
        with pytest.raises(Conflict):
            merge_by_hand(db, pms, ACTOR, PatientMove("11", "999"), "a slip")
        moved = merge_by_hand(db, pms, ACTOR, PatientMove("11", "12"), "merged at the desk")
        assert moved["study"] == 1
        pms.close()
