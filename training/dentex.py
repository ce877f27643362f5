"""DENTEX films: panoramics whose boxes name quadrant, tooth and, in one part, a diagnosis.

The set (Hamamci et al. 2023, CC BY-NC-SA 4.0) is not shipped and its licence forbids commercial
use of it. Expected: a folder with ``xrays/`` and one ``*.json`` of COCO form whose annotations
carry ``category_id_1`` (quadrant), ``category_id_2`` (place) and perhaps ``category_id_3``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from node.domain.teeth import Tooth
from node.errors import InvalidInput
from training.datasets import Film, Mark, outline_of

#: DENTEX's diagnoses in the words of the other box sets.
_WORDS = {
    "Caries": "caries",
    "Deep Caries": "caries",
    "Impacted": "impacted tooth",
    "Periapical Lesion": "infection",
}
#: Quadrants that lie left of, and above, each other in a mounted panoramic.
_LEFT_OF, _ABOVE = (("1", "2"), ("4", "3")), (("1", "4"), ("2", "3"))


def is_dentex(folder: Path) -> bool:
    """Tell a DENTEX folder by its parts."""
    return (folder / "xrays").is_dir() and len(list(folder.glob("*.json"))) == 1


def read_dentex(folder: Path, diagnoses: bool = False) -> tuple[Film, ...]:
    """Read a DENTEX folder; marks are named by ISO 3950 number, or by diagnosis.

    The ids are indices into the file's own category lists, whose names count from 1; quadrant
    names are taken as FDI quadrants, and where the boxes lie must agree with that. Films called
    ``train_…`` are to learn from, others to report. Raises InvalidInput when the folder is not of
    this form or its numbers are off by one.
    """
    try:
        (path,) = folder.glob("*.json")
        content = json.loads(path.read_text(encoding="utf-8"))
        names = [
            {item["id"]: str(item["name"]) for item in content.get(f"categories_{level}", [])}
            for level in (1, 2, 3)
        ]
        marks: dict[int, list[Mark]] = {item["id"]: [] for item in content["images"]}
        for item in content["annotations"]:
            marks[item["image_id"]].append(_mark(item, names, diagnoses))
        films = tuple(_film(folder, item, marks[item["id"]]) for item in content["images"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{folder} is not a DENTEX folder: {error!r}") from error
    if not diagnoses:
        _check_numbers(films)
    return films


def _film(folder: Path, item: Mapping[str, object], marks: Sequence[Mark]) -> Film:
    name = str(item["file_name"])
    return Film(
        folder / "xrays" / name,
        int(str(item["width"])),
        int(str(item["height"])),
        "train" if name.startswith("train") else "test",
        Path(name).stem,
        tuple(marks),
        source="DENTEX",
    )


def _check_numbers(films: Sequence[Film]) -> None:
    """Refuse numbers that are none, and quadrants that do not lie where they belong."""
    places: dict[str, list[tuple[float, float]]] = {quadrant: [] for quadrant in "1234"}
    for film in films:
        for mark in film.marks:
            quadrant = str(Tooth(mark.label).quadrant)
            middle = (mark.box[0] + mark.box[2]) / film.width, (mark.box[1] + mark.box[3])
            places.setdefault(quadrant, []).append((middle[0], middle[1] / film.height))
    middles = {q: [sum(v) / len(p) for v in zip(*p, strict=True)] for q, p in places.items() if p}
    for axis, pairs in enumerate((_LEFT_OF, _ABOVE)):
        for one, other in pairs:
            known = one in middles and other in middles
            if known and middles[one][axis] >= middles[other][axis]:
                raise InvalidInput(
                    f"DENTEX quadrants {one} and {other} do not lie as in a mounted panoramic; "
                    "the category ids may be off by one"
                )


def _mark(item: Mapping[str, object], names: list[dict[object, str]], diagnoses: bool) -> Mark:
    x, y, width, height = (float(v) for v in item["bbox"])  # type: ignore[attr-defined]
    label = names[0][item["category_id_1"]] + names[1][item["category_id_2"]]
    if diagnoses:
        diagnosis = names[2][item["category_id_3"]]
        label = _WORDS.get(diagnosis, diagnosis)
    return Mark(label, (x, y, x + width, y + height), outline_of(item.get("segmentation")))
