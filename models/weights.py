"""Trained weights: what is installed, who made it under which licence, and is the file intact.

A weights folder holds ``manifest.json``, a list of entries, and the state dicts it names. A site
that may not use a file deletes it or disables its task; the task is then absent, never an error.
A file that is there but is not the one the manifest describes is refused.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from node.domain.findings import ModelVersion
from node.errors import ConfigError

if TYPE_CHECKING:
    import torch

#: The tasks a network can be installed for, in the order they run.
TASKS: tuple[str, ...] = ("triage", "panoramic_teeth", "panoramic_caries", "intraoral")

#: The folder shipped with the program.
DEFAULT_DIR = Path(__file__).parent / "weights"

#: The major version of the architecture this program can run, per task.
SUPPORTED_MAJOR: dict[str, int] = dict.fromkeys(TASKS, 1)

_VERSION = re.compile(r"(\d+)\.\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One weight file as the manifest describes it.

    ``file`` is a name in the weights folder, ``card`` one in ``models/cards``; ``data`` says in
    words what it was trained on, ``command`` how to train it again; ``sha256`` is of the file.
    """

    task: str
    file: str
    version: str
    sha256: str
    licence: str
    data: str
    card: str
    command: str

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError(f"weights manifest: unknown task {self.task!r}; known: {TASKS}")
        match = _VERSION.fullmatch(self.version)
        if match is None:
            raise ConfigError(f"weights manifest: {self.task} has no version like 1.0.0")
        if int(match[1]) != SUPPORTED_MAJOR[self.task]:
            raise ConfigError(
                f"weights of {self.task} are version {self.version}, but this program runs "
                f"version {SUPPORTED_MAJOR[self.task]}.x; install matching weights"
            )
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ConfigError(f"weights manifest: {self.task} has no SHA-256 digest")
        if Path(self.file).name != self.file or not self.file:
            raise ConfigError(f"weights manifest: {self.task} names a file outside its folder")


def manifest(weights_dir: Path) -> tuple[Entry, ...]:
    """Read and check the manifest of `weights_dir`; a folder without one installs nothing.

    Raises ConfigError for a missing folder, a damaged manifest, an entry without its version,
    hash or licence, and a task named twice.
    """
    if not weights_dir.is_dir():
        raise ConfigError(f"the weights folder {weights_dir} does not exist")
    path = weights_dir / "manifest.json"
    if not path.exists():
        return ()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the weights manifest {path} cannot be read: {error}") from error
    if not isinstance(raw, list):
        raise ConfigError(f"the weights manifest {path} must be a list of entries")
    entries = tuple(_entry(item) for item in raw)
    tasks = [entry.task for entry in entries]
    if len(set(tasks)) != len(tasks):
        raise ConfigError(f"the weights manifest {path} names a task twice")
    return entries


def _entry(item: object) -> Entry:
    names = [field.name for field in fields(Entry)]
    if not isinstance(item, dict):
        raise ConfigError("weights manifest: an entry must be an object")
    texts = {name: item.get(name) for name in names}
    missing = [name for name, text in texts.items() if not isinstance(text, str) or not text]
    if missing:
        raise ConfigError(f"weights manifest: an entry lacks {', '.join(missing)}")
    return Entry(**{name: str(text) for name, text in texts.items()})


def load(
    task: str, weights_dir: Path, disabled: Sequence[str] = ()
) -> tuple[dict[str, torch.Tensor], ModelVersion] | None:
    """Load the state dict of `task` as float32, or None when it is disabled or not installed.

    Raises ConfigError when the file is not the one the manifest describes, when PyTorch is
    missing, or when a name in `disabled` is no task.
    """
    unknown = sorted(set(disabled) - set(TASKS))
    if unknown or task not in TASKS:
        raise ConfigError(f"unknown model task {', '.join(unknown) or task}; known: {TASKS}")
    if task in disabled:
        return None
    entry = next((entry for entry in manifest(weights_dir) if entry.task == task), None)
    if entry is None or not (weights_dir / entry.file).exists():
        return None
    return _read(weights_dir / entry.file, entry)


def digest(path: Path) -> str:
    """Compute the SHA-256 of a weight file; raises ConfigError when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"the weights {path} cannot be read: {error.strerror}") from error


def _read(path: Path, entry: Entry) -> tuple[dict[str, torch.Tensor], ModelVersion]:
    actual = digest(path)
    if actual != entry.sha256:
        raise ConfigError(
            f"the weights {path} have SHA-256 {actual[:12]}…, the manifest says "
            f"{entry.sha256[:12]}…; install the file again or disable {entry.task}"
        )
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            f"weights for {entry.task} are installed but PyTorch is not; "
            "install bitewing[analysis] or disable the task"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ConfigError(f"the weights {path} are not a plain state dict") from error
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    return tensors, ModelVersion(entry.task, entry.version, actual)
