"""A patient's dental insurance as the practice's system knows it, ready for a payer.

The subscriber may be another person than the patient: theirs are the name, birth date and address
on a claim, read only because this patient's coverage names them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import sqlalchemy as sa

from node.db.session import read
from node.db.tables import patient, patient_identity
from node.errors import InvalidInput
from orchestration.access import Chart
from orchestration.payers.claim import Address, Insurance, Person, Relationship
from orchestration.workflow import Module
from pms_writeback.record_rows import read_records
from pms_writeback.records import PmsRecord, RecordKind

#: What reading an insurance takes.
READS: frozenset[RecordKind | Module] = frozenset(
    {RecordKind.COVERAGE, RecordKind.SUBSCRIPTION, RecordKind.INSURANCE_PLAN, RecordKind.CARRIER}
    | {RecordKind.ADDRESS, Module.IDENTITY}
)
_RELATIONSHIPS: dict[str, Relationship] = {
    "self": "self",
    "spouse": "spouse",
    "child": "child",
    "dependent": "child",
    "handicapdep": "child",
}
_Gender = Literal["F", "M", "U"]
_GENDERS: dict[str, _Gender] = {"F": "F", "M": "M"}


@dataclass(frozen=True, slots=True)
class Policy:
    """One insurance of one patient, and the keys under which the PMS knows it."""

    coverage_key: str
    subscription_key: str
    plan_key: str
    insurance: Insurance
    patient: Person = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoPolicy:
    """Why there is no insurance that a payer could be asked about; no names in it."""

    reason: str
    is_uninsured: bool = False


def read_policy(chart: Chart, patient_id: str | None = None) -> Policy | NoPolicy:
    """Read the primary insurance, or say what the practice's records lack."""
    chart.demand(*READS)
    whose = chart.whose(patient_id)
    with read(chart.db) as conn:
        first = _Reader(conn, chart.location_id).policy(whose, 0)
    return first or NoPolicy("the patient has no insurance on file", is_uninsured=True)


def read_secondary(chart: Chart, patient_id: str | None = None) -> Policy | NoPolicy | None:
    """Read the insurance that pays after the primary one; None when there is only one."""
    chart.demand(*READS)
    whose = chart.whose(patient_id)
    with read(chart.db) as conn:
        return _Reader(conn, chart.location_id).policy(whose, 1)


@dataclass(frozen=True, slots=True)
class _Reader:
    conn: sa.Connection
    location_id: str

    def policy(self, patient_id: str, place: int) -> Policy | NoPolicy | None:
        """Read the insurance at a place in the order in which they pay; None past the last."""
        own = self.conn.execute(
            sa.select(patient.c.pms_key).where(
                patient.c.id == patient_id, patient.c.location_id == self.location_id
            )
        ).scalar_one()
        coverages = [
            record
            for record in read_records(self.conn, self.location_id, RecordKind.COVERAGE, own)
            if not record.values.get("is_pending")
        ]
        if place >= len(coverages):
            return None
        coverages.sort(key=lambda record: int(str(record.values.get("ordinal") or 99)))
        coverage = coverages[place]
        subscription = self._one(RecordKind.SUBSCRIPTION, coverage, "subscription_key")
        plan = subscription and self._one(RecordKind.INSURANCE_PLAN, subscription, "plan_key")
        carrier = plan and self._one(RecordKind.CARRIER, plan, "carrier_key")
        if subscription is None or plan is None or carrier is None:
            return NoPolicy("the insurance's plan or carrier is not on file")
        return self._policy(own, coverage, subscription, plan, carrier, "S" if place else "P")

    def _policy(
        self,
        own: str,
        coverage: PmsRecord,
        subscription: PmsRecord,
        plan: PmsRecord,
        carrier: PmsRecord,
        sequence: Literal["P", "S"],
    ) -> Policy | NoPolicy:
        word = _text(coverage, "relationship").lower()
        relationship = _RELATIONSHIPS.get(word, "other")
        subscriber_key = _text(subscription, "subscriber_key") or own
        try:
            person = self._person(own)
            subscriber = person if relationship == "self" else self._person(subscriber_key)
            insurance = Insurance(
                payer_name=_text(carrier, "name"),
                payer_id=_text(carrier, "payer_id"),
                member_id=re.sub(r"[^A-Za-z0-9-]", "", _text(subscription, "member_id")),
                group_number=_text(plan, "group_number"),
                subscriber=subscriber,
                relationship=relationship,
                sequence=sequence,
            )
        except InvalidInput as error:
            return NoPolicy(str(error))
        return Policy(coverage.key, subscription.key, plan.key, insurance, person)

    def _one(self, kind: RecordKind, record: PmsRecord, name: str) -> PmsRecord | None:
        key = _text(record, name)
        found = read_records(self.conn, self.location_id, kind, key=key) if key else []
        return found[0] if found else None

    def _person(self, pms_key: str) -> Person:
        row = self.conn.execute(
            sa.select(patient_identity)
            .join(patient, patient.c.id == patient_identity.c.patient_id)
            .where(patient.c.pms_key == pms_key, patient.c.location_id == self.location_id)
        ).first()
        if row is None:
            raise InvalidInput("the subscriber is not on file")
        if row.birth_date is None:
            raise InvalidInput("the patient's or subscriber's birth date is not on file")
        gender: _Gender = _GENDERS.get(row.sex, "U")
        address = self._address(pms_key)
        return Person(row.family_name, row.given_name, row.birth_date, gender, address)

    def _address(self, pms_key: str) -> Address | None:
        found = read_records(self.conn, self.location_id, RecordKind.ADDRESS, key=pms_key)
        if not found:
            return None
        digits = re.sub(r"\D", "", _text(found[0], "postal_code"))
        try:
            return Address(
                _text(found[0], "street"), _text(found[0], "city"),
                _text(found[0], "state").upper(), digits,
            )  # fmt: skip
        except InvalidInput:
            return None


def _text(record: PmsRecord, name: str) -> str:
    value = record.values.get(name)
    return "" if value is None else str(value).strip()
