"""What dental software really sends, one quirk a test, and what the node does with it.

The numbers are those of the list of quirks in docs/imaging-sources.md.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image as Raster
from PIL import ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import ModalityWorklistInformationFind

from models.lettering import find_lettering
from node.analysis.arrivals import CompleteBy, Patience, complete_by
from node.db.session import Actor, begin, read
from node.db.tables import event, instance, instance_duplicate, study, study_identity
from node.dicom.greyscale import Greyscale
from node.dicom.identity import candidates, link_study, match_study
from node.dicom.instances import FolderStore
from node.dicom.pixels import decode, model_input, render8
from node.dicom.priors import PriorFetcher
from node.dicom.subject import read_subject, written_teeth
from node.domain import schedule
from tests.protocol.conftest import IO, Node, make_film

pytestmark = pytest.mark.protocol


@pytest.fixture
def node(start: Callable[..., Node]) -> Node:
    return start()


def send(node: Node, *films: Dataset, ae: str = "SENSOR") -> list[int]:
    entity = AE(ae)
    for film in films:
        entity.add_requested_context(film.SOPClassUID, film.file_meta.TransferSyntaxUID)
    assoc = entity.associate("127.0.0.1", node.port)
    statuses = [int(assoc.send_c_store(film).Status) for film in films]
    assoc.release()
    return statuses


def send_bytes(node: Node, data: bytes, uid: str, syntax: str = ExplicitVRLittleEndian) -> int:
    """Send bytes that no library would write, by pynetdicom's primitives."""
    entity = AE("SENSOR")
    entity.add_requested_context(IO, syntax)
    assoc = entity.associate("127.0.0.1", node.port)
    request = C_STORE()
    request.MessageID, request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = 1, IO, uid
    request.Priority, request.DataSet = 2, io.BytesIO(data)
    (context,) = assoc.accepted_contexts
    assoc._reactor_checkpoint.clear()
    assoc.dimse.send_msg(request, context.context_id)
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    assoc.release()
    return int(answer.Status)


def path_of(node: Node, row: sa.Row):
    return FolderStore(node.folder).path(row.storage_key)


def match(node: Node, study_id: str):
    with begin(node.db, Actor("test", "main"), "test") as tx:
        return match_study(tx, study_id, node.config)


def encoded(ds: Dataset) -> bytes:
    """Write a data set without preamble and file meta information."""
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    content = out.getvalue()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def test_01_one_study_an_image_is_one_visit(node, practice):
    patient_id = practice.patient()
    visit = practice.appointment(patient_id)
    practice.item(patient_id, visit, expected_images=3)
    films = [make_film(PatientID="17", AccessionNumber="Amain1") for _ in range(3)]
    assert send(node, *films) == [0, 0, 0]
    rows = node.rows(study)
    assert len(rows) == 3
    assert {match(node, row.id).appointment_id for row in rows} == {visit}
    with read(node.db) as conn:
        row = conn.execute(sa.select(study).limit(1)).one()
        assert complete_by(conn, row, Patience(60), datetime.now(UTC)) is CompleteBy.COUNT
    uids = {dcmread(path).StudyInstanceUID for path in node.files()}
    assert uids == {film.StudyInstanceUID for film in films}, "no stored UID is rewritten"


def test_02_a_foreign_study_uid_is_merged_or_waits_and_can_be_linked_later(node, practice):
    jane, joan = practice.patient(), practice.patient("Doe", "Joan", number="18")
    send(node, make_film(), make_film(PatientName="Doe^Joan", PatientID="17"))
    found = {match(node, row.id).state.value: row.id for row in node.rows(study)}
    assert set(found) == {"matched", "ambiguous"}
    doubtful = found["ambiguous"]
    with read(node.db) as conn:
        offered = [each.patient_id for each in candidates(conn, doubtful, node.config)]
    assert {jane, joan} <= set(offered)
    link_study(node.db, Actor("test", "main"), doubtful, joan, node.config)
    assert match(node, doubtful).patient_id == joan


def test_02_a_study_uid_reused_for_years_never_mixes_two_people(node):
    uid = generate_uid()
    send(
        node, make_film(StudyInstanceUID=uid), make_film(StudyInstanceUID=uid, PatientName="Roe^R")
    )
    assert len(node.rows(study)) == 2
    names = {row.patient_name for row in node.rows(study_identity)}
    assert names == {"Doe^Jane", "Roe^R"}


