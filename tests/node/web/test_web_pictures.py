"""Pixels as the page gets them: exact samples, previews by the same grey, the file."""

from __future__ import annotations

import io

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from node.db.session import begin, read
from node.db.tables import audit, instance, pixel_fetch, pixel_purge, study
from node.dicom.pixels import decode, render8


@pytest.fixture
def shown(practice, make_bitewing):
    """Store a data set as a study's only image; give the reader, the image and its shape."""

    def show(**attributes):
        study_id = practice.add_study(images=0)
        image_id = practice.add_image(study_id, ds=make_bitewing(**attributes))
        dentist = practice.sign_in("dentist")
        return dentist, image_id, dentist.study(study_id)["images"][0]

    return show


def samples_of(dentist, image_id, shape):
    answer = dentist.get(f"/api/images/{image_id}/pixels")
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "private, no-store"
    return np.frombuffer(answer.content, "<u2").reshape(shape["rows"], shape["columns"])


def test_twelve_bit_samples_arrive_exactly(shown):
    dentist, image_id, image = shown()
    expected = np.linspace(0, 4095, image["columns"]).astype("<u2")
    assert (samples_of(dentist, image_id, image) == expected).all()
    assert image["grey"]["bits_stored"] == 12


def test_signed_samples_are_lifted_by_the_offset_that_is_told(shown):
    stored = np.linspace(-1000, 1000, 160).astype("<i2")
    pixels = np.tile(stored, (120, 1)).tobytes()
    dentist, image_id, image = shown(PixelRepresentation=1, PixelData=pixels)
    offset = image["grey"]["sample_offset"]
    assert offset == 32768
    assert (samples_of(dentist, image_id, image).astype(int) - offset == stored).all()


def test_eight_bit_samples_are_widened_and_inverted_grey_is_told(shown):
    pixels = np.tile(np.arange(160, dtype=np.uint8), (120, 1)).tobytes()
    dentist, image_id, image = shown(
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=pixels,
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=128,
        WindowWidth=256,
    )
    assert (samples_of(dentist, image_id, image)[0] == np.arange(160)).all()
    assert image["grey"]["is_inverted"] is True


def test_a_voi_lut_reaches_the_page(shown):
    item = Dataset()
    item.LUTDescriptor = [4, 0, 8]
    item.add_new("LUTData", "US", [0, 10, 100, 255])
    _, _, image = shown(VOILUTSequence=Sequence([item]))
    assert image["grey"]["voi_lut"] == {"first": 0, "bits": 8, "values": [0, 10, 100, 255]}


def test_an_image_without_a_window_gets_one(shown):
    _, _, image = shown(WindowCenter=None, WindowWidth=None)
    (window,) = image["grey"]["windows"]
    assert window["width"] > 3000
    assert window["label"] == "auto"


def test_colour_photographs_come_as_they_are(shown):
    rgb = np.zeros((120, 160, 3), np.uint8)
    rgb[:, :80, 0] = 200
    dentist, image_id, image = shown(
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=rgb.tobytes(),
    )
    assert image["grey"]["is_color"] is True
    drawn = Image.open(io.BytesIO(dentist.get(f"/api/images/{image_id}/color").content))
    assert (np.asarray(drawn.convert("RGB")) == rgb).all()
    assert dentist.get(f"/api/images/{image_id}/pixels").status_code == 409


def test_previews_are_drawn_by_the_grey_of_the_reference(practice, shown):
    dentist, image_id, _ = shown()
    answer = dentist.get(f"/api/images/{image_id}/preview", params={"w": 900})
    assert answer.headers["content-type"] == "image/webp"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L")).astype(int)
    (key,) = practice.rows(sa.select(instance.c.storage_key), scalars=True)
    reference = render8(decode(practice.store.path(key)))
    assert drawn.shape == reference.shape
    assert np.abs(drawn - reference).mean() < 3  # WebP is not lossless
    small = dentist.get(f"/api/images/{image_id}/preview", params={"w": 160})
    assert Image.open(io.BytesIO(small.content)).width == 160
    assert dentist.get(f"/api/images/{image_id}/preview", params={"w": 5000}).status_code == 422


def test_the_file_comes_back_byte_for_byte_and_every_time_is_audited(practice, shown):
    dentist, image_id, _ = shown()
    (row,) = practice.rows(sa.select(instance))
    for _ in range(2):
        answer = dentist.get(f"/api/images/{image_id}/dicom")
        assert answer.content == practice.store.path(row.storage_key).read_bytes()
    assert image_id in answer.headers["content-disposition"]
    downloads = sa.select(audit).where(audit.c.action == "image.downloaded")
    assert len(practice.rows(downloads)) == 2


def test_every_look_at_an_image_is_audited(practice, shown):
    dentist, image_id, image = shown()
    for _ in range(3):
        dentist.get(f"/api/images/{image_id}/preview")
        samples_of(dentist, image_id, image)
    for action in ("image.opened", "image.previewed"):
        rows = practice.rows(sa.select(audit).where(audit.c.action == action))
        assert [(row.actor, row.subject) for row in rows] == [
            (dentist.me["user_id"], f"instance:{image_id}")
        ] * 3


def test_damaged_pixels_are_said_in_words_and_leave_the_rest_alone(practice, make_bitewing):
    study_id = practice.add_study(images=1)
    broken = practice.add_image(study_id, 2, ds=make_bitewing(PixelData=b"\0\0"))
    dentist = practice.sign_in("dentist")
    first, second = dentist.study(study_id)["images"]
    assert first["grey"] is not None
    assert second["grey"] is None
    assert "pixel data" in second["failure"]
    for path in ("pixels", "preview"):
        answer = dentist.get(f"/api/images/{broken}/{path}")
        assert (answer.status_code, answer.json()["type"]) == (422, "invalid")


def test_pixels_that_an_archive_holds_are_named_and_asked_for(practice):
    """The page, its pictures and DICOMweb all say who has them, and want them back."""
    study_id = practice.add_study(images=1)
    anna = practice.sign_in("dentist")
    (image,) = anna.study(study_id)["images"]
    with read(practice.db) as conn:
        row = conn.execute(sa.select(instance).where(instance.c.id == image["id"])).one()
        uid = conn.execute(
            sa.select(study.c.study_instance_uid).where(study.c.id == study_id)
        ).scalar_one()
    with begin(practice.db, practice.actor, "test.purged") as tx:
        tx.conn.execute(
            pixel_purge.insert().values(
                instance_id=row.id,
                location_id=tx.location_id,
                state="purged",
                holder="pacs",
                basis="committed",
                pixel_sha256="x",
                purged_at=tx.now,
            )
        )
        tx.record("test")
    practice.store.discard(row.storage_key)
    (shown,) = anna.study(study_id)["images"]
    assert "held by pacs" in shown["failure"]
    assert shown["grey"] is None
    for path in (f"/api/images/{row.id}/pixels", f"/dicomweb/studies/{uid}"):
        answer = anna.get(path)
        assert answer.status_code == 503, path
        assert "held by pacs" in answer.text
        assert int(answer.headers["retry-after"]) > 0
    with read(practice.db) as conn:
        wanted = conn.execute(sa.select(pixel_fetch.c.study_id, pixel_fetch.c.state)).all()
    assert [tuple(each) for each in wanted] == [(study_id, "queued")]
