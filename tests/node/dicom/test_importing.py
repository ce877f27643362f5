"""The watched folder: what is taken in, what is set aside, and whose it is then."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image as Raster
from pydicom import dcmread
from pydicom.fileset import FileSet
from pydicom.uid import JPEGBaseline8Bit

from node.config import read_config
from node.db.session import Actor, begin, read
from node.db.tables import event, import_file, instance, study, study_identity
from node.dicom.identity import match_study
from node.dicom.importing import ImportFolder
from node.dicom.instances import FolderStore
from node.dicom.pixels import decode
from node.dicom.sidecar import Sidecar, read_sidecar
from node.dicom.wrapping import scan_of, wrap_picture
from node.errors import InvalidInput, Retryable

FULL = "[Patient]\nPatientID=17\nLastName=Doe\nFirstName=Jane\nBirthDate=1980-01-02\nTooth=36\n"


class Inbox:
    """A watched folder and what came of it."""

    def __init__(self, db: sa.Engine, folder: Path, enqueuer) -> None:
        self.path = folder / "inbox"
        self.path.mkdir()
        self.db = db
        self.config = read_config(None, {}, {"dicom": {"import_dir": str(self.path)}})
        self.store = FolderStore(folder / "images")
        self.folder = ImportFolder(db, self.store, enqueuer, self.config)

    def put(self, name: str, content: bytes | str) -> Path:
        path = self.path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def look(self) -> int:
        """Look twice: a file is taken when it stood still."""
        self.folder.run_once()
        return self.folder.run_once()

    def rows(self, table: sa.Table) -> list[sa.Row]:
        with read(self.db) as conn:
            return list(conn.execute(sa.select(table)))

    def left(self) -> list[str]:
        return sorted(str(p.relative_to(self.path)) for p in self.path.rglob("*") if p.is_file())

    def kept(self):
        (row,) = self.rows(instance)
        return dcmread(self.store.path(row.storage_key))


@pytest.fixture
def inbox(sqlite_database: sa.Engine, tmp_path: Path, enqueuer) -> Inbox:
    return Inbox(sqlite_database, tmp_path, enqueuer)


def picture(kind: str, mode: str = "L", **options: object) -> bytes:
    pixels = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)
    drawn = (
        Raster.fromarray(pixels * 50)
        if mode == "I;16"
        else Raster.fromarray((pixels % 256).astype(np.uint8)).convert(mode)
    )
    out = io.BytesIO()
    drawn.save(out, kind, **options)
    return out.getvalue()


def stl() -> bytes:
    facet = struct.pack("<12fH", *range(12), 0)
    return bytes(80) + (2).to_bytes(4, "little") + facet * 2


PLY = b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n"


def test_a_dicom_file_is_kept_byte_for_byte_and_taken_out(inbox, film, save):
    ds = film()
    content = save(ds).read_bytes()
    inbox.put("deep/er/IMG0001", content)
    assert inbox.look() == 1
    assert inbox.left() == []
    (row,) = inbox.rows(instance)
    assert (row.sop_instance_uid, row.sender_ae_title) == (ds.SOPInstanceUID, "IMPORT")
    stored = inbox.store.path(row.storage_key).read_bytes()
    assert stored.endswith(content[-len(ds.PixelData) - 1000 :][-len(ds.PixelData) :])
    (note,) = inbox.rows(import_file)
    assert (note.kind, note.state, note.instance_id) == ("dicom", "imported", row.id)


def test_a_file_without_preamble_is_taken(inbox, film):
    ds = film()
    del ds.file_meta
    out = io.BytesIO()
    ds.save_as(out, implicit_vr=True, little_endian=True)
    inbox.put("raw", out.getvalue())
    assert inbox.look() == 1
    assert inbox.kept().SOPInstanceUID == ds.SOPInstanceUID


def test_a_disc_with_a_dicomdir_is_taken_whole(inbox, film, tmp_path):
    disc = FileSet()
    uids = set()
    for _ in range(2):
        ds = film(StudyID="1", SeriesNumber=1, PatientID="17")
        uids.add(ds.SOPInstanceUID)
        disc.add(ds)
    disc.write(inbox.path / "disc")
    assert "disc/DICOMDIR" in inbox.left()
    inbox.look()
    assert {row.sop_instance_uid for row in inbox.rows(instance)} == uids
    assert inbox.left() == []


def test_a_file_that_is_still_written_is_left(inbox, film, save):
    content = save(film()).read_bytes()
    path = inbox.put("film.dcm", content[: len(content) // 2])
    inbox.folder.run_once()
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert inbox.folder.run_once() == 0
    assert inbox.folder.run_once() == 1
    inbox.put("other.dcm.part", content)
    assert inbox.look() == 0


def test_the_same_file_twice_is_one_image(inbox, film, save):
    content = save(film()).read_bytes()
    inbox.put("a.dcm", content)
    inbox.put("b.dcm", content)
    assert inbox.look() == 2
    assert len(inbox.rows(instance)) == 1
    assert inbox.left() == []


def test_a_jpeg_keeps_its_stream_and_says_where_it_came_from(inbox):
    content = picture("JPEG")
    inbox.put("tooth.jpg", content)
    inbox.put("tooth.ini", FULL)
    assert inbox.look() == 1
    ds = inbox.kept()
    assert ds.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert content in ds.PixelData
    assert (ds.PatientName, ds.PatientID, ds.PatientBirthDate) == ("Doe^Jane", "17", "19800102")
    assert ds.ImageComments == "Tooth 36"
    assert (ds.LossyImageCompression, ds.ConversionType) == ("01", "DI")
    assert "SHA-256" in ds.DerivationDescription
    assert decode(inbox.store.path(inbox.rows(instance)[0].storage_key)).stored.shape == (30, 40)


@pytest.mark.parametrize(
    ("kind", "mode", "bits", "photometric"),
    [
        ("PNG", "L", 8, "MONOCHROME2"),
        ("PNG", "I;16", 16, "MONOCHROME2"),
        ("TIFF", "I;16", 16, "MONOCHROME2"),
        ("TIFF", "RGB", 8, "RGB"),
        ("PNG", "RGB", 8, "RGB"),
        ("BMP", "L", 8, "MONOCHROME2"),
    ],
)
def test_every_sample_of_a_picture_is_kept(inbox, kind, mode, bits, photometric):
    content = picture(kind, mode)
    inbox.put("picture." + kind.lower(), content)
    assert inbox.look() == 1
    ds = inbox.kept()
    assert (ds.BitsStored, ds.PhotometricInterpretation) == (bits, photometric)
    with Raster.open(io.BytesIO(content)) as drawn:
        assert (ds.pixel_array == np.asarray(drawn)).all()


def test_a_progressive_jpeg_is_decoded_and_stays_marked_lossy(inbox):
    inbox.put("p.jpg", picture("JPEG", "RGB", progressive=True))
    inbox.look()
    ds = inbox.kept()
    assert (ds.LossyImageCompression, ds.PhotometricInterpretation) == ("01", "RGB")


def test_an_own_sidecar_makes_the_match_certain(inbox, practice):
    patient_id = practice.patient()
    inbox.put("a.png", picture("PNG"))
    inbox.put("a.txt", FULL.replace("=", ": "))
    inbox.look()
    assert matched(inbox) == ("matched", patient_id)


def test_a_shared_sidecar_only_suggests(inbox, practice):
    practice.patient()
    inbox.put("visit/a.png", picture("PNG"))
    inbox.put("visit/patient.ini", FULL)
    inbox.look()
    assert matched(inbox) == ("suggested", None)


def test_without_a_sidecar_a_person_must_say_whose_it_is(inbox, practice):
    practice.patient()
    inbox.put("a.png", picture("PNG"))
    inbox.put("b.png", picture("PNG", "RGB"))
    inbox.look()
    assert len(inbox.rows(study)) == 2, "two unknown pictures never share a study"
    (first, _) = inbox.rows(study_identity)
    assert (first.patient_name, first.patient_id_text) == ("", "")


def matched(inbox: Inbox) -> tuple[str, str | None]:
    (row,) = inbox.rows(study)
    with begin(inbox.db, Actor("test", "main"), "test") as tx:
        outcome = match_study(tx, row.id, inbox.config)
    return outcome.state.value, outcome.patient_id


@pytest.mark.parametrize(("name", "content"), [("scan.stl", stl()), ("scan.ply", PLY)])
def test_an_intraoral_scan_is_kept_with_the_patients_case(inbox, practice, name, content):
    patient_id = practice.patient()
    inbox.put(name, content)
    inbox.put("scan.ini", FULL)
    assert inbox.look() == 1
    assert matched(inbox) == ("matched", patient_id)
    (row,) = inbox.rows(instance)
    assert scan_of(inbox.store.path(row.storage_key)) == content
    assert row.rows is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("letter.docx", b"PK\3\4 nothing", "not a DICOM file"),
        ("empty", b"", "not a DICOM file"),
        ("cut.png", picture("PNG")[:60], "damaged"),
        ("scan.stl", stl()[:-10], "cut off"),
        ("scan.ply", b"ply\nno end", "cut off"),
        ("film.dcm", bytes(128) + b"DICM" + b"\xff" * 40, ""),
    ],
)
def test_a_bad_file_is_set_aside_with_its_reason(inbox, name, content, words):
    inbox.put(name, content)
    inbox.put("good.png", picture("PNG"))
    assert inbox.look() == 1
    assert inbox.left() == [f"quarantine/{name}", f"quarantine/{name}.reason.txt"]
    assert words in (inbox.path / "quarantine" / f"{name}.reason.txt").read_text()
    states = {row.state for row in inbox.rows(import_file)}
    assert states == {"imported", "quarantined"}
    assert inbox.look() == 0, "what was set aside stays there"


def test_a_picture_too_long_for_dicom_holds_up_nobody(inbox):
    out = io.BytesIO()
    Raster.new("1", (70_000, 2)).save(out, "PNG")
    inbox.put("a-long.png", out.getvalue())
    inbox.put("b.png", picture("PNG"))
    assert inbox.look() == 1
    assert inbox.left() == ["quarantine/a-long.png", "quarantine/a-long.png.reason.txt"]
    assert "too large" in (inbox.path / "quarantine/a-long.png.reason.txt").read_text()


class FoldersWithSurprises(FolderStore):
    """A store that does something of its own before the first object is put."""

    def __init__(self, folder: Path, surprise: Callable[[], None]) -> None:
        super().__init__(folder)
        self.surprises = [surprise]

    def put(self, *args, **kwargs):
        if self.surprises:
            self.surprises.pop()()
        return super().put(*args, **kwargs)


def test_a_file_that_nobody_foresaw_holds_up_nobody(inbox, film, save, tmp_path):
    def break_off() -> None:
        raise AssertionError("nobody foresaw this")

    inbox.put("a.dcm", save(film()).read_bytes())
    inbox.put("b.png", picture("PNG"))
    inbox.folder.store = FoldersWithSurprises(tmp_path / "images", break_off)
    assert inbox.look() == 1
    reason = (inbox.path / "quarantine/a.dcm.reason.txt").read_text()
    assert reason.startswith("Internal error ")


def test_a_file_that_grew_while_it_was_kept_stays(inbox, tmp_path):
    path = inbox.put("scan.stl", stl())

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    inbox.folder.store = FoldersWithSurprises(tmp_path / "images", grow)
    inbox.look()
    assert inbox.left() == ["scan.stl"]
    inbox.look()
    assert "scan.stl" not in inbox.left()


def test_names_of_files_are_kept_nowhere(inbox, caplog):
    inbox.put("Doe_Jane.xyz", b"nothing")
    inbox.look()
    assert "Doe" not in caplog.text
    assert "Doe" not in str([inbox.rows(table) for table in (import_file, event)])


def test_links_and_hidden_files_are_not_followed(inbox, tmp_path, film, save):
    (inbox.path / "link.dcm").symlink_to(save(film()))
    inbox.put(".hidden.dcm", save(film()).read_bytes())
    assert inbox.look() == 0
    assert inbox.rows(instance) == []


def test_a_folder_that_is_away_is_tried_later(inbox):
    inbox.path.rmdir()
    with pytest.raises(Retryable):
        inbox.folder.run_once()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Name=Müller, Jörg\nDOB=02.01.1980", ("Müller^Jörg", "19800102")),
        ("PatientName: Doe^Jane\nBirthday: 01/02/1980", ("Doe^Jane", "19800102")),
        ("Nachname = O'Brien\nVorname = Anna\nGeburtsdatum = 1980-13-40", ("O'Brien^Anna", "")),
        ("; comment\n[x]\nnothing", ("", "")),
        ("LastName=A\\B^C=D\nFirstName=E", ("A B C D^E", "")),
    ],
)
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "cp1252"])
def test_sidecars_are_read(tmp_path: Path, text: str, expected: tuple[str, str], codec: str):
    path = tmp_path / "a.ini"
    path.write_bytes(text.encode(codec))
    told = read_sidecar(path)
    assert (told.patient_name, told.birth_date) == expected


def test_left_over_sidecars_go_after_a_while(inbox):
    inbox.put("a.png", picture("PNG"))
    sidecar = inbox.put("a.ini", FULL)
    inbox.look()
    assert inbox.left() == ["a.ini"]
    os.utime(sidecar, (1, 1))
    inbox.look()
    assert inbox.left() == []


def test_the_clean_up_never_takes_a_sidecar_whose_picture_waits(inbox):
    sidecar = inbox.put("b.ini", FULL)
    os.utime(sidecar, (1, 1))
    inbox.put("b.jpg", b"\xff\xd8\xff cut")
    inbox.folder.run_once()
    assert "b.ini" in inbox.left()


def test_a_picture_bomb_is_refused_before_it_is_unpacked() -> None:
    packed = io.BytesIO()
    Raster.new("1", (20_000, 20_000)).save(packed, "PNG")
    assert len(packed.getvalue()) < 100_000
    with pytest.raises(InvalidInput):
        wrap_picture(packed.getvalue(), Sidecar(), datetime.now(UTC))
