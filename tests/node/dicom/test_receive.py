"""Keeping what arrives: bytes, rows, event and job together, once."""

from __future__ import annotations

import hashlib
import io
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from node.db import audit
from node.db.session import Actor, begin, read
from node.db.tables import event, instance, instance_duplicate, study, study_identity
from node.dicom.instances import FolderStore
from node.dicom.store import DOES_NOT_MATCH, SUCCESS, Incoming, Kept, receive
from node.errors import InvalidInput, Retryable

IO = "1.2.840.10008.5.1.4.1.1.1.3"


def encoded(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    out = io.BytesIO()
    from pydicom.filebase import DicomFileLike

    file = DicomFileLike(out)
    file.is_implicit_VR, file.is_little_endian = syntax == ImplicitVRLittleEndian, True
    write_dataset(file, ds)
    return out.getvalue()


def incoming(
    data: bytes, uid: str | None = None, syntax: str = ExplicitVRLittleEndian, sop_class: str = IO
) -> Incoming:
    return Incoming(memoryview(data), sop_class, uid or generate_uid(), syntax, "SENSOR1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def keep(database, enqueuer, folder):
    store = FolderStore(folder)

    def run(message: Incoming, location_id: str = "main"):
        return receive(database, store, enqueuer, message, location_id=location_id)

    return run


def rows(database, table) -> list:
    with read(database) as conn:
        return list(conn.execute(sa.select(table)))


def jobs(database) -> int:
    schema = "" if database.dialect.name == "sqlite" else "dbos."
    with read(database) as conn:
        return conn.exec_driver_sql(f"SELECT count(*) FROM {schema}workflow_status").scalar_one()


def stored_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_image_is_kept_byte_for_byte_with_its_rows(database, keep, folder, film):
    ds = film(ImagerPixelSpacing=[0.02, 0.02], IssuerOfPatientID="PRACTICE")
    data = encoded(ds)
    result = keep(incoming(data, ds.SOPInstanceUID))
    assert (result.kept, result.status) == (Kept.STORED, SUCCESS)
    (path,) = stored_files(folder)
    content = path.read_bytes()
    assert content[:132] == bytes(128) + b"DICM"
    assert content.endswith(data)
    (image,) = rows(database, instance)
    assert image.sha256 == hashlib.sha256(data).hexdigest()
    assert (image.size_bytes, image.rows, image.columns) == (len(data), 40, 30)
    assert (image.spacing_mm_row, image.spacing_kind) == (0.02, "detector")
    assert (image.state, image.sender_ae_title) == ("received", "SENSOR1")
    (visit,) = rows(database, study)
    assert (visit.state, visit.match_state, visit.generation) == ("receiving", "pending", 0)
    (identity,) = rows(database, study_identity)
    assert identity.patient_name == "Doe^Jane"
    assert (identity.patient_id_text, identity.issuer_of_patient_id) == ("17", "PRACTICE")
    assert [row.kind for row in rows(database, event)] == ["image.stored"]
    assert jobs(database) == 1
    with read(database) as conn:
        assert audit.verify(conn) == (1, None)


def test_the_stored_file_opens_in_pydicom(keep, folder, film):
    from pydicom import dcmread

    ds = film()
    keep(incoming(encoded(ds), ds.SOPInstanceUID))
    read_back = dcmread(stored_files(folder)[0])
    assert read_back.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert read_back.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert read_back == ds


def test_the_same_bytes_again_leave_no_second_row(database, keep, folder, film):
    ds = film()
    message = incoming(encoded(ds), ds.SOPInstanceUID)
    first, second = keep(message), keep(message)
    assert second.kept is Kept.SAME_AGAIN
    assert (second.status, second.instance_id) == (SUCCESS, first.instance_id)
    assert len(rows(database, instance)) == len(stored_files(folder)) == jobs(database) == 1
    assert len(rows(database, event)) == 1


def test_other_bytes_under_a_known_uid_are_kept_beside_and_flagged(database, keep, folder, film):
    ds = film()
    first = keep(incoming(encoded(ds), ds.SOPInstanceUID))
    ds.ImageComments = "edited"
    other = incoming(encoded(ds), ds.SOPInstanceUID)
    for expected in (Kept.BESIDE, Kept.SAME_AGAIN):
        result = keep(other)
        assert (result.kept, result.status) == (expected, DOES_NOT_MATCH)
        assert result.instance_id == first.instance_id
    assert len(rows(database, instance)) == jobs(database) == 1
    (beside,) = rows(database, instance_duplicate)
    assert beside.sha256 == hashlib.sha256(other.data).hexdigest()
    assert len(stored_files(folder)) == 2
    kinds = [row.kind for row in rows(database, event)]
    assert kinds == ["image.stored", "image.duplicate_kept"]


@pytest.mark.parametrize("state", ["complete", "ready", "signed"])
def test_a_late_image_reopens_the_study(database, keep, film, state):
    ds = film()
    first = keep(incoming(encoded(ds), ds.SOPInstanceUID))
    with begin(database, Actor("test", "main"), "test") as tx:
        tx.conn.execute(study.update().values(state=state, review_version=1, completed_at=tx.now))
    late = film(StudyInstanceUID=ds.StudyInstanceUID)
    assert keep(incoming(encoded(late), late.SOPInstanceUID)).study_id == first.study_id
    (visit,) = rows(database, study)
    assert (visit.state, visit.generation, visit.review_version) == ("receiving", 1, 1)
    assert visit.completed_at is None
    kinds = [row.kind for row in rows(database, event)]
    assert kinds.count("study.reopened") == 1


def test_the_same_image_again_does_not_reopen(database, keep, film):
    ds = film()
    message = incoming(encoded(ds), ds.SOPInstanceUID)
    keep(message)
    with begin(database, Actor("test", "main"), "test") as tx:
        tx.conn.execute(study.update().values(state="signed"))
    keep(message)
    assert [row.state for row in rows(database, study)] == ["signed"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 64,
        b"no data set at all, but bytes that somebody sent",
        b"\x08\0\x05\0CS\xff\xff",
        b"\xff" * 300,
        b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff"
        + b"\xfe\xff\0\xe0\xff\xff\xff\xff\x08\0\x40\x11SQ\0\0"
        b"\xff\xff\xff\xff" * 2000,
    ],
)
def test_an_unreadable_header_is_kept_with_its_reason(database, keep, folder, data):
    uid = generate_uid()
    result = keep(incoming(data, uid))
    assert result.kept is Kept.STORED
    assert stored_files(folder)[0].read_bytes().endswith(data)
    (visit,) = rows(database, study)
    assert visit.study_instance_uid.startswith("2.25.")
    again = keep(incoming(data + b"\0\0", generate_uid()))
    assert again.study_id != result.study_id


def test_a_bad_header_says_why(database, keep):
    keep(incoming(b"", generate_uid()))
    (visit,) = rows(database, study)
    assert visit.match_reason == "header unreadable: the data set is empty"
    assert rows(database, instance)[0].failure == "the data set is empty"


def test_endless_tiny_elements_do_not_stall_the_receiver(database, keep):
    data = b"".join(
        (0x0009).to_bytes(2, "little") + (n % 65000).to_bytes(2, "little") + b"LO\0\0"
        for n in range(400_000)
    )
    keep(incoming(data))
    assert "too many elements" in rows(database, instance)[0].failure


def test_a_missing_study_uid_is_derived_and_stable(database, keep, film):
    ds = film(StudyInstanceUID=None)
    keep(incoming(encoded(ds), "1.2.3.4"))
    (visit,) = rows(database, study)
    assert visit.study_instance_uid.startswith("2.25.")
    assert len(visit.study_instance_uid) <= 64


@pytest.mark.parametrize(
    "uid", ["../../etc/passwd", "", "1.2." + "3" * 64, "1.2\n3", "1..2", "a.b"]
)
def test_a_false_uid_is_refused(uid):
    with pytest.raises(InvalidInput):
        incoming(b"x", uid or " ")


def test_images_of_two_people_under_one_study_uid_never_mix(database, keep, film):
    first = film()
    second = film(
        StudyInstanceUID=first.StudyInstanceUID, PatientName="Roe^Richard", PatientID="18"
    )
    third = film(
        StudyInstanceUID=first.StudyInstanceUID, PatientName="DOE^JANE^Q", PatientID="0017"
    )
    results = [keep(incoming(encoded(ds), ds.SOPInstanceUID)) for ds in (first, second, third)]
    assert results[0].study_id == results[2].study_id != results[1].study_id
    names = {row.study_id: row.patient_name for row in rows(database, study_identity)}
    assert names[results[1].study_id] == "Roe^Richard"


def test_two_locations_share_nothing(database, keep, folder, film):
    ds = film()
    message = incoming(encoded(ds), ds.SOPInstanceUID)
    here, there = keep(message, "main"), keep(message, "north")
    assert here.kept is there.kept is Kept.STORED
    assert here.study_id != there.study_id
    assert {path.relative_to(folder).parts[0] for path in stored_files(folder)} == {"main", "north"}


def test_a_name_in_an_undeclared_charset_is_read(database, keep, film):
    ds = film(PatientName="Doe^Jane")
    data = encoded(ds).replace(b"Doe^Jane", "Dö^Jane".encode("latin-1") + b" ")
    keep(incoming(data, ds.SOPInstanceUID))
    assert rows(database, study_identity)[0].patient_name == "Dö^Jane"


def test_a_data_set_that_contradicts_the_request_is_kept_with_a_warning(keep, film):
    result = keep(incoming(encoded(film()), "1.2.3.4.5"))
    assert (result.kept, result.status) == (Kept.STORED, DOES_NOT_MATCH)


def test_many_associations_at_once_make_one_study(database, keep, film):
    uid = generate_uid()
    films = [film(StudyInstanceUID=uid) for _ in range(6)]
    messages = [incoming(encoded(ds), ds.SOPInstanceUID) for ds in films] * 2
    problems: list[BaseException] = []

    def work(message: Incoming) -> None:
        try:
            keep(message)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            problems.append(error)

    threads = [threading.Thread(target=work, args=(message,)) for message in messages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(rows(database, study)) == len(rows(database, study_identity)) == 1
    assert len(rows(database, instance)) == 6
    assert jobs(database) == 6


def test_a_full_disk_leaves_no_row(database, enqueuer, folder, film):
    ds = film()
    full = FolderStore(folder, min_free_mb=10**9)
    with pytest.raises(Retryable):
        receive(
            database, full, enqueuer, incoming(encoded(ds), ds.SOPInstanceUID), location_id="main"
        )
    assert rows(database, instance) == rows(database, study) == []
    assert stored_files(folder) == []


def test_a_locked_database_leaves_no_file(sqlite_database, enqueuer, folder, film, monkeypatch):
    path = sqlite_database.url.database
    sa.event.listen(
        sqlite_database, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout=100")
    )
    sqlite_database.dispose()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ds = film()
    message = incoming(encoded(ds), ds.SOPInstanceUID)
    try:
        with pytest.raises(Retryable):
            receive(sqlite_database, FolderStore(folder), enqueuer, message, location_id="main")
        assert stored_files(folder) == []
    finally:
        holder.rollback()
        holder.close()
    again = receive(sqlite_database, FolderStore(folder), enqueuer, message, location_id="main")
    assert again.kept is Kept.STORED


def test_a_lost_file_is_put_back_when_it_is_sent_again(database, keep, folder, film):
    ds = film()
    message = incoming(encoded(ds), ds.SOPInstanceUID)
    first = keep(message)
    stored_files(folder)[0].unlink()
    again = keep(message)
    assert (again.kept, again.status) == (Kept.RESTORED, SUCCESS)
    assert again.instance_id == first.instance_id
    (path,) = stored_files(folder)
    (image,) = rows(database, instance)
    assert folder / image.storage_key == path
    assert path.read_bytes().endswith(message.data)
