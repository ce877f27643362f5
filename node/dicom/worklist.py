"""Modality Worklist: C-FIND answered from our own tables, never by asking the PMS.

SQL narrows by what indexes know; :mod:`node.dicom.matching` decides, so that an answer is what
PS3.4 K and C.2.2.2 say whatever the database thinks of case, accents and blanks.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Protocol

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import UID

from node.config import Config
from node.db.session import Actor, read
from node.db.tables import (
    appointment,
    operatory,
    patient,
    patient_identity,
    provider,
    worklist_item,
)
from node.dicom import charset, matching
from node.dicom.answers import level_matches
from node.dicom.query import STEP_SEQUENCE, Query, parse_query
from node.dicom.reads import note_search
from node.dicom.steps import (
    ACCESSION,
    MODALITY,
    PATIENT_ID,
    PATIENT_NAME,
    PROCEDURE_ID,
    ROOT_READERS,
    START_DATE,
    START_TIME,
    STATION,
    STEP_ID,
    STEP_READERS,
    STUDY_UID,
    Entry,
    answer,
    is_fully_supported,
)
from node.dicom.store import log_failure
from node.domain.performed import PerformedState
from node.domain.study import START_CHARS, name_start
from node.errors import InvalidInput, Retryable

PENDING = 0xFF00
#: PS3.4 K.4.1.1.4: some optional key asked for is not supported; it is answered empty.
PENDING_UNSUPPORTED = 0xFF01
CANCEL = 0xFE00
OUT_OF_RESOURCES = 0xA700
_MAX_ANSWERS = 10_000


def match(
    query: Query,
    conn: sa.Connection,
    location_id: str,
    *,
    issuer_of_patient_id: str = "",
    default_days: tuple[date, date] | None = None,
    station_ae_title: str = "",
) -> list[Entry]:
    """Find the open steps of one location that match, in the order of the day.

    `default_days` (first and last) caps a query without any key. `station_ae_title` is whose steps
    a query that names no station is answered with; empty = everybody's.
    """
    statement = _statement(query, location_id)
    if station_ae_title and not query.key(STATION).strip():
        statement = statement.where(worklist_item.c.station_ae_title == station_ae_title)
    if default_days is not None and not query.keys.has_any:
        first, last = (f"{day:%Y%m%d}" for day in default_days)
        statement = statement.where(worklist_item.c.start_date.between(first, last))
    entries = (_entry(row, issuer_of_patient_id) for row in conn.execute(statement))
    matched = [entry for entry in entries if _is_match(query, entry)]
    # sorted here: an ORDER BY lures SQLite away from the index that finds the patient
    return sorted(matched, key=lambda entry: (entry.start_date, entry.start_time, entry.step_id))


def _is_match(query: Query, entry: Entry) -> bool:
    dates, times = query.key(START_DATE), query.key(START_TIME)
    skipped: tuple[int, ...] = ()
    if dates and "-" in times and "\\" not in dates + times:
        skipped = (START_DATE, START_TIME)
        if not matching.in_combined_interval(
            matching.DateRange.parse(dates),
            matching.TimeRange.parse(times),
            entry.start_date,
            entry.start_time,
        ):
            return False
    return level_matches(query.keys, ROOT_READERS, entry, (*skipped, STEP_SEQUENCE)) and (
        level_matches(query.step, STEP_READERS, entry, skipped)
    )


def _statement(query: Query, location_id: str) -> sa.Select[tuple[object, ...]]:
    return _open_steps().where(
        worklist_item.c.location_id == location_id, *_conditions(query, location_id)
    )


@functools.cache
def _open_steps() -> sa.Select[tuple[object, ...]]:
    """Build the unchanging part of the query once; it costs as much as running it."""
    item, visit, person = worklist_item.c, appointment.c, patient_identity.c
    return (
        sa.select(
            *(column for column in worklist_item.c),
            visit.accession_number,
            visit.study_instance_uid,
            patient.c.pms_key,
            person.family_name,
            person.given_name,
            person.middle_name,
            person.birth_date,
            person.sex,
            provider.c.name.label("provider_name"),
            provider.c.abbreviation.label("provider_abbreviation"),
            operatory.c.name.label("operatory_name"),
        )
        .select_from(worklist_item)
        .join(appointment, visit.id == item.appointment_id)
        .join(patient, patient.c.id == item.patient_id)
        .join(patient_identity, person.patient_id == item.patient_id)
        .outerjoin(
            provider,
            (provider.c.location_id == item.location_id)
            & (provider.c.pms_key == visit.provider_key),
        )
        .outerjoin(
            operatory,
            (operatory.c.location_id == item.location_id)
            & (operatory.c.pms_key == visit.operatory_key),
        )
        .where(
            item.is_open,
            item.performed != PerformedState.COMPLETED.value,
            visit.tombstoned_at.is_(None),
            patient.c.tombstoned_at.is_(None),
        )
    )


def _conditions(query: Query, location_id: str) -> Iterator[sa.ColumnElement[bool]]:
    """Narrow by what is indexed or cheap; never more than exact matching would."""
    item = worklist_item.c
    for tag, column in (
        (PROCEDURE_ID, item.requested_procedure_id),
        (STEP_ID, item.scheduled_procedure_step_id),
        (MODALITY, item.modality),
        (STATION, item.station_ae_title),
    ):
        if values := matching.plain_values(query.key(tag)):
            yield column.in_(values)
    for tag, column, owner, ids in (
        (PATIENT_ID, patient.c.pms_key, item.patient_id, patient.c.id),
        (ACCESSION, appointment.c.accession_number, item.appointment_id, appointment.c.id),
        (STUDY_UID, appointment.c.study_instance_uid, item.appointment_id, appointment.c.id),
    ):
        if values := matching.plain_values(query.key(tag)):
            known = column.table.alias()
            yield owner.in_(
                sa.select(known.c[ids.name]).where(
                    known.c.location_id == location_id, known.c[column.name].in_(values)
                )
            )
    days = query.key(START_DATE)
    if days and "\\" not in days:
        span = matching.DateRange.parse(days)
        yield item.start_date >= span.first
        if span.last:
            yield item.start_date <= span.last
    start = name_start(matching.name_prefix(query.keys.texts.get(PATIENT_NAME, "")))
    if len(start) == START_CHARS:  # fewer letters cannot be looked up
        people = patient_identity.alias()
        yield item.patient_id.in_(
            sa.select(people.c.patient_id).where(
                people.c.location_id == location_id, people.c.name_start == start
            )
        )


def _entry(row: sa.Row[tuple[object, ...]], issuer: str) -> Entry:
    return Entry(
        patient_name=_person_name(row.family_name, row.given_name, row.middle_name),
        patient_id=row.pms_key,
        issuer_of_patient_id=issuer,
        birth_date=f"{row.birth_date:%Y%m%d}" if row.birth_date else "",
        sex=row.sex if row.sex in ("M", "F", "O") else "",
        accession_number=row.accession_number,
        study_instance_uid=row.study_instance_uid,
        requested_procedure_id=row.requested_procedure_id,
        step_id=row.scheduled_procedure_step_id,
        description=_plain(row.description),
        cdt_code=row.cdt_code,
        modality=row.modality,
        station_ae_title=row.station_ae_title,
        start_date=row.start_date,
        start_time=row.start_time,
        provider_name=_provider_name(row.provider_name or row.provider_abbreviation or ""),
        operatory_name=_plain(row.operatory_name or ""),
        is_started=row.performed == PerformedState.STARTED.value,
    )


def _person_name(*parts: str) -> str:
    name = "^".join(_plain(part, "^=") for part in parts).rstrip("^")
    return name if "^" in name else f"{name}^"  # a single name is a family name


def _provider_name(text: str) -> str:
    family, comma, given = text.partition(",")
    return _person_name(family, given) if comma else _plain(text, "^=")


def _plain(text: str, delimiters: str = "") -> str:
    """Replace what would be read as structure: backslash, control characters, PN delimiters."""
    kept = (" " if c == "\\" or c in delimiters or not c.isprintable() else c for c in text)
    return " ".join("".join(kept).split())


class _Request(Protocol):
    Identifier: io.BytesIO | None


class _Requestor(Protocol):
    ae_title: str


class _Association(Protocol):
    requestor: _Requestor


class _Context(Protocol):
    transfer_syntax: UID


class FindEvent(Protocol):
    """What pynetdicom hands to a C-FIND handler."""

    request: _Request
    assoc: _Association
    context: _Context

    @property
    def is_cancelled(self) -> bool:
        """Whether the peer sent C-CANCEL for this request."""


def on_c_find(
    event: FindEvent, db: sa.Engine, config: Config
) -> Iterator[tuple[int, Dataset | None]]:
    """Answer one worklist query: a pending status and a data set for each match."""
    try:
        if event.request.Identifier is None:
            raise InvalidInput("a C-FIND request without an identifier")
        syntax = UID(event.context.transfer_syntax)
        query = parse_query(
            event.request.Identifier.getvalue(), str(syntax), config.dicom.fallback_charset
        )
        status = PENDING if is_fully_supported(query) else PENDING_UNSUPPORTED
        caller = event.assoc.requestor.ae_title.strip()
        readable = _charsets_of(caller, config)
        found = _find(query, db, config, caller)
        offered = [entry.study_instance_uid for entry in found[:_MAX_ANSWERS]]
        actor = Actor("dicom", config.node.location_id)
        note_search(db, actor, "worklist.queried", "worklist", offered, peer=caller)
        for count, entry in enumerate(found):
            if event.is_cancelled:
                yield CANCEL, None
                return
            if count == _MAX_ANSWERS:
                yield OUT_OF_RESOURCES, None
                return
            encoding = (syntax.is_implicit_VR, syntax.is_little_endian)
            yield status, answer(query, entry, *encoding, readable)
    except Exception as error:  # noqa: BLE001 - the DIMSE edge
        yield log_failure("C-FIND", error).find_status, None


def _charsets_of(caller: str, config: Config) -> tuple[str, ...]:
    """Return what a station was configured to be answered in; nothing = what it asks for."""
    for station in config.dicom.stations:
        if station.ae_title.strip() == caller and station.charset:
            return charset.parse_terms(station.charset.encode("ascii", "ignore"))
    return ()


def _station_of(caller: str, config: Config) -> str:
    """Return the station whose steps alone this caller is offered; "" = everybody's."""
    dicom = config.dicom
    known = {dicom.default_station_ae_title, *(station.ae_title for station in dicom.stations)}
    return caller if dicom.worklist_by_station and caller in known else ""


def _find(query: Query, db: sa.Engine, config: Config, caller: str) -> list[Entry]:
    today = datetime.now(config.zone).date()
    days = (
        today - timedelta(days=config.dicom.worklist_days_before),
        today + timedelta(days=config.dicom.worklist_days_after),
    )
    try:
        with read(db) as conn:
            return match(
                query,
                conn,
                config.node.location_id,
                issuer_of_patient_id=config.dicom.issuer_of_patient_id,
                default_days=days,
                station_ae_title=_station_of(caller, config),
            )
    except sa.exc.OperationalError as error:
        raise Retryable(f"the database is away ({type(error.orig).__name__})") from None
