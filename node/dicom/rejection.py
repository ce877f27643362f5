"""The rejection note: a Key Object Selection that takes our own results back at the archive.

IHE RAD TF-3 4.66 (Imaging Object Change Management) names the titles: whoever receives it hides or
removes the objects it lists. It only ever lists objects that this node made and sent.
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
from node.errors import InvalidInput

_SERIES_NUMBER = 909


class Title(Enum):
    """Why the objects are rejected (PS3.16 CID 7011)."""

    PATIENT_SAFETY = Code("113037", "DCM", "Rejected for Patient Safety Reasons")
    QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")


@dataclass(frozen=True, slots=True)
class Rejected:
    """One object to be taken back, as it was sent."""

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
    image = read_source(source, composer.fallback_charset)
    uid = derived_uid("KO", composer.device_uid, key)
    ds = new_object(
        image,
        composer,
        sop_class_uid=KeyObjectSelectionDocumentStorage,
        sop_instance_uid=uid,
        series_instance_uid=derived_uid("series", uid),
        series_number=_SERIES_NUMBER,
        instance_number=1,
        modality="KO",
        series_description="Rejection note",
        at=at,
    )
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.CurrentRequestedProcedureEvidenceSequence = [_evidence(image.study_instance_uid, objects)]
    # PS3.16 TID 2010: a container with the title, and a reference to each object.
    ds.ValueType = "CONTAINER"
    ds.ConceptNameCodeSequence = [code_item(title.value)]
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
    # A report has no picture: CID 7011's template takes a composite reference for it.
    item.ValueType = "IMAGE" if each.sop_class_uid.startswith(_CAPTURE) else "COMPOSITE"
    item.ReferencedSOPSequence = [reference_item(each.sop_class_uid, each.sop_instance_uid)]
    return item


_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
