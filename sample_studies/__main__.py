"""Make synthetic films: ``python -m sample_studies generate --seed N --count K --out DIR``.

Each film is a grey PNG of 16 bits (``bits_stored`` of them used) with its exact truth beside it as
``N.truth.json``. The same seed gives the same pixels. ``--attenuation`` keeps what was in the beam
as well (:mod:`sample_studies.synthesis`). ``python -m sample_studies films`` makes the films again
that are shipped in ``sample_studies/films``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from node.errors import BitewingError, InvalidInput, outcome
from sample_studies import phantoms
from sample_studies.progression import (
    Capture,
    Grey,
    LowerCrest,
    NewLesion,
    Truth,
    capture,
    progress,
)
from sample_studies.synthesis import VIEWS, Order, film, generate, read_odds, write, write_pixels

#: Seeds of the shipped studies, chosen by eye so that there is something to review on each.
_SHIPPED = {"bitewings-4": 11, "bitewing-1": 5, "periapicals-2": 16, "bitewings-2": 206}
_SHIPPED_MM = 0.04
#: What happened between the two studies of one patient: bone lost by this much on the right film, a
#: lesion so deep on the left one, mm; at the first of these lower teeth that takes it.
_LOST_MM, _LESION_MM = 2.4, 1.8
_LOST_AT = ("6D", "6M", "5D", "7M")
_LESION_AT = ("6M", "5D", "7M", "6D")
_PAIR_MM, _PAIR_SIZE, _PAIR_MARGIN = 0.05, (600, 800), 1.16
#: Where the shipped films lie.
SHIPPED_DIR = Path(__file__).parent / "films"


def write_pair(folder: Path) -> None:
    """Make the two studies of one patient, 14 months apart, whose change is known."""
    rng = np.random.default_rng(_SHIPPED["bitewings-2"])
    rows, cols = (round(_PAIR_MARGIN * side) for side in _PAIR_SIZE)
    right, _, left, _ = phantoms.bitewing_series(rng, cols=cols, rows=rows, pixel_mm=_PAIR_MM)
    lost: list[LowerCrest | NewLesion] = [
        LowerCrest(f"4{at[0]}", at[1], _LOST_MM) for at in _LOST_AT
    ]
    decayed: list[LowerCrest | NewLesion] = [
        NewLesion(f"3{at[0]}", at[1], _LESION_MM) for at in _LESION_AT
    ]
    for number, (large, changes) in enumerate(((right, lost), (left, decayed)), 1):
        pixels = (large.pixels / (2**large.bits_stored - 1)).astype(np.float32)
        earlier = (pixels, large.truth())
        later = _aged(*earlier, changes)
        for name, (grey, truth) in (("bitewings-2-prior", earlier), ("bitewings-2", later)):
            how = replace(Capture.random(rng), blur_px=0.0)
            film, seen = capture(grey, truth, how, _PAIR_SIZE, rng)
            stored = np.round(film * 255).astype(np.uint8)
            write_pixels(stored, {**seen, "bits_stored": 8}, folder / name, str(number))


def _aged(
    pixels: Grey, truth: Truth, changes: Sequence[LowerCrest | NewLesion]
) -> tuple[Grey, Truth]:
    """Let the first change happen that both films will show, between two teeth."""
    for change in changes:
        try:
            aged, after = progress(pixels, truth, [change])
        except InvalidInput:
            continue
        if _is_in_the_middle(after, change):
            return aged, after
    raise InvalidInput("this mouth shows none of the teeth that are to change")


def _is_in_the_middle(truth: Truth, change: LowerCrest | NewLesion) -> bool:
    """Whether the site that changed lies well inside the smaller film, opposite another tooth."""
    sites = cast("list[dict[str, object]]", truth["sites"])
    here = next(s for s in sites if (s["tooth"], s["surface"]) == (change.tooth, change.surface))
    x, y = _PAIR_MM * np.asarray(here["crest"], float)
    height, width = (_PAIR_MARGIN * side * _PAIR_MM for side in _PAIR_SIZE)
    others = [s["cej"] for s in sites if s["tooth"] != here["tooth"]]
    apart = _PAIR_MM * np.abs(np.asarray(others, float) - np.asarray(here["cej"], float))
    is_inside = 7.0 < x < width - 7.0 and 4.5 < y < height - 4.5
    return bool(is_inside and (apart < (3.0, 4.0)).all(axis=1).any())


def write_shipped(folder: Path) -> None:
    """Make the shipped synthetic studies again, 8 bits deep to stay small."""
    four = np.random.default_rng(_SHIPPED["bitewings-4"])
    series = phantoms.bitewing_series(four, cols=1000, rows=750, pixel_mm=_SHIPPED_MM)
    for number, one in enumerate(series, 1):
        write(phantoms.in_8_bits(one), folder / "bitewings-4", str(number))
    one = film("bitewing", _SHIPPED["bitewing-1"], 0, _SHIPPED_MM)
    write(phantoms.in_8_bits(one), folder / "bitewing-1", "1")
    for number in (1, 2):
        one = film("periapical", _SHIPPED["periapicals-2"], number, _SHIPPED_MM)
        write(phantoms.in_8_bits(one), folder / "periapicals-2", str(number))
    write_pair(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sample_studies", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("generate", help="make synthetic films with their truth")
    making.add_argument("--seed", type=int, required=True, help="0 or more")
    making.add_argument("--count", type=int, required=True, help="how many films")
    making.add_argument("--out", type=Path, required=True, help="folder to write to")
    making.add_argument("--view", choices=VIEWS, default="mixed")
    making.add_argument(
        "--pixel-mm", type=float, default=0.0, help="pixel size in mm, 0 for the usual"
    )
    making.add_argument("--jobs", type=int, default=1, help="processes, one core each")
    making.add_argument(
        "--attenuation", action="store_true", help="also write each attenuation map (N.att.npz)"
    )
    making.add_argument(
        "--odds", action="append", default=[], metavar="NAME=CHANCE", help="change a prevalence"
    )
    films = commands.add_parser("films", help="make the shipped synthetic films again")
    films.add_argument("--out", type=Path, default=SHIPPED_DIR)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and make the films; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "films":
            write_shipped(options.out)
            return 0
        order = Order(options.view, options.seed, options.pixel_mm, read_odds(options.odds))
        step = max(1, options.count // 20)

        def report(done: int) -> None:
            if done % step == 0 or done == options.count:
                sys.stderr.write(f"{done} of {options.count} films\n")

        generate(
            order,
            options.count,
            options.out,
            jobs=options.jobs,
            keep_attenuation=options.attenuation,
            report=report if options.count >= 20 else None,
        )
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
