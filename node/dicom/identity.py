"""Whose images these are: matching a study to a patient and an appointment of the PMS.

A key (accession number, worklist study UID, patient ID) counts only if name and birth date agree.
Name and birth date alone are only a suggestion. Whatever is doubtful waits for a person; until then
nothing at all is written to a chart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import IntEnum
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from node.config import Config
from node.db.session import Actor, Tx, begin
from node.db.tables import appointment, patient, patient_identity, study, study_identity
from node.domain.events import EventKind
from node.domain.study import MatchState, StudyState, dicom_name_key
from node.errors import Conflict, NotFound

_MAX_CANDIDATES = 20


class Key(IntEnum):
    """By what a candidate was found; the strongest first."""

    ACCESSION = 1
    STUDY_UID = 2
    PATIENT_ID = 3
    NAME = 4

    @property
    def words(self) -> str:
        """What a person reads."""
        return _WORDS[self]


_WORDS = {
    Key.ACCESSION: "accession number",
    Key.STUDY_UID: "worklist study UID",
    Key.PATIENT_ID: "patient ID",
    Key.NAME: "name and birth date",
}


@dataclass(frozen=True, slots=True)
class SenderIdentity:
    """Who the sender says it is. ``name_key`` is folded; ``birth_date`` None when not sent."""

    name_key: str
    birth_date: date | None
    patient_id: str = ""
    issuer: str = ""
    accession_number: str = ""
    study_instance_uid: str = ""
    study_day: date | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A patient of the PMS whom one key points to."""

    key: Key
    patient_id: str
    name_key: str
    birth_date: date | None
    pms_key: str
    appointment_id: str | None = None

    def agrees(self, identity: SenderIdentity) -> bool:
        """Whether name and birth date are both known and the same."""
        return (
            _is_name(identity.name_key)
            and self.name_key == identity.name_key
            and identity.birth_date is not None
            and self.birth_date == identity.birth_date
        )


@dataclass(frozen=True, slots=True)
class MatchOutcome:
    """What was decided; ids only where it is certain."""

    state: MatchState
    reason: str
    patient_id: str | None = None
    appointment_id: str | None = None


@dataclass(frozen=True, slots=True)
class PatientCandidate:
    """A patient to offer to a person, and why; names are for the screen only."""

    patient_id: str
    pms_key: str
    family_name: str
    given_name: str
    birth_date: date | None
    sex: str
    reason: str
    appointment_id: str | None
    appointment_at: datetime | None


def decide(candidates: Sequence[Candidate], identity: SenderIdentity) -> MatchOutcome:
    """Decide from what the keys point to. Pure: the whole rule is here.

    One patient whom at least one key names, with whom name and birth date agree, and no key naming
    anybody else: matched. Everything else is for a person.
    """
    if not _is_name(identity.name_key):
        return MatchOutcome(MatchState.UNMATCHED, "the image carries no patient name")
    keyed = sorted((c for c in candidates if c.key is not Key.NAME), key=lambda c: c.key)
    named = {c.patient_id for c in candidates if c.agrees(identity)}
    if keyed:
        return _decide_by_key(keyed, named, identity)
    if identity.birth_date is None:
        return MatchOutcome(MatchState.UNMATCHED, "the image carries no birth date")
    if len(named) > 1:
        return MatchOutcome(
            MatchState.AMBIGUOUS, "more than one patient has this name and birth date"
        )
    if named:
        return MatchOutcome(MatchState.SUGGESTED, _suggestion(candidates, identity))
    return MatchOutcome(MatchState.UNMATCHED, "no patient has this name and birth date")


def _decide_by_key(
    keyed: Sequence[Candidate], named: set[str], identity: SenderIdentity
) -> MatchOutcome:
    people = {c.patient_id for c in keyed}
    words = " and ".join(dict.fromkeys(c.key.words for c in keyed))
    if len(people) > 1:
        return MatchOutcome(MatchState.AMBIGUOUS, f"{words} point to different patients")
    if not keyed[0].agrees(identity):
        if named:
            reason = f"{words} and name with birth date point to different patients"
            return MatchOutcome(MatchState.AMBIGUOUS, reason)
        return MatchOutcome(
            MatchState.AMBIGUOUS, f"{words} is known, {_differs(keyed[0], identity)}"
        )
    visits = {c.appointment_id for c in keyed if c.key is not Key.PATIENT_ID and c.appointment_id}
    if len(visits) > 1:
        return MatchOutcome(MatchState.AMBIGUOUS, f"{words} point to different appointments")
    visit = next(iter(visits), None) or keyed[0].appointment_id
    reason = f"{words}, name and birth date agree"
    return MatchOutcome(MatchState.MATCHED, reason, keyed[0].patient_id, visit)


