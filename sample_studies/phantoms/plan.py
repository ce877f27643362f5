"""What a synthetic patient has: how often, and which tooth has what, the same on every film."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from node.domain.findings import CariesDepth
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput

DEPTHS = tuple(CariesDepth)


@dataclass(frozen=True, slots=True)
class Prevalence:
    """Chances per tooth (or per surface, where named so), for a patient of average disease.

    The defaults make rare kinds frequent enough to learn from; they are no epidemiology.
    """

    caries: float = 0.13  # per proximal surface, times the patient's activity
    occlusal: float = 0.05
    root_caries: float = 0.03  # per proximal surface with recession
    recurrent: float = 0.16  # per filled or crowned tooth
    filling: float = 0.24
    defective: float = 0.18  # per proximal box
    crown: float = 0.06
    root_filling: float = 0.05
    post: float = 0.35  # per root-filled tooth
    periapical: float = 0.05
    calculus: float = 0.07  # per proximal surface, times the patient's activity
    angular: float = 0.06  # per proximal surface
    furcation: float = 0.08  # per molar
    missing: float = 0.04
    implant: float = 0.25  # per missing tooth
    bridge: float = 0.3  # per missing tooth
    remnant: float = 0.012
    impacted: float = 0.35  # per lower third molar of a periapical
    mimics: float = 0.12
    flaws: float = 1.0
    anatomy: float = 1.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if not 0.0 <= getattr(self, item.name) <= 10.0:
                raise InvalidInput(f"prevalence of {item.name} lies between 0 and 10")


@dataclass(frozen=True, slots=True)
class Mouth:
    """What all films of one patient share; ``seed`` decides each tooth's state."""

    seed: int
    activity: float  # times the chance of caries and calculus
    bone_mm: float  # mean distance from the CEJ to the crest
    scale: float
    wear: float
    pulp: float


@dataclass(frozen=True, slots=True)
class Filling:
    """One filling: its class (I, II, III, V), material and, for a box, which side and flaw."""

    form: str
    material: str
    surface: Surface | None = None
    flaw: str = ""  # overhang, gap
    liner: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """Everything about one tooth of one patient."""

    state: str = "present"  # missing, implant, pontic, remnant, impacted
    crown: str = ""  # metal, porcelain_metal, zirconia, lithium_disilicate
    fillings: tuple[Filling, ...] = ()
    root_filled: bool = False
    short_mm: float = 0.0  # root filling: short of the apex, negative beyond
    post: str = ""
    periapical_mm: float = 0.0
    caries: tuple[tuple[Surface, CariesDepth], ...] = ()
    root_caries: tuple[Surface, ...] = ()
    occlusal: CariesDepth | None = None
    recurrent: tuple[tuple[Surface, CariesDepth], ...] = ()
    calculus: tuple[Surface, ...] = ()
    mimic: str = ""  # burnout, abrasion, hypoplasia


def draw_mouth(rng: np.random.Generator) -> Mouth:
    """Draw a patient."""
    age = float(rng.uniform(0.0, 1.0))
    bone = float(rng.choice([1.3, 2.0, 3.2, 5.0], p=[0.35, 0.3, 0.22, 0.13]))
    return Mouth(
        seed=int(rng.integers(2**62)),
        activity=float(rng.choice([0.0, 0.5, 1.0, 2.0], p=[0.15, 0.3, 0.35, 0.2])),
        bone_mm=bone * float(rng.uniform(0.9, 1.15)),
        scale=float(rng.normal(1.0, 0.045)),
        wear=max(0.0, float(rng.normal(0.0, 0.03) + 0.05 * age)),
        pulp=float(np.clip(1.15 - 0.75 * age + rng.normal(0, 0.1), 0.3, 1.3)),
    )


