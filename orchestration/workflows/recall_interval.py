"""A recall interval that fits the patient's risk is proposed to a clinician, never set silently.

Started by: a signed review, once per recall of its patient and version of the review. Approved by:
whoever may adjust recalls (hygienist, dentist), who sees the reasons and may change the interval
within the bounds. Writes: the recall's interval, if the chart still has the one it was proposed
for. Calls: nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from node.config import Config
from node.domain.events import EventKind
from node.domain.rights import Right, Role
from node.errors import InvalidInput
from orchestration.access import Chart
from orchestration.case import Case
from orchestration.recall.due import Interval, Track, read_recall
from orchestration.recall.facts import READS, Facts, look, types_of
from orchestration.recall.risk import bounds
from orchestration.workflow import Draft, Happened, Outcome, Start, Workflow, ask, done
from pms_writeback.commands import ChangeRecall
from pms_writeback.records import RecordKind

NAME = "recall_interval"
#: A proposal that nobody took up by then has been overtaken by the next visit.
_PATIENCE = timedelta(days=21)


def make(config: Config) -> Workflow:
    """Make the workflow."""
    flow = Workflow(
        name=NAME,
        title="Recall interval",
        reads=READS,
        writes=frozenset({ChangeRecall}),
    )

    @flow.stage
    def propose(case: Case) -> Outcome:
        facts = _facts(case)
        months = facts.assessment.months
        if facts.recall is None or facts.recall.is_disabled or months is None:
            return done("fits")
        case.data["expected"] = facts.recall.interval_text
        return ask(
            "change_interval",
            title="Another recall interval is proposed",
            draft={
                "recall_key": facts.recall.key,
                "track": facts.track.value,
                "age": facts.age,
                "present": facts.recall.interval_text,
                "interval": interval_text(months, facts.track),
                "risk": facts.risk.value,
                "reasons": list(facts.assessment.reasons),
            },
            right=Right.RECALLS_ADJUST,
            then=decided,
            timeout=_PATIENCE,
            escalate_to=Role.HYGIENIST,
            late=expired,
        )

    @flow.stage
    def decided(case: Case) -> Outcome:
        decision = case.decision
        if decision is None or not decision.is_approved:
            return done("refused")
        facts = _facts(case)
        if facts.recall is None or facts.recall.interval_text != case.data["expected"]:
            return done("changed meanwhile")
        if config.pms.kind == "none":
            return done("approved")
        interval = str(decision.draft["interval"])
        words = f"Interval {interval} after {facts.recall.interval_text}, decided by a clinician."
        case.queue(
            "interval",
            ChangeRecall(
                patient_key=case.chart.pms_key(),
                recall_key=facts.recall.key,
                expected_interval=facts.recall.interval_text,
                interval=interval,
                text=words,
                ref=case.ref("interval"),
            ),
        )
        return done("changed")

    @flow.stage
    def expired(case: Case) -> Outcome:
        return done("not taken up")

    @flow.check_draft("change_interval")
    def check(draft: Draft) -> None:
        check_interval(draft)

    @flow.on(EventKind.REVIEW_SIGNED)
    def signed(chart: Chart, event: Happened) -> Iterable[Start]:
        patient_id = chart.patient_of_study(event.subject)
        if patient_id is None:
            return []
        types = types_of(chart)
        recalls = [read_recall(each) for each in chart.records(RecordKind.RECALL, patient_id)]
        return [
            Start(f"{event.seq}:{each.key}", patient_id, {"recall_key": each.key})
            for each in recalls
            if each.type_key in types
            and types[each.type_key].track in (Track.PROPHY, Track.PERIO)
            and not each.is_disabled
        ]

    return flow


def interval_text(months: int, track: Track) -> str:
    """Write an interval as the PMS does; a day more where plans count six months exactly."""
    return f"{months}m1d" if track is Track.PROPHY else f"{months}m"


def check_interval(draft: Draft) -> None:
    """Refuse an edited interval that is none or out of its bounds. Raises InvalidInput."""
    text = str(draft.get("interval", ""))
    interval = Interval.parse(text)
    if interval is None or not re.fullmatch(r"\d+m(1d)?", text):
        raise InvalidInput("an interval is written in months, such as 6m1d")
    age = draft.get("age")
    low, high = bounds(age if isinstance(age, int) else None, Track(str(draft.get("track"))))
    if not low <= interval.months <= high:
        raise InvalidInput(f"this interval is between {low} and {high} months")


def _facts(case: Case) -> Facts:
    assert case.patient_id is not None
    return look(case.chart, case.patient_id, str(case.data["recall_key"]), 0)
