"""What the page and the API say to each other: every request and answer body, as pydantic models.

Ids are opaque 32-digit hex. Times are UTC, ISO 8601. Coordinates are image pixels ``[x, y]``,
origin at the top-left corner of the top-left pixel. Teeth are ISO 3950 (FDI) codes.

==========================================  ===================  =====================
call                                        body                 answer
==========================================  ===================  =====================
POST /api/login                             LoginRequest         Me
POST /api/logout, /api/lock                 –                    204
POST /api/prove  (proof again, unlock)      ProveRequest         Me
POST /api/switch (another person, here)     SwitchRequest        Me
POST /api/pin                               PinRequest           Me
POST /api/preferences                       Preferences          Me
GET  /api/me                                –                    Me
GET  /api/worklist?filter=                  –                    Worklist
GET  /api/studies/{id}                      –                    Study
POST /api/studies/{id}/ops                  OpsRequest           OpsAnswer (200, 409, 422)
POST /api/studies/{id}/presence             PresenceRequest      PresenceAnswer
POST /api/studies/{id}/sign                 SignRequest          SignAnswer
POST /api/studies/{id}/amend                AmendRequest         AmendAnswer
POST /api/studies/{id}/retract              RetractRequest       RetractAnswer
GET  /api/studies/{id}/candidates           –                    Candidates
POST /api/studies/{id}/link                 LinkRequest          LinkAnswer
POST /api/patients/search                   PatientSearch        Candidates
POST /api/images/{id}/retry                 –                    RetryAnswer
POST /api/receipts/{id}/retry               –                    204
GET  /api/studies/{id}/comparisons/{n}/{p}  –                    image/png (now, before, all …)
GET  /api/studies/{id}/chart                –                    ChartContext
GET  /api/studies/{id}/patient-page         –                    PatientPage
GET  /api/studies/{id}/patient-page.pdf     –                    application/pdf
POST /api/findings/search                   FindingSearch        FindingsFound
POST /api/findings/export                   FindingSearch        text/csv
POST /api/chart-links  (key of the config)  LinkWanted           LinkMade
GET  /api/images/{id}/preview?w=            –                    image/webp
GET  /api/images/{id}/pixels                –                    uint16 little-endian, row-major
GET  /api/images/{id}/color                 –                    image/png (``grey.is_color`` only)
GET  /api/images/{id}/dicom                 –                    application/dicom
GET  /api/events                            –                    text/event-stream of LiveEvent
==========================================  ===================  =====================

Every POST but login carries the header ``X-CSRF-Token`` with ``Me.csrf_token``. Requests that the
page makes by itself (refresh after an event) carry ``X-Background: 1``, so that they do not
keep an abandoned screen unlocked; a person who only looks is kept signed in by a GET /api/me about
once a minute of use. ``/api/events?after=SEQ`` (or Last-Event-ID) follows from after an event.
Errors are :class:`Problem`.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr, model_validator

_ID = r"^[0-9a-f]{32}$"


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# --- errors --------------------------------------------------------------------------------------


class Problem(_Shape):
    """``application/problem+json``: ``title`` is shown, ``detail`` stands under "More".

    ``type`` is one of ``unauthenticated`` (401, go to the sign-in page), ``locked`` (401, ask the
    password, POST /api/prove), ``credentials`` (401, wrong name or password), ``csrf`` (403),
    ``forbidden`` (403), ``not_found`` (404), ``conflict`` (409), ``rejected`` (409),
    ``not_signable`` (409, see `blockers`), ``invalid`` (422), ``unavailable`` (503, see
    `retry_after`) and ``bug`` (500, see `error_id`).
    """

    type: str
    title: str
    status: int
    detail: str = ""
    retry_after: float | None = None
    error_id: str | None = None
    blockers: tuple[Blocker, ...] = ()


# --- people --------------------------------------------------------------------------------------


class LoginRequest(_Shape):
    """Name and password of a person who works here."""

    username: str = Field(min_length=1, max_length=64)
    password: SecretStr = Field(min_length=1, max_length=256)
    code: str = Field("", max_length=32)  # of the authenticator app, or a recovery code


class ProveRequest(_Shape):
    """Password or PIN again: a fresh proof for signing, or unlocking an idle screen."""

    password: SecretStr | None = Field(None, min_length=1, max_length=256)
    pin: SecretStr | None = Field(None, min_length=1, max_length=12)

    @model_validator(mode="after")
    def _one_proof(self) -> Self:
        if (self.password is None) == (self.pin is None):
            raise ValueError("give either the password or the PIN")
        return self


class SwitchRequest(ProveRequest):
    """Another person takes over this workstation, as themselves."""

    username: str = Field(min_length=1, max_length=64)
    code: str = Field("", max_length=32)


class PinRequest(_Shape):
    """A new PIN of 6 to 12 digits, or an empty one to have none; with the password."""

    password: SecretStr = Field(SecretStr(""), max_length=256)
    pin: SecretStr = Field(SecretStr(""), max_length=12)


class Preferences(_Shape):
    """What a person chose for their own screen; the defaults are those of a first sign-in.

    ``keys`` maps commands of the review page (``accept``, ``next-finding`` …) to key combinations
    (``A``, ``Shift+J``) that replace the usual ones. ``reads_first`` keeps marks off on each image
    that the person has not seen.
    """

    numbering: Literal["universal", "fdi", "palmer"] = "universal"
    stop: Literal["strict", "default", "wide"] = "default"
    panel: Literal["right", "left"] = "right"
    zooms_to_selection: bool = False
    reads_first: bool = False
    shows_teeth: bool = False
    is_nearest: bool = False  # no smoothing when enlarged
    has_single_keys: bool = True  # letters without Ctrl are commands
    sorts_by_urgency: bool = False
    keys: dict[str, str] = Field(default_factory=dict, max_length=80)


class Settings(_Shape):
    """What the page must know about the practice."""

    practice_name: str
    mode: Literal["silent", "assist"]
    time_zone: str
    idle_lock_s: int
    proof_s: int
    software_version: str


class Me(_Shape):
    """Who is signed in, what they may do, and the token every POST must carry."""

    user_id: str
    username: str
    display_name: str
    role: str
    rights: tuple[str, ...]
    csrf_token: str
    is_locked: bool
    proved_until: datetime | None
    has_pin: bool
    has_password: bool  # not when the person signs in elsewhere
    has_second_factor: bool
    owes: Literal["", "password", "second_factor"]  # what must be done before anything else
    emergencies: int  # accesses to look at; 0 for who does not
    preferences: Preferences
    settings: Settings


class PatientHeader(_Shape):
    """Who the patient is; only for those who may see patients.

    ``source`` is ``pms`` when the match is certain, ``sender`` when this is only what the sensor
    software wrote into the images.
    """

    family_name: str
    given_name: str
    birth_date: date | None
    age: int | None
    sex: str
    source: Literal["pms", "sender"]


# --- worklist ------------------------------------------------------------------------------------


class ShownState(StrEnum):
    """The state a person reads (review_page 4.1, 7.2)."""

    RECEIVING = "receiving"
    ANALYSING = "analysing"
    READY = "ready"
    IN_REVIEW = "in_review"
    SIGNED = "signed"
    AMENDING = "amending"
    AI_FAILED = "ai_failed"
    AI_OFF = "ai_off"


class Progress(_Shape):
    """How many images of the study are through the models."""

    done: int
    total: int


class WorkProblem(_Shape):
    """Why a study needs a person: ``kind`` chooses the repair, ``words`` say it.

    ``failed`` and ``lettering`` are repaired at `instance_id`, ``write_failed`` at `receipt_id`.
    """

    kind: Literal[
        "ambiguous",
        "unmatched",
        "suggested",
        "failed",
        "unreadable",
        "write_failed",
        "lettering",
        "rejected",
    ]
    words: str
    instance_id: str | None = None
    receipt_id: str | None = None


class Urgency(_Shape):
    """How soon the models' suggestions would want a look, and why; nobody confirmed it."""

    level: Literal["prompt", "soon", "routine", "unknown"]  # unknown: partly silent
    reasons: tuple[str, ...]


