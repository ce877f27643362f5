"""Choose the intraoral network's thresholds and measure it on synthetic films.

Every figure made here is one of synthetic films: it says how well the network learnt the
generator, not how it does on patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from models import runtime
from models.backbone import DenseNet, fused
from models.intraoral import POINTS, IntraoralModel, Reading, surface_at
from node.domain.findings import CariesDepth, Finding, ModelVersion, Point, View
from node.domain.teeth import Surface, Tooth
from training.evaluate import BoxPx, Figure, Found, Report, bootstrap, match
from training.synthetic import LesionTruth, SyntheticFilm

#: False caries marks a film is allowed on the tuning films.
FALSE_PER_FILM = 0.3
#: Marks below this are never shown, however rare.
LEAST_CARIES = 0.1
#: The specificity that the bone level to report from must reach on the tuning films.
LEVEL_SPECIFICITY = 0.95
#: Sites up to this level count as healthy when the level to report from is chosen, mm.
HEALTHY_MM = 2.0
#: Bone is reported from this level on at least: 2 mm plus the network's own error.
LEAST_LEVEL_MM = 2.5
#: A caries mark hits when its middle lies in the lesion's outline widened by this much, mm.
_NEAR_MM = 0.5
_DENTINE = (CariesDepth.D1, CariesDepth.D2, CariesDepth.D3)


@dataclass(frozen=True, slots=True)
class Site:
    """One site measured: true and measured level, mm; None when the network gave none."""

    truth_mm: float
    found_mm: float | None
    cej_mm: float
    crest_mm: float


@dataclass(frozen=True, slots=True)
class Surf:
    """One proximal surface: its true depth (None is sound) and the network's score."""

    depth: CariesDepth | None
    score: float


@dataclass(frozen=True, slots=True)
class Tally:
    """What one film contributed to the figures."""

    view: View
    found: int
    truth: int
    hits: int
    exact: int
    near: int
    surfaces: tuple[Surf, ...]
    sites: tuple[Site, ...]
    marks: tuple[tuple[float, bool], ...]  # score of each caries mark, and whether it hit
    lesions: int
    depths: tuple[tuple[CariesDepth, CariesDepth], ...]  # true and said, of marks that hit


def choose_thresholds(net: DenseNet, films: Sequence[SyntheticFilm]) -> dict[str, float]:
    """Choose what is frozen in the weights, on the tuning films."""
    tooth, point = 0.3, 0.15
    version = ModelVersion("intraoral", "0.0.0", "0" * 64)
    start = {"tooth": 0.1, "point": point, "caries": 0.0, "level_mm": 0.0}
    model = IntraoralModel(_ready(net), start, version)
    readings = [(film, read(model, film)) for film in films]
    pairs = [_matched(film, reading) for film, reading in readings]
    scored = [
        (mark.probability, index in dict(pair))
        for (film, reading), pair in zip(readings, pairs, strict=True)
        for index, mark in enumerate(reading.teeth)
    ]
    tooth = _best_f1(scored, sum(len(film.teeth) for film in films))
    tallies = [tally(film, reading) for film, reading in readings]
    told = [t for f, t in zip(films, tallies, strict=True) if "caries" in f.annotated]
    false = sorted((score for t in told for score, hit in t.marks if not hit), reverse=True)
    allowed = int(FALSE_PER_FILM * len(told))
    caries = max(LEAST_CARIES, false[allowed] if len(false) > allowed else 0.0)
    healthy = sorted(
        s.found_mm
        for t in tallies
        for s in t.sites
        if s.truth_mm <= HEALTHY_MM and s.found_mm is not None
    )
    level = float(np.quantile(healthy, LEVEL_SPECIFICITY)) if healthy else HEALTHY_MM
    return {
        "tooth": max(tooth, 0.1),
        "point": point,
        "caries": caries + 1e-4,
        "level_mm": max(LEAST_LEVEL_MM, round(level, 1)),
    }


