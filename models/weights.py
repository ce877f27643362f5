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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models import calibration
from models.calibration import Calibration, Temperature
from node.domain.findings import FindingKind, ModelVersion, OperatingPoint
from node.domain.image_json import points_to_json
from node.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    import torch

#: The tasks a network can be installed for, in the order they run.
TASKS: tuple[str, ...] = ("triage", "panoramic_teeth", "panoramic_caries", "intraoral")

#: The folder shipped with the program.
DEFAULT_DIR = Path(__file__).parent / "weights"

#: The major version of the architecture this program can run, per task.
SUPPORTED_MAJOR: dict[str, int] = dict.fromkeys(TASKS, 1) | {
    "triage": 2,
    "panoramic_caries": 2,
    "intraoral": 2,
}

_VERSION = re.compile(r"(\d+)\.\d+\.\d+")
_TEXTS = ("task", "file", "version", "sha256", "licence", "data", "card", "command")
_SETTINGS = ("operating_points", "calibration", "reference_digest")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is frozen beside the weights; empty for entries that carry nothing.

    ``calibration`` is keyed by a head of the network ("view", "centre") or by the value of a
    FindingKind, whichever the network asks for. ``reference_digest`` is the SHA-256 of the data
    manifest of the tuning films on which both were frozen.
    """

    operating_points: Mapping[FindingKind, OperatingPoint] = field(default_factory=dict)
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    reference_digest: str = ""

    def __post_init__(self) -> None:
        if self.reference_digest and not re.fullmatch(r"[0-9a-f]{64}", self.reference_digest):
            raise ConfigError("weights manifest: reference_digest is no SHA-256 digest")

    def suggested(self, kind: FindingKind, score: float, threshold: float) -> float | None:
        """Give the calibrated probability of a finding, or None when it stays unsaid.

        `score` is the network's own. It counts against the kind's review point once calibrated;
        an entry without a point for `kind` falls back on `threshold`, against the raw score.
        """
        probability = min(1.0, max(0.0, self.calibrate(kind.value, score)))
        point = self.operating_points.get(kind)
        is_seen = score >= threshold if point is None else probability >= point.review
        return probability if is_seen else None

    def calibrate(self, name: str, probability: float) -> float:
        """Calibrate one score of the head or kind `name`; unchanged when there is no curve."""
        return float(self.calibrate_all(name, np.array([probability]))[0])

    def calibrate_all(self, name: str, probability: np.ndarray) -> np.ndarray:
        """Calibrate an array of scores of the head or kind `name`."""
        curve = self.calibration.get(name)
        return probability if curve is None else curve.apply(probability)

    def temperature(self, name: str, otherwise: float = 1.0) -> float:
        """Give the temperature of the head `name`, by which a network divides its logits."""
        curve = self.calibration.get(name)
        return curve.temperature if isinstance(curve, Temperature) else otherwise


#: An entry that carries nothing beside its weights.
NO_SETTINGS = Settings()


class Loaded(NamedTuple):
    """A network's weights as :func:`load` gives them: ``Network.from_state(*loaded)``."""

    state: dict[str, torch.Tensor]
    version: ModelVersion
    settings: Settings


@dataclass(frozen=True, slots=True)
class Entry:
    """One weight file as the manifest describes it.

    ``file`` is a name in the weights folder, ``card`` one in ``models/cards``; ``data`` says in
    words what it was trained on, ``command`` how to train it again; ``sha256`` is of the file.
    The manifest writes the parts of ``settings`` as keys of the entry itself.
    """

    task: str
    file: str
    version: str
    sha256: str
    licence: str
    data: str
    card: str
    command: str
    settings: Settings = NO_SETTINGS

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


def entry_to_json(entry: Entry) -> dict[str, object]:
    """Write one entry for the manifest; settings that are empty are left out."""
    texts: dict[str, object] = {name: getattr(entry, name) for name in _TEXTS}
    return texts | settings_to_json(entry.settings)


