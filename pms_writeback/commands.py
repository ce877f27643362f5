"""What may be written to a practice's system: one frozen value a command, checked when it is made.

Every command names its patient and carries a token, ``ref:BW-…``, by which its trace is found
again; where the PMS keeps no text for it, the record's own key fields are searched instead. Teeth
are Universal numbers, surfaces letters in claim order (M O/I D B/F L), keys the PMS's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from node.errors import InvalidInput

ImageType = Literal["Document", "Radiograph"]

_REF = re.compile(r"ref:[A-Za-z0-9][A-Za-z0-9-]{3,59}")


def check_ref(ref: str) -> None:
    """Refuse a token that cannot be found again; the form is ``ref:BW-1a2b3c4d``."""
    if not _REF.fullmatch(ref):
        raise InvalidInput(f"not an idempotency token: {ref[:70]!r} (expected ref:BW-…)")


def carries(text: str, ref: str) -> bool:
    """Tell whether `text` holds exactly this token, not one that merely begins like it."""
    return ref in _REF.findall(text)


def with_ref(text: str, ref: str) -> str:
    """Append the token on the same line unless `text` holds it already."""
    return text if carries(text, ref) else f"{text.rstrip()} {ref}".strip()


@dataclass(frozen=True, slots=True)
class AppendProcedureNote:
    """Append to the note of one procedure; never replaces, never signs."""

    patient_key: str
    procedure_key: str
    text: str = field(repr=False)
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.procedure_key)
        _check_text(self.text)


@dataclass(frozen=True, slots=True)
class AppendCommlog:
    """Add an internal entry to the patient's communication log.

    ``follows_ref`` is the token of the entry that this one goes on with: where the PMS can, its
    text is appended there, whatever somebody wrote into it kept; else it is an entry of its own.
    """

    patient_key: str
    text: str = field(repr=False)
    when: datetime
    ref: str
    follows_ref: str = ""

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_text(self.text)
        _check_aware(self.when)
        _check_follows(self.follows_ref, self.ref)


@dataclass(frozen=True, slots=True)
class UploadDocument:
    """File a document under the patient.

    ``extension`` has its dot (".pdf", ".jpg"); ``category`` is the name of an image category of
    the office; ``tooth_numbers`` are Universal ("3", "A"); ``created`` is when the content was
    made. ``filename`` is for PMSs that keep one.
    """

    patient_key: str
    filename: str
    extension: str
    content: bytes = field(repr=False)
    description: str = field(repr=False)
    category: str
    image_type: ImageType
    tooth_numbers: tuple[str, ...]
    created: datetime
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_aware(self.created)
        _check_text(self.description)
        if not self.content:
            raise InvalidInput("a document needs content")
        if not re.fullmatch(r"\.[a-z0-9]{1,5}", self.extension):
            raise InvalidInput(f"not a file extension: {self.extension[:10]!r} (expected .pdf)")


@dataclass(frozen=True, slots=True)
class CreateTask:
    """Put a task about this patient on the list that the office configured.

    ``follows_ref`` as for `AppendCommlog`; a task that was done is open again. ``user_key`` is the
    office's user whom it is from; empty, or unknown there: the one that is configured.
    """

    patient_key: str
    text: str = field(repr=False)
    ref: str
    follows_ref: str = ""
    user_key: str = ""

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_text(self.text)
        _check_follows(self.follows_ref, self.ref)
        if self.user_key:
            _check_key(self.user_key)


@dataclass(frozen=True, slots=True)
class CloseTask:
    """Set the task that carries `task_ref` to done; closing it twice is one effect."""

    patient_key: str
    task_ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.task_ref)

    @property
    def ref(self) -> str:
        """The token to search for: the task's own."""
        return self.task_ref


@dataclass(frozen=True, slots=True)
class PlanProcedure:
    """Put one treatment-planned procedure into the chart; only from a clinician's disposition.

    The same procedure planned already on that tooth and surface, by whomever, counts as done.
    """

    patient_key: str
    cdt_code: str
    tooth: str
    surfaces: str
    day: date
    provider_key: str
    ref: str
    claim_note: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        if not re.fullmatch(r"D\d{4}", self.cdt_code):
            raise InvalidInput(f"not a CDT code: {self.cdt_code[:10]!r}")
        _check_tooth(self.tooth, may_be_empty=True)
        if not re.fullmatch(r"[MODIBFVL]{0,5}", self.surfaces):
            raise InvalidInput(f"not tooth surfaces: {self.surfaces[:10]!r}")


