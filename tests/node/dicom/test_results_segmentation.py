"""Areas as masks and the films of interest: valid, readable by others, only what was signed."""

from __future__ import annotations

import subprocess

import highdicom
import numpy as np
import pytest
from pydicom.sr.coding import Code

from node.dicom.derived import derived_uid, encode
from node.dicom.rejection import compose_of_interest
from node.dicom.segmentation import compose_segmentation, segmentation_uid
from node.domain.findings import Box, Finding, FindingKind, Line, Polygon
from node.domain.teeth import Tooth
from node.errors import InvalidInput, Rejected
from tests.node.dicom.test_results import (
    COLUMNS,
    COMPOSER,
    MODEL,
    ROWS,
    STUDY,
    assert_valid,
    review,
    signed,
    source,
)
from tests.protocol.conftest import tool

__all__ = ["assert_valid"]

SQUARE = Finding(
    FindingKind.CARIES, Box(10.0, 20.0, 60.0, 70.0), Tooth("16"), probability=0.8, model=MODEL
)
ADDED = Finding(FindingKind.RESTORATION, Polygon(((90.0, 90.0), (120.0, 92.0), (100.0, 130.0))))
BONE = Finding(FindingKind.BONE_LEVEL, Line(((70.0, 50.0), (71.0, 60.0))), Tooth("46"))


def three():
    return review(signed(1, SQUARE), signed(2, ADDED, origin="human"), signed(3, BONE))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"LossyImageCompression": "01", "LossyImageCompressionRatio": 12.5},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": None},
        {"PatientID": None, "StudyDate": None, "Manufacturer": None},
    ],
    ids=["complete", "inverted", "lossy", "capture", "bare"],
)
def test_masks_are_valid_and_read_by_highdicom(assert_valid, tmp_path, changes):
    ds = compose_segmentation(source(**changes), three(), composer=COMPOSER)
    assert_valid(ds)
    path = tmp_path / "masks.dcm"
    path.write_bytes(encode(ds))
    read = highdicom.seg.segread(path)
    assert read.number_of_segments == 2, "a line has no area"
    square, added = read.pixel_array
    inside = np.zeros((ROWS, COLUMNS), bool)
    inside[20:71, 10:61] = True
    assert np.array_equal(square.astype(bool), inside)
    assert 400 < added.sum() < 900
    described = read.get_segment_description(1)
    assert described.segmented_property_type == Code("80967001", "SCT", "Dental caries")
    assert described.algorithm_type.value == "SEMIAUTOMATIC"
    assert described.tracking_uid == derived_uid("finding", "finding-1"), "as in the report"
    assert read.get_segment_description(2).algorithm_type.value == "MANUAL"


def test_dcmtk_opens_masks_and_key_objects(tmp_path):
    for number, ds in enumerate(
        (
            compose_segmentation(source(), three(), composer=COMPOSER),
            compose_of_interest([source()], three(), composer=COMPOSER),
        )
    ):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(encode(ds))
        subprocess.run([tool("dcmftest"), str(path)], check=True, capture_output=True)
        assert encode(ds) == path.read_bytes()
    shown = subprocess.run(
        [tool("dsrdump"), str(tmp_path / "1.dcm")], capture_output=True, text=True, check=True
    )
    assert "Of Interest" in shown.stdout


def test_only_films_with_findings_are_of_interest(assert_valid):
    ds = compose_of_interest([source(1), source(2)], three(), composer=COMPOSER)
    assert_valid(ds)
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (film,) = series.ReferencedSOPSequence
    assert (study.StudyInstanceUID, film.ReferencedSOPInstanceUID) == (STUDY, f"{STUDY}.1.1")
    assert ds.ContentSequence[0].ValueType == "IMAGE"


def test_nothing_unsigned_becomes_an_object():
    unsigned = review(signed(1, SQUARE), version=0)
    with pytest.raises(Rejected):
        compose_segmentation(source(), unsigned, composer=COMPOSER)
    with pytest.raises(Rejected):
        compose_of_interest([source()], unsigned, composer=COMPOSER)
    with pytest.raises(Rejected):
        compose_segmentation(source(9), three(), composer=COMPOSER)
    with pytest.raises(InvalidInput):
        compose_segmentation(source(), review(signed(1, BONE)), composer=COMPOSER)
    with pytest.raises(InvalidInput):
        compose_of_interest([source()], review(), composer=COMPOSER)


def test_composing_again_gives_the_same_object():
    once = compose_segmentation(source(), three(), composer=COMPOSER)
    assert encode(once) == encode(compose_segmentation(source(), three(), composer=COMPOSER))
    assert once.SOPInstanceUID == segmentation_uid(three(), f"{STUDY}.1.1", COMPOSER)
