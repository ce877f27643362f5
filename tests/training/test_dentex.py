"""DENTEX folders: quadrant and place become a number, diagnoses our words."""

import json

import pytest

pytest.importorskip("cv2")

from node.errors import InvalidInput
from training import dentex


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "xrays").mkdir()
    content = {
        "images": [{"id": 7, "file_name": "train_1.png", "width": 200, "height": 100}],
        "categories_1": [{"id": i, "name": i + 1} for i in range(4)],
        "categories_2": [{"id": i, "name": i + 1} for i in range(8)],
        "categories_3": [{"id": 0, "name": "Impacted"}, {"id": 3, "name": "Deep Caries"}],
        "annotations": [
            {
                "image_id": 7,
                "bbox": [10, 20, 30, 40],
                "segmentation": [[10, 20, 40, 20, 40, 60]],
                "category_id_1": 3,
                "category_id_2": 7,
                "category_id_3": 3,
            }
        ],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    return tmp_path


def test_ids_are_indices_and_names_are_numbers(folder):
    assert dentex.is_dentex(folder)
    (film,) = dentex.read_dentex(folder)
    (mark,) = film.marks
    assert mark.label == "48"
    assert mark.box == (10.0, 20.0, 40.0, 60.0)
    assert mark.outline[1] == (40.0, 20.0)


def test_diagnoses_are_named_in_our_words(folder):
    (film,) = dentex.read_dentex(folder, diagnoses=True)
    assert film.marks[0].label == "caries"


def numbered(folder, boxes):
    """Write a film with one tooth a quadrant index, at the given left upper corners."""
    content = json.loads((folder / "train.json").read_text())
    content["annotations"] = [
        {"image_id": 7, "bbox": [*corner, 20, 20], "category_id_1": q, "category_id_2": 0}
        for q, corner in enumerate(boxes)
    ]
    (folder / "train.json").write_text(json.dumps(content))


def test_quadrants_must_lie_where_a_mounted_film_shows_them(folder):
    right = [[20, 10], [150, 10], [150, 60], [20, 60]]
    numbered(folder, right)
    (film,) = dentex.read_dentex(folder)
    assert [mark.label for mark in film.marks] == ["11", "21", "31", "41"]
    numbered(folder, right[1:] + right[:1])
    with pytest.raises(InvalidInput, match="off by one"):
        dentex.read_dentex(folder)


def test_names_counted_from_nought_are_refused(folder):
    content = json.loads((folder / "train.json").read_text())
    content["categories_2"] = [{"id": i, "name": i} for i in range(8)]
    content["annotations"][0]["category_id_2"] = 0
    (folder / "train.json").write_text(json.dumps(content))
    with pytest.raises(InvalidInput):
        dentex.read_dentex(folder)


def test_a_training_folder_is_to_learn_from(folder):
    assert dentex.read_dentex(folder)[0].split == "train"
    content = json.loads((folder / "train.json").read_text())
    content["images"][0]["file_name"] = "val_3.png"
    (folder / "train.json").write_text(json.dumps(content))
    assert dentex.read_dentex(folder)[0].split == "test"


def test_another_folder_is_refused(tmp_path):
    assert not dentex.is_dentex(tmp_path)
    with pytest.raises(InvalidInput):
        dentex.read_dentex(tmp_path)
