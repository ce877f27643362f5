"""Query of what is stored here: Study Root C-FIND at study, series and image level (PS3.4 C.6.2).

Answered from the tables; what they do not hold (study time, descriptions) is read from the header
of one stored file, and only when it is asked for. Keys of a higher level than the query's narrow
it, as relational queries do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import sqlalchemy as sa
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from node.db.tables import study, study_identity
from node.dicom import charset, matching
from node.dicom.answers import Reader, answered, compose, level_matches
from node.dicom.elements import read_flat
from node.dicom.header import read_transfer_syntax
from node.dicom.holdings import holdings
from node.dicom.instances import InstanceStore
from node.dicom.purged import find_purged
from node.dicom.query import Query
from node.errors import InvalidInput, NotFound, Retryable

LEVEL = 0x00080052
STUDY_UID = 0x0020000D
SERIES_UID = 0x0020000E
IMAGE_UID = 0x00080018
_PATIENT_NAME = 0x00100010
_PATIENT_ID = 0x00100020
_STUDY_DATE = 0x00080020
_MODALITY = 0x00080060
RETRIEVE_AE = 0x00080054
AVAILABILITY = 0x00080056
_ACCESSION = 0x00080050
_HEADER_BYTES = 262_144
_CHUNK = 200

Row = sa.Row[tuple[object, ...]]


class Level(StrEnum):
    """What one answer is about."""

    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


@dataclass(slots=True)
class Found:
    """One stored study, series or image: its values by tag, and where more can be read."""

    level: Level
    values: dict[int, str]
    storage_key: str
    store: InstanceStore = field(repr=False)
    fallback_charset: str = "ISO_IR 100"
    _header: Mapping[int, str] | None = None

    def text(self, tag: int) -> str:
        """Return a value; from the file's header where the tables do not hold it."""
        if tag in self.values:
            return self.values[tag]
        if self._header is None:
            self._header = self._read()
        return self._header.get(tag, "")

    def _read(self) -> Mapping[int, str]:
        try:
            with self.store.open(self.storage_key) as file:
                syntax = read_transfer_syntax(file)
                data = file.read(_HEADER_BYTES)
        except (NotFound, InvalidInput, Retryable):  # what is not there is answered empty
            return {}
        is_implicit, is_little = syntax == "1.2.840.10008.1.2", syntax != "1.2.840.10008.1.2.2"
        raw = {
            element.tag: element.value
            for element, _ in read_flat(data, is_implicit, is_little, last_group=0x0020)
            if element.tag in _FROM_FILE or element.tag == 0x00080005
        }
        terms = charset.parse_terms(raw.pop(0x00080005, None))
        return {
            tag: charset.decode(value, terms, self.fallback_charset) for tag, value in raw.items()
        }


def _tags(keywords: str) -> tuple[int, ...]:
    return tuple(int(tag_for_keyword(keyword) or 0) for keyword in keywords.split())


_STUDY_HEADER = _tags("StudyTime ReferringPhysicianName StudyDescription StudyID")
_SERIES_HEADER = _tags(
    "SeriesDescription SeriesNumber BodyPartExamined ProtocolName SeriesDate SeriesTime"
    " Manufacturer InstitutionName ManufacturerModelName"
)
_IMAGE_HEADER = _tags("ImageType ContentDate ContentTime")
#: Not in the tables: read from a stored file.
_FROM_FILE = frozenset((*_STUDY_HEADER, *_SERIES_HEADER, *_IMAGE_HEADER))
_OF_STUDY = _STUDY_HEADER + _tags(
    "StudyDate AccessionNumber RetrieveAETitle InstanceAvailability ModalitiesInStudy"
    " SOPClassesInStudy PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex"
    " StudyInstanceUID NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances"
)
_OF_SERIES = _SERIES_HEADER + _tags("Modality SeriesInstanceUID NumberOfSeriesRelatedInstances")
_OF_IMAGE = _IMAGE_HEADER + _tags("SOPClassUID SOPInstanceUID InstanceNumber Rows Columns")


def _reader(tag: int) -> Reader[Found]:
    return lambda found: found.text(tag)


#: What each level knows of: its own attributes and those above it.
READERS: Mapping[Level, Mapping[int, Reader[Found]]] = {
    Level.STUDY: {tag: _reader(tag) for tag in _OF_STUDY},
    Level.SERIES: {tag: _reader(tag) for tag in (*_OF_STUDY, *_OF_SERIES)},
    Level.IMAGE: {tag: _reader(tag) for tag in (*_OF_STUDY, *_OF_SERIES, *_OF_IMAGE)},
}


