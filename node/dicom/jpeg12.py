"""12-bit JPEG (extended sequential), which pydicom 3.0 leaves to a GPL decoder; by GDCM.

GDCM first tries its 8-bit decoder and prints "Unsupported JPEG data precision 12" to stderr; then
it decodes rightly (checked against DCMTK in tests/node/dicom/test_pixels.py).
"""

from __future__ import annotations

import gdcm
import numpy as np
import numpy.typing as npt

from node.errors import InvalidInput

_SYNTAX = "1.2.840.10008.1.2.4.51"


def decode_jpeg12(frame: bytes, rows: int, columns: int) -> npt.NDArray[np.uint16]:
    """Decode one grey frame to (rows, columns) uint16.

    Raises InvalidInput when it is damaged.
    """
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(_SYNTAX)))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    text = image.GetBuffer()
    if text is None:
        raise InvalidInput("the compressed pixel data is damaged or cut off")
    data = text.encode("utf-8", "surrogateescape")  # GDCM's binding gives bytes as str
    if len(data) != rows * columns * 2:
        raise InvalidInput("the compressed image has other dimensions than the header says")
    return np.frombuffer(data, "<u2").reshape(rows, columns)