def _differs(candidate: Candidate, identity: SenderIdentity) -> str:
    if identity.birth_date is None:
        return "but the image carries no birth date"
    wrong = []
    if candidate.name_key != identity.name_key:
        wrong.append("name")
    if candidate.birth_date != identity.birth_date:
        wrong.append("birth date")
    return f"but the {' and '.join(wrong)} {'differ' if len(wrong) > 1 else 'differs'}"


def _suggestion(candidates: Sequence[Candidate], identity: SenderIdentity) -> str:
    visits = {c.appointment_id for c in candidates if c.agrees(identity)} - {None}
    if visits:
        return "name and birth date agree, and there is an appointment that day"
    return "only name and birth date agree"


def match_study(tx: Tx, study_id: str, config: Config) -> MatchOutcome:
    """Match one study of the transaction's location and write down what was decided.

    What a person linked stays, and so does a certain match that was already signed. Running it
    again has no further effect. Raises NotFound when the location has no such study.
    """
    row = _study_row(tx.conn, tx.location_id, study_id, is_locking=True)
    state = MatchState(row.match_state)
    is_signed = row.review_version > 0 or row.state == StudyState.SIGNED.value
    if state is MatchState.LINKED or (state.is_certain and is_signed):
        return MatchOutcome(state, row.match_reason, row.patient_id, row.appointment_id)
    decided = match_identity(tx.conn, tx.location_id, _identity(row), config)
    tx.conn.execute(
        study.update()
        .where(study.c.id == study_id, study.c.location_id == tx.location_id)
        .values(
            match_state=decided.state.value,
            match_reason=decided.reason[:255],
            patient_id=decided.patient_id,
            appointment_id=decided.appointment_id,
        )
    )
    if decided.state is MatchState.MATCHED and row.patient_id != decided.patient_id:
        tx.append_event(
            EventKind.STUDY_MATCHED,
            study_id,
            f"matched:{study_id}:{tx.now.isoformat()}",
            {"match_state": decided.state.value},
        )
    tx.record(study_id, match_state=decided.state.value)
    return decided


def match_identity(
    conn: sa.Connection, location_id: str, identity: SenderIdentity, config: Config
) -> MatchOutcome:
    """Match who somebody is said to be, by the rule of :func:`decide`; nothing is written."""
    own_issuer = config.dicom.issuer_of_patient_id
    return decide(_find(conn, location_id, identity, own_issuer, config.zone), identity)


def candidates(conn: sa.Connection, study_id: str, config: Config) -> tuple[PatientCandidate, ...]:
    """List who it may be, best first: by keys, by name and birth date, then by either alone.

    Raises NotFound when the configuration's location has no such study.
    """
    location_id = config.node.location_id
    identity = _identity(_study_row(conn, location_id, study_id))
    found = _find(conn, location_id, identity, config.dicom.issuer_of_patient_id, config.zone)
    reasons: dict[str, list[str]] = {}
    for candidate in sorted(found, key=lambda c: (not c.agrees(identity), c.key)):
        suffix = "" if candidate.agrees(identity) else f", {_differs(candidate, identity)}"
        reasons.setdefault(candidate.patient_id, []).append(candidate.key.words + suffix)
    for patient_id, words in _similar(conn, location_id, identity):
        reasons.setdefault(patient_id, []).append(words)
    chosen = list(reasons)[:_MAX_CANDIDATES]
    rows = {row.id: row for row in conn.execute(_people(location_id, chosen))}
    visits = _visits(conn, location_id, chosen, identity.study_day, config.zone)
    return tuple(
        PatientCandidate(
            patient_id,
            rows[patient_id].pms_key,
            rows[patient_id].family_name,
            rows[patient_id].given_name,
            rows[patient_id].birth_date,
            rows[patient_id].sex,
            "; ".join(dict.fromkeys(reasons[patient_id])),
            *visits.get(patient_id, (None, None)),
        )
        for patient_id in chosen
        if patient_id in rows
    )


