"""From appointments to worklist steps: lengths, stability, uniqueness, counts, local time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain import schedule
from node.domain.schedule import Station, Visit
from node.errors import InvalidInput

CHICAGO = ZoneInfo("America/Chicago")
KEYS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=64)
LOCATIONS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)
CODES = st.lists(
    st.sampled_from([*schedule.IMAGING_CODES, "D1110", "D0120", "d0274 ", "", "N4118"]), max_size=40
).map(tuple)
STATIONS = (
    Station("OP1", "SENSOR1", "IO"),
    Station("Room 2", "SENSOR2", "IO"),
    Station("pano room", "PANO", "PX"),
)


def visit(*cdt_codes: str, operatory: tuple[str, ...] = ("1", "OP1", "Operatory 1")) -> Visit:
    return Visit("main", "4711", datetime(2026, 11, 23, 15, 30, tzinfo=UTC), operatory, cdt_codes)


def plan(one: Visit):
    return schedule.steps_of(one, STATIONS, "SENSOR", CHICAGO)


@given(LOCATIONS, KEYS, CODES)
def test_every_text_obeys_its_attribute_and_never_changes(location, key, codes):
    one = Visit(location, key, datetime(2026, 3, 8, 9, tzinfo=UTC), ("OP1",), codes)
    steps = plan(one)
    assert steps == plan(one)
    assert steps
    accession = schedule.accession_number(location, key)
    assert accession == schedule.accession_number(location, key)
    for text in (accession, *(s.scheduled_procedure_step_id for s in steps)):
        assert 1 <= len(text) <= 16
        assert text.isascii()
        assert text.isalnum()
    uid = schedule.study_instance_uid(location, key)
    assert uid.startswith("2.25.")
    assert len(uid) <= 64
    assert not uid[5:].startswith("0")
    for step in steps:
        assert len(step.description) <= 64
        assert 1 <= len(step.station_ae_title) <= 16
        assert len(step.requested_procedure_id) <= 16
        assert len(step.cdt_code) <= 16
    assert len({step.modality for step in steps}) == len(steps)


@given(st.sets(st.tuples(LOCATIONS, KEYS), min_size=2, max_size=50))
def test_different_appointments_never_share_an_id(appointments):
    assert len({schedule.accession_number(*a) for a in appointments}) == len(appointments)
    assert len({schedule.study_instance_uid(*a) for a in appointments}) == len(appointments)
    steps = {
        schedule.scheduled_procedure_step_id(*a, modality)
        for a in appointments
        for modality in ("IO", "PX")
    }
    assert len(steps) == 2 * len(appointments)


def test_ids_are_the_ones_released_before():
    """A changed derivation would orphan every accession number already given to a sensor."""
    assert schedule.accession_number("main", "4711") == "BWFKKSKJJPRRKQ"
    assert schedule.study_instance_uid("main", "4711") == (
        "2.25.116223117251486969732885902228636822561"
    )


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (("D0274",), 4),
        (("D0272",), 2),
        (("D0273",), 3),
        (("D0270",), 1),
        (("D0277",), 7),
        (("D0210",), 18),
        (("D0220", "D0230", "D0230"), 3),
        (("D0274", "D0220"), 5),
        (("D0120", "D1110"), None),
    ],
)
def test_how_many_images_are_expected(codes, expected):
    (step,) = plan(visit(*codes))
    assert (step.modality, step.expected_images) == ("IO", expected)


def test_one_step_for_each_modality_in_one_study():
    bitewings, panoramic = plan(visit("D0274", "D0330", "D1110"))
    assert (bitewings.modality, panoramic.modality) == ("IO", "PX")
    assert (bitewings.station_ae_title, panoramic.station_ae_title) == ("SENSOR1", "PANO")
    assert bitewings.requested_procedure_id == panoramic.requested_procedure_id
    assert bitewings.scheduled_procedure_step_id != panoramic.scheduled_procedure_step_id
    assert (bitewings.description, bitewings.cdt_code) == ("4 bitewings", "D0274")
    assert panoramic.expected_images == 1


def test_an_appointment_without_an_imaging_code_stays_on_the_list():
    (step,) = plan(visit("D1110"))
    assert (step.modality, step.description, step.cdt_code) == ("IO", "Imaging as needed", "")


@pytest.mark.parametrize(
    ("operatory", "ae_title"),
    [(("1", "op1 "), "SENSOR1"), (("2", "OP2", "ROOM 2"), "SENSOR2"), ((), "SENSOR")],
)
def test_the_operatory_names_the_station(operatory, ae_title):
    (step,) = plan(visit("D0274", operatory=operatory))
    assert step.station_ae_title == ae_title


def test_what_does_not_fit_the_description_is_counted():
    (step,) = plan(visit("D0274", "D0220", "D0230", "D0240", "D0706", "D0707"))
    assert step.description.endswith("more")
    assert len(step.description) <= 64


@given(st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - Hypothesis adds the zone
def test_the_local_day_and_time_are_the_practices(moment):
    day, time = schedule.local_date_time(moment, CHICAGO)
    local = moment.astimezone(CHICAGO).replace(tzinfo=None, microsecond=0)
    assert datetime.strptime(day + time, "%Y%m%d%H%M%S") == local  # noqa: DTZ007 - wall clock


def test_the_clock_change_moves_the_wall_time_only():
    before = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    times = [schedule.local_date_time(before + timedelta(hours=h), CHICAGO) for h in range(4)]
    assert [time for _, time in times] == ["003000", "013000", "013000", "023000"]


def test_a_naive_start_is_refused():
    with pytest.raises(InvalidInput):
        Visit("main", "1", datetime(2026, 1, 1), (), ())  # noqa: DTZ001 - the point of the test
