"""From a stored image to a study that is ready, with the real inference process."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage, generate_uid

from node.analysis.arrivals import Patience
from node.analysis.completion import complete_studies, requeue_forgotten_images
from node.analysis.findings import store_analysis
from node.analysis.inference import InferenceProcess
from node.analysis.workflows import Analyser
from node.config import AnalysisSection
from node.db.session import Actor, begin, read
from node.db.tables import analysis_run, event, finding, instance, study, tooth_mark
from node.dicom.derived import Composer, derived_uid
from node.dicom.instances import FolderStore
from node.dicom.rejection import Rejected, Title, compose_rejection
from node.dicom.store import Incoming, receive
from node.domain import jobs
from node.domain.findings import Box, Finding, FindingKind, ImageAnalysis, ModelVersion, ToothMark
from node.domain.findings import View as ImageView
from node.domain.teeth import Tooth
from node.engine import DurableEngine
from tests.node.analysis.test_inference import write_image

pytest.importorskip("torch")
ACTOR = Actor("analysis", "main")


def _until(condition: Callable[[], object], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.03)


class House:
    """A database, a store and the workflows of one location."""

    def __init__(self, db: sa.Engine, engine: DurableEngine, folder: Path) -> None:
        (folder / "weights").mkdir()
        (folder / "weights" / "manifest.json").write_text("[]")
        section = AnalysisSection(weights_dir=str(folder / "weights"), threads=1, timeout_s=30)
        self.db, self.engine, self.folder = db, engine, folder
        self.store = FolderStore(folder / "images")
        self.inference = InferenceProcess(section)
        self.matched: list[str] = []
        Analyser(
            db, ACTOR, self.inference, self.store.path, lambda tx, sid: self.matched.append(sid)
        ).register(engine)

    def send(self, study_uid: str, **changes: object) -> str:
        """Store one film; return its instance id."""
        path = write_image(
            self.folder / "film.dcm", np.random.default_rng(1).integers(0, 4096, (64, 80))
        )
        ds = pydicom.dcmread(path)
        ds.StudyInstanceUID, ds.SOPInstanceUID = study_uid, generate_uid()
        for name, value in changes.items():
            setattr(ds, name, value)
        outcome = receive(self.db, self.store, self.engine, _incoming(ds), location_id="main")
        return outcome.instance_id

    def state(self, instance_id: str) -> tuple[str, str]:
        with read(self.db) as conn:
            query = sa.select(instance.c.state, instance.c.failure)
            row = conn.execute(query.where(instance.c.id == instance_id)).one()
        return row.state, row.failure

    def study(self, uid: str) -> sa.Row:  # type: ignore[type-arg]
        with read(self.db) as conn:
            return conn.execute(sa.select(study).where(study.c.study_instance_uid == uid)).one()

    def quiet(self) -> int:
        later = datetime.now(UTC) + timedelta(seconds=10)
        time.sleep(0.02)
        return complete_studies(self.db, self.engine, ACTOR, Patience(0.01), later)

    def reject(self, study_uid: str, *uids: str, sender: str = "SENSOR", code: str = "") -> str:
        """Store a rejection note that lists objects; `code` replaces its title's."""
        header = Dataset()
        header.StudyInstanceUID, header.SeriesInstanceUID = study_uid, generate_uid()
        header.SOPClassUID, header.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
        header.Rows, header.Columns = 1, 1
        series = generate_uid()
        listed = [Rejected(series, str(SecondaryCaptureImageStorage), uid) for uid in uids]
        composer = Composer(derived_uid("device", "test"), "Practice", "0.1.0")
        at = datetime.now(UTC)
        key = generate_uid()
        note = compose_rejection(
            header, listed, title=Title.QUALITY, key=key, at=at, composer=composer
        )
        if code:
            note.ConceptNameCodeSequence[0].CodeValue = code
        incoming = replace(_incoming(note), calling_ae=sender)
        outcome = receive(self.db, self.store, self.engine, incoming, location_id="main")
        _until(lambda: self.state(outcome.instance_id)[0] == "not_an_image")
        return outcome.instance_id


def _incoming(ds: Dataset) -> Incoming:
    buffer = BytesIO()
    meta = ds.file_meta
    pydicom.filewriter.write_dataset(_little(buffer), ds)
    return Incoming(
        memoryview(buffer.getvalue()),
        str(ds.SOPClassUID),
        str(ds.SOPInstanceUID),
        str(meta.TransferSyntaxUID),
        "SENSOR",
    )


