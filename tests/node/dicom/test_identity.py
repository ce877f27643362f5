"""Whose study it is: certain, doubtful, or nobody's."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from node.config import read_config
from node.db.session import Actor, begin, read
from node.db.tables import event, patient, study, study_identity
from node.dicom.identity import (
    Candidate,
    Key,
    SenderIdentity,
    candidates,
    decide,
    link_study,
    match_study,
)
from node.domain.study import MatchState
from node.errors import Conflict, NotFound

BORN = date(1980, 1, 2)
JANE = SenderIdentity("doe^jane", BORN)


def config_of(location_id: str = "main", **dicom: object):
    return read_config(
        None,
        {},
        {"node": {"location_id": location_id, "time_zone": "America/Chicago"}, "dicom": dicom},
    )


# --- the rule, pure ------------------------------------------------------------------------------


def candidate(key: Key, patient_id: str = "p1", **more: object) -> Candidate:
    values: dict[str, object] = {
        "name_key": "doe^jane",
        "birth_date": BORN,
        "pms_key": "17",
        "appointment_id": None,
    }
    return Candidate(key, patient_id, **(values | more))


@pytest.mark.parametrize("key", [Key.ACCESSION, Key.STUDY_UID, Key.PATIENT_ID])
def test_a_key_with_name_and_birth_date_is_a_match(key):
    outcome = decide([candidate(key), candidate(Key.NAME)], JANE)
    assert (outcome.state, outcome.patient_id) == (MatchState.MATCHED, "p1")


@pytest.mark.parametrize(
    "wrong", [{"name_key": "roe^jane"}, {"birth_date": date(1980, 1, 3)}, {"birth_date": None}]
)
def test_a_key_whose_patient_differs_is_for_a_person(wrong):
    outcome = decide([candidate(Key.ACCESSION, **wrong)], JANE)
    assert (outcome.state, outcome.patient_id) == (MatchState.AMBIGUOUS, None)
    assert "accession number is known" in outcome.reason


def test_keys_that_contradict_each_other_are_ambiguous():
    found = [candidate(Key.ACCESSION), candidate(Key.PATIENT_ID, "p2")]
    assert decide(found, JANE).state is MatchState.AMBIGUOUS


def test_keys_that_name_two_visits_are_ambiguous():
    found = [
        candidate(Key.ACCESSION, appointment_id="a1"),
        candidate(Key.STUDY_UID, appointment_id="a2"),
    ]
    assert decide(found, JANE).state is MatchState.AMBIGUOUS


def test_a_key_against_the_name_of_another_patient_is_ambiguous():
    found = [candidate(Key.PATIENT_ID, name_key="roe^ann"), candidate(Key.NAME, "p2")]
    outcome = decide(found, JANE)
    assert (outcome.state, outcome.patient_id) == (MatchState.AMBIGUOUS, None)


def test_name_and_birth_date_alone_are_a_suggestion():
    outcome = decide([candidate(Key.NAME)], JANE)
    assert (outcome.state, outcome.patient_id) == (MatchState.SUGGESTED, None)
    outcome = decide([candidate(Key.NAME, appointment_id="a1")], JANE)
    assert "appointment that day" in outcome.reason


def test_two_people_of_one_name_and_birth_date_are_ambiguous():
    found = [candidate(Key.NAME), candidate(Key.NAME, "p2")]
    assert decide(found, JANE).state is MatchState.AMBIGUOUS


@pytest.mark.parametrize("name_key", ["^", "doe^", "^jane"])
def test_without_a_whole_name_nobody_is_matched(name_key):
    identity = replace(JANE, name_key=name_key)
    found = [candidate(Key.ACCESSION, name_key=name_key)]
    assert decide(found, identity).state is MatchState.UNMATCHED


CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.sampled_from(list(Key)),
        st.sampled_from(["p1", "p2", "p3"]),
        name_key=st.sampled_from(["doe^jane", "roe^ann"]),
        birth_date=st.sampled_from([BORN, date(1999, 9, 9), None]),
        appointment_id=st.sampled_from([None, "a1", "a2"]),
    ),
    max_size=5,
)


@given(CANDIDATES)
def test_only_agreement_of_everything_is_certain(found):
    outcome = decide(found, JANE)
    keyed = [c for c in found if c.key is not Key.NAME]
    if outcome.state is MatchState.MATCHED:
        assert {c.patient_id for c in keyed} == {outcome.patient_id}
        first = min(keyed, key=lambda c: c.key)
        assert (first.name_key, first.birth_date) == ("doe^jane", BORN)
    else:
        assert outcome.patient_id is None
        assert outcome.appointment_id is None


@given(CANDIDATES)
def test_the_order_of_candidates_does_not_matter(found):
    states = {decide(order, JANE).state for order in itertools.permutations(found[:4])}
    if len({(c.patient_id, c.name_key, c.birth_date) for c in found[:4]}) == len(
        {c.patient_id for c in found[:4]}
    ):
        assert len(states) == 1


# --- against the tables --------------------------------------------------------------------------


@pytest.fixture
def arrive(practice):
    """Make a study as the receiver would."""

    def make(name: str = "Doe^Jane", born: str = "19800102", where=practice, **more: object) -> str:
        identity = {
            "patient_id_text": more.pop("number", ""),
            "issuer_of_patient_id": more.pop("issuer", ""),
        }
        values: dict[str, object] = {
            "study_instance_uid": f"1.2.{id(more)}",
            "study_date": "20261122",
            "state": "receiving",
            "match_state": "pending",
            "received_at": datetime.now(UTC),
            "last_image_at": datetime.now(UTC),
        }
        study_id = where.insert(study, **(values | more))
        where.insert(
            study_identity, study_id=study_id, patient_name=name, birth_date=born, **identity
        )
        return study_id

    return make


@pytest.fixture
def run_match(practice):
    def run(study_id: str, location_id: str = "main", **dicom: object):
        with begin(practice.db, Actor("identity", location_id), "study.matched") as tx:
            return match_study(tx, study_id, config_of(location_id, **dicom))

    return run


def row(practice, study_id: str):
    with read(practice.db) as conn:
        return conn.execute(sa.select(study).where(study.c.id == study_id)).one()


def kinds(practice) -> list[str]:
    with read(practice.db) as conn:
        return list(conn.execute(sa.select(event.c.kind)).scalars())


def test_an_accession_number_finds_patient_and_visit(database, practice, arrive, run_match):
    patient_id = practice.patient()
    visit = practice.appointment(patient_id, accession_number="ACC1")
    study_id = arrive(accession_number="ACC1", name="DOE^JANE^Q")
    for _ in range(2):  # again: no further effect
        assert run_match(study_id).state is MatchState.MATCHED
    found = row(practice, study_id)
    assert (found.match_state, found.patient_id, found.appointment_id) == (
        "matched",
        patient_id,
        visit,
    )
    assert kinds(practice) == ["study.matched"]


def test_a_worklist_study_uid_finds_patient_and_visit(practice, arrive, run_match):
    visit = practice.appointment(practice.patient(), study_instance_uid="2.25.99")
    outcome = run_match(arrive(study_instance_uid="2.25.99"))
    assert (outcome.state, outcome.appointment_id) == (MatchState.MATCHED, visit)


@pytest.mark.parametrize(
    ("number", "issuer", "own_issuer", "state"),
    [
        ("17", "", "", MatchState.MATCHED),
        ("0017", "", "", MatchState.MATCHED),
        ("17", "PRACTICE", "PRACTICE", MatchState.MATCHED),
        ("17", "", "PRACTICE", MatchState.MATCHED),
        ("17", "HOSPITAL", "PRACTICE", MatchState.SUGGESTED),
        ("18", "", "", MatchState.SUGGESTED),
        ("", "", "", MatchState.SUGGESTED),
        ("0000", "", "", MatchState.SUGGESTED),
    ],
)
def test_a_patient_id_counts_with_its_issuer(
    practice, arrive, run_match, number, issuer, own_issuer, state
):
    practice.patient(number="17")
    study_id = arrive(number=number, issuer=issuer)
    assert run_match(study_id, issuer_of_patient_id=own_issuer).state is state


def test_two_numbers_alike_but_for_zeros_are_ambiguous(practice, arrive, run_match):
    practice.patient(number="017")
    practice.patient(number="17")
    study_id = arrive(number="0017")
    assert run_match(study_id).state is MatchState.AMBIGUOUS


def test_the_visit_of_that_day_is_found_in_the_practices_own_time(practice, arrive, run_match):
    patient_id = practice.patient()
    evening = datetime(2026, 11, 23, 0, 30, tzinfo=UTC)  # 18:30 on the 22nd in Chicago
    visit = practice.appointment(patient_id, evening)
    practice.appointment(patient_id, datetime(2026, 11, 24, 15, tzinfo=UTC))
    assert run_match(arrive(number="17")).appointment_id == visit


def test_two_visits_that_day_are_left_open(practice, arrive, run_match):
    patient_id = practice.patient()
    for hour in (15, 20):
        practice.appointment(patient_id, datetime(2026, 11, 22, hour, tzinfo=UTC))
    outcome = run_match(arrive(number="17"))
    assert (outcome.state, outcome.appointment_id) == (MatchState.MATCHED, None)


def test_a_renumbered_patient_is_not_the_old_one(practice, arrive, run_match):
    practice.patient("Roe", "Ann", number="17")
    practice.patient("Doe", "Jane", number="18")
    outcome = run_match(arrive(number="17"))
    assert (outcome.state, outcome.patient_id) == (MatchState.AMBIGUOUS, None)


def test_the_number_of_a_merged_patient_leads_to_who_remains(practice, arrive, run_match):
    old = practice.patient("Doe", "J", number="17")
    kept = practice.patient(number="18")
    with begin(practice.db, Actor("test", "main"), "test.merge") as tx:
        was = patient.update().where(patient.c.id == old)
        tx.conn.execute(was.values(merged_into=kept, tombstoned_at=tx.now))
    outcome = run_match(arrive(number="17"))
    assert (outcome.state, outcome.patient_id) == (MatchState.MATCHED, kept)


def test_a_gone_patient_is_nobody(practice, arrive, run_match):
    practice.patient(gone=datetime.now(UTC))
    assert run_match(arrive(number="17")).state is MatchState.UNMATCHED


def test_two_locations_never_leak(practice, other_practice, arrive, run_match):
    other = other_practice.patient()
    other_practice.appointment(other, accession_number="ACC1", study_instance_uid="2.25.5")
    here = arrive(number="17", accession_number="ACC1", study_instance_uid="2.25.5")
    assert run_match(here).state is MatchState.UNMATCHED
    with read(practice.db) as conn:
        assert candidates(conn, here, config_of()) == ()
    with pytest.raises(NotFound):
        run_match(here, "north")
    with pytest.raises(NotFound), read(practice.db) as conn:
        candidates(conn, here, config_of("north"))
    with pytest.raises(NotFound):
        link_study(practice.db, Actor("u1", "main"), here, other, config_of())
    with pytest.raises(NotFound):
        link_study(practice.db, Actor("u1", "north"), here, other, config_of("north"))
    there = arrive(where=other_practice, number="17")
    assert run_match(there, "north").patient_id == other


def test_candidates_are_offered_best_first(practice, arrive):
    twin = practice.patient("Doe", "Jane", date(1999, 9, 9), "20")
    cousin = practice.patient("Roe", "Ann", BORN, "21")
    right = practice.patient(number="17")
    practice.patient("Poe", "Edgar", date(1809, 1, 19), "22")
    visit = practice.appointment(right)
    study_id = arrive(number="17")
    with read(practice.db) as conn:
        found = candidates(conn, study_id, config_of())
    assert found[0].patient_id == right
    assert found[0].reason.startswith("patient ID; name and birth date")
    assert found[0].appointment_id == visit
    assert {c.patient_id for c in found} == {right, twin, cousin}


def test_a_person_links_a_study_once(database, practice, arrive, run_match):
    patient_id = practice.patient(number="99", born=None)
    study_id = arrive()
    assert run_match(study_id).state is MatchState.UNMATCHED
    for _ in range(2):
        link_study(practice.db, Actor("u1", "main"), study_id, patient_id, config_of())
    found = row(practice, study_id)
    assert (found.match_state, found.patient_id) == ("linked", patient_id)
    assert kinds(practice) == ["study.matched"]
    assert run_match(study_id).state is MatchState.LINKED  # the machine does not know better


def test_a_wrong_link_can_be_mended_until_it_is_signed(practice, arrive):
    first, second = practice.patient(number="1"), practice.patient("Roe", "Ann", number="2")
    study_id = arrive()
    actor = Actor("u1", "main")
    for patient_id in (first, second, first):
        link_study(practice.db, actor, study_id, patient_id, config_of())
    assert kinds(practice).count("study.matched") == 3
    with begin(practice.db, actor, "test") as tx:
        tx.conn.execute(study.update().values(review_version=1, state="signed"))
    with pytest.raises(Conflict):
        link_study(practice.db, actor, study_id, second, config_of())
    assert row(practice, study_id).patient_id == first


def test_a_signed_match_stands_when_the_pms_changes(practice, arrive, run_match):
    patient_id = practice.patient()
    study_id = arrive(number="17")
    run_match(study_id)
    with begin(practice.db, Actor("test", "main"), "test") as tx:
        tx.conn.execute(study.update().values(review_version=1))
        tx.conn.execute(sa.text("UPDATE patient_identity SET name_key = 'roe^jane'"))
    assert run_match(study_id).patient_id == patient_id


def test_a_match_that_no_longer_holds_goes_back_to_a_person(practice, arrive, run_match):
    practice.patient()
    study_id = arrive(number="17")
    run_match(study_id)
    with begin(practice.db, Actor("test", "main"), "test") as tx:
        tx.conn.execute(sa.text("UPDATE patient_identity SET name_key = 'roe^jane'"))
    assert run_match(study_id).state is MatchState.AMBIGUOUS
    assert row(practice, study_id).patient_id is None
