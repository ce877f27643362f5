"""Key Object Selections: the films worth a look, and the note that takes our results back.

The rejection note only ever lists objects that this node made and sent; whoever receives it hides
or removes them (IHE RAD TF-3 4.66, Imaging Object Change Management). *Of Interest* lists the films
on which a dentist signed findings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import KeyObjectSelectionDocumentStorage

from node.dicom.derived import (
    Composer,
    code_item,
    derived_uid,
    new_object,
    read_source,
    reference_item,
)
from node.domain.review import SignedReview
from node.errors import InvalidInput
from node.errors import Rejected as RejectedError

_SERIES_NUMBER = 909

OF_INTEREST = Code("113000", "DCM", "Of Interest")


class Title(Enum):
    """Why the objects are rejected (PS3.16 CID 7011)."""

    PATIENT_SAFETY = Code("113037", "DCM", "Rejected for Patient Safety Reasons")
    QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")


@dataclass(frozen=True, slots=True)
class Rejected:
    """One object that is listed, as it was sent."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def compose_rejection(
    source: Dataset,
    objects: Sequence[Rejected],
    *,
    title: Title,
    key: str,
    at: datetime,
    composer: Composer,
) -> Dataset:
    """Compose the note in the study of `source`, the header of one of its images.

    ``key`` names the retraction: the same key gives the same UIDs. ``at`` is aware.

    Raises
    ------
    InvalidInput
        There is nothing to reject, or the image's header has no valid identity.
    """
    if not objects:
        raise InvalidInput("a rejection note lists at least one object")
    uid = derived_uid("KO", composer.device_uid, key)
    return _compose(source, objects, title.value, uid, "Rejection note", at, composer)


def compose_of_interest(
    sources: Sequence[Dataset], review: SignedReview, *, composer: Composer
) -> Dataset:
    """List the films of a signed review that have findings; `sources` are their headers.

    Raises
    ------
    Rejected
        The review is not signed.
    InvalidInput
        No film has a finding.
    """
    if review.version < 1:
        raise RejectedError("only a signed review says what is of interest")
    marked = {finding.sop_instance_uid for finding in review.findings}
    films = [ds for ds in sources if str(ds.get("SOPInstanceUID", "")) in marked]
    if not films:
        raise InvalidInput("no film of this review has a finding")
    images = [read_source(ds, composer.fallback_charset) for ds in films]
    objects = [
        Rejected(image.series_instance_uid, image.sop_class_uid, image.sop_instance_uid)
        for image in images
    ]
    version = f"signed {review.version}"
    uid = derived_uid("KO", composer.device_uid, review.study_instance_uid, version)
    words = "AI-assisted findings, signed, films of interest"
    return _compose(films[0], objects, OF_INTEREST, uid, words, review.signed_at, composer)


def _compose(
    source: Dataset,
    objects: Sequence[Rejected],
    title: Code,
    uid: str,
    description: str,
    at: datetime,
    composer: Composer,
) -> Dataset:
    image = read_source(source, composer.fallback_charset)
    ds = new_object(
        image,
        composer,
        sop_class_uid=KeyObjectSelectionDocumentStorage,
        sop_instance_uid=uid,
        series_instance_uid=derived_uid("series", uid),
        series_number=_SERIES_NUMBER,
        instance_number=1,
        modality="KO",
        series_description=description,
        at=at,
    )
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.CurrentRequestedProcedureEvidenceSequence = [_evidence(image.study_instance_uid, objects)]
    # PS3.16 TID 2010: a container with the title, and a reference to each object.
    ds.ValueType = "CONTAINER"
    ds.ConceptNameCodeSequence = [code_item(title)]
    ds.ContinuityOfContent = "SEPARATE"
    template = Dataset()
    template.MappingResource = "DCMR"
    template.TemplateIdentifier = "2010"
    ds.ContentTemplateSequence = [template]
    ds.ContentSequence = [_reference(each) for each in objects]
    return ds


def _evidence(study_instance_uid: str, objects: Sequence[Rejected]) -> Dataset:
    by_series: dict[str, list[Dataset]] = defaultdict(list)
    for each in objects:
        by_series[each.series_instance_uid].append(
            reference_item(each.sop_class_uid, each.sop_instance_uid)
        )
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = []
    for uid, references in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = uid
        series.ReferencedSOPSequence = references
        study.ReferencedSeriesSequence.append(series)
    return study


def _reference(each: Rejected) -> Dataset:
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    # What has no picture is a composite reference (TID 2010).
    is_picture = not each.sop_class_uid.startswith(_PICTURELESS)
    item.ValueType = "IMAGE" if is_picture else "COMPOSITE"
    item.ReferencedSOPSequence = [reference_item(each.sop_class_uid, each.sop_instance_uid)]
    return item


#: Reports, key objects and presentation states (PS3.4 B.5).
_PICTURELESS = tuple(f"1.2.840.10008.5.1.4.1.1.{part}" for part in ("88.", "11."))
