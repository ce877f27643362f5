"""Pixels for the page: previews, raw samples, colour, the original file; and how to grey them."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from PIL import Image as Raster

from node.db.session import read
from node.dicom.instances import InstanceStore
from node.dicom.object_file import chunks_of, size_of
from node.dicom.pixels import Colour, Greyscale, LookUpTable, decode, render8
from node.dicom.purged import refuse_purged
from node.domain.rights import Right
from node.domain.study import InstanceState
from node.errors import InvalidInput, NotFound, Rejected, Retryable
from node.web.accounts import Session
from node.web.auth import Web, WebDep, audit_read, opaque_id, require
from node.web.facts import Row, find_image
from node.web.kept import Kept
from node.web.shapes import Grey, GreyWindow, LookUp

#: Bytes of decoded samples: about a hundred intraoral images, a practice's morning.
_FRAME_BYTES = 160 << 20
_PREVIEWS = 800
_GREYS = 4000
_SIGNED_OFFSET = 32_768

#: ints of a thumbnail and of the first view.
WIDTHS = (160, 900)

router = APIRouter(prefix="/api")


class Pictures:
    """Decoded images of a store; stored bytes never change, so what is kept never goes stale."""

    def __init__(self, store: InstanceStore) -> None:
        self._store = store
        self._frames: Kept[str, Greyscale | Colour] = Kept(_FRAME_BYTES, _bytes_of)
        self._greys: Kept[str, tuple[Grey | None, str]] = Kept(_GREYS)
        self._previews: Kept[tuple[str, int], bytes] = Kept(_PREVIEWS)

    def grey_or_problem(self, image: Row) -> tuple[Grey | None, str]:
        """How to grey an image; or None, and why it cannot be shown."""
        if image.state == InstanceState.UNREADABLE.value or image.rows is None:
            return None, "This image has no pixels that can be shown."
        if not self._store.holds(image.storage_key):  # not remembered: it may come back
            return None, "The image file is missing."
        try:
            return self._greys.get(image.id, lambda: self._grey(image))
        except Retryable as error:  # it lies in a bucket that is away; not remembered either
            return None, str(error)

    def is_color(self, image: Row) -> bool:
        """Whether an image is a colour photograph, as far as is known without decoding it."""
        grey, _ = self._greys.peek(image.id) or (None, "")
        return grey is not None and grey.is_color

    def preview(self, image: Row, width: int) -> bytes:
        """Draw an image at most `width` pixels wide, as WebP, by the grey of the reference."""
        return self._previews.get((image.id, width), lambda: self._draw(image, width))

    def prepare(self, image: Row) -> None:
        """Decode an image and draw its previews before they are asked for."""
        grey, _ = self.grey_or_problem(image)
        if grey is not None:
            self.preview(image, WIDTHS[-1])

    def is_drawn(self, image_id: str) -> bool:
        """Whether the first view of an image is kept."""
        return self._previews.peek((image_id, WIDTHS[-1])) is not None

    def samples(self, image: Row) -> bytes:
        """Stored samples, unsigned 16-bit little-endian, row by row; signed ones lifted by 32768.

        Raises Rejected for a colour image.
        """
        frame = self._frame(image)
        if isinstance(frame, Colour):
            raise Rejected("This is a colour image; ask for /color.")
        if frame.stored.dtype.kind == "i":
            return (frame.stored.astype(np.int32) + _SIGNED_OFFSET).astype("<u2").tobytes()
        return frame.stored.astype("<u2").tobytes()

    def color(self, image: Row) -> bytes:
        """Give a colour image as PNG, without loss. Raises Rejected for a grey one."""
        frame = self._frame(image)
        if isinstance(frame, Greyscale):
            raise Rejected("This is a grey image; ask for /pixels.")
        return _encode(Raster.fromarray(frame.rgb), "PNG", compress_level=1)

    def _frame(self, image: Row) -> Greyscale | Colour:
        file = self._store.file(image.storage_key)
        return self._frames.get(image.id, lambda: decode(file))

    def _grey(self, image: Row) -> tuple[Grey | None, str]:
        try:
            frame = self._frame(image)
        except (InvalidInput, NotFound) as error:
            return None, str(error)
        self.preview(image, WIDTHS[0])  # while it is decoded: a full-mouth series has 20
        return grey_shape(frame), ""

    def _draw(self, image: Row, width: int) -> bytes:
        frame = _thinned(self._frame(image), width)
        drawn = Raster.fromarray(frame.rgb if isinstance(frame, Colour) else render8(frame))
        if drawn.width > width:
            height = max(1, round(drawn.height * width / drawn.width))
            drawn = drawn.resize((width, height), Raster.Resampling.BOX, reducing_gap=2.0)
        return _encode(drawn.convert("RGB"), "WEBP", quality=82, method=1)


def grey_shape(frame: Greyscale | Colour) -> Grey:
    """Tell the page how to grey an image."""
    if isinstance(frame, Colour):
        return Grey(
            bits_stored=8,
            is_signed=False,
            sample_offset=0,
            slope=1.0,
            intercept=0.0,
            modality_lut=None,
            voi_lut=None,
            windows=(),
            function="LINEAR",
            photometric="RGB",
            is_inverted=False,
            padding=None,
            is_color=True,
        )
    return Grey(
        bits_stored=frame.bits_stored,
        is_signed=frame.is_signed,
        sample_offset=_SIGNED_OFFSET if frame.stored.dtype.kind == "i" else 0,
        slope=frame.slope,
        intercept=frame.intercept,
        modality_lut=_look_up(frame.modality_lut),
        voi_lut=_look_up(frame.voi_lut),
        windows=tuple(
            GreyWindow(center=window.center, width=window.width, label=window.label)
            for window in frame.windows
        ),
        function=frame.function.value,
        photometric=frame.photometric,
        is_inverted=frame.is_inverted,
        padding=frame.padding,
        is_color=False,
    )


def pictures_of(request: Request) -> Pictures:
    """Give a route the pictures."""
    pictures = request.app.state.pictures
    assert isinstance(pictures, Pictures)
    return pictures


Viewer = Annotated[Session, Depends(require(Right.IMAGES_SEE))]
PicturesDep = Annotated[Pictures, Depends(pictures_of)]


@router.get("/images/{image_id}/preview", response_class=Response)
def get_preview(
    image_id: str, web: WebDep, pictures: PicturesDep, session: Viewer, w: int = 160
) -> Response:
    """Give a small drawing: 160 or 900 pixels wide."""
    if w not in WIDTHS:
        raise InvalidInput("A preview is 160 or 900 pixels wide.")
    image = _image(web, session, image_id)
    headers = {"X-Image-Columns": str(image.columns or 0)}
    drawn = pictures.preview(image, w)
    audit_read(web, session, "image.previewed", f"instance:{image.id}")
    return Response(drawn, media_type="image/webp", headers=headers)


@router.get("/images/{image_id}/pixels", response_class=Response)
def get_pixels(image_id: str, web: WebDep, pictures: PicturesDep, session: Viewer) -> Response:
    """Give the stored samples."""
    image = _image(web, session, image_id)
    samples = pictures.samples(image)
    audit_read(web, session, "image.opened", f"instance:{image.id}")
    return Response(samples, media_type="application/octet-stream")


@router.get("/images/{image_id}/color", response_class=Response)
def get_color(image_id: str, web: WebDep, pictures: PicturesDep, session: Viewer) -> Response:
    """Give a colour photograph."""
    image = _image(web, session, image_id)
    drawn = pictures.color(image)
    audit_read(web, session, "image.opened", f"instance:{image.id}")
    return Response(drawn, media_type="image/png")


@router.get("/images/{image_id}/dicom", response_class=Response)
def get_dicom(
    image_id: str,
    web: WebDep,
    session: Annotated[Session, Depends(require(Right.IMAGES_DOWNLOAD))],
) -> Response:
    """Give the file as it was received."""
    image = _image(web, session, image_id)
    file = web.store.file(image.storage_key)
    try:
        chunks, size = chunks_of(file), size_of(file)
    except FileNotFoundError:
        raise NotFound("The image file is missing.") from None
    audit_read(web, session, "image.downloaded", f"instance:{image.id}")
    headers = {
        "Content-Disposition": f'attachment; filename="{image.id}.dcm"',
        "Content-Length": str(size),
    }
    return StreamingResponse(chunks, media_type="application/dicom", headers=headers)


def _image(web: Web, session: Session, image_id: str) -> Row:
    """Find an image; what an archive holds for us is fetched, and Retryable raised meanwhile."""
    with read(web.db) as conn:
        image = find_image(conn, session.location_id, opaque_id(image_id))
    if not web.store.holds(image.storage_key):
        refuse_purged(web.db, session.actor, [image.study_id])
    return image


def _bytes_of(frame: Greyscale | Colour) -> int:
    return int(frame.rgb.nbytes if isinstance(frame, Colour) else frame.stored.nbytes)


def _thinned(frame: Greyscale | Colour, width: int) -> Greyscale | Colour:
    """Take every n-th pixel of an image that is more than four times as wide as its preview."""
    if isinstance(frame, Colour):
        step = max(1, frame.rgb.shape[1] // (2 * width))
        return Colour(np.ascontiguousarray(frame.rgb[::step, ::step]))
    step = max(1, frame.stored.shape[1] // (2 * width))
    return replace(frame, stored=frame.stored[::step, ::step])


def _look_up(table: LookUpTable | None) -> LookUp | None:
    return LookUp(first=table.first, bits=table.bits, values=table.values) if table else None


def _encode(drawn: Raster.Image, name: str, **options: int) -> bytes:
    file = io.BytesIO()
    drawn.save(file, name, **options)
    return file.getvalue()