def test_03_a_generic_modality_is_stored_and_read_like_any(node):
    kinds = [
        (m, c)
        for m in ("OT", "DX", "CR", "RG", "XC", "")
        for c in (IO, SecondaryCaptureImageStorage)
    ]
    films = [make_film(Modality=modality, SOPClassUID=sop_class) for modality, sop_class in kinds]
    assert set(send(node, *films)) == {0}
    rows = node.rows(instance)
    assert sorted((row.modality, row.sop_class_uid) for row in rows) == sorted(kinds)
    assert {model_input(path_of(node, row))[0].shape for row in rows} == {(200, 100)}


def test_04_a_grey_screenshot_in_rgb_jpeg_is_grey_to_the_models(node):
    grey = (np.arange(200 * 100).reshape(200, 100) % 251).astype(np.uint8)
    out = io.BytesIO()
    Raster.fromarray(np.dstack([grey] * 3)).save(out, "JPEG", quality=95, subsampling=0)
    film = make_film(SOPClassUID=SecondaryCaptureImageStorage)
    film.SamplesPerPixel, film.PhotometricInterpretation = 3, "YBR_FULL"
    film.PlanarConfiguration = 0
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit = 7
    film.PixelData = encapsulate([out.getvalue()])
    film["PixelData"].is_undefined_length = True
    film.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    assert send(node, film) == [0]
    (row,) = node.rows(instance)
    assert isinstance(decode(path_of(node, row)), Greyscale)


def test_04_a_name_in_a_screenshot_is_seen_whatever_the_header_says(node):
    picture = Raster.new("RGB", (320, 200), (60, 60, 60))
    words = ImageDraw.Draw(picture)
    words.text((8, 8), "MUSTER, ERIKA 12.03.1961", fill="white", font=ImageFont.load_default(16))
    film = make_film(SOPClassUID=SecondaryCaptureImageStorage, BurnedInAnnotation="NO")
    film.SamplesPerPixel, film.PhotometricInterpretation = 3, "RGB"
    film.PlanarConfiguration, film.BitsAllocated, film.BitsStored, film.HighBit = 0, 8, 8, 7
    film.Rows, film.Columns = 200, 320
    film.PixelData = picture.tobytes()
    assert send(node, film) == [0]
    (row,) = node.rows(instance)
    lines = find_lettering(model_input(path_of(node, row))[0])
    assert lines
    assert max(line.y1 for line in lines) < 40


def test_05_and_06_a_panoramic_without_a_window_is_neither_white_nor_black(node):
    film = make_film(Modality="PX")
    film.PixelData = (np.arange(200 * 100, dtype=np.uint16) % 400 + 3000).tobytes()
    send(node, film)
    (row,) = node.rows(instance)
    drawn = render8(decode(path_of(node, row)))
    assert drawn.min() < 20 < 235 < drawn.max()
    assert 60 < drawn.mean() < 200


def test_07_rubbish_after_the_end_is_kept_and_read_over(node):
    film = make_film()
    data = encoded(film) + struct.pack("<HHL", 0, 0, 0) * 3 + b"\0" * 100
    assert send_bytes(node, data, film.SOPInstanceUID) == 0
    (row,) = node.rows(instance)
    assert row.size_bytes == len(data)
    assert path_of(node, row).read_bytes().endswith(data)
    assert decode(path_of(node, row)).stored.shape == (200, 100)


@pytest.mark.parametrize(
    ("attributes", "kind", "mm"),
    [
        ({}, "unknown", None),
        ({"PixelSpacing": [0.02, 0.02]}, "unknown", None),  # of what, nobody says
        ({"ImagerPixelSpacing": [0.02, 0.02]}, "detector", 0.02),
        ({"PixelSpacing": [0.03, 0.03], "PixelSpacingCalibrationType": "FIDUCIAL"},
         "calibrated", 0.03),
    ],
)  # fmt: skip
def test_08_without_a_trusted_spacing_there_are_no_millimetres(node, attributes, kind, mm):
    send(node, make_film(**attributes))
    (row,) = node.rows(instance)
    assert (row.spacing_kind, row.spacing_mm_row) == (kind, mm)


@pytest.mark.parametrize(
    ("patient_id", "issuer", "state"),
    [
        ("17", "", "matched"),
        ("00017", "", "matched"),
        ("17", "OURS", "matched"),
        ("17", "ELSEWHERE", "suggested"),  # another issuer's 17 is nobody of ours
        ("170", "", "suggested"),
    ],
)
def test_09_patient_numbers_with_zeros_and_other_issuers(
    start, practice, patient_id, issuer, state
):
    node = start(issuer_of_patient_id="OURS")
    practice.patient()
    send(node, make_film(PatientID=patient_id, IssuerOfPatientID=issuer))
    (row,) = node.rows(study)
    assert match(node, row.id).state.value == state


