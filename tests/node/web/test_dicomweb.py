"""DICOMweb over loopback: plain requests, and dicomweb-client's way of reading multipart."""

from __future__ import annotations

import email
import email.policy
import io
import uuid

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image as Raster
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

from node.db.session import read
from node.db.tables import audit, instance, study
from tests.node.web.conftest import PASSWORD, Practice

ROWS, COLUMNS = 60, 40
DICOM = 'multipart/related; type="application/dicom"'


def film(**attributes: object) -> Dataset:
    pixels = np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(ROWS, COLUMNS) % 4096
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.3", generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.StudyDate, ds.Modality, ds.InstanceNumber = "20261122", "IO", 1
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Müller^Jane", "17", "19800102"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def encoded(ds: Dataset) -> bytes:
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def body_of(*objects: bytes, boundary: str = "edge") -> bytes:
    parts = b"".join(
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + each + b"\r\n"
        for each in objects
    )
    return parts + f"--{boundary}--\r\n".encode()


def parts_of(answer) -> list[tuple[str, bytes]]:
    """Read a multipart answer with the standard library's own parser."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    assert message.is_multipart()
    boundary = message.get_boundary().encode()
    found = []
    for raw in answer.content.split(b"--" + boundary)[1:-1]:
        header, _, content = raw.partition(b"\r\n\r\n")
        found.append((header.decode().partition(": ")[2].strip(), content[:-2]))
    return found


class Viewer:
    """A program that gives a person's name and password with each request."""

    def __init__(self, practice: Practice, role: str) -> None:
        if role not in practice.people:
            practice.add_user(role, role)
        self.http = practice.client()
        self.http.auth = (role, PASSWORD)

    def get(self, path: str, accept: str = "*/*", **params: str):
        return self.http.get(f"/dicomweb{path}", headers={"Accept": accept}, params=params)

    def store(self, *objects: bytes, path: str = "/studies", content_type: str = ""):
        kind = content_type or f"{DICOM}; boundary=edge"
        return self.http.post(
            f"/dicomweb{path}", content=body_of(*objects), headers={"Content-Type": kind}
        )


@pytest.fixture
def viewer(practice: Practice) -> Viewer:
    return Viewer(practice, "dentist")


@pytest.fixture
def held(viewer: Viewer) -> list[Dataset]:
    """Two films of one series and one of another study."""
    study_uid, series_uid = generate_uid(), generate_uid()
    films = [
        film(StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, InstanceNumber=1),
        film(StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, InstanceNumber=2),
        film(PatientName="Roe^Richard", PatientID="18", StudyDate="20250101"),
    ]
    assert viewer.store(*map(encoded, films)).status_code == 200
    return films


def path_of(ds: Dataset, rest: str = "") -> str:
    return (
        f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
        f"/instances/{ds.SOPInstanceUID}{rest}"
    )


def value(found: dict, tag: str) -> object:
    values = found[tag].get("Value", [None])
    return values[0] if len(values) == 1 else values


def test_what_is_stored_by_http_is_kept_like_a_c_store(practice, viewer):
    ds = film()
    answer = viewer.store(encoded(ds))
    assert answer.status_code == 200
    (kept,) = answer.json()["00081199"]["Value"]
    assert value(kept, "00081155") == ds.SOPInstanceUID
    with read(practice.db) as conn:
        row = conn.execute(sa.select(instance)).one()
    assert (row.sop_instance_uid, row.sender_ae_title) == (ds.SOPInstanceUID, "dentist")
    assert dcmread(practice.store.path(row.storage_key)).PixelData == ds.PixelData
    assert viewer.store(encoded(ds)).status_code == 200, "the same again is success"


def test_a_part_without_its_preamble_is_kept(viewer):
    assert viewer.store(encoded(film())[128 + 4 :]).status_code == 200


def test_one_bad_part_does_not_cost_the_others(viewer):
    ds = film()
    answer = viewer.store(encoded(ds), b"no dicom at all")
    assert answer.status_code == 202
    (failed,) = answer.json()["00081198"]["Value"]
    assert value(failed, "00081197") == 0xC000
    assert viewer.store(b"nothing").status_code == 409


def test_other_bytes_under_a_known_uid_are_kept_with_a_warning(viewer):
    ds = film()
    viewer.store(encoded(ds))
    ds.PatientComments = "another"
    (kept,) = viewer.store(encoded(ds)).json()["00081199"]["Value"]
    assert value(kept, "00081196") == 0xB007


def test_an_object_of_another_study_than_the_address_is_refused(viewer):
    ds = film()
    answer = viewer.store(encoded(ds), path=f"/studies/{generate_uid()}")
    assert answer.status_code == 409
    assert viewer.store(encoded(ds), path=f"/studies/{ds.StudyInstanceUID}").status_code == 200


@pytest.mark.parametrize(
    "content_type",
    ["application/dicom", 'multipart/related; type="image/jpeg"; boundary=edge', DICOM],
)
def test_other_kinds_of_body_are_refused(viewer, content_type):
    assert viewer.store(encoded(film()), content_type=content_type).status_code == 415


