"""Folders that ``bitewing export-training`` wrote: what dentists signed, as training data.

Findings are verified; teeth are as a model numbered them and count as annotated for nothing but
placing a finding. Films with a rejected suggestion are given twice to learn from: they are where
the network was wrong. Parts follow from the patient's id, so a later export of the same practice
never moves a patient from one part to another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.domain.findings import CariesDepth, FindingKind, Point, View
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput
from training.datasets import Film, Mark, outline_of, part_of
from training.synthetic import LesionTruth, MarkTruth, SyntheticFilm, ToothTruth

FORMAT = "bitewing-training/1"
#: The words that the panoramic sets use for our kinds of finding.
WORDS: Mapping[FindingKind, str] = {
    FindingKind.CARIES: "cavity",
    FindingKind.RESTORATION: "filling",
    FindingKind.IMPLANT: "implant",
    FindingKind.IMPACTED_TOOTH: "impacted tooth",
    FindingKind.PERIAPICAL_RADIOLUCENCY: "infection",
    FindingKind.ROOT_REMNANT: "broken-down crown or root",
}
_PROXIMAL = (Surface.MESIAL, Surface.DISTAL)
#: A lesion that was signed without a depth is learnt as the shallowest one in dentine.
_UNTOLD_DEPTH = CariesDepth.D1


@dataclass(frozen=True, slots=True)
class _Image:
    """One image of the folder with its tooth marks, signed findings and rejected suggestions."""

    path: Path
    width: int
    height: int
    view: View
    group: str
    device: str
    bits: int
    spacing_mm: float
    teeth: tuple[Mark, ...]
    findings: tuple[Mapping[str, object], ...]
    is_hard: bool


def is_signed(folder: Path) -> bool:
    """Tell a folder of signed reviews by the format its annotation file states."""
    path = folder / "annotations.coco.json"
    if not path.exists():
        return False
    try:
        info = json.loads(path.read_text(encoding="utf-8")).get("info") or {}
        return bool(info.get("format") == FORMAT)
    except (OSError, ValueError, AttributeError):
        return False


def read_intraoral(folder: Path, part: str) -> tuple[SyntheticFilm, ...]:
    """Read the bitewings and periapicals of one part (``train``, ``tune`` or ``test``).

    Raises InvalidInput when the folder is damaged; a part may be empty.
    """
    views = (View.BITEWING, View.PERIAPICAL)
    images = [i for i in _read(folder) if i.view in views and part_of(i.group) == part]
    films = [_intraoral(image) for image in images]
    if part == "train":
        films += [film for film, image in zip(films, images, strict=True) if image.is_hard]
    return tuple(films)


def read_panoramics(folder: Path) -> tuple[Film, ...]:
    """Read the panoramics with their signed findings, named by the words of the box sets.

    A finding on a known tooth gets the tooth's box, as those sets have it. Raises InvalidInput
    when the folder is damaged.
    """
    films = []
    for image in _read(folder):
        if image.view is not View.PANORAMIC:
            continue
        part = part_of(image.group)
        film = Film(
            image.path,
            image.width,
            image.height,
            "test" if part == "test" else "train",
            image.group,
            tuple(mark for item in image.findings for mark in _panoramic_mark(item, image.teeth)),
            source=image.device or folder.name,
        )
        films += [film] * (2 if image.is_hard and part == "train" else 1)
    return tuple(films)


def _read(folder: Path) -> list[_Image]:
    path = folder / "annotations.coco.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {item["id"]: str(item["name"]) for item in content["categories"]}
        items = [
            {**item, "category": names[item["category_id"]]} for item in content["annotations"]
        ]
        hard = {item["image_id"] for item in content["rejected"]}
        upright = [image for image in content["images"] if not _is_turned(image)]
        return [_image(folder, image, items, hard) for image in upright]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} is not an export of signed reviews: {error!r}") from error


def _is_turned(image: Mapping[str, object]) -> bool:
    """Whether a film lies turned, mirrored or inverted; the networks learn from upright ones."""
    orientation = image.get("orientation")
    return isinstance(orientation, Mapping) and any(orientation.values())


def _image(
    folder: Path,
    image: Mapping[str, object],
    items: Sequence[Mapping[str, object]],
    hard: set[object],
) -> _Image:
    own = [item for item in items if item["image_id"] == image["id"]]
    spacing = image["spacing_mm"]
    return _Image(
        path=folder / "images" / str(image["file_name"]),
        width=int(str(image["width"])),
        height=int(str(image["height"])),
        view=View(image["view"]),
        group=str(image["group"]),
        device=str(image["device"]),
        bits=int(str(image["bits"])),
        spacing_mm=float(spacing[1]) if isinstance(spacing, list) else 0.0,
        teeth=tuple(
            Mark(str(i["category"]), _box(i), outline_of(i["segmentation"]))
            for i in own
            if i["role"] == "tooth"
        ),
        findings=tuple(item for item in own if item["role"] == "finding"),
        is_hard=image["id"] in hard,
    )


def _box(item: Mapping[str, object]) -> tuple[float, float, float, float]:
    x, y, width, height = (float(v) for v in item["bbox"])  # type: ignore[attr-defined]
    return x, y, x + width, y + height


def _ring(item: Mapping[str, object]) -> tuple[Point, ...]:
    """Give the outline of a mark, or the corners of its box."""
    x0, y0, x1, y1 = _box(item)
    return outline_of(item["segmentation"]) or ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _intraoral(image: _Image) -> SyntheticFilm:
    lesions, marks = [], []
    for item in image.findings:
        kind, tooth = FindingKind(item["category"]), item["tooth"]
        surfaces = [Surface(letter) for letter in str(item["surfaces"] or "")]
        proximal = [surface for surface in surfaces if surface in _PROXIMAL]
        depth = CariesDepth(item["depth"]) if item["depth"] else None
        number = Tooth(str(tooth)) if tooth else None
        if kind is FindingKind.CARIES and number and proximal:
            lesion = LesionTruth(number, proximal[0], depth or _UNTOLD_DEPTH, _ring(item))
            lesions.append(lesion)
        elif kind is not FindingKind.BONE_LEVEL:
            surface = surfaces[0] if surfaces else None
            marks.append(MarkTruth(kind, _box(item), number, surface, depth))
    return SyntheticFilm(
        path=image.path,
        view=image.view,
        bits_stored=image.bits,
        spacing_mm=image.spacing_mm,
        teeth=tuple(
            ToothTruth(Tooth(mark.label), mark.box, mark.outline or _corners(mark.box))
            for mark in image.teeth
        ),
        sites=(),
        lesions=tuple(lesions),
        group=image.group,
        origin="real",
        source=image.device or "signed reviews",
        annotated=frozenset({"caries", "marks"}),
        marks=tuple(marks),
    )


def _corners(box: tuple[float, float, float, float]) -> tuple[Point, ...]:
    x0, y0, x1, y1 = box
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _panoramic_mark(item: Mapping[str, object], teeth: Sequence[Mark]) -> list[Mark]:
    word = WORDS.get(FindingKind(item["category"]))
    if word is None:
        return []
    own = next((mark for mark in teeth if mark.label == item["tooth"]), None)
    return [Mark(word, own.box if own else _box(item), own.outline if own else _ring(item))]
