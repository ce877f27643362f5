"""A pilot: historical studies read in silence, set against what the practice charted about them.

Nothing that the models say here is stored with a study or shown to anybody: a folder's files are
read where they lie, of the node's own studies what stands in the tables. Only the report, which
names nobody, is kept.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pydicom
import sqlalchemy as sa
from pydicom.errors import InvalidDicomError

from node.analysis.agreement import Unit, units_of
from node.analysis.charted import MISSING, Charted, read_charted
from node.analysis.inference import InferenceProcess
from node.analysis.silent_agreement import Tally
from node.config import Config
from node.db.session import read
from node.db.tables import analysis_run, finding, instance, patient, study, tooth_mark
from node.dicom.identity import SenderIdentity, match_identity, read_day
from node.domain.findings import DecisionState, FindingKind, ImageAnalysis, View
from node.domain.review import finding_to_json
from node.domain.study import MatchState, dicom_name_key
from node.domain.teeth import PERMANENT
from node.errors import InvalidInput, Rejected, Retryable
from node.rollout.reports import Report

#: Only these are read: others carry no findings of ours.
_VIEWS = (View.BITEWING.value, View.PERIAPICAL.value, View.PANORAMIC.value)
#: Kinds that no chart entry speaks for by tooth, so that nothing can be said of them here.
_UNCHARTED = frozenset(
    kind.value
    for kind in FindingKind
    if kind
    not in (
        FindingKind.CARIES,
        FindingKind.RECURRENT_CARIES,
        FindingKind.PERIAPICAL_RADIOLUCENCY,
        FindingKind.RESTORATION,
        FindingKind.CROWN,
        FindingKind.ROOT_FILLING,
        FindingKind.POST,
        FindingKind.IMPLANT,
        FindingKind.IMPACTED_TOOTH,
        FindingKind.ROOT_REMNANT,
    )
)
#: A filling says nothing of whether the caries under it was recurrent: both count as caries.
_SAME = {FindingKind.RECURRENT_CARIES.value: FindingKind.CARIES.value}
_NOTES = (
    "A chart says what somebody treated or planned, from mouth and film together, and after the "
    "film: it is no truth about the film. Watched lesions are often not charted, so precision here "
    "is a lower bound; treatment for other reasons is charted too, so sensitivity is one as well.",
    "A filling charted up to a year after the film counts as caries; a root canal treatment as a "
    "periapical radiolucency, though many are made for a pulp that no film shows.",
    "Bone level, calculus, margins, angular defects and furcations are not charted by tooth here "
    "and are not compared.",
)


@dataclass(frozen=True, slots=True)
class PilotImage:
    """What the models said of one image; ``findings`` are mappings as of the finding table."""

    view: str
    teeth: frozenset[str]
    findings: tuple[dict[str, object], ...]


@dataclass(frozen=True, slots=True)
class PilotStudy:
    """One study of a patient who is certain; ``patient_key`` is the practice system's."""

    id: str
    patient_key: str
    day: date
    images: tuple[PilotImage, ...]
    models: frozenset[str]


@dataclass(slots=True)
class Skipped:
    """Why studies and files were left out, counted."""

    reasons: Counter[str]

    def words(self) -> tuple[str, ...]:
        """Say it, the commonest first."""
        return tuple(f"{count} left out: {why}" for why, count in self.reasons.most_common())


def pilot_report(
    db: sa.Engine, location_id: str, studies: Iterable[PilotStudy], skipped: Skipped
) -> Report:
    """Compare each study with its patient's chart, one view at a time."""
    tally, models, unseen = Tally(), set[str](), 0
    for each in studies:
        models |= each.models
        with read(db) as conn:
            charted = read_charted(conn, location_id, each.patient_key, each.day)
        if not charted:
            skipped.reasons["nothing is charted for these patients and days"] += 1
            continue
        seen = frozenset().union(*(image.teeth for image in each.images))
        unseen += sum(item.tooth not in seen and item.kind != MISSING for item in charted)
        for view in sorted({image.view for image in each.images}):
            images = [image for image in each.images if image.view == view]
            signed, said = _units(each.id, view, images, charted)
            tally.add(view, each.patient_key, each.id, signed, said, len(images))
    beyond = (f"{unseen} charted entries were about teeth that no network found on any image.",)
    return tally.report("pilot", models, (*_NOTES, *(beyond if unseen else ()), *skipped.words()))


def _units(
    study_id: str, view: str, images: list[PilotImage], charted: Iterable[Charted]
) -> tuple[frozenset[Unit], frozenset[Unit]]:
    """Give what was charted and what was said of the teeth that these images show."""
    teeth = frozenset().union(*(image.teeth for image in images))
    is_whole = view == View.PANORAMIC.value
    marked = [
        {"kind": item.kind, "tooth": item.tooth, "surfaces": item.surfaces}
        for item in charted
        if (item.kind == MISSING and is_whole) or (item.kind != MISSING and item.tooth in teeth)
    ]
    said = [
        {**one, "kind": _SAME.get(str(one["kind"]), one["kind"])}
        for image in images
        for one in image.findings
        if one["kind"] not in _UNCHARTED and one["tooth"] in teeth
    ]
    if is_whole:
        gone = [tooth.code for tooth in PERMANENT if tooth.code not in teeth]
        said += [{"kind": MISSING, "tooth": code, "surfaces": ""} for code in gone]
    return units_of(study_id, marked), units_of(study_id, said)


# --- what the node holds ---


