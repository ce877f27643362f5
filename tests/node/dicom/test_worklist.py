"""The worklist's answers, from query bytes to response data sets."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.db.session import read
from node.db.tables import operatory, provider
from node.dicom.query import Query, parse_query
from node.dicom.steps import answer, is_fully_supported
from node.dicom.worklist import match
from node.errors import InvalidInput


def query_of(ds: Dataset, syntax: str = ImplicitVRLittleEndian) -> Query:
    out = io.BytesIO()
    file = DicomFileLike(out)
    file.is_implicit_VR, file.is_little_endian = syntax == ImplicitVRLittleEndian, True
    write_dataset(file, ds)
    return parse_query(out.getvalue(), syntax, "ISO_IR 100")


def ask(step: dict[str, object] | None = None, **root: object) -> Dataset:
    ds = Dataset()
    for name, value in root.items():
        setattr(ds, name, value)
    if step is not None:
        item = Dataset()
        for name, value in step.items():
            setattr(item, name, value)
        ds.ScheduledProcedureStepSequence = [item]
    return ds


@pytest.fixture
def find(practice):
    def run(ds: Dataset | Query, location_id: str = "main", **rules: object) -> list[Dataset]:
        query = ds if isinstance(ds, Query) else query_of(ds)
        with read(practice.db) as conn:
            return [answer(query, entry) for entry in match(query, conn, location_id, **rules)]

    return run


@pytest.fixture
def day(practice):
    """Three people on two days."""
    for number, (family, given, modality, station, start_date, start_time) in enumerate(
        [
            ("Müller", "Uwe", "IO", "SENSOR", "20261122", "080000"),
            ("Smith", "Anna", "PX", "PAN", "20261122", "101500"),
            ("Smith-Jones", "Bob", "IO", "SENSOR", "20261123", "091500"),
        ]
    ):
        patient_id = practice.patient(family, given, number=str(100 + number))
        visit = practice.appointment(patient_id)
        practice.item(
            patient_id,
            visit,
            modality=modality,
            station_ae_title=station,
            start_date=start_date,
            start_time=start_time,
        )
    return practice


def names(answers: list[Dataset]) -> list[str]:
    return [str(ds.PatientName.family_name) for ds in answers]


ALL = ["Müller", "Smith", "Smith-Jones"]


@pytest.mark.parametrize(
    ("step", "root", "expected"),
    [
        ({}, {}, ALL),
        (None, {}, ALL),
        ({"Modality": "IO"}, {}, ["Müller", "Smith-Jones"]),
        ({"Modality": ["IO", "PX"]}, {}, ALL),
        ({"Modality": "CT"}, {}, []),
        ({"ScheduledStationAETitle": "PAN"}, {}, ["Smith"]),
        ({"ScheduledStationAETitle": "*"}, {}, ALL),
        ({"ScheduledStationAETitle": "SENS*"}, {}, ["Müller", "Smith-Jones"]),
        (None, {"Modality": "PX"}, ["Smith"]),
        (None, {"ScheduledStationAETitle": "PAN"}, ["Smith"]),
        ({"ScheduledProcedureStepStartDate": "20261122"}, {}, ["Müller", "Smith"]),
        ({"ScheduledProcedureStepStartDate": "20261123-"}, {}, ["Smith-Jones"]),
        ({"ScheduledProcedureStepStartDate": "-20261122"}, {}, ["Müller", "Smith"]),
        ({"ScheduledProcedureStepStartDate": "20261122-20261123"}, {}, ALL),
        ({"ScheduledProcedureStepStartTime": "0900-1100"}, {}, ["Smith", "Smith-Jones"]),
        (
            {
                "ScheduledProcedureStepStartDate": "20261122-20261123",
                "ScheduledProcedureStepStartTime": "1000-0930",
            },
            {},
            ["Smith", "Smith-Jones"],
        ),
        ({}, {"PatientName": "smith"}, ["Smith"]),
        ({}, {"PatientName": "SMI*"}, ["Smith", "Smith-Jones"]),
        ({}, {"PatientName": "*jones*"}, ["Smith-Jones"]),
        ({}, {"PatientName": "MULLER^UWE"}, ["Müller"]),
        ({}, {"PatientName": "Smith, Anna"}, ["Smith"]),
        ({}, {"PatientID": "101"}, ["Smith"]),
        ({}, {"PatientID": "10?"}, ALL),
        ({}, {"AccessionNumber": "Amain1"}, ["Müller"]),
        ({}, {"PatientSex": "M"}, []),
        ({}, {"PatientBirthDate": "19800102"}, ALL),
        ({}, {"StudyInstanceUID": ["2.25.14", "2.25.34"]}, ["Müller", "Smith"]),
        ({}, {"RequestedProcedureID": "R2"}, ["Müller"]),
        ({}, {"AdmissionID": "7"}, []),
    ],
)
def test_who_is_found(day, find, step, root, expected):
    root.setdefault("PatientName", "")
    assert names(find(ask(step, **root))) == expected


def test_sequence_matching_looks_into_the_code(day, find):
    code = Dataset()
    code.CodeValue = "D0274"
    assert len(find(ask({"ScheduledProtocolCodeSequence": [code]}, PatientName=""))) == 3
    code.CodeValue = "D0330"
    assert find(ask({"ScheduledProtocolCodeSequence": [code]}, PatientName="")) == []


def test_only_the_keys_asked_for_come_back(day, find):
    (found,) = find(ask({"Modality": "PX"}, PatientName=""))
    assert {element.keyword for element in found} == {
        "SpecificCharacterSet",
        "PatientName",
        "ScheduledProcedureStepSequence",
    }
    (step,) = found.ScheduledProcedureStepSequence
    assert [element.keyword for element in step] == ["Modality"]


def test_every_common_key_has_its_value(practice, find):
    patient_id = practice.patient("O'Brien", "Zoë", middle_name="Q", number="A-17")
    practice.insert(provider, pms_key="9", abbreviation="DOC", name="Roe, Richard", is_hidden=False)
    practice.insert(operatory, pms_key="3", name="Room 3")
    visit = practice.appointment(patient_id, provider_key="9", operatory_key="3")
    practice.item(patient_id, visit)
    keys = {
        "ScheduledStationAETitle": "SENSOR",
        "ScheduledProcedureStepStartDate": "20261122",
        "ScheduledProcedureStepStartTime": "101500",
        "Modality": "IO",
        "ScheduledPerformingPhysicianName": "Roe^Richard",
        "ScheduledProcedureStepDescription": "Bitewings - four films",
        "ScheduledProcedureStepID": "S2",
        "ScheduledStationName": "Room 3",
    }
    root = {
        "AccessionNumber": "Amain1",
        "StudyInstanceUID": "2.25.14",
        "RequestedProcedureID": "R2",
        "RequestedProcedureDescription": "Bitewings - four films",
        "PatientName": "O'Brien^Zoë^Q",
        "PatientID": "A-17",
        "IssuerOfPatientID": "PRACTICE",
        "PatientBirthDate": "19800102",
        "PatientSex": "F",
        "RequestedProcedurePriority": "ROUTINE",
    }
    query = ask(dict.fromkeys(keys, ""), **dict.fromkeys(root, ""))
    (found,) = find(query, issuer_of_patient_id="PRACTICE")
    assert {name: str(found[name].value) for name in root} == root
    step = found.ScheduledProcedureStepSequence[0]
    assert {name: str(step[name].value) for name in keys} == keys


def test_an_empty_sequence_asks_for_the_whole_step(day, find):
    query = Dataset()
    query.PatientName = "smith"
    query.ScheduledProcedureStepSequence = []
    (found,) = find(query)
    step = found.ScheduledProcedureStepSequence[0]
    assert (step.Modality, step.ScheduledStationAETitle) == ("PX", "PAN")
    assert step.ScheduledProtocolCodeSequence[0].CodeValue == "D0274"


def test_unknown_keys_come_back_empty_and_are_admitted(day, find):
    query = ask({"Modality": "PX"}, PatientName="", EthnicGroup="", ReasonForVisit="")
    assert not is_fully_supported(query_of(query))
    (found,) = find(query)
    assert not found.EthnicGroup
    assert not found.ReasonForVisit
    assert "EthnicGroup" in found
    assert is_fully_supported(query_of(ask({"Modality": ""}, PatientName="")))


def test_private_keys_of_an_explicit_query_come_back_empty(day, find):
    query = ask({"Modality": "PX"}, PatientName="")
    query.add_new(0x00091001, "LO", "")
    (found,) = find(query_of(query, ExplicitVRLittleEndian))
    assert found[0x00091001].value in ("", None)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, "ISO_IR 192"),
        ("", "ISO_IR 192"),
        ("ISO_IR 100", "ISO_IR 100"),
        ("ISO_IR 192", "ISO_IR 192"),
        ("GB18030", "GB18030"),
        ("ISO_IR 144", "ISO_IR 192"),  # Cyrillic cannot hold the name: no replacement characters
        ("NO SUCH SET", "ISO_IR 192"),
    ],
)
def test_the_answer_is_in_the_charset_asked_for(day, find, asked, expected):
    query = ask({"Modality": "IO"}, PatientName="", PatientID="100")
    if asked is not None:
        query.add_new(0x00080005, "CS", asked)
    data = io.BytesIO()
    file = DicomFileLike(data)
    file.is_implicit_VR, file.is_little_endian = True, True
    plain = ask({"Modality": "IO"}, PatientName="", PatientID="100")
    write_dataset(file, plain)
    head = b""
    if asked is not None:
        value = asked.encode() + b" " * (len(asked) % 2)
        head = b"\x08\0\x05\0" + len(value).to_bytes(4, "little") + value
    query = parse_query(head + data.getvalue(), ImplicitVRLittleEndian, "ISO_IR 100")
    (found,) = find(query)
    assert found.SpecificCharacterSet == expected
    out = io.BytesIO()
    file = DicomFileLike(out)
    file.is_implicit_VR, file.is_little_endian = True, True
    write_dataset(file, found)
    codec = {"ISO_IR 192": "utf-8", "ISO_IR 100": "latin-1", "GB18030": "gb18030"}[expected]
    assert "Müller^Uwe".encode(codec) in out.getvalue()


@pytest.mark.parametrize("codec", ["utf-8", "latin-1"])
@pytest.mark.parametrize("declared", [b"", b"ISO_IR 6 ", b"ISO_IR 100", b"NONSENSE"])
def test_names_in_undeclared_and_wrong_charsets_are_found(day, find, codec, declared):
    name = "müller*".encode(codec)
    name += b" " * (len(name) % 2)
    data = b"\x08\0\x05\0" + len(declared).to_bytes(4, "little") + declared
    data += b"\x10\0\x10\0" + len(name).to_bytes(4, "little") + name
    query = parse_query(data, ImplicitVRLittleEndian, "ISO_IR 100")
    assert names(find(query)) == ["Müller"]


def test_no_key_at_all_is_capped_by_days(day, find):
    query = ask({"Modality": ""}, PatientName="*")
    window = (date(2026, 11, 23), date(2026, 11, 23))
    assert names(find(query, default_days=window)) == ["Smith-Jones"]
    assert names(find(ask({"Modality": "PX"}, PatientName=""), default_days=window)) == ["Smith"]


def test_closed_steps_and_gone_people_are_not_offered(practice, find):
    stay = practice.patient("Stay", "Here", number="1")
    gone = practice.patient("Gone", "Away", number="2", gone=datetime.now(UTC))
    for patient_id, is_open in ((stay, True), (gone, True), (stay, False)):
        practice.item(patient_id, practice.appointment(patient_id), is_open=is_open)
    cancelled = practice.appointment(stay, tombstoned_at=datetime.now(UTC))
    practice.item(stay, cancelled)
    assert names(find(ask({}, PatientName=""))) == ["Stay"]


def test_two_locations_never_see_each_other(practice, other_practice, find):
    for where, family in ((practice, "Here"), (other_practice, "There")):
        patient_id = where.patient(family, "X", number="1")
        where.item(patient_id, where.appointment(patient_id))
    query = ask({}, PatientName="", PatientID="1")
    assert names(find(query, "main")) == ["Here"]
    assert names(find(query, "north")) == ["There"]


def test_structure_in_a_name_is_text(practice, find):
    patient_id = practice.patient("A^B=C\\D", "E\r\nF")
    practice.item(patient_id, practice.appointment(patient_id))
    (found,) = find(ask({}, PatientName=""))
    assert str(found.PatientName) == "A B C D^E F"


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\0\x05\0\xff\xff",
        b"\x40\0\x00\x01\xff\xff\xff\xff" * 3000,
        b"x" * (2 << 20),
    ],
)
def test_garbage_is_no_match_or_a_clear_refusal(find, data):
    try:
        query = parse_query(data, ImplicitVRLittleEndian, "ISO_IR 100")
    except InvalidInput:
        return
    find(query)


def test_answers_come_in_the_order_of_the_day(day, find):
    starts = [
        (ds.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate)
        for ds in find(ask({"ScheduledProcedureStepStartDate": ""}, PatientName=""))
    ]
    assert starts == sorted(starts)


def test_it_answers_on_both_databases(database, practice, find):
    patient_id = practice.patient("Smith", "Anna", number="5")
    practice.item(patient_id, practice.appointment(patient_id))
    keys = {"ScheduledProcedureStepStartDate": "20261101-20261130", "Modality": "IO"}
    assert names(find(ask(keys, PatientName="smi*", PatientID="5"))) == ["Smith"]
