"""The node beside an archive: Orthanc sends, commits, queries, fetches, and is fetched from."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from node.config import read_config
from node.db.session import read
from node.db.tables import image_delivery, instance, prior_fetch, study
from node.dicom.commitment_report import CommitmentDesk
from node.dicom.forwarding import Forwarder
from node.dicom.instances import FolderStore
from node.dicom.peers import Peer
from node.dicom.priors import PriorFetcher, find_studies
from node.dicom.send import send_paths
from node.domain.study import name_key
from tests.node.dicom.conftest import Practice
from tests.protocol.conftest import (
    IO,
    Node,
    Orthanc,
    data_set_of,
    make_film,
    tool,
    wait_until,
    write,
)

pytestmark = pytest.mark.protocol


@pytest.fixture
def connect(start: Callable[..., Node], orthanc: Orthanc) -> Callable[..., Node]:
    """Start a node that knows Orthanc, and that Orthanc reaches as BITEWING."""

    def begin(peer: dict[str, object] | None = None, **dicom: object) -> Node:
        known = {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1"}
        known |= {"port": orthanc.peer.port, **(peer or {})}
        node = start(peers=[known], **dicom)
        orthanc.node_port = node.port
        return node

    return begin


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=2)


def put(orthanc: Orthanc, folder: Path, *films: Dataset) -> None:
    folder.mkdir(exist_ok=True)
    paths = [write(film, folder / f"{number}.dcm") for number, film in enumerate(films)]
    assert not send_paths(paths, orthanc.peer, calling_ae="TEST").failed


def desk_of(node: Node) -> CommitmentDesk:
    return CommitmentDesk(node.db, FolderStore(node.folder), node.config, node.listener.find_open)


def test_orthanc_stores_with_us_and_is_promised(connect, orthanc, tmp_path):
    node = connect(archive_senders=["ORTHANC"])
    film = make_film()
    put(orthanc, tmp_path / "films", film)
    (held,) = orthanc.json("/instances")
    orthanc.post("/modalities/node/store", {"Resources": [held], "Synchronous": True})
    objects = [{"SOPClassUID": IO, "SOPInstanceUID": film.SOPInstanceUID}]
    asked = orthanc.post("/modalities/node/storage-commitment", {"DicomInstances": objects})
    assert desk_of(node).run_due(soon()) == 1
    report = orthanc.json(asked["Path"])
    assert (report["Status"], report["Failures"]) == ("Success", [])


def test_orthanc_is_told_what_is_not_here(connect, orthanc):
    node = connect(archive_senders=["ORTHANC"])
    uid = generate_uid()
    objects = [{"SOPClassUID": IO, "SOPInstanceUID": uid}]
    asked = orthanc.post("/modalities/node/storage-commitment", {"DicomInstances": objects})
    desk_of(node).run_due(soon())
    report = orthanc.json(asked["Path"])
    assert report["Status"] == "Failure"
    assert [item["SOPInstanceUID"] for item in report["Failures"]] == [uid]


def test_orthanc_as_the_archive_vouches_for_what_it_was_sent(connect, orthanc, tmp_path):
    node = connect({"archive": True})
    node.storescu(write(make_film(), tmp_path / "film.dcm"))
    with node.db.begin() as conn:
        conn.execute(study.update().values(state="ready"))
    assert Forwarder(node.db, FolderStore(node.folder), node.config).run_due(soon()) == 1
    assert [data_set_of(path) for path in node.files()] == [
        content[144 + int.from_bytes(content[140:144], "little") :] for content in orthanc.files()
    ]
    desk_of(node).run_due(soon())

    def is_committed() -> bool:
        with read(node.db) as conn:
            return conn.execute(sa.select(image_delivery.c.state)).scalar_one() == "committed"

    wait_until(is_committed, 90)


def test_orthanc_queries_us_and_has_a_study_moved_to_itself(connect, orthanc, tmp_path):
    node = connect(clients=[{"ae_title": "*", "services": ["store", "query", "retrieve"]}])
    film = make_film()
    node.storescu(write(film, tmp_path / "film.dcm"))
    query = {"Level": "Study", "Query": {"PatientID": "17", "StudyDescription": ""}}
    found = orthanc.post("/modalities/node/query", query)
    (answer,) = orthanc.json(f"{found['Path']}/answers")
    content = orthanc.json(f"{found['Path']}/answers/{answer}/content?simplify")
    assert content["StudyInstanceUID"] == film.StudyInstanceUID
    orthanc.post(f"{found['Path']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
    assert len(orthanc.json("/instances")) == 1


# --- priors --------------------------------------------------------------------------------------


def jane(**changes: object) -> Dataset:
    return make_film(**({"StudyDate": "20250301", "IssuerOfPatientID": ""} | changes))


@pytest.fixture
def visit(practice: Practice) -> str:
    """Jane Doe, patient 17, comes tomorrow."""
    patient_id = practice.patient()
    return practice.appointment(patient_id, datetime.now(UTC) + timedelta(days=1))


def fetch(node: Node) -> int:
    return PriorFetcher(node.db, FolderStore(node.folder), node.engine, node.config).run_due(soon())


def test_only_what_is_surely_hers_is_fetched_before_she_comes(connect, orthanc, visit, tmp_path):
    node = connect({"priors": True})
    mine = jane()
    put(
        orthanc, tmp_path / "films", mine,
        jane(PatientName="Doe^Joan"), jane(PatientBirthDate="19810102"),
        jane(PatientID="18"), jane(PatientBirthDate=""), jane(IssuerOfPatientID="ELSEWHERE"),
    )  # fmt: skip
    later = soon()
    fetcher = PriorFetcher(node.db, FolderStore(node.folder), node.engine, node.config)
    assert fetcher.run_due(later - timedelta(hours=1)) == 1
    (row,) = node.rows(study)
    assert (row.study_instance_uid, row.is_prior) == (mine.StudyInstanceUID, True)
    assert [image.sender_ae_title for image in node.rows(instance)] == ["ORTHANC"]
    (done,) = node.rows(prior_fetch)
    assert (done.state, done.found, done.fetched) == ("done", 1, 1)
    assert fetcher.run_due(later) == 0, "asked once for a visit"


def test_an_archive_without_c_get_moves_them_here(start, visit, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    archive = {"name": "qr", "ae_title": "QRSCP", "host": "127.0.0.1", "port": port, "priors": True}
    node = start(peers=[archive])
    (tmp_path / "db").mkdir()
    config = tmp_path / "dcmqrscp.cfg"
    config.write_text(
        f"""NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