def _ready(net: DenseNet) -> DenseNet:
    """Copy `net` into the form the product runs."""
    copy = DenseNet({name: head.out_channels for name, head in net.heads.items()})  # type: ignore[misc]
    copy.load_state_dict(net.state_dict())
    fused(copy).to(runtime.device()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copy


def _best_f1(scored: Sequence[tuple[float, bool]], positives: int) -> float:
    ranked = sorted(scored, key=lambda pair: -pair[0])
    hits = np.cumsum([hit for _, hit in ranked])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + positives)
    return ranked[int(np.argmax(f1))][0] if ranked else 0.5


def read(model: IntraoralModel, film: SyntheticFilm) -> Reading:
    """Run `model` on `film` as the product does, with its true view and its spacing."""
    return model.read(film.read() / np.float32(255), film.view, film.spacing)


def _matched(film: SyntheticFilm, reading: Reading) -> list[tuple[int, int]]:
    """Pair found with true teeth at IoU 0.5: (index of the mark, index of the truth)."""
    found = [
        Found(m.tooth.code, (m.box.x0, m.box.y0, m.box.x1, m.box.y1), m.probability)
        for m in reading.teeth
    ]
    boxes: list[BoxPx] = [t.box for t in film.teeth]
    pairs = match(found, boxes, iou=0.5)
    return [(index, pair) for index, pair in enumerate(pairs) if pair is not None]


def tally(film: SyntheticFilm, reading: Reading) -> Tally:
    """Compare what the network read on one film with the truth."""
    pairs = _matched(film, reading)
    true_of = {reading.teeth[i].tooth: film.teeth[j].tooth for i, j in pairs}
    hits = [(lesion, _hit(film, lesion)) for lesion in reading.caries]
    taken: set[int] = set()
    marks, depths = [], []
    for finding, place in sorted(hits, key=lambda pair: -(pair[0].probability or 0)):
        is_hit = place is not None and place not in taken
        marks.append((finding.probability or 0.0, is_hit))
        if place is not None and is_hit:
            taken.add(place)
            if finding.depth is not None:
                depths.append((film.lesions[place].depth, finding.depth))
    return Tally(
        view=film.view,
        found=len(reading.teeth),
        truth=len(film.teeth),
        hits=len(pairs),
        exact=sum(found == true for found, true in true_of.items()),
        near=sum(_apart(found, true) == 1 for found, true in true_of.items()),
        surfaces=tuple(_surfaces(film, reading, true_of)),
        sites=tuple(_sites(film, reading, true_of)),
        marks=tuple(marks),
        lesions=len(film.lesions),
        depths=tuple(depths),
    )


def _apart(a: Tooth, b: Tooth) -> int:
    return abs(a.position - b.position) if a.quadrant == b.quadrant else 99


def _middle(finding: Finding) -> Point:
    xs, ys = zip(*finding.geometry.points, strict=True)
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def _hit(film: SyntheticFilm, finding: Finding) -> int | None:
    """Give the index of the lesion a mark's middle lies in or beside."""
    x, y = _middle(finding)
    near = [(_inside(lesion, x, y), index) for index, lesion in enumerate(film.lesions)]
    depth, index = max(near, default=(-1e9, -1))
    return index if depth >= 0 or depth * film.scale_mm >= -_NEAR_MM else None


def _inside(lesion: LesionTruth, x: float, y: float) -> float:
    ring = np.asarray(lesion.outline, np.float32)
    return float(cv2.pointPolygonTest(ring, (x, y), True))


def _surfaces(film: SyntheticFilm, reading: Reading, true_of: dict[Tooth, Tooth]) -> list[Surf]:
    """Score every proximal surface that is seen; a lesion's surface always counts."""
    scores: dict[tuple[Tooth, Surface], float] = {}
    for finding in reading.caries:
        if finding.tooth is None or finding.tooth not in true_of:
            continue
        true = true_of[finding.tooth]
        # The side in the image is what was seen; name it for the true number.
        side = next(
            s for s in ("left", "right") if surface_at(finding.tooth, s) in finding.surfaces
        )
        key = (true, surface_at(true, side))
        scores[key] = max(scores.get(key, 0.0), finding.probability or 0.0)
    depths = {(lesion.tooth, lesion.surface): lesion.depth for lesion in film.lesions}
    seen = {(site.tooth, site.surface) for site in film.sites} | depths.keys()
    order = sorted(seen, key=lambda key: (key[0].code, key[1].value))
    return [Surf(depths.get(key), scores.get(key, 0.0)) for key in order]


