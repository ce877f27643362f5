"""Several weight folders side by side: which network is live, which runs in the shadow.

A site's choice names a task and a folder with its own manifest. The live network of a task gives
the suggestions; shadow networks run silently beside it, so that a new version can be compared with
the signed reviews before anybody relies on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from models import weights
from models.weights import Entry
from node.errors import ConfigError


class Role(StrEnum):
    """What a network is for; ``off`` keeps it listed and unused."""

    LIVE = "live"
    SHADOW = "shadow"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Choice:
    """One network that a site chose; an empty ``version`` takes whatever the folder holds."""

    task: str
    folder: Path
    version: str = ""
    role: Role = Role.LIVE

    def __post_init__(self) -> None:
        if self.task not in weights.TASKS:
            raise ConfigError(f"unknown model task {self.task!r}; known: {weights.TASKS}")

    def entry(self) -> Entry:
        """Read what the folder says of this network; its file is not opened.

        Raises ConfigError when the folder has no such network, its file is missing, or it is not
        the chosen version.
        """
        entry = next((e for e in weights.manifest(self.folder) if e.task == self.task), None)
        if entry is None or not (self.folder / entry.file).is_file():
            raise ConfigError(f"the folder {self.folder} holds no weights for {self.task}")
        if self.version and entry.version != self.version:
            raise ConfigError(
                f"{self.folder} holds {self.task} {entry.version}, but version {self.version} "
                "is configured"
            )
        return entry

    def load(self) -> weights.Loaded:
        """Read the weights; raises ConfigError as :meth:`entry` and :func:`weights.load` do."""
        self.entry()
        loaded = weights.load(self.task, self.folder)
        assert loaded is not None
        return loaded


@dataclass(frozen=True, slots=True)
class Listed:
    """One network of the list: ``problem`` says in words why it cannot run, empty when it can."""

    choice: Choice
    entry: Entry | None
    problem: str = ""


def choices(
    chosen: Sequence[Choice], weights_dir: Path | None, disabled: Sequence[str] = ()
) -> tuple[Choice, ...]:
    """Complete a site's choices with the default folder's networks, in the order they run.

    The default network of a task steps back when another one is live or the task is `disabled`.
    Raises ConfigError for two live networks of one task, and for a damaged default folder.
    """
    live = [choice.task for choice in chosen if choice.role is Role.LIVE]
    for task in sorted(set(live)):
        if live.count(task) > 1:
            raise ConfigError(f"two models are live for {task}; keep one, make the other shadow")
    unknown = sorted(set(disabled) - set(weights.TASKS))
    if unknown:
        raise ConfigError(f"unknown model task {', '.join(unknown)}; known: {weights.TASKS}")
    folder = weights_dir or weights.DEFAULT_DIR
    defaults = [
        Choice(entry.task, folder, "", _default_role(entry.task, live, disabled))
        for entry in weights.manifest(folder)
        if (folder / entry.file).is_file()
    ]
    order = {task: number for number, task in enumerate(weights.TASKS)}
    switched = [_without_disabled(choice, disabled) for choice in chosen]
    return tuple(sorted([*defaults, *switched], key=lambda c: order[c.task]))


def _default_role(task: str, live: Sequence[str], disabled: Sequence[str]) -> Role:
    return Role.OFF if task in live or task in disabled else Role.LIVE


def _without_disabled(choice: Choice, disabled: Sequence[str]) -> Choice:
    if choice.task not in disabled:
        return choice
    return Choice(choice.task, choice.folder, choice.version, Role.OFF)


def listed(all_choices: Iterable[Choice]) -> tuple[Listed, ...]:
    """Look at each network's manifest and digest without loading it; problems become words."""
    return tuple(_look(choice) for choice in all_choices)


def _look(choice: Choice) -> Listed:
    entry = None
    try:
        entry = choice.entry()
        weights.check_digest(choice.folder, entry)
    except ConfigError as error:
        return Listed(choice, entry, str(error))
    return Listed(choice, entry)
