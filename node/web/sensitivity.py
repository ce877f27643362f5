"""From which stop of the sensitivity control a suggestion is shown."""

from __future__ import annotations

from typing import Literal, cast

from node.domain.review import Json

Stop = Literal["strict", "default", "wide"]

#: (review, high specificity) for analyses that carry no operating points of a kind. The networks
#: of release 0.1 report only what is above their own points, several of which lie near 0.3: the
#: default stop holds back their faintest marks only, the strict one leaves the strong.
_FALLBACK = (0.25, 0.8)


def stop_of(kind: str, probability: float | None, points: Json | None) -> Stop:
    """Name the strictest stop that shows a suggestion; what is not below the strict one is strong.

    `points` are the operating points of the analysis that made it, as stored: the strict stop
    shows from high specificity upwards, the default one from review, the wide one everything that
    is kept: the networks keep nothing below a review point that they have.
    A person's own mark has no probability and is always shown.
    """
    if probability is None:
        return "strict"
    review, high = _FALLBACK
    if points and kind in points:
        point = cast("dict[str, float]", points[kind])
        review, high = point["review"], point["high_specificity"]
    if probability >= high:
        return "strict"
    return "default" if probability >= review else "wide"