def settings_to_json(settings: Settings) -> dict[str, object]:
    """Write operating points and calibration as the manifest's entries carry them."""
    written: dict[str, object] = {
        "operating_points": points_to_json(settings.operating_points),
        "calibration": {
            name: calibration.to_json(curve) for name, curve in settings.calibration.items()
        },
        "reference_digest": settings.reference_digest,
    }
    return {name: value for name, value in written.items() if value}


def settings_from_json(data: Mapping[str, object]) -> Settings:
    """Read what :func:`settings_to_json` wrote, each part optional; raises ConfigError."""
    points, curves = data.get("operating_points", {}), data.get("calibration", {})
    if not isinstance(points, Mapping) or not isinstance(curves, Mapping):
        raise ConfigError("weights manifest: operating_points and calibration must be objects")
    return Settings(
        {_kind(name): _point(str(name), point) for name, point in points.items()},
        {str(name): calibration.from_json(str(name), curve) for name, curve in curves.items()},
        str(data.get("reference_digest", "")),
    )


def _kind(name: object) -> FindingKind:
    try:
        return FindingKind(name)
    except ValueError:
        raise ConfigError(f"weights manifest: unknown kind of finding {name!r}") from None


def _point(name: str, data: object) -> OperatingPoint:
    if not isinstance(data, Mapping) or set(data) != {"review", "high_specificity"}:
        raise ConfigError(
            f"weights manifest: the operating point of {name} needs review and high_specificity"
        )
    try:
        return OperatingPoint(**{key: float(value) for key, value in data.items()})
    except (TypeError, ValueError, InvalidInput):
        raise ConfigError(
            f"weights manifest: the operating point of {name} must satisfy "
            "0 <= review <= high_specificity <= 1"
        ) from None


def _entry(item: object) -> Entry:
    if not isinstance(item, dict):
        raise ConfigError("weights manifest: an entry must be an object")
    texts = {name: item.get(name) for name in _TEXTS}
    missing = [name for name, text in texts.items() if not isinstance(text, str) or not text]
    if missing:
        raise ConfigError(f"weights manifest: an entry lacks {', '.join(missing)}")
    unknown = sorted(set(item) - {*_TEXTS, *_SETTINGS})
    if unknown:
        raise ConfigError(
            f"weights manifest: {texts['task']} has unknown keys {', '.join(unknown)}; "
            "the weights may be for a newer program"
        )
    settings = settings_from_json(item)
    return Entry(**{name: str(text) for name, text in texts.items()}, settings=settings)


def load(task: str, weights_dir: Path, disabled: Sequence[str] = ()) -> Loaded | None:
    """Load the state dict of `task` as float32 with its settings, or None.

    None means that the task is disabled or not installed. Raises ConfigError when the file is not
    the one the manifest describes, when PyTorch is missing, or when a name in `disabled` is no
    task.
    """
    unknown = sorted(set(disabled) - set(TASKS))
    if unknown or task not in TASKS:
        raise ConfigError(f"unknown model task {', '.join(unknown) or task}; known: {TASKS}")
    if task in disabled:
        return None
    entry = next((entry for entry in manifest(weights_dir) if entry.task == task), None)
    if entry is None or not (weights_dir / entry.file).exists():
        return None
    return _read(weights_dir, entry)


def digest(path: Path) -> str:
    """Compute the SHA-256 of a weight file; raises ConfigError when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"the weights {path} cannot be read: {error.strerror}") from error


def check_digest(weights_dir: Path, entry: Entry) -> None:
    """Raise ConfigError unless the file of `entry` is the one that the manifest describes."""
    path = weights_dir / entry.file
    actual = digest(path)
    if actual != entry.sha256:
        raise ConfigError(
            f"the weights {path} have SHA-256 {actual[:12]}…, the manifest says "
            f"{entry.sha256[:12]}…; install the file again or disable {entry.task}"
        )


def _read(weights_dir: Path, entry: Entry) -> Loaded:
    check_digest(weights_dir, entry)
    path = weights_dir / entry.file
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
    return Loaded(tensors, ModelVersion(entry.task, entry.version, entry.sha256), entry.settings)
