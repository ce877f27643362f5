"""What a practice's system knows besides the schedule, as PMS-neutral records.

A record is one row of the PMS under neutral names (docs/pms-records.md lists them). Whatever the
PMS sent beyond them is kept raw beside the record and never stops a sync. Dates are ISO texts,
moments ISO texts in UTC by the office's clock, money numbers in the office's currency, teeth
Universal numbers, keys texts ("" for none).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable

Scalar = str | int | float | bool | None


class RecordKind(StrEnum):
    """Kinds of record; the value is stored."""

    ALLERGY = "allergy"
    PROBLEM = "problem"
    MEDICATION = "medication"
    PROCEDURE = "procedure"
    PROCEDURE_NOTE = "procedure_note"
    TOOTH_STATE = "tooth_state"
    PERIO_EXAM = "perio_exam"
    PERIO_MEASURE = "perio_measure"
    COMMLOG = "commlog"
    DOCUMENT = "document"
    TASK = "task"
    TREATMENT_PLAN = "treatment_plan"
    TREATMENT_PLAN_PROCEDURE = "treatment_plan_procedure"
    TREATMENT_PLAN_ITEM = "treatment_plan_item"
    RECALL = "recall"
    REFERRAL = "referral"
    LAB_CASE = "lab_case"
    COVERAGE = "coverage"
    SUBSCRIPTION = "subscription"
    INSURANCE_PLAN = "insurance_plan"
    BENEFIT = "benefit"
    VERIFICATION = "verification"
    CLAIM = "claim"
    CLAIM_LINE = "claim_line"
    CLAIM_TRACKING = "claim_tracking"
    PATIENT_FIELD = "patient_field"
    ADDRESS = "address"  # of a patient; the key is the patient's
    SCHEDULE = "schedule"
    APPOINTMENT_TYPE = "appointment_type"
    RECALL_TYPE = "recall_type"
    REFERRAL_CONTACT = "referral_contact"
    LABORATORY = "laboratory"
    LAB_TURNAROUND = "lab_turnaround"
    CARRIER = "carrier"
    COVERAGE_CATEGORY = "coverage_category"
    PROCEDURE_CODE = "procedure_code"
    DEFINITION = "definition"
    CLINIC = "clinic"
    USER = "user"


#: Days of the practice's hours that are read, before and after today.
_DAYS_OF_HOURS = (31, 400)


def dated_span(kind: RecordKind, today: date) -> tuple[date, date] | None:
    """Give the first and last ``day`` that a whole reading of a kind covers; None is all.

    Hours of work go on for years: those long past or far ahead are left alone.
    """
    if kind is not RecordKind.SCHEDULE:
        return None
    before, after = _DAYS_OF_HOURS
    return today - timedelta(days=before), today + timedelta(days=after)


class MapKind(StrEnum):
    """What a mapped key of the PMS names (`pms_writeback.provider_map`); the value is stored."""

    PROVIDER = "provider"
    OPERATORY = "operatory"


class Reach(StrEnum):
    """How a kind can be read at one office."""

    CHANGES = "changes"  # those changed since a moment, or all
    WHOLE = "whole"  # only all of them
    PATIENT = "patient"  # only those of one patient
    NONE = "none"  # not at all; too old a version, or no such thing there


@dataclass(frozen=True, slots=True)
class PmsRecord:
    """One record; ``patient_key`` is empty for what belongs to the office.

    ``raw`` holds what the PMS sent beyond ``values``. ``changed_at`` is the PMS's change stamp by
    our clock, None where it keeps none.
    """

    kind: RecordKind
    key: str
    patient_key: str
    clinic_key: str
    changed_at: datetime | None
    values: Mapping[str, Scalar] = field(repr=False)
    raw: Mapping[str, object] = field(default_factory=dict, repr=False)


@runtime_checkable
class RecordSource(Protocol):
    """A PMS whose records can be read; calls block and raise as `pms_writeback.pms.Pms`."""

    def reach(self) -> Mapping[RecordKind, Reach]:
        """Ask how each kind can be read at this office's version."""
        ...

    def records(
        self, kind: RecordKind, since: datetime | None = None
    ) -> Iterator[Sequence[PmsRecord]]:
        """Read all records of a kind page by page, or those changed at or after `since`."""
        ...

    def records_of(self, kind: RecordKind, patient_key: str) -> Sequence[PmsRecord]:
        """Read a patient's records of a kind, complete."""
        ...
