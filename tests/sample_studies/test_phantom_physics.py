"""Synthetic films obey the physics and the definitions they claim to follow."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
from dataclasses import replace

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from node.domain.findings import CariesDepth, FindingKind
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput
from sample_studies import phantoms
from sample_studies.phantoms import anatomy, lesions, teeth
from sample_studies.phantoms.canvas import Aim, Canvas
from sample_studies.phantoms.exposure import exposed
from sample_studies.phantoms.materials import attenuation

MM = 0.12
PLAIN = phantoms.Settings(blur_mm=0.0, read_noise=0.0, scatter=0.0)
#: Everything often enough to be met in a few films.
RICH = phantoms.Prevalence(
    occlusal=0.3, root_caries=0.3, recurrent=0.6, crown=0.2, root_filling=0.3, periapical=0.3,
    calculus=0.3, angular=0.3, furcation=0.5, missing=0.15, remnant=0.1, defective=0.6, flaws=0.3,
)  # fmt: skip


def behind(material, mm, kvp=65.0):
    return float(attenuation(material, np.full(1, mm, np.float32), kvp)[0])


def scene(seed, odds=RICH):
    make = phantoms.bitewing_scene if seed % 2 else phantoms.periapical_scene
    size = {"cols": 330, "rows": 250} if seed % 2 else {"long_px": 330, "short_px": 250}
    return make(np.random.default_rng(seed), pixel_mm=MM, odds=odds, **size)


SCENES = [scene(seed) for seed in range(24)]
FILMS = [phantoms.expose(s, PLAIN, np.random.default_rng(1)) for s in SCENES]


@pytest.mark.parametrize("kvp", [60, 65, 70])
def test_enamel_is_as_much_brighter_than_dentine_as_measured(kvp):
    for mm in (0.5, 1.0, 2.0):
        assert 1.6 <= behind("enamel", mm, kvp) / behind("dentine", mm, kvp) <= 1.8


def test_tooth_equals_its_usual_thickness_of_aluminium():
    steps = np.arange(0.1, 12, 0.05, dtype=np.float32)
    wedge = attenuation("aluminium", steps, 65)
    enamel, dentine = (
        float(steps[np.argmin(np.abs(wedge - behind(name, 2.0)))]) / 2.0
        for name in ("enamel", "dentine")
    )
    assert 1.65 <= enamel <= 2.0
    assert 1.0 <= dentine <= 1.2


def test_noise_grows_with_the_root_of_the_signal():
    ratios = []
    for thick in (0.3, 1.5, 3.0):
        flat = np.full((200, 200), thick, np.float32)
        signal = exposed(flat, MM, PLAIN, np.random.default_rng(5))
        ratios.append(float(signal.std() / np.sqrt(signal.mean())))
    assert max(ratios) / min(ratios) < 1.05


def test_the_percentage_of_bone_follows_from_the_points():
    seen = 0
    for film in FILMS:
        across = {}
        for site in film.sites:
            across.setdefault(site.tooth, []).append(site)
        for both in across.values():
            if len(both) < 2:
                continue
            axis = np.subtract(both[1].cej, both[0].cej)
            axis = np.array([-axis[1], axis[0]]) / np.linalg.norm(axis)
            for site in both:
                level = abs(np.subtract(site.crest, site.cej) @ axis) * film.spacing_mm
                root = abs(np.subtract(site.apex, site.cej) @ axis) * film.spacing_mm
                share = 100 * max(0.0, level - 2.0) / (root - 2.0)
                assert site.percent == pytest.approx(min(share, 100.0), abs=0.1)
                seen += 1
    assert seen > 50


def test_the_ideal_observer_loses_an_early_lesion_in_noise():
    rng = np.random.default_rng(3)
    tooth = replace(anatomy.make(rng, Tooth("46"), 1.0, 0.0, 0.8), x=6.0, y=8.0, tilt=0.0)
    canvas = Canvas(130, 100, MM, Aim())
    sound, ill = teeth.paint(canvas, tooth), teeth.paint(canvas, tooth)
    spot = lesions.proximal(rng, canvas, ill, Surface.MESIAL, CariesDepth.E1)
    assert spot is not None

    def total(painted):
        return attenuation("enamel", painted.enamel, 65) + attenuation(
            "dentine", painted.dentine, 65
        )

    before, after = total(sound), total(ill)
    template = before - after
    scores = []
    for exposure in (1.0, 0.05, 0.002):
        settings = replace(PLAIN, exposure=exposure)
        noise = np.random.default_rng(7)
        seen = [
            [
                float((-np.log(exposed(way, MM, settings, noise)) * template).sum())
                for _ in range(40)
            ]
            for way in (before, after)
        ]
        spread = np.sqrt((np.var(seen[0]) + np.var(seen[1])) / 2)
        scores.append((np.mean(seen[0]) - np.mean(seen[1])) / spread)
    assert scores[0] > scores[1] > scores[2]


def test_what_drowns_in_noise_is_no_truth():
    poor = replace(PLAIN, exposure=2e-5)
    clear = drowned = 0
    for each, film in zip(SCENES, FILMS, strict=True):
        blind = phantoms.expose(each, poor, np.random.default_rng(1))
        clear += len(film.lesions)
        drowned += len(blind.lesions)
        least = 2 * blind.quality.noise * min(1.0, MM / 0.2)
        assert all(lesion.contrast > least for lesion in blind.lesions)
    assert drowned < clear


def test_every_kind_of_mark_is_met_and_lies_on_the_film():
    kinds = set()
    for film in FILMS:
        rows, cols = film.pixels.shape
        for mark in film.marks:
            kinds.add(mark.kind)
            x0, y0, x1, y1 = mark.box
            assert -1 <= x0 <= x1 <= cols + 1
            assert -1 <= y0 <= y1 <= rows + 1
            assert mark.tooth is not None
        for overlap in film.quality.overlaps:
            assert 0.0 <= overlap.share <= 2.0
    assert kinds >= {
        FindingKind.RESTORATION, FindingKind.CROWN, FindingKind.ROOT_FILLING, FindingKind.POST,
        FindingKind.IMPLANT, FindingKind.CALCULUS, FindingKind.PERIAPICAL_RADIOLUCENCY,
        FindingKind.RECURRENT_CARIES, FindingKind.DEFECTIVE_MARGIN, FindingKind.ANGULAR_DEFECT,
        FindingKind.FURCATION, FindingKind.ROOT_REMNANT, FindingKind.CARIES,
    }  # fmt: skip


def test_a_patient_without_disease_shows_none():
    sound = phantoms.Prevalence(
        caries=0, occlusal=0, root_caries=0, recurrent=0, filling=0, crown=0, root_filling=0,
        periapical=0, calculus=0, angular=0, furcation=0, missing=0, remnant=0, impacted=0,
    )  # fmt: skip
    for seed in range(4):
        made = scene(seed, sound)
        assert made.lesions == made.marks == ()
        assert made.teeth


def test_a_steep_beam_and_a_slanted_one_are_told():
    careless = [scene(seed, replace(RICH, flaws=3.0)) for seed in range(8)]
    assert any(abs(s.elongation - 1) > 0.1 for s in careless)
    assert any(abs(s.tilt_deg) > 4 for s in careless)
    assert any(o.share > 0.5 for s in careless for o in s.overlaps)
    assert any(o.share < 0.2 for s in SCENES for o in s.overlaps)


def test_a_kept_map_gives_many_films():
    kept = SCENES[1].attenuation.astype(np.float16)
    looks = []
    for seed in (1, 2, 2):
        rng = np.random.default_rng(seed)
        looks.append(phantoms.capture(kept, phantoms.draw_settings(rng), rng, pixel_mm=MM))
    assert looks[0].shape == kept.shape
    assert np.array_equal(looks[1], looks[2])
    assert not np.array_equal(looks[0], looks[1])


def test_a_cone_cut_hides_teeth_and_is_told():
    cut = replace(PLAIN, edge=(0.0, 0.5), cone_grey=1.0)
    film = phantoms.expose(SCENES[1], cut, np.random.default_rng(1))
    assert 0.3 < film.quality.cone_cut < 0.7
    assert film.truth()["quality"]["cone_cut"] is True
    assert len(film.teeth) < len(FILMS[1].teeth)


def test_a_prevalence_beyond_reason_is_refused():
    with pytest.raises(InvalidInput, match="prevalence of caries"):
        phantoms.Prevalence(caries=-0.1)