def _sites(film: SyntheticFilm, reading: Reading, true_of: dict[Tooth, Tooth]) -> list[Site]:
    found = {}
    for level in reading.levels:
        tooth = level.finding.tooth
        if tooth in true_of:
            assert tooth is not None
            side = next(
                s for s in ("left", "right") if surface_at(tooth, s) in level.finding.surfaces
            )
            found[(true_of[tooth], surface_at(true_of[tooth], side))] = level
    sites = []
    for site in film.sites:
        level_found = found.get((site.tooth, site.surface))
        if level_found is None:
            sites.append(Site(site.level_mm, None, np.inf, np.inf))
            continue
        cej, crest = level_found.finding.geometry.points
        apart = [
            float(np.hypot(a[0] - b[0], a[1] - b[1])) * film.scale_mm
            for a, b in ((cej, site.cej), (crest, site.crest))
        ]
        sites.append(Site(site.level_mm, level_found.loss_mm, apart[0], apart[1]))
    return sites


def report(model: IntraoralModel, films: Sequence[SyntheticFilm]) -> Report:
    """Measure `model` on synthetic films; intervals come from resampling films."""
    tallies = [(str(film.path), tally(film, read(model, film))) for film in films]
    figures: dict[str, Figure] = {}
    for name, views in (
        ("", tuple(View)),
        ("bitewing_", (View.BITEWING,)),
        ("periapical_", (View.PERIAPICAL,)),
    ):
        chosen = [(group, t) for group, t in tallies if t.view in views]
        if chosen:
            measure = _Figures([t for _, t in chosen], model.thresholds)
            made = bootstrap([group for group, _ in chosen], measure, resamples=1000)
            figures |= {name + key: figure for key, figure in made.items()}
    rule = (
        "synthetic test films; teeth IoU >= 0.5; caries per surface, a mark hits when its middle "
        f"lies within {_NEAR_MM} mm of the lesion; points and levels of matched teeth"
    )
    return Report("intraoral", len(films), len(films), rule, figures)


