"""The same mouth on a later day: another film of a phantom, with a known change.

From one large phantom two films are cut that differ as two captures do: position, angle, scale,
exposure, curve, noise. On the later one crests may be lower by a known length and a proximal
lesion may have appeared; the truth moves along. Bone is taken between the teeth only (the plates
over the roots stay), which is less than physics would do: figures from such pairs are synthetic
twice over. Frame and truth are those of :mod:`sample_studies.phantoms`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from node.domain.findings import Point
from node.errors import InvalidInput

Truth = dict[str, object]
Grey = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
_POINTS = ("cej", "crest", "apex")


@dataclass(frozen=True, slots=True)
class LowerCrest:
    """Bone lost between two captures: by `by_mm` at the site of a tooth (code) and surface."""

    tooth: str
    surface: str
    by_mm: float


@dataclass(frozen=True, slots=True)
class NewLesion:
    """A proximal lesion that was not there before, `deep_mm` into the tooth."""

    tooth: str
    surface: str
    deep_mm: float = 1.6


@dataclass(frozen=True, slots=True)
class Capture:
    """How one film was taken: shift in mm, turn in degrees, scale, shear, curve, blur, noise."""

    shift_mm: Point = (0.0, 0.0)
    turn_deg: float = 0.0
    scale: float = 1.0
    shear: float = 0.0
    gamma: float = 1.0
    blur_px: float = 0.0
    noise: float = 0.0

    @classmethod
    def random(cls, rng: np.random.Generator) -> Capture:
        """Vary as careful staff would between two visits."""
        return cls(
            shift_mm=(float(rng.uniform(-2.0, 2.0)), float(rng.uniform(-1.2, 1.2))),
            turn_deg=float(rng.uniform(-4.0, 4.0)),
            scale=float(rng.uniform(0.96, 1.04)),
            shear=float(rng.uniform(-0.02, 0.02)),
            gamma=float(rng.uniform(0.8, 1.25)),
            blur_px=float(rng.uniform(0.0, 0.9)),
            noise=float(rng.uniform(0.003, 0.012)),
        )


def progress(
    pixels: Grey, truth: Truth, changes: Sequence[LowerCrest | NewLesion]
) -> tuple[Grey, Truth]:
    """Age a mouth: give the large film (0..1, metal bright) and its truth after `changes`.

    A lower crest lowers the facing site of the neighbour too. Raises InvalidInput for a site that
    the film does not show.
    """
    after = copy.deepcopy(truth)
    teeth = _tooth_mask(pixels.shape, truth)
    aged = pixels.copy()
    for change in changes:
        match change:
            case LowerCrest():
                aged = _lower(aged, after, change, teeth)
            case NewLesion():
                aged = _decay(aged, after, change)
    return aged, after


def capture(
    pixels: Grey, truth: Truth, how: Capture, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Grey, Truth]:
    """Take a film of `size` (rows, cols) from the middle of a large one, with its truth."""
    rows, cols = size
    spacing = _spacing(truth)
    turn = math.radians(how.turn_deg)
    linear = how.scale * np.array(
        [[math.cos(turn), -math.sin(turn) + how.shear], [math.sin(turn), math.cos(turn)]]
    )
    middle = np.array([pixels.shape[1], pixels.shape[0]]) / 2
    target = np.array([cols, rows]) / 2 + np.array(how.shift_mm) / spacing
    shift = target - linear @ middle
    matrix = np.column_stack([linear, shift + linear @ np.array([0.5, 0.5]) - 0.5])
    film = cv2.warpAffine(pixels, matrix, (cols, rows), flags=cv2.INTER_LANCZOS4)
    if how.blur_px > 0:
        film = cv2.GaussianBlur(film, (0, 0), max(how.blur_px, 0.1))
    film = np.clip(film, 0, 1) ** how.gamma
    film = film + rng.normal(0, how.noise, film.shape) if how.noise else film
    moved = _moved(truth, linear, shift, rows, cols)
    return np.clip(film, 0, 1).astype(np.float32), moved


def _lower(pixels: Grey, truth: Truth, change: LowerCrest, teeth: Grey) -> Grey:
    """Replace the bone between two teeth by what lies above it, down to the new crest."""
    site = _site(truth, change.tooth, change.surface)
    spacing = _spacing(truth)
    facing = _facing(truth, site)
    sites = [site] + ([facing] if facing else [])
    axis = np.array(site["crest"]) - np.array(site["cej"])
    axis = axis / max(float(np.linalg.norm(axis)), 1e-6)
    side = np.array([-axis[1], axis[0]])
    far = change.by_mm / spacing
    rows, cols = pixels.shape
    ys, xs = np.mgrid[0:rows, 0:cols].astype(np.float32)
    crests = np.array([each["crest"] for each in sites], float)
    middle = crests.mean(axis=0)
    across = (xs - middle[0]) * side[0] + (ys - middle[1]) * side[1]
    along = (xs - middle[0]) * axis[0] + (ys - middle[1]) * axis[1]
    if len(sites) == 2:  # the crest runs from one tooth's to the other's
        ends = (crests - middle) @ np.column_stack([side, axis])
        run = float(ends[1, 0] - ends[0, 0])
        along = along - across * (float(ends[1, 1] - ends[0, 1]) / run if abs(run) > 1 else 0.0)
    reach = float(np.abs((crests - middle) @ side).max()) + 0.9 / spacing
    gap = (np.abs(across) < reach) & (teeth < 0.5)
    above = gap & (along < -0.3 / spacing) & (along > -2.0 / spacing)
    if above.sum() < 20:
        raise InvalidInput("the film shows no soft tissue above that crest")
    soft = float(np.median(pixels[above]))
    grain = pixels - cv2.GaussianBlur(pixels, (0, 0), max(1.0, 0.1 / spacing))
    edge = 0.25 / spacing  # a crest is not sharp
    gone = np.clip((far - along) / edge + 0.5, 0, 1) * np.clip(along / edge + 1.5, 0, 1)
    gone = gone * np.clip((reach - np.abs(across)) / (0.3 / spacing), 0, 1) * (1 - teeth)
    gone = np.asarray(gone, np.float32)
    lowered: Grey = pixels * (1 - gone) + np.minimum(pixels, soft + grain) * gone
    for each in sites:
        x, y = cast("Sequence[float]", each["crest"])
        each["crest"] = [x + float(axis[0]) * far, y + float(axis[1]) * far]
        each["level_mm"] = float(str(each["level_mm"])) + change.by_mm
    return lowered


def _decay(pixels: Grey, truth: Truth, change: NewLesion) -> Grey:
    """Take mineral from a proximal surface at the contact: a wedge that fades into the tooth."""
    site = _site(truth, change.tooth, change.surface)
    tooth = next(row for row in _rows(truth, "teeth") if row["tooth"] == change.tooth)
    spacing = _spacing(truth)
    cej, apex = np.array(site["cej"]), np.array(site["apex"])
    down = (cej - apex) / max(float(np.linalg.norm(cej - apex)), 1e-6)  # towards the crown
    outline = np.array(tooth["polygon"])
    height = (outline - cej) @ down
    crown = outline[(height > 1.2 / spacing) & (height < 5.0 / spacing)]
    others = [
        row for row in _rows(truth, "sites") if row["tooth"] == change.tooth and row is not site
    ]
    if not len(crown) or not others:
        raise InvalidInput("the film does not show that surface's crown")
    outward = cej - np.array(others[0]["cej"])
    outward = outward / max(float(np.linalg.norm(outward)), 1e-6)
    contact = crown[int(np.argmax(crown @ outward))]
    rows, cols = pixels.shape
    ys, xs = np.mgrid[0:rows, 0:cols].astype(np.float32)
    inward = -((xs - contact[0]) * outward[0] + (ys - contact[1]) * outward[1]) * spacing
    upward = ((xs - contact[0]) * down[0] + (ys - contact[1]) * down[1]) * spacing
    width = 0.9 * np.clip(1 - inward / (1.3 * change.deep_mm), 0.15, 1)
    shape = (inward > -0.15) & (inward < change.deep_mm) & (np.abs(upward) < width)
    soft = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), 0.12 / spacing)
    found, _ = cv2.findContours(shape.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    ring = max(found, key=cv2.contourArea)[:, 0, :]
    _rows(truth, "lesions").append(
        {
            "tooth": change.tooth,
            "surface": change.surface,
            "depth": "D1",
            "polygon": [[float(x) + 0.5, float(y) + 0.5] for x, y in ring],
        }
    )
    darker: Grey = (pixels * (1 - 0.30 * soft)).astype(np.float32)
    return darker


def _moved(truth: Truth, linear: Matrix, shift: Matrix, rows: int, cols: int) -> Truth:
    """Move every coordinate; drop what the smaller film does not show."""
    scale = float(np.sqrt(abs(np.linalg.det(linear))))

    def move(point: Sequence[float]) -> list[float]:
        x, y = linear @ np.array(point, float) + shift
        return [round(float(x), 1), round(float(y), 1)]

    def is_seen(point: Sequence[float]) -> bool:
        return 2 <= point[0] < cols - 2 and 2 <= point[1] < rows - 2

    moved = copy.deepcopy(truth)
    teeth = []
    for row in _rows(moved, "teeth"):
        polygon = np.array([move(p) for p in cast("list[list[float]]", row["polygon"])])
        polygon = np.clip(polygon, 0, [cols, rows])
        (x0, y0), (x1, y1) = polygon.min(axis=0), polygon.max(axis=0)
        if x1 - x0 > 2 / _spacing(truth) and y1 - y0 > 2 / _spacing(truth):
            teeth.append({**row, "polygon": polygon.tolist(), "box": [x0, y0, x1, y1]})
    shown = {row["tooth"] for row in teeth}
    sites = []
    for row in _rows(moved, "sites"):
        points = {name: move(cast("list[float]", row[name])) for name in _POINTS}
        if row["tooth"] in shown and is_seen(points["cej"]) and is_seen(points["crest"]):
            level = float(str(row["level_mm"])) * scale
            sites.append({**row, **points, "level_mm": round(level, 3)})
    lesions = []
    for row in _rows(moved, "lesions"):
        ring = [move(p) for p in cast("list[list[float]]", row["polygon"])]
        if row["tooth"] in shown and all(is_seen(point) for point in ring):
            lesions.append({**row, "polygon": ring})
    marks = []
    for row in cast("list[dict[str, object]]", moved.get("marks", [])):
        x0, y0, x1, y1 = cast("list[float]", row["box"])
        corners = np.array([move(p) for p in ((x0, y0), (x1, y0), (x0, y1), (x1, y1))])
        low, high = np.clip(corners.min(axis=0), 0, None), corners.max(axis=0)
        high = np.minimum(high, [cols, rows])
        if row.get("tooth") in shown and (high - low).min() > 2:
            ring = [move(p) for p in cast("list[list[float]]", row.get("polygon", []))]
            marks.append({**row, "box": [*low.tolist(), *high.tolist()], "polygon": ring})
    kept = {name: truth[name] for name in ("view", "side", "spacing_mm", "bits_stored")}
    return {**kept, "teeth": teeth, "sites": sites, "lesions": lesions, "marks": marks}


def _facing(truth: Truth, site: Mapping[str, object]) -> dict[str, object] | None:
    """Find the neighbour's site at the same space: the nearest CEJ of another tooth of the jaw."""
    cej = np.array(site["cej"])
    jaw = str(site["tooth"])[0] in "12"
    others = [
        row
        for row in _rows(truth, "sites")
        if row["tooth"] != site["tooth"] and (str(row["tooth"])[0] in "12") == jaw
    ]

    def away_mm(row: Mapping[str, object]) -> float:
        return float(np.linalg.norm(np.array(row["cej"]) - cej)) * _spacing(truth)

    return min((row for row in others if away_mm(row) < 4.0), key=away_mm, default=None)


def _site(truth: Truth, tooth: str, surface: str) -> dict[str, object]:
    for row in _rows(truth, "sites"):
        if row["tooth"] == tooth and row["surface"] == surface:
            return row
    raise InvalidInput("the film does not show that site")


def _tooth_mask(shape: tuple[int, ...], truth: Truth) -> Grey:
    mask = np.zeros(shape[:2], np.uint8)
    for row in _rows(truth, "teeth"):
        polygon = np.array(row["polygon"], np.float32)
        cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
    around = max(1, round(0.12 / _spacing(truth)))  # the ligament space belongs to the tooth
    mask = cv2.dilate(mask, np.ones((2 * around + 1, 2 * around + 1), np.uint8))
    soft: Grey = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.5 * around)
    return soft


def _rows(truth: Truth, name: str) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", truth[name])


def _spacing(truth: Truth) -> float:
    return float(cast("Sequence[float]", truth["spacing_mm"])[0])
