"""Modality Worklist: C-FIND answered from our own tables, never by asking the PMS.

SQL narrows by what indexes know; :mod:`node.dicom.matching` decides, so that an answer is what
PS3.4 K and C.2.2.2 say whatever the database thinks of case, accents and blanks.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Protocol

import sqlalchemy as sa
from pydicom import config as pydicom_config
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from node.config import Config
from node.db.session import read
from node.db.tables import (
    appointment,
    operatory,
    patient,
    patient_identity,
    provider,
    worklist_item,
)
from node.dicom import charset, matching
from node.dicom.elements import Element, read_nested
from node.dicom.header import inflate
from node.dicom.store import log_failure
from node.errors import InvalidInput, Retryable

PENDING = 0xFF00
#: PS3.4 K.4.1.1.4: some optional key asked for is not supported; it is answered empty.
PENDING_UNSUPPORTED = 0xFF01
CANCEL = 0xFE00
OUT_OF_RESOURCES = 0xA700

_CHARSET = 0x00080005
_STEP_SEQUENCE = 0x00400100
_PATIENT_NAME = 0x00100010
_PATIENT_ID = 0x00100020
_ACCESSION = 0x00080050
_STUDY_UID = 0x0020000D
_MODALITY = 0x00080060
_STATION = 0x00400001
_START_DATE = 0x00400002
_START_TIME = 0x00400003
_STEP_ID = 0x00400009
_PROCEDURE_ID = 0x00401001
_MAX_ANSWERS = 10_000
_MAX_QUERY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Keys:
    """One level of a query: attributes by tag with their keys ("" = universal), and sequences."""

    texts: Mapping[int, str] = field(default_factory=dict)
    sequences: Mapping[int, tuple[Keys, ...]] = field(default_factory=dict)
    vrs: Mapping[int, str] = field(default_factory=dict)

    @property
    def tags(self) -> tuple[int, ...]:
        """Every attribute asked for, in tag order."""
        return tuple(sorted({*self.texts, *self.sequences}))

    @property
    def has_any(self) -> bool:
        """Whether some key narrows the answer."""
        return any(text.strip("* ") for text in self.texts.values()) or any(
            item.has_any for items in self.sequences.values() for item in items
        )


@dataclass(frozen=True, slots=True)
class Query:
    """A decoded worklist query."""

    keys: Keys
    charsets: tuple[str, ...] = ()

    @property
    def step(self) -> Keys:
        """The keys inside the Scheduled Procedure Step Sequence; none when there is no item."""
        items = self.keys.sequences.get(_STEP_SEQUENCE, ())
        return items[0] if items else Keys()

    def key(self, tag: int) -> str:
        """Return a step attribute's key; at the root is where some modalities put it."""
        return self.step.texts.get(tag, "") or self.keys.texts.get(tag, "")


@dataclass(frozen=True, slots=True)
class Entry:
    """One scheduled procedure step with everything a modality may ask about it."""

    patient_name: str
    patient_id: str
    issuer_of_patient_id: str
    birth_date: str
    sex: str
    accession_number: str
    study_instance_uid: str
    requested_procedure_id: str
    step_id: str
    description: str
    cdt_code: str
    modality: str
    station_ae_title: str
    start_date: str
    start_time: str
    provider_name: str
    operatory_name: str


Value = str | tuple[Mapping[int, str], ...]
_Reader = Callable[[Entry], Value]


def _nothing(entry: Entry) -> Value:
    return ""


def _no_items(entry: Entry) -> Value:
    return ()


def _procedure_code(entry: Entry) -> Value:
    """The PMS's procedure code under a local scheme: CDT as such needs a licence."""
    if not entry.cdt_code:
        return ()
    return ({0x00080100: entry.cdt_code, 0x00080102: "99PMS", 0x00080104: entry.description[:64]},)