def condition(mouth: Mouth, tooth: Tooth, odds: Prevalence) -> Condition:
    """Decide the state of one tooth, the same one however often it is asked for."""
    rng = np.random.default_rng((mouth.seed, int(tooth.code), 1))

    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    if chance(odds.missing * (2.0 if tooth.position == 6 else 1.0)):
        kind = rng.random()
        if kind < odds.implant:
            return Condition("implant", crown=str(rng.choice(["porcelain_metal", "zirconia"])))
        if kind < odds.implant + odds.bridge:
            return Condition("pontic", crown=str(rng.choice(["porcelain_metal", "metal"])))
        return Condition("missing")
    if chance(odds.remnant):
        return Condition("remnant", periapical_mm=_lucency(rng) if chance(0.4) else 0.0)
    posterior = tooth.is_posterior
    root_filled = chance(odds.root_filling)
    crown = ""
    if chance(odds.crown * (4.0 if root_filled else 1.0) * (1.0 if posterior else 0.6)):
        names = ("metal", "porcelain_metal", "zirconia", "lithium_disilicate")
        crown = str(rng.choice(names, p=[0.3, 0.35, 0.2, 0.15]))
    fillings: tuple[Filling, ...] = ()
    if not crown and chance(1.0 if root_filled else odds.filling * (1.2 if posterior else 0.5)):
        fillings = _fillings(rng, tooth, odds)
    both = (Surface.MESIAL, Surface.DISTAL)
    boxes = {f.surface for f in fillings if f.surface}
    caries = (
        ()
        if crown
        else tuple(
            (s, _depth(rng))
            for s in both
            if s not in boxes and chance(odds.caries * mouth.activity)
        )
    )
    treated = bool(crown or boxes or fillings)
    recurrent: tuple[tuple[Surface, CariesDepth], ...] = ()
    if treated and chance(odds.recurrent * max(0.6, mouth.activity)):
        sides = tuple(s for s in both if s in boxes) or both
        side = sides[int(rng.integers(0, len(sides)))]
        deep = (CariesDepth.D1, CariesDepth.D2, CariesDepth.D3)
        if crown or boxes:
            recurrent = ((side, deep[int(rng.integers(0, 3))]),)
        else:
            recurrent = ((Surface.OCCLUSAL, deep[int(rng.integers(0, 3))]),)
    deep_enough = any(d in (CariesDepth.D3, CariesDepth.P) for _, d in caries) or root_filled
    lucent = chance(odds.periapical * (3.0 if deep_enough else 0.7))
    occlusal = None
    if (
        posterior
        and not fillings
        and not crown
        and chance(odds.occlusal * max(0.5, mouth.activity))
    ):
        occlusal = (CariesDepth.D1, CariesDepth.D2, CariesDepth.D3)[int(rng.integers(0, 3))]
    recession = mouth.bone_mm > 2.4
    return Condition(
        crown=crown,
        fillings=fillings,
        root_filled=root_filled,
        short_mm=float(rng.choice([rng.uniform(0, 2), rng.uniform(2.2, 5), -rng.uniform(0.3, 1.5)],
                                  p=[0.65, 0.22, 0.13])),
        post=str(rng.choice(["metal", "fibre", "cast"]))
        if root_filled and chance(odds.post)
        else "",
        periapical_mm=_lucency(rng) if lucent else 0.0,
        caries=caries,
        root_caries=tuple(
            s for s in both if recession and chance(odds.root_caries) and s not in boxes
        ),
        occlusal=occlusal,
        recurrent=recurrent,
        calculus=tuple(s for s in both if chance(odds.calculus * max(0.3, mouth.activity))),
        mimic=str(rng.choice(["burnout", "abrasion", "hypoplasia"], p=[0.6, 0.25, 0.15]))
        if chance(odds.mimics)
        else "",
    )  # fmt: skip


def _lucency(rng: np.random.Generator) -> float:
    """Draw a diameter in mm from the bins 1–2, 2–4, 4–8 and beyond."""
    low, high = ((1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 11.0))[
        int(rng.choice(4, p=[0.25, 0.42, 0.27, 0.06]))
    ]
    return float(rng.uniform(low, high))


def _depth(rng: np.random.Generator) -> CariesDepth:
    return DEPTHS[int(rng.choice(6, p=[0.16, 0.21, 0.25, 0.18, 0.13, 0.07]))]


def _fillings(rng: np.random.Generator, tooth: Tooth, odds: Prevalence) -> tuple[Filling, ...]:
    names = (
        "amalgam",
        "composite",
        "lucent_composite",
        "glass_ionomer",
        "gold",
        "lithium_disilicate",
    )
    shares = (0.4, 0.34, 0.08, 0.06, 0.07, 0.05)
    if not tooth.is_posterior:
        shares = (0.03, 0.67, 0.16, 0.12, 0.01, 0.01)
    material = names[int(rng.choice(6, p=shares))]
    sides = [s for s in (Surface.MESIAL, Surface.DISTAL) if rng.random() < 0.5]
    flaws = []
    for _ in range(2):
        flawed = rng.random() < odds.defective
        flaws.append(("overhang" if rng.random() < 0.6 else "gap") if flawed else "")
    liner = bool(rng.random() < 0.2)
    if rng.random() < 0.12:
        return (Filling("V", material if material != "gold" else "amalgam"),)
    if not tooth.is_posterior:
        sides = sides or [Surface.MESIAL]
        return tuple(Filling("III", material, s, f) for s, f in zip(sides, flaws, strict=False))
    if not sides:
        return (Filling("I", material, None, "", liner),)
    return tuple(Filling("II", material, s, f, liner) for s, f in zip(sides, flaws, strict=False))


def losses(
    mouth: Mouth, tooth: Tooth, root_mm: float, odds: Prevalence
) -> tuple[float, float, float, float, float]:
    """Give a tooth's bone: mesial and distal level, what of it is angular, and the furcation's.

    Levels are mm from the CEJ. Neighbours share the patient's mean.
    """
    rng = np.random.default_rng((mouth.seed, int(tooth.code), 2))
    spread = 0.18 + 0.2 * mouth.bone_mm
    levels, angular = [], []
    for _ in range(2):
        level = float(np.clip(rng.normal(mouth.bone_mm, spread), 0.5, 0.7 * root_mm))
        extra = 0.0
        if rng.random() < odds.angular * (2.0 if mouth.bone_mm > 2.5 else 0.7):
            extra = float(min(rng.uniform(2.0, 5.5), 0.8 * root_mm - level))
        levels.append(level + max(extra, 0.0))
        angular.append(max(extra, 0.0))
    furcation = float(rng.uniform(1.0, 4.0)) if rng.random() < odds.furcation else 0.0
    is_molar = tooth.position >= 6
    return levels[0], levels[1], angular[0], angular[1], furcation if is_molar else 0.0
