"""Age and side as a file states them: read leniently, unknown rather than wrong."""

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from node.dicom.codes import tooth_code
from node.dicom.subject import Subject, read_subject
from node.domain.teeth import Tooth


def stored(path: Path, **values: object) -> Path:
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = generate_uid()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path / "image.dcm", enforce_file_format=True)
    return path / "image.dcm"


@pytest.mark.parametrize(
    ("values", "years"),
    [
        ({"PatientBirthDate": "20160301", "StudyDate": "20250228"}, 9.0),
        ({"PatientBirthDate": "20160301", "StudyDate": "20250228", "PatientAge": "040Y"}, 9.0),
        ({"PatientAge": "011Y"}, 11.0),
        ({"PatientAge": "030M"}, 2.5),
        ({"PatientBirthDate": "20250228", "StudyDate": "20250228", "PatientAge": "034Y"}, 34.0),
        ({"PatientBirthDate": "20250228", "StudyDate": "20250228"}, None),
        ({"PatientBirthDate": "20300101", "StudyDate": "20250228"}, None),
        ({"PatientBirthDate": "19800101"}, None),
        ({}, None),
    ],
)
def test_age(tmp_path: Path, values: dict[str, str], years: float | None) -> None:
    age = read_subject(stored(tmp_path, **values)).age_years
    assert age == (None if years is None else pytest.approx(years, abs=0.02))


def anatomy(*codes: str) -> list[Dataset]:
    items = []
    for code in codes:
        item, tooth = Dataset(), tooth_code(Tooth(code))
        item.CodeValue, item.CodingSchemeDesignator = tooth.value, tooth.scheme_designator
        item.CodeMeaning = tooth.meaning
        items.append(item)
    return items


@pytest.mark.parametrize(
    ("values", "side"),
    [
        ({"ImageLaterality": "R"}, "R"),
        ({"Laterality": "L"}, "L"),
        ({"ImageLaterality": "B"}, ""),
        ({"ImageLaterality": "U"}, ""),
        ({"ImageLaterality": "R", "Laterality": "L"}, ""),
        ({"PrimaryAnatomicStructureSequence": anatomy("36", "37")}, "L"),
        ({"PrimaryAnatomicStructureSequence": anatomy("11", "21")}, ""),
        (
            {"ImageLaterality": "R", "PrimaryAnatomicStructureSequence": anatomy("36")},
            "",
        ),
    ],
)
def test_side(tmp_path: Path, values: dict[str, object], side: str) -> None:
    assert read_subject(stored(tmp_path, **values)).side == side


def test_a_file_that_is_no_dicom_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "page.txt"
    path.write_text("not a film")
    assert read_subject(path) == Subject()
    assert read_subject(tmp_path / "absent.dcm") == Subject()
