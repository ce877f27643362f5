"""What a practice's lab cases say: turnaround, remakes and cost by laboratory and material.

A laboratory or material is suggested only with its reasons and the numbers of cases behind them,
and only where there are enough of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from orchestration.labs.prescription import Restoration
from orchestration.labs.workdays import workdays_between

#: Fewer cases than this say nothing.
FEWEST = 5


@dataclass(frozen=True, slots=True)
class ClosedCase:
    """One case that was seated, made again or is at least back."""

    lab: str
    restoration: Restoration
    material: str
    sent_on: date
    received_on: date | None
    due_on: date | None
    is_remade: bool
    remake_reason: str = ""
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a group; each number has its own count of cases. Days are working days."""

    name: str
    cases: int
    turnaround_days: float | None
    turnaround_p90_days: float | None
    turnaround_cases: int
    on_time_rate: float | None
    on_time_cases: int
    remake_rate: float
    remakes: int
    cost: Decimal | None
    cost_cases: int


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A laboratory or material with its reasons in words; `cases` is how many it rests on."""

    name: str
    cases: int
    reasons: tuple[str, ...]


def figures(cases: Iterable[ClosedCase], of: Callable[[ClosedCase], str]) -> list[Figures]:
    """Work out the figures of each group, the largest first; `of` names a case's group."""
    groups: dict[str, list[ClosedCase]] = {}
    for case in cases:
        groups.setdefault(of(case), []).append(case)
    found = [_figures(name, group) for name, group in groups.items()]
    return sorted(found, key=lambda each: (-each.cases, each.name))


def by_lab(cases: Iterable[ClosedCase]) -> list[Figures]:
    """Work out figures by laboratory."""
    return figures(cases, lambda case: case.lab)


def suggest_lab(cases: Sequence[ClosedCase], restoration: Restoration) -> Suggestion | None:
    """Suggest the laboratory with the fewest remakes, then the fastest, then the cheapest.

    None unless at least two have `FEWEST` cases of this restoration: there is nothing to compare.
    """
    return _suggest([c for c in cases if c.restoration is restoration], lambda case: case.lab)


def suggest_material(
    cases: Sequence[ClosedCase], restoration: Restoration, allowed: Iterable[str]
) -> Suggestion | None:
    """Suggest the material of this practice's work that is remade least, among `allowed` ones."""
    fitting = set(allowed)
    relevant = [c for c in cases if c.restoration is restoration and c.material in fitting]
    return _suggest(relevant, lambda case: case.material)


def _suggest(cases: Sequence[ClosedCase], of: Callable[[ClosedCase], str]) -> Suggestion | None:
    known = [each for each in figures(cases, of) if each.cases >= FEWEST]
    if len(known) < 2:
        return None
    best = min(known, key=_rank)
    others = [each for each in known if each is not best]
    reasons = [
        f"{best.remakes} of {best.cases} cases were made again, "
        + ", ".join(f"{each.remakes} of {each.cases} at {each.name}" for each in others)
    ]
    if best.turnaround_days is not None:
        reasons.append(
            f"half of {best.turnaround_cases} cases came within {best.turnaround_days:g} "
            "working days"
        )
    if best.cost is not None:
        reasons.append(f"half of {best.cost_cases} cases cost {best.cost} or less")
    return Suggestion(best.name, best.cases, tuple(reasons))


def _rank(group: Figures) -> tuple[float, float, Decimal, str]:
    """Order groups; a rate from few cases is drawn towards one remake in ten."""
    rate = (group.remakes + 1) / (group.cases + 10)
    days = group.turnaround_days if group.turnaround_days is not None else float("inf")
    cost = group.cost if group.cost is not None else Decimal("Infinity")
    return (round(rate, 2), days, cost, group.name)


def _figures(name: str, group: Sequence[ClosedCase]) -> Figures:
    days = sorted(
        workdays_between(case.sent_on, case.received_on) for case in group if case.received_on
    )
    due = [c.received_on <= c.due_on for c in group if c.received_on and c.due_on]
    costs = [case.cost for case in group if case.cost is not None]
    remakes = sum(case.is_remade for case in group)
    return Figures(
        name=name,
        cases=len(group),
        turnaround_days=float(statistics.median(days)) if days else None,
        turnaround_p90_days=float(days[min(len(days) - 1, int(0.9 * len(days)))]) if days else None,
        turnaround_cases=len(days),
        on_time_rate=sum(due) / len(due) if due else None,
        on_time_cases=len(due),
        remake_rate=remakes / len(group),
        remakes=remakes,
        cost=statistics.median(costs) if costs else None,
        cost_cases=len(costs),
    )
