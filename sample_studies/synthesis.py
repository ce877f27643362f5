"""Sets of synthetic films on disk: a grey PNG of 16 bits with its exact truth beside each.

The same order gives the same pixels, however many processes share the work. A film's attenuation
map can be kept too (``N.att.npz``: ``attenuation`` float16, mu·t), so that training can take other
films of the same scene with :func:`sample_studies.phantoms.capture`.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from node.errors import InvalidInput
from sample_studies import phantoms

VIEWS = ("bitewing", "periapical", "panoramic", "mixed")
#: The pixel size of the detector where none is asked for, and its bounds, mm.
_INTRAORAL_MM = (0.078, 0.02, 0.2)
_PANORAMIC_MM = (0.25, 0.1, 0.5)


@dataclass(frozen=True, slots=True)
class Order:
    """What to generate: a view or "mixed", a seed, the pixel size in mm, and how often what.

    ``pixel_mm`` 0 stands for the usual size: 0.078 mm, for a panoramic 0.25 mm.
    """

    view: str
    seed: int
    pixel_mm: float = 0.0
    odds: phantoms.Prevalence = field(default_factory=phantoms.Prevalence)

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise InvalidInput(f"no such view: {self.view!r}; there are {', '.join(VIEWS)}")
        usual, least, most = _PANORAMIC_MM if self.view == "panoramic" else _INTRAORAL_MM
        if self.pixel_mm == 0:
            object.__setattr__(self, "pixel_mm", usual)
        if not least <= self.pixel_mm <= most:
            raise InvalidInput(f"a pixel is {least} to {most} mm wide")
        if self.seed < 0:
            raise InvalidInput("the seed is 0 or more")


def film(view: str, seed: int, index: int, pixel_mm: float = 0.0) -> phantoms.Film:
    """Make film number `index` of the set with `seed`; "mixed" alternates both views in the mouth.

    The film is 40 × 30 mm at `pixel_mm` (0: 0.078 mm), a panoramic 300 × 150 mm (0: 0.25 mm).
    Raises InvalidInput for an unknown view or a pixel size outside 0.02 to 0.2 mm, of a panoramic
    0.1 to 0.5 mm.
    """
    return make(Order(view, seed, pixel_mm), index)[1]


def make(order: Order, index: int) -> tuple[phantoms.Scene, phantoms.Film]:
    """Make film number `index` of an order together with its scene."""
    if order.view == "panoramic":
        return _panoramic(order, index)
    long_px, short_px = round(40 / order.pixel_mm), round(30 / order.pixel_mm)
    rng = np.random.default_rng((order.seed, index))
    mm, odds = order.pixel_mm, order.odds
    if order.view == "bitewing" or (order.view == "mixed" and index % 2 == 0):
        scene = phantoms.bitewing_scene(rng, cols=long_px, rows=short_px, pixel_mm=mm, odds=odds)
    else:
        scene = phantoms.periapical_scene(
            rng, long_px=long_px, short_px=short_px, pixel_mm=mm, odds=odds
        )
    settings = phantoms.draw_settings(rng, flaws=odds.flaws)
    return scene, phantoms.expose(scene, settings, rng)


def _panoramic(order: Order, index: int) -> tuple[phantoms.Scene, phantoms.Film]:
    rng = np.random.default_rng((order.seed, index))
    cols, rows = round(300 / order.pixel_mm), round(150 / order.pixel_mm)
    scene = phantoms.panoramic_scene(rng, order.odds, cols=cols, rows=rows, pixel_mm=order.pixel_mm)
    return scene, phantoms.take_panoramic(scene, rng, order.odds)


def write(film: phantoms.Film, folder: Path, name: str) -> None:
    """Write `film` as ``name.png`` and ``name.truth.json`` into `folder`, made if missing."""
    stored = film.pixels if film.bits_stored > 8 else film.pixels.astype(np.uint8)
    write_pixels(stored, film.truth(), folder, name)


def write_pixels(
    stored: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    truth: Mapping[str, object],
    folder: Path,
    name: str,
) -> None:
    """Write grey pixels and a truth as :func:`write` does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    if not cv2.imwrite(str(path), stored, [cv2.IMWRITE_PNG_COMPRESSION, 6]):
        raise InvalidInput(f"cannot write {path}")
    text = json.dumps(truth, separators=(",", ":"))
    (folder / f"{name}.truth.json").write_text(text + "\n", encoding="utf-8")


def write_made(order: Order, folder: Path, keep_attenuation: bool, index: int) -> int:
    """Make film number `index` and write it, with its attenuation if wanted; returns `index`."""
    scene, made = make(order, index)
    name = str(index + 1)
    write(made, folder, name)
    if keep_attenuation:
        thin = np.clip(scene.attenuation, 0, 60).astype(np.float16)
        np.savez_compressed(folder / f"{name}.att.npz", attenuation=thin)
    return index


def generate(
    order: Order,
    count: int,
    folder: Path,
    *,
    jobs: int = 1,
    keep_attenuation: bool = False,
    report: Callable[[int], None] | None = None,
) -> None:
    """Make and write `count` films of an order with `jobs` processes; `report` hears how many."""
    if count < 1 or jobs < 1:
        raise InvalidInput("the count and the jobs are 1 or more")
    folder.mkdir(parents=True, exist_ok=True)
    task = partial(write_made, order, folder, keep_attenuation)
    if jobs == 1:
        for done, _ in enumerate(map(task, range(count)), 1):
            if report is not None:
                report(done)
        return
    # Spawned, so that the threads of the parent's libraries do no harm.
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=_one_thread) as pool:
        for done, _ in enumerate(pool.imap_unordered(task, range(count), chunksize=4), 1):
            if report is not None:
                report(done)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def read_odds(settings: Sequence[str]) -> phantoms.Prevalence:
    """Read ``name=chance`` pairs over the default prevalence; raises InvalidInput."""
    known = {item.name for item in fields(phantoms.Prevalence)}
    odds = phantoms.Prevalence()
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            raise InvalidInput(
                f"no such prevalence: {name!r}; there are {', '.join(sorted(known))}"
            )
        try:
            odds = replace(odds, **{name: float(value)})
        except ValueError:
            raise InvalidInput(f"the prevalence of {name} is a number, not {value!r}") from None
    return odds
