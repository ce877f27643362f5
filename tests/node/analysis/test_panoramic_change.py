"""Two panoramics of one patient: marks on whole teeth are compared by probability, never in mm."""

from datetime import UTC, datetime

import pytest

pytest.importorskip("cv2")

import numpy as np

from models import change
from node.analysis.comparing import Comparison
from node.analysis.priors import compare_with
from node.analysis.study_rows import FindingRow, ImageRead, StudyRows, ToothRow
from node.domain import cdt
from node.domain.conclusions import conclude
from node.domain.findings import (
    NO_SPACING,
    UPRIGHT,
    Box,
    Finding,
    FindingKind,
    ModelVersion,
    OperatingPoint,
    View,
)
from node.domain.reading import StudyFacts, StudyReading, Verdict
from node.domain.study import StudyState
from node.domain.teeth import Tooth
from sample_studies.phantoms.panoramic import panoramic_scene, take_panoramic

MODEL = ModelVersion("panoramic_caries", "2.1.0", "0" * 64)
POINTS = {FindingKind.CARIES: OperatingPoint(0.17, 0.48)}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """One mouth taken twice, the boxes of some teeth (they lie the same on both), and a store."""
    scene = panoramic_scene(np.random.default_rng(4), cols=800, rows=400, pixel_mm=0.375)
    taken = [take_panoramic(scene, np.random.default_rng(seed)) for seed in (1, 2)]
    pixels = [(f.pixels / (2**f.bits_stored - 1)).astype(np.float32) for f in taken]
    teeth = {Tooth(t["tooth"]): Box(*t["box"]) for t in taken[0].truth()["teeth"]}
    store = tmp_path_factory.mktemp("store")
    for name in ("now", "before"):
        (store / name).touch()
    return pixels, {tooth: box for tooth, box in teeth.items() if tooth.position in (5, 6)}, store


def image(name, pixels, teeth, marks=(), points=POINTS):
    return ImageRead(
        id=name,
        storage_key=name,
        run_id=name,
        rows=pixels.shape[0],
        cols=pixels.shape[1],
        spacing=NO_SPACING,
        view=View.PANORAMIC,
        side="",
        region="",
        orientation=UPRIGHT,
        flags=(),
        sites=(),
        teeth=tuple(ToothRow("", tooth, tooth, box, 0.9) for tooth, box in teeth.items()),
        findings=tuple(FindingRow(str(n), m, m.tooth, True) for n, m in enumerate(marks)),
        is_decided=False,
        points=points,
    )


def mark(tooth, teeth, probability, kind=FindingKind.CARIES):
    return Finding(kind, teeth[tooth], tooth, probability=probability, model=MODEL)


def compared(films, now_marks, prior_marks, prior_points=POINTS, is_other=False):
    (now, before), teeth, store = films
    if is_other:
        before = np.random.default_rng(0).random(before.shape).astype(np.float32)
    by_path = {"now": now, "before": before}

    def compare(film_now, film_before, areas):
        seen = [
            change.Film(by_path[f.path.name], NO_SPACING, {t.tooth: t for t in f.teeth})
            for f in (film_now, film_before)
        ]
        return Comparison(change.register(*seen), (None,) * len(areas))

    day = datetime(2025, 1, 5, tzinfo=UTC)
    earlier = image("before", before, teeth, prior_marks, prior_points)
    prior = StudyRows("p", StudyState.READY, 0, "x", None, "20250105", day, 0, (earlier,), None)
    return compare_with([image("now", now, teeth, now_marks)], [prior], compare, store.joinpath)


@pytest.fixture
def molar(films):
    return next(tooth for tooth in films[1] if tooth.position == 6)


def test_teeth_of_two_panoramics_are_laid_over_each_other_without_millimetres(films):
    found = compared(films, (), ())
    usable = [each for each in found.registrations if each.is_usable]
    assert len(usable) >= 0.8 * len(films[1])
    assert all(each.residual_mm is None for each in found.registrations)
    assert found.changes == ()


@pytest.mark.parametrize(
    ("probability", "verdict"), [(0.9, Verdict.NEW), (0.3, Verdict.NO_MEASURABLE_CHANGE)]
)
def test_a_new_mark_counts_only_beyond_what_films_of_one_day_differ(
    films, molar, probability, verdict
):
    (seen,) = compared(films, [mark(molar, films[1], probability)], ()).changes
    assert (seen.tooth, seen.surface, seen.verdict) == (molar, None, verdict)
    assert "below 0.17 before" in seen.words
    assert (seen.delta_mm, seen.before_mm, seen.now_mm) == (None, None, None)


def test_a_tooth_marked_on_both_or_before_only_is_no_change(films, molar):
    both = mark(molar, films[1], 0.3), mark(molar, films[1], 0.9)
    (same,) = compared(films, both[1:], both[:1]).changes
    assert same.verdict is Verdict.NO_MEASURABLE_CHANGE
    (gone,) = compared(films, (), both[:1]).changes
    assert gone.verdict is Verdict.NOT_SEEN_NOW


def test_without_the_earlier_review_point_nothing_is_called_new(films, molar):
    (seen,) = compared(films, [mark(molar, films[1], 0.95)], (), prior_points={}).changes
    assert seen.verdict is Verdict.NO_MEASURABLE_CHANGE


def test_films_that_do_not_match_are_not_compared(films, molar):
    (seen,) = compared(films, [mark(molar, films[1], 0.95)], (), is_other=True).changes
    assert seen.verdict is Verdict.NOT_COMPARABLE
    assert "not comparable" in seen.words


def test_a_change_of_a_whole_tooth_survives_storage(films, molar):
    found = compared(films, [mark(molar, films[1], 0.9)], ())
    facts = StudyFacts(changes=found.changes)
    reading = StudyReading(facts, conclude([], facts, cdt.load(), is_signed=False))
    again = StudyReading.from_json(reading.to_json())
    assert again.facts.changes == found.changes
    assert "change_since_prior" in again.conclusions.tags
