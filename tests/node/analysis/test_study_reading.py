"""What is said of a study: stored once, numbers reconciled, priors compared, priors never guessed.

The films are phantoms; what the models would say of them is their truth, so that no weights are
needed and every expected change is known. Comparing runs in the real inference process.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from node.analysis.completion import reread_stale_studies
from node.analysis.findings import store_analysis
from node.analysis.inference import InferenceProcess
from node.analysis.study_reading import StudyReader
from node.analysis.workflows import Analyser
from node.config import AnalysisSection
from node.db.session import Actor, begin, new_id, read
from node.db.tables import (
    appointment,
    audit,
    event,
    finding,
    instance,
    patient,
    procedure,
    review,
    study,
    study_identity,
    study_reading,
    tooth_mark,
    user_account,
)
from node.dicom.instances import FolderStore
from node.domain import cdt
from node.domain.findings import (
    BoneSite,
    Box,
    CariesDepth,
    Finding,
    FindingKind,
    ImageAnalysis,
    ModelVersion,
    Polygon,
    ToothMark,
    View,
)
from node.domain.reading import Arrival, StudyReading, Verdict
from node.domain.teeth import Surface, Tooth
from node.engine import DurableEngine
from node.export import export_study
from sample_studies import phantoms
from sample_studies.progression import Capture, LowerCrest, NewLesion, Truth, capture, progress

pytest.importorskip("cv2")
ACTOR = Actor("analysis", "main")
MODEL = ModelVersion("intraoral", "9", "e" * 64)
MM, SIZE = 0.08, (375, 500)
TODAY = date(2026, 1, 5)
LAST_YEAR = date(2025, 1, 7)


class Clinic:
    """A database, a store, the inference process without weights."""

    def __init__(self, db: sa.Engine, folder: Path) -> None:
        (folder / "weights").mkdir()
        (folder / "weights" / "manifest.json").write_text("[]")
        section = AnalysisSection(weights_dir=str(folder / "weights"), threads=1, timeout_s=60)
        self.db = db
        self.store = FolderStore(folder / "images")
        self.inference = InferenceProcess(section)
        self.reader = StudyReader(db, ACTOR, self.inference, self.store.path, cdt.load())

    def patient(self) -> str:
        made = new_id()
        with begin(self.db, ACTOR, "test") as tx:
            tx.conn.execute(
                patient.insert().values(
                    id=made, location_id="main", pms_key=made[:8], synced_at=tx.now
                )
            )
        return made

    def study(self, patient_id: str | None, day: date = TODAY, match: str = "matched") -> str:
        made = new_id()
        with begin(self.db, ACTOR, "test") as tx:
            tx.conn.execute(
                study.insert().values(
                    id=made,
                    location_id="main",
                    study_instance_uid=generate_uid(),
                    study_date=f"{day:%Y%m%d}",
                    state="ready",
                    match_state=match,
                    patient_id=patient_id,
                    received_at=tx.now,
                    last_image_at=tx.now,
                )
            )
            tx.conn.execute(
                study_identity.insert().values(
                    study_id=made, location_id="main", birth_date="19800101"
                )
            )
        return made

    def image(self, study_id: str, pixels: np.ndarray, said: ImageAnalysis) -> str:
        made = new_id()
        content = dicom(pixels)
        stored = self.store.put("main", made, lambda file: file.write(content) and None)
        with begin(self.db, ACTOR, "test") as tx:
            tx.conn.execute(
                instance.insert().values(
                    id=made,
                    location_id="main",
                    study_id=study_id,
                    sop_instance_uid=generate_uid(),
                    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.3",
                    transfer_syntax_uid=str(ExplicitVRLittleEndian),
                    modality="IO",
                    rows=pixels.shape[0],
                    columns=pixels.shape[1],
                    spacing_mm_row=MM,
                    spacing_mm_col=MM,
                    spacing_kind="detector",
                    sha256=stored.sha256,
                    size_bytes=stored.size_bytes,
                    storage_key=stored.storage_key,
                    state="received",
                    received_at=tx.now,
                )
            )
        store_analysis(self.db, ACTOR, made, said, datetime.now(UTC))
        return made

    def reading(self, study_id: str) -> StudyReading | None:
        content = self.rows(sa.select(study_reading).where(study_reading.c.study_id == study_id))
        return StudyReading.from_json(content[0].content) if content else None

    def rows(self, query: sa.Select) -> Sequence[sa.Row]:
        with read(self.db) as conn:
            return conn.execute(query).all()


@pytest.fixture
def clinic(database: sa.Engine, tmp_path: Path) -> Iterator[Clinic]:
    opened = Clinic(database, tmp_path)
    yield opened
    opened.inference.close()


def dicom(pixels: np.ndarray) -> bytes:
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.3"
    ds.SOPInstanceUID = generate_uid()
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PixelRepresentation = 1, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ds.ImagerPixelSpacing = [MM, MM]
    ds.PixelData = np.round(pixels * 4095).astype("<u2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def said(truth: Truth, **changes: object) -> ImageAnalysis:
    """Say of a phantom's film what is true of it."""
    sites = tuple(
        BoneSite(
            Tooth(row["tooth"]), Surface(row["surface"]), tuple(row["cej"]), tuple(row["crest"]),
            None, row["level_mm"], None, 0.9,
        )
        for row in truth["sites"]
    )  # fmt: skip
    teeth = tuple(
        ToothMark(Tooth(row["tooth"]), Box(*row["box"]), 0.9, MODEL) for row in truth["teeth"]
    )
    lesions = tuple(
        Finding(
            FindingKind.CARIES,
            Polygon(tuple(map(tuple, row["polygon"]))),
            Tooth(row["tooth"]),
            (Surface(row["surface"]),),
            CariesDepth(row["depth"]),
            probability=0.8,
            model=MODEL,
        )
        for row in truth["lesions"]
    )
    return ImageAnalysis(
        **{
            "view": View.BITEWING,
            "view_probability": 0.99,
            "teeth": teeth,
            "findings": lesions,
            "models": (MODEL,),
            "sites": sites,
            "side": truth["side"],
            **changes,
        }
    )


