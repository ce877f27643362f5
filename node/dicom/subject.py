"""What an image file says of its subject that the networks must know: age, and side of the mouth.

Nothing else of the patient is read, and none of it is kept, logged or sent on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from node.dicom.codes import read_tooth
from node.dicom.damage import DAMAGE_ERRORS
from node.dicom.object_file import ObjectFile, read_dataset
from node.domain.teeth import Tooth
from node.errors import InvalidInput

#: A birth date less than this before the study is a placeholder: nobody X-rays a mouth that young.
_LEAST_YEARS = 1.0
_MOST_YEARS = 120.0
_DAYS_A_YEAR = 365.2425
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 1 / _DAYS_A_YEAR, "W": 7 / _DAYS_A_YEAR, "M": 1 / 12, "Y": 1.0}
#: Where vendors write tooth numbers besides the sequence that is meant for them (seen).
_TEXTS = (
    "ImageComments",
    "SeriesDescription",
    "ProtocolName",
    "StudyDescription",
    "AcquisitionDeviceProcessingDescription",
    "ContentDescription",
)
_PRIVATE_VRS = ("LO", "SH", "ST", "LT", "UT")
_TOOTH_WORD = re.compile(r"(?:TOOTH|TEETH|ZAHN|FDI|DENT|DIENTE)\W{0,3}([1-8][1-8])(?!\d)")


@dataclass(frozen=True, slots=True)
class Subject:
    """Age at the study in years, None when unknown; ``side`` of the mouth, R, L or empty.

    ``is_lettered``: the file says that something is burned into its pixels.
    """

    age_years: float | None = None
    side: str = ""
    is_lettered: bool = False


def read_subject(path: ObjectFile) -> Subject:
    """Read what a stored file says; what is missing, damaged or contradicts itself is unknown.

    Call it for a file whose pixels were decoded: that bounds what a deflated one may hold.
    """
    try:
        ds = read_dataset(path, stop_before_pixels=True)
        return Subject(_age(ds), _side(ds), _text(ds, "BurnedInAnnotation") == "YES")
    except DAMAGE_ERRORS:  # the decoder of the pixels says what is wrong
        return Subject()


def _age(ds: Dataset) -> float | None:
    born, studied = _date(ds, "PatientBirthDate"), _date(ds, "StudyDate")
    if born is not None and studied is not None:
        years = (studied - born).days / _DAYS_A_YEAR
        if _LEAST_YEARS <= years <= _MOST_YEARS:
            return years
    # PS3.5 6.2, value representation AS
    stated = _AGE.fullmatch(_text(ds, "PatientAge"))
    if stated is None:
        return None
    years = int(stated[1]) * _YEARS[stated[2]]
    return years if _LEAST_YEARS <= years <= _MOST_YEARS else None


def _side(ds: Dataset) -> str:
    """Take what the sides stated here agree on (PS3.3 C.8.11.2 and 10.5)."""
    stated = {_text(ds, "ImageLaterality"), _text(ds, "Laterality")} - {""}
    teeth = _teeth(ds) or list(written_teeth(ds))
    stated |= {"R" if tooth.is_patient_right else "L" for tooth in teeth}
    return stated.pop() if len(stated) == 1 and stated <= {"R", "L"} else ""


def _teeth(ds: Dataset) -> list[Tooth]:
    found = []
    for item in ds.get("PrimaryAnatomicStructureSequence") or ():
        code = Code(_text(item, "CodeValue"), _text(item, "CodingSchemeDesignator"), "")
        try:
            found.append(read_tooth(code))
        except InvalidInput:
            continue
    return found


def written_teeth(ds: Dataset) -> tuple[Tooth, ...]:
    """Read ISO 3950 numbers that a word introduces in comments, descriptions or private texts.

    A number that could be a Universal one as well (11 to 18, 21 to 28, 31, 32) is left out: a
    guess could name another tooth.
    """
    texts = [_text(ds, keyword) for keyword in _TEXTS]
    texts += [
        str(element.value).upper()
        for element in ds
        if element.tag.is_private and element.VR in _PRIVATE_VRS
    ]
    numbers = {number for text in texts for number in _TOOTH_WORD.findall(text[:1024])}
    found = []
    for number in sorted(number for number in numbers if int(number) > 32):
        try:
            found.append(Tooth(number))
        except (InvalidInput, ValueError):
            continue
    return tuple(found)


def _date(ds: Dataset, keyword: str) -> date | None:
    digits = re.sub(r"[.-]", "", _text(ds, keyword))[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None


def _text(ds: Dataset, keyword: str) -> str:
    return str(ds.get(keyword) or "").strip().upper()
