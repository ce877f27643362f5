"""What the records say of one patient's recall, gathered for the workflows; nothing is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from orchestration.access import Chart
from orchestration.messengers.contacts import Reached
from orchestration.recall import due, risk
from orchestration.recall.due import Due, Recall, RecallType, Track, Why
from orchestration.recall.risk import Assessment, Risk
from orchestration.workflow import Module
from pms_writeback.records import PmsRecord, RecordKind

#: What `look` reads; a workflow that calls it declares these.
READS: frozenset[RecordKind | Module] = frozenset(
    {RecordKind.RECALL, RecordKind.RECALL_TYPE, RecordKind.PROCEDURE}
    | {RecordKind.PERIO_EXAM, RecordKind.PERIO_MEASURE}
    | {Module.IDENTITY, Module.CONTACT, Module.APPOINTMENTS, Module.REVIEWS}
)
_AHEAD = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Facts:
    """One recall: whether it is to be pursued, or why not; the risk; how the patient is reached."""

    due: Due | None
    why: Why | None
    recall: Recall | None
    track: Track
    assessment: Assessment
    reached: Reached | None

    @property
    def risk(self) -> Risk:
        """The patient's risk."""
        return self.assessment.risk

    @property
    def age(self) -> int | None:
        """The patient's age in years."""
        return None if self.reached is None else self.reached.age


def look(chart: Chart, patient_id: str, recall_key: str, days_ahead: int) -> Facts:
    """Gather one recall's facts as of the chart's day."""
    today = chart.today
    types = types_of(chart)
    recalls = [due.read_recall(each) for each in chart.records(RecordKind.RECALL, patient_id)]
    procedures = chart.records(RecordKind.PROCEDURE, patient_id)
    done = due.completed(procedures, today)
    reached = chart.reached(patient_id)
    wanted, left = due.judge(
        recalls,
        types,
        done,
        today=today,
        days_ahead=days_ahead,
        is_active=reached is not None and reached.is_active,
        booked_on=booked_on(chart, patient_id, procedures),
    )
    mine = next((each for each in recalls if each.key == recall_key), None)
    kind = types.get(mine.type_key) if mine is not None else None
    track = kind.track if kind is not None else Track.OTHER
    evidence = risk.gather(
        chart.reviews(patient_id),
        chart.records(RecordKind.PERIO_EXAM, patient_id),
        chart.records(RecordKind.PERIO_MEASURE, patient_id),
        done,
        chart.person(patient_id).birth_date,
        today,
    )
    interval = None if mine is None else mine.interval or (kind.interval if kind else None)
    return Facts(
        due=next((each for each in wanted if each.recall_key == recall_key), None),
        why=left.get(recall_key, None if mine is not None else Why.NO_DATE),
        recall=mine,
        track=track,
        assessment=risk.assess(evidence, track, interval),
        reached=reached,
    )


def types_of(chart: Chart) -> dict[str, RecallType]:
    """Read the office's types of recall by key."""
    return {each.key: due.read_type(each) for each in chart.office_records(RecordKind.RECALL_TYPE)}


def booked_on(chart: Chart, patient_id: str, procedures: Sequence[PmsRecord]) -> date | None:
    """Find the next scheduled visit that is a recall visit, or whose procedures are not known."""
    codes: dict[str, set[str]] = {}
    for each in procedures:
        visit_key = str(each.values.get("appointment_key") or "")
        codes.setdefault(visit_key, set()).add(str(each.values.get("cdt_code") or ""))
    for visit in chart.visits(chart.now, chart.now + _AHEAD, patient_id):
        planned = codes.get(visit.pms_key)
        if visit.status == "scheduled" and (not planned or planned & due.RECALL_CODES):
            return visit.starts_at.astimezone(chart.zone).date()
    return None
