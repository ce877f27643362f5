"""The recall sweep: whom to start reminding today, and who has booked meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import sqlalchemy as sa

from node.config import Config
from node.db.session import read
from node.db.tables import appointment, case_signal, message_reply, patient, workflow_case
from orchestration.access import Chart
from orchestration.cases import OPEN
from orchestration.recall import due
from orchestration.recall.capacity import allowance, open_visits
from orchestration.recall.due import Due
from orchestration.recall.facts import booked_on, types_of
from orchestration.recall.replies import Meaning
from orchestration.recall.risk import Risk
from orchestration.recall.segments import Segment, segment_of
from orchestration.workflow import Signal, Start
from pms_writeback.pms import AppointmentStatus, PatientStatus
from pms_writeback.records import PmsRecord, RecordKind

#: The stored name of the workflow.
RECALL = "recall"
#: Answers that somebody should read.
_FOR_A_PERSON = (Meaning.YES, Meaning.BOOK, Meaning.UNCLEAR)
#: How long the sweep may have been off without an answer being overlooked.
_LATE = timedelta(days=14)
_OPEN = [state.value for state in OPEN]


def starts(chart: Chart, config: Config) -> Iterator[Start]:
    """Give the cases to start today, the most urgent first, as many as there is room for.

    The chart's own due days are used; a case looks closer when it starts.
    """
    keys = _case_keys(chart, RECALL)
    with read(chart.db) as conn:
        room = open_visits(conn, config, chart.now)
    outstanding = sum(is_open for is_open in keys.values())
    section = config.recall
    left = allowance(room, outstanding, section.booking_rate, section.most_a_day)
    # by the recall, not by the patient: who was merged since has the same recall
    known = {key.partition(":")[2] for key in keys}
    busy = {key.split(":")[1] for key, is_open in keys.items() if is_open}
    for segment, patient_id, each in _due(chart, config):
        if left == 0:
            return
        name = f"{each.recall_key}:{each.due_on.isoformat()}"
        if segment is Segment.LAPSED or name in known or each.recall_key in busy:
            continue
        left -= 1
        yield Start(f"{patient_id}:{name}", patient_id, {"recall_key": each.recall_key})


def bookings(chart: Chart) -> Iterator[Signal]:
    """Tell the open cases whose patient has booked; telling twice has no effect."""
    today = chart.today
    with read(chart.db) as conn:
        rows = conn.execute(
            sa.select(workflow_case.c.key, workflow_case.c.patient_id).where(
                workflow_case.c.location_id == chart.location_id,
                workflow_case.c.workflow == RECALL,
                workflow_case.c.state.in_(_OPEN),
            )
        ).all()
    if not rows:
        return
    scheduled = _scheduled(chart, today)
    visitors = _visitors(chart)
    for row in rows:
        recall_key = row.key.split(":")[1]
        day = scheduled.get(recall_key)
        if day is None and row.patient_id in visitors:
            procedures = chart.records(RecordKind.PROCEDURE, row.patient_id)
            day = booked_on(chart, row.patient_id, procedures)
        if day is not None:
            yield Signal(row.key, "booked", f"booked:{recall_key}:{day.isoformat()}")


def late_replies(chart: Chart) -> Iterator[Start]:
    """Give the answers that came when no case listened any more, for a person to read."""
    taken = (
        sa.select(case_signal.c.id)
        .where(case_signal.c.delivery_id == sa.literal("reply:") + message_reply.c.key)
        .exists()
    )
    with read(chart.db) as conn:
        rows = conn.execute(
            sa.select(message_reply.c.key, message_reply.c.patient_id).where(
                message_reply.c.location_id == chart.location_id,
                message_reply.c.patient_id.is_not(None),
                message_reply.c.at >= chart.now - _LATE,
                message_reply.c.meaning.in_([each.value for each in _FOR_A_PERSON]),
                sa.not_(taken),
            )
        ).all()
    for row in rows:
        yield Start(f"reply:{row.key}"[:128], row.patient_id, {"reply": row.key})


def _due(chart: Chart, config: Config) -> list[tuple[Segment, str, Due]]:
    """Judge everybody's recalls by the chart's own days, the most urgent first."""
    types, today = types_of(chart), chart.today
    active = _active_patients(chart)
    by_patient: dict[str, list[PmsRecord]] = {}
    for record in chart.records(RecordKind.RECALL):
        if record.patient_key in active:
            by_patient.setdefault(record.patient_key, []).append(record)
    found = []
    for pms_key, records in by_patient.items():
        recalls = [due.read_recall(each) for each in records]
        wanted, _ = due.judge(recalls, types, (), today=today, days_ahead=config.recall.days_ahead)
        for each in wanted:
            segment = segment_of(each, Risk.UNKNOWN, None, config.recall.given_up_days)
            found.append((segment, active[pms_key], each))
    return sorted(found, key=lambda one: (one[0].rank, one[2].due_on, one[2].recall_key))


def _case_keys(chart: Chart, workflow: str) -> dict[str, bool]:
    """Read the keys of all cases there ever were, and whether each is open."""
    with read(chart.db) as conn:
        rows = conn.execute(
            sa.select(workflow_case.c.key, workflow_case.c.state).where(
                workflow_case.c.location_id == chart.location_id,
                workflow_case.c.workflow == workflow,
            )
        )
        return {row.key: row.state in _OPEN for row in rows}


def _active_patients(chart: Chart) -> dict[str, str]:
    with read(chart.db) as conn:
        rows = conn.execute(
            sa.select(patient.c.pms_key, patient.c.id).where(
                patient.c.location_id == chart.location_id,
                patient.c.status == PatientStatus.ACTIVE.value,
                patient.c.tombstoned_at.is_(None),
            )
        )
        return {row.pms_key: row.id for row in rows}


def _scheduled(chart: Chart, today: date) -> dict[str, date]:
    """Read the recalls for which the chart has a visit, by key."""
    recalls = (due.read_recall(each) for each in chart.records(RecordKind.RECALL))
    return {
        each.key: each.scheduled for each in recalls if each.scheduled and each.scheduled >= today
    }


def _visitors(chart: Chart) -> set[str]:
    with read(chart.db) as conn:
        rows = conn.execute(
            sa.select(appointment.c.patient_id).where(
                appointment.c.location_id == chart.location_id,
                appointment.c.status == AppointmentStatus.SCHEDULED.value,
                appointment.c.start_at >= chart.now,
                appointment.c.tombstoned_at.is_(None),
            )
        )
        return set(rows.scalars())