class WorkRow(_Shape):
    """One study of the reader's queue."""

    id: str
    patient: PatientHeader | None
    label: str  # "BW 2 PA 1"; modalities in silent mode
    images: int
    study_date: str  # YYYYMMDD as sent, or empty
    received_at: datetime
    waiting_s: int
    scheduled_at: datetime | None  # today's appointment of this patient
    is_in_chair: bool  # by the schedule: it began and is not over
    operatory: str
    urgency: Urgency | None  # only for who asked to sort by it
    state: ShownState
    reviewer: str | None  # who decided last, while in review
    progress: Progress
    # Undecided ones that the default stop shows, by class letter; None when not for this reader.
    suggestions: dict[str, int] | None
    undecided: int | None  # all of them
    match_state: str
    problems: tuple[WorkProblem, ...]


class WorkCounts(_Shape):
    """Numbers on the filter tabs."""

    to_review: int
    today: int
    signed_today: int
    all: int
    problems: int


class Worklist(_Shape):
    """The queue: who is in the chair, then today's schedule, then the longest waiting.

    Who asked for it gets urgent ones before the rest of the schedule; each row then says why.
    """

    filter: Literal["to_review", "today", "signed_today", "all", "problems"]
    rows: tuple[WorkRow, ...]
    counts: WorkCounts
    generated_at: datetime
    last_seq: int  # start GET /api/events after this one


