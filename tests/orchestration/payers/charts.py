"""Charts of an invented patient for the tests of evidence and narrative."""

from datetime import date
from decimal import Decimal

from node.domain.findings import (
    Box,
    CariesDepth,
    DecisionState,
    Disposition,
    Finding,
    FindingKind,
    Line,
    View,
)
from node.domain.review import SignedFinding
from node.domain.teeth import Surface, Tooth
from orchestration.payers.chart import (
    ChartFacts,
    Done,
    ImageFact,
    Mark,
    PerioExam,
    Planned,
    Pockets,
)
from orchestration.payers.claim import Area

TODAY = date(2026, 3, 2)
CROWN = Planned("70", "D2740", Decimal(1450), Tooth("46"), planned_on=date(2026, 2, 20))
SCALING = Planned("71", "D4341", Decimal(280), area=Area.UPPER_RIGHT)
FILM = ImageFact("film-1", View.PERIAPICAL, date(2026, 2, 1), (Tooth("46"), Tooth("47")))
WINGS = tuple(
    ImageFact(f"wing-{n}", View.BITEWING, date(2026, 2, 1), (Tooth("16"), Tooth("46")))
    for n in range(2)
)


def mark(
    kind: FindingKind = FindingKind.CARIES,
    tooth: str = "46",
    depth: CariesDepth | None = CariesDepth.D3,
    mm: float | None = None,
    percent: float | None = None,
    name: str = "f1",
) -> Mark:
    shape = Line(((1.0, 1.0), (2.0, 9.0))) if mm else Box(1.0, 1.0, 5.0, 5.0)
    value = Finding(
        kind, shape, Tooth(tooth), (Surface.DISTAL, Surface.OCCLUSAL), depth, mm, percent
    )
    signed = SignedFinding(
        name, "film-1", "1.2.3", "ai", DecisionState.ACCEPTED, value, Disposition.RESTORE
    )
    return Mark(signed, "Dr Test", date(2026, 2, 2), date(2026, 2, 1), View.PERIAPICAL)


def exam(day: date = date(2026, 1, 15), depth: int = 5, teeth: int = 4) -> PerioExam:
    rows = tuple(
        Pockets(f"m{n}", Tooth(f"1{8 - n}"), (depth, 3, 3, 3, 2, 3), (True,) + (False,) * 5)
        for n in range(teeth)
    )
    lower = Pockets("m46", Tooth("46"), (3, 2, 3, 3, 2, 3), (False,) * 6)
    return PerioExam("e1", day, (*rows, lower))


FULL = ChartFacts(
    planned=(CROWN, SCALING),
    done=(Done("9", "D2392", date(2019, 5, 5), Tooth("46")),),
    exams=(exam(),),
    images=(FILM, *WINGS),
    marks=(mark(),),
    missing=frozenset({Tooth("18")}),
)
ANSWERS = {
    "sound_structure:70": "40",
    "placement:70": "initial",
    "why_not_filling:70": "distolingual cusp undermined",
    "prognosis:70": "good",
    "bleeding:71": "generalised",
    "prognosis:71": "fair",
    "endo_state:70": "vital",
    "deposits:71": "subgingival calculus",
}
