"""Open Dental rows as records, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime

from node.errors import NotFound, Rejected, Unsupported
from pms_writeback.opendental.connection import Connection
from pms_writeback.opendental.record_fields import SOURCES, Source
from pms_writeback.opendental.rows import Fields
from pms_writeback.opendental.versions import Version
from pms_writeback.opendental.wire import number
from pms_writeback.pms import OfficeTime
from pms_writeback.records import PmsRecord, Reach, RecordKind, Scalar, dated_span

#: Filters that turn a list's narrow default into everything: tasks show two weeks, definitions
#: and users hide what is out of use.
_EVERYTHING: dict[str, dict[str, str]] = {
    "/tasks": {"DateTimeOriginal": "1990-01-01 00:00:00"},
    "/definitions": {"includeHidden": "true"},
    "/userods": {"includeHidden": "true"},
}
#: Computed fields of every row; no part of the record.
_COMPUTED = frozenset({"serverDateTime"})

Moment = Callable[[Fields, str], datetime | None]
Wall = Callable[[datetime], str]
Today = Callable[[], date]
#: What the documents' list answers with 404 where others answer an empty list.
_NO_DOCUMENTS = "no documents exist"


class RecordReader:
    """Reads the records of one office over its connection.

    `stamp` reads a change stamp by our clock; `wall` writes a moment as the office's clock shows
    it, early enough that nothing changed at it is missed; `today` gives the office's day.
    """

    def __init__(
        self, connection: Connection, office: OfficeTime, stamp: Moment, wall: Wall, today: Today
    ) -> None:
        self._connection = connection
        self._office = office
        self._stamp = stamp
        self._wall = wall
        self._today = today

    def reach(self, version: Version) -> dict[RecordKind, Reach]:
        """Say how each kind can be read at an office of this version."""
        return {kind: _reach(source, version) for kind, source in SOURCES.items()}

    def all(
        self, kind: RecordKind, since: datetime | None, version: Version
    ) -> Iterator[Sequence[PmsRecord]]:
        """Read every record, or those changed at or after `since`, a page at a time."""
        source = SOURCES[kind]
        reach = _reach(source, version)
        if reach is Reach.NONE or reach is Reach.PATIENT:
            raise Unsupported(f"Open Dental cannot list every {kind.value} at this version")
        filters = {**_EVERYTHING.get(source.path, {}), **self._days(kind)}
        if since is not None:
            if reach is not Reach.CHANGES:
                raise Unsupported(f"Open Dental cannot list the changes of {kind.value}")
            filters[source.delta] = self._wall(since)
        owners, parent = self._owners(source), source.parent[1] if source.parent else ""
        for page in self._connection.pages(source.path, filters):
            yield list(
                self._records(kind, source, page, lambda row: owners.get(row.key(parent), ""))
            )

    def _days(self, kind: RecordKind) -> dict[str, str]:
        """Ask for the hours of work by date: without one a list may be today's only."""
        span = dated_span(kind, self._today())
        return {} if span is None else {"dateStart": f"{span[0]}", "dateEnd": f"{span[1]}"}

    def _owners(self, source: Source) -> dict[str, str]:
        """Map the keys of the parents to their patients where the rows themselves name none."""
        if source.parent is None or source.owner:
            return {}
        parent = SOURCES[source.parent[0]]
        pages = self._connection.pages(parent.path, _EVERYTHING.get(parent.path))
        return {row.key(parent.key): row.key(parent.owner) for page in pages for row in page}

    def of_patient(self, kind: RecordKind, patient_key: str) -> list[PmsRecord]:
        """Read one patient's records of a kind, complete."""
        source = SOURCES[kind]
        if kind is RecordKind.ADDRESS:  # their list cannot be filtered by patient
            row = self._connection.row(f"/patients/{number(patient_key)}")
            return [self._record(kind, source, row)]
        if source.parent is not None:
            return self._of_parents(kind, source, patient_key)
        if kind is RecordKind.TASK:
            filters = {"ObjectType": "Patient", "KeyNum": patient_key, **_EVERYTHING[source.path]}
        elif source.owner:
            filters = {source.owner: patient_key}
        else:
            raise Unsupported(f"Open Dental cannot list the {kind.value} of one patient")
        try:
            rows = self._connection.rows(source.path, filters)
        except NotFound as error:
            if _NO_DOCUMENTS in str(error).lower():
                return []
            raise  # anything else that is not found says nothing about what there is
        found = self._records(kind, source, rows, lambda _: patient_key)
        # A filter that an old version ignores must not give somebody else's rows to this patient.
        return [record for record in found if record.patient_key == patient_key]

    def _of_parents(self, kind: RecordKind, source: Source, patient_key: str) -> list[PmsRecord]:
        assert source.parent is not None
        parent, name = source.parent
        found: list[PmsRecord] = []
        for each in self.of_patient(parent, patient_key):
            rows = self._connection.rows(source.path, {name: each.key})
            mine = [row for row in rows if row.key(name) == each.key]
            found += self._records(kind, source, mine, lambda _: patient_key)
        return found

    def _records(
        self,
        kind: RecordKind,
        source: Source,
        rows: Iterable[Fields],
        owner: Callable[[Fields], str],
    ) -> Iterator[PmsRecord]:
        """Read rows; one without a key is counted and left out, it stops nothing."""
        for row in rows:
            try:
                yield self._record(kind, source, row, owner(row))
            except Rejected as error:
                self._connection.oddities.note(str(error))

    def _record(
        self, kind: RecordKind, source: Source, row: Fields, patient_key: str = ""
    ) -> PmsRecord:
        values: dict[str, Scalar] = {}
        used = {source.key, source.owner, source.clinic, source.stamp}
        for name, spec in source.fields.items():
            type_, column = spec.split(":")
            values[name] = self._value(row, type_, column)
            if not row.is_odd(type_, column):
                used.add(column)  # what cannot be read stays as it came
        own = row.key(source.owner) if source.owner else patient_key
        if kind is RecordKind.TASK and row.text("ObjectType") == "Patient":
            own = row.key("KeyNum")
        return PmsRecord(
            kind=kind,
            key=row.own_key(source.key),
            patient_key=own,
            clinic_key=row.key(source.clinic) if source.clinic else "",
            changed_at=self._stamp(row, source.stamp) if source.stamp else None,
            values=values,
            raw=row.rest(used | source.ignored | _COMPUTED) if source.keeps_rest else {},
        )

    def _value(self, row: Fields, type_: str, column: str) -> Scalar:
        match type_:
            case "text" | "time":
                return row.text(column)
            case "key":
                return row.key(column)
            case "number":
                return row.number(column)
            case "money":
                return row.amount(column)
            case "flag":
                return row.flag(column)
            case "day":
                day = row.day(column)
                return day.isoformat() if day else None
            case "moment":
                wall = row.moment(column)
                return self._office.to_utc(wall).isoformat() if wall else None
            case _:
                raise Rejected(f"no such type of field: {type_}")


def _reach(source: Source, version: Version) -> Reach:
    if version < source.since:
        return Reach.NONE
    if source.needs_patient:
        return Reach.PATIENT
    if source.delta and version >= source.delta_since:
        return Reach.CHANGES
    return Reach.WHOLE


def describe() -> Mapping[RecordKind, Mapping[str, str]]:
    """Give the neutral names of every kind with their types, for the documentation."""
    return {
        kind: {name: spec.split(":")[0] for name, spec in source.fields.items()}
        for kind, source in SOURCES.items()
    }