class Mouth:
    """One mouth before and after a known change, filmed on two days."""

    def __init__(self, seed: int = 5) -> None:
        rng = np.random.default_rng(seed)
        large = phantoms.bitewing(rng, cols=580, rows=435, pixel_mm=MM)
        pixels = (large.pixels / (2**large.bits_stored - 1)).astype(np.float32)
        truth = large.truth()
        self.tooth, self.surface = self._site(truth)
        happened = [LowerCrest(self.tooth, self.surface, 2.6), NewLesion(self.tooth, "M")]
        self.before = capture(pixels, truth, Capture.random(rng), SIZE, rng)
        self.unchanged = capture(pixels, truth, Capture.random(rng), SIZE, rng)
        self.after = capture(*progress(pixels, truth, happened), Capture.random(rng), SIZE, rng)

    def _site(self, truth: Truth) -> tuple[str, str]:
        for row in truth["sites"]:
            is_back = row["tooth"][0] in "34" and row["tooth"][1] in "567"
            if is_back and 200 < row["crest"][0] < 400:
                return row["tooth"], row["surface"]
        pytest.fail("the phantom shows no lower molar in its middle")


@pytest.fixture(scope="module")
def mouth() -> Mouth:
    return Mouth()


def small(view: View = View.BITEWING, teeth: str = "46", *findings: Finding) -> ImageAnalysis:
    marks = tuple(
        ToothMark(Tooth(t), Box(5 + 9 * n, 5, 13 + 9 * n, 30), 0.6, MODEL)
        for n, t in enumerate(teeth.split())
    )
    return ImageAnalysis(view, 0.9, marks, findings, (MODEL,))


def mark(kind: FindingKind, tooth: str) -> Finding:
    return Finding(kind, Box(5, 5, 20, 20), Tooth(tooth), probability=0.8, model=MODEL)


BLANK = np.zeros((40, 60), np.float32)


# --- computed, stored, once ----------------------------------------------------------------------


