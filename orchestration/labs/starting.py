"""What begins a lab case: a plan marked ready for the laboratory, or a preparation completed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import cast

from node.config import Config
from orchestration.access import Chart
from orchestration.case import Case
from orchestration.labs.callbacks import update_to_json
from orchestration.labs.chart import patient_procedures
from orchestration.labs.directory import Directory
from orchestration.labs.partner import LabUpdate
from orchestration.labs.procedures import (
    COMPLETED,
    PLANNED,
    ChartProcedure,
    case_number,
    group_of,
    read_procedure,
)
from orchestration.workflow import Draft, Start
from pms_writeback.records import RecordKind

Wanted = Callable[[ChartProcedure], bool]


def by_procedures(
    chart: Chart, config: Config, directory: Directory, keys: Sequence[str]
) -> Iterator[Start]:
    """Begin cases for procedures among `keys` that were completed lately."""
    oldest = chart.today - timedelta(days=config.labs.prep_within_days)

    def is_ready(procedure: ChartProcedure) -> bool:
        return (
            procedure.status == COMPLETED
            and procedure.cdt_code in directory.starts_with
            and procedure.day is not None
            and oldest <= procedure.day <= chart.today
        )

    yield from _starts(chart, directory, set(keys), is_ready)


def by_plans(
    chart: Chart, config: Config, directory: Directory, keys: Sequence[str]
) -> Iterator[Start]:
    """Begin cases for planned procedures whose priority among `keys` says that they are ready."""
    wanted, word = set(keys), config.labs.ready_priority.strip().casefold()
    if not word:
        return
    ready = {
        str(record.values.get("procedure_key"))
        for record in chart.records(RecordKind.TREATMENT_PLAN_PROCEDURE)
        if record.key in wanted
        and str(record.values.get("priority") or "").strip().casefold() == word
    }

    def is_ready(procedure: ChartProcedure) -> bool:
        return procedure.status == PLANNED and procedure.cdt_code in directory.codes

    yield from _starts(chart, directory, ready, is_ready)


def fields_of(case: Case, update: LabUpdate) -> dict[str, object]:
    """Give a polled word as a called one comes: with the laboratory that said it."""
    return {**update_to_json(update), "lab": case.data["lab"]}


def _starts(
    chart: Chart, directory: Directory, keys: set[str], is_ready: Wanted
) -> Iterator[Start]:
    if not keys or not directory.labs:
        return
    owners = {
        record.patient_key
        for record in chart.records(RecordKind.PROCEDURE)
        if record.key in keys and is_ready(read_procedure(record))
    }
    for owner in sorted(owners):
        patient_id = chart.patient_of(owner)
        if patient_id is None:
            continue
        mine = [
            procedure
            for procedure in patient_procedures(chart, patient_id)
            if procedure.cdt_code in directory.codes and procedure.status in (PLANNED, COMPLETED)
        ]
        names = {group_of(p, directory.codes) for p in mine if p.key in keys and is_ready(p)}
        for name in sorted(names):
            group = [p for p in mine if group_of(p, directory.codes) == name]
            data = cast("Draft", {"procedures": [p.key for p in group]})
            yield Start(case_number(chart.location_id, owner, name), patient_id, data)
