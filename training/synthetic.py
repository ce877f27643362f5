"""Synthetic films on disk, as ``python -m sample_studies generate`` writes them.

A folder of three parts, ``train``, ``tune`` and ``test``, each with films (``N.png`` beside
``N.truth.json``) in any sub-folders. The parts come from different seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from node.domain.findings import NO_SPACING, CariesDepth, FindingKind, Point, Spacing, View
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput

PARTS = ("train", "tune", "test")

#: What can be annotated on a film; a set that lacks one is neither trained nor scored on it.
ANNOTATED = frozenset({"teeth", "numbers", "sites", "caries", "marks"})


@dataclass(frozen=True, slots=True)
class ToothTruth:
    """A tooth of a synthetic film: number, box (x0, y0, x1, y1) and outline, film pixels."""

    tooth: Tooth
    box: tuple[float, float, float, float]
    outline: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class SiteTruth:
    """Bone level at one side of a tooth: points in film pixels and length in mm."""

    tooth: Tooth
    surface: Surface
    cej: Point
    crest: Point
    apex: Point
    level_mm: float


@dataclass(frozen=True, slots=True)
class LesionTruth:
    """A proximal caries lesion: where, how deep, and its outline in film pixels."""

    tooth: Tooth
    surface: Surface
    depth: CariesDepth
    outline: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class MarkTruth:
    """Anything else on a film: its kind, tooth and surface if any, box in film pixels.

    ``depth`` belongs to caries: occlusal, root and recurrent lesions are marks, not lesions.
    """

    kind: FindingKind
    box: tuple[float, float, float, float]
    tooth: Tooth | None = None
    surface: Surface | None = None
    depth: CariesDepth | None = None


@dataclass(frozen=True, slots=True)
class OverlapTruth:
    """How far the crowns of two neighbours cover each other, as a share of the enamel's width."""

    teeth: tuple[Tooth, Tooth]
    share: float


@dataclass(frozen=True, slots=True)
class SyntheticFilm:
    """One intraoral film with its truth; the pixels stay on disk until read.

    ``spacing_mm`` is 0 where the set does not tell it; then ``estimated_mm`` may hold what the
    sizes of the teeth suggest, to score by and never to report. ``group`` is the patient where
    the set tells, else the film; ``origin`` is ``synthetic`` or ``real``, ``source`` the set or
    machine.
    What is not in ``annotated`` is unknown on this film, not absent.
    """

    path: Path
    view: View
    bits_stored: int
    spacing_mm: float
    teeth: tuple[ToothTruth, ...]
    sites: tuple[SiteTruth, ...]
    lesions: tuple[LesionTruth, ...]
    group: str = ""
    origin: str = "synthetic"
    source: str = "synthetic"
    annotated: frozenset[str] = ANNOTATED
    estimated_mm: float = 0.0
    marks: tuple[MarkTruth, ...] = ()
    overlaps: tuple[OverlapTruth, ...] = ()

    @property
    def scale_mm(self) -> float:
        """Millimetres per pixel to score distances by; NaN where nothing tells it."""
        return self.spacing_mm or self.estimated_mm or math.nan

    @property
    def spacing(self) -> Spacing:
        """The spacing as the networks take it; unknown where the set does not tell."""
        if not self.spacing_mm > 0:
            return NO_SPACING
        return Spacing(self.spacing_mm, self.spacing_mm, "detector")

    def read(self) -> np.ndarray:
        """Read the pixels as (rows, cols) uint8; raises InvalidInput for a broken file."""
        pixels = cv2.imread(str(self.path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
        if pixels is None:
            raise InvalidInput(f"{self.path.name} is not a readable image")
        scaled = np.round(pixels.astype(np.float32) / (2**self.bits_stored - 1) * 255)
        grey: np.ndarray = np.clip(scaled, 0, 255).astype(np.uint8)
        return grey


def read_part(folder: Path, part: str) -> tuple[SyntheticFilm, ...]:
    """Read the truth of all films of one part, in the order of their paths.

    Raises InvalidInput when there are none or one is damaged.
    """
    paths = sorted((folder / part).rglob("*.truth.json"), key=_order)
    if not paths:
        raise InvalidInput(f"{folder} has no synthetic films under {part}/")
    return tuple(read_film(path) for path in paths)


def _order(path: Path) -> tuple[str, int, str]:
    stem = path.name.removesuffix(".truth.json")
    return str(path.parent), int(stem) if stem.isdigit() else 0, stem


def read_film(truth: Path) -> SyntheticFilm:
    """Read one ``N.truth.json``; raises InvalidInput when it is damaged."""
    try:
        raw = json.loads(truth.read_text(encoding="utf-8"))
        return SyntheticFilm(
            path=truth.with_name(truth.name.removesuffix(".truth.json") + ".png"),
            view=View(raw["view"]),
            bits_stored=int(raw["bits_stored"]),
            spacing_mm=float(raw["spacing_mm"][0]),
            teeth=tuple(_tooth(item) for item in raw["teeth"]),
            sites=tuple(_site(item) for item in raw["sites"]),
            lesions=tuple(_lesion(item) for item in raw["lesions"]),
            annotated=ANNOTATED if "marks" in raw else ANNOTATED - {"marks"},
            marks=tuple(_mark(item) for item in raw.get("marks", ())),
            overlaps=tuple(_overlap(item) for item in raw.get("quality", {}).get("overlaps", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidInput(f"{truth.name} is not the truth of a synthetic film") from error


def _tooth(item: Mapping[str, object]) -> ToothTruth:
    x0, y0, x1, y1 = (float(v) for v in item["box"])  # type: ignore[attr-defined]
    return ToothTruth(Tooth(str(item["tooth"])), (x0, y0, x1, y1), _points(item["polygon"]))


def _site(item: Mapping[str, object]) -> SiteTruth:
    cej, crest, apex = _points([item["cej"], item["crest"], item["apex"]])
    level = float(str(item["level_mm"]))
    return SiteTruth(Tooth(str(item["tooth"])), Surface(item["surface"]), cej, crest, apex, level)


def _lesion(item: Mapping[str, object]) -> LesionTruth:
    return LesionTruth(
        Tooth(str(item["tooth"])),
        Surface(item["surface"]),
        CariesDepth(item["depth"]),
        _points(item["polygon"]),
    )


def _mark(item: Mapping[str, object]) -> MarkTruth:
    x0, y0, x1, y1 = (float(v) for v in item["box"])  # type: ignore[attr-defined]
    return MarkTruth(
        kind=FindingKind(item["kind"]),
        box=(x0, y0, x1, y1),
        tooth=Tooth(str(item["tooth"])) if item.get("tooth") else None,
        surface=Surface(item["surface"]) if item.get("surface") else None,
        depth=CariesDepth(item["depth"]) if item.get("depth") else None,
    )


def _overlap(item: Mapping[str, object]) -> OverlapTruth:
    first, second = (Tooth(str(code)) for code in item["teeth"])  # type: ignore[attr-defined]
    return OverlapTruth((first, second), float(str(item["share"])))


def _points(raw: object) -> tuple[Point, ...]:
    if not isinstance(raw, list):
        raise TypeError("points are a list")
    return tuple((float(x), float(y)) for x, y in raw)
