"""The PMS-neutral contract: what is read from a practice's system, and what is written to it.

An adapter (one folder a vendor) implements `Pms`; nobody above it knows a vendor's shapes.

Times crossing this contract are aware UTC by *our* clock. An adapter converts the office's wall
clock with `OfficeTime`, and corrects change stamps by the measured `Pms.clock_offset`.

Errors, besides those of `node.errors`: `OutcomeUnknown` says that a write may have landed.
`Retryable` says that it did not, `OfficeAway` under it that the whole office must be waited for;
`Rejected` says why the PMS refuses, in words that name nobody; `ConfigError` means keys or
permissions; `Unsupported` means that this PMS cannot express the command, and `NotLicensed` under
it that the vendor keeps it for licensed partners.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from node.errors import ConfigError, Retryable, Unsupported
from pms_writeback.commands import (
    AdvanceLabCase,
    AnnotateAppointment,
    AppendCommlog,
    AppendProcedureNote,
    BookAppointment,
    CancelAppointment,
    ChangeRecall,
    CloseTask,
    Command,
    ConfirmAppointment,
    CreateLabCase,
    CreatePreauthorization,
    CreateReferral,
    CreateTask,
    EstimateBenefit,
    ImageType,
    MarkToothMissing,
    MoveAppointment,
    PlanProcedure,
    SetPatientField,
    SetRecallStatus,
    TrackClaim,
    UploadDocument,
    VerifyInsurance,
    carries,
    check_ref,
    with_ref,
)

__all__ = [
    "AdvanceLabCase",
    "AnnotateAppointment",
    "AppendCommlog",
    "AppendProcedureNote",
    "AppointmentStatus",
    "BookAppointment",
    "CancelAppointment",
    "CannotSearch",
    "Capabilities",
    "Capability",
    "ChangeRecall",
    "CloseTask",
    "Command",
    "ConfirmAppointment",
    "CreateLabCase",
    "CreatePreauthorization",
    "CreateReferral",
    "CreateTask",
    "EstimateBenefit",
    "ImageType",
    "MarkToothMissing",
    "MoveAppointment",
    "NotLicensed",
    "OfficeAway",
    "OfficeTime",
    "OutcomeUnknown",
    "PatientStatus",
    "PlanProcedure",
    "Pms",
    "PmsAppointment",
    "PmsContact",
    "PmsOperatory",
    "PmsPatient",
    "PmsProcedure",
    "PmsProvider",
    "ProcedureStatus",
    "Receipt",
    "SetPatientField",
    "SetRecallStatus",
    "Support",
    "TrackClaim",
    "UploadDocument",
    "VerifyInsurance",
    "carries",
    "check_ref",
    "with_ref",
]


class OutcomeUnknown(Retryable):
    """A write was sent and its answer lost: look with `Pms.find` before sending it again."""


class OfficeAway(Retryable):
    """The whole office does not answer or asks to wait: nothing was written, every command waits.

    A record that is locked is plain `Retryable`: only what concerns it waits.
    """


class NotLicensed(Unsupported):
    """The vendor offers this only under a licence that this office has not shown."""


class CannotSearch(Unsupported):
    """`Pms.find` can never find this kind: once an answer is lost, only a person can tell."""


class PatientStatus(Enum):
    """Whether the practice still treats this person."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    DELETED = "deleted"
    OTHER = "other"


class AppointmentStatus(Enum):
    """Where an appointment stands; only SCHEDULED and COMPLETE ones are on the day's list."""

    SCHEDULED = "scheduled"
    COMPLETE = "complete"
    BROKEN = "broken"
    PLANNED = "planned"
    UNSCHEDULED = "unscheduled"
    OTHER = "other"


class ProcedureStatus(Enum):
    """Where a procedure of the chart stands."""

    TREATMENT_PLANNED = "treatment_planned"
    COMPLETE = "complete"
    EXISTING = "existing"
    REFERRED = "referred"
    CONDITION = "condition"
    DELETED = "deleted"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class PmsContact:
    """How a person is reached, as the office wrote it; empty where it says nothing.

    ``text_allowed`` is "yes", "no" or empty for unknown; the methods are the PMS's own words.
    ``guarantor_key`` is the patient who answers for this one, often a parent.
    """

    email: str = field(default="", repr=False)
    mobile: str = field(default="", repr=False)
    text_allowed: str = ""
    contact_method: str = ""
    recall_method: str = ""
    guarantor_key: str = ""


@dataclass(frozen=True, slots=True)
class PmsPatient:
    """A person as the PMS knows them; ``sex`` is the DICOM letter M, F, O or empty.

    ``contact`` is None where the PMS does not tell.
    """

    key: str
    family_name: str = field(repr=False)
    given_name: str = field(repr=False)
    middle_name: str = field(repr=False)
    preferred_name: str = field(repr=False)
    birth_date: date | None = field(repr=False)
    sex: str
    status: PatientStatus
    chart_number: str
    provider_key: str
    clinic_key: str
    language: str
    changed_at: datetime | None
    contact: PmsContact | None = field(default=None, repr=False)
    raw: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PmsAppointment:
    """One visit; empty keys mean "not assigned".

    ``starts_at`` is None only for one that is on no day's schedule (planned, unscheduled).
    ``procedures_text`` is the PMS's own short list ("4BW, Ex, Pro"), for people only.
    """

    key: str
    patient_key: str
    starts_at: datetime | None
    minutes: int
    status: AppointmentStatus
    operatory_key: str
    provider_key: str
    hygienist_key: str
    clinic_key: str
    is_hygiene: bool
    is_new_patient: bool
    procedures_text: str
    note: str = field(repr=False)
    confirmation: str
    arrived_at: datetime | None
    changed_at: datetime | None
    raw: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class PmsOperatory:
    """A treatment room, which the worklist maps to a station."""

    key: str
    name: str
    abbreviation: str
    is_hidden: bool
    dentist_key: str
    hygienist_key: str
    clinic_key: str


