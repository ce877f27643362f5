"""From stored samples to grey: modality transform, VOI, inversion, eight bits.

The arithmetic is pydicom's ``apply_modality_lut`` + ``apply_voi_lut``, operation for operation, so
that the page, the previews and the annotated copies agree to the last bit; the result is scaled
to 0–255 and rounded half up. Sources: PS3.3 C.11.1, C.11.2, C.7.6.3.1.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from node.errors import InvalidInput


class VoiFunction(Enum):
    """VOI LUT Function (0028,1056)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class Window:
    """One window in modality values; ``label`` is the sender's explanation or ``auto``."""

    center: float
    width: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class LookUpTable:
    """A DICOM look-up table: input ``first`` maps to ``values[0]``; outside is clamped."""

    first: int
    bits: int
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values or not 1 <= self.bits <= 16:
            raise InvalidInput("a look-up table of the image is empty or of an unknown depth")

    def apply(self, samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Look every sample up."""
        index = np.clip(samples - self.first, 0, len(self.values) - 1).astype(np.int64)
        return np.asarray(self.values, np.float64)[index]


@dataclass(frozen=True, slots=True)
class Greyscale:
    """One grey image as stored, and all that is needed to show it.

    ``stored`` is (rows, columns), uint8, uint16, int8 or int16. ``windows`` has at least one entry
    unless ``voi_lut`` is there: where the sender gave none, the 0.5 to 99.5 percentile of what is
    not padding (label ``auto``). ``padding`` is an inclusive range of stored values.
    """

    stored: npt.NDArray[np.integer]
    bits_stored: int
    is_signed: bool
    slope: float = 1.0
    intercept: float = 0.0
    modality_lut: LookUpTable | None = None
    voi_lut: LookUpTable | None = None
    windows: tuple[Window, ...] = ()
    function: VoiFunction = VoiFunction.LINEAR
    photometric: str = "MONOCHROME2"
    is_inverted: bool = False
    padding: tuple[int, int] | None = None

    @property
    def output_range(self) -> tuple[float, float]:
        """The ends of the modality transform's range, in the order of stored values."""
        if self.modality_lut is not None:
            return 0.0, float(2**self.modality_lut.bits - 1)
        low = -(2 ** (self.bits_stored - 1)) if self.is_signed else 0
        high = low + 2**self.bits_stored - 1
        return low * self.slope + self.intercept, high * self.slope + self.intercept


@dataclass(frozen=True, slots=True)
class Colour:
    """One colour image: ``rgb`` is (rows, columns, 3) uint8."""

    rgb: npt.NDArray[np.uint8]

    @property
    def luminance(self) -> npt.NDArray[np.float64]:
        """Grey between 0 and 1 (ITU-R BT.601 weights)."""
        return np.asarray(self.rgb @ np.array([0.299, 0.587, 0.114]) / 255.0, np.float64)


def render(image: Greyscale | Colour, window: Window | None = None) -> npt.NDArray[np.float64]:
    """Render to grey between 0 and 1, as shown on the page; `window` replaces the image's own."""
    if isinstance(image, Colour):
        return image.luminance
    return np.asarray(_table(image, window)[_index(image)], np.float64)


def render8(image: Greyscale | Colour, window: Window | None = None) -> npt.NDArray[np.uint8]:
    """Render to 8-bit grey, rounded half up; padding is black."""
    if isinstance(image, Colour):
        return _eight_bits(image.luminance)
    return np.asarray(_eight_bits(_table(image, window))[_index(image)], np.uint8)


def modality_values(image: Greyscale, samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Apply the modality LUT or the rescale slope and intercept to stored `samples`."""
    if image.modality_lut is not None:
        return image.modality_lut.apply(samples)
    if image.slope == 1.0 and image.intercept == 0.0:
        return samples
    return np.asarray(samples * image.slope + image.intercept, np.float64)


def percentile_window(image: Greyscale) -> Window:
    """Find the window from the 0.5th to the 99.5th percentile of what is not padding."""
    offset = _offset(image.stored.dtype)
    counts = np.bincount(_index(image).ravel(), minlength=1)
    if image.padding is not None:
        first, last = (max(end + offset, 0) for end in image.padding)
        counts[first : last + 1] = 0
    total = np.cumsum(counts)
    if total.size == 0 or total[-1] == 0:
        return Window(0.5, 1.0, "auto")
    ends = np.searchsorted(total, np.array([0.005, 0.995]) * total[-1])
    values = modality_values(image, np.clip(ends, 0, counts.size - 1).astype(float) - offset)
    first_value, last_value = sorted(float(value) for value in values)
    # LINEAR with this centre and width maps the two ends to black and white exactly
    return Window((first_value + last_value + 1) / 2, last_value - first_value + 1, "auto")


def _table(image: Greyscale, window: Window | None) -> npt.NDArray[np.float64]:
    """Compute the grey of every stored value that the array can hold, the least first."""
    kind = np.iinfo(image.stored.dtype)
    samples = np.arange(kind.min, kind.max + 1, dtype=np.float64)
    grey = _grey(image, modality_values(image, samples), window)
    if image.is_inverted:
        grey = 1.0 - grey
    if image.padding is not None:
        first, last = image.padding
        grey[(samples >= first) & (samples <= last)] = 0.0
    return grey


def _index(image: Greyscale) -> npt.NDArray[np.integer]:
    offset = _offset(image.stored.dtype)
    return image.stored.astype(np.int32) + offset if offset else image.stored


def _grey(
    image: Greyscale, values: npt.NDArray[np.float64], window: Window | None
) -> npt.NDArray[np.float64]:
    if window is None and image.voi_lut is not None:
        top = 2**image.voi_lut.bits - 1
        return np.asarray(np.clip(image.voi_lut.apply(values) / top, 0.0, 1.0), np.float64)
    chosen = window or (image.windows[0] if image.windows else percentile_window(image))
    function = VoiFunction.LINEAR if chosen.label == "auto" else image.function
    low, high = image.output_range
    windowed = _windowed(values, chosen, function, low, high - low)
    return np.clip((windowed - low) / (high - low), 0.0, 1.0)


def _windowed(
    values: npt.NDArray[np.float64], window: Window, function: VoiFunction, low: float, span: float
) -> npt.NDArray[np.float64]:
    center, width = window.center, window.width
    if function is VoiFunction.SIGMOID:  # PS3.3 C.11.2.1.3.1
        exponent = np.clip(-4 * (values - center) / max(width, 1e-9), -700.0, 700.0)
        return np.asarray(span / (1 + np.exp(exponent)) + low, np.float64)
    if function is VoiFunction.LINEAR:  # PS3.3 C.11.2.1.2.1
        center, width = center - 0.5, max(width, 1.0) - 1
    below = values <= center - width / 2  # PS3.3 C.11.2.1.3.2 for LINEAR_EXACT
    above = values > center + width / 2
    between = ~below & ~above
    out = np.where(below, low, low + span)
    if between.any():
        out[between] = ((values[between] - center) / width + 0.5) * span + low
    return out


def _eight_bits(grey: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    return np.floor(grey * 255.0 + 0.5).astype(np.uint8)


def _offset(dtype: np.dtype[np.integer]) -> int:
    return -int(np.iinfo(dtype).min)
