"""Packages: the same bytes every time, everything checked on the way in and out."""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pypdf import PdfReader

from node.errors import InvalidInput, Rejected
from orchestration.labs.package import (
    Open,
    describe_file,
    package_name,
    read_package,
    write_package,
)
from orchestration.labs.prescription import (
    UNSIGNED,
    FieldSource,
    FileKind,
    LabRx,
    Signature,
    Source,
)
from orchestration.labs.rulebook import load_pack, load_rulebook
from orchestration.labs.slip import compose_slip
from tests.orchestration.labs.prescriptions import COMPLETE, CROWN, ZONE

BOOK, PACK = load_rulebook(), load_pack("sandbox")
SIGNATURE = Signature(
    "Ada Marsh DDS", "DDS-12345", "NY", datetime(2026, 11, 2, 15, tzinfo=UTC), "I prescribe this."
)


def stl(facets: int = 4) -> bytes:
    return bytes(80) + struct.pack("<I", facets) + bytes(50 * facets)


STL_TEXT = b"solid a\nfacet normal 0 0 1\nouter loop\nendloop\nendfacet\nendsolid a\n"
PLY_HEAD = (
    b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty float x\nproperty float y\n"
    b"property float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
)
PLY = PLY_HEAD + bytes(24) + bytes(13)
PLY_TEXT = b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1 \n"
DICOM = bytes(128) + b"DICM" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)


def signed_case() -> tuple[LabRx, Mapping[str, Open]]:
    contents = {
        ("prep.stl", FileKind.SCAN): stl(),
        ("opposing.ply", FileKind.OPPOSING_SCAN): PLY,
        ("bite.dcm", FileKind.BITE_SCAN): DICOM,
        ("tab.jpg", FileKind.PHOTO): JPEG,
    }
    refs = tuple(
        describe_file(name, kind, io.BytesIO(raw)) for (name, kind), raw in contents.items()
    )
    files: dict[str, Open] = {name: _opener(raw) for (name, _), raw in contents.items()}
    return replace(CROWN, attachments=refs).signed(SIGNATURE), files


def _opener(raw: bytes) -> Callable[[], io.BytesIO]:
    return lambda: io.BytesIO(raw)


def packed() -> bytes:
    rx, files = signed_case()
    out = io.BytesIO()
    write_package(out, rx, BOOK, files, ZONE)
    return out.getvalue()


def test_the_package_is_the_same_bytes_and_reads_back() -> None:
    first = packed()
    assert first == packed()
    package = read_package(io.BytesIO(first))
    assert package.rx == signed_case()[0]
    assert set(package.sums) == {
        "Rx.json", "Rx.pdf", "photos/tab.jpg", "scans/bite.dcm", "scans/opposing.ply",
        "scans/prep.stl",
    }  # fmt: skip


def test_the_name_follows_the_laboratory() -> None:
    rx, _ = signed_case()
    assert package_name(rx, PACK, ZONE) == "BW-1001_crown_19.zip"
    pack = replace(PACK, package_name="{office}-{date}-{case}")
    assert package_name(rx, pack, ZONE) == "Maple-Street-Dental-20261102-BW-1001.zip"


def test_an_unsigned_prescription_is_not_packed() -> None:
    with pytest.raises(Rejected):
        write_package(io.BytesIO(), CROWN, BOOK, {}, ZONE)


