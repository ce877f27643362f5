"""The exact data of a run: every film with its hash and what it was used for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from node.errors import InvalidInput
from training.datasets import Film


def rows(films: Iterable[Film]) -> list[dict[str, str]]:
    """List files with their SHA-256, part and patient, each once, in the order of their names.

    Names are relative to the folder that holds them all.
    """
    found = {film.path.absolute(): film for film in films}
    if not found:
        return []
    root = Path(os.path.commonpath([path.parent for path in found]))
    return [
        {
            "file": path.relative_to(root).as_posix(),
            "split": found[path].split,
            "group": found[path].group,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(found)
    ]


def write(path: Path, films: Iterable[Film]) -> None:
    """Write the rows of `films` and the digest over all of them to `path` as JSON."""
    listed = rows(films)
    body = {"digest": digest(row["sha256"] for row in listed), "films": listed}
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def read_digest(path: Path) -> str:
    """Read the digest over all films of a manifest; raises InvalidInput when it is none."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path} is not a data manifest") from error


def digest(hashes: Iterable[str]) -> str:
    """Digest a set of film hashes, whatever their order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def data_digest(paths: Iterable[Path]) -> str:
    """Digest the content of films, whatever their order and names."""
    return digest(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
