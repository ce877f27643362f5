"""What every Open Dental office must do for us: the sandbox, and a live test database by its keys.

Set ``BITEWING_OD_LIVE_URL``, ``…_DEVELOPER_KEY`` and ``…_CUSTOMER_KEY`` to run it there as well;
writes are tried only with ``…_PATIENT``, the number of a test patient (docs/open-dental.md).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from node.errors import ConfigError, NotFound, Unsupported
from pms_writeback.opendental import OpenDental, OpenDentalSettings
from pms_writeback.pms import (
    AppendCommlog,
    Command,
    CreateTask,
    Receipt,
    Support,
    UploadDocument,
)
from pms_writeback.sandbox.server import running

_LIVE = "BITEWING_OD_LIVE_"


@dataclass(frozen=True)
class Office:
    """An office under test, and the patient that may be written to; empty: nobody."""

    settings: OpenDentalSettings
    patient_key: str
    category: str
    is_sandbox: bool


def live(name: str, default: str = "") -> str:
    return os.environ.get(f"{_LIVE}{name}", default)


@pytest.fixture(scope="module", params=["sandbox", "live"])
def office(request, tmp_path_factory) -> Iterator[Office]:
    if request.param == "live":
        if not live("URL"):
            pytest.skip(f"{_LIVE}URL and its keys are not set")
        settings = OpenDentalSettings(
            base_url=live("URL"),
            developer_key=live("DEVELOPER_KEY"),
            customer_key=live("CUSTOMER_KEY"),
            time_zone=live("TIME_ZONE", "America/Los_Angeles"),
            task_list=live("TASK_LIST"),
            task_user=live("TASK_USER"),
            min_interval_s=float(live("INTERVAL_S", "1.0")),
        )
        yield Office(settings, live("PATIENT"), live("CATEGORY", "AI Imaging"), False)
        return
    with running(tmp_path_factory.mktemp("contract") / "pms.sqlite") as sandbox:
        settings = OpenDentalSettings(
            base_url=sandbox.url,
            developer_key=sandbox.developer_key,
            customer_key=sandbox.customer_key,
            time_zone="America/New_York",
            task_list="AI Imaging Review",
            task_user="bitewing",
        )
        yield Office(settings, "1", "AI Imaging", True)


@pytest.fixture(scope="module")
def pms(office) -> Iterator[OpenDental]:
    with closing(OpenDental(office.settings)) as opened:
        yield opened


@pytest.fixture
def ref() -> str:
    return f"ref:BW-test{secrets.token_hex(5)}"


def test_the_office_says_what_it_runs(pms):
    known = pms.capabilities()
    assert known.version.split(".")[0].isdigit()
    assert any(each.support is Support.SUPPORTED for each in known.operations)


def test_its_clock_is_measured_steadily(pms):
    first, second = pms.clock_offset(), pms.clock_offset()
    assert abs(first) < timedelta(days=1)
    assert abs(first - second) < timedelta(seconds=5)


def test_wrong_keys_are_for_an_operator(office):
    wrong = replace(office.settings, customer_key="no-such-customer")
    with closing(OpenDental(wrong)) as stranger, pytest.raises(ConfigError):
        stranger.operatories()


def test_people_are_read_whole_and_one_by_one(pms):
    people = pms.patients()
    assert people
    assert len({each.key for each in people}) == len(people)
    first = people[0]
    alone = pms.patient(first.key)
    assert (alone.key, alone.birth_date) == (first.key, first.birth_date)
    with pytest.raises(NotFound):
        pms.patient("999999999")


def test_a_change_filter_gives_no_more_than_it_is_asked_for(pms):
    since = datetime.now(UTC) + timedelta(hours=1)
    assert len(pms.patients(since)) < len(pms.patients())


def test_a_list_is_the_same_at_every_page_size(office, pms):
    with closing(OpenDental(replace(office.settings, page_size=1))) as narrow:
        assert [p.key for p in narrow.providers()] == [p.key for p in pms.providers()]
    assert all(room.name or room.abbreviation for room in pms.operatories())


def test_the_schedule_keeps_to_its_days(office, pms):
    today = datetime.now(UTC).date()
    visits = pms.appointments(today - timedelta(days=7), today + timedelta(days=7))
    assert all(each.starts_at is not None and each.minutes > 0 for each in visits)
    for visit in visits[:3]:
        lines = pms.procedures(appointment_key=visit.key)
        assert {line.appointment_key for line in lines} <= {visit.key}
        assert {line.patient_key for line in lines} <= {visit.patient_key}
    if office.is_sandbox:
        assert visits
        assert pms.oddities() == {}


def made_once(pms: OpenDental, command: Command) -> Receipt:
    """Write once, and find it again under its own token."""
    try:
        assert pms.find(command) is None
    except Unsupported as older:
        pytest.skip(str(older))
    made = pms.execute(command)
    found = pms.find(command)
    assert found is not None
    assert (found.resource, found.key) == (made.resource, made.key)
    return made


@pytest.fixture
def patient_key(office) -> str:
    if not office.patient_key:
        pytest.skip(f"{_LIVE}PATIENT names nobody to write to")
    return office.patient_key


def test_a_contact_entry_lands_once_and_is_gone_on_with(pms, patient_key, ref):
    made = made_once(pms, AppendCommlog(patient_key, "Contract test.", datetime.now(UTC), ref))
    later = AppendCommlog(patient_key, "Second version.", datetime.now(UTC), f"{ref}-2", ref)
    again = made_once(pms, later)
    known = pms.capabilities().version
    if tuple(int(part) for part in known.split(".")[:3]) >= (25, 2, 21):
        assert again.key == made.key
    first = AppendCommlog(patient_key, "Contract test.", datetime.now(UTC), ref)
    assert pms.find(first) is not None, "the first version's token is still there"


def test_a_task_lands_once(pms, office, patient_key, ref):
    if not office.settings.task_list:
        pytest.skip("no task list is given")
    made_once(pms, CreateTask(patient_key, "Contract test. Please close.", ref))


def test_a_document_lands_once(pms, office, patient_key, ref):
    made = made_once(
        pms,
        UploadDocument(
            patient_key=patient_key,
            filename="contract.pdf",
            extension=".pdf",
            content=b"%PDF-1.4\n%%EOF\n",
            description="Contract test",
            category=office.category,
            image_type="Document",
            tooth_numbers=("3",),
            created=datetime.now(UTC),
            ref=ref,
        ),
    )
    assert made.key in {each.key for each in pms.documents(patient_key)}