# --- study ---------------------------------------------------------------------------------------


class GreyWindow(_Shape):
    """One window of the image."""

    center: float
    width: float
    label: str = ""


class LookUp(_Shape):
    """A DICOM look-up table: input `first` maps to ``values[0]``; outside is clamped."""

    first: int
    bits: int
    values: tuple[int, ...]


class Grey(_Shape):
    """How stored samples become grey (review_page 3.1), and how ``/pixels`` stores them.

    A sample of ``/pixels`` minus `sample_offset` is the stored value. Stored value → `modality_lut`
    or ``slope * v + intercept`` → `voi_lut` or a window by `function` → inverted if `is_inverted`.
    `padding` is an inclusive range of stored values that is black and excluded from percentiles.
    """

    bits_stored: int
    is_signed: bool
    sample_offset: int
    slope: float
    intercept: float
    modality_lut: LookUp | None
    voi_lut: LookUp | None
    windows: tuple[GreyWindow, ...]
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
    photometric: str
    is_inverted: bool
    padding: tuple[int, int] | None
    is_color: bool


class SpacingShape(_Shape):
    """Millimetres per pixel and what they can be trusted for (review_page 3.3)."""

    mm_row: float
    mm_col: float
    kind: Literal["calibrated", "detector", "unknown"]


class Calibration(_Shape):
    """The scale that follows from a length a person knows; for lengths drawn on this image."""

    mm_per_px: float
    known_mm: float
    points: tuple[tuple[float, float], tuple[float, float]]
    by: str
    at: datetime


class ToothShape(_Shape):
    """A tooth that a model found on an image."""

    tooth: str
    universal: str
    box: tuple[tuple[float, float], tuple[float, float]]
    probability: float


class Flaw(_Shape):
    """What is wrong with an image; `hint` says what a retake would change, empty when none is due.

    ``kind`` is one of :class:`node.domain.findings.QualityKind` or ``orientation``.
    """

    kind: str
    words: str
    hint: str
    is_disqualifying: bool
    teeth: tuple[str, ...] = ()


class Image(_Shape):
    """One image of the study. `grey` is None when nothing can be drawn; see `failure`.

    `side` is R, L or empty; `region` the part of the mouth in words, or empty.
    """

    id: str
    number: int | None
    rows: int | None
    columns: int | None
    modality: str
    view: str | None
    view_probability: float | None
    state: Literal["received", "analysed", "unreadable", "failed"]
    failure: str
    spacing: SpacingShape
    calibration: Calibration | None
    grey: Grey | None
    teeth: tuple[ToothShape, ...]
    side: str
    region: str
    flaws: tuple[Flaw, ...]
    is_seen: bool  # by me
    is_seen_bare: bool  # by me
    duplicates: int
    received_at: datetime


class MountSlot(_Shape):
    """One place of the mount; `placed_by` is None when the models said so, or it is empty."""

    code: str
    words: str
    teeth: tuple[str, ...]
    image_id: str | None
    placed_by: str | None


class MountPlace(_Shape):
    """What a person said of how one image hangs; `slot` is empty when only the turning was said."""

    image_id: str
    slot: str
    quarter_turns: int  # clockwise
    is_mirrored: bool  # before turning
    by: str


