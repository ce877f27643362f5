"""DENTEX films: panoramics whose boxes name quadrant, tooth and, in one part, a diagnosis.

The set (Hamamci et al. 2023, CC BY-NC-SA 4.0) is not shipped and its licence forbids commercial
use of it. Expected: a folder with ``xrays/`` and one ``*.json`` of COCO form whose annotations
carry ``category_id_1`` (quadrant), ``category_id_2`` (place) and perhaps ``category_id_3``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from node.errors import InvalidInput
from training.datasets import Film, Mark, outline_of

#: DENTEX's diagnoses in the words of our findings network.
_WORDS = {"Caries": "caries", "Deep Caries": "caries", "Impacted": "impacted tooth"}


def is_dentex(folder: Path) -> bool:
    """Tell a DENTEX folder by its parts."""
    return (folder / "xrays").is_dir() and len(list(folder.glob("*.json"))) == 1


def read_dentex(folder: Path, diagnoses: bool = False) -> tuple[Film, ...]:
    """Read a DENTEX folder; marks are named by ISO 3950 number, or by diagnosis.

    The ids are indices into the file's own category lists, whose names are read; quadrant names
    are taken as FDI quadrants. Raises InvalidInput when the folder is not of this form.
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
        return tuple(
            Film(
                folder / "xrays" / item["file_name"],
                int(item["width"]),
                int(item["height"]),
                "test",
                Path(item["file_name"]).stem,
                tuple(marks[item["id"]]),
            )
            for item in content["images"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{folder} is not a DENTEX folder: {error!r}") from error


def _mark(item: Mapping[str, object], names: list[dict[object, str]], diagnoses: bool) -> Mark:
    x, y, width, height = (float(v) for v in item["bbox"])  # type: ignore[attr-defined]
    label = names[0][item["category_id_1"]] + names[1][item["category_id_2"]]
    if diagnoses:
        diagnosis = names[2][item["category_id_3"]]
        label = _WORDS.get(diagnosis, diagnosis)
    return Mark(label, (x, y, x + width, y + height), outline_of(item.get("segmentation")))
