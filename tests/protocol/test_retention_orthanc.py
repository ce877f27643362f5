"""Pixels given up to a real archive, and fetched again from it: Orthanc beside the node."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from node.config import RetentionSection
from node.db import tables
from node.db.session import Actor, read
from node.dicom.commitment_report import CommitmentDesk
from node.dicom.forwarding import Forwarder
from node.dicom.instances import FolderStore
from node.dicom.pixel_return import PixelFetcher
from node.dicom.purged import find_purged, want_back
from node.dicom.retention import Report, Retention
from node.dicom.send import send_paths
from tests.node.dicom.conftest import Practice
from tests.protocol.conftest import IO, Node, Orthanc, make_film, tool, wait_until, write

pytestmark = pytest.mark.protocol

QUERIERS = [{"ae_title": "*", "services": ["store", "commitment", "query", "retrieve"]}]
LATER = timedelta(days=60)


class Place:
    """A node in processor mode whose archive is Orthanc."""

    def __init__(self, node: Node, orthanc: Orthanc, practice: Practice) -> None:
        self.node, self.orthanc, self.practice = node, orthanc, practice
        self.store = FolderStore(node.folder)
        section = RetentionSection(mode="processor", declared_archives=("ORTHANC",))
        self.config = node.config.model_copy(update={"retention": section})

    def run(self) -> Report:
        return Retention(self.node.db, self.store, self.config).run(datetime.now(UTC) + LATER)

    def fetch(self) -> int:
        fetcher = PixelFetcher(self.node.db, self.store, self.node.engine, self.config)
        fetcher.plan(datetime.now(UTC))
        return fetcher.run_due(datetime.now(UTC) + timedelta(hours=2))

    def forward(self) -> None:
        soon = datetime.now(UTC) + timedelta(hours=2)
        Forwarder(self.node.db, self.store, self.config).run_due(soon)
        CommitmentDesk(self.node.db, self.store, self.config, self.node.listener.find_open).run_due(
            soon
        )

    def states(self, column: sa.Column[str]) -> list[str]:
        with read(self.node.db) as conn:
            return list(conn.execute(sa.select(column)).scalars())

    def study_id(self) -> str:
        with read(self.node.db) as conn:
            return conn.execute(sa.select(tables.study.c.id)).scalar_one()

    def sign(self) -> str:
        """Sign the only study, as the review page would leave its rows."""
        user_id = self.practice.insert(
            tables.user_account,
            username="ada",
            display_name="Ada",
            role="dentist",
            password_hash="x",
        )
        patient_id = self.practice.patient()
        with self.node.db.begin() as conn:
            conn.execute(tables.study.update().values(state="signed", patient_id=patient_id))
        return self.practice.insert(
            tables.review,
            study_id=self.study_id(),
            version=1,
            signed_by=user_id,
            signer_name="Ada",
            signer_role="dentist",
            statement="s",
            content_hash="h",
            content={},
            software_version="1",
            signed_at=datetime.now(UTC),
        )

    def pixels(self) -> bytes:
        with read(self.node.db) as conn:
            key = conn.execute(sa.select(tables.instance.c.storage_key)).scalar_one()
        from node.dicom.object_file import read_dataset

        return read_dataset(self.store.file(key)).PixelData

    def queued(self) -> list[str]:
        """The studies whose reading waits in the engine's queue, by the key of the run."""
        with read(self.node.db) as conn:
            keys = conn.exec_driver_sql("SELECT workflow_uuid FROM workflow_status").scalars()
            return [key.split(":")[1] for key in keys if key.startswith("finish:")]

    def want(self) -> bool:
        return want_back(self.node.db, Actor("test", "main"), self.study_id())


@pytest.fixture
def place(start: Callable[..., Node], orthanc: Orthanc, practice: Practice) -> Place:
    peer = {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "archive": True}
    node = start(peers=[peer | {"port": orthanc.peer.port}], clients=QUERIERS)
    orthanc.node_port = node.port
    return Place(node, orthanc, practice)


def store(place: Place, film: Dataset, folder: Path) -> None:
    place.node.storescu(write(film, folder / "film.dcm"))


def purge(place: Place) -> None:
    place.forward()
    wait_until(lambda: place.states(tables.image_delivery.c.state) == ["committed"])
    assert place.run().images == 1
    assert place.states(tables.pixel_purge.c.state) == ["purged"]
    assert place.node.files() == []