@dataclass(frozen=True, slots=True)
class MarkToothMissing:
    """Mark one tooth missing; marking it twice is one effect."""

    patient_key: str
    tooth: str
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_tooth(self.tooth)


@dataclass(frozen=True, slots=True)
class CreateReferral:
    """Refer the patient out to a contact of the office's directory; never makes a new contact."""

    patient_key: str
    contact_key: str
    day: date
    text: str = field(repr=False)
    ref: str
    procedure_key: str = ""
    provider_key: str = ""

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.contact_key)
        _check_text(self.text)


@dataclass(frozen=True, slots=True)
class CreatePreauthorization:
    """Make an unsent pre-authorisation of planned procedures; transmitting it stays elsewhere.

    ``subscription_key`` empty is the primary insurance. ``text`` is the claim note, with its token
    at most 400 characters.
    """

    patient_key: str
    procedure_keys: tuple[str, ...]
    subscription_key: str
    text: str = field(repr=False)
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_text(self.text)
        if not self.procedure_keys:
            raise InvalidInput("a pre-authorisation needs procedures")
        if len(with_ref(self.text, self.ref)) > MAX_CLAIM_NOTE:
            raise InvalidInput(f"a claim note has at most {MAX_CLAIM_NOTE} characters")


@dataclass(frozen=True, slots=True)
class TrackClaim:
    """Add an entry to a claim's history; ``status`` is the name of the office's definition."""

    patient_key: str
    claim_key: str
    status: str
    text: str = field(repr=False)
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.claim_key)
        _check_text(self.text)


@dataclass(frozen=True, slots=True)
class EstimateBenefit:
    """Set what a payer answered for one line of a pre-authorisation, in cents.

    ``text`` goes into the line's remarks; an answer with the same token again is one effect.
    """

    patient_key: str
    claim_line_key: str
    cents: int
    text: str = field(repr=False)
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.claim_line_key)
        _check_text(self.text)
        if not 0 <= self.cents <= 10_000_000:
            raise InvalidInput("an estimate lies between 0 and 100,000 in the office's currency")


@dataclass(frozen=True, slots=True)
class VerifyInsurance:
    """Note on a patient's insurance that it was verified on a day, and what was said of it.

    ``coverage_key`` is the key of the patient's coverage; a later day replaces an earlier one.
    """

    patient_key: str
    coverage_key: str
    day: date
    text: str = field(repr=False)
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.coverage_key)
        _check_text(self.text)


@dataclass(frozen=True, slots=True)
class CreateLabCase:
    """Open a lab case for a scheduled visit; the token stands in its instructions."""

    patient_key: str
    laboratory_key: str
    provider_key: str
    appointment_key: str
    due: datetime
    text: str = field(repr=False)
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.laboratory_key)
        _check_key(self.provider_key)
        _check_text(self.text)
        _check_aware(self.due)


@dataclass(frozen=True, slots=True)
class AdvanceLabCase:
    """Set a stage of a lab case, if it is still empty; another time there is a conflict."""

    patient_key: str
    lab_case_key: str
    stage: Literal["sent", "received", "checked"]
    at: datetime
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.lab_case_key)
        _check_aware(self.at)


@dataclass(frozen=True, slots=True)
class ChangeRecall:
    """Set a recall's interval ("3m", "6m1d"), if it is still `expected_interval`.

    Only after a clinician's decision: an interval is a clinical act.
    """

    patient_key: str
    recall_key: str
    expected_interval: str
    interval: str
    text: str = field(repr=False)
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.recall_key)
        _check_text(self.text)
        if not re.fullmatch(r"(?=.)(\d+y)?(\d+m)?(\d+w)?(\d+d)?", self.interval):
            raise InvalidInput(f"not a recall interval: {self.interval[:20]!r} (expected 6m1d)")


@dataclass(frozen=True, slots=True)
class SetRecallStatus:
    """Say at a recall what was last done about it; setting it again is one effect.

    ``status`` is the office's own name for it ("Texted"); an office without that name refuses.
    """

    patient_key: str
    recall_key: str
    status: str
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.recall_key)
        _check_text(self.status)


@dataclass(frozen=True, slots=True)
class SetPatientField:
    """Set one of the office's own patient fields, if it still says what `expected` says.

    ``expected`` empty is a field that is not set yet; setting it again is one effect.
    """

    patient_key: str
    name: str
    value: str = field(repr=False)
    ref: str
    expected: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_text(self.name)


