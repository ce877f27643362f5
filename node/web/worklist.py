"""The reader's queue: who is in the chair, then today's schedule, then the longest waiting."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Literal

import sqlalchemy as sa

from node.db.session import read
from node.db.tables import (
    analysis_run,
    finding,
    instance,
    operation,
    patient_identity,
    pms_command,
    review,
    study,
    study_identity,
    study_reading,
    user_account,
)
from node.dicom import burned_in
from node.domain.findings import FindingKind
from node.domain.reading import StudyReading
from node.domain.rights import Right
from node.domain.study import NOT_SHOWN, InstanceState, MatchState, StudyState
from node.rollout.showing import ShownRun, StudyShowing, places_of, read_showing
from node.web.accounts import Session
from node.web.auth import Web
from node.web.facts import SUGGESTED, Facts, Row, is_decision, pms_header, sender_header
from node.web.preferences import preferences_in
from node.web.sensitivity import Stop, stop_of
from node.web.shapes import (
    PatientHeader,
    Progress,
    ShownState,
    Urgency,
    WorkCounts,
    Worklist,
    WorkProblem,
    WorkRow,
)
from node.web.studies import label, last_seq
from node.web.visits import Visit, visits_of

Filter = Literal["to_review", "today", "signed_today", "all", "problems"]

#: The open studies and the recent signed ones; older work is found by searching, not scrolling.
_MOST_OPEN = 500
_MOST_SIGNED = 100
_DOUBTFUL = {
    MatchState.AMBIGUOUS.value: "ambiguous",
    MatchState.UNMATCHED.value: "unmatched",
    MatchState.SUGGESTED.value: "suggested",
}
_URGENCY = {"prompt": 0, "soon": 1, "routine": 2}
_PARTLY = "the roll-out keeps part of this study's suggestions silent"
_MATCH_WORDS = {
    MatchState.AMBIGUOUS.value: "It may be one of several patients.",
    MatchState.UNMATCHED.value: "No patient of the practice fits.",
    MatchState.SUGGESTED.value: "A likely patient must be confirmed.",
}


def compose_worklist(web: Web, session: Session, chosen: Filter) -> Worklist:
    """Compose the queue for one person."""
    now = datetime.now(UTC)
    with read(web.db) as conn:
        book = _Book.read(conn, web, session, now)
        seq = last_seq(conn, web.location_id)
    rows = [book.row(listed) for listed in book.studies]
    kept = {name: [row for row in rows if keeps(row)] for name, keeps in _keepers(book).items()}
    return Worklist(
        filter=chosen,
        rows=tuple(sorted(kept[chosen], key=_order)),
        counts=WorkCounts(
            to_review=len(kept["to_review"]),
            today=len(kept["today"]),
            signed_today=len(kept["signed_today"]),
            all=len(kept["all"]),
            problems=len(kept["problems"]),
        ),
        generated_at=now,
        last_seq=seq,
    )


def _keepers(book: _Book) -> dict[Filter, Callable[[WorkRow], bool]]:
    return {
        "to_review": lambda row: row.state is not ShownState.SIGNED,
        "today": lambda row: row.scheduled_at is not None,
        "signed_today": lambda row: row.id in book.signed_today,
        "all": lambda row: True,
        "problems": lambda row: bool(row.problems),
    }


def _order(row: WorkRow) -> tuple[bool, bool, int, bool, datetime]:
    """Open before signed; in the chair; urgent where asked for; on today's schedule; waiting."""
    return (
        row.state is ShownState.SIGNED,
        not row.is_in_chair,
        _URGENCY.get(row.urgency.level if row.urgency else "", len(_URGENCY)),
        row.scheduled_at is None,
        row.scheduled_at or row.received_at,
    )


