"""The pipeline: says what it could not look for, and reports only what a view may show."""

import pytest

pytest.importorskip("torch")

import numpy as np

from models import weights
from models.intraoral_reading import IntraoralReading
from models.pipeline import CHILD_NOTE, REPORTABLE, Pipeline
from models.triage import Look
from node.domain.findings import (
    NO_SPACING,
    UPRIGHT,
    BoneSite,
    Box,
    Finding,
    FindingKind,
    Line,
    ModelVersion,
    Orientation,
    QualityKind,
    Spacing,
    ToothMark,
    View,
)
from node.domain.teeth import Surface, Tooth
from node.errors import ConfigError, InvalidInput


@pytest.fixture
def film():
    rng = np.random.default_rng(3)
    return np.clip(rng.normal(0.4, 0.1, (120, 160)), 0, 1).astype(np.float32)


def test_without_weights_every_task_is_named_absent(tmp_path, film):
    pipeline = Pipeline.load(tmp_path)
    analysis = pipeline.analyse(film, NO_SPACING)
    assert pipeline.versions == ()
    assert analysis.absent == weights.TASKS
    assert analysis.view is None
    assert analysis.findings == analysis.teeth == ()
    assert "not installed" in analysis.notes[0]


def test_disabled_tasks_are_named_absent(film):
    pipeline = Pipeline.load(disabled=weights.TASKS)
    assert pipeline.analyse(film, NO_SPACING).absent == weights.TASKS


def test_a_task_that_does_not_exist_cannot_be_disabled(tmp_path):
    with pytest.raises(ConfigError, match="horoscope"):
        Pipeline.load(tmp_path, disabled=["horoscope"])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 100), np.float32),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((64, 64), np.uint8),
        np.full((64, 64), np.nan, np.float32),
        np.full((64, 64), 2.0, np.float32),
    ],
    ids=["narrow", "colour", "integers", "not a number", "beyond one"],
)
def test_what_is_no_film_is_refused(tmp_path, image):
    with pytest.raises(InvalidInput):
        Pipeline.load(tmp_path).analyse(image, NO_SPACING)


def test_views_may_show_only_what_the_matrix_says():
    assert REPORTABLE[View.OTHER] == frozenset()
    assert FindingKind.PERIAPICAL_RADIOLUCENCY not in REPORTABLE[View.BITEWING]
    assert FindingKind.CALCULUS not in REPORTABLE[View.PANORAMIC]
    assert FindingKind.BONE_LEVEL not in REPORTABLE[View.PANORAMIC]


class Says:
    """A triage network that has made up its mind."""

    def __init__(self, view, **answers):
        self.answer = Look(view, 0.9, **answers)
        self.version = ModelVersion("triage", "2.0.0", "0" * 64)

    def look(self, image):
        return self.answer


class Finds:
    """An intraoral network that finds one tooth and its bone in a fixed part of what it is given.

    It remembers the picture and the spacing it read.
    """

    version = ModelVersion("intraoral", "1.0.0", "1" * 64)
    settings = weights.NO_SETTINGS
    tooth = Tooth("46")

    def analyse(self, image, view, spacing):
        self.image, self.spacing = image, spacing
        mark = ToothMark(self.tooth, Box(20, 60, 90, 115), 0.9, self.version, ((20, 60),) * 3)
        line = Finding(FindingKind.BONE_LEVEL, Line(((25, 80), (26, 95))), self.tooth)
        site = BoneSite(self.tooth, Surface.DISTAL, (25, 80), (26, 95), None, None, None, 0.8)
        return IntraoralReading(teeth=(mark,), findings=(line,), sites=(site,))


@pytest.mark.parametrize("view", [None, View.OTHER, View.PHOTO, View.CEPHALOMETRIC])
def test_a_view_without_networks_gets_a_note_and_no_findings(film, view):
    analysis = Pipeline(triage=Says(view)).analyse(film, NO_SPACING)
    assert analysis.view is view
    assert analysis.findings == analysis.teeth == ()
    assert len(analysis.notes) == 1
    assert [str(model) for model in analysis.models] == ["triage 2.0.0"]
    kinds = [flag.kind for flag in analysis.quality]
    assert kinds == ([QualityKind.OUT_OF_SCOPE] if view is View.OTHER else [])


