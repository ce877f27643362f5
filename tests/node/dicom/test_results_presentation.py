"""Presentation states: valid for two checkers, drawing only what was signed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from node.dicom.derived import encode
from node.dicom.presentation import compose_presentation, presentation_uid
from node.domain.findings import Box, Finding, FindingKind, Line, Polygon
from node.domain.teeth import Tooth
from node.errors import InvalidInput, Rejected
from tests.node.dicom.test_results import (
    COMPOSER,
    assert_valid,
    reread,
    review,
    signed,
    source,
)

__all__ = ["assert_valid"]

SHAPES = [
    Box(10.0, 20.0, 60.0, 70.0),
    Polygon(((30.0, 30.0), (50.0, 32.0), (40.0, 45.0))),
    Line(((70.0, 50.0), (71.0, 60.0))),
]


def signed_review(**changes):
    findings = [
        signed(1, Finding(FindingKind.CARIES, shape, Tooth("16"), probability=0.8))
        for shape in SHAPES[:2]
    ]
    return review(*findings, **changes)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_presentation_is_valid_and_keeps_the_grey(assert_valid, photometric, tmp_path):
    ds = compose_presentation(
        source(PhotometricInterpretation=photometric), signed_review(), composer=COMPOSER
    )
    assert_valid(ds)
    checker = shutil.which("dcmpschk", path="/usr/bin")
    if checker is not None:
        path = tmp_path / "state.dcm"
        path.write_bytes(encode(ds))
        done = subprocess.run([checker, str(path)], capture_output=True, text=True, check=False)
        assert "Test passed" in done.stdout + done.stderr
    expected = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    assert ds.PresentationLUTShape == expected


def test_a_presentation_draws_every_finding_of_its_image_and_no_other():
    image, signed_one = source(), signed_review()
    ds = reread(compose_presentation(image, signed_one, composer=COMPOSER))
    (layer,) = ds.GraphicAnnotationSequence
    (reference,) = layer.ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert len(layer.GraphicObjectSequence) == len(layer.TextObjectSequence) == 2
    for item in layer.GraphicObjectSequence:
        points = item.GraphicData
        assert list(points[:2]) == list(points[-2:]), "an area is closed"
        assert 2 * item.NumberOfGraphicPoints == len(points)
    assert layer.TextObjectSequence[0].UnformattedTextValue.startswith("#3"), "Universal for 16"
    assert ds.SOPInstanceUID == presentation_uid(signed_one, image.SOPInstanceUID, COMPOSER)
    assert encode(ds) == encode(reread(ds))


def test_nothing_unsigned_or_coloured_is_drawn():
    with pytest.raises(Rejected):
        compose_presentation(source(), signed_review(version=0), composer=COMPOSER)
    with pytest.raises(Rejected):
        compose_presentation(source(9), signed_review(), composer=COMPOSER)
    with pytest.raises(Rejected):
        compose_presentation(source(SamplesPerPixel=3), signed_review(), composer=COMPOSER)
    with pytest.raises(InvalidInput):
        compose_presentation(source(), review(), composer=COMPOSER)