@dataclass(frozen=True, slots=True)
class _Book:
    """Everything that the rows are made of, read in a few queries."""

    now: datetime
    session: Session
    may_see_ai: bool
    showings: Mapping[str, StudyShowing]
    studies: Sequence[Row]
    images: Mapping[str, list[Row]]
    runs: Mapping[str, dict[str, ShownRun]]
    undecided: Mapping[str, list[tuple[str, Stop]]]  # class letter and stop of each
    reviewers: Mapping[str, str]
    headers: Mapping[str, PatientHeader]
    visits: Mapping[str, Visit]
    urgencies: Mapping[str, Urgency]
    failed_writes: Mapping[str, list[Row]]
    lettered: Mapping[str, str]  # images that some destination waits for, and why they are held
    rejected: Mapping[str, list[str]]  # why images of a study are not shown any more
    signed_today: frozenset[str]

    @classmethod
    def read(cls, conn: sa.Connection, web: Web, session: Session, now: datetime) -> _Book:
        """Read the open studies and the signed ones of late, with all that belongs to them."""
        studies = _studies(conn, web.location_id)
        ids = [row.id for row in studies]
        showing = read_showing(conn, web.config)
        showings = {i: showing.at(place) for i, place in places_of(conn, ids).items()}
        may_see_ai = session.may(Right.FINDINGS_SEE_UNSIGNED)
        shown = {i: each for i, each in showings.items() if may_see_ai and each.is_any}
        day = now.astimezone(web.config.zone).date()
        midnight = datetime.combine(day, time(), web.config.zone)
        headers = _headers(conn, studies, day) if session.may(Right.PATIENTS_SEE) else {}
        return cls(
            now=now,
            session=session,
            may_see_ai=may_see_ai,
            showings=showings,
            studies=studies,
            images=_images(conn, ids),
            runs=_runs(conn, shown),
            undecided=_undecided(conn, shown),
            reviewers=_reviewers(conn, ids),
            headers=headers,
            visits=visits_of(conn, studies, midnight, now),
            urgencies=_urgencies(conn, shown) if _asks_urgency(conn, session) else {},
            failed_writes=_failed_writes(conn, ids),
            lettered=_lettered(conn, web, ids),
            rejected=_rejected(conn, ids),
            signed_today=_signed_since(conn, ids, midnight),
        )

    def row(self, listed: Row) -> WorkRow:
        """Make one row."""
        images = self.images.get(listed.id, [])
        shows_ai = self.may_see_ai and self.showings[listed.id].is_any
        runs = self.runs.get(listed.id, {})
        facts = Facts(
            study=listed,
            images=images,
            findings=(),
            runs=runs,
            seen=frozenset(),
            seen_bare=frozenset(),
            is_touched=listed.id in self.reviewers,
            sees_ai=shows_ai,
            showing=self.showings[listed.id],
        )
        state = facts.shown_state
        undecided = self.undecided.get(listed.id, [])
        letters = Counter(letter for letter, stop in undecided if stop != "wide")
        visit = self.visits.get(listed.id)
        is_reviewed = state in (ShownState.IN_REVIEW, ShownState.AMENDING)
        return WorkRow(
            id=listed.id,
            patient=self.headers.get(listed.id),
            label=label((image.modality for image in images), runs.values()),
            images=len(images),
            study_date=listed.study_date,
            received_at=listed.received_at,
            waiting_s=max(0, int((self.now - listed.last_image_at).total_seconds())),
            scheduled_at=visit.start_at if visit else None,
            is_in_chair=visit.holds(self.now) if visit else False,
            operatory=visit.operatory if visit else "",
            urgency=self.urgencies.get(listed.id),
            state=state,
            reviewer=self.reviewers[listed.id] if is_reviewed else None,
            progress=Progress(done=len(images) - len(facts.waiting), total=len(images)),
            suggestions=dict(sorted(letters.items())) if shows_ai else None,
            undecided=len(undecided) if shows_ai else None,
            match_state=listed.match_state,
            problems=tuple(self._problems(listed, images)),
        )

    def _problems(self, listed: Row, images: Sequence[Row]) -> list[WorkProblem]:
        found: list[WorkProblem] = []
        if listed.match_state in _DOUBTFUL and listed.state != StudyState.RECEIVING.value:
            words = _sentence(listed.match_reason) or _MATCH_WORDS[listed.match_state]
            kind = _DOUBTFUL[listed.match_state]
            found.append(WorkProblem.model_validate({"kind": kind, "words": words}))
        for image in images:
            if image.state in (InstanceState.FAILED.value, InstanceState.UNREADABLE.value):
                found.append(
                    WorkProblem(
                        kind=image.state,
                        words=_sentence(image.failure) or "The image could not be read.",
                        instance_id=image.id,
                    )
                )
            if image.id in self.lettered:
                words = f"{_sentence(self.lettered[image.id])} It leaves only when you let it."
                found.append(WorkProblem(kind="lettering", words=words, instance_id=image.id))
        for reason, count in sorted(Counter(self.rejected.get(listed.id, ())).items()):
            images_are = "1 image was" if count == 1 else f"{count} images were"
            words = f"{images_are} withdrawn by the sender ({reason})."
            found.append(WorkProblem(kind="rejected", words=words))
        for command in self.failed_writes.get(listed.id, ()):
            words = _sentence(command.error) or "The practice system did not take a write."
            found.append(WorkProblem(kind="write_failed", words=words, receipt_id=command.id))
        return found


