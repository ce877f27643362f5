"""Results go to the configured peers, after a signature; before it only what a peer asked for."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from node.analysis.findings import store_analysis
from node.config import Mode, PeerSection
from node.db import switches
from node.db.session import begin, read
from node.db.tables import dicom_delivery, dicom_result
from node.dicom import burned_in
from node.dicom.derived import derived_uid
from node.dicom.send import send_object
from node.domain import jobs
from node.domain.findings import Box, Finding, FindingKind, ImageAnalysis, View
from node.domain.study import MatchState, StudyState
from node.engine import RESULTS, DurableEngine
from node.errors import Retryable
from node.status import Status
from orchestration.workflows import publish_results, send_results
from orchestration.workflows.publish_results import Publisher
from orchestration.workflows.send_results import ResultSender
from pms_writeback.sandbox.server import running
from tests.orchestration.practice import ACTOR, MODEL, Practice, until

pytestmark = pytest.mark.protocol
STORESCP = shutil.which("storescp", path="/usr/bin:/usr/local/bin")


@dataclass
class Archive:
    """DCMTK's storescp, writing what it receives."""

    port: int
    folder: Path

    def objects(self) -> list[pydicom.Dataset]:
        return [pydicom.dcmread(path) for path in sorted(self.folder.iterdir())]


@contextmanager
def archive(folder: Path, port: int) -> Iterator[Archive]:
    assert STORESCP is not None
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen([STORESCP, "-od", str(folder), str(port)])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield Archive(port, folder)
    finally:
        process.terminate()
        process.wait(60)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def practice(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> Iterator[Practice]:
    if STORESCP is None:
        import os

        if os.environ.get("CI"):
            pytest.fail("storescp (DCMTK) is missing, and CI must test with it")
        pytest.skip("storescp (DCMTK) is missing")
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        yield Practice(sqlite_database, engine, tmp_path, sandbox, mode="assist")


def _register(practice: Practice, *peers: PeerSection) -> Publisher:
    return _open(practice, *peers)[0]


def _sender(practice: Practice, *peers: PeerSection) -> ResultSender:
    return _open(practice, *peers)[1]


def _open(practice: Practice, *peers: PeerSection) -> tuple[Publisher, ResultSender]:
    dicom = practice.config.dicom.model_copy(update={"peers": peers})
    config = practice.config.model_copy(update={"dicom": dicom})

    def send(path: Path, peer: PeerSection) -> None:
        try:
            send_object(path, peer, calling_ae="BITEWING")
        except Retryable as error:
            raise Retryable(str(error), retry_after_s=0.2) from None

    uid = derived_uid("test")
    engine, db, store = practice.engine, practice.db, practice.store
    publisher = publish_results.register(engine, db, store, config, uid, send)
    return publisher, ResultSender(db, engine, store, config, send)


def _peer(port: int, name: str = "pacs", preliminary: bool = False) -> PeerSection:
    return PeerSection(
        name=name, ae_title="STORESCP", host="127.0.0.1", port=port, preliminary=preliminary
    )


def _publish(practice: Practice, version: int) -> None:
    with begin(practice.db, ACTOR, "test.publish") as tx:
        practice.engine.enqueue(
            tx.conn,
            RESULTS,
            jobs.PUBLISH_RESULTS,
            jobs.publish_key(practice.study_id, version, 0),
            practice.study_id,
            version,
            0,
        )


def _deliveries(practice: Practice) -> list[str]:
    with read(practice.db) as conn:
        return list(conn.execute(sa.select(dicom_delivery.c.state)).scalars())


def _suggest(practice: Practice) -> None:
    mark = Finding(FindingKind.CARIES, Box(90.0, 90.0, 140.0, 150.0), probability=0.8, model=MODEL)
    analysis = ImageAnalysis(View.BITEWING, 0.9, (), (mark,), (MODEL,))
    store_analysis(practice.db, ACTOR, practice.image_id, analysis, datetime.now(UTC))


def test_signed_results_arrive_when_the_peer_is_back(practice: Practice, tmp_path: Path) -> None:
    port = _free_port()
    _register(practice, _peer(port))
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    _publish(practice, 1)
    until(lambda: _deliveries(practice) == ["queued", "queued"])
    with archive(tmp_path / "pacs", port) as pacs:
        until(lambda: _deliveries(practice) == ["done", "done"], 90)
        capture, report = sorted(pacs.objects(), key=lambda ds: ds.Modality != "IO")
    assert report.VerificationFlag == "VERIFIED"
    assert report.StudyInstanceUID == capture.StudyInstanceUID == "1.2.3"
    assert capture.SOPClassUID.name == "Secondary Capture Image Storage"


def test_a_peer_that_takes_overlays_gets_one_for_each_marked_image(
    practice: Practice, tmp_path: Path
) -> None:
    plain = _peer(_free_port())
    kinds = ("SR", "PR", "SEG", "KO")
    drawn = plain.model_copy(update={"name": "drawn", "objects": kinds})
    publisher = _register(practice, plain, drawn)
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    publisher.publish(practice.study_id, 1, 0)
    with read(practice.db) as conn:
        rows = conn.execute(
            sa.select(dicom_delivery.c.peer, dicom_result.c.kind).join(
                dicom_result, dicom_result.c.id == dicom_delivery.c.result_id
            )
        ).all()
    assert sorted(map(tuple, rows)) == [
        ("drawn", "KO"),
        ("drawn", "PR"),
        ("drawn", "SEG"),
        ("drawn", "SR"),
        ("pacs", "SC"),
        ("pacs", "SR"),
    ]


def test_publishing_twice_makes_one_object_each(practice: Practice, tmp_path: Path) -> None:
    publisher = _register(practice, _peer(_free_port()))
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    assert publisher.publish(practice.study_id, 1, 0) == 2
    assert publisher.publish(practice.study_id, 1, 0) == 2
    with read(practice.db) as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(dicom_result)).scalar() == 2
    assert len(_deliveries(practice)) == 2


