"""Compute and store what is said of a study: when it is finished, and again when that changed.

Facts of the images, comparison with priors, conclusions; one row a study. The numbers of teeth that
the series contradicts are changed where that is clear and nobody decided: the model's own number
stays beside, and the audit says so. Doing it twice changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import sqlalchemy as sa

from node.analysis.inference import InferenceProcess
from node.analysis.priors import compare_with, earlier_studies
from node.analysis.study_facts import facts_of, renumber, under
from node.analysis.study_rows import StudyRows, read_study
from node.db.session import Actor, Tx, begin, read, upsert
from node.db.tables import (
    appointment,
    finding,
    patient_identity,
    procedure,
    study,
    study_identity,
    study_reading,
    tooth_mark,
)
from node.dicom.object_file import ObjectFile
from node.domain.cdt import CodeTable
from node.domain.conclusions import conclude
from node.domain.events import EventKind
from node.domain.findings import DecisionState
from node.domain.reading import Renumbering, StudyFacts, StudyReading
from node.domain.schedule import imaging_code
from node.domain.study import StudyState
from node.domain.teeth import Tooth
from pms_writeback.pms import ProcedureStatus

#: Counted up when the rules change, so that studies still unsigned are read again.
VERSION = 1
#: How many later studies of the patient are looked at again when an earlier one is finished.
_MOST_LATER = 3
_FINISHED = (StudyState.READY, StudyState.SIGNED)
#: Planned or done; what is deleted or belongs to another office does not count.
_ON_THE_VISIT = (ProcedureStatus.TREATMENT_PLANNED.value, ProcedureStatus.COMPLETE.value)


@dataclass(frozen=True, slots=True)
class StudyReader:
    """What computing a reading needs."""

    db: sa.Engine
    actor: Actor
    inference: InferenceProcess
    file_of: Callable[[str], ObjectFile]
    table: CodeTable

    def read_again(self, study_id: str) -> bool:
        """Compute the reading of a finished study unless it stands; whether it was computed.

        Raises Retryable when the database or the inference process is away.
        """
        with read(self.db) as conn:
            rows = read_study(conn, self.actor.location_id, study_id)
            if rows is None or rows.state not in _FINISHED:
                return False
            priors = earlier_studies(conn, self.actor.location_id, rows)
            codes = _procedures(conn, rows)
            age = _age(conn, rows)
            standing = conn.execute(
                sa.select(study_reading.c.inputs).where(study_reading.c.study_id == study_id)
            ).scalar()
        away = _away(priors, self.file_of)
        inputs = _digest(rows, priors, codes, self.table, away)
        if standing == inputs:
            return False
        renumberings = renumber(rows.images)
        images = under(rows.images, renumberings)
        facts = facts_of(images, renumberings, codes, age)
        compared = compare_with(images, priors, self.inference.compare, self.file_of)
        facts = replace(facts, registrations=compared.registrations, changes=compared.changes)
        findings = [each for image in images for each in image.study_findings]
        reading = StudyReading(facts, conclude(findings, facts, self.table, is_signed=False))
        self._store(rows, inputs, reading)
        return True

    def read_later(self, study_id: str) -> int:
        """Look again at later unsigned studies of the patient, whose prior this one now is."""
        with read(self.db) as conn:
            rows = read_study(conn, self.actor.location_id, study_id)
            if rows is None or rows.patient_id is None:
                return 0
            later = (
                conn.execute(
                    sa.select(study.c.id)
                    .where(
                        study.c.location_id == self.actor.location_id,
                        study.c.patient_id == rows.patient_id,
                        study.c.id != study_id,
                        study.c.state == StudyState.READY.value,
                        study.c.study_date > rows.study_date,
                    )
                    .order_by(study.c.study_date)
                    .limit(_MOST_LATER)
                )
                .scalars()
                .all()
            )
        return sum(self.read_again(each) for each in later)

    def _store(self, rows: StudyRows, inputs: str, reading: StudyReading) -> None:
        with begin(self.db, self.actor, "study.read") as tx:
            generation = tx.conn.execute(
                sa.select(study.c.generation).where(study.c.id == rows.id)
            ).scalar()
            if generation != rows.generation:
                tx.record(f"study:{rows.id}", is_overtaken=True)
                return  # a late image reopened it; finishing it reads it again
            applied = [_apply(tx, each) for each in reading.facts.renumberings]
            done = {each.instance_id for each in applied if each.is_applied}
            _take_back(tx, [i.id for i in rows.images if i.id not in done and not i.is_decided])
            facts = replace(reading.facts, renumberings=tuple(applied))
            upsert(
                tx.conn,
                study_reading,
                ("study_id",),
                {
                    "study_id": rows.id,
                    "location_id": tx.location_id,
                    "generation": rows.generation,
                    "patient_id": rows.patient_id,
                    "inputs": inputs,
                    "content": replace(reading, facts=facts).to_json(),
                    "computed_at": tx.now,
                },
            )
            tx.append_event(
                EventKind.STUDY_READING,
                rows.id,
                f"reading:{rows.id}:{inputs[:16]}:{tx.now.isoformat()}",
            )
            tx.record(f"study:{rows.id}", inputs=inputs, **_summary(facts))


def _apply(tx: Tx, each: Renumbering) -> Renumbering:
    """Change undecided numbers of one image, or say that a person was first.

    A finding's revision counts up, so that a decision made on the old number is a conflict.
    """
    if not each.is_applied:
        return each
    kept = tx.conn.execute(
        sa.select(finding.c.id).where(
            finding.c.instance_id == each.instance_id,
            finding.c.state != DecisionState.SUGGESTED.value,
            sa.not_(finding.c.is_removed),
        )
    ).first()
    if kept is not None:
        return replace(each, is_applied=False)
    for table in (tooth_mark, finding):
        given = sa.func.coalesce(table.c.original_tooth, table.c.tooth)
        for row in tx.conn.execute(
            sa.select(table.c.id, table.c.tooth, given.label("given")).where(
                table.c.instance_id == each.instance_id, table.c.tooth.is_not(None)
            )
        ).all():
            moved = dict(each.teeth).get(Tooth(row.given))
            if moved is None or moved.code == row.tooth:
                continue
            values: dict[str, object] = {"tooth": moved.code, "original_tooth": row.given}
            if table is finding:
                values["rev"] = finding.c.rev + 1
            tx.conn.execute(table.update().where(table.c.id == row.id).values(**values))
    return each


def _take_back(tx: Tx, instance_ids: Sequence[str]) -> None:
    """Give undecided images their models' own numbers again, where the series no longer objects."""
    for table in (tooth_mark, finding):
        values: dict[str, object] = {"tooth": table.c.original_tooth, "original_tooth": None}
        if table is finding:
            values["rev"] = finding.c.rev + 1
        tx.conn.execute(
            table.update()
            .where(table.c.instance_id.in_(instance_ids), table.c.original_tooth.is_not(None))
            .values(**values)
        )


