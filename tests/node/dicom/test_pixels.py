"""Decoding: every syntax, every depth, and everything that can be wrong with a film."""

from __future__ import annotations

import contextlib
import os
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from node.dicom.pixels import Colour, Greyscale, Window, decode, model_input, read_header, render8
from node.errors import InvalidInput

RNG = np.random.default_rng(7)


def smooth(rows: int = 48, columns: int = 64, top: int = 4095) -> np.ndarray:
    y, x = np.mgrid[0:rows, 0:columns]
    return ((np.sin(x / 9) + np.cos(y / 7) + 2) / 4 * top).astype(np.uint16)


# --- syntaxes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_and_deflated_little_endian(film, save, syntax):
    pixels = smooth()
    ds = film(pixels)
    ds.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(decode(save(ds)).stored, pixels)


def test_big_endian(film, save):
    pixels = smooth()
    ds = film(pixels)
    ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    ds.PixelData = pixels.astype(">u2").tobytes()
    ds["PixelData"].VR = "OW"
    assert np.array_equal(decode(save(ds)).stored, pixels)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_syntaxes_give_back_every_sample(film, save, syntax, bits):
    pixels = smooth(top=2**bits - 1)
    ds = film(pixels.astype(np.uint8) if bits == 8 else pixels, BitsStored=bits)
    ds.compress(syntax)
    assert np.array_equal(decode(save(ds)).stored, pixels)


@pytest.mark.parametrize("syntax", [JPEGLSNearLossless, JPEG2000])
def test_lossy_syntaxes_come_close(film, save, syntax):
    pixels = smooth()
    ds = film(pixels)
    if syntax == JPEG2000:
        ds.compress(syntax, j2k_cr=[4])
    else:
        ds.compress(syntax, jls_error=3)
    assert np.abs(decode(save(ds)).stored.astype(int) - pixels).max() <= 60


def dcmtk(tool: str, *arguments: str) -> None:
    path = Path("/usr/bin") / tool  # the environment has programs of the same names
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"DCMTK's {tool} is not installed")
        pytest.skip(f"DCMTK's {tool} is not installed")
    subprocess.run([path, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("tool", "option", "bits"),
    [
        ("dcmcjpeg", "+e1", 8),  # lossless, first-order prediction
        ("dcmcjpeg", "+e1", 16),
        ("dcmcjpeg", "+el", 12),  # lossless, process 14
        ("dcmcjpls", "+el", 12),
        ("dcmcrle", None, 12),
    ],
)
def test_what_dcmtk_compresses_without_loss_decodes_exactly(
    film, save, tmp_path, tool, option, bits
):
    pixels = smooth(top=2**bits - 1)
    plain = save(film(pixels.astype(np.uint8) if bits == 8 else pixels, BitsStored=bits))
    packed = tmp_path / "packed.dcm"
    dcmtk(tool, *([option] if option else []), str(plain), str(packed))
    assert np.array_equal(decode(packed).stored, pixels)


@pytest.mark.parametrize(("option", "bits"), [("+eb", 8), ("+ee", 8), ("+ee", 12)])
def test_jpeg_baseline_and_extended(film, save, tmp_path, option, bits):
    pixels = smooth(top=2**bits - 1)
    plain = save(film(pixels.astype(np.uint8) if bits == 8 else pixels, BitsStored=bits))
    packed = tmp_path / "packed.dcm"
    extended = ["+bt" if bits == 12 else "+be"] if option == "+ee" else []
    dcmtk("dcmcjpeg", option, *extended, "+q", "98", str(plain), str(packed))
    image = decode(packed)
    expected = render8(decode(plain))
    assert np.abs(render8(image).astype(int) - expected).max() <= 6


def test_colour_baseline_jpeg_of_a_grey_film_is_grey(film, save, tmp_path):
    grey = smooth(top=255).astype(np.uint8)
    plain = save(film(np.dstack([grey] * 3)))
    packed = tmp_path / "packed.dcm"
    dcmtk("dcmcjpeg", "+eb", "+q", "95", str(plain), str(packed))
    image = decode(packed)
    assert isinstance(image, Greyscale)
    assert np.abs(render8(image).astype(int) - grey).max() <= 8


def test_a_colour_photograph_stays_colour(film, save):
    rgb = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = decode(save(film(rgb)))
    assert isinstance(image, Colour)
    assert np.array_equal(image.rgb, rgb)


def test_rgb_of_a_grey_film_renders_as_it_is(film, save):
    grey = smooth(top=255).astype(np.uint8)
    assert np.array_equal(render8(decode(save(film(np.dstack([grey] * 3))))), grey)


def test_only_the_first_frame_is_read(film, save):
    frames = np.stack([smooth(), smooth()[::-1]])
    ds = film(frames[0], NumberOfFrames=2, PixelData=frames.tobytes())
    assert np.array_equal(decode(save(ds)).stored, frames[0])


def test_an_unknown_syntax_is_named(film, save):
    ds = film()
    ds.PixelData = encapsulate([b"\0\0\1\xba" * 20])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    with pytest.raises(InvalidInput, match="MPEG2"):
        decode(save(ds))


# --- rendering against pydicom -------------------------------------------------------------------


def reference8(ds: Dataset) -> np.ndarray:
    """pydicom's own result, scaled to 8 bits and rounded half up."""
    out = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds).astype(float)
    if ds.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1
    else:
        ends = (0, 2**ds.BitsStored - 1)
        if ds.PixelRepresentation:
            ends = (-(2 ** (ds.BitsStored - 1)), 2 ** (ds.BitsStored - 1) - 1)
        slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
        low, high = (end * slope + intercept for end in ends)
    grey = np.clip((out - low) / (high - low), 0, 1)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    return np.floor(grey * 255 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("bits", "is_signed", "slope", "intercept"),
    [
        (8, False, 1, 0),
        (10, False, 1, 0),
        (12, False, 1, 0),
        (12, True, 1, -1024),
        (14, False, 0.5, 10),
        (16, False, 1, 0),
        (16, True, 2, -3),
        (12, False, -1, 4095),
    ],
)
def test_every_pixel_equals_pydicom(
    film, save, function, photometric, bits, is_signed, slope, intercept
):
    kind = np.int8 if bits == 8 and is_signed else np.uint8 if bits == 8 else None
    kind = kind or (np.int16 if is_signed else np.uint16)
    low = -(2 ** (bits - 1)) if is_signed else 0
    pixels = RNG.integers(low, low + 2**bits, (64, 64)).astype(kind)
    middle = (low + 2 ** (bits - 1)) * slope + intercept
    ds = film(
        pixels,
        BitsStored=bits,
        PhotometricInterpretation=photometric,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        WindowCenter=middle,
        WindowWidth=abs(slope) * 2**bits * 0.6,
        VOILUTFunction=function,
    )
    path = save(ds)
    assert np.array_equal(render8(decode(path)), reference8(dcmread(path)))


