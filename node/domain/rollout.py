"""How far each kind of finding, tag and workflow is let into the practice: silent, assist, auto.

A :class:`Rule` gives one subject a mode, everywhere or at a :class:`Place` that it names. The rule
that names most wins; of two that name equally much, the more cautious. A ceiling is a rule that no
other can exceed: the one switch back. Without a rule everything is silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from node.domain.findings import FindingKind, View
from node.errors import InvalidInput, Rejected


class RollMode(StrEnum):
    """``silent`` runs and is shown to no one, ``assist`` suggests, ``auto`` enters and marks."""

    SILENT = "silent"
    ASSIST = "assist"
    AUTO = "auto"

    @property
    def rank(self) -> int:
        """How far it goes, 0 for silent."""
        return list(RollMode).index(self)


class Area(StrEnum):
    """What a mode is given to."""

    FINDING = "finding"
    TAG = "tag"
    WORKFLOW = "workflow"


class Tag(StrEnum):
    """What the models say of an image or a series that is no clinical finding."""

    VIEW = "view"
    ORIENTATION = "orientation"
    QUALITY = "quality"
    TEETH = "teeth"
    SERIES = "series"
    COMPLETENESS = "completeness"


@dataclass(frozen=True, slots=True)
class Subject:
    """One kind of finding, tag or workflow; every one of its area when ``name`` is empty.

    Written ``finding:caries``, ``tag:*``, ``workflow:recall``; ``*`` is everything, which only a
    ceiling may speak of.
    """

    area: Area | None
    name: str = ""

    def __post_init__(self) -> None:
        if self.area is Area.FINDING and self.name not in ("", *(k.value for k in FindingKind)):
            raise InvalidInput(f"there is no kind of finding {self.name!r}")
        if self.area is Area.TAG and self.name not in ("", *(tag.value for tag in Tag)):
            raise InvalidInput(f"there is no tag {self.name!r}; known: {', '.join(Tag)}")
        if self.area is None and self.name:
            raise InvalidInput("a subject is finding:KIND, tag:TAG, workflow:NAME or *")

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Read ``finding:caries``, ``workflow:*`` or ``*``; raises InvalidInput."""
        if text == "*":
            return cls(None)
        area, _, name = text.partition(":")
        if area not in list(Area) or not name or len(text) > 96:
            raise InvalidInput("a subject is finding:KIND, tag:TAG, workflow:NAME or *")
        return cls(Area(area), "" if name == "*" else name)

    def __str__(self) -> str:
        return f"{self.area}:{self.name or '*'}" if self.area else "*"

    def covers(self, other: Subject) -> bool:
        """Whether a rule for this subject speaks of `other`."""
        return self.area is None or (self.area is other.area and self.name in ("", other.name))


@dataclass(frozen=True, slots=True)
class Place:
    """Where something happens; in a rule an empty field means anywhere.

    ``operatory`` and ``provider`` are the practice system's keys of the appointment, ``view`` is a
    :class:`~node.domain.findings.View`, ``lab`` a laboratory's name. The location is not here:
    every rule belongs to one location and is never read by another.
    """

    operatory: str = ""
    provider: str = ""
    view: str = ""
    lab: str = ""

    def named(self) -> tuple[tuple[str, str], ...]:
        """The fields that are named."""
        return tuple((f.name, value) for f in fields(self) if (value := getattr(self, f.name)))

    def holds(self, where: Place) -> bool:
        """Whether every field named here is the same there."""
        return all(getattr(where, name) == value for name, value in self.named())


ANYWHERE = Place()