def test_a_finished_study_is_read_once(clinic: Clinic) -> None:
    study_id = clinic.study(clinic.patient())
    clinic.image(study_id, BLANK, small(View.BITEWING, "46 45", mark(FindingKind.CROWN, "46")))
    assert clinic.reader.read_again(study_id)
    assert not clinic.reader.read_again(study_id)
    found = clinic.reading(study_id)
    assert found is not None
    assert {"bitewing", "crown_present"} <= set(found.conclusions.tags)
    assert not found.conclusions.is_signed
    events = clinic.rows(sa.select(event).where(event.c.kind == "study.reading"))
    assert [row.subject for row in events] == [study_id]


@pytest.mark.parametrize("state", ["receiving", "complete"])
def test_an_unfinished_study_is_not_read(clinic: Clinic, state: str) -> None:
    study_id = clinic.study(None)
    with begin(clinic.db, ACTOR, "test") as tx:
        tx.conn.execute(study.update().values(state=state))
    assert not clinic.reader.read_again(study_id)
    assert not clinic.reader.read_again(uuid.uuid4().hex)
    assert clinic.reading(study_id) is None


def test_another_image_is_read_again(clinic: Clinic) -> None:
    study_id = clinic.study(clinic.patient())
    clinic.image(study_id, BLANK, small(teeth="46"))
    assert clinic.reader.read_again(study_id)
    clinic.image(study_id, BLANK, small(teeth="36"))
    with begin(clinic.db, ACTOR, "test") as tx:
        tx.conn.execute(study.update().values(generation=1))
    assert clinic.reader.read_again(study_id)
    found = clinic.reading(study_id)
    assert found is not None
    assert len(found.facts.images) == 2
    assert len(clinic.rows(sa.select(study_reading))) == 1


def test_procedures_are_checked_and_the_audit_says_so(clinic: Clinic) -> None:
    patient_id = clinic.patient()
    study_id = clinic.study(patient_id)
    clinic.image(study_id, BLANK, small())
    visit = new_id()
    with begin(clinic.db, ACTOR, "test") as tx:
        tx.conn.execute(
            appointment.insert().values(
                id=visit, location_id="main", pms_key="7", patient_id=patient_id, start_at=tx.now,
                duration_min=30, status="scheduled", accession_number="A7",
                study_instance_uid="1.2.7", synced_at=tx.now,
            )
        )  # fmt: skip
        for number, (code, status) in enumerate(
            [("D0272", "treatment_planned"), ("D0330", "deleted"), ("D2391", "complete")]
        ):
            tx.conn.execute(
                procedure.insert().values(
                    id=new_id(), location_id="main", pms_key=str(number), patient_id=patient_id,
                    appointment_key="7", cdt_code=code, status=status, synced_at=tx.now,
                )
            )  # fmt: skip
        tx.conn.execute(study.update().values(appointment_id=visit))
    clinic.reader.read_again(study_id)
    found = clinic.reading(study_id)
    assert found is not None
    (check,) = found.facts.procedures
    assert (check.cdt_codes, check.state, check.arrived) == (("D0272",), Arrival.SHORT, 1)
    (entry,) = clinic.rows(sa.select(audit).where(audit.c.action == "study.read"))
    assert entry.subject == f"study:{study_id}"
    assert entry.detail["procedures"] == [
        {"codes": ["D0272"], "asked": 2, "arrived": 1, "state": "short"}
    ]


def test_a_doubtful_patient_has_no_procedures_and_no_priors(clinic: Clinic, mouth: Mouth) -> None:
    patient_id = clinic.patient()
    earlier = clinic.study(patient_id, LAST_YEAR)
    clinic.image(earlier, mouth.before[0], said(mouth.before[1]))
    study_id = clinic.study(patient_id, match="suggested")
    clinic.image(study_id, mouth.after[0], said(mouth.after[1]))
    clinic.reader.read_again(study_id)
    found = clinic.reading(study_id)
    assert found is not None
    assert not found.facts.registrations
    assert not found.facts.changes


# --- numbers across images -----------------------------------------------------------------------

CROWNED = mark(FindingKind.CROWN, "16")
SEEN_TWICE = (CROWNED, mark(FindingKind.ROOT_FILLING, "15"))