def look_up_table(first: int, bits: int, values: np.ndarray) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "US", [len(values) % 65536, first, bits])
    item.add_new(0x00283006, "OW", values.astype("<u2").tobytes())
    item.ModalityLUTType = "US"
    return item


def test_a_voi_look_up_table_equals_pydicom(film, save):
    pixels = RNG.integers(0, 4096, (64, 64)).astype(np.uint16)
    values = (np.sqrt(np.arange(3000) / 2999) * 65535).astype(np.uint16)
    ds = film(pixels, VOILUTSequence=[look_up_table(500, 16, values)])
    path = save(ds)
    assert np.array_equal(render8(decode(path)), reference8(dcmread(path)))


def test_a_modality_look_up_table_equals_pydicom(film, save):
    pixels = RNG.integers(0, 4096, (64, 64)).astype(np.uint16)
    values = np.arange(4096, dtype=np.uint16)[::-1] * 16
    ds = film(
        pixels,
        ModalityLUTSequence=[look_up_table(0, 16, values)],
        WindowCenter=30000,
        WindowWidth=40000,
    )
    path = save(ds)
    ds = dcmread(path)
    out = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds)
    expected = np.floor(np.clip(out / 65535, 0, 1) * 255 + 0.5).astype(np.uint8)
    assert np.array_equal(render8(decode(path)), expected)


def test_another_window_replaces_the_first(film, save):
    path = save(film(WindowCenter=[2048, 100], WindowWidth=[4096, 50]))
    image = decode(path)
    assert [w.center for w in image.windows] == [2048, 100]
    assert not np.array_equal(render8(image), render8(image, image.windows[1]))


def test_without_a_window_the_percentiles_of_the_film_are_used(film, save):
    pixels = np.full((100, 100), 2000, np.uint16)
    pixels[:50] = 1000
    pixels[0, 0] = 4000  # one hot pixel
    image = decode(save(film(pixels)))
    assert image.windows == (Window(1500.5, 1001.0, "auto"),)
    assert render8(image)[60, 60] == 255
    assert render8(image)[40, 40] == 0


def test_padding_is_black_and_counts_for_nothing(film, save):
    pixels = np.full((100, 100), 2000, np.uint16)
    pixels[:50] = 1000
    pixels[:, :20] = 4095
    ds = film(pixels, PhotometricInterpretation="MONOCHROME1")
    ds.add_new(0x00280120, "US", 4095)
    image = decode(save(ds))
    assert image.windows[0] == Window(1500.5, 1001.0, "auto")
    assert (render8(image)[:, :20] == 0).all()
    assert render8(image)[10, 50] == 255  # MONOCHROME1: the lower value is the brighter


def test_the_presentation_shape_inverse_inverts(film, save):
    plain, inverse = decode(save(film())), decode(save(film(PresentationLUTShape="INVERSE")))
    assert np.abs(render8(plain).astype(int) - (255 - render8(inverse))).max() <= 1  # halves go up