@dataclass(frozen=True, slots=True)
class BookAppointment:
    """Book a visit; refused when the room is taken, and taken back when it was taken meanwhile.

    ``minutes`` is a multiple of five, at most nine hours.
    """

    patient_key: str
    starts_at: datetime
    minutes: int
    operatory_key: str
    provider_key: str
    text: str = field(repr=False)
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.operatory_key)
        _check_key(self.provider_key)
        _check_aware(self.starts_at)
        _check_minutes(self.minutes)


@dataclass(frozen=True, slots=True)
class MoveAppointment:
    """Move a scheduled visit that still begins at `expected_start`; overlap as for a booking.

    And that is still in the room `expected_operatory_key`, when one is given.
    """

    patient_key: str
    appointment_key: str
    expected_start: datetime
    starts_at: datetime
    operatory_key: str
    ref: str
    expected_operatory_key: str = ""

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.appointment_key)
        _check_key(self.operatory_key)
        _check_aware(self.expected_start)
        _check_aware(self.starts_at)


@dataclass(frozen=True, slots=True)
class ConfirmAppointment:
    """Set a visit's confirmation to one of the office's names for it.

    Only a scheduled visit that still begins at `expected_start`, when one is given.
    """

    patient_key: str
    appointment_key: str
    confirmation: str
    ref: str
    expected_start: datetime | None = None

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.appointment_key)
        _check_text(self.confirmation)
        if self.expected_start is not None:
            _check_aware(self.expected_start)


@dataclass(frozen=True, slots=True)
class CancelAppointment:
    """Take a scheduled visit off the day's list onto the unscheduled list; nothing is deleted.

    Only one that still begins at `expected_start`, when one is given.
    """

    patient_key: str
    appointment_key: str
    ref: str
    expected_start: datetime | None = None

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.appointment_key)
        if self.expected_start is not None:
            _check_aware(self.expected_start)


@dataclass(frozen=True, slots=True)
class AnnotateAppointment:
    """Append a line to a visit's note, whatever stands there kept; the token stands in the line."""

    patient_key: str
    appointment_key: str
    text: str = field(repr=False)
    ref: str

    def __post_init__(self) -> None:
        _check(self.patient_key, self.ref)
        _check_key(self.appointment_key)
        _check_text(self.text)


#: Most characters of a claim's note, its token included.
MAX_CLAIM_NOTE = 400

Command = (
    AppendProcedureNote
    | AppendCommlog
    | UploadDocument
    | CreateTask
    | CloseTask
    | PlanProcedure
    | MarkToothMissing
    | CreateReferral
    | CreatePreauthorization
    | TrackClaim
    | EstimateBenefit
    | VerifyInsurance
    | CreateLabCase
    | AdvanceLabCase
    | ChangeRecall
    | SetRecallStatus
    | SetPatientField
    | BookAppointment
    | MoveAppointment
    | ConfirmAppointment
    | CancelAppointment
    | AnnotateAppointment
)


def _check(patient_key: str, ref: str) -> None:
    _check_key(patient_key)
    check_ref(ref)


def _check_follows(follows_ref: str, ref: str) -> None:
    if not follows_ref:
        return
    check_ref(follows_ref)
    if follows_ref == ref:
        raise InvalidInput("a record cannot go on with itself")


def _check_key(key: str) -> None:
    if not key.strip():
        raise InvalidInput("a command names its patient and record by key")


def _check_text(text: str) -> None:
    if not text.strip():
        raise InvalidInput("an empty text cannot be written to a chart")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("a text for a chart must be whole Unicode characters") from None


def _check_aware(moment: datetime) -> None:
    if moment.tzinfo is None:
        raise InvalidInput("a time without a zone cannot be written to a chart")


def _check_tooth(tooth: str, *, may_be_empty: bool = False) -> None:
    if may_be_empty and not tooth:
        return
    if not re.fullmatch(r"[1-9]|[12]\d|3[0-2]|[A-T]|5[1-9]|[67]\d|8[0-2]|[A-T]S", tooth):
        raise InvalidInput(f"not a Universal tooth number: {tooth[:4]!r}")


def _check_minutes(minutes: int) -> None:
    if not 5 <= minutes <= 540 or minutes % 5:
        raise InvalidInput("a visit takes a multiple of 5 minutes, at most 9 hours")
