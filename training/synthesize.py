"""Make synthetic films to train on: the ``generate`` command of :mod:`sample_studies`.

``python -m training.synthesize --seed N --count K --out DIR`` takes the same options.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sample_studies.__main__ import main as sample_studies


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and make the films; returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return sample_studies(["generate", *given])


if __name__ == "__main__":
    sys.exit(main())
