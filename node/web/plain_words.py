"""Signed findings in words for the patient: templates as data, and how hard they are to read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from node.domain.findings import CariesDepth, Disposition, FindingKind
from node.domain.teeth import Arch, Tooth

_FILE = Path(__file__).parent / "patient_words.toml"
_TEETH = {
    1: "front tooth", 2: "front tooth", 3: "eye tooth", 4: "small back tooth",
    5: "small back tooth", 6: "back tooth", 7: "back tooth", 8: "wisdom tooth",
}  # fmt: skip
_MILK = {4: "back milk tooth", 5: "back milk tooth"}


@dataclass(frozen=True, slots=True)
class Words:
    """What one finding is, means, and may become."""

    title: str
    meaning: str
    waiting: str


def words_for(kind: FindingKind, depth: CariesDepth | None) -> Words | None:
    """Give a finding's words; None for what is no disease (a filling, a crown, an implant)."""
    entry = cast("Mapping[str, Mapping[str, str]] | None", _texts().get(kind.value))
    if entry is None:
        return None
    return Words(**entry.get(depth.value if depth else "any", entry["any"]))


def plan_words(disposition: Disposition | None) -> str:
    """Say what is planned."""
    return cast("Mapping[str, str]", _texts()["plan"])[disposition.value if disposition else "open"]


def usual_ai_words() -> str:
    """Say that a program helped, unless the practice has its own words."""
    return str(_texts()["ai"])


def questions() -> tuple[str, ...]:
    """What a patient may want to ask."""
    return tuple(cast("list[str]", _texts()["questions"]))


def tooth_words(tooth: Tooth) -> str:
    """Name a tooth by its place: ``lower right back tooth``."""
    arch = "upper" if tooth.arch is Arch.UPPER else "lower"
    side = "right" if tooth.is_patient_right else "left"
    if tooth.is_deciduous:
        return f"{arch} {side} {_MILK.get(tooth.position, 'front milk tooth')}"
    return f"{arch} {side} {_TEETH[tooth.position]}"


def all_texts() -> tuple[str, ...]:
    """Every text that a patient may read."""

    def leaves(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for each in value.values() for text in leaves(each)]
        return (
            [text for each in value for text in leaves(each)]
            if isinstance(value, list)
            else [str(value)]
        )

    return tuple(leaves(dict(_texts())))


def reading_grade(text: str) -> float:
    """US school grade that a text asks for, at least 0.

    Source: Flesch-Kincaid grade level (Kincaid et al. 1975); syllables are counted as groups of
    vowels, a final silent e left out.
    """
    sentences = max(1, len(re.findall(r"[.!?](?:\s|$)", text)))
    words = re.findall(r"[A-Za-z]+(?:'[a-z]+)?", text)
    if not words:
        return 0.0
    syllables = sum(_syllables(word) for word in words)
    grade = 0.39 * len(words) / sentences + 11.8 * syllables / len(words) - 15.59
    return max(0.0, round(grade, 1))


def _syllables(word: str) -> int:
    text = word.lower()
    count = len(re.findall(r"[aeiouy]+", text))
    if text.endswith("e") and not text.endswith("le") and count > 1:
        count -= 1
    return max(1, count)


@lru_cache(maxsize=1)
def _texts() -> Mapping[str, object]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