#: PS3.4 Table K.6-1, inside the Scheduled Procedure Step Sequence.
_STEP: dict[int, _Reader] = {
    _MODALITY: lambda e: e.modality,
    0x00321070: _nothing,  # Requested Contrast Agent
    _STATION: lambda e: e.station_ae_title,
    _START_DATE: lambda e: e.start_date,
    _START_TIME: lambda e: e.start_time,
    0x00400006: lambda e: e.provider_name,
    0x00400007: lambda e: e.description,
    0x00400008: _procedure_code,
    _STEP_ID: lambda e: e.step_id,
    0x00400010: lambda e: e.operatory_name[:16],  # Scheduled Station Name, SH
    0x00400011: lambda e: e.operatory_name[:16],  # Scheduled Procedure Step Location, SH
    0x00400012: _nothing,  # Pre-Medication
    0x00400020: lambda e: "SCHEDULED",
    0x00400400: _nothing,  # Comments
}
#: PS3.4 Table K.6-1, at the root. Empty ones are known and have no value here.
_ROOT: dict[int, _Reader] = {
    _ACCESSION: lambda e: e.accession_number,
    0x00080090: _nothing,  # Referring Physician's Name
    0x00081110: _no_items,  # Referenced Study Sequence
    0x00081120: _no_items,  # Referenced Patient Sequence
    _PATIENT_NAME: lambda e: e.patient_name,
    _PATIENT_ID: lambda e: e.patient_id,
    0x00100021: lambda e: e.issuer_of_patient_id,
    0x00100030: lambda e: e.birth_date,
    0x00100040: lambda e: e.sex,
    0x00101000: _nothing,  # Other Patient IDs (retired)
    0x00101002: _no_items,  # Other Patient IDs Sequence
    0x00101030: _nothing,  # Patient's Weight
    0x00102000: _nothing,  # Medical Alerts
    0x00102110: _nothing,  # Allergies
    0x001021C0: _nothing,  # Pregnancy Status: not asked, so never "not pregnant"
    0x00104000: _nothing,  # Patient Comments
    _STUDY_UID: lambda e: e.study_instance_uid,
    0x00321032: lambda e: e.provider_name,  # Requesting Physician
    0x00321033: _nothing,  # Requesting Service
    0x00321060: lambda e: e.description,
    0x00321064: _procedure_code,
    0x00380010: _nothing,  # Admission ID
    0x00380050: _nothing,  # Special Needs
    0x00380300: _nothing,  # Current Patient Location
    0x00380500: _nothing,  # Patient State
    _PROCEDURE_ID: lambda e: e.requested_procedure_id,
    0x00401003: lambda e: "ROUTINE",
    0x00401004: _nothing,  # Patient Transport Arrangements
    0x00403001: _nothing,  # Confidentiality Constraint
}
#: Some modalities send step attributes at the root; they are matched and answered there too.
_AT_ROOT = {**_STEP, **_ROOT}


# --- reading a query -----------------------------------------------------------------------------


def parse_query(data: bytes, transfer_syntax_uid: str, fallback_charset: str) -> Query:
    """Decode the identifier of a C-FIND request, repairing undeclared character sets.

    Raises
    ------
    InvalidInput
        It is not a data set.
    """
    syntax = UID(transfer_syntax_uid)
    if len(data) > _MAX_QUERY_BYTES:
        raise InvalidInput("the query is too long")
    if syntax.is_deflated:
        data = inflate(io.BytesIO(data), _MAX_QUERY_BYTES)
    elements = read_nested(data, syntax.is_implicit_VR, syntax.is_little_endian)
    terms = next((charset.parse_terms(e.value) for e in elements if e.tag == _CHARSET), ())
    return Query(_keys(elements, terms, fallback_charset), terms)


def _keys(elements: Sequence[Element], terms: Sequence[str], fallback: str) -> Keys:
    texts: dict[int, str] = {}
    sequences: dict[int, tuple[Keys, ...]] = {}
    vrs: dict[int, str] = {}
    for element in elements:
        tag = element.tag
        if tag == _CHARSET or tag & 0xFFFF == 0:  # group lengths ask for nothing
            continue
        vrs[tag] = "SQ" if element.vr == "SQ" else _vr(tag, element.vr)
        if vrs[tag] == "SQ":
            sequences[tag] = tuple(_keys(item, terms, fallback) for item in element.items)
        else:
            texts[tag] = charset.decode(element.value, terms, fallback)
    return Keys(texts, sequences, vrs)


def _vr(tag: int, sent: str = "") -> str:
    """The dictionary's VR, which a peer's wrong one must not override; UN when nobody knows."""
    if dictionary_has_tag(tag):
        return dictionary_VR(tag).split(" ")[0]
    return sent or "UN"


