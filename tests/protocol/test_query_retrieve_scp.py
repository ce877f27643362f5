"""What is stored here, asked for and fetched by DCMTK's findscu, movescu and getscu."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless, generate_uid
from pynetdicom import AE

from node.db.session import read
from node.db.tables import audit
from tests.protocol.conftest import IO, Node, data_set_of, make_film, tool, write

pytestmark = pytest.mark.protocol

EVERYTHING = {"ae_title": "*", "services": ["store", "query", "retrieve", "worklist"]}


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[int]:
    """Run DCMTK's storescp, writing what it receives bit by bit."""
    folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    process = subprocess.Popen([tool("storescp"), "+B", *options, "-od", str(folder), str(port)])
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline
        yield port
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    with storescp(tmp_path / "received", "+xa") as port:
        yield port, tmp_path / "received"


@pytest.fixture
def node(start: Callable[..., Node], receiver: tuple[int, Path]) -> Node:
    port, _ = receiver
    viewer = {"name": "viewer", "ae_title": "VIEWER", "host": "127.0.0.1", "port": port}
    return start(clients=[EVERYTHING], peers=[viewer])


def send(node: Node, *films: Dataset) -> None:
    entity = AE("SENSOR")
    for film in films:
        entity.add_requested_context(film.SOPClassUID, film.file_meta.TransferSyntaxUID)
    assoc = entity.associate("127.0.0.1", node.port)
    for film in films:
        assert assoc.send_c_store(film).Status == 0x0000
    assoc.release()


def run(node: Node, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    return subprocess.run(
        [tool(name), "-v", "-S", *arguments, "127.0.0.1", str(node.port)],
        check=check,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TCP_NODELAY": "1"},
    )


def find(node: Node, folder: Path, *keys: str) -> list[Dataset]:
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    arguments = [part for key in keys for part in ("-k", key)]
    done = run(node, "findscu", "-X", "-od", str(folder), *arguments)
    assert "Success" in done.stdout + done.stderr
    return [dcmread(path, force=True) for path in sorted(folder.iterdir())]


def two_patients() -> list[Dataset]:
    """Jane's two films and one panoramic in one study, Richard's film in another."""
    study, bitewings = generate_uid(), generate_uid()
    jane = {"StudyInstanceUID": study, "StudyDescription": "Bitewings", "AccessionNumber": "A1"}
    return [
        make_film(**jane, SeriesInstanceUID=bitewings, InstanceNumber=1),
        make_film(**jane, SeriesInstanceUID=bitewings, InstanceNumber=2),
        make_film(**jane, Modality="PX", InstanceNumber=1),
        make_film(PatientName="Müller^Jörg", PatientID="18", StudyDate="20251122",
                  SpecificCharacterSet="ISO_IR 100"),
    ]  # fmt: skip


def test_studies_are_found_by_whom_they_show(node, tmp_path):
    films = two_patients()
    send(node, *films)
    (found,) = find(
        node, tmp_path / "a", "QueryRetrieveLevel=STUDY", "PatientName=doe*", "StudyInstanceUID",
        "ModalitiesInStudy", "NumberOfStudyRelatedInstances", "NumberOfStudyRelatedSeries",
        "StudyDescription", "PatientID", "InstanceAvailability", "RetrieveAETitle",
    )  # fmt: skip
    assert found.StudyInstanceUID == films[0].StudyInstanceUID
    assert (list(found.ModalitiesInStudy), found.StudyDescription) == (["IO", "PX"], "Bitewings")
    assert (found.NumberOfStudyRelatedInstances, found.NumberOfStudyRelatedSeries) == (3, 2)
    assert (found.InstanceAvailability, found.RetrieveAETitle) == ("ONLINE", "BITEWING")
    (other,) = find(node, tmp_path / "a", "QueryRetrieveLevel=STUDY", "PatientName=MULLER^*")
    assert str(other.PatientName) == "Müller^Jörg"


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        (["PatientID=17"], 1),
        (["PatientID=1?"], 2),
        (["AccessionNumber=A1"], 1),
        (["StudyDate=20251101-20251130"], 1),
        (["StudyDate=20261122-"], 1),
        (["ModalitiesInStudy=PX"], 1),
        (["ModalitiesInStudy=CT"], 0),
        (["StudyDescription=bite*"], 0),  # LO matches case by case
        (["StudyDescription=Bite*"], 1),
        (["PatientBirthDate=19800102"], 2),
        (["PatientName"], 2),
    ],
)
def test_query_keys(node, tmp_path, keys, count):
    send(node, *two_patients())
    assert len(find(node, tmp_path / "a", "QueryRetrieveLevel=STUDY", *keys)) == count


def test_series_and_images_are_found_in_their_study(node, tmp_path):
    films = two_patients()
    send(node, *films)
    study = f"StudyInstanceUID={films[0].StudyInstanceUID}"
    keys = ("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances", "SeriesNumber")
    series = find(node, tmp_path / "a", "QueryRetrieveLevel=SERIES", study, *keys)
    assert sorted((ds.Modality, ds.NumberOfSeriesRelatedInstances) for ds in series) == [
        ("IO", 2),
        ("PX", 1),
    ]
    images = find(
        node, tmp_path / "a", "QueryRetrieveLevel=IMAGE", study,
        f"SeriesInstanceUID={films[0].SeriesInstanceUID}", "SOPInstanceUID", "SOPClassUID",
        "InstanceNumber", "Rows",
    )  # fmt: skip
    assert {ds.SOPInstanceUID for ds in images} == {f.SOPInstanceUID for f in films[:2]}
    assert {(ds.SOPClassUID, ds.Rows) for ds in images} == {(IO, 200)}