def test_a_file_that_changed_since_the_signature_is_refused() -> None:
    rx, files = signed_case()
    with pytest.raises(InvalidInput, match="changed"):
        write_package(io.BytesIO(), rx, BOOK, {**files, "prep.stl": _opener(stl(5))}, ZONE)
    missing = {name: each for name, each in files.items() if name != "prep.stl"}
    with pytest.raises(InvalidInput, match="not there"):
        write_package(io.BytesIO(), rx, BOOK, missing, ZONE)


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("a.stl", FileKind.SCAN, stl()),
        ("a.stl", FileKind.SCAN, STL_TEXT),
        ("a.STL", FileKind.SCAN, b"solid" + stl()[5:]),
        ("a.ply", FileKind.BITE_SCAN, PLY),
        ("a.ply", FileKind.BITE_SCAN, PLY_TEXT),
        ("a.dcm", FileKind.RADIOGRAPH, DICOM),
        ("smile 1.jpeg", FileKind.PHOTO, JPEG),
    ],
)
def test_good_files_are_taken(name: str, kind: FileKind, content: bytes) -> None:
    assert describe_file(name, kind, io.BytesIO(content)).size_bytes == len(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.stl", stl()[:-1]),
        ("a.stl", stl(0)),
        ("a.stl", b""),
        ("a.stl", b"solid a\nendsolid a\n"),
        ("a.stl", STL_TEXT[:-12]),
        ("a.ply", PLY_HEAD + bytes(10)),
        ("a.ply", PLY[:40]),
        ("a.ply", PLY.replace(b"vertex 2", b"vertex 0")),
        ("a.ply", PLY.replace(b"vertex 2", b"vertex -2")),
        ("a.ply", PLY.replace(b"vertex 2", b"vertex two")),
        ("a.ply", PLY.replace(b"binary_little_endian", b"zipped")),
        ("a.dcm", b"DICM"),
        ("a.exe", b"MZ"),
        ("a.stl.exe", stl()),
        ("../a.stl", stl()),
        ("C:a.stl", stl()),
        ("con.stl", stl()),
        ("a\x00.stl", stl()),
        (".stl", stl()),
    ],
)
def test_bad_files_are_refused(name: str, content: bytes) -> None:
    with pytest.raises(InvalidInput):
        describe_file(name, FileKind.SCAN, io.BytesIO(content))


def _tampered(change: Callable[[zipfile.ZipFile], None], drop: str = "") -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed())) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            if entry.filename != drop:
                new.writestr(entry, old.read(entry))
        change(new)
    out.seek(0)
    return out


def _link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("scans/link.stl")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


@pytest.mark.parametrize(
    "change",
    [
        lambda z: z.writestr("../evil.txt", "x"),
        lambda z: z.writestr("/evil.txt", "x"),
        lambda z: z.writestr("a/b/c.txt", "x"),
        lambda z: z.writestr("scans\\evil.txt", "x"),
        lambda z: z.writestr("SCANS/PREP.STL", "x"),
        lambda z: z.writestr("extra.txt", "x"),
        lambda z: z.writestr("bomb.txt", b"0" * 10_000_000, zipfile.ZIP_DEFLATED),
        _link,
    ],
)
def test_tricks_in_a_package_are_refused(change: Callable[[zipfile.ZipFile], None]) -> None:
    with pytest.raises(InvalidInput):
        read_package(_tampered(change))


def test_a_changed_or_missing_entry_is_found() -> None:
    def replaced(archive: zipfile.ZipFile) -> None:
        archive.writestr("scans/prep.stl", stl(7))

    with pytest.raises(InvalidInput, match="sum"):
        read_package(_tampered(replaced, drop="scans/prep.stl"))
    for name in ("Rx.json", "Rx.pdf", "SHA256SUMS", "scans/prep.stl"):
        with pytest.raises(InvalidInput):
            read_package(_tampered(lambda _: None, drop=name))
    with pytest.raises(InvalidInput):
        read_package(io.BytesIO(packed()[:-30]))
    with pytest.raises(InvalidInput, match="too large"):
        read_package(io.BytesIO(packed()), largest_bytes=100)


def _words(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)


def test_the_slip_names_dentist_licence_statement_and_day() -> None:
    rx, _ = signed_case()
    filled = FieldSource("units", Source.PROCEDURE)
    text = _words(compose_slip(replace(rx, sources=(filled,)), BOOK, ZONE))
    for words in (
        *("Ada Marsh DDS", "NY DDS-12345", "I prescribe this.", "2026-11-02 10:00 EST"),
        *("#19", "36", "Zirconia, monolithic", "A2", "BW-1001", "1 fields were filled in"),
    ):
        assert words in text, words
    assert UNSIGNED not in text


@pytest.mark.parametrize("rx", COMPLETE.values(), ids=lambda rx: rx.restoration.value)
def test_a_draft_says_so_and_every_kind_has_a_slip(rx: LabRx) -> None:
    text = _words(compose_slip(rx, BOOK, ZONE))
    assert UNSIGNED in text
    assert compose_slip(rx, BOOK, ZONE) == compose_slip(rx, BOOK, ZONE)


def test_markup_in_a_persons_words_stays_words() -> None:
    rx = replace(CROWN, instructions="<b>bold</b> & <img src='x'/> end")
    assert "<img src='x'/>" in _words(compose_slip(rx, BOOK, ZONE))


def test_the_prescription_in_the_package_is_plain_json() -> None:
    with zipfile.ZipFile(io.BytesIO(packed())) as archive:
        assert json.loads(archive.read("Rx.json"))["dentist"]["licence_number"] == "DDS-12345"
