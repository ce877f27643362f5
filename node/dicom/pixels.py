"""Decoding the pixels of a stored image, within bounds, by permissively licensed decoders.

Sizes are checked before anything is decoded, and a codestream must agree with the header. Whatever
is wrong ends in one sentence without patient data. Of a multi-frame image the first frame is read.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from node.dicom.damage import DAMAGE_ERRORS
from node.dicom.greyscale import (
    Colour,
    Greyscale,
    LookUpTable,
    VoiFunction,
    Window,
    percentile_window,
    render,
    render8,
)
from node.dicom.header import Header, inflate, parse_header, read_header, read_transfer_syntax
from node.dicom.jpeg12 import decode_jpeg12
from node.dicom.object_file import ObjectFile
from node.domain.findings import Spacing
from node.errors import InvalidInput

__all__ = [
    "Colour",
    "Greyscale",
    "Header",
    "LookUpTable",
    "VoiFunction",
    "Window",
    "decode",
    "decode_stored",
    "model_input",
    "read_header",
    "render8",
]

_MAX_FRAME_BYTES = 256 << 20
_MAX_FILE_BYTES = 2 << 30
_MAX_FRAMES = 100_000
_PIXEL_DATA = 0x7FE00010

#: pydicom's plugin for each compressed syntax. Named one by one: left to itself pydicom would also
#: use pylibjpeg-libjpeg (GPL) where somebody has installed it.
_PLUGINS = {
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "gdcm",  # JPEG extended, 8 and 12 bit
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "gdcm",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000, by pylibjpeg-openjpeg
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # HTJ2K
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
}
_RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


def decode(path: ObjectFile) -> Greyscale | Colour:
    """Decode the first frame of a stored file.

    A colour image whose channels are all the same is given back as grey: sensors wrap films so.

    Raises
    ------
    InvalidInput
        There are no pixels, they are cut off or damaged, too large, or in a form that no decoder
        here reads; the message says which.
    """
    return _decode(path)[1]


def model_input(path: ObjectFile) -> tuple[npt.NDArray[np.float32], Spacing]:
    """Decode for the networks: (rows, columns) float32, 0 to 1, radiopaque bright; and spacing.

    Raises InvalidInput as :func:`decode` does.
    """
    header, image = _decode(path)
    return render(image).astype(np.float32), header.spacing


def decode_stored(path: ObjectFile, index: int) -> npt.NDArray[np.integer]:
    """Decode frame `index` (from 0) to the samples that it stores; colours as RGB.

    Raises InvalidInput as :func:`decode` does.
    """
    return _samples(path, index)[2]


def _decode(path: ObjectFile) -> tuple[Header, Greyscale | Colour]:
    header, dataset, samples = _samples(path, 0)
    try:
        return header, _interpret(dataset, header, samples)
    except DAMAGE_ERRORS as error:
        raise InvalidInput(f"the pixels cannot be decoded ({type(error).__name__})") from None


def _samples(path: ObjectFile, index: int) -> tuple[Header, Dataset, npt.NDArray[np.integer]]:
    with _open(path) as file:
        syntax = _plain_syntax(file)
        header = parse_header(file, syntax, "ISO_IR 100")
        file.seek(0)
        _check_dimensions(header)
        try:
            dataset = dcmread(file, stop_before_pixels=True)
            _check_pixel_data(file, header, syntax)
            if syntax == _JPEG_EXTENDED and (header.bits_stored or 0) > 8:
                return header, dataset, _jpeg12(file, header, index)
            file.seek(0)
            plugin = _PLUGINS.get(syntax, "")
            pixels = pixel_array(file, index=index, decoding_plugin=plugin, raw=False)
            return header, dataset, np.asarray(pixels)
        except InvalidInput:
            raise
        except RecursionError:
            raise InvalidInput("the header's sequences are nested too deeply") from None
        except DAMAGE_ERRORS as error:
            raise InvalidInput(f"the pixels cannot be decoded ({type(error).__name__})") from None


def _open(path: ObjectFile) -> BinaryIO:
    try:
        file: BinaryIO = path.open("rb")
    except OSError:
        raise InvalidInput("the image file is missing") from None
    with file as opened:
        if opened.seek(0, os.SEEK_END) > _MAX_FILE_BYTES:
            raise InvalidInput("the file is too large to be shown")
        opened.seek(0)
        syntax = read_transfer_syntax(opened)
        if syntax != DeflatedExplicitVRLittleEndian:
            return path.open("rb")
        # bounded: 400 kB of deflate can hold 400 MB
        data = inflate(opened, _MAX_FRAME_BYTES)
    return io.BytesIO(_as_explicit(data))


def _as_explicit(data: bytes) -> bytes:
    syntax = b"1.2.840.10008.1.2.1\0"
    element = b"\x02\0\x10\0UI" + len(syntax).to_bytes(2, "little") + syntax
    length = b"\x02\0\0\0UL\x04\0" + len(element).to_bytes(4, "little")
    return bytes(128) + b"DICM" + length + element + data


def _plain_syntax(file: BinaryIO) -> str:
    syntax = read_transfer_syntax(file)
    known = UID(syntax)
    if syntax in _PLUGINS or (known.is_transfer_syntax and not known.is_compressed):
        return syntax
    raise InvalidInput(f"no decoder for the transfer syntax {known.name[:64]}")


def _check_dimensions(header: Header) -> None:
    if header.problem:
        raise InvalidInput(header.problem)
    if not header.rows or not header.columns:
        raise InvalidInput("the image has no rows or no columns")
    if header.bits_allocated not in (8, 16):
        raise InvalidInput("only 8 and 16 bits allocated can be shown")
    if not header.bits_stored or header.bits_stored > header.bits_allocated:
        raise InvalidInput("the bits stored do not fit the bits allocated")
    if header.samples_per_pixel not in (1, 3):
        raise InvalidInput("only 1 and 3 samples per pixel can be shown")
    if not 1 <= header.frames <= _MAX_FRAMES:
        raise InvalidInput("the number of frames cannot be right")
    if _frame_bytes(header) > _MAX_FRAME_BYTES:
        raise InvalidInput("the image is too large to be shown")


def _frame_bytes(header: Header) -> int:
    assert header.rows
    assert header.columns
    assert header.bits_allocated
    samples = header.rows * header.columns * header.samples_per_pixel
    if header.photometric_interpretation == "YBR_FULL_422":
        samples = samples * 2 // 3
    return samples * header.bits_allocated // 8


def _check_pixel_data(file: BinaryIO, header: Header, syntax: str) -> None:
    """Hold the length of the pixel data against the dimensions; `file` stands at its tag."""
    is_big = syntax == ExplicitVRBigEndian
    head = file.read(8)
    if len(head) < 8:
        raise InvalidInput("there are no pixels")
    order = ">" if is_big else "<"
    group, element = struct.unpack(f"{order}HH", head[:4])
    if group << 16 | element != _PIXEL_DATA:
        raise InvalidInput("there are no pixels that can be shown")
    is_implicit = UID(syntax).is_implicit_VR
    length = struct.unpack(f"{order}L", head[4:] if is_implicit else file.read(4))[0]
    start = file.tell()
    rest = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    if syntax in _PLUGINS:
        _check_codestream(file, header, syntax, rest)
        return
    expected = _frame_bytes(header) * header.frames
    if length == 0 or rest == 0:
        raise InvalidInput("the pixel data is empty")
    if rest < min(expected, length):
        raise InvalidInput("the pixel data is cut off")
    if length < expected:
        raise InvalidInput("the pixel data is shorter than rows and columns say")


def _jpeg12(file: BinaryIO, header: Header, index: int) -> npt.NDArray[np.integer]:
    if header.samples_per_pixel != 1 or header.is_signed or header.bits_allocated != 16:
        raise InvalidInput("12-bit JPEG is only read for unsigned grey images")
    frame = get_frame(file, index, number_of_frames=header.frames)
    return decode_jpeg12(frame, header.rows or 0, header.columns or 0)


def _check_codestream(file: BinaryIO, header: Header, syntax: str, rest: int) -> None:
    if rest <= 16:
        raise InvalidInput("the pixel data is empty")
    try:
        start = file.tell()
        frame = get_frame(file, 0, number_of_frames=header.frames)
        file.seek(start)
    except (ValueError, struct.error, IndexError, EOFError):
        raise InvalidInput("the compressed pixel data is damaged or cut off") from None
    if not frame:
        raise InvalidInput("the first frame is empty")
    if syntax == _RLE:
        return
    size = codestream_size(frame)
    if size is None:
        raise InvalidInput("the compressed pixel data is damaged")
    if size != (header.rows, header.columns):
        raise InvalidInput("the compressed image has other dimensions than the header says")


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Read (rows, columns) from a JPEG, JPEG-LS or JPEG 2000 codestream; None when it is none."""
    siz = frame[:4096].find(b"\xff\x4f\xff\x51")
    if siz >= 0 and not frame.startswith(b"\xff\xd8"):
        # ISO/IEC 15444-1 A.5.1: Lsiz, Rsiz, Xsiz, Ysiz, XOsiz, YOsiz
        field = frame[siz + 8 : siz + 24]
        if len(field) < 16:
            return None
        width, height, left, top = struct.unpack(">LLLL", field)
        return height - top, width - left
    return _jpeg_size(frame) if frame.startswith(b"\xff\xd8") else None


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    # ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2 (FFF7): marker, length, precision, lines, samples a line
    at = 2
    while at + 9 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return struct.unpack(">HH", frame[at + 5 : at + 9])
        at += 2 + int(struct.unpack(">H", frame[at + 2 : at + 4])[0])
    return None