def _sentence(reason: str) -> str:
    """Write a stored reason as a sentence."""
    text = reason.strip()
    return text and f"{text[0].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def _studies(conn: sa.Connection, location_id: str) -> list[Row]:
    is_signed = study.c.state == StudyState.SIGNED.value
    here = sa.select(study).where(
        study.c.location_id == location_id,
        sa.not_(study.c.is_prior),  # fetched for comparison; nobody is asked to sign it
    )
    of_study = sa.exists().where(instance.c.study_id == study.c.id)
    is_withdrawn = sa.and_(  # every image of it, by its sender
        of_study.where(instance.c.state == InstanceState.REJECTED.value),
        sa.not_(of_study.where(instance.c.state.not_in(NOT_SHOWN))),
    )
    still_open = here.where(sa.not_(is_signed), sa.not_(is_withdrawn)).order_by(study.c.received_at)
    signed = here.where(is_signed).order_by(study.c.last_image_at.desc())
    return [
        *conn.execute(still_open.limit(_MOST_OPEN)),
        *conn.execute(signed.limit(_MOST_SIGNED)),
    ]


def _lettered(conn: sa.Connection, web: Web, ids: Sequence[str]) -> dict[str, str]:
    """Find the images that would leave if their pixels were sure to name nobody."""
    leaves = any(peer.is_outside for peer in web.config.dicom.peers)
    if not leaves and not web.config.analysis.training_export:
        return {}
    images = conn.execute(sa.select(instance.c.id).where(instance.c.study_id.in_(ids))).scalars()
    return burned_in.unreleased(conn, list(images))


