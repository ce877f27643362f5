"""What a synthetic film truly shows, and the film itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from node.domain.findings import CariesDepth, FindingKind, Point, View
from node.domain.teeth import Surface, Tooth

#: The normal distance from the CEJ to the crest, taken off before a percentage is formed.
NORMAL_MM = 2.0


@dataclass(frozen=True, slots=True)
class TrueLesion:
    """One proximal primary caries lesion: surface, depth code and outline in pixels.

    ``contrast`` is the mean loss of mu·t inside the outline, ``is_visible`` whether it exceeds two
    standard deviations of the noise over a patch of a fifth of a millimetre.
    """

    tooth: Tooth
    surface: Surface
    depth: CariesDepth
    polygon: tuple[Point, ...]
    contrast: float = 0.0
    is_visible: bool = True


@dataclass(frozen=True, slots=True)
class TrueSite:
    """Bone level at one side of one tooth: points in pixels, lengths as the film shows them.

    ``level_mm`` runs from the CEJ to the crest and ``root_mm`` from the CEJ to the apex, both at
    right angles to the line through the tooth's two CEJs; ``percent`` is the loss beyond 2 mm as a
    share of the root beyond 2 mm. ``furcation`` says that bone is lost between the roots.
    """

    tooth: Tooth
    surface: Surface
    cej: Point
    crest: Point
    apex: Point
    level_mm: float
    root_mm: float
    percent: float = 0.0
    is_angular: bool = False
    furcation: bool = False


@dataclass(frozen=True, slots=True)
class TrueTooth:
    """One tooth: the part of its outline inside the film, and its box (x0, y0, x1, y1)."""

    tooth: Tooth
    box: tuple[float, float, float, float]
    polygon: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class TrueMark:
    """Anything else with a truth: fillings, crowns, calculus, lucencies and so on, in pixels.

    ``surface`` is a surface letter or "" and ``detail`` says more in a word (a material, a kind).
    """

    kind: FindingKind
    tooth: Tooth | None
    surface: str
    box: tuple[float, float, float, float]
    polygon: tuple[Point, ...]
    depth: CariesDepth | None = None
    detail: str = ""
    contrast: float = 0.0


@dataclass(frozen=True, slots=True)
class TrueOverlap:
    """A contact of neighbours: the overlapped share of the enamel's width, 0 when open."""

    teeth: tuple[Tooth, Tooth]
    share: float
    at: Point


@dataclass(frozen=True, slots=True)
class TrueQuality:
    """How well the film was taken.

    ``cone_cut`` is the unexposed share of the film; ``elongation`` the length to width factor (1 is
    right); ``blur_mm`` the standard deviation of the point spread, ``motion_mm`` its extra in one
    direction; ``exposure`` the dose as a share of the usual one; ``noise`` the standard deviation
    of mu·t in the brightest dentine; ``tilt_deg`` the turn of the film, clockwise.
    """

    overlaps: tuple[TrueOverlap, ...] = ()
    cone_cut: float = 0.0
    elongation: float = 1.0
    blur_mm: float = 0.0
    motion_mm: float = 0.0
    exposure: float = 1.0
    noise: float = 0.0
    tilt_deg: float = 0.0
    artefacts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Film:
    """One synthetic film: (rows, cols) uint16 pixels, radiopaque bright, and its truth."""

    pixels: npt.NDArray[np.uint16]
    bits_stored: int
    spacing_mm: float
    view: View
    side: str  # R, L or B
    teeth: tuple[TrueTooth, ...]
    sites: tuple[TrueSite, ...]
    lesions: tuple[TrueLesion, ...]
    marks: tuple[TrueMark, ...] = ()
    quality: TrueQuality = field(default_factory=TrueQuality)

    def truth(self) -> dict[str, object]:
        """Give the truth as plain JSON values, pixels of this film."""
        return {
            "view": self.view.value,
            "side": self.side,
            "spacing_mm": [self.spacing_mm, self.spacing_mm],
            "bits_stored": self.bits_stored,
            "teeth": [
                {"tooth": t.tooth.code, "box": _box(t.box), "polygon": _rounded(t.polygon)}
                for t in self.teeth
            ],
            "sites": [_site(site) for site in self.sites],
            "lesions": [
                {
                    "tooth": lesion.tooth.code,
                    "surface": lesion.surface.value,
                    "depth": lesion.depth.value,
                    "polygon": _rounded(lesion.polygon),
                    "contrast": round(lesion.contrast, 4),
                }
                for lesion in self.lesions
            ],
            "marks": [_mark(mark) for mark in self.marks],
            "quality": _quality(self.quality),
        }


