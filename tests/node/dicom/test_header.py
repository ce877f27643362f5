"""Headers of sound and damaged data sets, and bounds on what a stranger may send."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from node.dicom.elements import read_nested
from node.dicom.header import parse_data_set, read_header
from node.dicom.uid import is_uid
from node.errors import InvalidInput


def encoded(ds, syntax) -> bytes:
    out = io.BytesIO()
    file = DicomFileLike(out)
    file.is_implicit_VR = syntax == ImplicitVRLittleEndian
    file.is_little_endian = syntax != ExplicitVRBigEndian
    write_dataset(file, ds)
    return out.getvalue()


def header_of(data: bytes, syntax: str = ExplicitVRLittleEndian):
    return parse_data_set(memoryview(data), syntax, "ISO_IR 100")


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian],
)
def test_every_encoding_reads_the_same(film, syntax):
    ds = film(IssuerOfPatientID="PRACTICE", AccessionNumber="ACC1")
    header = header_of(encoded(ds, syntax), syntax)
    assert header.problem == ""
    assert (header.patient_name, header.patient_id) == ("Doe^Jane", "17")
    assert (header.issuer_of_patient_id, header.accession_number) == ("PRACTICE", "ACC1")
    assert header.study_instance_uid == ds.StudyInstanceUID
    assert (header.rows, header.columns, header.bits_stored) == (40, 30, 12)
    assert (header.study_date, header.birth_date, header.sex) == ("20261122", "19800102", "F")


def test_a_deflated_header_is_read_though_the_rest_is_missing(film):
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = squeeze.compress(encoded(film(), ExplicitVRLittleEndian)) + squeeze.flush()
    header = header_of(data, DeflatedExplicitVRLittleEndian)
    assert header.patient_name == "Doe^Jane"


def test_a_data_set_encoded_otherwise_than_negotiated_is_read(film):
    ds = film()
    for said, meant in (
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    ):
        header = header_of(encoded(ds, meant), said)
        assert header.study_instance_uid == ds.StudyInstanceUID


def test_sequences_of_undefined_length_are_passed_over(film):
    deep = b"".join(
        b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" for _ in range(2000)
    )
    closing = (b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0") * 2000
    name = b"\x10\0\x10\0PN\x08\0Doe^Jane"
    assert header_of(deep + closing + name).patient_name == "Doe^Jane"
    assert header_of(deep).problem != ""


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail(data):
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        header_of(data, syntax)


@given(st.binary(max_size=200), st.booleans())
def test_a_query_of_any_bytes_is_read_or_refused(data, is_implicit):
    try:
        read_nested(data, is_implicit, True)
    except InvalidInput:
        return


def test_nested_items_are_read(film):
    item = struct.pack("<HHL", 0x0008, 0x0060, 2) + b"IO"
    wrapped = struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    data = struct.pack("<HHL", 0x0040, 0x0100, len(wrapped)) + wrapped
    (sequence,) = read_nested(data, True, True)
    assert sequence.items[0][0].value == b"IO"


def test_deep_nesting_in_a_query_is_refused():
    data = b"\x40\0\0\1SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 50
    with pytest.raises(InvalidInput, match="deep"):
        read_nested(data, False, True)


def test_control_characters_and_overlong_values_are_tamed(film):
    header = header_of(encoded(film(PatientID="1\r\n2\x1b[31m"), ExplicitVRLittleEndian))
    assert header.patient_id == "12[31m"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.840", True),
        ("1.02.3", True),
        ("1" * 64, True),
        ("1" * 65, False),
        ("", False),
        ("1..2", False),
        ("1.2.", False),
        ("../1", False),
        ("1.2\n", False),
    ],
)
def test_what_counts_as_a_uid(text, expected):
    assert is_uid(text) is expected


def test_what_is_no_file_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"PK\3\4" * 100)
    with pytest.raises(InvalidInput, match="not a DICOM file"):
        read_header(path)
