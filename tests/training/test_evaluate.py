"""Evaluation: known answers on made-up predictions, and a run over a tiny COCO folder."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")
import cv2
import numpy as np
import torch

from models import panoramic
from models.backbone import DenseNet
from node.domain.findings import Box, Finding, FindingKind, ModelVersion, ToothMark, View
from node.domain.teeth import Tooth
from training import card, datasets, evaluate, panoramic_report, report
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


def teeth(film):
    """Find as a network that numbers the second tooth one too far."""
    version = ModelVersion("panoramic_teeth", "1.0.0", "0" * 64)
    half = ((10.0, 10.0), (20.0, 10.0), (20.0, 20.0), (10.0, 20.0))
    return (
        ToothMark(Tooth("11"), Box(*BOX), 0.9, version, half),
        ToothMark(Tooth("22"), Box(*NEXT), 0.8, version),
        ToothMark(Tooth("48"), Box(60, 30, 70, 50), 0.7, version),
    )


def test_teeth_are_counted_and_numbers_compared(folder):
    films = datasets.read_coco(folder)
    figures = panoramic_report.teeth_report(teeth, films).figures
    assert figures["recall"].value == 1.0
    assert figures["precision"].value == pytest.approx(2 / 3)
    assert figures["f1"].value == pytest.approx(0.8)
    assert figures["fdi_exact_of_matched"].value == 0.5
    assert figures["fdi_off_by_one_of_matched"].value == 0.5
    # Both teeth found before the false one; of the numbers, 11 is right and 21 never said.
    assert figures["tooth_ap50"].value == pytest.approx(1.0)
    assert figures["tooth_ar100"].value == pytest.approx(1.0)
    assert figures["fdi_ap50"].value == pytest.approx(0.5)
    assert figures["quadrant_ap50"].value == pytest.approx(1.0)
    assert figures["ece"].value > 0


def test_a_mask_of_half_a_tooth_has_a_dice_of_two_thirds(folder):
    path = folder / "annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[10, 10, 20, 10, 20, 30, 10, 30]]
    path.write_text(json.dumps(content))
    figures = panoramic_report.teeth_report(teeth, datasets.read_coco(folder)).figures
    assert figures["mask_dice_of_matched"].value == pytest.approx(2 / 3, abs=0.02)


def findings(film):
    """Find as a network that sees one lesion and one that is not there."""
    version = ModelVersion("panoramic_caries", "1.0.0", "0" * 64)
    return tuple(
        Finding(FindingKind.CARIES, Box(*box), probability=p, model=version)
        for box, p in ((BOX, 0.6), ((60.0, 30.0, 70.0, 50.0), 0.8))
    )


POINTS = {FindingKind.CARIES: {"review": 0.5, "high_specificity": 0.7}}


def films_of(folder, *marks, count=4):
    pixels = folder / "images" / "a.png"
    return [Film(pixels, 100, 60, "test", str(n), marks) for n in range(count)]


def test_froc_counts_false_marks_before_hits(folder):
    films = films_of(folder, Mark("caries", BOX))
    figures = panoramic_report.findings_report(findings, films, POINTS).figures
    assert figures["caries_sensitivity_at_0.5_false_per_film"].value == 0.0
    assert figures["caries_sensitivity_at_1_false_per_film"].value == 1.0
    assert figures["caries_sensitivity_at_review"].value == 1.0
    assert figures["caries_false_per_film_at_review"].value == 1.0
    assert figures["caries_precision_at_review"].value == 0.5
    assert figures["caries_sensitivity_at_high_specificity"].value == 0.0
    assert figures["caries_f1_iou_0.5"].value == pytest.approx(2 / 3)
    assert np.isnan(figures["caries_afroc"].value)  # no film without a lesion


def test_lesions_outrank_films_without_one_as_afroc_says(folder):
    films = [*films_of(folder, Mark("caries", BOX)), *films_of(folder)]
    figures = panoramic_report.findings_report(findings, films, POINTS).figures
    assert figures["caries_afroc"].value == 0.0  # every lesion-free film has a mark of 0.8
    assert figures["caries_wafroc"].value == 0.0


def test_a_mark_whose_middle_lies_in_the_lesion_hits_it(folder):
    wide = Mark("caries", (0.0, 0.0, 100.0, 60.0))
    figures = panoramic_report.findings_report(findings, films_of(folder, wide), POINTS).figures
    assert figures["caries_sensitivity_at_0.125_false_per_film"].value == 1.0
    assert figures["caries_sensitivity_at_1_false_per_film_iou_0.3"].value == 0.0


def test_teeth_are_told_apart_where_the_set_names_healthy_ones(folder):
    healthy = Mark("healthy tooth", NEXT)
    films = films_of(folder, Mark("caries", BOX), healthy)
    figures = panoramic_report.findings_report(findings, films, POINTS).figures
    assert figures["caries_tooth_auroc"].value == 1.0
    assert figures["caries_tooth_sensitivity_at_review"].value == 1.0
    assert figures["caries_tooth_specificity_at_review"].value == 1.0


def test_subgroups_are_measured_apart_and_small_ones_only_counted(folder):
    films = [
        Film(folder / "images" / "a.png", 100, 60, "test", str(n), marks, source=source)
        for n, (source, marks) in enumerate(
            [("one", (Mark("caries", BOX),))] * 6 + [("two", (Mark("caries", NEXT),))] * 2
        )
    ]
    found = panoramic_report.findings_report(findings, films, POINTS)
    one, two = found.subgroups
    assert (one.by, one.value, one.films) == ("source", "one", 6)
    assert one.figures["caries_sensitivity_at_review"].value == 1.0
    assert found.figures["caries_sensitivity_at_review"].value == 0.75
    assert (two.patients, two.figures) == (2, {})
    assert "source two: 2 films" in report.table(found)


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


def test_a_bitewing_taken_for_a_periapical_is_still_intraoral(folder):
    films = films_of(folder, Mark("bitewing", BOX), count=40)
    figures = evaluate.triage_report(lambda film: (View.PERIAPICAL, 0.9), films).figures
    assert figures["accuracy"].value == 0.0
    grouped = figures["accuracy_panoramic_intraoral_other"]
    assert (grouped.value, grouped.low) == (1.0, pytest.approx(1 - 3 / 40))


def test_films_a_program_made_are_labelled_and_kept_apart(folder):
    films = films_of(folder, Mark("bitewing", BOX))
    found = evaluate.triage_report(lambda image: (View.BITEWING, 0.9), films)
    made = evaluate.triage_report(
        lambda image: (View.BITEWING, 0.9), [replace(film, origin="synthetic") for film in films]
    )
    assert report.SYNTHETIC not in report.table(found)
    assert report.table(made).startswith(f"**{report.SYNTHETIC}.**")


def install(kept):
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
    return entry["sha256"]


def test_the_command_writes_figures_for_installed_weights(folder, tmp_path, capsys):
    digest = install(tmp_path / "weights")
    out = tmp_path / "figures.json"
    text = tmp_path / "card.md"
    text.write_text("# Teeth\n\n<!-- figures:real -->\nold\n<!-- /figures:real -->\n\n## Limits\n")
    arguments = ["--task", "panoramic_teeth", "--data", str(folder), "--out", str(out)]
    arguments += ["--weights", str(tmp_path / "weights"), "--card", str(text)]

    assert evaluate.main(arguments) == 0

    found = json.loads(out.read_text())
    assert (found["films"], found["origin"], found["others"]) == (1, "real", [])
    assert found["figures"]["recall"]["value"] == 0.0
    assert found["figures"]["recall"]["published"] == "0.9941"
    (touched,) = found["touched"]
    assert (touched["weights_sha256"], touched["part"]) == (digest, "test")
    shown = capsys.readouterr().out
    assert "| recall | 0.000 | 0.000 – 0.000 | 0.9941 | 0.998 |" in shown
    written = text.read_text()
    assert "old" not in written
    assert written.endswith("## Limits\n")
    assert card.section(text, "real") == shown.strip()
    (read,) = card.read_figures(out)
    assert report.table(read) == shown
    assert card.figures_of(text).exists()


def test_a_second_look_at_test_films_with_other_weights_is_noted(folder, tmp_path, capsys):
    install(tmp_path / "weights")
    out = tmp_path / "figures.json"
    arguments = ["--task", "panoramic_teeth", "--data", str(folder), "--out", str(out)]
    arguments += ["--weights", str(tmp_path / "weights")]
    assert evaluate.main(arguments) == 0
    first = json.loads(out.read_text())
    assert evaluate.main(arguments) == 0
    assert "other weights" not in capsys.readouterr().err
    assert json.loads(out.read_text())["touched"] == first["touched"]
    first["touched"][0]["weights_sha256"] = "f" * 64
    out.write_text(json.dumps(first))
    assert evaluate.main(arguments) == 0
    assert "1 other weights" in capsys.readouterr().err
    assert len(json.loads(out.read_text())["touched"]) == 2


def test_the_command_says_when_weights_are_missing(folder, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = ["--task", "panoramic_teeth", "--data", str(folder), "--weights", str(empty)]
    assert evaluate.main(arguments) == 2
    assert "no weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "names", "words"),
    [
        ("panoramic_caries", ("karies", "krone"), "known: broken-down crown or root, caries"),
        ("panoramic_caries", ("11", "21"), "categories that name findings"),
        ("panoramic_teeth", ("Caries", "Cavity"), "categories named by tooth numbers"),
    ],
)
def test_a_set_that_says_nothing_of_the_task_is_refused_with_what_is_needed(
    folder, capsys, task, names, words
):
    path = folder / "annotations.coco.json"
    coco = json.loads(path.read_text())
    for category, name in zip(coco["categories"], names, strict=True):
        category["name"] = name
    path.write_text(json.dumps(coco))
    assert evaluate.main(["--task", task, "--data", str(folder)]) == 2
    assert words in capsys.readouterr().err


def test_names_of_categories_are_read_in_lower_case(folder):
    path = folder / "annotations.coco.json"
    coco = json.loads(path.read_text())
    coco["categories"][0]["name"] = " Caries"
    path.write_text(json.dumps(coco))
    assert [mark.label for mark in datasets.read_coco(folder)[0].marks] == ["caries", "21"]


def test_figures_that_cannot_be_written_are_refused_before_films_are_read(folder, capsys):
    out = folder / "absent" / "figures.json"
    arguments = ["--task", "triage", "--data", str(folder), "--out", str(out)]
    assert evaluate.main(arguments) == 2
    assert "no folder" in capsys.readouterr().err


def test_films_of_no_known_view_are_refused_with_what_is_needed(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 100), np.uint8))
    assert evaluate.main(["--task", "triage", "--data", str(tmp_path)]) == 2
    assert "sub-folders named bitewing, periapical" in capsys.readouterr().err


def said(**values):
    """What `bitewing export-findings --json` has of an image, twice as large as the film."""
    return {
        "rows": 120,
        "columns": 200,
        "view": "panoramic",
        "view_probability": 0.9,
        "teeth": [
            {"tooth": "11", "box": [20, 20, 40, 60], "outline": None, "probability": 0.9},
            {"tooth": "22", "box": [44, 20, 64, 60], "outline": None, "probability": 0.8},
        ],
        "sites": [],
        "operating_points": {},
        "findings": [
            {
                "kind": "caries",
                "geometry": {"type": "box", "points": [[20, 20], [40, 60]]},
                "tooth": "11",
                "surfaces": "",
                "depth": None,
                "value_mm": None,
                "value_percent": None,
                "probability": 0.7,
                "model": None,
                "origin": "ai",
            }
        ],
        **values,
    }


def test_what_a_node_said_is_measured_as_a_network_is(folder, tmp_path):
    file, out = tmp_path / "said.json", tmp_path / "figures.json"
    file.write_text(json.dumps({"a.png": said()}))
    arguments = ["--data", str(folder), "--predictions", str(file), "--out", str(out)]
    assert evaluate.main(["--task", "panoramic_teeth", *arguments]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures["f1"]["value"] == 1.0
    assert figures["fdi_exact_of_matched"]["value"] == 0.5
    path = folder / "annotations.coco.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "cavity"
    path.write_text(json.dumps(content))
    assert evaluate.main(["--task", "panoramic_caries", *arguments]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures["caries_sensitivity_at_review"]["value"] == 1.0
    assert figures["caries_false_per_film_at_review"]["value"] == 0.0


def test_predictions_that_are_none_or_lack_a_film_are_refused(folder, tmp_path, capsys):
    file = tmp_path / "said.json"
    arguments = ["--task", "panoramic_teeth", "--data", str(folder), "--predictions", str(file)]
    for text in ("{", "[]", json.dumps({"a.png": {}}), json.dumps({"a.png": said(teeth=[{}])})):
        file.write_text(text)
        assert evaluate.main(arguments) == 2
    file.write_text(json.dumps({"b.png": said()}))
    assert evaluate.main(arguments) == 2
    assert "say nothing of a.png" in capsys.readouterr().err
