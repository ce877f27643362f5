"""What a model or a person sees on a radiograph, and what a clinician decides about it.

Coordinates are image pixels ``(x, y)`` = (column, row); the origin is the top-left corner of the
top-left pixel, decimals allowed (the same frame as DICOM SCOORD, PS3.3 C.18.6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput

Point = tuple[float, float]


class View(Enum):
    """What kind of image this is; OTHER is whatever none of the networks may read."""

    BITEWING = "bitewing"
    PERIAPICAL = "periapical"
    PANORAMIC = "panoramic"
    OCCLUSAL = "occlusal"
    CEPHALOMETRIC = "cephalometric"
    PHOTO = "photo"
    OTHER = "other"


class FindingKind(Enum):
    """Kinds of finding; the value is stored and sent, the class letter is drawn on the page."""

    CARIES = "caries"
    BONE_LEVEL = "bone_level"
    PERIAPICAL_RADIOLUCENCY = "periapical_radiolucency"
    CALCULUS = "calculus"
    RESTORATION = "restoration"
    CROWN = "crown"
    ROOT_FILLING = "root_filling"
    IMPLANT = "implant"
    IMPACTED_TOOTH = "impacted_tooth"
    RECURRENT_CARIES = "recurrent_caries"
    DEFECTIVE_MARGIN = "defective_margin"
    POST = "post"
    ROOT_REMNANT = "root_remnant"
    ANGULAR_DEFECT = "angular_defect"
    FURCATION = "furcation"
    OTHER = "other"

    @property
    def is_caries(self) -> bool:
        """Whether this is caries, primary or recurrent; only caries has a depth."""
        return self in (FindingKind.CARIES, FindingKind.RECURRENT_CARIES)

    @property
    def letter(self) -> str:
        """The one-letter class drawn beside the mark."""
        return _LETTERS.get(self, "O")

    @property
    def is_disease(self) -> bool:
        """Whether each suggestion must be decided singly (no accept-all)."""
        return self in _DISEASE


_LETTERS = {
    FindingKind.CARIES: "C",
    FindingKind.BONE_LEVEL: "B",
    FindingKind.PERIAPICAL_RADIOLUCENCY: "P",
    FindingKind.CALCULUS: "K",
    FindingKind.RESTORATION: "R",
    FindingKind.CROWN: "R",
    FindingKind.ROOT_FILLING: "R",
    FindingKind.POST: "R",
    FindingKind.RECURRENT_CARIES: "C",
    FindingKind.DEFECTIVE_MARGIN: "R",
    FindingKind.ANGULAR_DEFECT: "B",
    FindingKind.FURCATION: "B",
}
_DISEASE = {
    FindingKind.CARIES,
    FindingKind.BONE_LEVEL,
    FindingKind.PERIAPICAL_RADIOLUCENCY,
    FindingKind.CALCULUS,
    FindingKind.RECURRENT_CARIES,
    FindingKind.DEFECTIVE_MARGIN,
    FindingKind.ANGULAR_DEFECT,
    FindingKind.FURCATION,
    FindingKind.ROOT_REMNANT,
}


class CariesDepth(Enum):
    """Radiographic depth of a caries lesion, thirds of dentine (ICCMS RA1–RC6)."""

    E1 = "E1"
    E2 = "E2"
    D1 = "D1"
    D2 = "D2"
    D3 = "D3"
    P = "P"


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-parallel rectangle, ``x0 < x1`` and ``y0 < y1``, in image pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        _finite((self.x0, self.y0), (self.x1, self.y1))
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise InvalidInput("a box must have a positive width and height")

    @property
    def points(self) -> tuple[Point, ...]:
        """The two corners, top-left and bottom-right."""
        return ((self.x0, self.y0), (self.x1, self.y1))


@dataclass(frozen=True, slots=True)
class Polygon:
    """A closed outline of 3–500 vertices (the first is not repeated), in image pixels."""

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        _finite(*self.points)
        if not 3 <= len(self.points) <= 500:
            raise InvalidInput("a polygon has 3 to 500 points")


@dataclass(frozen=True, slots=True)
class Line:
    """A measured line of two points (bone level: CEJ then crest), in image pixels."""

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        _finite(*self.points)
        if len(self.points) != 2:
            raise InvalidInput("a line has two points")


Geometry = Box | Polygon | Line


def _finite(*points: Point) -> None:
    if not all(math.isfinite(value) for point in points for value in point):
        raise InvalidInput("coordinates must be finite numbers")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """Which network made a suggestion; ``digest`` is the SHA-256 of its weights."""

    name: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One mark on one image, as a model suggests it or a person draws it.

    ``probability`` is 0..1, None for a person's own mark. ``depth`` belongs to caries;
    ``value_mm`` to bone level and only when the image has a spacing; ``value_percent`` is the
    bone loss as percent of root length when the apex is seen.
    """

    kind: FindingKind
    geometry: Geometry
    tooth: Tooth | None = None
    surfaces: tuple[Surface, ...] = ()
    depth: CariesDepth | None = None
    value_mm: float | None = None
    value_percent: float | None = None
    probability: float | None = None
    model: ModelVersion | None = None

    def __post_init__(self) -> None:
        if self.probability is not None and not 0.0 <= self.probability <= 1.0:
            raise InvalidInput("a probability lies between 0 and 1")
        if self.value_mm is not None and not 0.0 <= self.value_mm < 100.0:
            raise InvalidInput("a bone level lies between 0 and 100 mm")
        if self.depth is not None and not self.kind.is_caries:
            raise InvalidInput("only caries has a depth")