node = (BITEWING, 127.0.0.1, {node.port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {tmp_path / "db"} RW (200, 1024mb) ANY
AETable END
"""
    )
    process = subprocess.Popen([tool("dcmqrscp"), "--disable-get", "-c", str(config)])
    try:
        wait_until(lambda: is_open(port))
        film = jane()
        report = send_paths(
            [write(film, tmp_path / "prior.dcm")],
            Peer("QRSCP", "127.0.0.1", port),
            calling_ae="TEST",
        )
        assert not report.failed
        assert fetch(node) == 1
    finally:
        process.terminate()
        process.wait(60)
    (row,) = node.rows(study)
    assert (row.study_instance_uid, row.is_prior) == (film.StudyInstanceUID, True)


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_the_newest_are_taken_and_what_is_here_is_left(connect, orthanc, visit, tmp_path):
    node = connect({"priors": True}, priors_most=2)
    films = [jane(StudyDate=f"202{year}0301") for year in range(5)]
    put(orthanc, tmp_path / "films", *films)
    node.storescu(write(films[4], tmp_path / "here.dcm"))
    assert fetch(node) == 2
    dates = {row.study_date: row.is_prior for row in node.rows(study)}
    assert dates == {"20240301": False, "20230301": True, "20220301": True}


def test_an_archive_that_is_away_is_asked_again(start, visit):
    away = {"name": "pacs", "ae_title": "GONE", "host": "127.0.0.1", "port": 1, "priors": True}
    node = start(peers=[away])
    assert fetch(node) == 0
    (row,) = node.rows(prior_fetch)
    assert (row.state, row.attempts) == ("queued", 1)
    assert "cannot be reached" in row.error


def test_visits_that_are_far_off_cancelled_or_over_fetch_nothing(connect, practice):
    node = connect({"priors": True})
    patient_id, now = practice.patient(), datetime.now(UTC)
    practice.appointment(patient_id, now + timedelta(days=5))
    practice.appointment(patient_id, now - timedelta(days=1))
    practice.appointment(patient_id, now + timedelta(days=1), tombstoned_at=now)
    fetcher = PriorFetcher(node.db, FolderStore(node.folder), node.engine, node.config)
    assert fetcher.plan(now) == 0


def test_umlauts_are_the_same_name(connect, orthanc, tmp_path):
    node = connect({"priors": True})
    put(
        orthanc,
        tmp_path / "films",
        jane(PatientName="MÜLLER^Jörg", SpecificCharacterSet="ISO_IR 100"),
    )
    (found,) = find_studies(
        node.config.dicom.peers[0],
        "BITEWING",
        patient_id="17",
        name_key=name_key("Müller", "Jörg Uwe"),
        birth_date=date(1980, 1, 2),
    )
    assert found.study_date == "20250301"


def test_a_patient_without_a_birth_date_is_never_asked_for():
    peer = read_config(
        None,
        {},
        {"dicom": {"peers": [{"name": "p", "ae_title": "P", "host": "127.0.0.1", "port": 1}]}},
    ).dicom.peers[0]
    assert find_studies(peer, "B", patient_id="17", name_key="doe^jane", birth_date=None) == []