@dataclass(frozen=True, slots=True)
class Rule:
    """One mode that a person gave to a subject at a place."""

    id: str
    subject: Subject
    place: Place
    mode: RollMode
    is_ceiling: bool = False
    set_by: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.subject.area is None and not self.is_ceiling:
            raise InvalidInput("only a switch back may speak of everything")
        if self.place.view and self.place.view not in [view.value for view in View]:
            raise InvalidInput(f"there is no view {self.place.view!r}")
        if self.place.view and self.subject.area is Area.WORKFLOW:
            raise InvalidInput("a workflow has no view")
        if self.place.lab and self.subject.area is not Area.WORKFLOW:
            raise InvalidInput("only workflows have a laboratory")

    @property
    def weight(self) -> int:
        """How much the rule names: one for the kind, one for each field of the place."""
        return bool(self.subject.name) + len(self.place.named())

    @property
    def words(self) -> str:
        """Say the rule in a line."""
        where = ", ".join(f"{name} {value}" for name, value in self.place.named())
        limit = "at most " if self.is_ceiling else ""
        return f"{self.subject} {limit}{self.mode.value}" + (f" ({where})" if where else "")


@dataclass(frozen=True, slots=True)
class Decision:
    """The mode that holds, by which rule, under which ceiling, and every rule that lost."""

    mode: RollMode
    rule: Rule | None = None
    ceiling: Rule | None = None
    lost: tuple[Rule, ...] = ()

    @property
    def words(self) -> str:
        """Say why, for a person."""
        if self.rule is None:
            why = "no rule speaks of it, and what nobody let in is silent"
        else:
            why = f"the rule that names most: {self.rule.words}"
            if self.lost:
                why += f"; it wins over {'; '.join(rule.words for rule in self.lost)}"
        if self.ceiling is not None and self.rule is not None and self.rule.mode != self.mode:
            why += f"; held back: {self.ceiling.words}"
        return f"{self.mode.value}: {why}"


def decide(rules: Iterable[Rule], subject: Subject, where: Place) -> Decision:
    """Find the mode of one subject at one place; the most specific rule wins.

    Of rules that name equally much the more cautious wins. The lowest ceiling bounds the result.
    """
    speaking = [r for r in rules if r.subject.covers(subject) and r.place.holds(where)]
    plain = sorted(
        (rule for rule in speaking if not rule.is_ceiling), key=lambda r: (-r.weight, r.mode.rank)
    )
    ceilings = sorted((r for r in speaking if r.is_ceiling), key=lambda r: r.mode.rank)
    ceiling = ceilings[0] if ceilings else None
    mode = plain[0].mode if plain else RollMode.SILENT
    if ceiling is not None and ceiling.mode.rank < mode.rank:
        mode = ceiling.mode
    return Decision(mode, plain[0] if plain else None, ceiling, tuple(plain[1:]))


#: What may be entered without a person, with the reason; everything else never may.
AUTO_ALLOWED: dict[Subject, str] = {
    Subject(Area.TAG, Tag.VIEW): "names the kind of picture; wrong, it is seen at a glance",
    Subject(Area.TAG, Tag.ORIENTATION): "says how the picture lies; pixels are never turned",
    Subject(Area.TAG, Tag.QUALITY): "asks for a second look at the picture, says nothing of teeth",
    Subject(Area.TAG, Tag.SERIES): "lays a picture on the mount; a person moves it in one step",
    Subject(Area.TAG, Tag.COMPLETENESS): "counts pictures against what was asked for",
    Subject(Area.WORKFLOW, "notify_staff"): "reaches nobody but the team, and names no finding",
}
_NEVER = {
    Area.FINDING: "a finding is a step towards a diagnosis, and only a clinician makes one",
    Area.TAG: "tooth numbers decide where a finding is charted",
    Area.WORKFLOW: "what reaches a payer, a laboratory, a patient or the chart needs a person",
}


def check_auto(subject: Subject) -> str:
    """Give the reason why a subject may be auto; raises Rejected, with the reason, when never."""
    if subject in AUTO_ALLOWED:
        return AUTO_ALLOWED[subject]
    why = _NEVER[subject.area] if subject.area else "each subject is let in by itself"
    raise Rejected(f"{subject} is never automatic: {why}")


def known_subjects(workflows: Sequence[str] = ()) -> tuple[Subject, ...]:
    """List every subject that a mode can be given to."""
    return (
        *(Subject(Area.FINDING, kind.value) for kind in FindingKind),
        *(Subject(Area.TAG, tag.value) for tag in Tag),
        *(Subject(Area.WORKFLOW, name) for name in workflows),
    )