# --- what the samples mean -----------------------------------------------------------------------


def _interpret(
    dataset: Dataset, header: Header, pixels: npt.NDArray[np.integer]
) -> Greyscale | Colour:
    photometric = header.photometric_interpretation
    if photometric == "PALETTE COLOR":
        return _colour(np.asarray(apply_color_lut(pixels, dataset)))
    if pixels.ndim == 3:
        return _colour(pixels, header.bits_stored or 8)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InvalidInput("the photometric interpretation is not one that can be shown")
    image = Greyscale(
        stored=pixels,
        bits_stored=header.bits_stored or 16,
        is_signed=header.is_signed,
        slope=_number(dataset, "RescaleSlope", 1.0) or 1.0,
        intercept=_number(dataset, "RescaleIntercept", 0.0),
        modality_lut=_look_up_table(dataset, "ModalityLUTSequence", header),
        voi_lut=_look_up_table(dataset, "VOILUTSequence", header),
        windows=_windows(dataset),
        function=_function(dataset),
        photometric=photometric,
        is_inverted=photometric == "MONOCHROME1"
        or str(dataset.get("PresentationLUTShape", "")).strip() == "INVERSE",
        padding=_padding(dataset),
    )
    if image.windows or image.voi_lut is not None:
        return image
    return replace(image, windows=(percentile_window(image),), function=VoiFunction.LINEAR)