def two_films(clinic: Clinic) -> tuple[str, str]:
    """Two periapicals of one corner, the second with every number one too far back."""
    study_id = clinic.study(clinic.patient())
    sure = small(View.PERIAPICAL, "17 16 15", *SEEN_TWICE)
    teeth = tuple(ToothMark(t.tooth, t.box, 0.98, MODEL) for t in sure.teeth)
    first = ImageAnalysis(sure.view, 0.9, teeth, sure.findings, (MODEL,))
    clinic.image(study_id, BLANK, first)
    off = [mark(FindingKind.CROWN, "17"), mark(FindingKind.ROOT_FILLING, "16")]
    shifted = clinic.image(study_id, BLANK, small(View.PERIAPICAL, "18 17 16", *off))
    return study_id, shifted


def test_contradicting_numbers_are_changed_and_the_models_own_are_kept(clinic: Clinic) -> None:
    study_id, shifted = two_films(clinic)
    clinic.reader.read_again(study_id)
    marks = clinic.rows(sa.select(tooth_mark).where(tooth_mark.c.instance_id == shifted))
    assert sorted((row.tooth, row.original_tooth) for row in marks) == [
        ("15", "16"), ("16", "17"), ("17", "18"),
    ]  # fmt: skip
    found = clinic.rows(sa.select(finding).where(finding.c.instance_id == shifted))
    assert sorted((row.tooth, row.original_tooth) for row in found) == [("15", "16"), ("16", "17")]
    assert {row.rev for row in found} == {2}, "a decision on the old number is a conflict"
    reading = clinic.reading(study_id)
    assert reading is not None
    (note,) = reading.facts.renumberings
    assert note.is_applied
    assert note.instance_id == shifted
    assert {group.key for group in reading.conclusions.groups if group.images == 2} == {
        "crown:16", "root_filling:15",
    }  # fmt: skip


def test_reading_again_renumbers_from_the_models_own_numbers(clinic: Clinic) -> None:
    study_id, shifted = two_films(clinic)
    clinic.reader.read_again(study_id)
    with begin(clinic.db, ACTOR, "test") as tx:
        tx.conn.execute(study.update().values(generation=1))
    assert clinic.reader.read_again(study_id)
    marks = clinic.rows(sa.select(tooth_mark).where(tooth_mark.c.instance_id == shifted))
    assert sorted((row.tooth, row.original_tooth) for row in marks)[0] == ("15", "16")
    found = clinic.rows(sa.select(finding).where(finding.c.instance_id == shifted))
    assert {row.rev for row in found} == {2}, "what already has its number is not touched"


def test_numbers_that_nothing_contradicts_any_more_are_the_models_own_again(
    clinic: Clinic,
) -> None:
    study_id, shifted = two_films(clinic)
    clinic.reader.read_again(study_id)
    with begin(clinic.db, ACTOR, "test") as tx:  # the film that contradicted is read no more
        other = sa.and_(instance.c.study_id == study_id, instance.c.id != shifted)
        tx.conn.execute(instance.update().where(other).values(state="unreadable"))
    assert clinic.reader.read_again(study_id)
    marks = clinic.rows(sa.select(tooth_mark).where(tooth_mark.c.instance_id == shifted))
    assert sorted((row.tooth, row.original_tooth) for row in marks) == [
        ("16", None), ("17", None), ("18", None),
    ]  # fmt: skip


def test_a_decision_on_changed_numbers_keeps_them(clinic: Clinic) -> None:
    study_id, shifted = two_films(clinic)
    clinic.reader.read_again(study_id)
    with begin(clinic.db, ACTOR, "test") as tx:
        of_image = finding.c.instance_id == shifted
        tx.conn.execute(finding.update().where(of_image).values(state="accepted"))
        tx.conn.execute(study.update().values(generation=1))
    assert clinic.reader.read_again(study_id)
    found = clinic.rows(sa.select(finding).where(finding.c.instance_id == shifted))
    assert sorted((row.tooth, row.original_tooth) for row in found) == [("15", "16"), ("16", "17")]
    reading = clinic.reading(study_id)
    assert reading is not None
    assert not reading.facts.renumberings
    image = reading.facts.image(shifted)
    assert image is not None
    assert image.teeth == (Tooth("15"), Tooth("16"), Tooth("17"))