class Mount(_Shape):
    """The series laid out, top row first; images on no place are `loose`.

    `template` is empty where no series was recognised and nothing was placed; `chosen` is what a
    person chose over the models' (``LOOSE``: no places), and empty where nobody did.
    """

    template: str
    chosen: str
    templates: tuple[str, ...]
    rows: tuple[tuple[MountSlot, ...], ...]
    loose: tuple[str, ...]
    hangs: tuple[MountPlace, ...]


class GeometryShape(_Shape):
    """A box of two corners, a polygon of 3–500 points or a line of two points."""

    type: Literal["box", "polygon", "line"]
    points: tuple[tuple[float, float], ...]


class Model(_Shape):
    """Which network made a suggestion."""

    name: str
    version: str
    digest: str


class Original(_Shape):
    """What the model suggested before a person edited it."""

    kind: str
    tooth: str | None
    surfaces: str
    depth: str | None
    value_mm: float | None
    value_percent: float | None
    geometry: GeometryShape


class Proposal(_Shape):
    """What somebody who may not decide finally proposed for a finding."""

    kind: Literal["accept", "reject"]
    reason: str
    by: str
    at: datetime


class Finding(_Shape):
    """One mark on one image, and what was decided about it."""

    id: str
    image_id: str
    origin: Literal["ai", "human"]
    kind: str
    letter: str
    is_disease: bool
    tooth: str | None
    universal: str | None
    surfaces: str  # letters of MODBLI
    depth: str | None  # E1 E2 D1 D2 D3 P
    value_mm: float | None
    value_percent: float | None
    probability: float | None
    # The strictest stop of the sensitivity control that shows it while it is a suggestion; only
    # what is not "strict" may be left unreviewed at signing.
    stop: Literal["strict", "default", "wide"]
    geometry: GeometryShape
    model: Model | None
    original: Original | None
    state: Literal["suggested", "accepted", "edited", "rejected"]
    disposition: Literal["watch", "preventive", "restore", "refer", "none"] | None
    reason: str
    comment: str
    proposal: Proposal | None
    decided_by: str | None  # display name
    decided_by_me: bool
    decided_at: datetime | None
    is_removed: bool  # only in an answer to remove_own or its undo; never listed
    rev: int


class Match(_Shape):
    """Whose study this is, as far as the node knows."""

    state: Literal["pending", "matched", "linked", "suggested", "ambiguous", "unmatched"]
    is_certain: bool
    reason: str


class Counts(_Shape):
    """How the suggestions of a signed version were decided."""

    suggested: int
    accepted: int
    edited: int
    rejected: int
    added: int
    left_unreviewed: int


class Version(_Shape):
    """One signed version."""

    version: int
    signer_name: str
    signer_role: str
    signed_at: datetime
    reason: str
    counts: Counts


class SignedVersion(Version):
    """One signed version with its findings, as they were signed."""

    findings: tuple[Finding, ...]


class SignedVersions(_Shape):
    """Every version of a study that was signed, first to last."""

    versions: tuple[SignedVersion, ...]


class Receipt(_Shape):
    """One write to the practice management system and what came back."""

    id: str
    kind: str
    version: int | None
    state: str  # queued sending unknown done failed held
    attempts: int
    error: str
    receipt: dict[str, JsonValue] | None  # PMS keys
    updated_at: datetime


class Delivery(_Shape):
    """One result object on its way to one DICOM peer."""

    id: str
    kind: Literal["SR", "SC", "KO"]
    version: int
    peer: str
    state: str  # queued done failed withdrawn
    attempts: int
    error: str
    updated_at: datetime


class Blocker(_Shape):
    """One reason why signing is refused now.

    ``kind``: right, not_ready, unlinked, unseen (`ids` are images), undecided (`ids` are findings),
    proof, changed (reload: the screen is out of date), reason.
    """

    kind: str
    words: str
    ids: tuple[str, ...] = ()


class SignState(_Shape):
    """What stands between the reader and a signature (proof and hash are asked at signing)."""

    next_version: int
    needs_reason: bool
    statement: str
    blockers: tuple[Blocker, ...]


