"""What triage is trained on: known regions, faults, lies, and pictures that are no films."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import json

import pytest

torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")

import numpy as np

from models.triage import FAULTS, HEADS, SIDE, TriageNet
from node.domain.findings import View
from node.domain.teeth import Tooth
from sample_studies.__main__ import main
from training import close_crops, drawn_views, film_faults
from training.close_crops import Region, region
from training.datasets import read_coco
from training.triage import TriageTask, is_upright

PANORAMIC = (np.random.default_rng(0).random((300, 600)) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("view", "codes", "expected"),
    [
        (View.PERIAPICAL, ("16", "15"), Region("U", 3, "R")),
        (View.PERIAPICAL, ("31", "41"), Region("L", 0, "")),
        (View.PERIAPICAL, ("32", "33"), Region("L", 0, "L")),
        (View.BITEWING, ("24", "34"), Region("", 2, "L")),
        (View.BITEWING, (), Region("", None, "")),
    ],
)
def test_the_region_follows_from_the_teeth(view, codes, expected):
    assert region(view, [Tooth(code) for code in codes]) == expected
    swapped = {"R": "L", "L": "R", "": ""}[expected.side]
    assert expected.mirrored() == Region(expected.jaw, expected.place, swapped)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_changes_the_film_and_keeps_its_size(name):
    rng = np.random.default_rng(4)
    film = cv2.GaussianBlur(PANORAMIC, (0, 0), 3)
    other = np.full((200, 100), 200, np.uint8)
    change = getattr(film_faults, name)
    spoilt = change(rng, film, other) if name == "double" else change(rng, film)
    assert spoilt.shape == film.shape
    assert spoilt.dtype == np.uint8
    assert (spoilt != film).mean() > 0.001


def test_a_cone_cut_leaves_out_the_share_asked_for():
    film = np.full((300, 400), 60, np.uint8)
    cut = film_faults.cone_cut(np.random.default_rng(1), film, share=0.2)
    assert (cut > 200).mean() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: drawn_views.cephalogram(rng, PANORAMIC),
        lambda rng: drawn_views.occlusal(rng, PANORAMIC),
        drawn_views.cbct_slice,
        drawn_views.render,
        drawn_views.mouth_photo,
        drawn_views.page,
        drawn_views.shapes,
        drawn_views.noise,
    ],
)
def test_drawn_pictures_repeat_from_a_seed(make):
    for seed in range(4):
        first, second = (make(np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.dtype == np.uint8
        assert np.ptp(first) > 30
        assert min(first.shape) >= 100


@pytest.fixture
def folder(tmp_path):
    """A panoramic set of two numbered films, one of them upside down, and a synthetic set."""
    data = tmp_path / "data"
    (data / "numbered" / "images").mkdir(parents=True)
    codes = [*range(11, 19), *range(21, 29), *range(31, 39), *range(41, 49)]
    images, marks = [], []
    for number in range(12):
        cv2.imwrite(str(data / "numbered" / "images" / f"{number}.png"), PANORAMIC)
        images.append(
            {"id": number, "file_name": f"{number}.png", "width": 600, "height": 300}
            | {"split": "train"}
        )
        for code in codes:
            quadrant, place = divmod(code, 10)
            across = 300 + (1 if quadrant in (2, 3) else -1) * (place * 24 - 12) - 10
            is_above = (quadrant < 3) != (number == 0)
            box = [across, 60 if is_above else 160, 20, 90]
            marks.append({"image_id": number, "category_id": code, "bbox": box})
    coco = {
        "images": images,
        "annotations": marks,
        "categories": [{"id": code, "name": str(code)} for code in codes],
    }
    (data / "numbered" / "annotations.coco.json").write_text(json.dumps(coco))
    return data


def test_a_close_crop_knows_its_teeth(folder):
    film = read_coco(folder / "numbered")[1]
    rng = np.random.default_rng(2)
    for view in (View.BITEWING, View.PERIAPICAL):
        cuts = [cut for _ in range(12) if (cut := close_crops.cut(film, view, rng))]
        assert cuts
        assert all(len(cut.teeth) >= 2 and min(cut.pixels.shape) >= 60 for cut in cuts)
        sides = [{tooth.is_patient_right for tooth in cut.teeth} for cut in cuts]
        assert view is not View.BITEWING or all(len(side) == 1 for side in sides)


def test_films_without_an_upright_do_not_teach_one(folder):
    films = read_coco(folder / "numbered")
    assert [is_upright(film) for film in films[:2]] == [False, True]


def test_a_batch_answers_every_head_or_says_that_it_is_unknown(folder):
    for part in ("train", "tune"):
        main(["generate", "--seed", "1", "--count", "4", "--out", str(folder / "films" / part)])
    task = TriageTask(folder)
    batch = task.batch(np.random.default_rng(3), 0.0)
    count = len(batch["image"])
    assert batch["image"].shape == (count, 1, SIDE, SIDE)
    assert 0.0 <= float(batch["image"].min()) < float(batch["image"].max()) <= 1.0
    assert set(batch) == {"image", *HEADS}
    for name, outputs in HEADS.items():
        answers = batch[name]
        assert int(answers.min()) >= -1
        assert int(answers.max()) < (2 if name == "faults" else outputs)
    losses = task.loss(task_net(batch["image"]), batch)
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


def task_net(images):
    torch.manual_seed(0)
    return TriageNet()(images)
