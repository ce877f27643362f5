"""How sure a counted share is."""

from __future__ import annotations

from math import sqrt

#: The 97.5th percentile of the normal distribution.
Z95 = 1.959963984540054


def wilson(successes: int, total: int) -> tuple[float, float]:
    """Give the 95 % interval of a share, `total` above 0; sensible also at 0 and 1.

    Source: Wilson 1927, the score interval.
    """
    share, z2 = successes / total, Z95**2
    middle = share + z2 / (2 * total)
    spread = Z95 * sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    scale = 1 + z2 / total
    return (middle - spread) / scale, (middle + spread) / scale
