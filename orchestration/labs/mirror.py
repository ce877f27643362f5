"""What a lab case leaves in the practice's system: its lab case with stages, log entries, tasks."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal, cast

from orchestration.access import Chart
from orchestration.case import Case
from orchestration.labs.desk import LabDesk, keep_standing, round_of, rx_of, standing_of
from orchestration.labs.source import case_key
from orchestration.labs.states import LabState, Standing, may_follow
from orchestration.labs.validation import ValidationResult
from orchestration.workflow import Draft, Json, Signal
from pms_writeback.commands import (
    AdvanceLabCase,
    AnnotateAppointment,
    AppendCommlog,
    CreateLabCase,
    CreateTask,
    carries,
)
from pms_writeback.records import PmsRecord, RecordKind

PmsStage = Literal["sent", "received", "checked"]
_CASE = re.compile(r"\bLC-[0-9a-f]{12}(-R\d+)?\b")
#: What a person set in the PMS, and the state it means here.
_SEEN = (("received_at", LabState.RECEIVED), ("checked_at", LabState.CHECKED))


def task(case: Case, name: str, words: str) -> None:
    """Ask somebody by a task in the PMS, once per name."""
    if _may_write(case):
        case.queue(name, CreateTask(case.chart.pms_key(), words, case.ref(name)))


def log(case: Case, name: str, words: str) -> None:
    """Put an entry into the patient's communication log, once per name."""
    if _may_write(case):
        key, ref = case.chart.pms_key(), case.ref(name)
        case.queue(name, AppendCommlog(key, words, case.clock(), ref))


def annotate(case: Case, name: str, appointment_key: str, words: str) -> None:
    """Add a line to a visit's note, once per name."""
    if appointment_key and _may_write(case):
        pms_key, ref = case.chart.pms_key(), case.ref(name)
        case.queue(name, AnnotateAppointment(pms_key, appointment_key, words, ref))


def ask_for_missing(case: Case, result: ValidationResult) -> None:
    """Put what is missing into a task, once for the same list; the words name fields, no values."""
    fields = sorted({check.field for check in result.failed})
    digest = hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]
    listed = ", ".join(fields)[:400]
    number = rx_of(case).case_number
    words = f"Lab prescription {number} needs: {listed}. See the lab cases page."
    task(case, f"missing:{round_of(case)}:{digest}", words)


def open_case(case: Case, desk: LabDesk) -> None:
    """Open the PMS's lab case for a package that was sent; else ask somebody to do it."""
    rx, number = rx_of(case), round_of(case)
    lab, name = desk.laboratory_key(case), f"lab-case:{number}"
    case.data["seat"] = {
        "key": rx.seat_appointment_key,
        "at": rx.seat_at.isoformat() if rx.seat_at else "",
    }
    words = _words(case, desk)
    if not _may_write(case):
        return
    if lab and rx.dentist.provider_key and rx.due_at is not None:
        command = CreateLabCase(
            case.chart.pms_key(), lab, rx.dentist.provider_key, rx.seat_appointment_key, rx.due_at,
            words, case.ref(name),
        )  # fmt: skip
        case.queue(name, command)
        stage(case, "sent")
    else:
        reason = "laboratory or provider unknown here"
        task(case, f"no-lab-case:{number}", f"Please open a lab case: {words} ({reason})")
    log(case, f"sent:{number}", f"Sent to the laboratory. {words}")


def stage(case: Case, name: PmsStage) -> None:
    """Note a stage that the PMS's lab case is still to get."""
    waiting = cast("list[Json]", case.data.get("pms_stages", []))
    entry: Json = {"stage": name, "at": case.clock().isoformat(), "round": round_of(case)}
    case.data["pms_stages"] = [*waiting, entry]
    advance(case)


def advance(case: Case) -> None:
    """Set the stages that wait, once the PMS's lab case is known to us."""
    waiting = cast("list[Mapping[str, Json]]", case.data.get("pms_stages", []))
    if not waiting or not _may_write(case):
        return
    kept: list[Json] = []
    for entry in waiting:
        number, name = int(str(entry["round"])), cast("PmsStage", entry["stage"])
        record = _record(case, number)
        if record is None:
            kept.append(dict(entry))
        elif not record.values.get(f"{name}_at"):
            key = f"advance:{number}:{name}"
            at = datetime.fromisoformat(str(entry["at"]))
            command = AdvanceLabCase(case.chart.pms_key(), record.key, name, at, case.ref(key))
            case.queue(key, command)
    case.data["pms_stages"] = kept


def follow_pms(case: Case) -> None:
    """Take over what a person set in the PMS's lab case."""
    record = _record(case, round_of(case))
    if record is None:
        return
    for name, state in _SEEN:
        at = record.values.get(name)
        standing = standing_of(case)
        if at and may_follow(standing.state, state):
            reached = datetime.fromisoformat(str(at))
            keep_standing(case, replace(standing, state=state, at=reached))
            case.note(seen_in_pms=state.value)


def note_state(case: Case, standing: Standing) -> None:
    """Put a state of the laboratory into the log."""
    tracking = f" Tracking {standing.carrier} {standing.tracking}." if standing.tracking else ""
    words = standing.state.value.replace("_", " ")
    log(case, f"state:{round_of(case)}:{standing.state.value}",
        f"Lab case {rx_of(case).case_number}: {words}.{tracking}")  # fmt: skip


def alert_front_desk(case: Case, standing: Standing) -> None:
    """Tell the front desk at once that work was shipped."""
    parcel = f"{standing.carrier or 'carrier'} {standing.tracking or 'without number'}"
    words = f"Front desk: lab work for this patient was shipped ({parcel})."
    task(case, f"shipped:{round_of(case)}", words)


def signals(chart: Chart, keys: Sequence[str]) -> Iterator[Signal]:
    """Tell cases that their lab case in the PMS changed."""
    wanted = set(keys)
    for record in chart.records(RecordKind.LAB_CASE):
        found = _CASE.search(str(record.values.get("instructions") or ""))
        if record.key not in wanted or found is None:
            continue
        told: Draft = {name: str(record.values.get(name) or "") for name, _ in _SEEN}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
        yield Signal(case_key(found[0]), "pms", f"pms:{record.key}:{digest}", told)


def _record(case: Case, number: int) -> PmsRecord | None:
    ref = case.ref(f"lab-case:{number}")
    found = (
        record
        for record in case.records(RecordKind.LAB_CASE)
        if carries(str(record.values.get("instructions") or ""), ref)
    )
    return next(found, None)


def _words(case: Case, desk: LabDesk) -> str:
    rx = rx_of(case)
    teeth = ", ".join(f"#{tooth.universal}" for tooth in rx.teeth)
    label = desk.directory.book.restorations[rx.restoration].label
    material = desk.directory.book.label(rx.material)
    again = f" Remake of {rx.remake.original_case}." if rx.remake else ""
    return f"Case {rx.case_number}: {label} {teeth} {material} {rx.shade.value}.{again}".replace(
        "  ", " "
    )


def _may_write(case: Case) -> bool:
    return not case.is_silent and case.patient_id is not None and (
        case.chart.config.pms.kind != "none"
    )  # fmt: skip