def _colour(rgb: npt.NDArray[np.integer], bits_stored: int = 0) -> Greyscale | Colour:
    shift = max((bits_stored or rgb.dtype.itemsize * 8) - 8, 0)
    eight = (rgb >> shift).astype(np.uint8)
    spread = eight.max(axis=2).astype(np.int16) - eight.min(axis=2)
    if int(spread.max(initial=0)) > 2:  # lossy YBR gives a grey film a level or two of colour
        return Colour(eight)
    return Greyscale(eight[:, :, 1], 8, False, windows=(Window(128.0, 256.0),))


def _windows(dataset: Dataset) -> tuple[Window, ...]:
    centers, widths = _numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth")
    labels = _texts(dataset, "WindowCenterWidthExplanation")
    pairs = zip(centers, widths, strict=False)
    return tuple(
        Window(center, width, labels[number] if number < len(labels) else "")
        for number, (center, width) in enumerate(pairs)
        if width > 0
    )


def _function(dataset: Dataset) -> VoiFunction:
    try:
        return VoiFunction(str(dataset.get("VOILUTFunction", "LINEAR")).strip().upper())
    except ValueError:
        return VoiFunction.LINEAR


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    value = _numbers(dataset, "PixelPaddingValue")
    if not value:
        return None
    ends = (value[0], *_numbers(dataset, "PixelPaddingRangeLimit")[:1])
    return int(min(ends)), int(max(ends))


def _look_up_table(dataset: Dataset, keyword: str, header: Header) -> LookUpTable | None:
    sequence = dataset.get(keyword)
    if not sequence:
        return None
    item = sequence[0]
    descriptor = [int(value) for value in item.LUTDescriptor]
    if len(descriptor) != 3:
        raise InvalidInput("a look-up table of the image is damaged")
    count, first, bits = descriptor[0] or 65_536, descriptor[1], descriptor[2]
    if keyword == "ModalityLUTSequence" and header.is_signed and first >= 32_768:
        first -= 65_536
    data = item.LUTData
    if isinstance(data, bytes):
        values = _packed(data, count, header.transfer_syntax_uid == ExplicitVRBigEndian)
    else:
        values = [int(value) for value in (data if isinstance(data, Sequence) else [data])]
    return LookUpTable(first, bits, tuple(values[:count]))


def _packed(data: bytes, count: int, is_big: bool) -> list[int]:
    if len(data) < 2 * count:  # 8-bit entries, two in a word (PS3.3 C.11.1.1.1)
        return list(data)
    return [int(value) for value in np.frombuffer(data, ">u2" if is_big else "<u2")]


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    values = _numbers(dataset, keyword)
    return values[0] if values else default


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Read a numeric attribute leniently: what is no number is as if it were not there."""
    try:
        value = dataset.get(keyword)
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        numbers = [float(part) for part in values if part is not None and str(part).strip()]
    except (ValueError, TypeError, OverflowError, Warning):
        return []
    return numbers if all(np.isfinite(numbers)) else []


def _texts(dataset: Dataset, keyword: str) -> list[str]:
    value = dataset.get(keyword)
    if value is None:
        return []
    return [str(part)[:64] for part in ([value] if isinstance(value, str) else value)]