def test_before_the_signature_only_a_peer_that_asked_gets_a_report(
    practice: Practice, tmp_path: Path
) -> None:
    _suggest(practice)
    ports = [_free_port(), _free_port()]
    with archive(tmp_path / "a", ports[0]) as plain, archive(tmp_path / "b", ports[1]) as keen:
        _register(practice, _peer(ports[0]), _peer(ports[1], "keen", preliminary=True))
        _publish(practice, 0)
        until(lambda: _deliveries(practice) == ["done"])
        assert plain.objects() == []
        (report,) = keen.objects()
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.Modality == "SR"


def test_nothing_preliminary_leaves_in_doubt(practice: Practice) -> None:
    _suggest(practice)
    publisher = _register(practice, _peer(_free_port(), preliminary=True))
    practice.set_study(match_state=MatchState.UNMATCHED.value)
    assert publisher.publish(practice.study_id, 0, 0) == 0
    practice.set_study(match_state=MatchState.MATCHED.value)
    assert publisher.publish(practice.study_id, 0, 7) == 0, "another generation"
    assert publisher.publish(practice.study_id, 0, 0) == 1


def test_a_peer_that_was_removed_is_told_apart(practice: Practice) -> None:
    publisher = _register(practice, _peer(_free_port()))
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    publisher.publish(practice.study_id, 1, 0)
    without = _sender(practice)
    with read(practice.db) as conn:
        ids = list(conn.execute(sa.select(dicom_delivery.c.id)).scalars())
    assert {without.deliver(delivery_id) for delivery_id in ids} == {"failed"}


def _reports(practice: Practice) -> list[tuple[str, str]]:
    """Return each report's UID and that of the one it replaces, in the order composed."""
    with read(practice.db) as conn:
        keys = conn.execute(
            sa.select(dicom_result.c.storage_key)
            .where(dicom_result.c.kind == "SR")
            .order_by(dicom_result.c.review_version, dicom_result.c.generation)
        ).scalars()
        found = [pydicom.dcmread(practice.store.path(key)) for key in keys]
    return [(str(ds.SOPInstanceUID), _predecessor(ds)) for ds in found]


def _predecessor(ds: pydicom.Dataset) -> str:
    if "PredecessorDocumentsSequence" not in ds:
        return ""
    (reference,) = ds.PredecessorDocumentsSequence
    (series,) = reference.ReferencedSeriesSequence
    (item,) = series.ReferencedSOPSequence
    return str(item.ReferencedSOPInstanceUID)


def test_the_signed_report_follows_the_preliminary_one(practice: Practice) -> None:
    _suggest(practice)
    publisher = _register(practice, _peer(_free_port(), preliminary=True))
    publisher.publish(practice.study_id, 0, 0)
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    publisher.publish(practice.study_id, 1, 0)
    (first, before), (_, replaced) = _reports(practice)
    assert (before, replaced) == ("", first)


def test_what_a_late_image_makes_necessary_names_what_it_replaces(practice: Practice) -> None:
    _suggest(practice)
    publisher = _register(practice, _peer(_free_port(), preliminary=True))
    publisher.publish(practice.study_id, 0, 0)
    practice.set_study(generation=1)
    publisher.publish(practice.study_id, 0, 1)
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    publisher.publish(practice.study_id, 1, 0)
    (first, none), (second, replaced), (_, last) = _reports(practice)
    assert (none, replaced, last) == ("", first, second)


def test_silent_mode_sends_nothing_before_the_signature(practice: Practice) -> None:
    _suggest(practice)
    peer = _peer(_free_port(), preliminary=True)
    _register(practice, peer).publish(practice.study_id, 0, 0)
    silent = practice.config.node.model_copy(update={"mode": Mode.SILENT})
    practice.config = practice.config.model_copy(update={"node": silent})
    publisher, sender = _open(practice, peer)
    assert publisher.publish(practice.study_id, 0, 0) == 0
    assert sender.deliver(_only_delivery(practice)) == "withdrawn", "queued before the switch"


def test_a_peer_that_opted_out_gets_nothing_queued_before(practice: Practice) -> None:
    _suggest(practice)
    port = _free_port()
    _register(practice, _peer(port, preliminary=True)).publish(practice.study_id, 0, 0)
    assert _sender(practice, _peer(port)).deliver(_only_delivery(practice)) == "withdrawn"