def test_what_a_person_decided_is_never_renumbered(clinic: Clinic) -> None:
    study_id, shifted = two_films(clinic)
    with begin(clinic.db, ACTOR, "test") as tx:
        of_image = finding.c.instance_id == shifted
        one = tx.conn.execute(sa.select(finding.c.id).where(of_image).limit(1)).scalar()
        tx.conn.execute(finding.update().where(finding.c.id == one).values(state="accepted"))
    clinic.reader.read_again(study_id)
    found = clinic.rows(sa.select(finding).where(finding.c.instance_id == shifted))
    assert all(row.original_tooth is None for row in found)
    reading = clinic.reading(study_id)
    assert reading is not None
    assert not any(
        note.is_applied for note in reading.facts.renumberings if note.instance_id == shifted
    )


# --- priors --------------------------------------------------------------------------------------


def test_a_known_change_is_found_and_nothing_else(clinic: Clinic, mouth: Mouth) -> None:
    patient_id = clinic.patient()
    earlier = clinic.study(patient_id, LAST_YEAR)
    prior = clinic.image(earlier, mouth.before[0], said(mouth.before[1]))
    study_id = clinic.study(patient_id)
    image = clinic.image(study_id, mouth.after[0], said(mouth.after[1]))
    clinic.reader.read_again(study_id)
    reading = clinic.reading(study_id)
    assert reading is not None
    changes = [each for each in reading.facts.changes if each.verdict.is_change]
    lost = [c for c in changes if c.verdict is Verdict.MORE_LOSS]
    assert (Tooth(mouth.tooth), Surface(mouth.surface)) in {(c.tooth, c.surface) for c in lost}
    assert len(lost) <= 2, "the site and the facing one of its neighbour"
    for change in lost:
        assert change.delta_mm == pytest.approx(2.6, abs=0.6)
        assert change.smallest_mm >= 1.1
        assert (change.instance_id, change.prior_instance_id) == (image, prior)
        assert (change.prior_date, change.prior_source) == ("2025-01-07", "ai")
    new = [c for c in changes if c.verdict is Verdict.NEW]
    assert [(c.tooth.code, c.surface.value) for c in new] == [(mouth.tooth, "M")]
    assert "change_since_prior" in reading.conclusions.tags
    assert any("new bone loss" in reason for reason in reading.conclusions.priority.reasons)


def test_the_same_mouth_on_another_day_has_not_changed(clinic: Clinic, mouth: Mouth) -> None:
    patient_id = clinic.patient()
    earlier = clinic.study(patient_id, LAST_YEAR)
    clinic.image(earlier, mouth.before[0], said(mouth.before[1]))
    study_id = clinic.study(patient_id)
    clinic.image(study_id, mouth.unchanged[0], said(mouth.unchanged[1]))
    clinic.reader.read_again(study_id)
    reading = clinic.reading(study_id)
    assert reading is not None
    assert len(reading.facts.changes) > 8
    assert not [each.words for each in reading.facts.changes if each.verdict.is_change]


@pytest.mark.parametrize(
    "values",
    [{"match_state": "ambiguous"}, {"study_date": f"{TODAY:%Y%m%d}"}, {"state": "receiving"}],
)
def test_only_finished_earlier_studies_of_the_same_certain_patient_are_priors(
    clinic: Clinic, mouth: Mouth, values: dict
) -> None:
    patient_id = clinic.patient()
    earlier = clinic.study(patient_id, LAST_YEAR)
    clinic.image(earlier, mouth.before[0], said(mouth.before[1]))
    with begin(clinic.db, ACTOR, "test") as tx:
        tx.conn.execute(study.update().where(study.c.id == earlier).values(**values))
    study_id = clinic.study(patient_id)
    clinic.image(study_id, mouth.after[0], said(mouth.after[1]))
    clinic.reader.read_again(study_id)
    reading = clinic.reading(study_id)
    assert reading is not None
    assert not reading.facts.registrations