class Study(_Shape):
    """Everything the review page draws for one study."""

    id: str
    label: str
    study_date: str
    received_at: datetime
    state: ShownState
    is_editable: bool
    patient: PatientHeader | None
    match: Match
    appointment_at: datetime | None
    images: tuple[Image, ...]
    mount: Mount
    findings: tuple[Finding, ...]
    progress: Progress
    models: tuple[Model, ...]
    absent: tuple[str, ...]  # tasks without installed weights
    notes: tuple[str, ...]
    reading: dict[str, JsonValue] | None  # node.domain.reading; `facts` null without AI content
    versions: tuple[Version, ...]
    retractions: tuple[Retraction, ...]
    receipts: tuple[Receipt, ...]
    deliveries: tuple[Delivery, ...]
    sign: SignState
    content_hash: str
    rights: tuple[str, ...]
    settings: Settings
    last_seq: int


# --- operations ----------------------------------------------------------------------------------


class OpKind(StrEnum):
    """Every change a person can make, and the ``data`` it carries."""

    ACCEPT = "accept"  # {}
    REJECT = "reject"  # {"reason": RejectReason | ""}
    SET_GEOMETRY = "set_geometry"  # {"geometry": GeometryShape}
    SET_CLASS = "set_class"  # {"kind": FindingKind}
    SET_TOOTH = "set_tooth"  # {"tooth": "46" | null, "surfaces": "MO"}
    SET_DEPTH = "set_depth"  # {"depth": "E2" | null}
    SET_VALUE = "set_value"  # {"value_mm": number | null, "value_percent": number | null}
    SET_DISPOSITION = "set_disposition"  # {"disposition": Disposition | null}
    COMMENT = "comment"  # {"text": str up to 500}
    ADD = "add"  # AddData; finding_id is chosen by the page (32 hex digits)
    REMOVE_OWN = "remove_own"  # {}
    RESTORE = "restore"  # {"op_id": the own operation to take back (a restore too: redo)}
    SEEN_IMAGE = "seen_image"  # {"image_id": id}
    BARE_VIEW = "bare_view"  # {"image_id": id}
    PLACE = "place"  # PlaceData
    CALIBRATE = "calibrate"  # CalibrateData
    TEMPLATE = "template"  # TemplateData


class RejectReason(StrEnum):
    """Why a suggestion was rejected: keys 1–7 of the reason strip."""

    CERVICAL_BURNOUT = "cervical_burnout"
    RESTORATION_MATERIAL = "restoration_material"
    OVERLAP = "overlap"
    ARTEFACT_NOISE = "artefact_noise"
    NORMAL_ANATOMY = "normal_anatomy"
    ALREADY_TREATED = "already_treated"
    OTHER = "other"


class AddData(_Shape):
    """A mark that the models missed; born accepted, origin ``human``."""

    image_id: str = Field(pattern=_ID)
    kind: str
    geometry: GeometryShape
    tooth: str | None = None
    surfaces: str = ""
    depth: str | None = None
    value_mm: float | None = None
    value_percent: float | None = None
    comment: str = Field("", max_length=500)


class PlaceData(_Shape):
    """An image at a place of the mount (empty: at none), and how it hangs there."""

    image_id: str = Field(pattern=_ID)
    slot: str = Field("", max_length=24)
    quarter_turns: int = Field(0, ge=0, le=3)
    is_mirrored: bool = False


class TemplateData(_Shape):
    """How a study is mounted: a template's name, ``LOOSE``, or empty for what the models say."""

    template: str = Field("", max_length=24)


class CalibrateData(_Shape):
    """A line of known length on an image; without a length the calibration is taken away."""

    image_id: str = Field(pattern=_ID)
    points: tuple[tuple[float, float], tuple[float, float]] | None = None
    known_mm: float | None = None


class Operation(_Shape):
    """One change. `base_rev` is the revision the reader saw; only add and views go without."""

    op_id: str = Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
    kind: OpKind
    finding_id: str | None = Field(None, pattern=_ID)
    base_rev: int | None = Field(None, ge=1)
    data: dict[str, JsonValue] = Field(default_factory=dict)
    at: datetime | None = None


class OpsRequest(_Shape):
    """Operations in the order they were made."""

    operations: tuple[Operation, ...] = Field(min_length=1, max_length=100)


class OpResult(_Shape):
    """What became of one operation; the same `op_id` again gets the same result.

    ``applied`` and ``proposed`` succeeded. ``conflict``: `finding` is the version that stands,
    `mine` what was asked; send a new operation on ``finding.rev`` to keep yours. ``refused`` and
    ``invalid`` say why in `title`.
    """

    op_id: str
    status: Literal["applied", "proposed", "conflict", "refused", "invalid"]
    title: str = ""
    finding: Finding | None = None
    mine: Operation | None = None


