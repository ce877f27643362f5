"""The annotated copy of an image for the chart: signed marks, numbered as in note and report."""

from __future__ import annotations

import io
from datetime import tzinfo

from PIL import Image

from node.dicom.annotation import Pixels, annotate, mark, writable
from node.domain.review import NOT_CLEARED, SignedReview
from pms_writeback import notes


def annotated_png(grey8: Pixels, image_id: str, signed: SignedReview, zone: tzinfo) -> bytes:
    """Draw the confirmed findings of one image; PNG.

    ``grey8`` is the image as shown, ``(rows, columns)``, 0 black. Below the film stands a strip
    that says what the marks are, who signed and when.

    Raises
    ------
    InvalidInput
        The picture is not an 8-bit grey one.
    """
    numbers = notes.numbers(signed)
    marks = [
        mark(each.finding, notes.tooth_name(each).removeprefix("tooth "), numbers[each.id])
        for each in notes.confirmed(signed)
        if each.instance_id == image_id
    ]
    banner = (
        f"AI-assisted ({notes.model_names(signed)}), signed by "
        f"{writable(notes.signer(signed), 'the reader')} on "
        f"{notes.local_time(signed.signed_at, zone)}. {NOT_CLEARED}"
    )
    return encode_png(annotate(grey8, marks, [banner]))


def encode_png(pixels: Pixels) -> bytes:
    """Encode 8-bit grey or RGB pixels as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
