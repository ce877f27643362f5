"""Model cards whose tables are made from the figures, so that the two cannot drift apart.

A card holds pairs of markers, ``<!-- figures:NAME -->`` and ``<!-- /figures:NAME -->``; what
stands between them is replaced. NAME is ``real``, ``synthetic`` or ``gap``. The figures themselves
are kept beside the cards in ``figures/``, and a test holds the two against each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from models import weights
from node.errors import InvalidInput
from training import report
from training.report import Report, table


def keep(path: Path, figures: str) -> None:
    """Fill the tables of the card `path` and keep the `figures` (JSON) they are made from.

    Raises InvalidInput when there is no such card or `figures` are none.
    """
    kept = figures_of(path)
    kept.parent.mkdir(exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_text(figures, encoding="utf-8")
    fill(path, read_figures(part))
    part.replace(kept)


def figures_of(path: Path) -> Path:
    """Name the file of figures that belongs to the card `path`."""
    return path.parent / "figures" / path.with_suffix(".json").name


def fill(path: Path, reports: Sequence[Report]) -> None:
    """Replace the tables of `path` by those of `reports`, each under its origin's markers.

    Raises InvalidInput when the card is missing or lacks the markers.
    """
    for one in reports:
        replace_section(path, one.origin, table(one))


def replace_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers called `name`; a card without them gets them at its end.

    Raises InvalidInput when there is no such card.
    """
    try:
        card = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} is not a model card that can be read") from error
    section = f"{_start(name)}\n{text.strip()}\n{_end(name)}"
    pattern = re.compile(re.escape(_start(name)) + ".*?" + re.escape(_end(name)), re.DOTALL)
    if pattern.search(card):
        card = pattern.sub(lambda _: section, card, count=1)
    else:
        card = f"{card.rstrip()}\n\n{section}\n"
    part = path.with_suffix(".md.part")
    part.write_text(card, encoding="utf-8")
    part.replace(path)


def section(path: Path, name: str) -> str | None:
    """Read what stands between the markers called `name`; None when they are not there."""
    card = path.read_text(encoding="utf-8")
    found = re.search(
        re.escape(_start(name)) + "\n(.*?)\n" + re.escape(_end(name)), card, re.DOTALL
    )
    return found[1] if found else None


def _start(name: str) -> str:
    return f"<!-- figures:{name} -->"


def _end(name: str) -> str:
    return f"<!-- /figures:{name} -->"


def read_figures(path: Path) -> tuple[Report, ...]:
    """Read the reports of a file that ``training.evaluate --out`` wrote.

    Raises InvalidInput when it is none.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return tuple(report.from_json(one) for one in (body, *body["others"]))
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise InvalidInput(f"{path} does not hold the figures of an evaluation") from error


def skeleton(task: str, file: Path, command: str, reports: Sequence[Report], data: str) -> str:
    """Write a card to fill in: what was trained, how, on what, and the figures so far.

    `data` is the digest of the data manifest.
    """
    size_mb = file.stat().st_size / 2**20
    tables = "\n\n".join(
        f"{_start(one.origin)}\n{table(one).strip()}\n{_end(one.origin)}" for one in reports
    )
    return f"""# {task}

**Not a cleared medical device; for evaluation, not for diagnosis.**

| | |
|---|---|
| weights | `{file.name}`, SHA-256 `{weights.digest(file)}`, {size_mb:.1f} MB |
| trained | `{command}` |
| data manifest | `{file.with_suffix(".manifest.json").name}`, digest `{data}` |
| answers | (what the network gives, for which images) |

## Data and licence
(What it learnt from, under which licence, and what that means for these weights.)

## Figures
Of the **tuning** films, by which thresholds and checkpoints were chosen: too good by nature. Run
`python -m training.evaluate --task {task} --data DIR --out FILE.json --card {task}.md` once for the
test films; it replaces the tables below.

{tables}

## Limits
(Views, ages, machines and findings it was never tried on; what it gets wrong, with examples.)
"""
