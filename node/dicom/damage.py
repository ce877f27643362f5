"""What pydicom and the pixel decoders were seen to raise on damaged files.

pydicom has no one error of its own: what a broken header or frame raises depends on where it
breaks. ``RecursionError`` (nested sequences) is a ``RuntimeError``.
"""

from __future__ import annotations

import struct
import zlib

from PIL import Image
from pydicom.errors import InvalidDicomError

DAMAGE_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)
