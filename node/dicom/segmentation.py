"""Signed areas of one film as a Segmentation object: one binary mask for each finding.

For viewers and research that want pixels instead of outlines. A film has no frame of reference, so
each frame names the film it was drawn on (Derivation Image macro). Lines (bone levels) have no
area and are left out. Source: PS3.3 A.51.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from node.dicom.annotation import path_of
from node.dicom.capture import mark_lossy, orientation_of
from node.dicom.codes import finding_code, tooth_code
from node.dicom.derived import (
    Composer,
    SourceImage,
    code_item,
    derived_uid,
    new_object,
    person_name,
    read_source,
    reference_item,
)
from node.dicom.measurements import ABNORMAL, ReportedFinding, label
from node.domain.findings import Line
from node.domain.review import SignedReview
from node.errors import InvalidInput

SERIES_NUMBER = 904
_NORMAL = Code("123037004", "SCT", "Anatomical Structure")
_SEGMENTED = Code("113076", "DCM", "Segmentation")
_SOURCE = Code("121322", "DCM", "Source image for image processing operation")


def segmentation_uid(review: SignedReview, sop_instance_uid: str, composer: Composer) -> str:
    """Return the SOP Instance UID of the masks of one image in one signed version."""
    version = f"signed {review.version}"
    return derived_uid(
        "SEG", composer.device_uid, review.study_instance_uid, version, sop_instance_uid
    )


def areas_of(review: SignedReview, sop_instance_uid: str) -> list[ReportedFinding]:
    """List the signed findings of an image that cover an area."""
    return [
        reported
        for reported in map(ReportedFinding.from_signed, review.findings)
        if reported.sop_instance_uid == sop_instance_uid
        and not isinstance(reported.finding.geometry, Line)
    ]


def compose_segmentation(source: Dataset, review: SignedReview, *, composer: Composer) -> Dataset:
    """Compose the masks of one image, `source` being its header.

    Raises
    ------
    Rejected
        The image is not part of the signed review.
    InvalidInput
        No signed finding of it covers an area.
    """
    image = read_source(source, composer.fallback_charset)
    number = review.number_of(image.sop_instance_uid)
    areas = areas_of(review, image.sop_instance_uid)
    if not areas:
        raise InvalidInput("no finding of this image covers an area")
    uid = segmentation_uid(review, image.sop_instance_uid, composer)
    ds = new_object(
        image,
        composer,
        sop_class_uid=SegmentationStorage,
        sop_instance_uid=uid,
        series_instance_uid=derived_uid("series", uid),
        series_number=SERIES_NUMBER,
        instance_number=number,
        modality="SEG",
        series_description="AI-assisted findings, signed, areas",
        at=review.signed_at,
    )
    ds.BodyPartExamined = "JAW"  # unpaired: without it a side would be asked for (PS3.3 C.7.3.1)
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.PatientOrientation = orientation_of(source)
    ds.ContentLabel = "AI_FINDINGS"
    ds.ContentDescription = f"Areas signed, version {review.version}"
    ds.ContentCreatorName = person_name(review.signer_name)
    mark_lossy(ds, source)
    _set_frames(ds, image, len(areas), uid)
    _set_segments(ds, areas)
    _set_pixels(ds, [_mask(each, image) for each in areas])
    return ds


def _set_frames(ds: Dataset, image: SourceImage, count: int, uid: str) -> None:
    """Describe the frames: each one segment, of the one film (PS3.3 C.7.6.16 and C.7.6.17)."""
    organization = Dataset()
    organization.DimensionOrganizationUID = derived_uid("dimensions", uid)
    ds.DimensionOrganizationSequence = [organization]
    index = Dataset()
    index.DimensionOrganizationUID = organization.DimensionOrganizationUID
    index.DimensionIndexPointer = 0x0062000B  # Referenced Segment Number
    index.FunctionalGroupPointer = 0x0062000A  # Segment Identification Sequence
    index.DimensionDescriptionLabel = "Segment"
    ds.DimensionIndexSequence = [index]
    shared = Dataset()
    shared.DerivationImageSequence = [_derivation(image)]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [_frame(number) for number in range(1, count + 1)]
    series = Dataset()
    series.SeriesInstanceUID = image.series_instance_uid
    series.ReferencedInstanceSequence = [
        reference_item(image.sop_class_uid, image.sop_instance_uid)
    ]
    ds.ReferencedSeriesSequence = [series]


def _derivation(image: SourceImage) -> Dataset:
    item = reference_item(image.sop_class_uid, image.sop_instance_uid)
    item.PurposeOfReferenceCodeSequence = [code_item(_SOURCE)]
    item.SpatialLocationsPreserved = "YES"
    derivation = Dataset()
    derivation.SourceImageSequence = [item]
    derivation.DerivationCodeSequence = [code_item(_SEGMENTED)]
    return derivation


def _frame(number: int) -> Dataset:
    content = Dataset()
    content.DimensionIndexValues = [number]
    segment = Dataset()
    segment.ReferencedSegmentNumber = number
    frame = Dataset()
    frame.FrameContentSequence = [content]
    frame.SegmentIdentificationSequence = [segment]
    return frame


def _set_segments(ds: Dataset, areas: Sequence[ReportedFinding]) -> None:
    ds.SegmentationType = "BINARY"
    ds.SegmentsOverlap = "UNDEFINED"
    ds.SegmentSequence = [_segment(number, each) for number, each in enumerate(areas, 1)]


def _segment(number: int, reported: ReportedFinding) -> Dataset:
    finding = reported.finding
    kind = finding_code(finding.kind)
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = f"{kind.meaning} {label(finding)}".strip()[:64]
    category = ABNORMAL if finding.kind.is_disease else _NORMAL
    item.SegmentedPropertyCategoryCodeSequence = [code_item(category)]
    item.SegmentedPropertyTypeCodeSequence = [code_item(kind)]
    item.SegmentAlgorithmType = "MANUAL" if reported.decision == "added" else "SEMIAUTOMATIC"
    if finding.model is not None and reported.decision != "added":
        item.SegmentAlgorithmName = str(finding.model)[:64]
    elif reported.decision != "added":
        item.SegmentAlgorithmName = "not stated"
    item.TrackingID = item.SegmentLabel
    item.TrackingUID = derived_uid("finding", reported.id)  # the report's, so that they are one
    if finding.tooth is not None:
        item.AnatomicRegionSequence = [code_item(tooth_code(finding.tooth))]
    return item


def _mask(reported: ReportedFinding, image: SourceImage) -> npt.NDArray[np.bool_]:
    drawn = Image.new("1", (image.columns, image.rows))
    ImageDraw.Draw(drawn).polygon(path_of(reported.finding.geometry), fill=1, outline=1)
    return np.asarray(drawn, dtype=bool)


def _set_pixels(ds: Dataset, masks: Sequence[npt.NDArray[np.bool_]]) -> None:
    """Pack one bit a pixel, the first in the lowest bit, frames end to end (PS3.5 8.1.1)."""
    ds.Rows, ds.Columns = masks[0].shape
    ds.NumberOfFrames = len(masks)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    ds.PixelRepresentation = 0
    bits = np.concatenate([mask.ravel() for mask in masks])
    data = np.packbits(bits, bitorder="little").tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