def test_studies_are_searched(viewer, held):
    answer = viewer.get("/studies", PatientName="müller*")
    assert answer.headers["content-type"] == "application/dicom+json"
    (found,) = answer.json()
    assert value(found, "0020000D") == held[0].StudyInstanceUID
    assert value(found, "00100010")["Alphabetic"] == "Müller^Jane"
    assert (value(found, "00201208"), value(found, "00080061")) == (2, "IO")
    url = value(found, "00081190")
    assert url.endswith(f"/dicomweb/studies/{held[0].StudyInstanceUID}")
    assert viewer.http.get(url, headers={"Accept": DICOM}).status_code == 200


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({}, 2),
        ({"PatientID": "18"}, 1),
        ({"00100020": "18"}, 1),
        ({"StudyDate": "20260101-"}, 1),
        ({"limit": "1"}, 1),
        ({"limit": "1", "offset": "2"}, 0),
        ({"PatientID": "nobody"}, 0),
    ],
)
def test_search_parameters(viewer, held, params, count):
    answer = viewer.get("/studies", **params)
    assert answer.status_code == (200 if count else 204)
    assert len(answer.json() if count else []) == count


def test_several_uids_and_more_fields(viewer, held):
    uids = f"{held[0].StudyInstanceUID},{held[2].StudyInstanceUID}"
    found = viewer.get("/studies", StudyInstanceUID=uids, includefield="StudyDescription").json()
    assert len(found) == 2
    assert all("00081030" in each for each in found)


def test_series_and_instances_are_searched(viewer, held):
    study_uid, series_uid = held[0].StudyInstanceUID, held[0].SeriesInstanceUID
    (series,) = viewer.get(f"/studies/{study_uid}/series").json()
    assert (value(series, "0020000E"), value(series, "00201209")) == (series_uid, 2)
    for path in (
        f"/studies/{study_uid}/instances",
        f"/studies/{study_uid}/series/{series_uid}/instances",
    ):
        found = viewer.get(path).json()
        assert [value(each, "00200013") for each in found] == [1, 2]
        assert value(found[0], "00280010") == ROWS
    assert len(viewer.get("/instances").json()) == 3
    assert len(viewer.get("/series", Modality="IO").json()) == 2


def test_nonsense_parameters_are_refused(viewer):
    assert viewer.get("/studies", Nonsense="1").status_code == 422
    assert viewer.get("/studies", limit="x").status_code == 422


def test_a_study_is_retrieved_byte_for_byte(practice, viewer, held):
    answer = viewer.get(f"/studies/{held[0].StudyInstanceUID}", accept=DICOM)
    parts = parts_of(answer)
    assert [kind.partition(";")[0] for kind, _ in parts] == ["application/dicom"] * 2
    with read(practice.db) as conn:
        keys = conn.execute(sa.select(instance.c.storage_key)).scalars().all()
    stored = {practice.store.path(key).read_bytes() for key in keys}
    assert {content for _, content in parts} < stored
    single = viewer.get(path_of(held[0]), accept="application/dicom")
    assert dcmread(io.BytesIO(single.content)).SOPInstanceUID == held[0].SOPInstanceUID


def test_metadata_refer_to_their_pixels(viewer, held):
    (found,) = viewer.get(path_of(held[0], "/metadata"), accept="application/dicom+json").json()
    assert value(found, "00100010")["Alphabetic"] == "Müller^Jane"
    assert value(found, "00080005") == "ISO_IR 192"
    answer = viewer.http.get(found["7FE00010"]["BulkDataURI"])
    ((_, content),) = parts_of(answer)
    assert content == held[0].PixelData
    assert len(viewer.get(f"/studies/{held[0].StudyInstanceUID}/metadata").json()) == 2


def test_frames_come_as_samples(viewer, held):
    answer = viewer.get(path_of(held[0], "/frames/1"), accept="application/octet-stream")
    ((kind, content),) = parts_of(answer)
    assert kind == "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    assert content == held[0].PixelData
    assert viewer.get(path_of(held[0], "/frames/2")).status_code == 404
    assert viewer.get(path_of(held[0], "/frames/x")).status_code == 422


def test_a_compressed_frame_comes_as_it_is_or_decoded(viewer):
    ds = film()
    plain = ds.PixelData
    ds.compress(JPEGLSLossless)
    viewer.store(encoded(ds))
    stored = 'multipart/related; type="image/jls"; transfer-syntax=*'
    ((kind, content),) = parts_of(viewer.get(path_of(ds, "/frames/1"), accept=stored))
    assert kind == f"image/jls; transfer-syntax={JPEGLSLossless}"
    assert content.rstrip(b"\0")[:2] == b"\xff\xd8"
    decoded = 'multipart/related; type="application/octet-stream"'
    ((_, content),) = parts_of(viewer.get(path_of(ds, "/frames/1"), accept=decoded))
    assert content == plain


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("image/png", "PNG"), ("image/jpeg", "JPEG"), ("*/*", "JPEG"), ("image/webp", "WEBP")],
)
def test_an_image_is_rendered(viewer, held, accept, kind):
    answer = viewer.get(path_of(held[0], "/rendered"), accept=accept)
    drawn = Raster.open(io.BytesIO(answer.content))
    assert (drawn.format, drawn.size) == (kind, (COLUMNS, ROWS))
    small = viewer.get(path_of(held[0], "/rendered"), accept=accept, viewport="20,20")
    assert max(Raster.open(io.BytesIO(small.content)).size) == 20