def link_study(db: sa.Engine, actor: Actor, study_id: str, patient_id: str, config: Config) -> None:
    """Link a study to a patient because a person said so; doing it again has no effect.

    Raises
    ------
    NotFound
        This location has no such study or patient.
    Conflict
        The study was already signed for another patient.
    """
    with begin(db, actor, "study.linked") as tx:
        row = _study_row(tx.conn, tx.location_id, study_id, is_locking=True)
        person = tx.conn.execute(_people(tx.location_id, [patient_id])).first()
        if person is None:
            raise NotFound("there is no such patient at this location")
        if row.review_version > 0 and row.patient_id not in (None, patient_id):
            raise Conflict("the study is signed for another patient; it cannot be linked again")
        tx.record(study_id, patient=patient_id, before=row.patient_id)
        if row.match_state == MatchState.LINKED.value and row.patient_id == patient_id:
            return
        day = _identity(row).study_day
        visit = _visits(tx.conn, tx.location_id, [patient_id], day, config.zone).get(patient_id)
        tx.conn.execute(
            study.update()
            .where(study.c.id == study_id)
            .values(
                match_state=MatchState.LINKED.value,
                match_reason="linked by a person",
                patient_id=patient_id,
                appointment_id=visit[0] if visit else None,
            )
        )
        tx.append_event(
            EventKind.STUDY_MATCHED,
            study_id,
            f"linked:{study_id}:{tx.now.isoformat()}",
            {"match_state": MatchState.LINKED.value},
        )


def _study_row(
    conn: sa.Connection, location_id: str, study_id: str, *, is_locking: bool = False
) -> sa.Row[tuple[object, ...]]:
    """Read a study and who it is said to be; locked, a signature at the same time waits for us."""
    query = (
        sa.select(
            study,
            study_identity.c.patient_name,
            study_identity.c.patient_id_text,
            study_identity.c.issuer_of_patient_id,
            study_identity.c.birth_date,
        )
        .join(study_identity, study_identity.c.study_id == study.c.id)
        .where(study.c.id == study_id, study.c.location_id == location_id)
    )
    row = conn.execute(query.with_for_update(of=study) if is_locking else query).first()
    if row is None:
        raise NotFound("there is no such study at this location")
    return row


def _identity(row: sa.Row[tuple[object, ...]]) -> SenderIdentity:
    return SenderIdentity(
        name_key=dicom_name_key(row.patient_name),
        birth_date=read_day(row.birth_date),
        patient_id=row.patient_id_text.strip(),
        issuer=row.issuer_of_patient_id.strip(),
        accession_number=row.accession_number.strip(),
        study_instance_uid=row.study_instance_uid,
        study_day=read_day(row.study_date),
    )


def _find(
    conn: sa.Connection,
    location_id: str,
    identity: SenderIdentity,
    own_issuer: str,
    zone: ZoneInfo,
) -> list[Candidate]:
    found = [
        *_by_appointment(conn, location_id, Key.ACCESSION, identity.accession_number),
        *_by_appointment(conn, location_id, Key.STUDY_UID, identity.study_instance_uid),
        *_by_patient_id(conn, location_id, identity, own_issuer),
        *_by_name(conn, location_id, identity),
    ]
    missing = [c.patient_id for c in found if c.appointment_id is None]
    visits = _visits(conn, location_id, missing, identity.study_day, zone)
    return [_with_visit(candidate, visits.get(candidate.patient_id)) for candidate in found]


def _with_visit(candidate: Candidate, visit: tuple[str, datetime] | None) -> Candidate:
    if candidate.appointment_id is not None or visit is None:
        return candidate
    return Candidate(
        candidate.key,
        candidate.patient_id,
        candidate.name_key,
        candidate.birth_date,
        candidate.pms_key,
        visit[0],
    )


def _by_appointment(
    conn: sa.Connection, location_id: str, key: Key, value: str
) -> Iterable[Candidate]:
    """Follow an accession number or study UID of ours; a cancelled visit still names a patient."""
    if not value:
        return []
    column = (
        appointment.c.accession_number if key is Key.ACCESSION else appointment.c.study_instance_uid
    )
    rows = conn.execute(
        _people(location_id)
        .join(appointment, appointment.c.patient_id == patient.c.id)
        .add_columns(appointment.c.id.label("visit_id"), appointment.c.tombstoned_at.label("gone"))
        .where(appointment.c.location_id == location_id, column == value)
    )
    return [_candidate(key, row, None if row.gone else row.visit_id) for row in rows]