def _little(buffer: BytesIO) -> pydicom.filebase.DicomFileLike:
    file = pydicom.filebase.DicomFileLike(buffer)
    file.is_little_endian, file.is_implicit_VR = True, False
    return file


@pytest.fixture
def house(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Iterator[House]:
    opened = House(sqlite_database, engine, tmp_path)
    yield opened
    opened.inference.close()


def test_a_study_becomes_ready_when_quiet_and_analysed(house: House) -> None:
    uid = generate_uid()
    images = [house.send(uid) for _ in range(3)]
    _until(lambda: all(house.state(image)[0] == "analysed" for image in images))
    assert house.study(uid).state == "receiving"
    assert house.quiet() == 1
    _until(lambda: house.study(uid).state == "ready")
    assert house.matched
    assert house.quiet() == 0


def test_a_late_image_reopens_the_study(house: House) -> None:
    uid = generate_uid()
    house.send(uid)
    assert house.quiet() == 1
    _until(lambda: house.study(uid).state == "ready")
    late = house.send(uid)
    row = house.study(uid)
    assert (row.state, row.generation) == ("receiving", 1)
    _until(lambda: house.state(late)[0] == "analysed")
    assert house.quiet() == 1
    _until(lambda: house.study(uid).state == "ready")


def test_broken_images_say_why_and_the_rest_goes_on(house: House) -> None:
    uid = generate_uid()
    good = house.send(uid)
    truncated = house.send(uid, PixelData=b"\0" * 100)
    empty = house.send(uid, PixelData=b"")
    report = house.send(uid, SOPClassUID=ComprehensiveSRStorage)
    _until(lambda: all(house.state(i)[0] != "received" for i in (good, truncated, empty, report)))
    assert house.state(good) == ("analysed", "")
    assert house.state(report)[0] == "not_an_image"
    for image in (truncated, empty):
        state, reason = house.state(image)
        assert state == "unreadable"
        assert reason
    house.quiet()
    _until(lambda: house.study(uid).state == "ready")


def test_an_image_that_always_kills_the_process_is_given_up(house: House) -> None:
    house.inference.installed()
    stop = False

    def kill() -> None:
        child = house.inference.process_id
        if child is not None:
            os.kill(child, signal.SIGKILL)

    original = house.inference._ensure

    def ensure_then_kill() -> object:
        installed = original()
        if not stop:
            kill()
        return installed

    house.inference._ensure = ensure_then_kill  # type: ignore[method-assign, assignment]
    poisoned = house.send(generate_uid())
    _until(lambda: house.state(poisoned)[0] != "received", 90)
    state, reason = house.state(poisoned)
    assert state == "failed"
    assert "ended 3 times" in reason
    stop = True
    healthy = house.send(generate_uid())
    _until(lambda: house.state(healthy)[0] == "analysed")


def test_an_image_waits_out_a_node_that_is_stopping(house: House) -> None:
    house.inference.close()  # what a node that stops does first
    image = house.send(generate_uid())
    key = jobs.analyse_key(image)
    _until(lambda: house.engine.status(key) not in (None, "ENQUEUED"))
    house.inference._closed = False  # as if it had been started again
    _until(lambda: house.engine.status(key) == "SUCCESS")
    assert house.state(image) == ("analysed", "")


def test_an_analysis_is_stored_once(house: House) -> None:
    image = house.send(generate_uid())
    _until(lambda: house.state(image)[0] == "analysed")
    model = ModelVersion("test", "1", "a" * 64)
    analysis = ImageAnalysis(
        ImageView.BITEWING,
        0.9,
        (ToothMark(Tooth("46"), Box(1.0, 1.0, 9.0, 9.0), 0.9, model),),
        (Finding(FindingKind.CARIES, Box(2.0, 2.0, 5.0, 5.0), probability=0.7, model=model),),
        (model,),
    )
    now = datetime.now(UTC)
    assert store_analysis(house.db, ACTOR, image, analysis, now)
    assert not store_analysis(house.db, ACTOR, image, analysis, now)
    with read(house.db) as conn:
        for table, expected in ((analysis_run, 2), (finding, 1), (tooth_mark, 1)):
            assert conn.execute(sa.select(sa.func.count()).select_from(table)).scalar() == expected


def test_new_models_replace_undecided_suggestions_only(house: House) -> None:
    image = house.send(generate_uid())
    _until(lambda: house.state(image)[0] == "analysed")
    for number in (1, 2):
        model = ModelVersion("test", str(number), str(number) * 64)
        marks = tuple(
            Finding(FindingKind.CARIES, Box(x, 2.0, x + 5, 5.0), probability=0.7, model=model)
            for x in (2.0, 20.0)
        )
        analysis = ImageAnalysis(ImageView.BITEWING, 0.9, (), marks, (model,))
        store_analysis(house.db, ACTOR, image, analysis, datetime.now(UTC))
        if number == 1:
            with begin(house.db, ACTOR, "test") as tx:
                first = tx.conn.execute(sa.select(finding.c.id).limit(1)).scalar_one()
                accepted = finding.update().where(finding.c.id == first).values(state="accepted")
                tx.conn.execute(accepted)
    with read(house.db) as conn:
        rows = conn.execute(sa.select(finding)).all()
    assert sorted((row.state, row.is_removed) for row in rows) == [
        ("accepted", False),
        ("suggested", False),
        ("suggested", False),
        ("suggested", True),
    ]


def test_a_forgotten_image_is_queued_again(house: House) -> None:
    image = house.send(generate_uid())
    _until(lambda: house.engine.status(jobs.analyse_key(image)) == "SUCCESS")
    with begin(house.db, ACTOR, "test") as tx:  # as a restore from before its run leaves it
        tx.conn.execute(instance.update().values(state="received"))
        tx.conn.execute(event.delete().where(event.c.subject == image))
        for name in ("operation_outputs", "workflow_status"):
            tx.conn.execute(sa.table(name).delete())
    later = datetime.now(UTC) + timedelta(hours=1)
    assert requeue_forgotten_images(house.db, house.engine, ACTOR, later) == 1
    assert requeue_forgotten_images(house.db, house.engine, ACTOR, later) == 0, "its run is known"
    _until(lambda: house.state(image)[0] == "analysed")


def test_an_image_whose_run_broke_says_so_and_holds_no_study_up(house: House) -> None:
    def broken(path: Path) -> ImageAnalysis:
        raise ZeroDivisionError

    house.inference.analyse = broken  # type: ignore[method-assign]
    uid = generate_uid()
    image = house.send(uid)
    _until(lambda: house.engine.status(jobs.analyse_key(image)) == "ERROR")
    house.quiet()
    later = datetime.now(UTC) + timedelta(hours=1)
    requeue_forgotten_images(house.db, house.engine, ACTOR, later)
    state, reason = house.state(image)
    assert state == "failed"
    assert reason
    _until(lambda: house.study(uid).state == "ready")
    assert requeue_forgotten_images(house.db, house.engine, ACTOR, later) == 0


def _uid_of(house: House, instance_id: str) -> str:
    with read(house.db) as conn:
        query = sa.select(instance.c.sop_instance_uid).where(instance.c.id == instance_id)
        return str(conn.execute(query).scalar_one())


def test_a_rejection_note_of_the_sender_hides_the_image_and_its_withdrawal_shows_it(
    house: House,
) -> None:
    uid = generate_uid()
    wrong, right = house.send(uid), house.send(uid)
    _until(lambda: house.state(right)[0] == house.state(wrong)[0] == "analysed")
    house.reject(uid, _uid_of(house, wrong))
    assert house.state(wrong) == ("rejected", "rejected for quality reasons")
    assert house.state(right)[0] == "analysed"
    house.reject(uid, _uid_of(house, wrong), code="131360")
    assert house.state(wrong)[0] == "received"
    assert requeue_forgotten_images(house.db, house.engine, ACTOR, datetime.now(UTC)) == 1
    _until(lambda: house.state(wrong)[0] == "analysed")


def test_a_note_of_a_stranger_or_of_another_kind_changes_nothing(house: House) -> None:
    uid = generate_uid()
    image = house.send(uid)
    _until(lambda: house.state(image)[0] == "analysed")
    house.reject(uid, _uid_of(house, image), sender="STRANGER")
    house.reject(uid, _uid_of(house, image), code="113000")  # Of Interest
    assert house.state(image)[0] == "analysed"


def test_an_image_rejected_before_it_came_is_never_shown(house: House) -> None:
    uid, coming = generate_uid(), generate_uid()
    house.reject(uid, coming)
    image = house.send(uid, SOPInstanceUID=coming)
    _until(lambda: house.state(image)[0] == "rejected")
