"""Comparison with priors on phantom pairs: registration error, change of bone level, new lesions.

``python -m benchmarks.change [PAIRS]``. Each pair is one synthetic mouth filmed twice (position,
angle, scale, exposure, curve and noise differ, `sample_studies.progression`), read by the shipped
networks, and judged by the node's own rules (`node.analysis.priors`). Between the films one crest
in two pairs of three is lowered by 0.8 to 3 mm, and one tooth in two pairs gets a lesion. Synthetic
twice over: the figures say that the arithmetic holds, not how it does on patients.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from models import change
from models.bone_change import move
from models.pipeline import Pipeline
from node.analysis.comparing import Area, Comparison, FilmTeeth
from node.analysis.priors import compare_with
from node.analysis.study_rows import FindingRow, ImageRead, StudyRows, ToothRow
from node.domain.findings import UPRIGHT, FindingKind, ImageAnalysis, Spacing
from node.domain.reading import Change, Registration, Verdict
from node.domain.study import StudyState
from node.errors import InvalidInput
from sample_studies import phantoms
from sample_studies.progression import (
    Capture,
    Grey,
    LowerCrest,
    NewLesion,
    Truth,
    capture,
    progress,
)

MM, SIZE, LARGE = 0.05, (600, 800), (700, 920)
STEPS_MM = (0.0, 0.0, 0.8, 1.5, 2.0, 3.0)
SEED = 20_000


@dataclass
class Tally:
    """What was measured over all pairs."""

    usable: int = 0
    teeth: int = 0
    misfit_mm: list[float] = field(default_factory=list)
    errors_mm: list[float] = field(default_factory=list)
    same_sites: int = 0
    false_changes: int = 0
    false_by_levels: int = 0
    lost: dict[float, list[bool]] = field(default_factory=dict)
    planted: int = 0
    seen_now: int = 0
    called_new: int = 0
    other_marks: int = 0
    false_new: int = 0
    seconds: list[float] = field(default_factory=list)


def main() -> int:
    """Measure and print markdown rows."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    pipeline = Pipeline.load(threads=1)
    tally = Tally()
    for number in range(pairs):
        _pair(np.random.default_rng((SEED, number)), pipeline, tally)
    _print(tally, pairs)
    return 0


def _pair(rng: np.random.Generator, pipeline: Pipeline, tally: Tally) -> None:
    large = phantoms.bitewing(rng, rows=LARGE[0], cols=LARGE[1], pixel_mm=MM)
    pixels = (large.pixels / (2**large.bits_stored - 1)).astype(np.float32)
    truth = large.truth()
    happened = _changes(rng, truth)
    try:
        aged = progress(pixels, truth, happened)
    except InvalidInput:
        happened, aged = [], (pixels, truth)
    before = capture(pixels, truth, Capture.random(rng), SIZE, rng)
    after = capture(*aged, Capture.random(rng), SIZE, rng)
    spacing = Spacing(MM, MM, "detector")
    films = {"before": before[0], "after": after[0]}
    rows = {name: _image(name, pipeline.analyse(film, spacing)) for name, film in films.items()}
    began = time.perf_counter()
    found = compare_with([rows["after"]], [_study(rows["before"])], _Comparer(films), Path)
    tally.seconds.append(time.perf_counter() - began)
    _count_teeth(tally, found.registrations, before[1], after[1])
    _count_bone(tally, found.changes, before[1], after[1], happened)
    _count_caries(tally, found.changes, rows["after"], happened)


def _changes(rng: np.random.Generator, truth: Truth) -> list[LowerCrest | NewLesion]:
    sites = [
        row
        for row in truth["sites"]  # type: ignore[attr-defined]
        if row["tooth"][1] in "4567" and 150 < row["crest"][0] < LARGE[1] - 150
    ]
    happened: list[LowerCrest | NewLesion] = []
    if not sites:
        return happened
    step = float(rng.choice(STEPS_MM))
    site = sites[rng.integers(len(sites))]
    if step:
        happened.append(LowerCrest(site["tooth"], site["surface"], step))
    other = sites[rng.integers(len(sites))]
    if rng.random() < 0.5:
        happened.append(NewLesion(other["tooth"], other["surface"], 1.6))
    return happened


def _image(name: str, said: ImageAnalysis) -> ImageRead:
    return ImageRead(
        id=name, storage_key=name, run_id=name, rows=SIZE[0], cols=SIZE[1],
        spacing=Spacing(MM, MM, "detector"), view=said.view, side=said.side, region=said.region,
        orientation=UPRIGHT, flags=(), sites=said.sites,
        teeth=tuple(ToothRow("", m.tooth, m.tooth, m.box, m.probability) for m in said.teeth),
        findings=tuple(FindingRow(str(n), f, f.tooth, True) for n, f in enumerate(said.findings)),
        is_decided=False,
    )  # fmt: skip


def _study(image: ImageRead) -> StudyRows:
    long_ago = datetime(2025, 1, 5, tzinfo=UTC)
    return StudyRows(
        "prior", StudyState.READY, 0, "p", None, "20250105", long_ago, 0, (image,), None
    )