def availability(place: Place, film: Dataset) -> str:
    command = [tool("findscu"), "-S", "-aec", "BITEWING", "-k", "QueryRetrieveLevel=STUDY"]
    command += ["-k", f"StudyInstanceUID={film.StudyInstanceUID}", "-k", "InstanceAvailability"]
    command += ["127.0.0.1", str(place.node.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    (line,) = {line for line in done.stderr.splitlines() + done.stdout.splitlines()
               if "(0008,0056)" in line and "LINE" in line}  # fmt: skip
    return "NEARLINE" if "NEARLINE" in line else "ONLINE"


def test_from_the_promise_to_the_empty_disk_and_back(place, tmp_path):
    film = make_film()
    store(place, film, tmp_path)
    place.sign()
    assert place.run().images == 0, "the archive has nothing yet"
    assert availability(place, film) == "ONLINE"
    before = place.pixels()
    purge(place)
    assert availability(place, film) == "NEARLINE"
    assert place.want()
    assert not place.want(), "asked for once"
    assert place.fetch() == 1
    assert place.pixels() == before
    assert place.states(tables.pixel_purge.c.state) == ["restored"]
    assert place.states(tables.pixel_fetch.c.state) == ["done"]
    assert availability(place, film) == "ONLINE"
    with read(place.node.db) as conn:
        assert find_purged(conn, [place.study_id()]) == {}


def test_a_peer_that_asks_for_what_is_away_gets_it_a_little_later(place, tmp_path):
    film = make_film()
    store(place, film, tmp_path)
    place.sign()
    purge(place)
    command = [tool("getscu"), "-S", "-aec", "BITEWING", "-od", str(tmp_path)]
    command += ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={film.StudyInstanceUID}"]
    command += ["127.0.0.1", str(place.node.port)]
    subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert place.states(tables.pixel_fetch.c.state) == ["queued"]
    assert place.fetch() == 1
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert any(film.SOPInstanceUID in path.name for path in tmp_path.iterdir())


def test_what_a_coming_visit_needs_is_fetched_before_it(place, tmp_path):
    store(place, make_film(), tmp_path)
    place.sign()
    purge(place)
    assert place.fetch() == 0
    with read(place.node.db) as conn:
        patient_id = conn.execute(sa.select(tables.patient.c.id)).scalar_one()
    place.practice.appointment(patient_id, datetime.now(UTC) + timedelta(days=1))
    unread = place.practice.insert(
        tables.study,
        study_instance_uid="1.2.3",
        state="ready",
        match_state="matched",
        patient_id=patient_id,
        received_at=datetime.now(UTC),
        last_image_at=datetime.now(UTC),
    )
    before = place.queued()
    assert place.fetch() == 1
    assert place.fetch() == 0
    assert [each for each in place.queued() if each not in before] == [unread], "it is read again"


def replace_in_archive(place: Place, film: Dataset, folder: Path) -> None:
    (held,) = place.orthanc.json("/instances")
    place.orthanc.delete(f"/instances/{held}")
    path = write(film, folder / "other.dcm")
    assert not send_paths([path], place.orthanc.peer, calling_ae="TEST").failed


def test_other_bytes_around_the_same_samples_are_the_same_image(place, tmp_path):
    film = make_film()
    store(place, film, tmp_path)
    place.sign()
    before = place.pixels()
    purge(place)
    film.InstitutionName = "Written by the archive"
    replace_in_archive(place, film, tmp_path)
    place.want()
    assert place.fetch() == 1
    assert place.pixels() == before
    with read(place.node.db) as conn:
        row = conn.execute(sa.select(tables.instance)).one()
        (gone,) = [each for each in place.states(tables.audit.c.detail) if "was" in each]
        assert (gone["sha256"], gone["was"] == row.sha256) == (row.sha256, False)
        assert conn.execute(sa.select(tables.instance_duplicate)).first() is None


OTHERS = {
    "samples": {"PixelData": np.zeros(200 * 100, dtype=np.uint16).tobytes()},
    "name": {"PatientName": "Other^Person"},
    "birth date": {"PatientBirthDate": "19990101"},
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_image_under_the_same_uid_waits_for_a_person(place, tmp_path, other):
    film = make_film()
    store(place, film, tmp_path)
    place.sign()
    purge(place)
    for keyword, value in OTHERS[other].items():
        setattr(film, keyword, value)
    replace_in_archive(place, film, tmp_path)
    place.want()
    assert place.fetch() == 0
    assert place.states(tables.pixel_fetch.c.state) == ["failed"]
    assert place.states(tables.pixel_purge.c.state) == ["purged"]
    with read(place.node.db) as conn:
        assert conn.execute(sa.select(tables.instance_duplicate)).first() is not None


def test_of_a_declared_archive_only_what_it_still_holds(place, tmp_path):
    film = make_film()
    assert not send_paths(
        [write(film, tmp_path / "film.dcm")], place.orthanc.peer, calling_ae="TEST"
    ).failed
    (held,) = place.orthanc.json("/instances")
    place.orthanc.post("/modalities/node/store", {"Resources": [held], "Synchronous": True})
    place.sign()
    place.forward()
    place.orthanc.delete(f"/instances/{held}")
    assert place.run().kept == {"the declared archive does not hold every image": 1}
    assert len(place.node.files()) == 1
    assert not send_paths([tmp_path / "film.dcm"], place.orthanc.peer, calling_ae="TEST").failed
    assert place.run().images == 1
    with read(place.node.db) as conn:
        assert conn.execute(sa.select(tables.pixel_purge.c.basis)).scalar_one() == "declared"


def test_an_archive_that_cannot_be_asked_gets_nothing_given_up(place, tmp_path):
    store(place, make_film(SOPClassUID=IO), tmp_path)
    place.sign()
    place.forward()
    peer = place.config.dicom.peers[0].model_copy(update={"port": 1})
    dicom = place.config.dicom.model_copy(update={"peers": (peer,)})
    with place.node.db.begin() as conn:
        conn.execute(tables.instance.update().values(sender_ae_title="ORTHANC"))
        conn.execute(tables.image_delivery.delete())
    place.config = place.config.model_copy(update={"dicom": dicom})
    (reason,) = place.run().kept
    assert "pacs cannot be asked" in reason
