"""Put trained weights where the node loads them: ``python -m training.export FILE --task NAME …``.

Copies the file into the weights folder under the task's name and replaces the task's entry in
``manifest.json``. ``--figures`` writes the figures of an evaluation into the task's model card,
between its markers; it refuses figures of other weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models import weights
from node.errors import BitewingError, InvalidInput, outcome
from training import card

_CARDS = Path(weights.__file__).parent / "cards"
#: Weight files travel with the program; larger ones are a mistake.
MAX_BYTES = 12 * 2**20


def install(file: Path, entry: weights.Entry, folder: Path) -> weights.Entry:
    """Install `file` for the task of `entry` in `folder`; gives the entry with its digest.

    Raises InvalidInput for a missing or oversized file, ConfigError for a damaged manifest.
    """
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise InvalidInput(f"{file} is missing or larger than {MAX_BYTES >> 20} MiB")
    folder.mkdir(parents=True, exist_ok=True)
    others = [item for item in weights.manifest(folder) if item.task != entry.task]
    entry = replace(entry, sha256=weights.digest(file))
    shutil.copyfile(file, folder / entry.file)
    rows = sorted([*others, entry], key=lambda item: weights.TASKS.index(item.task))
    part = folder / "manifest.part"
    text = json.dumps([weights.entry_to_json(row) for row in rows], indent=2, ensure_ascii=False)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(folder / "manifest.json")
    return entry


def _check_figures(figures: Path, task: str, file: Path) -> None:
    """Refuse figures of another task or of other weights."""
    reports = card.read_figures(figures)
    touched = json.loads(figures.read_text(encoding="utf-8"))["touched"]
    if {report.task for report in reports} != {task}:
        raise InvalidInput(f"{figures} does not hold figures of {task}")
    if not touched or touched[-1]["weights_sha256"] != weights.digest(file):
        raise InvalidInput(f"the figures {figures} are of other weights than {file}")


def _settings(path: Path | None) -> weights.Settings:
    if path is None:
        return weights.NO_SETTINGS
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the settings {path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise InvalidInput(f"the settings {path} must be an object")
    return weights.settings_from_json(data)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and install; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("file", type=Path, help="weights that training.train wrote")
    parser.add_argument("--task", required=True, choices=weights.TASKS)
    parser.add_argument("--version", required=True, help="like 1.0.0; the major is the network's")
    parser.add_argument("--licence", required=True, help="of the weights, as its data allows")
    parser.add_argument("--data", required=True, help="what it was trained on, in words")
    parser.add_argument("--command", required=True, help="the command that trained it")
    parser.add_argument(
        "--settings", type=Path, help="JSON with operating_points and calibration (docs/models.md)"
    )
    parser.add_argument("--figures", type=Path, help="what training.evaluate --out wrote")
    parser.add_argument("--cards", type=Path, default=_CARDS, help="folder of the model cards")
    parser.add_argument("--weights", type=Path, default=weights.DEFAULT_DIR)
    options = parser.parse_args(arguments)
    try:
        if options.figures:
            _check_figures(options.figures, options.task, options.file)
        entry = weights.Entry(
            task=options.task,
            file=f"{options.task}.pt",
            version=options.version,
            sha256="0" * 64,
            licence=options.licence,
            data=options.data,
            card=f"{options.task}.md",
            command=options.command,
            settings=_settings(options.settings),
        )
        entry = install(options.file, entry, options.weights)
        if options.figures:
            card.keep(options.cards / entry.card, options.figures.read_text(encoding="utf-8"))
    except BitewingError as error:
        sys.stderr.write(f"{error}\n")
        return outcome(error).exit_code
    sys.stdout.write(f"{entry.task} {entry.version} {entry.sha256}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