def test_10_names_are_matched_as_people_mean_them_and_stored_as_sent(node, practice):
    practice.patient()
    names = {"Doe, Jane", "DOE^JANE", "doe^jane^Maria", "Doe^Jane^^Dr.", "Döe^Jané"}
    send(node, *(make_film(PatientName=n, SpecificCharacterSet="ISO_IR 192") for n in names))
    assert {match(node, row.id).state.value for row in node.rows(study)} == {"matched"}
    assert {row.patient_name for row in node.rows(study_identity)} == names


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [
        (None, "latin-1", "Müller^Jörg"),
        (None, "utf-8", "Müller^Jörg"),
        ("ISO_IR 100", "utf-8", "Müller^Jörg"),
        ("GB18030", "gb18030", "王^小东"),
        ("\\ISO 2022 IR 87", "iso2022_jp", "山田^太郎"),
        ("NONSENSE", "utf-8", "Müller^Jörg"),
    ],
)
def test_11_wrong_and_missing_charsets(node, declared, codec, name):
    film = make_film(PatientName="")
    raw = "^".join(name.split("^")).encode(codec)
    data = encoded(film)
    head = b""
    if declared is not None:
        value = declared.encode() + b" " * (len(declared) % 2)
        head = b"\x08\0\x05\0CS" + struct.pack("<H", len(value)) + value
    raw += b" " * (len(raw) % 2)
    empty = b"\x10\0\x10\0PN\0\0"
    assert empty in data
    data = head + data.replace(empty, b"\x10\0\x10\0PN" + struct.pack("<H", len(raw)) + raw)
    assert send_bytes(node, data, film.SOPInstanceUID) == 0
    assert node.rows(study_identity)[0].patient_name == name


def test_12_accession_numbers_too_long_or_empty(node):
    film = make_film()
    long = b"1732200000000123456 "
    data = encoded(film)
    at = data.index(b"\x08\0\x60\0CS")  # before Modality
    data = data[:at] + b"\x08\0\x50\0SH" + struct.pack("<H", len(long)) + long + data[at:]
    assert send_bytes(node, data, film.SOPInstanceUID) == 0
    assert node.rows(study)[0].accession_number == "", "nothing is cut short and then believed"
    ours = schedule.accession_number("main", "4711")
    assert (len(ours) <= 16, ours == schedule.accession_number("main", "4711")) == (True, True)


def test_13_tooth_numbers_where_vendors_hide_them(node):
    said: list[tuple[dict[str, str], list[str]]] = [
        ({"ImageComments": "Tooth 36"}, ["36"]),
        ({"SeriesDescription": "Zahn: 46, PA"}, ["46"]),
        ({"ProtocolName": "FDI 85"}, ["85"]),
        ({"ImageComments": "Tooth 14"}, []),  # Universal 14 is another tooth than FDI 14
        ({"ImageComments": "36 kV"}, []),
        ({}, []),
    ]
    films = [make_film(**attributes) for attributes, _ in said]
    send(node, *films)
    rows = {row.sop_instance_uid: row for row in node.rows(instance)}
    for film, (_, teeth) in zip(films, said, strict=True):
        stored = dcmread(path_of(node, rows[film.SOPInstanceUID]))
        assert [tooth.code for tooth in written_teeth(stored)] == teeth


def test_13_a_tooth_in_a_private_element_tells_the_side(node):
    film = make_film()
    block = film.private_block(0x0099, "VENDOR", create=True)
    block.add_new(0x10, "LO", "tooth=47")
    send(node, film)
    (row,) = node.rows(instance)
    assert read_subject(path_of(node, row)).side == "R"


def test_14_a_missing_side_stays_missing_and_nothing_is_turned(node):
    film = make_film()
    send(node, film)
    (row,) = node.rows(instance)
    assert read_subject(path_of(node, row)).side == ""
    assert (decode(path_of(node, row)).stored == film.pixel_array).all()
    assert path_of(node, row).read_bytes().endswith(film.PixelData)


def test_15_no_missing_attribute_makes_us_refuse_an_image(node):
    for keyword in (
        *("PatientID", "PatientName", "Modality", "StudyInstanceUID", "SeriesInstanceUID"),
        *("StudyDate", "PhotometricInterpretation", "SamplesPerPixel", "BitsStored", "Rows"),
        "SOPInstanceUID",
    ):
        film = make_film()
        uid = film.SOPInstanceUID
        delattr(film, keyword)
        assert send_bytes(node, encoded_without_meta(film), uid) in (0x0000, 0xB007), keyword
        assert uid in {row.sop_instance_uid for row in node.rows(instance)}