# --- matching ------------------------------------------------------------------------------------


def match(
    query: Query,
    conn: sa.Connection,
    location_id: str,
    *,
    issuer_of_patient_id: str = "",
    default_days: tuple[date, date] | None = None,
) -> list[Entry]:
    """Find the open steps of one location that match, in the order of the day.

    `default_days` (first and last) caps a query without any key.
    """
    statement = _statement(query, conn.dialect.name, location_id)
    if default_days is not None and not query.keys.has_any:
        first, last = (f"{day:%Y%m%d}" for day in default_days)
        statement = statement.where(worklist_item.c.start_date.between(first, last))
    entries = (_entry(row, issuer_of_patient_id) for row in conn.execute(statement))
    matched = [entry for entry in entries if _is_match(query, entry)]
    # sorted here: an ORDER BY lures SQLite away from the index that finds the patient
    return sorted(matched, key=lambda entry: (entry.start_date, entry.start_time, entry.step_id))


def _is_match(query: Query, entry: Entry) -> bool:
    dates, times = query.key(_START_DATE), query.key(_START_TIME)
    skipped: tuple[int, ...] = ()
    if dates and "-" in times and "\\" not in dates + times:
        skipped = (_START_DATE, _START_TIME)
        if not matching.in_combined_interval(
            matching.DateRange.parse(dates),
            matching.TimeRange.parse(times),
            entry.start_date,
            entry.start_time,
        ):
            return False
    return _level_matches(query.keys, _AT_ROOT, entry, (*skipped, _STEP_SEQUENCE)) and (
        _level_matches(query.step, _STEP, entry, skipped)
    )


def _level_matches(
    keys: Keys, readers: Mapping[int, _Reader], entry: Entry, skipped: Sequence[int]
) -> bool:
    for tag, key in keys.texts.items():
        if key and tag in readers and tag not in skipped:
            value = readers[tag](entry)
            if not matching.matches(keys.vrs[tag], key, value if isinstance(value, str) else ""):
                return False
    return all(
        tag not in readers or tag in skipped or _sequence_matches(items, readers[tag](entry))
        for tag, items in keys.sequences.items()
    )


def _sequence_matches(asked: tuple[Keys, ...], items: Value) -> bool:
    """Sequence matching (C.2.2.2.6): one item of ours matches every key of the item asked for."""
    if not asked or not asked[0].has_any:
        return True
    return any(
        all(
            matching.matches(asked[0].vrs[tag], key, item.get(tag, ""))
            for tag, key in asked[0].texts.items()
        )
        for item in items
        if not isinstance(item, str)
    )


def _statement(query: Query, dialect: str, location_id: str) -> sa.Select[tuple[object, ...]]:
    return _open_steps().where(
        worklist_item.c.location_id == location_id, *_conditions(query, dialect, location_id)
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
            visit.tombstoned_at.is_(None),
            patient.c.tombstoned_at.is_(None),
        )
    )


def _conditions(query: Query, dialect: str, location_id: str) -> Iterator[sa.ColumnElement[bool]]:
    """Narrow by what is indexed or cheap; never more than exact matching would."""
    item = worklist_item.c
    for tag, column in (
        (_PROCEDURE_ID, item.requested_procedure_id),
        (_STEP_ID, item.scheduled_procedure_step_id),
        (_MODALITY, item.modality),
        (_STATION, item.station_ae_title),
    ):
        if values := _plain_values(query.key(tag)):
            yield column.in_(values)
    for tag, column, owner, ids in (
        (_PATIENT_ID, patient.c.pms_key, item.patient_id, patient.c.id),
        (_ACCESSION, appointment.c.accession_number, item.appointment_id, appointment.c.id),
        (_STUDY_UID, appointment.c.study_instance_uid, item.appointment_id, appointment.c.id),
    ):
        if values := _plain_values(query.key(tag)):
            known = column.table.alias()
            yield owner.in_(
                sa.select(known.c[ids.name]).where(
                    known.c.location_id == location_id, known.c[column.name].in_(values)
                )
            )
    days = query.key(_START_DATE)
    if days and "\\" not in days:
        span = matching.DateRange.parse(days)
        yield item.start_date >= span.first
        if span.last:
            yield item.start_date <= span.last
    prefix = matching.name_prefix(query.keys.texts.get(_PATIENT_NAME, ""))
    if prefix:
        yield item.patient_id.in_(_named(prefix, dialect, location_id))


