"""Finding entries of the audit: by user, patient, study, action and period."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from node.db.audit_rows import AuditRow
from node.db.tables import (
    approval,
    audit,
    instance,
    patient,
    pms_command,
    study,
    user_account,
    workflow_case,
)
from node.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries of one location; what is empty does not narrow.

    `user` is an account's name or id, or a part of the program (``dicom``); `patient` is our id or
    the PMS's key; `study` our id or the Study Instance UID; `action` whole, or the part before the
    dot (``image``).
    """

    location_id: str
    user: str = ""
    patient: str = ""
    study: str = ""
    action: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise InvalidInput("a time of the audit has a zone")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InvalidInput("the period ends before it begins")


def find_rows(
    conn: sa.Connection, wanted: Wanted, *, before_seq: int | None = None, most: int = 100
) -> list[sa.Row[tuple[object, ...]]]:
    """Find entries, the newest first. Raises NotFound for a user, patient or study unknown here."""
    query = sa.select(audit).where(*conditions_of(conn, wanted))
    if before_seq is not None:
        query = query.where(audit.c.seq < before_seq)
    return list(conn.execute(query.order_by(audit.c.seq.desc()).limit(most)))


def conditions_of(conn: sa.Connection, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    """Give the conditions on the table; raises NotFound for what is unknown here."""
    found: list[sa.ColumnElement[bool]] = [audit.c.location_id == wanted.location_id]
    if wanted.since is not None:
        found.append(audit.c.at >= wanted.since)
    if wanted.until is not None:
        found.append(audit.c.at < wanted.until)
    if wanted.user:
        found.append(audit.c.actor == _actor(conn, wanted))
    if wanted.action:
        is_kind = audit.c.action.startswith(f"{wanted.action}.", autoescape=True)
        found.append((audit.c.action == wanted.action) | is_kind)
    if wanted.study:
        study_id = _study(conn, wanted)
        found.append(_about(conn, [], study.c.id == study_id))
    if wanted.patient:
        patient_id = _patient(conn, wanted)
        cases = sa.select(workflow_case.c.id).where(workflow_case.c.patient_id == patient_id)
        theirs = study.c.patient_id == patient_id
        found.append(_about(conn, [patient_id], theirs) | _of_cases(cases))
    return found


def matcher_of(conn: sa.Connection, wanted: Wanted) -> Callable[[AuditRow], bool]:
    """Give what :func:`conditions_of` asks as a test of rows that are not in the database.

    Raises NotFound for what is unknown here.
    """
    actor = _actor(conn, wanted) if wanted.user else ""
    about: list[tuple[frozenset[str], list[str]]] = []
    if wanted.study:
        about.append(_named(conn, [], study.c.id == _study(conn, wanted)))
    if wanted.patient:
        patient_id = _patient(conn, wanted)
        subjects, names = _named(conn, [patient_id], study.c.patient_id == patient_id)
        cases = sa.select(workflow_case.c.id).where(workflow_case.c.patient_id == patient_id)
        asked = sa.select(approval.c.id).where(approval.c.case_id.in_(cases))
        of_cases = _prefixed(conn, ("case:", cases), ("approval:", asked))
        about.append((subjects | of_cases, names))

    def matches(row: AuditRow) -> bool:
        entry = row.entry
        if entry.location_id != wanted.location_id or (actor and entry.actor != actor):
            return False
        if (wanted.since and entry.at < wanted.since) or (
            wanted.until and entry.at >= wanted.until
        ):
            return False
        if wanted.action and not f"{entry.action}.".startswith(f"{wanted.action}."):
            return False
        text = f"{entry.subject} {json.dumps(dict(entry.detail))}" if about else ""
        return all(
            entry.subject in subjects or any(name in text for name in names)
            for subjects, names in about
        )

    return matches


def _named(
    conn: sa.Connection, names: list[str], is_wanted: sa.ColumnElement[bool]
) -> tuple[frozenset[str], list[str]]:
    """Name the subjects of some studies, and the ids by which an entry may tell of them."""
    studies = conn.execute(sa.select(study.c.id, study.c.study_instance_uid).where(is_wanted)).all()
    ids = sa.select(study.c.id).where(is_wanted)
    images = sa.select(instance.c.id).where(instance.c.study_id.in_(ids))
    writes = sa.select(pms_command.c.id).where(pms_command.c.study_id.in_(ids))
    subjects = _prefixed(conn, ("instance:", images), ("command:", writes))
    return subjects, [*names, *(each for row in studies for each in row)]


def _prefixed(conn: sa.Connection, *kinds: tuple[str, sa.Select[Any]]) -> frozenset[str]:
    return frozenset(
        f"{prefix}{each}" for prefix, ids in kinds for each in conn.execute(ids).scalars()
    )


def _about(
    conn: sa.Connection, names: list[str], is_wanted: sa.ColumnElement[bool]
) -> sa.ColumnElement[bool]:
    """Entries on some studies, their images and writes, or that name one of them or of `names`."""
    studies = conn.execute(sa.select(study.c.id, study.c.study_instance_uid).where(is_wanted)).all()
    ids = sa.select(study.c.id).where(is_wanted)
    images = sa.select(instance.c.id).where(instance.c.study_id.in_(ids))
    writes = sa.select(pms_command.c.id).where(pms_command.c.study_id.in_(ids))
    known = [*names, *(each for row in studies for each in row)]
    named = [
        column.contains(each, autoescape=True)
        for each in known
        for column in (sa.cast(audit.c.detail, sa.Text), audit.c.subject)
    ]
    return sa.or_(
        audit.c.subject.in_(_subjects("instance:", images)),
        audit.c.subject.in_(_subjects("command:", writes)),
        *named,
    )


def _of_cases(cases: sa.Select[tuple[str]]) -> sa.ColumnElement[bool]:
    asked = sa.select(approval.c.id).where(approval.c.case_id.in_(cases))
    return sa.or_(
        audit.c.subject.in_(_subjects("case:", cases)),
        audit.c.subject.in_(_subjects("approval:", asked)),
    )


def _subjects(prefix: str, ids: sa.Select[tuple[str]]) -> sa.Select[tuple[str]]:
    column = next(iter(ids.subquery().c))
    return sa.select(sa.literal(prefix).concat(column))


def _actor(conn: sa.Connection, wanted: Wanted) -> str:
    known = conn.execute(
        sa.select(user_account.c.id).where(
            user_account.c.location_id == wanted.location_id,
            user_account.c.username == wanted.user.strip().lower(),
        )
    ).scalar()
    return known or wanted.user


def _study(conn: sa.Connection, wanted: Wanted) -> str:
    named = (study.c.id == wanted.study) | (study.c.study_instance_uid == wanted.study)
    query = sa.select(study.c.id).where(study.c.location_id == wanted.location_id, named)
    return _one(conn, query, "study")


def _patient(conn: sa.Connection, wanted: Wanted) -> str:
    named = (patient.c.id == wanted.patient) | (patient.c.pms_key == wanted.patient)
    query = sa.select(patient.c.id).where(patient.c.location_id == wanted.location_id, named)
    return _one(conn, query, "patient")


def _one(conn: sa.Connection, query: sa.Select[tuple[str]], what: str) -> str:
    found = conn.execute(query).scalar()
    if found is None:
        raise NotFound(f"There is no such {what} here.")
    return str(found)
