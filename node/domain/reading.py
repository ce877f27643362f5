"""What is said about a study as a whole: facts of its images, and what follows from its findings.

:class:`ImageFacts` to :class:`StudyFacts` are gathered once, when a study is finished. The
:class:`Conclusions` follow from them and from findings, suggested or signed, by
:func:`node.domain.conclusions.reading_of`. All of it is AI content until a dentist has signed.
Coordinates are pixels of the stored images, lengths millimetres on the detector plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from node.domain.findings import CariesDepth, Finding, FindingKind, View
from node.domain.plain_json import decode, encode
from node.domain.review import Json
from node.domain.teeth import Surface, Tooth

FORMAT = "bitewing-reading/1"


@dataclass(frozen=True, slots=True)
class StudyFinding:
    """A finding that counts for the study: not rejected; ``is_signed`` when a dentist signed it."""

    id: str
    instance_id: str
    finding: Finding
    is_signed: bool = False


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """One image in the series.

    ``quality`` is 0..1, 1 without a flaw; ``closed`` are teeth whose contacts overlap there.
    ``spacing_mm`` is (row, column), None when millimetres may not be reported.
    """

    instance_id: str
    view: View | None
    side: str = ""
    region: str = ""
    teeth: tuple[Tooth, ...] = ()
    quality: float = 1.0
    is_disqualified: bool = False
    closed: tuple[Tooth, ...] = ()
    spacing_mm: tuple[float, float] | None = None
    flaws: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SiteFact:
    """A measured bone site; ``root_mm`` is CEJ to apex where both are seen."""

    instance_id: str
    tooth: Tooth
    surface: Surface
    view: View
    level_mm: float | None
    percent: float | None
    root_mm: float | None = None
    is_distorted: bool = False


class ToothState(StrEnum):
    """How a tooth stands in the series."""

    PRESENT = "present"
    MISSING = "missing"
    IMPACTED = "impacted"
    REMNANT = "remnant"
    IMPLANT = "implant"
    NOT_SHOWN = "not_shown"


@dataclass(frozen=True, slots=True)
class ToothStatus:
    """One tooth of the chart and the images that show it."""

    tooth: Tooth
    state: ToothState
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Renumbering:
    """Tooth numbers of one image that contradict the others, and whether they were changed.

    ``teeth`` are (number the model gave, number that fits the series). Nothing decided by a person
    is ever renumbered.
    """

    instance_id: str
    teeth: tuple[tuple[Tooth, Tooth], ...]
    reason: str
    is_applied: bool


@dataclass(frozen=True, slots=True)
class SlotPlace:
    """An image in its place of the series' template."""

    instance_id: str
    slot: str
    cost: float


@dataclass(frozen=True, slots=True)
class Retake:
    """An image that repeats another or should be taken again; ``kept_id`` is the better one."""

    instance_id: str
    kept_id: str | None
    slot: str
    reason: str


@dataclass(frozen=True, slots=True)
class Series:
    """The images laid into a template; ``empty`` slots have no image, ``unplaced`` images none."""

    template: str
    places: tuple[SlotPlace, ...] = ()
    empty: tuple[str, ...] = ()
    unplaced: tuple[str, ...] = ()
    retakes: tuple[Retake, ...] = ()


class Outcome(StrEnum):
    """Result of one item of the completeness test."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Check:
    """One of the six items of the completeness test."""

    number: int
    name: str
    outcome: Outcome
    detail: str = ""


class Arrival(StrEnum):
    """Whether the images that a procedure asks for have come."""

    COMPLETE = "complete"
    SHORT = "short"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class ProcedureCheck:
    """One kind of image that scheduled or charted procedures ask for, against what arrived."""

    cdt_codes: tuple[str, ...]
    wanted: int
    arrived: int
    state: Arrival
    words: str


@dataclass(frozen=True, slots=True)
class CrownRoot:
    """Crown to root on one periapical: the crown's length when the supported root is 1."""

    tooth: Tooth
    ratio: float
    words: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class Registration:
    """A tooth of a prior image laid over the same tooth of a current one.

    ``transform`` is the affine 2×3 matrix, row by row, from prior to current pixels.
    ``correlation`` is that of the two crops; ``residual_mm`` how far going forth and back misses,
    in mm or, without a spacing, None. Not ``is_usable``: look only, nothing is measured.
    """

    tooth: Tooth
    instance_id: str
    prior_instance_id: str
    transform: tuple[float, float, float, float, float, float]
    correlation: float
    residual_mm: float | None
    is_usable: bool
    reason: str = ""