def test_another_patients_study_is_no_prior(clinic: Clinic, mouth: Mouth) -> None:
    earlier = clinic.study(clinic.patient(), LAST_YEAR)
    clinic.image(earlier, mouth.before[0], said(mouth.before[1]))
    study_id = clinic.study(clinic.patient())
    clinic.image(study_id, mouth.after[0], said(mouth.after[1]))
    clinic.reader.read_again(study_id)
    reading = clinic.reading(study_id)
    assert reading is not None
    assert not reading.facts.registrations


def test_what_was_signed_is_what_is_compared_with(clinic: Clinic, mouth: Mouth) -> None:
    patient_id = clinic.patient()
    earlier = clinic.study(patient_id, LAST_YEAR)
    prior = clinic.image(earlier, mouth.before[0], said(mouth.before[1]))
    lesion = [r for r in mouth.after[1]["lesions"] if r["tooth"] == mouth.tooth][-1]
    known = Finding(
        FindingKind.CARIES, Polygon(tuple(map(tuple, lesion["polygon"]))), Tooth(mouth.tooth),
        (Surface.MESIAL,), CariesDepth.D2,
    )  # fmt: skip
    _sign(clinic, earlier, prior, known)
    study_id = clinic.study(patient_id)
    clinic.image(study_id, mouth.after[0], said(mouth.after[1]))
    clinic.reader.read_again(study_id)
    reading = clinic.reading(study_id)
    assert reading is not None
    caries = [
        each
        for each in reading.facts.changes
        if each.kind is FindingKind.CARIES
        and (each.tooth, each.surface) == (Tooth(mouth.tooth), Surface.MESIAL)
    ]
    assert [(each.verdict, each.prior_source) for each in caries] == [
        (Verdict.NO_MEASURABLE_CHANGE, "signed")
    ]
    assert caries[0].before_depth is CariesDepth.D2


def _sign(clinic: Clinic, study_id: str, image_id: str, mark: Finding) -> None:
    """Store a signed version with one finding, as the sign-off gate writes it."""
    from node.domain.findings import DecisionState
    from node.domain.review import DecisionCounts, SignedFinding, SignedReview

    signed = SignedReview(
        study_id, "1.2.3", 1, "u", "Dr. Lin", "dentist", datetime(2025, 1, 7, tzinfo=UTC), "mine",
        "", "0", ((image_id, "1.2"),),
        (SignedFinding("a" * 32, image_id, "1.2", "human", DecisionState.ACCEPTED, mark, None),),
        (), DecisionCounts(0, 0, 0, 0, 1),
    )  # fmt: skip
    with begin(clinic.db, ACTOR, "test") as tx:
        user = new_id()
        tx.conn.execute(
            user_account.insert().values(
                id=user, location_id="main", username=user[:8], display_name="Dr. Lin",
                role="dentist", password_hash="x",
            )
        )  # fmt: skip
        tx.conn.execute(
            review.insert().values(
                id=new_id(), location_id="main", study_id=study_id, version=1, signed_by=user,
                signer_name="Dr. Lin", signer_role="dentist", statement="", content_hash="0" * 64,
                content=signed.to_json(), software_version="0", signed_at=tx.now,
            )
        )  # fmt: skip
        values = {"state": "signed", "review_version": 1}
        tx.conn.execute(study.update().where(study.c.id == study_id).values(**values))


def test_an_unreadable_prior_is_not_comparable_and_says_why(clinic: Clinic, mouth: Mouth) -> None:
    patient_id = clinic.patient()
    earlier = clinic.study(patient_id, LAST_YEAR)
    prior = clinic.image(earlier, mouth.before[0], said(mouth.before[1]))
    key = clinic.rows(sa.select(instance.c.storage_key).where(instance.c.id == prior))[0][0]
    clinic.store.path(key).write_bytes(b"no film")
    study_id = clinic.study(patient_id)
    clinic.image(study_id, mouth.after[0], said(mouth.after[1]))
    assert clinic.reader.read_again(study_id)
    reading = clinic.reading(study_id)
    assert reading is not None
    assert reading.facts.changes
    assert {each.verdict for each in reading.facts.changes} == {Verdict.NOT_COMPARABLE}
    assert all(each.reason for each in reading.facts.registrations)