@pytest.mark.parametrize(
    ("rest", "accept"),
    [("", "image/png"), ("/metadata", "application/dicom+xml"), ("/rendered", "video/mp4"),
     ("/frames/1", "image/gif")],
)  # fmt: skip
def test_what_cannot_be_given_is_not_acceptable(viewer, held, rest, accept):
    assert viewer.get(path_of(held[0], rest), accept=accept).status_code == 406


def test_what_is_not_here_is_not_found(viewer, held):
    nothing = f"/studies/{generate_uid()}"
    assert viewer.get(nothing, accept=DICOM).status_code == 404
    assert viewer.get(f"{nothing}/metadata").status_code == 404
    assert viewer.get(path_of(held[0], "/bulkdata/00091001")).status_code == 404


def test_nobody_is_let_in_without_a_password(practice, held):
    stranger = practice.client()
    assert stranger.get("/dicomweb/studies").status_code == 401
    stranger.auth = ("dentist", "wrong")
    assert stranger.get("/dicomweb/studies").status_code == 401
    headers = {"Authorization": "Basic !!!"}
    stranger.auth = None
    assert stranger.get("/dicomweb/studies", headers=headers).status_code == 401
    answer = stranger.post("/dicomweb/studies", content=body_of(b"x"), headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("role", "may_search", "may_take", "may_store"),
    [
        ("dentist", True, True, True),
        ("hygienist", True, True, True),
        ("assistant", True, False, True),
        ("auditor", True, True, False),
        ("front_desk", False, False, False),
        ("admin", False, False, False),
    ],
)
def test_each_role_has_its_rights(practice, held, role, may_search, may_take, may_store):
    viewer = Viewer(practice, role)
    answers = (
        viewer.get("/studies"),
        viewer.get(f"/studies/{held[0].StudyInstanceUID}", accept=DICOM),
        viewer.store(encoded(film())),
    )
    assert [answer.status_code != 403 for answer in answers] == [may_search, may_take, may_store]


def test_the_page_itself_may_search_and_a_forged_store_is_refused(practice, held):
    browser = practice.sign_in("dentist")
    assert browser.get("/dicomweb/studies").status_code == 200
    del browser.http.headers["X-CSRF-Token"]
    headers = {"Content-Type": f"{DICOM}; boundary=edge"}
    forged = browser.http.post(
        "/dicomweb/studies", content=body_of(encoded(film())), headers=headers
    )
    assert forged.status_code == 403


def test_every_opening_is_audited_with_its_objects(practice, viewer, held):
    for _ in range(2):
        viewer.get(path_of(held[0], "/metadata"))
    with read(practice.db) as conn:
        rows = conn.execute(sa.select(audit).where(audit.c.action == "archive.opened")).all()
        study_id = conn.execute(
            sa.select(study.c.id).where(study.c.study_instance_uid == held[0].StudyInstanceUID)
        ).scalar_one()
    assert [row.subject for row in rows] == [f"study:{study_id}"] * 2
    assert held[0].SOPInstanceUID in rows[0].detail["instances"]


def test_two_practices_never_see_each_other(practice, viewer, held):
    with practice.db.begin() as conn:
        conn.execute(study.update().values(location_id="elsewhere"))
        conn.execute(instance.update().values(location_id="elsewhere"))
    assert viewer.get("/studies").status_code == 204
    assert viewer.get(path_of(held[0], "/metadata")).status_code == 404


def test_a_thousand_requests_open_one_session(practice, viewer, held):
    marks = {uuid.uuid4().hex for _ in range(3)}
    for mark in marks:
        viewer.get("/studies", PatientID=mark)
    with read(practice.db) as conn:
        count = conn.execute(sa.text("SELECT count(*) FROM web_session")).scalar_one()
    assert count == 1


def test_a_request_of_countless_objects_is_refused_before_any_is_kept(practice, held):
    viewer = Viewer(practice, "dentist")
    before = practice.rows(sa.select(sa.func.count()).select_from(instance))
    content = b"--edge\r\n\r\n\r\n" * 10_001 + b"--edge--"
    headers = {"Content-Type": f"{DICOM}; boundary=edge"}
    answer = viewer.http.post("/dicomweb/studies", content=content, headers=headers)
    assert (answer.status_code, "more than 10000" in answer.text) == (422, True), answer.text
    assert practice.rows(sa.select(sa.func.count()).select_from(instance)) == before