@dataclass(frozen=True, slots=True)
class PmsProvider:
    """A dentist or hygienist; hidden ones take no new work."""

    key: str
    abbreviation: str
    family_name: str
    given_name: str
    is_hidden: bool
    is_secondary: bool
    national_provider_id: str
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class PmsProcedure:
    """One line of the chart.

    ``tooth`` is a Universal number, empty for none; ``surfaces`` are letters or an area (UR, U, 3);
    ``day`` is the office's calendar day.
    """

    key: str
    patient_key: str
    appointment_key: str
    cdt_code: str
    description: str
    status: ProcedureStatus
    tooth: str
    surfaces: str
    tooth_range: str
    day: date | None
    provider_key: str
    clinic_key: str
    changed_at: datetime | None
    raw: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a command landed: the PMS's resource and primary key.

    ``already_there`` says that an earlier attempt was found and nothing was written now.
    ``is_complete`` False: that attempt was cut between two steps; `Pms.execute` goes on there.
    """

    resource: str
    key: str
    already_there: bool = False
    is_complete: bool = True


class Support(Enum):
    """How far one operation works at one office."""

    SUPPORTED = "supported"
    NEEDS_VERSION = "needs version"
    NOT_LICENSED = "not licensed"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Capability:
    """One operation and whether this office can do it; ``reason`` is for people."""

    operation: str
    support: Support
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one office's system is, and what it can take."""

    product: str
    version: str
    operations: tuple[Capability, ...]

    def of(self, command: type[Command]) -> Capability:
        """Look up one command; one not listed is unsupported."""
        for capability in self.operations:
            if capability.operation == command.__name__:
                return capability
        return Capability(command.__name__, Support.UNSUPPORTED, f"{self.product} has no such")


class Pms(Protocol):
    """One office's practice-management system; calls block and may raise any error above."""

    def capabilities(self) -> Capabilities:
        """Ask for the version and say what can be done."""
        ...

    def clock_offset(self) -> timedelta:
        """Measure how far the PMS's clock is ahead of ours."""
        ...

    def patients(self, since: datetime | None = None) -> tuple[PmsPatient, ...]:
        """Read all patients, or those changed at or after `since`, deleted ones included."""
        ...

    def patient(self, key: str) -> PmsPatient:
        """Read one patient; raises NotFound."""
        ...

    def appointments(self, date_from: date, date_to: date) -> tuple[PmsAppointment, ...]:
        """Read the appointments of the office's calendar days, both ends included."""
        ...

    def appointments_since(self, since: datetime) -> tuple[PmsAppointment, ...]:
        """Read those changed at or after `since`; deletions do not show here."""
        ...

    def deleted_appointments(self, date_from: date, date_to: date) -> tuple[str, ...]:
        """Read the keys of appointments deleted on these calendar days, both included."""
        ...

    def operatories(self) -> tuple[PmsOperatory, ...]:
        """Read all operatories, hidden ones included."""
        ...

    def providers(self) -> tuple[PmsProvider, ...]:
        """Read all providers, hidden ones included."""
        ...

    def procedures(
        self, *, appointment_key: str | None = None, patient_key: str | None = None
    ) -> tuple[PmsProcedure, ...]:
        """Read the procedures of one appointment or one patient, deleted ones included."""
        ...

    def procedures_since(self, since: datetime) -> tuple[PmsProcedure, ...]:
        """Read those changed at or after `since`, deleted ones included."""
        ...

    def execute(self, command: Command) -> Receipt:
        """Send one command once, or go on with one that `find` found incomplete.

        Call `find` first when it may have been sent before.
        """
        ...

    def find(self, command: Command) -> Receipt | None:
        """Search for what an earlier attempt at `command` wrote; writes nothing.

        May raise CannotSearch.
        """
        ...


@dataclass(frozen=True, slots=True)
class OfficeTime:
    """The office's wall clock, an IANA zone such as "America/Chicago".

    A PMS stores wall-clock times without a zone. In the hour that repeats in autumn such a time
    means two instants: the earlier one is taken unless `near` says which is closer. A time in the
    spring gap is read with the offset before the change.
    """

    zone_name: str

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone_name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(f"unknown time zone {self.zone_name[:40]!r}") from error

    @property
    def zone(self) -> ZoneInfo:
        """The zone's rules."""
        return ZoneInfo(self.zone_name)

    def to_utc(self, wall: datetime, near: datetime | None = None) -> datetime:
        """Read a naive office time as an instant."""
        first = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        second = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        if near is not None and abs(second - near) < abs(first - near):
            return second
        return first

    def to_wall(self, moment: datetime) -> datetime:
        """Show an instant on the office's clock, naive."""
        return moment.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def earliest_wall(self, since: datetime) -> datetime:
        """Give the lowest wall-clock time that any instant at or after `since` shows.

        A "changed since" filter must use this one: at 01:50 before the clocks go back, changes
        made half an hour later are stamped 01:20.
        """
        minute = since.replace(second=0, microsecond=0)
        later = (minute + timedelta(minutes=count) for count in range(1, 181))
        return min(self.to_wall(moment) for moment in (since, *later))

    def today(self, now: datetime) -> date:
        """The office's calendar day at `now`."""
        return self.to_wall(now).date()