class OpsAnswer(_Shape):
    """One result per operation, in order.

    HTTP 200 when all succeeded, 409 when one was in conflict or refused, 422 when one was invalid;
    the others are applied all the same.
    """

    results: tuple[OpResult, ...]
    sign: SignState
    content_hash: str
    state: ShownState


# --- who else is here ---------------------------------------------------------------------------


class PresenceRequest(_Shape):
    """A sign of life, every 20 seconds while the page is open and somebody is at it."""

    image_id: str | None = Field(None, pattern=_ID)
    is_leaving: bool = False


class Colleague(_Shape):
    """Somebody else who has the study open."""

    name: str
    role: str
    image_id: str | None


class PresenceAnswer(_Shape):
    """Who else has the study open now."""

    others: tuple[Colleague, ...]


# --- signing, linking ----------------------------------------------------------------------------


class SignRequest(_Shape):
    """Sign what the screen shows. Both proofs may be left out within the proof time."""

    version: int = Field(ge=1)
    content_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    left_unreviewed: tuple[str, ...] = ()  # ids of weak suggestions expressly left
    reason: str = Field("", max_length=255)  # needed from version 2 on
    password: SecretStr | None = Field(None, max_length=256)
    pin: SecretStr | None = Field(None, max_length=12)


class SignAnswer(_Shape):
    """The signature that now stands."""

    version: int
    signed_at: datetime
    signer_name: str
    content_hash: str
    next_study_id: str | None


class AmendRequest(_Shape):
    """Open a signed study for a further version."""

    reason: str = Field(min_length=3, max_length=255)


class AmendAnswer(_Shape):
    """The version that is now being prepared."""

    next_version: int


class RetractRequest(ProveRequest):
    """Take back what was signed, with a fresh proof.

    ``patient``: the images are another patient's; `patient_id` links them, None leaves them for the
    worklist. ``findings``: those of `finding_ids` are wrong; the study opens for an amendment.
    """

    kind: Literal["patient", "findings"]
    reason: str = Field(min_length=3, max_length=255)
    patient_id: str | None = Field(None, pattern=_ID)
    finding_ids: tuple[str, ...] = Field((), max_length=200)


class RetractAnswer(_Shape):
    """The retraction that is being carried out; its steps follow in the study."""

    retraction_id: str
    match: Match


class Retraction(_Shape):
    """What was taken back, by whom, and what was done about it; no steps yet means at work."""

    id: str
    kind: Literal["patient", "findings"]
    version: int
    reason: str
    by: str
    at: datetime
    steps: tuple[str, ...]
    receipts: tuple[Receipt, ...]


class Candidate(_Shape):
    """A patient of the PMS who may be the one on the images."""

    patient_id: str
    patient: PatientHeader
    pms_key: str
    reason: str
    appointment_at: datetime | None = None


class Candidates(_Shape):
    """Who it may be, best first; and what the sender wrote."""

    sender: PatientHeader | None
    candidates: tuple[Candidate, ...]


class PatientSearch(_Shape):
    """Part of a name, or a PMS number; in the body so that no name stands in a URL."""

    text: str = Field(min_length=2, max_length=64)


class LinkRequest(_Shape):
    """The patient whom this study shows."""

    patient_id: str = Field(pattern=_ID)


class LinkAnswer(_Shape):
    """The match that now stands."""

    match: Match


class Release(_Shape):
    """Why an image may leave the practice though its pixels may name the patient."""

    reason: str = Field(min_length=3, max_length=255)


class RetryAnswer(_Shape):
    """The analysis that was started again."""

    attempt: int


# --- the patient page ----------------------------------------------------------------------------


class PatientItem(_Shape):
    """One signed finding in plain words; `change` is empty when nothing is known."""

    number: int
    title: str
    where: str
    tooth: str | None
    meaning: str
    waiting: str
    plan: str
    change: str
    image_id: str
    geometry: GeometryShape


class PatientPicture(_Shape):
    """A picture with marks on it."""

    image_id: str
    rows: int
    columns: int


class PatientPage(_Shape):
    """What a patient sees: signed findings only, no scores, no prices."""

    practice_name: str
    patient: PatientHeader | None
    study_date: str
    signed_by: str
    signed_at: datetime
    version: int
    items: tuple[PatientItem, ...]
    pictures: tuple[PatientPicture, ...]
    ai_words: str
    questions: tuple[str, ...]
    reading_grade: float  # US school grade, Flesch-Kincaid


