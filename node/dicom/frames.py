"""Single frames of a stored file: as samples, or as the compressed bytes that were received."""

from __future__ import annotations

from pydicom.encaps import get_frame
from pydicom.uid import UID

from node.dicom.damage import DAMAGE_ERRORS
from node.dicom.object_file import ObjectFile, read_dataset
from node.dicom.pixels import decode_stored
from node.errors import InvalidInput, NotFound

#: The media type of a compressed frame (PS3.18 Table 8.7.3-5).
MEDIA_TYPES = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}


def frame_count(path: ObjectFile) -> int:
    """Count the frames of a stored file; 0 when it holds no pixels that can be counted."""
    ds = read_dataset(path, stop_before_pixels=True, specific_tags=["Rows", "NumberOfFrames"])
    if not ds.get("Rows"):
        return 0
    try:
        return max(1, int(ds.get("NumberOfFrames", 1) or 1))
    except (TypeError, ValueError):
        return 1


def samples_of(path: ObjectFile, number: int) -> bytes:
    """Decode frame `number` (from 1) to little-endian samples as PS3.5 8.1.1 lays them out.

    Raises NotFound when there is no such frame, InvalidInput when it cannot be decoded.
    """
    _require(path, number)
    samples = decode_stored(path, number - 1)
    return samples.astype(samples.dtype.newbyteorder("<")).tobytes()


def compressed_of(path: ObjectFile, number: int) -> bytes:
    """Return frame `number` (from 1) as it was received; raises like :func:`samples_of`."""
    _require(path, number)
    try:
        ds = read_dataset(path)
        return bytes(get_frame(ds.PixelData, number - 1, number_of_frames=frame_count(path)))
    except DAMAGE_ERRORS as error:
        raise InvalidInput(f"the frame cannot be read ({type(error).__name__})") from None


def is_compressed(transfer_syntax_uid: str) -> bool:
    """Whether frames of this transfer syntax are compressed one by one."""
    return UID(transfer_syntax_uid).is_encapsulated


def _require(path: ObjectFile, number: int) -> None:
    if not 1 <= number <= frame_count(path):
        raise NotFound("There is no such frame.")
