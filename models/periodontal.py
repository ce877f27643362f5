"""Words for radiographic bone loss, by the worst site, as the 2018 AAP/EFP severity ranges go.

A radiograph shows loss of bone, never attachment, so a range is said and probing asked for; stages
III and IV cannot be told apart on images. Source: models/cards/intraoral.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from node.domain.findings import BoneSite

#: Loss as percent of the root, beyond the normal 2 mm, where the next range begins.
SECOND_PERCENT, THIRD_PERCENT = 15.0, 33.0
#: Below this, a site's loss cannot be told from none.
LEAST_PERCENT = 2.0


class Severity(Enum):
    """Ranges of radiographic loss; the value is what is said."""

    NONE = "no radiographic bone loss at the measured sites"
    FIRST = "radiographic severity consistent with stage I range (needs probing)"
    SECOND = "radiographic severity consistent with stage II range (needs probing)"
    THIRD = "radiographic severity consistent with stage III or IV range (needs probing)"


def severity(percent: float) -> Severity:
    """Give the range of one site's loss, percent of its root beyond the normal distance."""
    if percent < LEAST_PERCENT:
        return Severity.NONE
    if percent < SECOND_PERCENT:
        return Severity.FIRST
    return Severity.SECOND if percent <= THIRD_PERCENT else Severity.THIRD


def severity_range(sites: Sequence[BoneSite]) -> Severity | None:
    """Give the range of the worst site whose share of the root is known; None without one."""
    shares = [site.percent for site in sites if site.percent is not None]
    return severity(max(shares)) if shares else None
