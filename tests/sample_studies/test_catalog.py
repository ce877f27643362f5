"""The sample studies: valid DICOM of invented patients, the same every time."""

import json
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pydicom
import pytest

import sample_studies
from node.domain.teeth import Tooth
from sample_studies import SampleStudy, catalog

PACKAGE = Path(str(sample_studies.__file__)).parent
DAY = date(2026, 1, 5)


def _validator() -> str:
    beside = Path(sys.executable).parent / "dciodvfy"
    found = str(beside) if beside.exists() else shutil.which("dciodvfy")
    if found is None:
        pytest.fail("dciodvfy is missing: install dicom3tools")
    return found


@pytest.mark.parametrize("study", catalog(), ids=lambda study: study.key)
def test_every_image_is_valid_dicom(study: SampleStudy, tmp_path: Path) -> None:
    paths = study.write(tmp_path, accession="ACC1", study_instance_uid="1.2.3", study_date=DAY)
    assert len(paths) == len(study.images)
    for path in paths:
        done = subprocess.run([_validator(), str(path)], capture_output=True)
        words = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert not [line for line in words.splitlines() if line.startswith("Error")], words
        ds = pydicom.dcmread(path)
        assert (ds.AccessionNumber, ds.StudyInstanceUID) == ("ACC1", "1.2.3")
        assert ds.PatientID == study.patient.id
        assert ds.pixel_array.shape == (ds.Rows, ds.Columns)
        if study.source != "synthetic":
            assert "ImagerPixelSpacing" not in ds
            assert "PixelSpacing" not in ds


@pytest.mark.parametrize("study", catalog(), ids=lambda study: study.key)
def test_the_same_arguments_write_the_same_bytes(study: SampleStudy, tmp_path: Path) -> None:
    written = [
        study.write(tmp_path / name, accession="A", study_instance_uid=None, study_date=DAY)
        for name in ("a", "b")
    ]
    for first, second in zip(*written, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_images_have_their_own_uids(tmp_path: Path) -> None:
    uids = [
        pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
        for study in catalog()
        for path in study.write(
            tmp_path / study.key, accession="A", study_instance_uid=None, study_date=DAY
        )
    ]
    assert len(uids) == len(set(uids)) == 27


def test_truth_lies_inside_its_image() -> None:
    for study in catalog():
        for image in study.images:
            truth = image.truth()
            assert bool(truth) == (study.source == "synthetic")
            if not truth:
                continue
            from PIL import Image

            with Image.open(image.path) as picture:
                width, height = picture.size
            for tooth in truth["teeth"]:
                Tooth(tooth["tooth"])
                x0, y0, x1, y1 = tooth["box"]
                assert 0 <= x0 < x1 <= width
                assert 0 <= y0 < y1 <= height
            for lesion in truth["lesions"]:
                assert all(0 <= x <= width and 0 <= y <= height for x, y in lesion["polygon"])


def test_each_film_has_its_notice_and_the_whole_is_small() -> None:
    notice = (PACKAGE / "NOTICE.md").read_text()
    films = [path for path in (PACKAGE / "films").rglob("*") if path.is_file()]
    for folder in {path.parent.name for path in films}:
        assert f"films/{folder}`" in notice
    assert sum(path.stat().st_size for path in films) < 15_000_000


def test_two_patients_share_name_and_birth_date() -> None:
    cast = json.loads((PACKAGE / "cast.json").read_text())
    people = [(p["family"], p["given"], p["birth_date"]) for p in cast["patients"]]
    assert len(people) - len(set(people)) == 1