def in_8_bits(film: Film) -> Film:
    """Give the same film with 8 bits stored."""
    pixels = np.round(film.pixels / np.float32(2**film.bits_stored - 1) * 255)
    return replace(film, pixels=pixels.astype(np.uint16), bits_stored=8)


def outline(mask: npt.NDArray[np.uint8], left: int = 0, top: int = 0) -> tuple[Point, ...] | None:
    """Trace the largest part of `mask`, moved by (left, top); None for next to nothing."""
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not found:
        return None
    largest = max(found, key=cv2.contourArea)
    if cv2.contourArea(largest) < 3:
        return None
    smooth = cv2.approxPolyDP(largest, 0.8, True)[:, 0, :]
    if len(smooth) < 3:
        return None
    return tuple((float(x) + 0.5 + left, float(y) + 0.5 + top) for x, y in smooth[:400])


def bounds(points: Sequence[Point]) -> tuple[float, float, float, float]:
    """Give the box (x0, y0, x1, y1) round `points`."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return min(xs), min(ys), max(xs), max(ys)


def percent_lost(level_mm: float, root_mm: float) -> float:
    """Give the share of the root, in per cent, that has lost its bone beyond the normal 2 mm."""
    if root_mm <= NORMAL_MM:
        return 0.0
    return min(100.0, 100.0 * max(0.0, level_mm - NORMAL_MM) / (root_mm - NORMAL_MM))


def _rounded(points: Sequence[Point]) -> list[list[float]]:
    return [[round(x, 1), round(y, 1)] for x, y in points]


def _box(box: tuple[float, float, float, float]) -> list[float]:
    return [round(v, 1) for v in box]


def _site(site: TrueSite) -> dict[str, object]:
    return {
        "tooth": site.tooth.code,
        "surface": site.surface.value,
        "cej": _rounded([site.cej])[0],
        "crest": _rounded([site.crest])[0],
        "apex": _rounded([site.apex])[0],
        "level_mm": round(site.level_mm, 2),
        "root_mm": round(site.root_mm, 2),
        "percent": round(site.percent, 1),
        "is_angular": site.is_angular,
        "furcation": site.furcation,
    }


def _mark(mark: TrueMark) -> dict[str, object]:
    return {
        "kind": mark.kind.value,
        "tooth": mark.tooth.code if mark.tooth else None,
        "surface": mark.surface,
        "box": _box(mark.box),
        "polygon": _rounded(mark.polygon),
        "depth": mark.depth.value if mark.depth else None,
        "detail": mark.detail,
        "contrast": round(mark.contrast, 4),
    }


def _quality(quality: TrueQuality) -> dict[str, object]:
    return {
        "overlaps": [
            {
                "teeth": [t.code for t in overlap.teeth],
                "share": round(overlap.share, 2),
                "at": _rounded([overlap.at])[0],
            }
            for overlap in quality.overlaps
        ],
        "cone_cut": quality.cone_cut > 0.0,
        "cone_cut_share": round(quality.cone_cut, 3),
        "elongation": round(quality.elongation, 3),
        "blur_mm": round(quality.blur_mm, 3),
        "motion_mm": round(quality.motion_mm, 3),
        "exposure": round(quality.exposure, 3),
        "noise": round(quality.noise, 4),
        "tilt_deg": round(quality.tilt_deg, 1),
        "artefacts": list(quality.artefacts),
    }