def _summary(facts: StudyFacts) -> dict[str, object]:
    """Say for the audit what was found: ids, codes and counts."""
    return {
        "procedures": [
            {"codes": list(p.cdt_codes), "asked": p.wanted, "arrived": p.arrived, "state": p.state}
            for p in facts.procedures
        ],
        "checks": {str(check.number): check.outcome.value for check in facts.checks},
        "series": facts.series.template if facts.series else "",
        "renumbered": [r.instance_id for r in facts.renumberings if r.is_applied],
        "compared": len(facts.registrations),
        "changes": sum(change.verdict.is_change for change in facts.changes),
    }


def _away(priors: Sequence[StudyRows], file_of: Callable[[str], ObjectFile]) -> list[str]:
    """List the earlier films whose pixels an archive holds at this moment, by their ids."""
    images = [image for each in priors for image in each.images]
    return [image.id for image in images if not file_of(image.storage_key).is_file()]


def _digest(
    rows: StudyRows,
    priors: Sequence[StudyRows],
    codes: Sequence[str],
    table: CodeTable,
    away: Sequence[str],
) -> str:
    """Digest everything that a reading rests on, except what people decide meanwhile."""
    parts: dict[str, object] = {
        "version": VERSION,
        "generation": rows.generation,
        "patient": rows.patient_id,
        "day": rows.study_date,
        "runs": [[image.id, image.run_id] for image in rows.images],
        "priors": [
            [each.id, each.review_version, [image.run_id for image in each.images]]
            for each in priors
        ],
        "codes": list(codes),
        "table": hashlib.sha256(repr(table).encode()).hexdigest(),
    }
    if away:  # when they are back, the study is read again
        parts["away"] = list(away)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _procedures(conn: sa.Connection, rows: StudyRows) -> list[str]:
    """Read the imaging codes of the visit; without one, those charted on the study's day."""
    if rows.patient_id is None:
        return []
    query = sa.select(procedure.c.cdt_code).where(
        procedure.c.patient_id == rows.patient_id,
        procedure.c.tombstoned_at.is_(None),
        procedure.c.status.in_(_ON_THE_VISIT),
    )
    if rows.appointment_id is not None:
        key = (
            sa.select(appointment.c.pms_key)
            .where(appointment.c.id == rows.appointment_id)
            .scalar_subquery()
        )
        query = query.where(procedure.c.appointment_key == key)
    else:
        query = query.where(procedure.c.procedure_date == rows.day)
    found = conn.execute(query.order_by(procedure.c.pms_key)).scalars()
    return [code for code in found if imaging_code(code) is not None]


def _age(conn: sa.Connection, rows: StudyRows) -> int | None:
    """Whole years on the study's day; by the PMS where the patient is certain."""
    born: date | None = None
    if rows.patient_id is not None:
        born = conn.execute(
            sa.select(patient_identity.c.birth_date).where(
                patient_identity.c.patient_id == rows.patient_id
            )
        ).scalar()
    else:
        text = conn.execute(
            sa.select(study_identity.c.birth_date).where(study_identity.c.study_id == rows.id)
        ).scalar()
        try:
            born = datetime.strptime(text or "", "%Y%m%d").date()  # noqa: DTZ007 - a day
        except ValueError:
            born = None
    if born is None or born > rows.day:
        return None
    had_birthday = (rows.day.month, rows.day.day) >= (born.month, born.day)
    return rows.day.year - born.year - (not had_birthday)
