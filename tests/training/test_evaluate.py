"""Evaluation: known answers on made-up predictions, and a run over a tiny COCO folder."""

import json

import pytest

pytest.importorskip("torch")
import cv2
import numpy as np
import torch

from models import panoramic
from models.backbone import DenseNet
from node.domain.findings import Box, ModelVersion, ToothMark, View
from node.domain.teeth import Tooth
from training import evaluate
from training.datasets import Film, Mark
from training.evaluate import Found

BOX = (10.0, 10.0, 20.0, 30.0)
NEXT = (22.0, 10.0, 32.0, 30.0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((60, 100), np.uint8))
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 60}],
        "categories": [{"id": 11, "name": "11"}, {"id": 21, "name": "21"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 11, "bbox": [10, 10, 10, 20]},
            {"id": 2, "image_id": 1, "category_id": 21, "bbox": [22, 10, 10, 20]},
        ],
    }
    (tmp_path / "annotations.coco.json").write_text(json.dumps(coco))
    return tmp_path


def test_each_truth_box_is_matched_once_by_the_most_probable():
    found = [Found("a", BOX, 0.4), Found("b", BOX, 0.9), Found("c", NEXT, 0.1)]
    assert evaluate.match(found, [BOX, NEXT], iou=0.5) == [None, 0, 1]


def test_the_threshold_is_where_f1_is_highest():
    found = [[Found("a", BOX, 0.9), Found("a", NEXT, 0.2)], [Found("a", BOX, 0.6)]]
    assert evaluate.best_threshold(found, [[BOX], [BOX]], iou=0.5) == 0.6


class Teeth:
    """A tooth network that numbers the second tooth one too far."""

    def find(self, image):
        version = ModelVersion("panoramic_teeth", "1.0.0", "0" * 64)
        return (
            ToothMark(Tooth("11"), Box(*BOX), 0.9, version),
            ToothMark(Tooth("22"), Box(*NEXT), 0.8, version),
            ToothMark(Tooth("48"), Box(60, 30, 70, 50), 0.7, version),
        )


def test_teeth_are_counted_and_numbers_compared(folder):
    films = evaluate.read_coco(folder)
    figures = evaluate.teeth_report(Teeth(), films).figures
    assert figures["recall"].value == 1.0
    assert figures["precision"].value == pytest.approx(2 / 3)
    assert figures["f1"].value == pytest.approx(0.8)
    assert figures["fdi_exact_of_matched"].value == 0.5
    assert figures["fdi_off_by_one_of_matched"].value == 0.5


class Findings:
    """A findings network that sees one lesion and one that is not there."""

    thresholds = (0.5, 0.5, 0.5, 0.5)

    def candidates(self, image, floor):
        rows, cols = image.shape
        fx, fy = panoramic.INPUT[1] / cols, panoramic.INPUT[0] / rows
        boxes = [(BOX, 0.6), ((60.0, 30.0, 70.0, 50.0), 0.8)]
        return [
            panoramic.Peak(0, 0, 0, p, (b[0] * fx, b[1] * fy, b[2] * fx, b[3] * fy))
            for b, p in boxes
        ]


def test_froc_counts_false_marks_before_hits(folder):
    pixels = folder / "images" / "a.png"
    films = [Film(pixels, 100, 60, "test", str(n), (Mark("caries", BOX),)) for n in range(4)]
    figures = evaluate.findings_report(Findings(), films).figures
    assert figures["caries_sensitivity_at_0.5_false_per_film"].value == 0.0
    assert figures["caries_sensitivity_at_1_false_per_film"].value == 1.0
    assert figures["caries_sensitivity_at_threshold"].value == 1.0
    assert figures["caries_false_per_film_at_threshold"].value == 1.0
    assert figures["caries_precision_at_threshold"].value == 0.5


def test_intervals_contain_the_estimate_and_shrink_to_it_when_all_agree():
    right = np.array([1.0, 0.0, 1.0, 1.0])

    def share(weight):
        return {"share": float(weight @ right / weight.sum())}

    figure = evaluate.bootstrap(["a", "b", "c", "d"], share)["share"]
    assert figure.low <= figure.value == 0.75 <= figure.high
    right = np.ones(4)
    figure = evaluate.bootstrap(["a", "a", "b", "b"], share)["share"]
    assert figure.low == figure.value == figure.high == 1.0


def test_an_abstention_is_a_wrong_view(folder):
    pixels = folder / "images" / "a.png"
    films = [
        Film(pixels, 100, 60, "test", "a", (Mark("bitewing", BOX),)),
        Film(pixels, 100, 60, "test", "b", (Mark("panoramic", BOX),)),
    ]
    answers = iter([(None, 0.4), (View.PANORAMIC, 0.9)])
    figures = evaluate.triage_report(lambda image: next(answers), films).figures
    assert figures["accuracy"].value == 0.5
    assert figures["abstained"].value == 0.5
    assert figures["accuracy_bitewing"].value == 0.0


def test_the_command_writes_figures_for_installed_weights(folder, tmp_path, capsys):
    kept = tmp_path / "weights"
    kept.mkdir()
    torch.manual_seed(0)
    state = DenseNet(panoramic.TEETH_HEADS).state_dict() | {"thresholds": torch.tensor([0.99])}
    torch.save(state, kept / "t.pt")
    entry = {
        "task": "panoramic_teeth",
        "file": "t.pt",
        "version": "1.0.0",
        "sha256": evaluate.weights.digest(kept / "t.pt"),
        "licence": "none",
        "data": "untrained",
        "card": "none.md",
        "command": "none",
    }
    (kept / "manifest.json").write_text(json.dumps([entry]))
    out = tmp_path / "figures.json"
    arguments = ["--task", "panoramic_teeth", "--data", str(folder), "--out", str(out)]

    assert evaluate.main([*arguments, "--weights", str(kept)]) == 0

    report = json.loads(out.read_text())
    assert report["films"] == 1
    assert report["figures"]["recall"]["value"] == 0.0
    assert "| recall | 0.000 |" in capsys.readouterr().out


def test_the_command_says_when_weights_are_missing(folder, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = ["--task", "panoramic_teeth", "--data", str(folder), "--weights", str(empty)]
    assert evaluate.main(arguments) == 2
    assert "no weights" in capsys.readouterr().err