@dataclass(frozen=True, slots=True)
class ToothMark:
    """A tooth seen on an image: where it is and its number. Not a disease finding.

    ``outline`` is its mask as a polygon, empty when the network gives none.
    """

    tooth: Tooth
    box: Box
    probability: float
    model: ModelVersion
    outline: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class BoneSite:
    """The bone level at one side of a tooth, healthy or not, with the points it rests on.

    ``surface`` is mesial or distal. ``level_mm`` is CEJ to crest along the tooth's axis, given only
    with a spacing that can be trusted; ``percent`` is the loss as percent of the root beyond the
    normal 2 mm, given only when the apex is seen.
    """

    tooth: Tooth
    surface: Surface
    cej: Point
    crest: Point
    apex: Point | None
    level_mm: float | None
    percent: float | None
    probability: float


class QualityKind(Enum):
    """What may be wrong with a radiograph."""

    OVERLAP = "overlap"
    CONE_CUT = "cone_cut"
    CROWN_CUT = "crown_cut"
    APEX_CUT = "apex_cut"
    ELONGATION = "elongation"
    FORESHORTENING = "foreshortening"
    TILTED = "tilted"
    UNDEREXPOSED = "underexposed"
    OVEREXPOSED = "overexposed"
    BLUR = "blur"
    RECEPTOR = "receptor"
    POSITIONING = "positioning"
    WRONG_SIDE = "wrong_side"
    OUT_OF_SCOPE = "out_of_scope"
    LETTERING = "lettering"  # may name the patient (node.dicom.burned_in)


@dataclass(frozen=True, slots=True)
class QualityFlag:
    """One flaw with its reason in plain words.

    ``teeth`` are those it touches; ``is_disqualifying`` says that the image should not be relied
    on for what the flaw hides. ``probability`` is None for a measured flaw.
    """

    kind: QualityKind
    detail: str
    probability: float | None = None
    teeth: tuple[Tooth, ...] = ()
    is_disqualifying: bool = False


@dataclass(frozen=True, slots=True)
class Orientation:
    """How the stored image lies, compared with an upright, labially mounted, metal-bright one.

    ``quarter_turns`` is how many clockwise quarter turns (0-3) would put it upright. Nothing is
    ever turned silently: every coordinate stays one of the stored image.
    """

    quarter_turns: int = 0
    is_mirrored: bool = False
    is_inverted: bool = False

    @property
    def is_usual(self) -> bool:
        """Whether the image lies as it should."""
        return self == UPRIGHT


UPRIGHT = Orientation()


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Two thresholds on a calibrated probability, frozen on tuning films.

    From ``review`` upwards a finding is suggested; from ``high_specificity`` upwards few marks are
    false. The model card says what each reaches.
    """

    review: float
    high_specificity: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.review <= self.high_specificity <= 1.0:
            raise InvalidInput("operating points satisfy 0 <= review <= high specificity <= 1")


#: Where an analysis carries no operating points of a kind. The networks of release 0.1 report only
#: what is above their own points, several of which lie near 0.3: the first holds back their
#: faintest marks only, the second leaves the strong.
USUAL_POINT = OperatingPoint(0.25, 0.8)


@dataclass(frozen=True, slots=True)
class Spacing:
    """Pixel spacing in millimetres and what it can be trusted for.

    ``kind`` is ``calibrated`` (Pixel Spacing with a calibration type), ``detector`` (Imager
    Pixel Spacing: lengths at the detector plane, magnified) or ``unknown``.
    Source: PS3.3 10.7.1.3.
    """

    mm_row: float
    mm_col: float
    kind: str

    @property
    def is_known(self) -> bool:
        """Whether millimetres may be reported at all."""
        return self.kind != "unknown"


NO_SPACING = Spacing(0.0, 0.0, "unknown")


@dataclass(frozen=True, slots=True)
class ImageAnalysis:
    """Everything the models say about one image; all coordinates are those of the stored image.

    ``side`` is R, L or empty, ``region`` the part of the mouth in words ("upper right molar") or
    empty. ``absent`` names the tasks for which no weights are installed, so that silence is never
    mistaken for "nothing found".
    """

    view: View | None
    view_probability: float | None
    teeth: tuple[ToothMark, ...] = ()
    findings: tuple[Finding, ...] = ()
    models: tuple[ModelVersion, ...] = ()
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    side: str = ""
    region: str = ""
    orientation: Orientation = UPRIGHT
    quality: tuple[QualityFlag, ...] = ()
    sites: tuple[BoneSite, ...] = ()
    operating_points: Mapping[FindingKind, OperatingPoint] = field(default_factory=dict)


class DecisionState(Enum):
    """What a person decided about a finding."""

    SUGGESTED = "suggested"
    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"


class Disposition(Enum):
    """What a clinician intends for an accepted finding; never preselected."""

    WATCH = "watch"
    PREVENTIVE = "preventive"
    RESTORE = "restore"
    REFER = "refer"
    NONE = "none"