def test_a_query_without_a_level_is_refused(node):
    done = run(node, "findscu", "-k", "PatientID=17")
    assert "DataSetDoesNotMatchSOPClass" in done.stdout + done.stderr


def test_movescu_gets_every_byte_at_a_configured_peer(node, receiver):
    films = two_patients()
    send(node, *films)
    run(
        node, "movescu", "-aem", "VIEWER", "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={films[0].StudyInstanceUID}",
    )  # fmt: skip
    sent = {data_set_of(path) for path in node.files()}
    came = {data_set_of(path) for path in receiver[1].iterdir()}
    assert len(came) == 3
    assert came < sent


def test_a_compressed_film_is_moved_as_it_is(node, receiver):
    film = make_film()
    film.compress(JPEGLSLossless)
    send(node, film)
    run(
        node, "movescu", "-aem", "VIEWER", "-k", "QueryRetrieveLevel=IMAGE",
        "-k", f"StudyInstanceUID={film.StudyInstanceUID}",
        "-k", f"SeriesInstanceUID={film.SeriesInstanceUID}",
        "-k", f"SOPInstanceUID={film.SOPInstanceUID}",
    )  # fmt: skip
    (came,) = receiver[1].iterdir()
    assert dcmread(came).file_meta.TransferSyntaxUID == JPEGLSLossless
    assert data_set_of(came) == data_set_of(node.files()[0])


def test_nothing_is_moved_to_a_stranger(node, receiver):
    films = two_patients()
    send(node, *films)
    done = run(
        node, "movescu", "-aem", "ELSEWHERE", "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={films[0].StudyInstanceUID}", check=False,
    )  # fmt: skip
    assert "MoveDestinationUnknown" in done.stdout + done.stderr
    assert list(receiver[1].iterdir()) == []


@pytest.mark.parametrize("key", ["QueryRetrieveLevel=STUDY", "QueryRetrieveLevel=NONSENSE"])
def test_a_move_of_nothing_in_particular_is_refused(node, receiver, key):
    send(node, *two_patients())
    done = run(node, "movescu", "-aem", "VIEWER", "-k", key, check=False)
    assert done.returncode != 0 or "Failed" in done.stdout + done.stderr
    assert list(receiver[1].iterdir()) == []


def test_getscu_gets_a_series(node, tmp_path):
    films = two_patients()
    send(node, *films)
    folder = tmp_path / "got"
    folder.mkdir()
    run(
        node, "getscu", "-od", str(folder), "-k", "QueryRetrieveLevel=SERIES",
        "-k", f"StudyInstanceUID={films[0].StudyInstanceUID}",
        "-k", f"SeriesInstanceUID={films[0].SeriesInstanceUID}",
    )  # fmt: skip
    got = [dcmread(path) for path in folder.iterdir()]
    assert {ds.SOPInstanceUID for ds in got} == {f.SOPInstanceUID for f in films[:2]}
    assert all(ds.PixelData == films[0].PixelData for ds in got)


def test_each_query_and_retrieval_is_audited_without_a_name(node, tmp_path, receiver):
    films = two_patients()
    send(node, *films)
    find(node, tmp_path / "a", "QueryRetrieveLevel=STUDY", "PatientName=doe*")
    run(
        node, "movescu", "-aem", "VIEWER", "-k", "QueryRetrieveLevel=STUDY",
        "-k", f"StudyInstanceUID={films[0].StudyInstanceUID}",
    )  # fmt: skip
    with read(node.db) as conn:
        rows = conn.execute(sa.select(audit).where(audit.c.action.like("archive.%"))).all()
    assert [(row.action, row.detail["objects"]) for row in rows] == [
        ("archive.queried", 1),
        ("archive.moved", 3),
    ]
    assert "doe" not in str([row._mapping for row in rows]).lower()


def test_nobody_queries_where_no_client_is_configured(start, tmp_path):
    node = start()
    path = write(make_film(), tmp_path / "film.dcm")
    node.storescu(path)
    done = run(node, "findscu", "-k", "QueryRetrieveLevel=STUDY", check=False)
    assert "No Acceptable Presentation Contexts" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("client", "may_store", "may_query"),
    [
        ({"ae_title": "DESK", "services": ["query"]}, False, True),
        ({"ae_title": "DESK"}, True, False),
        (
            {"ae_title": "DESK", "hosts": ["127.0.0.0/8"], "services": ["store", "query"]},
            True,
            True,
        ),
        ({"ae_title": "DESK", "hosts": ["192.0.2.1"]}, None, None),
        ({"ae_title": "OTHER"}, None, None),
    ],
)
def test_services_are_granted_by_title_and_address(start, tmp_path, client, may_store, may_query):
    node = start(clients=[client])
    path = write(make_film(), tmp_path / "film.dcm")
    stored = node.storescu("-aet", "DESK", path, check=False)
    asked = run(node, "findscu", "-aet", "DESK", "-k", "QueryRetrieveLevel=STUDY", check=False)
    texts = stored.stdout + stored.stderr, asked.stdout + asked.stderr
    if may_store is None:
        assert all("Association Rejected" in text for text in texts)
        assert all("Calling AE Title Not Recognized" in text for text in texts)
        return
    assert (stored.returncode == 0, "Received Final Find Response" in texts[1]) == (
        may_store,
        may_query,
    )
