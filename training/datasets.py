"""Annotated films on disk: COCO folders of tooth masks or finding boxes.

A folder holds ``annotations.coco.json`` and ``images/``. Films carry a ``split`` and a group: all
films of one group (a patient) stay on one side of every split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from node.domain.findings import View
from node.errors import InvalidInput

#: What films are for: to learn from, to choose thresholds on, to report once.
PARTS = ("train", "tune", "test")

#: Sub-folders named so hold films of that view.
VIEWS = tuple(view.value for view in View)
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp"}

#: The share of training groups put aside to choose thresholds and compare checkpoints.
TUNE_SHARE = 0.1

#: The share of groups put aside to report, in sets that come without such a part.
TEST_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Mark:
    """One annotated thing: its class name, box (x0, y0, x1, y1) and outline, in stored pixels."""

    label: str
    box: tuple[float, float, float, float]
    outline: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Film:
    """One image file with its marks; ``group`` is the patient where the set tells.

    ``origin`` is ``real`` or ``synthetic``, ``source`` the set or machine it comes from; both
    keep figures apart.
    """

    path: Path
    width: int
    height: int
    split: str
    group: str
    marks: tuple[Mark, ...]
    origin: str = "real"
    source: str = ""

    def read(self) -> np.ndarray:
        """Read the pixels as (rows, cols) uint8 grey; raises InvalidInput for a broken file."""
        pixels: np.ndarray | None = cv2.imread(str(self.path), cv2.IMREAD_GRAYSCALE)
        if pixels is None:
            raise InvalidInput(f"{self.path.name} is not a readable image")
        return pixels


def read_coco(folder: Path) -> tuple[Film, ...]:
    """Read a COCO folder; films without a split are ``test``.

    A file name ``0012_0034.jpg`` puts the film into group ``0012``; any other name is its own
    group. The file's ``info`` may state an ``origin`` (``real`` unless it says ``synthetic``) and
    a ``source`` (the folder's name unless it says another). Names of categories are read in lower
    case. Raises InvalidInput when the folder is not of this form.
    """
    path = folder / "annotations.coco.json"
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
        info = coco.get("info") or {}
        origin = "synthetic" if info.get("origin") == "synthetic" else "real"
        source = str(info.get("source") or folder.name)
        names = {item["id"]: str(item["name"]).strip().lower() for item in coco["categories"]}
        marks: dict[int, list[Mark]] = {item["id"]: [] for item in coco["images"]}
        for item in coco["annotations"]:
            marks[item["image_id"]].append(_mark(item, names))
        return tuple(
            replace(_film(folder, item, marks[item["id"]]), origin=origin, source=source)
            for item in coco["images"]
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InvalidInput(f"{path} is not a COCO annotation file: {error!r}") from error


def read_views(folder: Path) -> tuple[Film, ...]:
    """Read films whose view is known: the mark of each spans the film and names its view.

    A sub-folder called like a view (``bitewing``, ``photo``, ``other`` …) holds images of that
    view, those in its sub-folder ``train`` to learn from, the rest to report; any sub-folder (or
    `folder` itself) that is a COCO folder holds panoramics. Films in a sub-folder whose name
    has ``synthetic`` or ``generated`` in it are reported apart from real ones.
    """
    films: list[Film] = []
    for sub in sorted([folder, *(p for p in folder.iterdir() if p.is_dir())]):
        if (sub / "annotations.coco.json").exists():
            films += [_viewed(film, "panoramic") for film in read_coco(sub)]
        elif sub.name in VIEWS:
            paths = sorted(p for p in sub.rglob("*") if p.suffix.lower() in _IMAGE_SUFFIXES)
            films += [_viewed(_plain(path, sub), sub.name) for path in paths]
    return tuple(films)


def _plain(path: Path, folder: Path) -> Film:
    use = "train" if "train" in path.relative_to(folder).parts[:-1] else "test"
    parts = [part.lower() for part in path.parts]
    is_made = any("synthetic" in part or "generated" in part for part in parts[-4:-1])
    origin = "synthetic" if is_made else "real"
    return Film(path, 0, 0, use, path.stem, (), origin, folder.name)


def _viewed(film: Film, view: str) -> Film:
    box = (0.0, 0.0, float(film.width), float(film.height))
    return replace(film, marks=(Mark(view, box),))


def _mark(item: Mapping[str, object], names: Mapping[object, str]) -> Mark:
    x, y, width, height = (float(v) for v in item["bbox"])  # type: ignore[attr-defined]
    box = (x, y, x + width, y + height)
    return Mark(names[item["category_id"]], box, outline_of(item.get("segmentation")))


def outline_of(segmentation: object) -> tuple[tuple[float, float], ...]:
    """Read the longest ring of a COCO segmentation, flat or as pairs; none gives no points."""
    rings = segmentation if isinstance(segmentation, list) else []
    ring: list[Any] = max(rings, key=len, default=[])
    pairs = ring if ring and isinstance(ring[0], list) else zip(ring[::2], ring[1::2], strict=True)
    return tuple((float(x), float(y)) for x, y in pairs)


def _film(folder: Path, item: Mapping[str, object], marks: Iterable[Mark]) -> Film:
    name = str(item["file_name"])
    stem = Path(name).stem
    head, _, tail = stem.partition("_")
    group = head if head.isdigit() and tail.isdigit() else stem
    return Film(
        folder / "images" / name,
        int(str(item["width"])),
        int(str(item["height"])),
        str(item.get("split") or "test"),
        group,
        tuple(marks),
    )


@dataclass(frozen=True, slots=True)
class Splits:
    """Films to learn from, to choose thresholds on, and to report once."""

    train: tuple[Film, ...]
    tune: tuple[Film, ...]
    test: tuple[Film, ...]


def split(films: Iterable[Film]) -> Splits:
    """Divide by patient: the set's own ``val`` and ``test`` are reported, part of ``train`` tunes.

    A set that comes without films to report has a share of its patients put aside for it. A group
    that has a reported film is used for nothing else. Every choice depends on the group's name
    only, so it is the same in every run, whatever else is in the set.
    """
    films = tuple(films)
    test = tuple(film for film in films if film.split != "train")
    if not test:
        test = tuple(film for film in films if part_of(film.group) == "test")
    reported = {film.group for film in test}
    rest = [film for film in films if film.split == "train" and film.group not in reported]
    tune = tuple(film for film in rest if _fraction(film.group) < TUNE_SHARE)
    train = tuple(film for film in rest if _fraction(film.group) >= TUNE_SHARE)
    return Splits(train, tune, test)


def divide(films: Iterable[Film]) -> Splits:
    """Divide a set that names no parts at all by :func:`part_of`, to learn from it."""
    films = tuple(films)
    parts = {name: tuple(f for f in films if part_of(f.group) == name) for name in PARTS}
    return Splits(parts["train"], parts["tune"], parts["test"])


def part_of(group: str) -> str:
    """Give the part (``train``, ``tune``, ``test``) of a patient in a set without parts."""
    if _fraction(f"test {group}") < TEST_SHARE:
        return "test"
    return "tune" if _fraction(group) < TUNE_SHARE else "train"


def _fraction(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 0x1_0000_0000