def _rejected(conn: sa.Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for row in conn.execute(
        sa.select(instance.c.study_id, instance.c.failure).where(
            instance.c.study_id.in_(ids), instance.c.state == InstanceState.REJECTED.value
        )
    ):
        found[row.study_id].append(row.failure)
    return found


def _images(conn: sa.Connection, ids: Sequence[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    query = sa.select(
        instance.c.id,
        instance.c.study_id,
        instance.c.state,
        instance.c.failure,
        instance.c.modality,
    )
    for row in conn.execute(
        query.where(instance.c.study_id.in_(ids), instance.c.state.not_in(NOT_SHOWN))
    ):
        found[row.study_id].append(row)
    return found


def _runs(
    conn: sa.Connection, showings: Mapping[str, StudyShowing]
) -> dict[str, dict[str, ShownRun]]:
    found: dict[str, dict[str, ShownRun]] = defaultdict(dict)
    for row in conn.execute(
        sa.select(
            instance.c.study_id,
            analysis_run.c.instance_id,
            analysis_run.c.view,
            analysis_run.c.models,
        )
        .join(instance, instance.c.id == analysis_run.c.instance_id)
        .where(instance.c.study_id.in_(list(showings)))
        .order_by(analysis_run.c.finished_at)
    ):
        found[row.study_id][row.instance_id] = showings[row.study_id].brief(row.view, row.models)
    return found


def _undecided(
    conn: sa.Connection, showings: Mapping[str, StudyShowing]
) -> dict[str, list[tuple[str, Stop]]]:
    waits = sa.and_(
        finding.c.study_id.in_(list(showings)),
        finding.c.state == SUGGESTED,
        sa.not_(finding.c.is_removed),
    )
    runs = {
        run.id: run
        for run in conn.execute(
            sa.select(
                analysis_run.c.id, analysis_run.c.operating_points, analysis_run.c.view
            ).where(analysis_run.c.id.in_(sa.select(finding.c.run_id).where(waits)))
        )
    }
    found: dict[str, list[tuple[str, Stop]]] = defaultdict(list)
    for row in conn.execute(
        sa.select(
            finding.c.study_id,
            finding.c.origin,
            finding.c.state,
            finding.c.kind,
            finding.c.model,
            finding.c.probability,
            finding.c.run_id,
        ).where(waits)
    ):
        run = runs.get(row.run_id)
        if not showings[row.study_id].keeps(row, run.view if run else None):
            continue
        stop = stop_of(row.kind, row.probability, run.operating_points if run else None)
        found[row.study_id].append((FindingKind(row.kind).letter, stop))
    return found


def _reviewers(conn: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    """Who worked last on each study."""
    last = sa.func.max(operation.c.at)
    rows = conn.execute(
        sa.select(operation.c.study_id, user_account.c.display_name)
        .join(user_account, user_account.c.id == operation.c.user_id)
        .where(operation.c.study_id.in_(ids), is_decision())
        .group_by(operation.c.study_id, user_account.c.display_name)
        .order_by(last)
    )
    return {row.study_id: row.display_name for row in rows}


def _headers(conn: sa.Connection, studies: Sequence[Row], day: date) -> dict[str, PatientHeader]:
    linked = {
        row.id: row.patient_id
        for row in studies
        if row.patient_id and MatchState(row.match_state).is_certain
    }
    known = {
        row.patient_id: row
        for row in conn.execute(
            sa.select(patient_identity).where(
                patient_identity.c.patient_id.in_(sorted(set(linked.values())))
            )
        )
    }
    others = [row.id for row in studies if row.id not in linked]
    sent = conn.execute(sa.select(study_identity).where(study_identity.c.study_id.in_(others)))
    headers = {row.study_id: sender_header(row, day) for row in sent}
    headers |= {
        study_id: pms_header(known[patient_id], day)
        for study_id, patient_id in linked.items()
        if patient_id in known
    }
    return {study_id: header for study_id, header in headers.items() if header is not None}


def _asks_urgency(conn: sa.Connection, session: Session) -> bool:
    return preferences_in(conn, session.user_id).sorts_by_urgency


def _with_unread_models(
    conn: sa.Connection, showings: Mapping[str, StudyShowing]
) -> frozenset[str]:
    """Name the studies that a network read which nobody has acknowledged."""
    return frozenset(
        study_id
        for study_id, runs in _runs(conn, showings).items()
        for run in runs.values()
        if not all(showings[study_id].is_acknowledged(model) for model in run.models)
    )


def _urgencies(conn: sa.Connection, showings: Mapping[str, StudyShowing]) -> dict[str, Urgency]:
    """What the stored readings say; a study that is partly silent says only that it is.

    They were made of all findings, so an urgency would tell of silent ones; the words rest on the
    rules and the installed networks alone.
    """
    unread = _with_unread_models(conn, showings)
    whole = [i for i, showing in showings.items() if showing.is_all and i not in unread]
    found = {
        study_id: Urgency(level="unknown", reasons=(_PARTLY,))
        for study_id, showing in showings.items()
        if study_id not in whole and showing.is_any
    }
    for row in conn.execute(
        sa.select(study_reading.c.study_id, study_reading.c.content).where(
            study_reading.c.study_id.in_(whole)
        )
    ):
        priority = StudyReading.from_json(row.content).conclusions.priority
        found[row.study_id] = Urgency.model_validate(
            {"level": priority.urgency.value, "reasons": priority.reasons}
        )
    return found


def _failed_writes(conn: sa.Connection, ids: Sequence[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in conn.execute(
        sa.select(pms_command.c.id, pms_command.c.study_id, pms_command.c.error)
        .where(pms_command.c.study_id.in_(ids), pms_command.c.state == "failed")
        .order_by(pms_command.c.created_at, pms_command.c.id)
    ):
        found[row.study_id].append(row)
    return found


def _signed_since(conn: sa.Connection, ids: Sequence[str], midnight: datetime) -> frozenset[str]:
    query = sa.select(review.c.study_id).where(
        review.c.study_id.in_(ids), review.c.signed_at >= midnight
    )
    return frozenset(conn.execute(query).scalars())
