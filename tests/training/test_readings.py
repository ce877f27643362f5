"""Scoring of intraoral readings: a perfect one is perfect, a blind one blind, a shifted one off."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

import numpy as np

import sample_studies
from models.intraoral_reading import IntraoralReading, SurfaceCaries
from node.domain.findings import (
    BoneSite,
    Box,
    Finding,
    FindingKind,
    ModelVersion,
    Polygon,
    ToothMark,
    View,
)
from node.domain.teeth import Surface, Tooth
from training import readings, readings_report
from training.synthetic import MarkTruth, OverlapTruth, read_part

VERSION = ModelVersion("intraoral", "1.0.0", "0" * 64)
POINTS = {FindingKind.CARIES: {"review": 0.5, "high_specificity": 0.95}}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    root = tmp_path_factory.mktemp("films")
    shutil.copytree(Path(sample_studies.__file__).parent / "films", root / "test")
    return read_part(root, "test")


def perfect(film, caries=0.9):
    """Make the reading of a network that sees the truth."""
    findings = [
        Finding(
            FindingKind.CARIES,
            Polygon(lesion.outline),
            lesion.tooth,
            (lesion.surface,),
            depth=lesion.depth,
            probability=caries,
        )
        for lesion in film.lesions
    ]
    findings += [
        Finding(
            mark.kind,
            Box(*mark.box),
            mark.tooth,
            depth=mark.depth,
            probability=0.9,
        )
        for mark in film.marks
    ]
    return IntraoralReading(
        teeth=tuple(ToothMark(t.tooth, Box(*t.box), 0.9, VERSION, t.outline) for t in film.teeth),
        findings=tuple(findings),
        sites=tuple(
            BoneSite(s.tooth, s.surface, s.cej, s.crest, s.apex, s.level_mm, None, 0.9)
            for s in film.sites
        ),
    )


def figures_of(films, reading):
    scored = [readings.score(film, reading(film)) for film in films]
    found = readings_report.compose(scored, POINTS, 2.5, resamples=20)
    return {name: figure.value for name, figure in found.figures.items()}, found


def test_a_perfect_reading_has_perfect_figures(films):
    figures, found = figures_of(films, perfect)
    assert found.origin == "synthetic"
    for name in (
        *("tooth_f1", "tooth_ap", "fdi_exact_of_matched", "fdi_ap50", "mask_dice_of_matched"),
        *("caries_surface_auroc", "caries_surface_auroc_enamel", "caries_surface_auroc_dentine"),
        *("caries_surface_sensitivity_at_review", "caries_surface_specificity_at_review"),
        *("caries_sensitivity_at_0.125_false_per_film", "caries_afroc", "caries_wafroc"),
        *("caries_depth_exact_of_hits", "caries_depth_kappa", "bone_icc", "bone_kappa_mm"),
        *("cej_pck_0.5mm", "crest_prck_0.05", "bone_kappa_severity", "bone_sites_measured"),
    ):
        assert figures[name] == pytest.approx(1.0), name
    for name in ("bone_mae_mm", "bone_bias_mm", "cej_95th_mm", "caries_false_per_film_at_review"):
        assert figures[name] == pytest.approx(0.0, abs=1e-6), name
    assert figures["caries_surface_sensitivity_at_high_specificity"] == 0.0
    assert figures["caries_surface_ece"] == pytest.approx(
        0.1 * np.mean([s.depth is not None for f in films for s in surfaces(f)]), abs=1e-6
    )


def surfaces(film):
    return readings.score(film, perfect(film)).surfaces


def test_a_blind_reading_finds_nothing(films):
    figures, _ = figures_of(films, lambda film: IntraoralReading())
    assert figures["tooth_recall"] == 0.0
    assert figures["bone_sites_measured"] == 0.0
    assert figures["cej_pck_1.0mm"] == 0.0
    assert figures["caries_surface_auroc"] == 0.5
    assert figures["caries_afroc"] == 0.5
    assert figures["caries_surface_specificity_at_review"] == 1.0


def test_a_shift_of_the_crest_is_measured_as_such(films):
    def shifted(film):
        reading = perfect(film)
        sites = [replace(site, level_mm=site.level_mm + 0.75) for site in reading.sites]
        return replace(reading, sites=tuple(sites))

    figures, _ = figures_of(films, shifted)
    assert figures["bone_mae_mm"] == pytest.approx(0.75)
    assert figures["bone_bias_mm"] == pytest.approx(0.75)
    assert figures["bone_limit_high_mm"] == pytest.approx(0.75, abs=1e-6)
    assert figures["bone_within_1mm_of_measured"] == 1.0
    assert figures["bone_icc"] < 1.0


def test_views_are_measured_apart(films):
    _, found = figures_of(films * 3, perfect)
    many = [replace(f, group=str(n)) for n, f in enumerate(films * 3)]
    _, found = figures_of(many, perfect)
    assert {(sub.by, sub.value) for sub in found.subgroups} == {
        ("view", "bitewing"),
        ("view", "periapical"),
    }
    assert all(sub.figures["tooth_f1"].value == 1.0 for sub in found.subgroups)


def test_a_reading_per_surface_counts_before_the_marks(films):
    def told(film):
        ill = {(lesion.tooth, lesion.surface) for lesion in film.lesions}
        said = tuple(
            SurfaceCaries(s.tooth, s.surface, True, 0.2 if (s.tooth, s.surface) in ill else 0.8)
            for s in film.sites
        )
        return replace(perfect(film), findings=(), surfaces=said)

    figures, _ = figures_of(films, told)
    assert figures["caries_surface_sensitivity_at_review"] > 0.8
    assert figures["caries_surface_specificity_at_review"] == 1.0
    assert figures["caries_surface_brier"] < 0.1


def test_surfaces_under_overlap_are_left_out_and_counted(films):
    film = next(f for f in films if f.view is View.BITEWING)
    upper = sorted(
        (t for t in film.teeth if t.tooth.quadrant in (1, 2)), key=lambda t: t.box[0] + t.box[2]
    )
    pair = (upper[0].tooth, upper[1].tooth)
    hidden = replace(film, overlaps=(OverlapTruth(pair, 0.8),))
    open_contact = replace(film, overlaps=(OverlapTruth(pair, 0.3),))
    before, after = (readings.score(f, perfect(f)) for f in (open_contact, hidden))
    assert before.unreadable == 0
    assert after.unreadable in (1, 2)
    assert len(before.surfaces) - len(after.surfaces) == after.unreadable


def test_what_a_set_does_not_annotate_is_not_scored(films):
    bare = [replace(f, annotated=frozenset({"teeth", "sites"}), origin="real") for f in films]
    figures, found = figures_of(bare, perfect)
    assert found.origin == "real"
    assert figures["tooth_f1"] == 1.0
    assert not [name for name in figures if name.startswith(("caries", "fdi_exact", "fdi_ap"))]


def test_other_marks_are_scored_by_their_kind(films):
    box = (20.0, 20.0, 40.0, 40.0)
    crown = MarkTruth(FindingKind.CROWN, box, Tooth("26"))
    marked = [
        replace(f, marks=(crown,) if n % 2 else (), annotated=f.annotated | {"marks"})
        for n, f in enumerate(films)
    ]
    points = POINTS | {FindingKind.CROWN: {"review": 0.5}}
    right = [readings.score(f, perfect(f)) for f in marked]
    found = readings_report.compose(right, points, 2.5, resamples=20)
    assert found.figures["crown_sensitivity_at_review"].value == 1.0
    assert found.figures["crown_afroc"].value == 1.0
    missed = [readings.score(f, replace(perfect(f), findings=())) for f in marked]
    found = readings_report.compose(missed, points, 2.5, resamples=20)
    assert found.figures["crown_sensitivity_at_review"].value == 0.0


def test_a_mark_beside_the_lesion_hits_within_half_a_millimetre(films):
    film = next(f for f in films if f.lesions)
    lesion = film.lesions[0]
    ring = np.asarray(lesion.outline)
    right, middle = (float(v) for v in ring[ring[:, 0].argmax()])

    def hits(gap_mm):
        x = right + gap_mm / film.spacing_mm
        box = Box(x - 1, middle - 1, x + 1, middle + 1)
        mark = Finding(FindingKind.CARIES, box, lesion.tooth, (Surface.MESIAL,), probability=0.9)
        alone = replace(film, lesions=(lesion,), marks=())
        scored = readings.score(alone, replace(perfect(alone), findings=(mark,)))
        return scored.marks[FindingKind.CARIES][0].hit is not None

    assert hits(0.3)
    assert not hits(1.5)