class Verdict(StrEnum):
    """What a comparison says; only what exceeds the smallest detectable change is a change."""

    NEW = "new"
    DEEPER = "deeper"
    MORE_LOSS = "more_loss"
    LESS_LOSS = "less_loss"
    NO_MEASURABLE_CHANGE = "no_measurable_change"
    NOT_SEEN_NOW = "not_seen_now"
    NOT_COMPARABLE = "not_comparable"

    @property
    def is_change(self) -> bool:
        """Whether something measurable happened."""
        return self in (self.NEW, self.DEEPER, self.MORE_LOSS, self.LESS_LOSS)


@dataclass(frozen=True, slots=True)
class Change:
    """One site or surface now and before; on panoramics a whole tooth, ``surface`` None.

    ``delta_mm`` is now minus before, ``uncertainty_mm`` the half width of its 95 % interval and
    ``smallest_mm`` the least difference that counts. ``prior_source`` says whose word the prior
    is: ``signed`` or ``ai``. ``registration`` is the place in :attr:`StudyFacts.registrations`.
    """

    kind: FindingKind
    tooth: Tooth
    surface: Surface | None
    verdict: Verdict
    words: str
    instance_id: str
    prior_instance_id: str
    prior_date: str
    prior_source: str
    registration: int | None = None
    before_mm: float | None = None
    now_mm: float | None = None
    delta_mm: float | None = None
    uncertainty_mm: float | None = None
    smallest_mm: float | None = None
    before_depth: CariesDepth | None = None
    now_depth: CariesDepth | None = None
    before_probability: float | None = None
    now_probability: float | None = None


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What holds of a study's images, whatever becomes of its findings."""

    images: tuple[ImageFacts, ...] = ()
    teeth: tuple[ToothStatus, ...] = ()
    missing_basis: str = ""
    sites: tuple[SiteFact, ...] = ()
    renumberings: tuple[Renumbering, ...] = ()
    series: Series | None = None
    checks: tuple[Check, ...] = ()
    procedures: tuple[ProcedureCheck, ...] = ()
    crown_root: tuple[CrownRoot, ...] = ()
    registrations: tuple[Registration, ...] = ()
    changes: tuple[Change, ...] = ()
    age_years: int | None = None

    def image(self, instance_id: str) -> ImageFacts | None:
        """Find one image."""
        return next((each for each in self.images if each.instance_id == instance_id), None)


@dataclass(frozen=True, slots=True)
class Group:
    """Findings that are one thing seen on several images.

    ``is_supported``: seen on a bitewing or on two images; a lone weaker view needs a second look.
    """

    key: str
    finding_ids: tuple[str, ...]
    kind: FindingKind
    tooth: Tooth
    surfaces: tuple[Surface, ...]
    images: int
    is_supported: bool
    probability: float | None = None
    depth: CariesDepth | None = None
    value_mm: float | None = None
    value_percent: float | None = None


class Urgency(StrEnum):
    """How soon a clinician should look; suggested, never decided here."""

    ROUTINE = "routine"
    SOON = "soon"
    PROMPT = "prompt"


@dataclass(frozen=True, slots=True)
class Priority:
    """How soon to look, and why."""

    urgency: Urgency
    reasons: tuple[str, ...]
    words: str


@dataclass(frozen=True, slots=True)
class Severity:
    """Bone loss of the whole mouth by its worst site."""

    words: str
    stage_range: str = ""
    tooth: Tooth | None = None
    surface: Surface | None = None
    level_mm: float | None = None
    percent: float | None = None
    extent: str = ""
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Referral:
    """Whom one might ask, and why."""

    to: str
    reason: str
    finding_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CodeSuggestion:
    """A procedure code worth considering; never posted, never selected by itself."""

    cdt_code: str
    label: str
    reason: str
    tooth: Tooth | None = None
    surfaces: tuple[Surface, ...] = ()
    area: str = ""
    evidence: tuple[str, ...] = ()
    finding_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conclusions:
    """What follows from findings and facts together."""

    is_signed: bool
    tags: tuple[str, ...]
    priority: Priority
    severity: Severity | None = None
    groups: tuple[Group, ...] = ()
    referrals: tuple[Referral, ...] = ()
    codes: tuple[CodeSuggestion, ...] = ()
    code_notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StudyReading:
    """Facts and conclusions of one study."""

    facts: StudyFacts
    conclusions: Conclusions

    def to_json(self) -> dict[str, object]:
        """Encode for the table, the export and the page."""
        return {
            "format": FORMAT,
            "facts": encode(self.facts),
            "conclusions": encode(self.conclusions),
        }

    @classmethod
    def from_json(cls, data: Json) -> StudyReading:
        """Decode what :meth:`to_json` wrote; raises InvalidInput."""
        return cls(
            decode(StudyFacts, data.get("facts")), decode(Conclusions, data.get("conclusions"))
        )
