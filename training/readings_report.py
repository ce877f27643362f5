"""Every figure of the intraoral network, over all films, per view and per source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from node.domain.findings import CariesDepth, FindingKind
from training import metrics, report
from training.detection import BoxPx, Found, Marks, coco
from training.metrics import Array, ratio, share
from training.readings import RULE, Scored, annotated_kinds
from training.report import Case, Report

_ORDER = list(CariesDepth)
_ENAMEL = (CariesDepth.E1, CariesDepth.E2)
#: Where one severity ends and the next begins: % of the root, and mm from the CEJ.
#: Sources: 2018 AAP/EFP staging by radiographic loss; bitewing practice.
_PERCENT_BINS, _MM_BINS = (15.0, 33.0), (3.0, 5.0)
#: A site from this level on has lost bone; one up to the other has not, mm.
_LOST_MM, _HEALTHY_MM = 3.0, 2.0
_PCK_MM, _PRCK = (0.5, 1.0), (0.05, 0.25)
_POINTS = ("cej", "crest", "apex")

Part = Callable[[Array], Mapping[str, Array]]


def compose(
    films: Sequence[Scored],
    points: Mapping[FindingKind, Mapping[str, float]],
    level_mm: float,
    resamples: int = metrics.RESAMPLES,
) -> Report:
    """Measure scored films of one origin.

    `points` names the frozen thresholds of each kind (``review``, ``high_specificity``);
    `level_mm` is the bone level from which a site is reported.
    """
    parts = [_teeth(films), _surfaces(films, points), _bone(films, level_mm)]
    parts += [_kind(films, kind, points.get(kind, {})) for kind in _kinds(films)]

    def figures(weight: Array) -> dict[str, Array]:
        return {name: value for part in parts for name, value in part(weight).items()}

    score, is_ill = _surface_arrays(films)[:2]
    return report.compose(
        "intraoral",
        RULE,
        [_case(one) for one in films],
        figures,
        films[0].film.origin,
        {"caries_surface": metrics.reliability(score, is_ill)} if len(score) else None,
        resamples,
    )


def _case(one: Scored) -> Case:
    film = one.film
    return Case(film.group or str(film.path), {"view": film.view.value, "source": film.source})


def _kinds(films: Sequence[Scored]) -> list[FindingKind]:
    """List the kinds that are annotated at least once."""
    found = {kind for one in films for kind in one.wanted}
    return [kind for kind in FindingKind if kind in found]


# --- teeth ---------------------------------------------------------------------------------------


def _teeth(films: Sequence[Scored]) -> Part:
    scored = ["teeth" in one.film.annotated for one in films]
    numbered = ["numbers" in one.film.annotated for one in films]
    counts = np.array(
        [
            (len(one.found), len(one.truth), len(one.pairs)) if is_in else (0, 0, 0)
            for one, is_in in zip(films, scored, strict=True)
        ],
        float,
    )
    numbers = np.array(
        [
            (len(one.found), len(one.truth), len(one.pairs), one.exact, one.near)
            if is_in
            else (0, 0, 0, 0, 0)
            for one, is_in in zip(films, numbered, strict=True)
        ],
        float,
    )
    dice = np.array([d for one in films for d in one.dice])
    dice_of = np.repeat(np.arange(len(films)), [len(one.dice) for one in films])
    nothing: tuple[list[Found], list[tuple[str, BoxPx]]] = ([], [])

    def chosen(kept: Sequence[bool], label: Callable[[str], str]) -> Part:
        marks = [one.found if k else nothing[0] for one, k in zip(films, kept, strict=True)]
        truth = [one.truth if k else nothing[1] for one, k in zip(films, kept, strict=True)]
        return coco(marks, truth, label)

    boxes, codes = chosen(scored, lambda code: "tooth"), chosen(numbered, str)

    def figures(weight: Array) -> dict[str, Array]:
        found, there, hits = np.moveaxis(weight @ counts, -1, 0)
        marked, total, matched, exact, near = np.moveaxis(weight @ numbers, -1, 0)
        result: dict[str, Array] = {}
        if any(scored):
            result |= {
                "tooth_precision": ratio(hits, found),
                "tooth_recall": ratio(hits, there),
                "tooth_f1": ratio(2 * hits, found + there),
            }
        if any(numbered):
            result |= {
                "fdi_exact_of_matched": ratio(exact, matched),
                "fdi_off_by_one_of_matched": ratio(near, matched),
                "f1_with_exact_fdi": ratio(2 * exact, marked + total),
            }
        if len(dice):
            result["mask_dice_of_matched"] = share(dice, weight[..., dice_of])
        result |= {f"tooth_{name}": value for name, value in boxes(weight).items()}
        result |= {f"fdi_{name}": value for name, value in codes(weight).items()}
        return result

    return figures


# --- caries per surface --------------------------------------------------------------------------


def _surface_arrays(
    films: Sequence[Scored],
) -> tuple[Array, np.ndarray, np.ndarray, np.ndarray]:
    """Give score, whether ill, whether in enamel only, and film of every readable surface."""
    rows = [(s.score, s.depth, n) for n, one in enumerate(films) for s in one.surfaces]
    return (
        np.array([score for score, _, _ in rows], float),
        np.array([depth is not None for _, depth, _ in rows], bool),
        np.array([depth in _ENAMEL for _, depth, _ in rows], bool),
        np.array([number for _, _, number in rows], int),
    )


def _surfaces(films: Sequence[Scored], points: Mapping[FindingKind, Mapping[str, float]]) -> Part:
    score, ill, enamel, owner = _surface_arrays(films)
    hidden = np.array([one.unreadable for one in films], float)
    all_of = np.array([len(one.surfaces) + one.unreadable for one in films], float)
    pairs = [
        (_ORDER.index(true), _ORDER.index(said), number)
        for number, one in enumerate(films)
        for true, said in one.depths
    ]
    true, said, depth_of = (np.array([p[i] for p in pairs], int) for i in range(3))
    strata = {"": ill, "_enamel": enamel, "_dentine": ill & ~enamel}

    def figures(weight: Array) -> dict[str, Array]:
        if not len(score):
            return {}
        w = weight[..., owner]
        result = {"caries_surfaces_unreadable": ratio(weight @ hidden, weight @ all_of)}
        for name, chosen in strata.items():
            kept = chosen | ~ill
            result[f"caries_surface_auroc{name}"] = metrics.auroc(
                score[kept], chosen[kept], w[..., kept]
            )
        for point, threshold in points.get(FindingKind.CARIES, {}).items():
            marked = score >= threshold
            for name, chosen in strata.items():
                key = f"caries_surface_sensitivity{name}_at_{point}"
                result[key] = share(marked, w * chosen)
            result[f"caries_surface_specificity_at_{point}"] = share(~marked, w * ~ill)
        result["caries_surface_ece"] = metrics.calibration_error(score, ill, w)
        result["caries_surface_brier"] = metrics.brier(score, ill, w)
        if len(pairs):
            wd = weight[..., depth_of]
            gap = np.abs(true - said)
            result |= {
                "caries_depth_exact_of_hits": share(gap == 0, wd),
                "caries_depth_within_one_of_hits": share(gap <= 1, wd),
                "caries_depth_kappa": metrics.weighted_kappa(true, said, len(_ORDER), wd),
            }
        return result

    return figures


# --- marks of every kind -------------------------------------------------------------------------


def marks_by_kind(films: Sequence[Scored]) -> dict[FindingKind, Marks]:
    """Give the marks of each kind over the films on which it is annotated."""
    return {
        kind: _marks([one for one in films if kind in annotated_kinds(one.film)], kind)
        for kind in _kinds(films)
    }


def _marks(films: Sequence[Scored], kind: FindingKind) -> Marks:
    marks = [(m, n) for n, one in enumerate(films) for m in one.marks.get(kind, ())]
    wanted = np.array([one.wanted.get(kind, 0) for one in films], int)
    first = np.cumsum(wanted) - wanted
    lesion_score = np.full(int(wanted.sum()), -np.inf)
    for mark, number in marks:
        if mark.hit is not None:
            lesion_score[first[number] + mark.hit] = mark.probability
    return Marks(
        np.array([m.probability for m, _ in marks], float),
        np.array([m.hit is not None for m, _ in marks], bool),
        np.array([n for _, n in marks], int),
        wanted.astype(float),
        lesion_score,
        np.repeat(np.arange(len(films)), wanted),
    )


def _kind(films: Sequence[Scored], kind: FindingKind, frozen: Mapping[str, float]) -> Part:
    """Prepare the figures of the marks of one kind; films that do not annotate it count nothing."""
    known = np.array([kind in annotated_kinds(one.film) for one in films])
    all_marks = _marks(films, kind)

    def figures(weight: Array) -> dict[str, Array]:
        w = weight * known
        result = all_marks.froc(w)
        for point, threshold in frozen.items():
            result |= all_marks.at(point, threshold, w)
        result["mark_ece"] = all_marks.calibration(w)["ece"]
        return {f"{kind.value}_{name}": value for name, value in result.items()}

    return figures


# --- bone ----------------------------------------------------------------------------------------


def _bone(films: Sequence[Scored], level_mm: float) -> Part:
    sites = [(site, n) for n, one in enumerate(films) for site in one.sites]
    owner = np.array([n for _, n in sites], int)
    true = np.array([s.true_mm for s, _ in sites], float)
    found = np.array([s.found_mm for s, _ in sites], float)
    true_part = np.array([s.true_percent for s, _ in sites], float)
    found_part = np.array([s.found_percent for s, _ in sites], float)
    apart = np.array([s.apart for s, _ in sites], float).reshape(-1, 3)
    size = np.array([s.size for s, _ in sites], float)
    known = np.isfinite(found)
    reported = known & (np.nan_to_num(found) >= level_mm)
    both = np.isfinite(true_part) & np.isfinite(found_part)

    def figures(weight: Array) -> dict[str, Array]:
        if not len(sites):
            return {}
        w = weight[..., owner]
        wk = w[..., known]
        bias, low, high = metrics.bland_altman(true[known], found[known], wk)
        error = np.abs(found[known] - true[known])
        result = {
            "bone_sites_measured": share(known, w),
            "bone_mae_mm": share(error, wk),
            "bone_bias_mm": bias,
            "bone_limit_low_mm": low,
            "bone_limit_high_mm": high,
            "bone_icc": metrics.icc(true[known], found[known], wk),
            "bone_within_1mm_of_measured": share(error <= 1.0, wk),
            "bone_kappa_mm": metrics.weighted_kappa(
                np.digitize(true[known], _MM_BINS), np.digitize(found[known], _MM_BINS), 3, wk
            ),
            "bone_reported_of_3mm_or_more": share(reported, w * (true >= _LOST_MM)),
            "bone_unreported_of_2mm_or_less": share(~reported, w * (true <= _HEALTHY_MM)),
        }
        if both.any():
            wb = w[..., both]
            result["bone_mae_percent"] = share(np.abs(found_part - true_part)[both], wb)
            result["bone_kappa_severity"] = metrics.weighted_kappa(
                np.digitize(true_part[both], _PERCENT_BINS),
                np.digitize(found_part[both], _PERCENT_BINS),
                3,
                wb,
            )
        for column, name in enumerate(_POINTS):
            result |= _point(name, apart[:, column], size, w)
        return result

    return figures


def _point(name: str, apart: Array, size: Array, weight: Array) -> dict[str, Array]:
    """Give the error of one kind of point: median and 95th of those found, PCK and PRCK of all."""
    there, seen = ~np.isnan(apart), np.isfinite(apart)
    if not there.any():
        return {}
    ws, wt = weight[..., seen], weight[..., there]
    result = {
        f"{name}_median_mm": metrics.quantile(apart[seen], ws, 0.5),
        f"{name}_95th_mm": metrics.quantile(apart[seen], ws, 0.95),
    }
    result |= {f"{name}_pck_{mm}mm": share(apart[there] <= mm, wt) for mm in _PCK_MM}
    return result | {
        f"{name}_prck_{part}": share(apart[there] <= part * size[there], wt) for part in _PRCK
    }
