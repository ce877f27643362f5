"""The clinical screens' colours: text reads against its ground, classes differ for every eye.

Contrast is WCAG 2.2's ratio. Distances are CIEDE2000 (Sharma, Wu and Dalal, 2005) between colours
as people without one kind of cone see them (Machado, Oliveira and Fernandes, 2009, severity 1).
"""

from __future__ import annotations

import math
import re
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

import node.web

CSS = (Path(node.web.__file__).parent / "static/css/tokens.css").read_text()
TOKENS = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", CSS))
CLASSES = ("caries", "bone", "periapical", "calculus", "restoration", "other")
SEEN_BY = {
    "everybody": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def linear(token: str) -> np.ndarray:
    """A token's colour in linear RGB, 0..1."""
    digits = TOKENS[token][1:]
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    srgb = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    lights = sorted(
        float(linear(token) @ (0.2126, 0.7152, 0.0722)) + 0.05 for token in (one, other)
    )
    return lights[1] / lights[0]


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of a linear RGB colour."""
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
              [0.0193339, 0.1191920, 0.9503041]]  # fmt: skip
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def ciede2000(one: np.ndarray, other: np.ndarray) -> float:
    """CIEDE2000 with kL = kC = kH = 1; equation numbers of Sharma, Wu and Dalal."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean_c = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    g = 0.5 * (1 - math.sqrt(mean_c**7 / (mean_c**7 + 25**7)))  # 4
    c1, c2 = (math.hypot((1 + g) * a, b) for a, b in ((a1, b1), (a2, b2)))
    h1, h2 = (math.degrees(math.atan2(b, (1 + g) * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0  # 10
    dl, dc = l2 - l1, c2 - c1
    dh = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2))  # 11
    ml, mc = (l1 + l2) / 2, (c1 + c2) / 2
    mh = (h1 + turn / 2) % 360 if c1 * c2 else h1 + h2  # 14
    t = 1 + sum(k * math.cos(math.radians(n * mh + s)) for k, n, s in
                ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63)))  # fmt: skip  # 15
    sl = 1 + 0.015 * (ml - 50) ** 2 / math.sqrt(20 + (ml - 50) ** 2)
    sc, sh = 1 + 0.045 * mc, 1 + 0.015 * mc * t
    rotation = -math.sin(math.radians(60 * math.exp(-(((mh - 275) / 25) ** 2))))
    rt = 2 * math.sqrt(mc**7 / (mc**7 + 25**7)) * rotation  # 21
    return math.sqrt(
        (dl / sl) ** 2 + (dc / sc) ** 2 + (dh / sh) ** 2 + rt * (dc / sc) * (dh / sh)
    )  # 22


def test_the_measure_is_that_of_its_authors():
    """The first, fourth and seventh pairs of the paper's table 1."""
    pairs = (
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
        ((50, 0, 0), (50, -1, 2), 2.3669),
    )
    for one, other, distance in pairs:
        assert ciede2000(np.array(one), np.array(other)) == pytest.approx(distance, abs=1e-4)


@pytest.mark.parametrize("kind", SEEN_BY)
def test_classes_differ_for_every_eye(kind):
    seen = {name: lab(np.array(SEEN_BY[kind]) @ linear(name)) for name in CLASSES}
    least = min(ciede2000(seen[a], seen[b]) for a, b in combinations(CLASSES, 2))
    assert least > 10, f"{kind}: {least:.1f}"


@pytest.mark.parametrize("ground", ["page", "panel", "raised"])
@pytest.mark.parametrize("text", ["text", "muted", "ok", "warning", "danger", "focus"])
def test_words_read_against_their_ground(text, ground):
    assert contrast(text, ground) >= 4.5


def test_edges_of_controls_and_marks_stand_out():
    assert all(contrast("edge", ground) >= 3 for ground in ("page", "panel", "raised"))
    assert all(contrast(name, "stage") >= 4.5 for name in CLASSES)


def test_grounds_rise_in_steps():
    lights = [float(linear(name).sum()) for name in ("stage", "page", "panel", "raised", "hover")]
    assert all(lower < higher for lower, higher in pairwise(lights))