@pytest.mark.parametrize(("age", "is_read"), [(None, True), (4, False), (11.9, False), (12, True)])
def test_mixed_dentition_is_out_of_scope(film, age, is_read):
    pipeline = Pipeline(triage=Says(View.BITEWING), intraoral=Finds())
    analysis = pipeline.analyse(film, NO_SPACING, age_years=age)
    assert analysis.view is View.BITEWING
    assert bool(analysis.teeth) is bool(analysis.findings) is bool(analysis.sites) is is_read
    assert (CHILD_NOTE in analysis.notes) is not is_read
    flags = {flag.kind for flag in analysis.quality}
    assert (QualityKind.OUT_OF_SCOPE in flags) is not is_read


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("is_inverted", [False, True])
def test_a_film_stored_otherwise_is_read_upright_and_marked_as_stored(film, turns, is_inverted):
    stored = np.ascontiguousarray(np.rot90(1 - film if is_inverted else film, turns))
    lie = Orientation(turns, False, is_inverted)
    network = Finds()
    pipeline = Pipeline(triage=Says(View.PERIAPICAL, orientation=lie), intraoral=network)
    before = stored.copy()
    analysis = pipeline.analyse(stored, Spacing(0.1, 0.2, "detector"))
    np.testing.assert_array_equal(stored, before)
    np.testing.assert_allclose(network.image, film, atol=1e-6)
    assert network.spacing.mm_row == (0.2 if turns % 2 else 0.1)
    assert analysis.orientation == lie
    assert ("as stored" in analysis.notes[0] if analysis.notes else False) is not lie.is_usual
    (mark,), (found,), (site,) = analysis.teeth, analysis.findings, analysis.sites
    box = mark.box
    inside = stored[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
    there = 1 - film if is_inverted else film
    assert sorted(inside.flat) == sorted(there[60:115, 20:90].flat)
    assert found.geometry.points == (site.cej, site.crest)
    assert box.x0 <= site.cej[0] <= box.x1
    assert box.y0 <= site.cej[1] <= box.y1


def test_a_film_that_lies_nobody_knows_how_is_not_read(film):
    look = Says(View.PERIAPICAL, is_lie_sure=False)
    analysis = Pipeline(triage=look, intraoral=Finds()).analyse(film, NO_SPACING)
    assert analysis.teeth == ()
    assert [flag.is_disqualifying for flag in analysis.quality] == [True]


@pytest.mark.parametrize(
    ("stated", "looked", "is_wrong"),
    [("L", "R", True), ("R", "R", False), ("", "R", False), ("L", "", False), ("L", "L", False)],
)
def test_a_side_that_contradicts_the_sender_is_flagged_and_never_mirrored(
    film, stated, looked, is_wrong
):
    look = Says(View.PERIAPICAL, side=looked)
    analysis = Pipeline(triage=look, intraoral=Finds()).analyse(
        film, NO_SPACING, stated_side=stated
    )
    assert (QualityKind.WRONG_SIDE in {flag.kind for flag in analysis.quality}) is is_wrong
    assert (analysis.side, analysis.region) == ("R", "lower right molar")
    assert analysis.orientation == UPRIGHT


def test_without_teeth_the_look_of_the_film_gives_the_region(film):
    look = Says(View.PERIAPICAL, jaw="upper", place="canine", side="L")
    analysis = Pipeline(triage=look).analyse(film, NO_SPACING)
    assert (analysis.side, analysis.region) == ("L", "upper left canine")


def test_after_a_warm_up_no_network_runs_for_the_first_time():
    pipeline = Pipeline.load(threads=1)
    teeth, findings = pipeline.panoramic_teeth, pipeline.panoramic_findings
    networks = [pipeline.triage.net, teeth.net, teeth.masks, findings.net, findings.crops]
    networks.append(pipeline.intraoral.net)
    ran = set()
    for number, network in enumerate(networks):
        network.register_forward_hook(lambda *_, n=number: ran.add(n))
    pipeline.warm_up()
    assert ran == set(range(len(networks)))
