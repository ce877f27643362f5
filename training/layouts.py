"""Recognise which set a folder holds, and read its films whatever the set.

A folder may also hold several sets, one a sub-folder: they are read together. So a practice adds
its own signed reviews to a training run by putting the export beside the other sets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from node.errors import InvalidInput
from training import datasets, denpar, dentex, signed, synthetic
from training.datasets import Film
from training.synthetic import SyntheticFilm

#: Layouts by name, in the order they are tried.
_LAYOUTS: dict[str, Callable[[Path], bool]] = {
    "DenPAR": denpar.is_denpar,
    "signed reviews": signed.is_signed,
    "DENTEX": dentex.is_dentex,
    "COCO": lambda folder: (folder / "annotations.coco.json").exists(),
    "synthetic films": lambda folder: any((folder / part).is_dir() for part in synthetic.PARTS),
}


def sets(folder: Path) -> list[tuple[str, Path]]:
    """List (layout, folder) of the sets `folder` is or holds; none when nothing is recognised.

    Raises InvalidInput when there is no such folder.
    """
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder}")
    own = _layout(folder)
    if own is not None:
        return [(own, folder)]
    subs = sorted(path for path in folder.iterdir() if path.is_dir())
    return [(name, sub) for sub in subs if (name := _layout(sub)) is not None]


def _layout(folder: Path) -> str | None:
    return next((name for name, test in _LAYOUTS.items() if test(folder)), None)


def describe(folder: Path) -> str:
    """Say in a line what is in `folder`."""
    found = [f"{name} ({path.name})" for name, path in sets(folder)]
    return ", ".join(found) or "no known layout"


def read_part(folder: Path, part: str) -> tuple[SyntheticFilm, ...]:
    """Read the intraoral films of one part (``train``, ``tune`` or ``test``) of all sets.

    Raises InvalidInput when there are none or one is damaged.
    """
    films: list[SyntheticFilm] = []
    for name, path in sets(folder):
        match name:
            case "DenPAR":
                films += denpar.read_part(path, part)
            case "signed reviews":
                films += signed.read_intraoral(path, part)
            case "synthetic films":
                films += synthetic.read_part(path, part)
            case _:
                continue
    if not films:
        raise InvalidInput(f"{folder} has no intraoral films under {part}")
    return tuple(films)


def read_panoramics(folder: Path, task: str) -> tuple[Film, ...]:
    """Read the annotated panoramics of all sets that say something of `task`.

    Raises InvalidInput when there are none or one is damaged.
    """
    diagnoses = task == "panoramic_caries"
    films: list[Film] = []
    for name, path in sets(folder):
        match name:
            case "DENTEX":
                films += dentex.read_dentex(path, diagnoses=diagnoses)
            case "COCO":
                films += _fitting(datasets.read_coco(path), diagnoses)
            case "signed reviews" if diagnoses:
                films += signed.read_panoramics(path)
            case _:
                continue
    if not films:
        needed = (
            "categories that name findings" if diagnoses else "categories named by tooth numbers"
        )
        raise InvalidInput(
            f"{folder} has no films for {task}, which needs {needed} ({describe(folder)})"
        )
    return tuple(films)


def _fitting(films: tuple[Film, ...], diagnoses: bool) -> list[Film]:
    """Keep a set when its marks are of the kind a task needs: findings, or numbered teeth."""
    has_numbers = any(mark.label.isdigit() for film in films for mark in film.marks)
    has_findings = any(not mark.label.isdigit() for film in films for mark in film.marks)
    if not (has_findings if diagnoses else has_numbers):
        return []
    return [
        replace(film, marks=tuple(m for m in film.marks if m.label.isdigit() != diagnoses))
        for film in films
    ]
