"""Annotated films: read from COCO folders, divided by patient."""

import json

import pytest

pytest.importorskip("cv2")
import cv2
import numpy as np

from node.errors import InvalidInput
from training import datasets


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


def test_the_manifest_names_files_by_hash(tmp_path):
    write_coco(tmp_path, [("0001_0002.png", "train")], [])
    (row,) = datasets.manifest(datasets.read_coco(tmp_path))
    assert row["file"] == "0001_0002.png"
    assert row["group"] == "0001"
    assert len(row["sha256"]) == 64