class _Comparer:
    """Compare arrays in this process as `node.analysis.comparing` compares stored files."""

    def __init__(self, films: dict[str, Grey]) -> None:
        self.films = films

    def __call__(self, now: FilmTeeth, before: FilmTeeth, areas: Sequence[Area]) -> Comparison:
        films = [
            change.Film(
                self.films[str(film.path)],
                Spacing(MM, MM, "detector"),
                {tooth.tooth: tooth for tooth in film.teeth},
            )
            for film in (now, before)
        ]
        aligned = change.register(*films)
        usable = {each.tooth: each for each in aligned if each.is_usable}
        return Comparison(
            aligned,
            tuple(
                change.darkening(films[0].pixels, films[1].pixels, usable[a.tooth], a.outline)
                if a.tooth in usable
                else None
                for a in areas
            ),
        )


def _count_teeth(tally: Tally, found: Sequence[Registration], before: Truth, after: Truth) -> None:
    places = _sites(after)
    for each in found:
        tally.teeth += 1
        tally.usable += each.is_usable
        for (tooth, surface), row in _sites(before).items():
            twin = places.get((tooth, surface))
            if each.is_usable and tooth == each.tooth.code and twin is not None:
                moved = move(each.transform, tuple(row["cej"]))
                tally.misfit_mm.append(MM * math.dist(moved, twin["cej"]))


def _count_bone(
    tally: Tally,
    changes: Sequence[Change],
    before: Truth,
    after: Truth,
    happened: Sequence[LowerCrest | NewLesion],
) -> None:
    was, now = _sites(before), _sites(after)
    steps = {each.by_mm for each in happened if isinstance(each, LowerCrest)}
    for each in changes:
        key = (each.tooth.code, each.surface.value)
        if each.kind is not FindingKind.BONE_LEVEL or key not in was or key not in now:
            continue
        if each.delta_mm is None:
            continue
        true = now[key]["level_mm"] - was[key]["level_mm"]
        step = min(steps, default=0.0) if true > 0.5 else 0.0
        tally.errors_mm.append(each.delta_mm - true)
        if step:
            tally.lost.setdefault(step, []).append(each.verdict is Verdict.MORE_LOSS)
        else:
            tally.same_sites += 1
            tally.false_changes += each.verdict.is_change
            by_levels = abs((each.now_mm or 0) - (each.before_mm or 0))
            tally.false_by_levels += by_levels >= (each.smallest_mm or 0)


def _count_caries(
    tally: Tally,
    changes: Sequence[Change],
    image: ImageRead,
    happened: Sequence[LowerCrest | NewLesion],
) -> None:
    planted = {(e.tooth, e.surface) for e in happened if isinstance(e, NewLesion)}
    marked = {
        (row.finding.tooth.code, row.finding.surfaces[0].value)
        for row in image.findings
        if row.finding.kind.is_caries and row.finding.tooth and row.finding.surfaces
    }
    tally.planted += len(planted)
    tally.seen_now += len(planted & marked)
    for each in changes:
        if not each.kind.is_caries:
            continue
        key = (each.tooth.code, each.surface.value)
        if key in planted:
            tally.called_new += each.verdict in (Verdict.NEW, Verdict.DEEPER)
        elif key in marked:
            tally.other_marks += 1
            tally.false_new += each.verdict in (Verdict.NEW, Verdict.DEEPER)


def _sites(truth: Truth) -> dict[tuple[str, str], dict]:  # type: ignore[type-arg]
    return {(row["tooth"], row["surface"]): row for row in truth["sites"]}  # type: ignore[attr-defined]


def _print(tally: Tally, pairs: int) -> None:
    misfit, errors = np.array(tally.misfit_mm), np.array(tally.errors_mm)
    low, high = errors.mean() + np.array([-1.96, 1.96]) * errors.std()
    print(f"{pairs} phantom pairs.\n\n| measure | value |\n|---|--:|")
    print(f"| teeth registered, usable | {tally.usable} of {tally.teeth} |")
    print(f"| misfit at the CEJ, median / 95th, mm | {np.median(misfit):.2f} / "
          f"{np.percentile(misfit, 95):.2f} |")  # fmt: skip
    print(f"| change of bone level, MAE, mm ({len(errors)} sites) | {np.abs(errors).mean():.2f} |")
    print(f"| … bias and 95 % limits, mm | {errors.mean():+.2f} ({low:+.2f} to {high:+.2f}) |")
    print(f"| unchanged sites called changed | {tally.false_changes} of {tally.same_sites} |")
    print(f"| … had only the two levels been compared | {tally.false_by_levels} |")
    for step, found in sorted(tally.lost.items()):
        print(f"| {step:.1f} mm lost, called loss | {sum(found)} of {len(found)} |")
    print(f"| planted lesions, marked now | {tally.seen_now} of {tally.planted} |")
    print(f"| … called new or deeper | {tally.called_new} |")
    print(f"| other caries marks called new or deeper | {tally.false_new} of {tally.other_marks} |")
    print(f"| time a pair of films, median, s | {np.median(tally.seconds):.2f} |")


if __name__ == "__main__":
    raise SystemExit(main())
