"""Synthetic panoramics: repeatable, both arches numbered in order, written by the command."""

import json

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from node.domain.findings import View  # noqa: E402
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH  # noqa: E402
from sample_studies import __main__ as command  # noqa: E402
from sample_studies import phantoms  # noqa: E402

FILMS = [command.film("panoramic", 40, index, 0.4) for index in range(4)]


def test_the_same_seed_gives_the_same_panoramic():
    again = command.film("panoramic", 40, 1, 0.4)
    assert np.array_equal(again.pixels, FILMS[1].pixels)
    assert again.truth() == FILMS[1].truth()


@pytest.mark.parametrize("film", FILMS)
def test_teeth_are_numbered_once_in_order_inside_the_film(film):
    rows, cols = film.pixels.shape
    assert film.view is View.PANORAMIC
    assert not film.sites
    assert not film.lesions
    assert len({t.tooth for t in film.teeth}) == len(film.teeth) > 16
    for x0, y0, x1, y1 in [t.box for t in film.teeth] + [m.box for m in film.marks]:
        assert 0 <= x0 < x1 <= cols
        assert 0 <= y0 < y1 <= rows
    for arch in (UPPER_ARCH, LOWER_ARCH):
        row = sorted((t for t in film.teeth if t.tooth in arch), key=lambda t: arch.index(t.tooth))
        middles = [sum(t.box[::2]) for t in row]
        assert middles == sorted(middles)


def test_missing_teeth_are_not_in_the_truth():
    odds = phantoms.Prevalence(missing=1.0, implant=0.0, bridge=0.0)
    film = phantoms.panoramic(np.random.default_rng(3), cols=600, rows=300, pixel_mm=0.5, odds=odds)
    assert film.teeth == ()


def test_the_command_writes_a_panoramic_with_its_truth(tmp_path):
    given = ["generate", "--view", "panoramic", "--seed", "1", "--count", "1"]
    assert command.main([*given, "--pixel-mm", "0.5", "--out", str(tmp_path)]) == 0
    assert cv2.imread(str(tmp_path / "1.png"), cv2.IMREAD_UNCHANGED).shape == (300, 600)
    assert json.loads((tmp_path / "1.truth.json").read_text())["view"] == "panoramic"
