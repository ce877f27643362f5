"""What an evaluation found: figures with intervals, per subgroup, beside what others reached."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training import anchors, metrics
from training.metrics import Array, Figure

#: What stands over figures of films that a program made.
SYNTHETIC = "SYNTHETIC test films: not comparable with figures on patients"
#: Subgroups of fewer patients are counted, not measured.
_LEAST_PATIENTS = 5

Figures = Callable[[Array], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The figures of some of the films: those whose `by` (view, source) is `value`."""

    by: str
    value: str
    films: int
    patients: int
    figures: dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Report:
    """What one evaluation found; ``rule`` says what counts as a hit.

    ``origin`` is ``real`` or ``synthetic``; films of both are never in one report.
    ``reliability`` holds (mean probability, share true, count) of the bins of a plot.
    """

    task: str
    films: int
    patients: int
    rule: str
    figures: dict[str, Figure]
    origin: str = "real"
    subgroups: tuple[Subgroup, ...] = ()
    reliability: Mapping[str, Sequence[tuple[float, float, int]]] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One film of an evaluation: its patient, and what it is by view, source and the like."""

    group: str
    traits: Mapping[str, str]


def compose(
    task: str,
    rule: str,
    cases: Sequence[Case],
    figures: Figures,
    origin: str = "real",
    reliability: Mapping[str, Sequence[tuple[float, float, int]]] | None = None,
    resamples: int = metrics.RESAMPLES,
) -> Report:
    """Measure `figures` over all films and over each subgroup that the traits tell apart.

    `figures` takes weightings (n, films) of all films; a subgroup weighs the others nothing.
    """
    groups = [case.group for case in cases]
    subgroups = []
    for by in sorted({name for case in cases for name in case.traits}):
        values = sorted({case.traits.get(by, "") for case in cases} - {""})
        if len(values) < 2:
            continue
        for value in values:
            chosen = np.array([case.traits.get(by) == value for case in cases])
            subgroups.append(_subgroup(by, value, groups, chosen, figures, resamples))
    return Report(
        task,
        len(cases),
        len(set(groups)),
        rule,
        metrics.bootstrap(groups, figures, resamples),
        origin,
        tuple(subgroups),
        reliability,
    )


def _subgroup(
    by: str,
    value: str,
    groups: Sequence[str],
    chosen: np.ndarray,
    figures: Figures,
    resamples: int,
) -> Subgroup:
    own = [group for group, is_in in zip(groups, chosen, strict=True) if is_in]
    patients = len(set(own))

    def alone(weight: Array) -> Mapping[str, Array]:
        whole = np.zeros((len(weight), len(groups)))
        whole[:, chosen] = weight
        return figures(whole)

    measured = metrics.bootstrap(own, alone, resamples) if patients >= _LEAST_PATIENTS else {}
    return Subgroup(by, value, len(own), patients, measured)


def table(report: Report) -> str:
    """Write the figures of `report` as Markdown tables: all films, then each subgroup."""
    label = f"**{SYNTHETIC}.** " if report.origin == "synthetic" else ""
    lines = [
        f"{label}{report.task}: {report.films} {report.origin} films of "
        f"{report.patients} patients; hit: {report.rule}",
        "",
        "| figure | value | 95 % interval | published programs | people |",
        "|---|--:|---|---|---|",
    ]
    lines += [_row(report.task, name, figure) for name, figure in report.figures.items()]
    for sub in report.subgroups:
        lines += ["", f"{sub.by} {sub.value}: {sub.films} films of {sub.patients} patients"]
        if not sub.figures:
            lines += ["", f"fewer than {_LEAST_PATIENTS} patients: not measured"]
            continue
        lines += ["", "| figure | value | 95 % interval |", "|---|--:|---|"]
        lines += [f"| {name} | {_value(f)} | {_interval(f)} |" for name, f in sub.figures.items()]
    return "\n".join(lines) + "\n"


def _row(task: str, name: str, figure: Figure) -> str:
    anchor = anchors.find(task, name)
    programs, people = (anchor.programs, anchor.people) if anchor else ("", "")
    return f"| {name} | {_value(figure)} | {_interval(figure)} | {programs} | {people} |"


def _value(figure: Figure) -> str:
    return f"{figure.value:.3f}" if np.isfinite(figure.value) else "–"


def _interval(figure: Figure) -> str:
    is_known = np.isfinite(figure.low) and np.isfinite(figure.high)
    return f"{figure.low:.3f} – {figure.high:.3f}" if is_known else "–"


def to_json(report: Report) -> dict[str, object]:
    """Write `report` as plain values; a figure that could not be computed is null."""
    return {
        "task": report.task,
        "origin": report.origin,
        "films": report.films,
        "patients": report.patients,
        "rule": report.rule,
        "figures": _figures_to_json(report.task, report.figures),
        "subgroups": [
            {
                "by": sub.by,
                "value": sub.value,
                "films": sub.films,
                "patients": sub.patients,
                "figures": _figures_to_json(report.task, sub.figures, with_anchors=False),
            }
            for sub in report.subgroups
        ],
        "reliability": {
            name: [[round(p, 4), round(share, 4), count] for p, share, count in bins]
            for name, bins in (report.reliability or {}).items()
        },
    }


def _figures_to_json(
    task: str, figures: Mapping[str, Figure], with_anchors: bool = True
) -> dict[str, dict[str, object]]:
    written: dict[str, dict[str, object]] = {}
    for name, figure in figures.items():
        row: dict[str, object] = {
            key: _number(getattr(figure, key)) for key in ("value", "low", "high")
        }
        anchor = anchors.find(task, name) if with_anchors else None
        if anchor is not None:
            row |= {"published": anchor.programs, "people": anchor.people, "source": anchor.source}
        written[name] = row
    return written


def _number(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None


def from_json(data: Mapping[str, object]) -> Report:
    """Read the figures of :func:`to_json` back, for the tables of cards."""

    def figures(raw: object) -> dict[str, Figure]:
        assert isinstance(raw, Mapping)
        return {
            name: Figure(*(_float(row[key]) for key in ("value", "low", "high")))
            for name, row in raw.items()
        }

    subgroups = data.get("subgroups") or []
    assert isinstance(subgroups, Sequence)
    return Report(
        str(data["task"]),
        int(str(data["films"])),
        int(str(data["patients"])),
        str(data["rule"]),
        figures(data["figures"]),
        str(data.get("origin", "real")),
        tuple(
            Subgroup(
                str(sub["by"]),
                str(sub["value"]),
                int(sub["films"]),
                int(sub["patients"]),
                figures(sub["figures"]),
            )
            for sub in subgroups
        ),
    )


def _float(value: object) -> float:
    return float("nan") if value is None else float(str(value))


def dumps(data: Mapping[str, object]) -> str:
    """Write JSON as our files have it."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