# --- the chart beside the image ------------------------------------------------------------------


class ChartLine(_Shape):
    """One procedure of the chart; `tooth` is Universal, as the practice's system has it."""

    cdt_code: str
    words: str
    tooth: str
    surfaces: str
    state: str
    day: str


class EarlierStudy(_Shape):
    """What was signed on earlier films, one finding a line."""

    study_id: str
    study_date: str
    findings: tuple[str, ...]


class ChartContext(_Shape):
    """What the chart says of the patient; empty unless it is certain who it is (`is_known`)."""

    is_known: bool
    alerts: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    medications: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    today: tuple[ChartLine, ...] = ()
    visit: str = ""
    charted: tuple[ChartLine, ...] = ()
    earlier: tuple[EarlierStudy, ...] = ()


# --- finding findings ----------------------------------------------------------------------------


class FindingSearch(_Shape):
    """What to look for among signed findings; every field narrows."""

    tooth: str | None = None  # ISO 3950
    kind: str | None = None
    depth: str | None = None
    disposition: str | None = None
    change: Literal["new", "deeper", "more_loss", "less_loss"] | None = None
    signed_by: str = Field("", max_length=128)  # part of a name
    signed_from: date | None = None  # the practice's days, both inclusive
    signed_to: date | None = None


class FoundFinding(_Shape):
    """One signed finding of any patient."""

    study_id: str
    patient: PatientHeader | None
    study_date: str
    kind: str
    letter: str
    tooth: str | None
    surfaces: str
    depth: str | None
    value_mm: float | None
    value_percent: float | None
    disposition: str | None
    origin: Literal["ai", "human"]
    change: str  # words, empty when unknown
    signer_name: str
    signed_at: datetime
    version: int


class FindingsFound(_Shape):
    """What was found, latest signature first; `is_cut` when there is more than is listed.

    Studies being amended are left out until they are signed again; `amending` counts them.
    """

    rows: tuple[FoundFinding, ...]
    is_cut: bool
    amending: int


# --- links from a chart --------------------------------------------------------------------------


class LinkWanted(_Shape):
    """Which study a chart wants to open: an accession number, or a patient's number in the PMS."""

    accession_number: str = Field("", max_length=16)
    patient_key: str = Field("", max_length=64)


class LinkMade(_Shape):
    """A link for one use within two minutes; it opens nothing without signing in."""

    path: str
    expires_at: datetime


# --- live, health --------------------------------------------------------------------------------


class LiveEvent(_Shape):
    """One server-sent event (``id:`` is `seq`): ids and numbers, no names.

    `kind` is one of node.domain.events.EventKind, or ``resync`` when too much was missed: fetch
    everything again.
    """

    seq: int
    kind: str
    study_id: str | None = None
    image_id: str | None = None


class Part(_Shape):
    """One part of the node or one neighbour."""

    name: str
    is_ok: bool
    is_ours: bool
    words: str


class Health(_Shape):
    """``ok``; ``degraded`` (only neighbours are away, HTTP 200); ``failing`` (HTTP 503)."""

    status: Literal["ok", "degraded", "failing"]
    version: str
    parts: tuple[Part, ...]


# --- the boot block of each page -----------------------------------------------------------------


class Boot(_Shape):
    """``<script type="application/json" id="boot">`` of every page.

    `page` is ``login``, ``worklist``, ``review``, ``patient`` or ``search``; `me` is None on the
    sign-in page; `study`, `worklist` and `patient_page` carry the first answer so that the page
    needs no further request to draw; `failure` says why the first answer is missing.
    """

    page: Literal[
        "login",
        "worklist",
        "review",
        "patient",
        "search",
        "workflows",
        "account",
        "people",
        "emergency",
        "emergencies",
        "audit",
        "partners",
        "fleet",
        "rollout",
    ]
    practice_name: str
    software_version: str
    me: Me | None = None
    study: Study | None = None
    worklist: Worklist | None = None
    patient_page: PatientPage | None = None
    study_id: str | None = None
    failure: str = ""
    sign_in_label: str = ""  # of the practice's sign-in service; empty: none


Problem.model_rebuild()
Settings.model_rebuild()