def test_a_prior_that_an_archive_holds_is_compared_when_it_is_back(
    clinic: Clinic, mouth: Mouth
) -> None:
    patient_id = clinic.patient()
    earlier = clinic.study(patient_id, LAST_YEAR)
    prior = clinic.image(earlier, mouth.before[0], said(mouth.before[1]))
    key = clinic.rows(sa.select(instance.c.storage_key).where(instance.c.id == prior))[0][0]
    path = clinic.store.path(key)
    kept = path.read_bytes()
    path.unlink()
    study_id = clinic.study(patient_id)
    clinic.image(study_id, mouth.after[0], said(mouth.after[1]))
    assert clinic.reader.read_again(study_id)
    away = clinic.reading(study_id)
    assert away is not None
    assert {each.verdict for each in away.facts.changes} == {Verdict.NOT_COMPARABLE}
    assert all("with the archive" in each.reason for each in away.facts.registrations)
    assert not clinic.reader.read_again(study_id), "nothing has changed"
    path.write_bytes(kept)
    assert clinic.reader.read_again(study_id)
    back = clinic.reading(study_id)
    assert back is not None
    assert {each.verdict for each in back.facts.changes} != {Verdict.NOT_COMPARABLE}


def test_a_prior_that_comes_late_is_compared_all_the_same(clinic: Clinic, mouth: Mouth) -> None:
    patient_id = clinic.patient()
    study_id = clinic.study(patient_id)
    clinic.image(study_id, mouth.after[0], said(mouth.after[1]))
    clinic.reader.read_again(study_id)
    earlier = clinic.study(patient_id, LAST_YEAR)
    clinic.image(earlier, mouth.before[0], said(mouth.before[1]))
    clinic.reader.read_again(earlier)
    assert clinic.reader.read_later(earlier) == 1
    reading = clinic.reading(study_id)
    assert reading is not None
    assert reading.facts.registrations


def test_the_sweep_reads_what_no_longer_fits_and_only_that(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    opened = Clinic(sqlite_database, tmp_path)
    Analyser(opened.db, ACTOR, opened.inference, opened.store.path, lambda _tx, _id: None).register(
        engine
    )
    study_id = opened.study(None, match="unmatched")
    opened.image(study_id, BLANK, small())
    assert reread_stale_studies(opened.db, engine, ACTOR) == 1
    assert reread_stale_studies(opened.db, engine, ACTOR) == 0
    deadline = datetime.now(UTC) + timedelta(seconds=30)
    while opened.reading(study_id) is None:
        assert datetime.now(UTC) < deadline, "the sweep's run did not store a reading in time"
    patient_id = opened.patient()
    with begin(opened.db, ACTOR, "test") as tx:
        tx.conn.execute(study.update().values(patient_id=patient_id, match_state="linked"))
    assert reread_stale_studies(opened.db, engine, ACTOR) == 1
    while opened.rows(sa.select(study_reading.c.patient_id))[0][0] != patient_id:
        assert datetime.now(UTC) < deadline, "the sweep's run did not store a reading in time"
    assert reread_stale_studies(opened.db, engine, ACTOR) == 0
    opened.inference.close()


def test_the_export_carries_the_reading_and_what_was_signed(clinic: Clinic, mouth: Mouth) -> None:
    study_id = clinic.study(clinic.patient())
    image = clinic.image(study_id, mouth.after[0], said(mouth.after[1]))
    clinic.reader.read_again(study_id)
    exported = export_study(clinic.db, "main", study_id, cdt.load(), includes_silent=True)
    assert exported["reading"] == clinic.rows(sa.select(study_reading.c.content))[0][0]
    assert exported["signed_conclusions"] is None
    known = Finding(FindingKind.CARIES, Box(1, 1, 9, 9), Tooth("46"), (Surface.MESIAL,),
                    CariesDepth.D1)  # fmt: skip
    _sign(clinic, study_id, image, known)
    signed = export_study(clinic.db, "main", study_id, cdt.load())["signed_conclusions"]
    assert isinstance(signed, dict)
    assert "caries_recorded" in signed["tags"]
    assert {code["cdt_code"] for code in signed["codes"]} == {"D2391", "D2140"}