@dataclass(frozen=True, slots=True)
class Archive:
    """What is stored at one location, as a peer may ask about it."""

    conn: sa.Connection
    store: InstanceStore
    location_id: str
    ae_title: str
    fallback_charset: str = "ISO_IR 100"
    with_results: bool = False  # signed ones, for who may see them

    def find(self, query: Query, level: Level) -> Iterator[Found]:
        """Find what matches, the newest study first.

        Dates and times of studies match apart from each other: unlike worklists, PS3.4 C.2.2.2.5
        leaves combining them to negotiation, which we do not offer.
        """
        readers = READERS[level]
        for found in self._all(query, level):
            if level_matches(query.keys, readers, found, (LEVEL,)):
                yield found

    def _all(self, query: Query, level: Level) -> Iterator[Found]:
        held = holdings(self.location_id, with_results=self.with_results)
        studies = self.conn.execute(self._studies(query, held)).all()
        for start in range(0, len(studies), _CHUNK):
            part = studies[start : start + _CHUNK]
            images: dict[str, list[Row]] = {}
            for image in self.conn.execute(
                sa.select(held)
                .where(held.c.study_id.in_([row.id for row in part]))
                .order_by(held.c.instance_number, held.c.received_at, held.c.id)
            ):
                images.setdefault(image.study_id, []).append(image)
            away = find_purged(self.conn, images).keys()
            for row in part:
                yield from self._of_study(row, images.get(row.id, []), level, away)

    def _studies(self, query: Query, held: sa.Subquery) -> sa.Select[tuple[object, ...]]:
        return (
            sa.select(
                study.c.id,
                study.c.study_instance_uid,
                study.c.study_date,
                study.c.accession_number,
                study_identity.c.patient_name,
                study_identity.c.patient_id_text,
                study_identity.c.issuer_of_patient_id,
                study_identity.c.birth_date,
                study_identity.c.sex,
            )
            .join(study_identity, study_identity.c.study_id == study.c.id)
            .where(study.c.location_id == self.location_id, *_conditions(query, held))
            .order_by(study.c.study_date.desc(), study.c.id)
        )

    def _of_study(
        self, row: Row, images: Sequence[Row], level: Level, away: Collection[str]
    ) -> Iterator[Found]:
        if not images:
            return
        series: dict[str, list[Row]] = {}
        for image in images:
            series.setdefault(image.series_instance_uid, []).append(image)
        values = self._study_values(row, images, len(series))
        values[AVAILABILITY] = _availability(images, away)
        if level is Level.STUDY:
            yield self._found(level, values, images[0])
            return
        for uid, members in series.items():
            of_series = values | {
                _MODALITY: members[0].modality,
                SERIES_UID: uid,
                0x00201209: str(len(members)),
                AVAILABILITY: _availability(members, away),
            }
            if level is Level.SERIES:
                yield self._found(level, of_series, members[0])
                continue
            for image in members:
                of_image = _image_values(image) | {AVAILABILITY: _availability([image], away)}
                yield self._found(level, of_series | of_image, image)

    def _found(self, level: Level, values: dict[int, str], image: Row) -> Found:
        return Found(level, values, image.storage_key, self.store, self.fallback_charset)

    def _study_values(self, row: Row, images: Sequence[Row], series: int) -> dict[int, str]:
        return {
            _STUDY_DATE: row.study_date,
            _ACCESSION: row.accession_number,
            RETRIEVE_AE: self.ae_title,
            0x00080061: _joined(image.modality for image in images),
            0x00080062: _joined(image.sop_class_uid for image in images),
            _PATIENT_NAME: row.patient_name,
            _PATIENT_ID: row.patient_id_text,
            0x00100021: row.issuer_of_patient_id,
            0x00100030: row.birth_date,
            0x00100040: row.sex,
            STUDY_UID: row.study_instance_uid,
            0x00201206: str(series),
            0x00201208: str(len(images)),
        }


def _availability(images: Sequence[Row], away: Collection[str]) -> str:
    """Say whether all are here; what an archive holds for us comes after a while (PS3.3 C.4.23)."""
    return "NEARLINE" if any(image.id in away for image in images) else "ONLINE"


def _image_values(image: Row) -> dict[int, str]:
    number = image.instance_number
    return {
        0x00080016: image.sop_class_uid,
        IMAGE_UID: image.sop_instance_uid,
        0x00200013: "" if number is None else str(number),
        0x00280010: str(image.rows or ""),
        0x00280011: str(image.columns or ""),
    }


def _conditions(query: Query, held: sa.Subquery) -> Iterator[sa.ColumnElement[bool]]:
    """Narrow by what is indexed or cheap; never more than exact matching would."""
    for tag, column in (
        (STUDY_UID, study.c.study_instance_uid),
        (_ACCESSION, study.c.accession_number),
        (_PATIENT_ID, study_identity.c.patient_id_text),
    ):
        if values := matching.plain_values(query.keys.texts.get(tag, "")):
            yield column.in_(values)
    for tag, name in ((SERIES_UID, "series_instance_uid"), (IMAGE_UID, "sop_instance_uid")):
        if values := matching.plain_values(query.keys.texts.get(tag, "")):
            yield study.c.id.in_(sa.select(held.c.study_id).where(held.c[name].in_(values)))
    days = query.keys.texts.get(_STUDY_DATE, "")
    if days and "\\" not in days:
        span = matching.DateRange.parse(days)
        yield study.c.study_date >= span.first
        if span.last:
            yield study.c.study_date <= span.last


def _joined(values: Iterable[str]) -> str:
    return "\\".join(sorted({value for value in values if value}))


def level_of(query: Query) -> Level:
    """Read the Query/Retrieve Level. Raises InvalidInput when it is none of ours."""
    try:
        return Level(query.keys.texts.get(LEVEL, "").strip())
    except ValueError:
        raise InvalidInput("the query's level is not STUDY, SERIES or IMAGE") from None


def answer(query: Query, found: Found, is_implicit: bool = True, is_little: bool = True) -> Dataset:
    """Compose the answer: the keys asked for, the level, and how available it is."""
    tags: Sequence[int] = tuple(sorted({*query.keys.tags, LEVEL, RETRIEVE_AE, AVAILABILITY}))
    readers = {**READERS[found.level], LEVEL: _level}
    fields = [answered(tag, query.keys, readers, found) for tag in tags]
    return compose(fields, query.charsets, is_implicit, is_little)


def _level(found: Found) -> str:
    return found.level.value


def is_fully_supported(query: Query, level: Level) -> bool:
    """Whether every key asked for is one we know (else answers carry FF01)."""
    return all(tag in READERS[level] or tag == LEVEL for tag in query.keys.tags)
