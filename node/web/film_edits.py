"""Operations on a film rather than a finding: its place on the mount, how it hangs, its scale."""

from __future__ import annotations

import math

import sqlalchemy as sa

from node.db.session import Tx, upsert
from node.db.tables import image_calibration, image_place
from node.errors import InvalidInput
from node.web.facts import Row
from node.web.mounts import CODES
from node.web.shapes import CalibrateData, PlaceData

_LEAST_PX = 20.0
_MOST_MM = 500.0


def place_image(tx: Tx, image: Row, data: PlaceData, user_id: str) -> None:
    """Put an image at a place of the mount, or at none; whoever hung there becomes loose.

    Raises InvalidInput for a place that no template has.
    """
    if data.slot and data.slot not in CODES:
        raise InvalidInput("No mount has such a place.")
    if data.slot:
        tx.conn.execute(
            image_place.update()
            .where(
                image_place.c.study_id == image.study_id,
                image_place.c.slot == data.slot,
                image_place.c.instance_id != image.id,
            )
            .values(slot="")
        )
    upsert(
        tx.conn,
        image_place,
        ("instance_id",),
        {
            "instance_id": image.id,
            "location_id": tx.location_id,
            "study_id": image.study_id,
            "slot": data.slot,
            "quarter_turns": data.quarter_turns,
            "is_mirrored": data.is_mirrored,
            "placed_by": user_id,
            "placed_at": tx.now,
        },
    )


def calibrate_image(tx: Tx, image: Row, data: CalibrateData, user_id: str) -> None:
    """Keep a length that a person knows on the image, or forget it when `known_mm` is None.

    Raises InvalidInput when the line is too short to scale by, or lies outside the image.
    """
    if data.known_mm is None or data.points is None:
        tx.conn.execute(
            sa.delete(image_calibration).where(image_calibration.c.instance_id == image.id)
        )
        return
    (x0, y0), (x1, y1) = data.points
    if math.dist((x0, y0), (x1, y1)) < _LEAST_PX:
        raise InvalidInput(f"A line to calibrate by is at least {_LEAST_PX:.0f} pixels long.")
    if not all(0 <= x <= (image.columns or 0) for x in (x0, x1)):
        raise InvalidInput("The line must lie inside the image.")
    if not all(0 <= y <= (image.rows or 0) for y in (y0, y1)):
        raise InvalidInput("The line must lie inside the image.")
    if not 0.5 <= data.known_mm <= _MOST_MM:
        raise InvalidInput("A known length lies between 0.5 and 500 mm.")
    upsert(
        tx.conn,
        image_calibration,
        ("instance_id",),
        {
            "instance_id": image.id,
            "location_id": tx.location_id,
            "points": [list(point) for point in data.points],
            "known_mm": data.known_mm,
            "calibrated_by": user_id,
            "calibrated_at": tx.now,
        },
    )
