"""Pieces of panoramics framed like intraoral films."""

import numpy as np
import pytest

pytest.importorskip("cv2")

from node.domain.findings import View
from training import close_films


def mouth():
    """Boxes of 32 teeth, 20 pixels wide and 60 high, on a square film."""
    upper = [f"1{p}" for p in range(8, 0, -1)] + [f"2{p}" for p in range(1, 9)]
    lower = [f"4{p}" for p in range(8, 0, -1)] + [f"3{p}" for p in range(1, 9)]
    boxes = {}
    for jaw, row in ((100.0, upper), (170.0, lower)):
        for place, code in enumerate(row):
            x = 40.0 + 20 * place
            boxes[code] = (x, jaw, x + 20, jaw + 60)
    return boxes


def inside(boxes, cut):
    return {
        code
        for code, (x0, y0, x1, y1) in boxes.items()
        if cut[0] <= (x0 + x1) / 2 <= cut[2] and cut[1] <= (y0 + y1) / 2 <= cut[3]
    }


@pytest.mark.parametrize("seed", range(12))
def test_a_bitewing_shows_both_jaws_of_one_side(seed):
    rng = np.random.default_rng(seed)
    cut = close_films.window(mouth(), View.BITEWING, False, rng)
    sides = {code[0] for code in inside(mouth(), cut)}
    assert sides in ({"1", "4"}, {"2", "3"}, {"1"}, {"4"}, {"2"}, {"3"}, set())
    _, y0, _, y1 = cut
    assert y0 < 160 < 170 < y1
    assert all(code[1] in "345678" for code in inside(mouth(), cut))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("is_standing", [False, True])
def test_a_periapical_shows_some_teeth_of_one_jaw(seed, is_standing):
    rng = np.random.default_rng(seed)
    cut = close_films.window(mouth(), View.PERIAPICAL, is_standing, rng)
    shown = inside(mouth(), cut)
    assert 2 <= len(shown) <= 4
    assert len({code[0] in "12" for code in shown}) == 1
    if is_standing:
        assert all(code[1] in "12345" for code in shown)


def test_without_the_teeth_there_is_no_film():
    few = {"16": mouth()["16"]}
    for view in (View.BITEWING, View.PERIAPICAL):
        assert close_films.window(few, view, False, np.random.default_rng(0)) is None


def test_a_tooth_fills_its_share_and_gets_its_breadth_back():
    cut = (100.0, 90.0, 180.0, 170.0)
    matrix = close_films.fit(cut, 60.0, (512, 512), (384, 512), 0.7)
    x, y = matrix[:, :2] @ (140.0, 130.0) + matrix[:, 2]
    assert (x, y) == pytest.approx((256.0, 192.0))
    assert 60.0 * matrix[1, 1] == pytest.approx(0.7 * 384)
    assert matrix[0, 0] / matrix[1, 1] == pytest.approx(1.766)