def encoded_without_meta(ds: Dataset) -> bytes:
    del ds.file_meta
    out = io.BytesIO()
    ds.save_as(out, implicit_vr=False, little_endian=True)
    return out.getvalue()


# 16, files without preamble and DICOMDIR: tests/node/dicom/test_importing.py


def test_17_values_that_are_too_long_or_of_a_wrong_vr_are_kept(node):
    film = make_film(InstanceNumber=1)
    data = encoded(film)
    study_id = b"\x20\0\x10\0SH" + struct.pack("<H", 40) + b"X" * 40
    number = b"\x20\0\x13\0IS" + struct.pack("<H", 20) + b"1.0000000000000000  "
    at = data.index(b"\x20\0\x13\0IS")
    length = struct.unpack_from("<H", data, at + 6)[0]
    data = data[:at] + study_id + number + data[at + 8 + length :]
    assert send_bytes(node, data, film.SOPInstanceUID) == 0
    (row,) = node.rows(instance)
    assert path_of(node, row).read_bytes().endswith(data)
    assert (row.instance_number, row.rows) == (None, 200)


def test_18_a_multi_frame_ct_without_functional_groups_is_stored_whole(node):
    film = make_film(SOPClassUID=EnhancedCTImageStorage, Modality="CT", NumberOfFrames=8)
    film.PixelData = film.PixelData * 8
    film.SliceThickness = "0.2"
    film.SharedFunctionalGroupsSequence = Sequence([])
    assert send(node, film) == [0]
    (row,) = node.rows(instance)
    assert row.size_bytes > 8 * 200 * 100 * 2
    assert decode(path_of(node, row)).stored.shape == (200, 100)


def test_19_other_bytes_under_one_uid_are_kept_beside_with_a_warning_and_an_event(node):
    film = make_film()
    assert send(node, film, film) == [0, 0]
    film.ImageComments = "edited at night"
    assert send(node, film) == [0xB007]
    assert (len(node.rows(instance)), len(node.rows(instance_duplicate))) == (1, 1)
    kinds = [row.kind for row in node.rows(event)]
    assert kinds.count("image.duplicate_kept") == 1


def test_20_an_association_an_image_an_abort_after_success_small_pdus(node):
    film = make_film()
    entity = AE("  lower case")
    entity.maximum_pdu_size = 4096
    entity.add_requested_context(IO, ImplicitVRLittleEndian)
    entity.add_requested_context(IO, ExplicitVRLittleEndian)
    for _ in range(5):
        film.SOPInstanceUID = generate_uid()
        film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID
        assoc = entity.associate("127.0.0.1", node.port)
        assert assoc.send_c_store(film).Status == 0
        assoc.abort()
    assert {row.sender_ae_title for row in node.rows(instance)} == {"lower case"}
    assert len(node.rows(instance)) == 5


# 21, no DICOM at all: tests/node/dicom/test_importing.py


def test_22_the_priors_of_tomorrows_patients_are_planned_today(practice, start):
    archive = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "priors": True}
    node = start(peers=[archive])
    practice.appointment(practice.patient(), datetime.now(UTC) + timedelta(hours=20))
    fetcher = PriorFetcher(node.db, FolderStore(node.folder), node.engine, node.config)
    assert fetcher.plan(datetime.now(UTC)) == 1


def test_23_a_device_that_does_all_services_does_them_on_one_port(node, practice):
    patient_id = practice.patient()
    practice.item(patient_id, practice.appointment(patient_id))
    entity = AE("ROMEXIS")
    for uid in (
        "1.2.840.10008.1.1",
        "1.2.840.10008.3.1.2.3.3",
        "1.2.840.10008.1.20.1",
        ModalityWorklistInformationFind,
        IO,
    ):
        entity.add_requested_context(uid)
    assoc = entity.associate("127.0.0.1", node.port)
    assert len(assoc.accepted_contexts) == 5
    assert assoc.send_c_echo().Status == 0
    query = Dataset()
    query.PatientName, query.StudyInstanceUID = "", ""
    (found, _) = [ds for _, ds in assoc.send_c_find(query, ModalityWorklistInformationFind)]
    assert found.StudyInstanceUID, "never an item without a Study Instance UID"
    assoc.release()