# --- model input and spacing ---------------------------------------------------------------------


def test_model_input_is_bright_where_the_film_is_radiopaque(film, save):
    pixels = np.zeros((20, 20), np.uint16)
    pixels[5:10] = 4095  # a crown in MONOCHROME2, air in MONOCHROME1
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    image, spacing = model_input(save(film(pixels, **window)))
    assert image.dtype == np.float32
    assert (image[7].min(), image[0].max()) == (1.0, 0.0)
    assert not spacing.is_known
    image, _ = model_input(save(film(pixels, PhotometricInterpretation="MONOCHROME1", **window)))
    assert (image[7].max(), image[0].min()) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, (0.0, 0.0, "unknown")),
        ({"PixelSpacing": [0.1, 0.2]}, (0.0, 0.0, "unknown")),
        ({"ImagerPixelSpacing": [0.02, 0.03]}, (0.02, 0.03, "detector")),
        (
            {"ImagerPixelSpacing": [0.02, 0.04], "EstimatedRadiographicMagnificationFactor": 1.25},
            (0.016, 0.032, "detector"),
        ),
        (
            {
                "PixelSpacing": [0.1, 0.2],
                "PixelSpacingCalibrationType": "GEOMETRY",
                "ImagerPixelSpacing": [1, 1],
            },
            (0.1, 0.2, "calibrated"),
        ),
        ({"ImagerPixelSpacing": [0, 0]}, (0.0, 0.0, "unknown")),
    ],
)
def test_millimetres_are_trusted_only_for_what_they_are(film, save, attributes, expected):
    spacing = read_header(save(film(**attributes))).spacing
    assert (spacing.mm_row, spacing.mm_col) == pytest.approx(expected[:2])
    assert spacing.kind == expected[2]


# --- what can be wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"PixelData": None}, "no pixels"),
        ({"PixelData": b""}, "empty"),
        ({"PixelData": b"\0\0" * 100}, "shorter"),
        ({"Rows": 0}, "no rows"),
        ({"Rows": None}, "no rows"),
        ({"Rows": 60000, "Columns": 60000}, "too large"),
        ({"BitsAllocated": 32}, "bits allocated"),
        ({"BitsStored": 20}, "bits stored"),
        ({"SamplesPerPixel": 4}, "samples"),
        ({"PhotometricInterpretation": "HSV"}, "photometric"),
        ({"NumberOfFrames": 3}, "shorter"),
    ],
)
def test_a_wrong_film_is_refused_with_its_reason(film, save, attributes, reason):
    with pytest.raises(InvalidInput, match=reason) as caught:
        decode(save(film(**attributes)))
    assert "Doe" not in str(caught.value)


def test_truncated_pixels_are_refused(film, save):
    path = save(film())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InvalidInput, match="cut off"):
        decode(path)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_truncated_compressed_pixels_never_crash(film, save, syntax, keep):
    ds = film(smooth(200, 200))
    ds.compress(syntax)
    path = save(ds)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InvalidInput):
        decode(path)


def test_an_empty_frame_is_refused(film, save):
    ds = film()
    ds.compress(RLELossless)
    ds.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" * 2 + b"\xfe\xff\xdd\xe0\0\0\0\0"
    with pytest.raises(InvalidInput, match=r"empty|damaged"):
        decode(save(ds))


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"\xff" * 5000, bytes(128) + b"DICM"])
def test_what_is_no_dicom_file_is_refused(tmp_path, content):
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    with pytest.raises(InvalidInput):
        decode(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="missing"):
        decode(tmp_path / "nothing.dcm")


def test_a_codestream_of_other_dimensions_is_not_decoded(film, save):
    ds = film(smooth(200, 200))
    ds.compress(JPEG2000Lossless)
    ds.Rows = ds.Columns = 40
    with pytest.raises(InvalidInput, match="other dimensions"):
        decode(save(ds))


def test_a_deflate_bomb_is_stopped(tmp_path, film, save):
    path = save(film())
    head = path.read_bytes()[:132]
    syntax = b"1.2.840.10008.1.2.1.99"
    element = b"\x02\0\x10\0UI\x16\0" + syntax
    squeeze = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(300)) + squeeze.flush()
    path.write_bytes(
        head + b"\x02\0\0\0UL\x04\0" + len(element).to_bytes(4, "little") + element + bomb
    )
    with pytest.raises(InvalidInput, match="too large"):
        decode(path)


def test_damaged_bytes_anywhere_end_in_one_sentence(film, save):
    ds = film(smooth(64, 64), WindowCenter=2000, WindowWidth=3000)
    ds.compress(JPEG2000Lossless)
    path = save(ds)
    sound = path.read_bytes()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        broken = bytearray(sound)
        for at in rng.integers(132, len(sound), 8):
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        with contextlib.suppress(InvalidInput):
            decode(path)
