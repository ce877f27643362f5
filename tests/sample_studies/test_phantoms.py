"""Synthetic films: repeatable, and their truth is where the pixels are."""

import json

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from models.geometry import crest_distance  # noqa: E402
from node.domain.findings import CariesDepth, View  # noqa: E402
from node.domain.teeth import LOWER_ARCH, UPPER_ARCH, Surface  # noqa: E402
from sample_studies import __main__ as command  # noqa: E402
from sample_studies import phantoms  # noqa: E402

FILMS = [command.film("mixed", 20, index, 0.12) for index in range(8)]


def test_the_same_seed_gives_the_same_film():
    again = command.film("mixed", 20, 1, 0.12)
    assert np.array_equal(again.pixels, FILMS[1].pixels)
    assert again.truth() == FILMS[1].truth()
    other = command.film("mixed", 21, 1, 0.12)
    assert other.pixels.shape != again.pixels.shape or not np.array_equal(
        other.pixels, again.pixels
    )


@pytest.mark.parametrize("film", FILMS)
def test_truth_lies_on_the_film_and_in_the_order_of_the_arch(film):
    rows, cols = film.pixels.shape
    assert film.pixels.max() < 2**film.bits_stored
    assert film.teeth
    for tooth in film.teeth:
        x0, y0, x1, y1 = tooth.box
        assert 0 <= x0 < x1 <= cols
        assert 0 <= y0 < y1 <= rows
    for arch in (UPPER_ARCH, LOWER_ARCH):
        row = [t for t in film.teeth if t.tooth in arch]
        middles = [sum(t.box[::2]) for t in sorted(row, key=lambda t: arch.index(t.tooth))]
        assert middles == sorted(middles)
    for site in film.sites:
        assert 0 <= site.cej[0] < cols
        assert 0 <= site.crest[1] < rows


@pytest.mark.parametrize("film", FILMS)
def test_a_bitewing_shows_one_side_and_a_periapical_one_jaw(film):
    if film.view is View.BITEWING:
        assert {t.tooth.is_patient_right for t in film.teeth} == {film.side == "R"}
    else:
        assert len({t.tooth.arch for t in film.teeth}) == 1


@pytest.mark.parametrize("film", FILMS)
def test_the_bone_level_is_the_distance_between_its_points(film):
    by_tooth = {}
    for site in film.sites:
        by_tooth.setdefault(site.tooth, {})[site.surface] = site
    for sides in by_tooth.values():
        if len(sides) == 2:
            across = (sides[Surface.MESIAL].cej, sides[Surface.DISTAL].cej)
            for site in sides.values():
                mm = crest_distance(site.cej, site.crest, across, (film.spacing_mm,) * 2)
                assert mm == pytest.approx(site.level_mm, abs=0.1)


def test_a_deep_lesion_is_darker_than_its_tooth():
    films = [command.film("bitewing", 30, index, 0.1) for index in range(16)]
    deep = [
        (film, lesion)
        for film in films
        for lesion in film.lesions
        if lesion.depth in (CariesDepth.D2, CariesDepth.D3)
    ]
    assert deep
    darker = []
    for film, lesion in deep:
        outline = next(t.polygon for t in film.teeth if t.tooth == lesion.tooth)
        crown = _mean(film, outline)
        darker.append(_mean(film, lesion.polygon) < crown)
    assert np.mean(darker) > 0.7


def _mean(film, polygon):
    mask = np.zeros(film.pixels.shape, np.uint8)
    cv2.fillPoly(mask, [np.round(np.array(polygon)).astype(np.int32)], 1)
    return float(film.pixels[mask > 0].mean())


def test_a_tooth_on_two_films_of_a_series_is_the_same_tooth():
    series = phantoms.bitewing_series(np.random.default_rng(3), cols=330, rows=250, pixel_mm=0.12)
    assert [film.side for film in series] == ["R", "R", "L", "L"]
    shared = 0
    for first, second in (series[:2], series[2:]):
        levels = {(s.tooth, s.surface): s.level_mm for s in first.sites}
        for site in second.sites:
            if (site.tooth, site.surface) in levels:
                shared += 1
                assert site.level_mm == pytest.approx(levels[(site.tooth, site.surface)], abs=1e-6)
    assert shared > 4


def test_the_command_writes_films_with_their_truth_twice_the_same(tmp_path):
    for folder in ("a", "b"):
        arguments = ["generate", "--seed", "4", "--count", "2", "--pixel-mm", "0.15"]
        assert command.main([*arguments, "--out", str(tmp_path / folder)]) == 0
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == ["1.png", "1.truth.json", "2.png", "2.truth.json"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    pixels = cv2.imread(str(tmp_path / "a" / "1.png"), cv2.IMREAD_UNCHANGED)
    truth = json.loads((tmp_path / "a" / "1.truth.json").read_text())
    assert pixels.dtype == np.uint16
    assert pixels.max() < 2 ** truth["bits_stored"]
    assert truth["view"] == "bitewing"


@pytest.mark.parametrize(
    "wrong", [["--count", "0"], ["--seed", "-1"], ["--pixel-mm", "5"], ["--pixel-mm", "0.001"]]
)
def test_the_command_refuses_what_makes_no_film(tmp_path, capsys, wrong):
    arguments = ["generate", "--seed", "4", "--count", "1", "--out", str(tmp_path / "x"), *wrong]
    assert command.main(arguments) != 0
    assert capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))


def test_the_shipped_films_are_what_the_command_makes(tmp_path):
    assert command.main(["films", "--out", str(tmp_path)]) == 0
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.png"))
    assert len(made) == 11
    shipped = command.SHIPPED_DIR
    for name in made:
        ours = cv2.imread(str(shipped / name), cv2.IMREAD_UNCHANGED).astype(int)
        again = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED).astype(int)
        assert ours.shape == again.shape
        # Mathematics libraries round differently on other processors.
        assert np.abs(ours - again).mean() < 2.0
        assert (shipped / name).stat().st_size < 1_000_000
        truths = [
            json.loads((root / name).with_suffix(".truth.json").read_text())
            for root in (shipped, tmp_path)
        ]
        assert [t["tooth"] for t in truths[0]["teeth"]] == [t["tooth"] for t in truths[1]["teeth"]]
        assert len(truths[0]["lesions"]) == len(truths[1]["lesions"])


def test_processes_share_the_work_and_change_nothing(tmp_path):
    for folder, jobs in (("one", "1"), ("two", "2")):
        arguments = ["generate", "--seed", "6", "--count", "3", "--pixel-mm", "0.15"]
        more = ["--jobs", jobs, "--attenuation", "--odds", "crown=0.5"]
        assert command.main([*arguments, *more, "--out", str(tmp_path / folder)]) == 0
    for path in sorted((tmp_path / "one").iterdir()):
        other = tmp_path / "two" / path.name
        if path.suffix == ".npz":
            maps = [np.load(each)["attenuation"] for each in (path, other)]
            assert maps[0].dtype == np.float16
            assert np.array_equal(*maps)
        else:
            assert path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("wrong", ["crowns=0.1", "crown=often", "crown=-1"])
def test_the_command_refuses_an_unknown_prevalence(tmp_path, capsys, wrong):
    arguments = ["generate", "--seed", "4", "--count", "1", "--odds", wrong]
    assert command.main([*arguments, "--out", str(tmp_path / "x")]) != 0
    assert "prevalence" in capsys.readouterr().err