class _Figures:
    """Figures of tallies under weights per film, as :func:`bootstrap` asks for."""

    def __init__(self, tallies: Sequence[Tally], thresholds: dict[str, float]) -> None:
        self._caries, self._level = thresholds["caries"], thresholds["level_mm"]
        self._teeth = np.array(
            [(t.found, t.truth, t.hits, t.exact, t.near) for t in tallies], float
        )
        surfaces = [(s, n) for n, t in enumerate(tallies) for s in t.surfaces]
        self._score = np.array([s.score for s, _ in surfaces])
        self._depth = np.array([s.depth.value if s.depth else "" for s, _ in surfaces])
        self._surface_of = np.array([n for _, n in surfaces], int)
        sites = [(s, n) for n, t in enumerate(tallies) for s in t.sites]
        self._true = np.array([s.truth_mm for s, _ in sites])
        self._found = np.array([np.nan if s.found_mm is None else s.found_mm for s, _ in sites])
        self._apart = np.array([(s.cej_mm, s.crest_mm) for s, _ in sites])
        self._site_of = np.array([n for _, n in sites], int)
        marks = [(hit, n) for n, t in enumerate(tallies) for s, hit in t.marks if s >= self._caries]
        self._hit = np.array([hit for hit, _ in marks], bool)
        self._mark_of = np.array([n for _, n in marks], int)
        self._lesions = np.array([t.lesions for t in tallies], float)
        depths = [(a, b, n) for n, t in enumerate(tallies) for a, b in t.depths]
        order = list(CariesDepth)
        self._depth_gap = np.array([abs(order.index(a) - order.index(b)) for a, b, _ in depths])
        self._depth_of = np.array([n for _, _, n in depths], int)

    def __call__(self, weight: np.ndarray) -> dict[str, float]:
        """Compute all figures, films counting by `weight`."""
        return self._tooth(weight) | self._caries_figures(weight) | self._bone(weight)

    def _tooth(self, weight: np.ndarray) -> dict[str, float]:
        found, truth, hits, exact, near = weight @ self._teeth
        return {
            "tooth_f1": _ratio(2 * hits, found + truth),
            "tooth_precision": _ratio(hits, found),
            "tooth_recall": _ratio(hits, truth),
            "fdi_exact_of_matched": _ratio(exact, hits),
            "fdi_off_by_one_of_matched": _ratio(near, hits),
        }

    def _caries_figures(self, weight: np.ndarray) -> dict[str, float]:
        w = weight[self._surface_of]
        sound = self._depth == ""
        is_dentine = np.isin(self._depth, [d.value for d in _DENTINE])
        is_marked = self._score >= self._caries
        wm = weight[self._mark_of]
        wd = weight[self._depth_of]
        result = {
            "caries_surface_auroc": _auroc(self._score, ~sound, w),
            "caries_surface_auroc_dentine": _auroc(
                self._score[sound | is_dentine],
                is_dentine[sound | is_dentine],
                w[sound | is_dentine],
            ),
            "caries_surface_sensitivity": _share(is_marked, w * ~sound),
            "caries_surface_sensitivity_enamel": _share(is_marked, w * (~sound & ~is_dentine)),
            "caries_surface_sensitivity_dentine": _share(is_marked, w * is_dentine),
            "caries_surface_specificity": _share(~is_marked, w * sound),
            "caries_lesion_sensitivity": _ratio(wm @ self._hit, weight @ self._lesions),
            "caries_false_marks_per_film": _ratio(wm @ ~self._hit, weight.sum()),
            "caries_depth_exact_of_hits": _share(self._depth_gap == 0, wd),
            "caries_depth_within_one_of_hits": _share(self._depth_gap <= 1, wd),
        }
        return result

    def _bone(self, weight: np.ndarray) -> dict[str, float]:
        w = weight[self._site_of]
        known = np.isfinite(self._found)
        error = np.where(known, self._found - self._true, 0.0)
        is_reported = known & (np.where(known, self._found, 0) >= self._level)
        result = {
            "bone_sites_measured": _share(known, w),
            "bone_mae_mm": _ratio(float((w * known) @ np.abs(error)), float(w @ known)),
            "bone_bias_mm": _ratio(float((w * known) @ error), float(w @ known)),
            "bone_within_1mm_of_measured": _share(np.abs(error) <= 1.0, w * known),
            "bone_reported_of_3mm_or_more": _share(is_reported, w * (self._true >= 3.0)),
            "bone_unreported_of_2mm_or_less": _share(~is_reported, w * (self._true <= HEALTHY_MM)),
        }
        for column, name in enumerate(POINTS[:2]):
            result[f"{name}_within_1mm_of_measured"] = _share(
                self._apart[:, column] <= 1.0, w * known
            )
        return result


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _share(what: np.ndarray, weight: np.ndarray) -> float:
    return _ratio(float(weight @ what), float(weight.sum()))


def _auroc(score: np.ndarray, is_ill: np.ndarray, weight: np.ndarray) -> float:
    """Give the weighted area under the ROC curve, ties counting half."""
    values, place = np.unique(score, return_inverse=True)
    ill = np.bincount(place, weight * is_ill, len(values))
    sound = np.bincount(place, weight * ~is_ill, len(values))
    below = np.concatenate([[0.0], np.cumsum(sound)[:-1]])
    return _ratio(float(ill @ (below + 0.5 * sound)), float(ill.sum() * sound.sum()))
