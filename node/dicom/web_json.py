"""A stored file as DICOM JSON (PS3.18 F): attributes here, bulk data by reference."""

from __future__ import annotations

import re
from typing import cast

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from node.dicom import charset
from node.dicom.damage import DAMAGE_ERRORS
from node.dicom.object_file import ObjectFile, read_dataset
from node.errors import InvalidInput, NotFound

#: Longer values are referred to.
_INLINE_BYTES = 1024
_PIXEL_DATA = 0x7FE00010
_SPECIFIC_CHARACTER_SET = 0x00080005


def metadata_of(path: ObjectFile, url: str) -> dict[str, object]:
    """Read the attributes of a file; values that are invalid for their VR are left out.

    ``url`` is where the object is found; bulk data lies below it. Raises InvalidInput when the file
    cannot be read.
    """
    try:
        ds = read_dataset(path, stop_before_pixels=True)
        _declare(ds)
        found = cast(
            dict[str, object],
            ds.to_json_dict(
                bulk_data_threshold=_INLINE_BYTES,
                bulk_data_element_handler=lambda element: f"{url}/bulkdata/{_name(element)}",
                suppress_invalid_tags=True,
            ),
        )
    except DAMAGE_ERRORS as error:
        raise InvalidInput(f"the file cannot be read ({type(error).__name__})") from None
    if "Rows" in ds and "Columns" in ds:
        uri = f"{url}/bulkdata/{_PIXEL_DATA:08X}"
        found[f"{_PIXEL_DATA:08X}"] = {"vr": "OW", "BulkDataURI": uri}
    # PS3.18 F.2: always UTF-8, whatever the file declared
    found[f"{_SPECIFIC_CHARACTER_SET:08X}"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return dict(sorted(found.items()))


def bulk_of(path: ObjectFile, tag: str) -> bytes:
    """Return the raw value of one element at the root, by its eight hex digits.

    Raises NotFound when there is none, InvalidInput when the file cannot be read.
    """
    if not re.fullmatch(r"[0-9A-Fa-f]{8}", tag):
        raise NotFound("There is no such element.")
    try:
        element = read_dataset(path).get(Tag(int(tag, 16)))
    except DAMAGE_ERRORS as error:
        raise InvalidInput(f"the file cannot be read ({type(error).__name__})") from None
    if element is None or not isinstance(element.value, bytes):
        raise NotFound("There is no such element.")
    return element.value


def _name(element: DataElement) -> str:
    return f"{int(element.tag):08X}"


def _declare(ds: Dataset) -> None:
    """Declare UTF-8 where nothing was declared and the patient's name is UTF-8 (seen)."""
    if ds.get("SpecificCharacterSet"):
        return
    element = ds.get_item("PatientName")
    raw = getattr(element, "value", None)
    if isinstance(raw, bytes) and not raw.isascii():
        text = charset.decode(raw, (), "ISO_IR 100")
        is_utf_8 = text.encode("utf-8") == raw.rstrip(b"\0 ")
        ds.SpecificCharacterSet = "ISO_IR 192" if is_utf_8 else "ISO_IR 100"
