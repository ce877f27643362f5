"""A patient's insurance as the records tell it, the subscriber included."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.config import read_config
from node.db.session import begin, new_id
from node.db.tables import patient, patient_identity
from node.dicom.instances import FolderStore
from node.domain.study import name_key
from node.errors import Forbidden
from orchestration.access import Chart
from orchestration.payers import policy
from orchestration.payers.policy import NoPolicy, Policy, read_policy, read_secondary
from orchestration.workflow import Workflow
from pms_writeback.record_rows import compare_records, write_records
from pms_writeback.records import PmsRecord, RecordKind, Scalar
from tests.orchestration.clockwork import ACTOR

K = RecordKind


def add_person(db: sa.Engine, key: str, given: str, born: date | None) -> str:
    patient_id = new_id()
    with begin(db, ACTOR, "test") as tx:
        tx.conn.execute(
            patient.insert().values(
                id=patient_id, location_id="main", pms_key=key, synced_at=tx.now
            )
        )
        tx.conn.execute(
            patient_identity.insert().values(
                patient_id=patient_id, location_id="main", family_name="Doe", given_name=given,
                birth_date=born, sex="F", name_key=name_key("Doe", given),
            )
        )  # fmt: skip
    return patient_id


def add(db: sa.Engine, kind: RecordKind, key: str, owner: str = "", **values: Scalar) -> None:
    record = PmsRecord(kind, key, owner, "", None, values)
    with begin(db, ACTOR, "test") as tx:
        write_records(tx.conn, compare_records(tx.conn, "main", [record]), tx.now)


def chart(db: sa.Engine, folder: Path, patient_id: str, *reads: object) -> Chart:
    flow = Workflow("test", "Test", reads=policy.READS if not reads else frozenset())
    config = read_config(environment={}, overrides={"node": {"data_dir": folder}})
    now = datetime(2026, 3, 2, tzinfo=UTC)
    return Chart(db, config, FolderStore(folder / "images"), flow, now, patient_id)


@pytest.fixture
def child(sqlite_database: sa.Engine) -> str:
    """A child insured by a parent's plan, whose second plan counts less."""
    add_person(sqlite_database, "1", "Jane", date(1980, 1, 2))
    patient_id = add_person(sqlite_database, "2", "Max", date(2015, 5, 5))
    db = sqlite_database
    add(db, K.ADDRESS, "1", "1", street="2 Oak St", city="Salem", state="or",
        postal_code="97301-1234")  # fmt: skip
    add(db, K.ADDRESS, "2", "2", street="", city="Salem", state="OR", postal_code="97301")
    add(db, K.COVERAGE, "8", "2", subscription_key="99", ordinal=2, relationship="Self")
    add(db, K.COVERAGE, "7", "2", subscription_key="5", ordinal=1, relationship="Child")
    add(db, K.COVERAGE, "6", "2", subscription_key="98", ordinal=0, is_pending=True)
    add(db, K.SUBSCRIPTION, "5", "1", plan_key="3", subscriber_key="1", member_id="W 12-34")
    add(db, K.INSURANCE_PLAN, "3", carrier_key="4", group_number="G1")
    add(db, K.CARRIER, "4", name="Example Dental Plan", payer_id="EX001")
    return patient_id


def test_a_childs_insurance_is_the_parents(
    sqlite_database: sa.Engine, tmp_path: Path, child: str
) -> None:
    found = read_policy(chart(sqlite_database, tmp_path, child))
    assert isinstance(found, Policy)
    assert (found.coverage_key, found.subscription_key, found.plan_key) == ("7", "5", "3")
    assert found.insurance.relationship == "child"
    assert found.insurance.member_id == "W12-34"
    assert found.insurance.subscriber.given_name == "Jane"
    assert found.insurance.subscriber.address is not None
    assert found.insurance.subscriber.address.postal_code == "973011234"
    assert found.patient.given_name == "Max"
    assert found.patient.address is None  # no street: the claim will say so


def test_the_second_insurance_is_read_in_its_place(
    sqlite_database: sa.Engine, tmp_path: Path, child: str
) -> None:
    view = chart(sqlite_database, tmp_path, child)
    assert isinstance(read_secondary(view), NoPolicy)  # its plan is not on file
    add(sqlite_database, K.SUBSCRIPTION, "99", "2", plan_key="13", subscriber_key="2",
        member_id="S1")  # fmt: skip
    add(sqlite_database, K.INSURANCE_PLAN, "13", carrier_key="14", group_number="G2")
    add(sqlite_database, K.CARRIER, "14", name="Other Dental", payer_id="OT002")
    second, first = read_secondary(view), read_policy(view)
    assert isinstance(second, Policy)
    assert isinstance(first, Policy)
    assert (second.coverage_key, second.insurance.sequence) == ("8", "S")
    assert (first.coverage_key, first.insurance.sequence) == ("7", "P")
    only = add_person(sqlite_database, "4", "Ann", date(1990, 1, 1))
    add(sqlite_database, K.COVERAGE, "9", "4", subscription_key="99", ordinal=1)
    assert read_secondary(chart(sqlite_database, tmp_path, only)) is None


def test_another_patients_insurance_is_not_given(
    sqlite_database: sa.Engine, tmp_path: Path, child: str
) -> None:
    other = add_person(sqlite_database, "3", "Eve", date(1990, 1, 1))
    with pytest.raises(Forbidden):
        read_policy(chart(sqlite_database, tmp_path, other), child)
    with pytest.raises(Forbidden):
        read_policy(chart(sqlite_database, tmp_path, other, "nothing declared"))
    none = read_policy(chart(sqlite_database, tmp_path, other))
    assert none == NoPolicy("the patient has no insurance on file", is_uninsured=True)


@pytest.mark.parametrize(
    ("kind", "key", "values", "reason"),
    [
        (K.CARRIER, "4", {"name": "X", "payer_id": ""}, "payer id"),
        (K.SUBSCRIPTION, "5", {"plan_key": "3", "subscriber_key": "1"}, "member id"),
        (K.SUBSCRIPTION, "5", {"plan_key": "3", "subscriber_key": "77", "member_id": "W1"},
         "not on file"),
        (K.INSURANCE_PLAN, "3", {"carrier_key": "55"}, "carrier"),
    ],
)  # fmt: skip
def test_what_the_records_lack_is_said(
    sqlite_database: sa.Engine,
    tmp_path: Path,
    child: str,
    kind: RecordKind,
    key: str,
    values: dict[str, Scalar],
    reason: str,
) -> None:
    add(sqlite_database, kind, key, "1" if kind is K.SUBSCRIPTION else "", **values)
    found = read_policy(chart(sqlite_database, tmp_path, child))
    assert isinstance(found, NoPolicy)
    assert not found.is_uninsured
    assert reason in found.reason