def held_studies(db: sa.Engine, location_id: str, skipped: Skipped) -> Iterator[PilotStudy]:
    """Read analysed studies of certain patients in whose reading nobody was shown a suggestion."""
    with read(db) as conn:
        rows = conn.execute(
            sa.select(study, patient.c.pms_key)
            .outerjoin(patient, patient.c.id == study.c.patient_id)
            .where(study.c.location_id == location_id)
            .order_by(study.c.study_date, study.c.id)
        ).all()
    for row in rows:
        day = read_day(row.study_date)
        if row.pms_key is None or not MatchState(row.match_state).is_certain:
            skipped.reasons["the patient is not certain"] += 1
        elif day is None:
            skipped.reasons["the study has no date"] += 1
        else:
            with read(db) as conn:
                found = _held(conn, row, day)
            if found is None:
                skipped.reasons["somebody saw and decided suggestions of it"] += 1
            elif not found.images:
                skipped.reasons["no image was analysed or is of a view that is compared"] += 1
            else:
                yield found


def _held(conn: sa.Connection, row: sa.Row, day: date) -> PilotStudy | None:  # type: ignore[type-arg]
    # SQLAlchemy's Row is generic over its columns.
    is_decided = conn.execute(
        sa.select(finding.c.id)
        .where(
            finding.c.study_id == row.id,
            finding.c.origin == "ai",
            finding.c.state != DecisionState.SUGGESTED.value,
        )
        .limit(1)
    ).first()
    if is_decided is not None:
        return None
    runs = {
        run.instance_id: run
        for run in conn.execute(
            sa.select(analysis_run)
            .join(instance, instance.c.id == analysis_run.c.instance_id)
            .where(instance.c.study_id == row.id, analysis_run.c.view.in_(_VIEWS))
            .order_by(analysis_run.c.finished_at)
        )
    }
    teeth: dict[str, set[str]] = defaultdict(set)
    said: dict[str, list[dict[str, object]]] = defaultdict(list)
    ids = list(runs)
    for mark in conn.execute(sa.select(tooth_mark).where(tooth_mark.c.instance_id.in_(ids))):
        teeth[mark.instance_id].add(mark.tooth)
    for one in conn.execute(
        sa.select(finding).where(
            finding.c.instance_id.in_(ids),
            finding.c.origin == "ai",
            sa.not_(finding.c.is_removed),
        )
    ):
        said[one.instance_id].append(
            {"kind": one.kind, "tooth": one.tooth, "surfaces": one.surfaces}
        )
    images = tuple(
        PilotImage(run.view, frozenset(teeth[image_id]), tuple(said[image_id]))
        for image_id, run in runs.items()
    )
    models = {f"{m['name']} {m['version']}" for run in runs.values() for m in run.models}
    return PilotStudy(row.id, row.pms_key, day, images, frozenset(models))


# --- a folder ---


def folder_studies(
    folder: Path,
    db: sa.Engine,
    config: Config,
    inference: InferenceProcess,
    skipped: Skipped,
    advance: Callable[[int, int], None],
) -> Iterator[PilotStudy]:
    """Analyse every DICOM file below `folder` where it lies; nothing of it is stored.

    Raises InvalidInput when there is no DICOM file. `advance` is told (files done, files).
    """
    grouped: dict[str, list[Path]] = defaultdict(list)
    identities: dict[str, SenderIdentity] = {}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in paths:
        identity = _identity(path)
        if identity is None:
            skipped.reasons["not a DICOM image"] += 1
            continue
        grouped[identity.study_instance_uid].append(path)
        identities.setdefault(identity.study_instance_uid, identity)
    if not grouped:
        raise InvalidInput("there is no DICOM image in this folder")
    done, total = 0, sum(map(len, grouped.values()))
    for uid, files in grouped.items():
        with read(db) as conn:
            match = match_identity(conn, config.node.location_id, identities[uid], config)
            key = conn.execute(
                sa.select(patient.c.pms_key).where(patient.c.id == (match.patient_id or ""))
            ).scalar()
        day = identities[uid].study_day
        if key is None or not match.state.is_certain or day is None:
            skipped.reasons["the patient or the day is not certain"] += 1
        else:
            analyses = [a for path in files if (a := _analyse(path, inference, skipped))]
            images = tuple(_image(a) for a in analyses if a.view and a.view.value in _VIEWS)
            if images:
                models = frozenset(str(model) for a in analyses for model in a.models)
                yield PilotStudy(uid, key, day, images, models)
        done += len(files)
        advance(done, total)


def _identity(path: Path) -> SenderIdentity | None:
    try:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError, AttributeError):
        return None
    if not ds.get("StudyInstanceUID") or not ds.get("Rows"):
        return None
    return SenderIdentity(
        name_key=dicom_name_key(str(ds.get("PatientName", ""))),
        birth_date=read_day(str(ds.get("PatientBirthDate", ""))),
        patient_id=str(ds.get("PatientID", "")).strip(),
        issuer=str(ds.get("IssuerOfPatientID", "")).strip(),
        accession_number=str(ds.get("AccessionNumber", "")).strip(),
        study_instance_uid=str(ds.StudyInstanceUID),
        study_day=read_day(str(ds.get("StudyDate", ""))),
    )


def _analyse(path: Path, inference: InferenceProcess, skipped: Skipped) -> ImageAnalysis | None:
    try:
        return inference.analyse(path)
    except (InvalidInput, Rejected, Retryable):
        skipped.reasons["the image could not be analysed"] += 1
        return None


def _image(analysis: ImageAnalysis) -> PilotImage:
    assert analysis.view is not None
    return PilotImage(
        analysis.view.value,
        frozenset(mark.tooth.code for mark in analysis.teeth),
        tuple(finding_to_json(one) for one in analysis.findings),
    )
