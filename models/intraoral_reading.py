"""What the intraoral network says of one film: findings, and what was measured on the way.

Every coordinate is one of the film as it was given, in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from node.domain.findings import BoneSite, CariesDepth, Finding, Point, ToothMark
from node.domain.teeth import Surface, Tooth

#: A contact measured above this is not read for caries; frozen on tuning films.
UNREADABLE = 0.9


@dataclass(frozen=True, slots=True)
class Contact:
    """Two neighbours of one jaw and how far their crowns cover each other.

    ``overlap`` is the covered width as a share of one proximal enamel's width: 0 is an open
    contact; above 0.5 caries cannot be read there. ``point`` lies between the two crowns. The
    measure errs by a quarter or so, and an unread surface is a missed one: surfaces are given up
    above :data:`UNREADABLE` only, where 99 % of the readable ones of the tuning films stay read.
    """

    teeth: tuple[Tooth, Tooth]
    point: Point
    overlap: float

    @property
    def is_readable(self) -> bool:
        """Whether the two surfaces are judged."""
        return self.overlap <= UNREADABLE


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Where a tooth begins and ends, as far as the film shows it.

    ``crown`` is the middle of the occlusal or incisal edge, None when it is cut off; ``apices``
    are the root ends that are seen; ``necks`` the CEJ at the left, then right side in the image.
    """

    tooth: Tooth
    crown: Point | None
    apices: tuple[Point, ...]
    necks: tuple[Point | None, Point | None]


@dataclass(frozen=True, slots=True)
class SurfaceCaries:
    """How likely each depth of caries is on one surface.

    ``none`` and ``depths`` (E1, E2, D1, D2, D3, P) sum to 1. An unreadable surface (crowns
    overlap, or outside the film) is not scored: it has no distribution.
    """

    tooth: Tooth
    surface: Surface
    is_readable: bool
    none: float = 1.0
    depths: tuple[float, ...] = ()

    def at_least(self, depth: CariesDepth) -> float:
        """Give the probability that caries is at least as deep as `depth`."""
        return float(sum(self.depths[list(CariesDepth).index(depth) :]))


@dataclass(frozen=True, slots=True)
class CrownRoot:
    """Crown to root: (occlusal edge to crest) ÷ (crest to apex) along the tooth's axis.

    Source: models/cards/intraoral.md; 1 or more makes a doubtful abutment.
    """

    tooth: Tooth
    ratio: float


@dataclass(frozen=True, slots=True)
class IntraoralReading:
    """Everything the network says of a film, from the frozen operating points upwards.

    ``sites`` are all that were measured, healthy ones too. ``contacts``, ``landmarks`` and
    ``tilt_degrees`` (the occlusal plane against the image's horizontal, clockwise positive, None
    with fewer than two teeth) are for judging the image's quality.
    """

    teeth: tuple[ToothMark, ...] = ()
    findings: tuple[Finding, ...] = ()
    sites: tuple[BoneSite, ...] = ()
    surfaces: tuple[SurfaceCaries, ...] = ()
    contacts: tuple[Contact, ...] = ()
    landmarks: tuple[Landmarks, ...] = ()
    crown_roots: tuple[CrownRoot, ...] = ()
    tilt_degrees: float | None = None
