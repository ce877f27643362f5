"""Annotated films: read from COCO folders, divided by patient."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("cv2")
import cv2
import numpy as np

from node.errors import InvalidInput
from training import datasets, manifest


def write_coco(folder, images, annotations, categories=("11", "12")):
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, (name, use) in enumerate(images):
        cv2.imwrite(str(folder / "images" / name), np.full((40, 60), number % 256, np.uint8))
        row = {"id": number, "file_name": name, "width": 60, "height": 40}
        rows.append(row | ({"split": use} if use else {}))
    coco = {
        "images": rows,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(categories)],
    }
    (folder / "annotations.coco.json").write_text(json.dumps(coco))


def test_boxes_and_outlines_are_read_as_corners_and_points(tmp_path):
    marks = [
        {"id": 1, "image_id": 0, "category_id": 2, "bbox": [5, 6, 10, 20]},
        {
            "id": 2,
            "image_id": 0,
            "category_id": 1,
            "bbox": [1, 2, 3, 4],
            "segmentation": [[1, 2, 4, 2, 4, 6]],
        },
    ]
    write_coco(tmp_path, [("a.png", None)], marks)

    (film,) = datasets.read_coco(tmp_path)

    assert film.split == "test"
    assert film.marks[0] == datasets.Mark("12", (5.0, 6.0, 15.0, 26.0))
    assert film.marks[1].outline == ((1.0, 2.0), (4.0, 2.0), (4.0, 6.0))
    assert film.read().shape == (40, 60)


def test_no_patient_is_on_both_sides_of_a_split(tmp_path):
    names = [(f"{patient:04d}_{view:04d}.png", "train") for patient in range(60) for view in (1, 2)]
    names += [("0003_0009.png", "val"), ("0099_0001.png", "val")]
    write_coco(tmp_path, names, [])

    splits = datasets.split(datasets.read_coco(tmp_path))

    groups = [{film.group for film in part} for part in (splits.train, splits.tune, splits.test)]
    assert groups[2] == {"0003", "0099"}
    assert not groups[0] & groups[1]
    assert not (groups[0] | groups[1]) & groups[2]
    assert 0 < len(groups[1]) < len(groups[0])


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"images": [], "annotations": [{}], "categories": []}']
)
def test_a_damaged_annotation_file_is_refused(tmp_path, text):
    (tmp_path / "annotations.coco.json").write_text(text)
    with pytest.raises(InvalidInput):
        datasets.read_coco(tmp_path)


def test_a_broken_image_is_refused(tmp_path):
    write_coco(tmp_path, [("a.png", None)], [])
    (tmp_path / "images" / "a.png").write_bytes(b"not an image")
    with pytest.raises(InvalidInput):
        datasets.read_coco(tmp_path)[0].read()


def test_views_are_named_by_folder(tmp_path):
    write_coco(tmp_path / "some_set", [("a.png", "train")], [])
    for name in ("bitewing", "other/train"):
        (tmp_path / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name / "b.png"), np.zeros((9, 9), np.uint8))

    films = datasets.read_views(tmp_path)

    assert {(film.marks[0].label, film.split) for film in films} == {
        ("panoramic", "train"),
        ("bitewing", "test"),
        ("other", "train"),
    }


def test_a_set_without_a_part_to_report_has_one_put_aside_for_good(tmp_path):
    names = [(f"{patient:04d}_{view:04d}.png", "train") for patient in range(80) for view in (1, 2)]
    write_coco(tmp_path / "whole", names, [])
    write_coco(tmp_path / "half", names[:80], [])

    whole = datasets.split(datasets.read_coco(tmp_path / "whole"))
    half = datasets.split(datasets.read_coco(tmp_path / "half"))

    assert 4 <= len({film.group for film in whole.test}) <= 24
    assert not {f.group for f in whole.test} & {f.group for f in (*whole.train, *whole.tune)}
    assert {f.group for f in half.test} == {f.group for f in whole.test if int(f.group) < 40}
    assert {f.group for f in half.tune} == {f.group for f in whole.tune if int(f.group) < 40}


def test_made_films_are_told_from_real_ones(tmp_path):
    write_coco(tmp_path / "scans", [("a.png", None)], [])
    write_coco(tmp_path / "drawn", [("a.png", None)], [])
    path = tmp_path / "drawn" / "annotations.coco.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"info": {"origin": "synthetic"}}))
    (tmp_path / "periapical" / "generated").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "periapical" / "generated" / "b.png"), np.zeros((9, 9), np.uint8))

    films = datasets.read_views(tmp_path)

    assert {(film.source, film.origin) for film in films} == {
        ("scans", "real"),
        ("drawn", "synthetic"),
        ("periapical", "synthetic"),
    }


def test_the_manifest_names_each_file_once_by_hash(tmp_path):
    write_coco(tmp_path, [("0001_0002.png", "train"), ("0001_0003.png", "train")], [])
    films = datasets.read_coco(tmp_path)
    manifest.write(tmp_path / "m.json", [*films, films[0]])
    body = json.loads((tmp_path / "m.json").read_text())
    assert [row["file"] for row in body["films"]] == ["0001_0002.png", "0001_0003.png"]
    assert body["films"][0]["group"] == "0001"
    assert len(body["films"][0]["sha256"]) == 64
    far = replace(films[0], path=tmp_path / "m.json")
    assert [row["file"] for row in manifest.rows([films[0], far])] == [
        "images/0001_0002.png",
        "m.json",
    ]
    assert body["digest"] == manifest.data_digest(film.path for film in reversed(films))
