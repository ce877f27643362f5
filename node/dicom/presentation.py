"""Signed findings drawn by a Grayscale Softcopy Presentation State (PS3.3 A.33.1).

A viewer lays it over the film and can take it off again; the film itself stays untouched. Only what
was signed can be drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from node.dicom.annotation import path_of
from node.dicom.derived import (
    Composer,
    SourceImage,
    derived_uid,
    new_object,
    person_name,
    read_source,
    reference_item,
)
from node.dicom.measurements import ReportedFinding, label
from node.domain.review import SignedReview
from node.errors import InvalidInput, Rejected

SERIES_NUMBER = 902
_LAYER = "AI_FINDINGS"


def presentation_uid(review: SignedReview, sop_instance_uid: str, composer: Composer) -> str:
    """Return the SOP Instance UID of the presentation of one image in one signed version."""
    version = f"signed {review.version}"
    return derived_uid(
        "PR", composer.device_uid, review.study_instance_uid, version, sop_instance_uid
    )


def compose_presentation(source: Dataset, review: SignedReview, *, composer: Composer) -> Dataset:
    """Draw the signed findings of one grey image.

    Raises
    ------
    Rejected
        The image is not part of the signed review, or is a colour image.
    InvalidInput
        It has no signed finding.
    """
    image = read_source(source, composer.fallback_charset)
    number = review.number_of(image.sop_instance_uid)
    if source.get("SamplesPerPixel", 1) != 1:
        raise Rejected("a grayscale presentation cannot be laid over a colour image")
    findings = [
        reported
        for reported in map(ReportedFinding.from_signed, review.findings)
        if reported.sop_instance_uid == image.sop_instance_uid
    ]
    if not findings:
        raise InvalidInput("there is nothing to draw on this image")
    uid = presentation_uid(review, image.sop_instance_uid, composer)
    ds = new_object(
        image,
        composer,
        sop_class_uid=GrayscaleSoftcopyPresentationStateStorage,
        sop_instance_uid=uid,
        series_instance_uid=derived_uid("series", uid),
        series_number=SERIES_NUMBER,
        instance_number=number,
        modality="PR",
        series_description="AI-assisted findings, signed",
        at=review.signed_at,
    )
    ds.BodyPartExamined = "JAW"  # unpaired: without it a side would be asked for (PS3.3 C.7.3.1)
    ds.PresentationCreationDate, ds.PresentationCreationTime = ds.ContentDate, ds.ContentTime
    ds.ContentLabel = _LAYER
    ds.ContentDescription = f"Findings signed, version {review.version}"
    ds.ContentCreatorName = person_name(review.signer_name)
    ds.ReferencedSeriesSequence = [_series(image)]
    ds.DisplayedAreaSelectionSequence = [_area(image)]
    ds.GraphicLayerSequence = [_layer()]
    ds.GraphicAnnotationSequence = [_annotation(image, findings)]
    # PS3.3 C.11.6: INVERSE where the lowest sample is white
    is_inverted = str(source.get("PhotometricInterpretation", "")) == "MONOCHROME1"
    ds.PresentationLUTShape = "INVERSE" if is_inverted else "IDENTITY"
    return ds


def _series(image: SourceImage) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = image.series_instance_uid
    item.ReferencedImageSequence = [reference_item(image.sop_class_uid, image.sop_instance_uid)]
    return item


def _area(image: SourceImage) -> Dataset:
    item = Dataset()
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [image.columns, image.rows]
    item.PresentationSizeMode = "SCALE TO FIT"
    item.PresentationPixelAspectRatio = [1, 1]
    return item


def _layer() -> Dataset:
    item = Dataset()
    item.GraphicLayer, item.GraphicLayerOrder = _LAYER, 1
    item.GraphicLayerDescription = "AI-assisted findings, signed by a clinician"
    return item


def _annotation(image: SourceImage, findings: Sequence[ReportedFinding]) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = [reference_item(image.sop_class_uid, image.sop_instance_uid)]
    item.GraphicLayer = _LAYER
    paths = [(label(each.finding), path_of(each.finding.geometry)) for each in findings]
    item.TextObjectSequence = [_text(image, words, path[0]) for words, path in paths]
    item.GraphicObjectSequence = [_line(image, path) for _, path in paths]
    return item


def _text(image: SourceImage, words: str, at: tuple[float, float]) -> Dataset:
    item = Dataset()
    item.AnchorPointAnnotationUnits = "PIXEL"
    item.UnformattedTextValue = words
    item.AnchorPoint = _inside(image, at)
    item.AnchorPointVisibility = "Y"
    return item


def _line(image: SourceImage, path: Sequence[tuple[float, float]]) -> Dataset:
    item = Dataset()
    item.GraphicAnnotationUnits, item.GraphicDimensions = "PIXEL", 2
    item.NumberOfGraphicPoints = len(path)
    item.GraphicData = [value for point in path for value in _inside(image, point)]
    item.GraphicType, item.GraphicFilled = "POLYLINE", "N"
    return item


def _inside(image: SourceImage, point: tuple[float, float]) -> list[float]:
    x, y = point
    return [min(max(float(x), 0.0), image.columns), min(max(float(y), 0.0), image.rows)]
