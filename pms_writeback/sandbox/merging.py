"""Merging two patients, as only a user of the program can."""

from __future__ import annotations

from collections.abc import Iterator

from pms_writeback.sandbox.store import Chart, Row
from pms_writeback.sandbox.tables import KEYS, TABLES
from pms_writeback.sandbox.wire import Refusal

MERGE = 1
"""The type of a merge in ``patientlink``."""

_PATIENT_KEYS = ("PatNum", "Guarantor", "Subscriber")


def merge_patients(chart: Chart, source: int, target: int) -> None:
    """Move everything of `source` to `target`; `source` stays as a deleted patient with a link."""
    people = [chart.get("patients", key) for key in (source, target)]
    if source == target or any(row is None or row["PatStatus"] == "Deleted" for row in people):
        raise Refusal(400, "Choose two different patients that are not deleted.")
    for resource, key, values in [*_moves(chart, source, target)]:
        chart.change(resource, key, values)
    chart.change("patients", source, {"PatStatus": "Deleted"})
    chart.link_patients(source, target, MERGE)


def _moves(chart: Chart, source: int, target: int) -> Iterator[tuple[str, int, Row]]:
    """Give each row that names the patient, with what changes in it."""
    for resource, primary in KEYS.items():
        columns = TABLES[resource].c
        for name in _PATIENT_KEYS:
            if name in columns and name != primary:
                for row in chart.select(resource, columns[name] == source):
                    yield resource, int(row[primary]), {name: target}
    tasks = TABLES["tasks"].c
    for row in chart.select("tasks", tasks.KeyNum == source, tasks.ObjectType == "Patient"):
        yield "tasks", int(row["TaskNum"]), {"KeyNum": target}