def _by_patient_id(
    conn: sa.Connection, location_id: str, identity: SenderIdentity, own_issuer: str
) -> Iterable[Candidate]:
    """Follow the patient ID, unless another issuer gave it; leading zeros are tolerated.

    The number of somebody merged in the practice's system leads to the patient who remains.
    """
    if not identity.patient_id:
        return []
    if identity.issuer and own_issuer and identity.issuer != own_issuer:
        return []
    known = patient.alias("known")
    remains = sa.select(sa.func.coalesce(known.c.merged_into, known.c.id)).where(
        known.c.location_id == location_id
    )

    def find(is_number: sa.ColumnElement[bool]) -> list[sa.Row[tuple[object, ...]]]:
        query = _people(location_id).where(patient.c.id.in_(remains.where(is_number)))
        return list(conn.execute(query))

    exact = find(known.c.pms_key == identity.patient_id)
    bare = identity.patient_id.lstrip("0")
    if not exact and bare:  # numbers are sealed: each way to write it is looked up
        exact = find(known.c.pms_key.in_([bare.rjust(n, "0") for n in range(len(bare), 65)]))
    return [_candidate(Key.PATIENT_ID, row, None) for row in exact]


def _by_name(
    conn: sa.Connection, location_id: str, identity: SenderIdentity
) -> Iterable[Candidate]:
    if not _is_name(identity.name_key) or identity.birth_date is None:
        return []
    rows = conn.execute(
        _people(location_id).where(
            patient_identity.c.name_key == identity.name_key,
            patient_identity.c.birth_date == identity.birth_date,
        )
    )
    return [_candidate(Key.NAME, row, None) for row in rows]


def _similar(
    conn: sa.Connection, location_id: str, identity: SenderIdentity
) -> Iterable[tuple[str, str]]:
    """Find who shares the name or the birth date; only ever offered to a person."""
    found: list[tuple[str, str]] = []
    if _is_name(identity.name_key):
        same_name = patient_identity.c.name_key == identity.name_key
        rows = conn.execute(_people(location_id).where(same_name).limit(_MAX_CANDIDATES))
        found += [(row.id, "same name") for row in rows]
    if identity.birth_date is not None:
        same_day = patient_identity.c.birth_date == identity.birth_date
        rows = conn.execute(_people(location_id).where(same_day).limit(_MAX_CANDIDATES))
        found += [(row.id, "same birth date") for row in rows]
    return found


def _people(
    location_id: str, patient_ids: Sequence[str] | None = None
) -> sa.Select[tuple[object, ...]]:
    statement = (
        sa.select(
            patient.c.id,
            patient.c.pms_key,
            patient_identity.c.family_name,
            patient_identity.c.given_name,
            patient_identity.c.name_key,
            patient_identity.c.birth_date,
            patient_identity.c.sex,
        )
        .select_from(patient)
        .join(patient_identity, patient_identity.c.patient_id == patient.c.id)
        .where(
            patient.c.location_id == location_id,
            patient_identity.c.location_id == location_id,
            patient.c.tombstoned_at.is_(None),
        )
    )
    return statement if patient_ids is None else statement.where(patient.c.id.in_(patient_ids))


def _visits(
    conn: sa.Connection,
    location_id: str,
    patient_ids: Sequence[str],
    day: date | None,
    zone: ZoneInfo,
) -> dict[str, tuple[str, datetime]]:
    """Find each patient's only appointment on a day of the practice; two are no answer."""
    if day is None or not patient_ids:
        return {}
    start = datetime.combine(day, time(), zone)
    rows = conn.execute(
        sa.select(appointment.c.id, appointment.c.patient_id, appointment.c.start_at).where(
            appointment.c.location_id == location_id,
            appointment.c.patient_id.in_(set(patient_ids)),
            appointment.c.tombstoned_at.is_(None),
            appointment.c.start_at >= start,
            appointment.c.start_at < datetime.combine(day + timedelta(days=1), time(), zone),
        )
    )
    found: dict[str, list[tuple[str, datetime]]] = {}
    for row in rows:
        found.setdefault(row.patient_id, []).append((row.id, row.start_at))
    return {patient_id: visits[0] for patient_id, visits in found.items() if len(visits) == 1}


def _candidate(key: Key, row: sa.Row[tuple[object, ...]], appointment_id: str | None) -> Candidate:
    return Candidate(key, row.id, row.name_key, row.birth_date, row.pms_key, appointment_id)


def _is_name(name_key: str) -> bool:
    """A family and a given name: one word alone is too little to tell people apart."""
    family, _, given = name_key.partition("^")
    return bool(family) and bool(given)


def read_day(text: str) -> date | None:
    """Read ``YYYYMMDD`` as a calendar day; None when it is none."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 - a calendar day, no zone
    except ValueError:
        return None
