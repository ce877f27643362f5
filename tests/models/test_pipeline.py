"""The pipeline: says what it could not look for, and reports only what a view may show."""

import numpy as np
import pytest

from models import weights
from models.pipeline import REPORTABLE, Pipeline
from node.domain.findings import NO_SPACING, FindingKind, ModelVersion, View
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
    """A view network that has made up its mind."""

    def __init__(self, view):
        self.answer = view
        self.version = ModelVersion("triage", "1.0.0", "0" * 64)

    def view(self, image):
        return self.answer, 0.9


@pytest.mark.parametrize("view", [None, View.OTHER])
def test_an_unknown_view_gets_a_note_and_no_findings(film, view):
    analysis = Pipeline(triage=Says(view)).analyse(film, NO_SPACING)
    assert analysis.view is view
    assert analysis.findings == analysis.teeth == ()
    assert len(analysis.notes) == 1
    assert [str(model) for model in analysis.models] == ["triage 1.0.0"]
