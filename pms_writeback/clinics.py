"""Which of an office's clinics are this location's, where one system serves several of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from node.config import Config
from node.db.tables import operatory, patient
from pms_writeback.changes import chunks
from pms_writeback.pms import PmsAppointment, PmsOperatory, PmsPatient, PmsProcedure
from pms_writeback.records import PmsRecord, RecordKind

_NONE = "0"


@dataclass(frozen=True, slots=True)
class Clinics:
    """The clinics of one location by their keys; none named means all of them.

    What belongs to no clinic has the key "0" in the configuration and an empty one in records.
    """

    location_id: str
    keys: frozenset[str]

    @classmethod
    def of(cls, config: Config) -> Clinics:
        """Read them from the configuration."""
        return cls(config.node.location_id, frozenset(config.pms.clinics))

    @property
    def is_all(self) -> bool:
        """Whether everything of the office is this location's."""
        return not self.keys

    def holds(self, clinic_key: str) -> bool:
        """Tell whether what has this clinic is ours."""
        return self.is_all or (clinic_key or _NONE) in self.keys

    def patients(self, conn: sa.Connection, people: Sequence[PmsPatient]) -> tuple[PmsPatient, ...]:
        """Keep the patients of our clinics, and whoever is known here by a visit."""
        others = [each.key for each in people if not self.holds(each.clinic_key)]
        known = self._known(conn, patient, others)
        return tuple(each for each in people if self.holds(each.clinic_key) or each.key in known)

    def operatories(
        self, conn: sa.Connection, rooms: Sequence[PmsOperatory]
    ) -> tuple[PmsOperatory, ...]:
        """Keep our rooms; one that went to another clinic is hidden here."""
        known = self._known(conn, operatory, [each.key for each in rooms])
        return tuple(
            each if self.holds(each.clinic_key) else replace(each, is_hidden=True)
            for each in rooms
            if self.holds(each.clinic_key) or each.key in known
        )

    def appointments(
        self, visits: Iterable[PmsAppointment]
    ) -> tuple[tuple[PmsAppointment, ...], tuple[str, ...]]:
        """Split into our visits and the keys of those of other clinics."""
        visits = tuple(visits)
        elsewhere = tuple(each.key for each in visits if not self.holds(each.clinic_key))
        return tuple(each for each in visits if self.holds(each.clinic_key)), elsewhere

    def procedures(self, lines: Iterable[PmsProcedure]) -> tuple[PmsProcedure, ...]:
        """Keep the lines of our clinics and those that name none."""
        return tuple(each for each in lines if not each.clinic_key or self.holds(each.clinic_key))

    def records(
        self, conn: sa.Connection, records: Sequence[PmsRecord]
    ) -> tuple[list[PmsRecord], list[PmsRecord]]:
        """Split into our records and those of other clinics.

        A record's own clinic decides; without one whether its patient is known here; what belongs
        to nobody is the office's, and so ours too.
        """
        if self.is_all:
            return list(records), []
        people = self._known(conn, patient, (each.patient_key for each in records))
        ours: list[PmsRecord] = []
        elsewhere: list[PmsRecord] = []
        for each in records:
            (ours if self._is_ours(each, people) else elsewhere).append(each)
        return ours, elsewhere

    def _is_ours(self, record: PmsRecord, people: set[str]) -> bool:
        if record.kind is RecordKind.CLINIC:
            return record.key in self.keys
        if record.clinic_key:
            return record.clinic_key in self.keys
        return not record.patient_key or record.patient_key in people

    def _known(self, conn: sa.Connection, table: sa.Table, keys: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for part in chunks(keys):
            found |= set(
                conn.execute(
                    sa.select(table.c.pms_key).where(
                        table.c.location_id == self.location_id, table.c.pms_key.in_(part)
                    )
                ).scalars()
            )
        return found