def _named(prefix: str, dialect: str, location_id: str) -> sa.Select[tuple[str]]:
    known = patient_identity.alias()
    column = known.c.name_key
    if dialect == "sqlite":  # bytewise collation: a range uses the index, LIKE does not
        starts: sa.ColumnElement[bool] = column.between(prefix, prefix + "\U0010ffff")
    else:
        starts = column.startswith(prefix, autoescape=True)
    return sa.select(known.c.patient_id).where(known.c.location_id == location_id, starts)


def _plain_values(key: str) -> list[str]:
    values = [value.strip() for value in key.split("\\") if value.strip()]
    return [] if any("*" in value or "?" in value for value in values) else values


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


# --- answering -----------------------------------------------------------------------------------


def answer(query: Query, entry: Entry) -> Dataset:
    """Compose the answer: the keys asked for and no others, unknown ones empty."""
    dataset, texts = Dataset(), list[str]()
    for tag in query.keys.tags:
        vr = query.keys.vrs[tag]
        if tag == _STEP_SEQUENCE:
            step = _item(query.step.tags or tuple(_STEP), query.step, _STEP, entry, texts)
            dataset.add(_element(tag, "SQ", [step]))
        else:
            dataset.add(_answered(tag, vr, query.keys, _AT_ROOT, entry, texts))
    dataset.add(_element(_CHARSET, "CS", charset.answer_in(query.charsets, texts)))
    return dataset


def is_fully_supported(query: Query) -> bool:
    """Whether every key asked for is one we know (else answers carry FF01)."""
    return all(tag in _AT_ROOT or tag == _STEP_SEQUENCE for tag in query.keys.tags) and all(
        tag in _STEP for tag in query.step.tags
    )


def _item(
    tags: Sequence[int],
    keys: Keys,
    readers: Mapping[int, _Reader],
    entry: Entry,
    texts: list[str],
) -> Dataset:
    item = Dataset()
    for tag in tags:
        item.add(_answered(tag, keys.vrs.get(tag) or _vr(tag), keys, readers, entry, texts))
    return item


def _answered(
    tag: int,
    vr: str,
    keys: Keys,
    readers: Mapping[int, _Reader],
    entry: Entry,
    texts: list[str],
) -> DataElement:
    value = readers[tag](entry) if tag in readers else ""
    if vr != "SQ":
        text = value if isinstance(value, str) else ""
        texts.append(text)
        return _element(tag, vr, text if text else None)
    asked = keys.sequences.get(tag, ())
    wanted = asked[0].tags if asked else ()
    items = []
    for source in value if not isinstance(value, str) else ():
        item = Dataset()
        for inner in wanted or tuple(source):
            text = source.get(inner, "")
            texts.append(text)
            item.add(_element(inner, _vr(inner), text or None))
        items.append(item)
    return _element(tag, "SQ", items)


def _element(tag: int, vr: str, value: object) -> DataElement:
    return DataElement(BaseTag(tag), vr, value, validation_mode=pydicom_config.IGNORE)


# --- the edge ------------------------------------------------------------------------------------


class _Request(Protocol):
    Identifier: io.BytesIO | None


class _Context(Protocol):
    transfer_syntax: UID


class FindEvent(Protocol):
    """What pynetdicom hands to a C-FIND handler."""

    request: _Request
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
        query = parse_query(
            event.request.Identifier.getvalue(),
            str(event.context.transfer_syntax),
            config.dicom.fallback_charset,
        )
        status = PENDING if is_fully_supported(query) else PENDING_UNSUPPORTED
        for count, entry in enumerate(_find(query, db, config)):
            if event.is_cancelled:
                yield CANCEL, None
                return
            if count == _MAX_ANSWERS:
                yield OUT_OF_RESOURCES, None
                return
            yield status, answer(query, entry)
    except Exception as error:  # noqa: BLE001 - the DIMSE edge
        yield log_failure("C-FIND", error).find_status, None


def _find(query: Query, db: sa.Engine, config: Config) -> list[Entry]:
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
            )
    except sa.exc.OperationalError as error:
        raise Retryable(f"the database is away ({type(error.orig).__name__})") from None