def test_a_late_preliminary_report_gives_way_to_the_signed_one(practice: Practice) -> None:
    _suggest(practice)
    publisher, sender = _open(practice, _peer(_free_port(), preliminary=True))
    publisher.publish(practice.study_id, 0, 0)
    practice.set_study(state=StudyState.SIGNED.value, review_version=1)
    assert sender.deliver(_only_delivery(practice)) == "withdrawn"
    assert publisher.publish(practice.study_id, 0, 0) == 0


def test_a_preliminary_report_of_a_study_now_in_doubt_stays(practice: Practice) -> None:
    _suggest(practice)
    publisher, sender = _open(practice, _peer(_free_port(), preliminary=True))
    publisher.publish(practice.study_id, 0, 0)
    practice.set_study(match_state=MatchState.AMBIGUOUS.value)
    assert sender.deliver(_only_delivery(practice)) == "withdrawn"


def test_a_report_without_models_says_that_none_ran(practice: Practice) -> None:
    _suggest(practice)
    publisher = _register(practice, _peer(_free_port()))
    practice.sign(models=())
    publisher.publish(practice.study_id, 1, 0)
    with read(practice.db) as conn:
        key = conn.execute(sa.select(dicom_result.c.storage_key)).scalar_one()
    text = pydicom.dcmread(practice.store.path(key)).to_json()
    assert "No algorithms succeeded" in text
    assert "All algorithms succeeded" not in text


def _only_delivery(practice: Practice) -> str:
    with read(practice.db) as conn:
        return str(conn.execute(sa.select(dicom_delivery.c.id)).scalar_one())


def test_results_that_cannot_be_composed_are_told(practice: Practice) -> None:
    publisher = _register(practice, _peer(_free_port()))
    practice.sign(practice.mark(FindingKind.CARIES, "36", None))
    practice.spoil_image()
    assert publisher.publish(practice.study_id, 1, 0) == 0
    config = publisher.config.model_copy(
        update={"node": publisher.config.node.model_copy(update={"data_dir": Path("/tmp")})}
    )
    peers = Status(practice.db, config).probes()["peers"]
    assert not peers.is_ok
    assert "1 studies could not be composed" in peers.words


def test_what_is_paused_is_held_and_shown_then_sent(practice: Practice, tmp_path: Path) -> None:
    port = _free_port()
    with archive(tmp_path / "pacs", port) as pacs:
        publisher = _register(practice, _peer(port))
        with begin(practice.db, ACTOR, "test") as tx:
            switches.turn(tx, switches.OUTBOUND, True)
        practice.sign(practice.mark(FindingKind.CARIES, "36", None))
        _publish(practice, 1)
        until(lambda: _deliveries(practice) == ["held", "held"])
        probe = Status(practice.db, publisher.config).probes()["peers"]
        assert probe.is_ok
        assert "paused: 2 objects for peers wait" in probe.words
        assert send_results.resume(practice.db, practice.engine, ACTOR) == 0, "still paused"
        assert pacs.objects() == []
        with begin(practice.db, ACTOR, "test") as tx:
            switches.turn(tx, switches.OUTBOUND, False)
        assert send_results.resume(practice.db, practice.engine, ACTOR) == 2
        until(lambda: _deliveries(practice) == ["done", "done"], 90)
        assert len(pacs.objects()) == 2


def test_a_peer_that_is_away_holds_up_nobody_else(practice: Practice, tmp_path: Path) -> None:
    port = _free_port()
    gone = [_peer(_free_port(), f"gone-{number}") for number in range(5)]
    with archive(tmp_path / "pacs", port) as pacs:
        _register(practice, *gone, _peer(port))
        practice.sign(practice.mark(FindingKind.CARIES, "36", None))
        _publish(practice, 1)
        until(lambda: sorted(_deliveries(practice))[:2] == ["done", "done"], 90)
        assert len(pacs.objects()) == 2
    assert set(_deliveries(practice)) == {"done", "queued"}


def test_a_copy_that_may_name_the_patient_leaves_the_house_when_a_person_lets_it(
    practice: Practice, tmp_path: Path
) -> None:
    port = _free_port()
    outside = _peer(port).model_copy(update={"external": True})
    with archive(tmp_path / "pacs", port) as pacs:
        _register(practice, outside)
        with begin(practice.db, ACTOR, "test") as tx:
            burned_in.note(tx, practice.image_id, "a line of lettering")
        practice.sign(practice.mark(FindingKind.CARIES, "36", None))
        _publish(practice, 1)
        until(lambda: sorted(_deliveries(practice)) == ["done", "doubted"], 90)
        assert [ds.Modality for ds in pacs.objects()] == ["SR"]
        assert send_results.resume(practice.db, practice.engine, ACTOR) == 0
        with begin(practice.db, ACTOR, "test") as tx:
            burned_in.release(tx, practice.image_id, "only the tooth")
        assert send_results.resume(practice.db, practice.engine, ACTOR) == 1
        until(lambda: _deliveries(practice) == ["done", "done"], 90)
        assert len(pacs.objects()) == 2
