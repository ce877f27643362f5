"""From which stop of the sensitivity control a suggestion is shown."""

from __future__ import annotations

from typing import Literal, cast

from node.domain.findings import USUAL_POINT
from node.domain.review import Json

Stop = Literal["strict", "default", "wide"]


def stop_of(kind: str, probability: float | None, points: Json | None) -> Stop:
    """Name the strictest stop that shows a suggestion; what is not below the strict one is strong.

    `points` are the operating points of the analysis that made it, as stored: the strict stop
    shows from high specificity upwards, the default one from review, the wide one everything that
    is kept: the networks keep nothing below a review point that they have.
    A person's own mark has no probability and is always shown.
    """
    if probability is None:
        return "strict"
    review, high = USUAL_POINT.review, USUAL_POINT.high_specificity
    if points and kind in points:
        point = cast("dict[str, float]", points[kind])
        review, high = point["review"], point["high_specificity"]
    if probability >= high:
        return "strict"
    return "default" if probability >= review else "wide"
