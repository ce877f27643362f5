"""The SR document around its measurement groups (PS3.3 A.35.3, PS3.16 TID 1500)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import ComprehensiveSRStorage

from node.dicom import codes
from node.dicom.derived import (
    MANUFACTURER,
    MODEL_NAME,
    Composer,
    SourceImage,
    code_item,
    derived_uid,
    local_time,
    new_object,
    person_name,
    reference_item,
)
from node.dicom.measurements import Group
from node.domain.review import SignedReview
from node.errors import InvalidInput

SERIES_NUMBER = 901

_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
_PERFORMED = Code("1290849002", "SCT", "Dental radiography")
_RECORDING = Code("121097", "DCM", "Recording")
_DEVICE = Code("121007", "DCM", "Device")
_PERSON = Code("121006", "DCM", "Person")


def new_document(
    images: Sequence[SourceImage],
    groups: Sequence[Group],
    observers: Sequence[sr.ObserverContext],
    composer: Composer,
    *,
    sop_instance_uid: str,
    description: str,
    at: datetime,
) -> Dataset:
    """Make a report about `images`; completion and verification flags are the caller's to set.

    ``observers`` are the person who signed, if anybody did, and the device, in this order.
    """
    ds = new_object(
        images[0],
        composer,
        sop_class_uid=ComprehensiveSRStorage,
        sop_instance_uid=sop_instance_uid,
        # One series for each document: a series holds objects of one kind and one run.
        series_instance_uid=derived_uid("series", sop_instance_uid),
        series_number=SERIES_NUMBER,
        instance_number=1,
        modality="SR",
        series_description=description,
        at=at,
    )
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = [code_item(_PERFORMED)]
    ds.CurrentRequestedProcedureEvidenceSequence = [_evidence(images)]
    ds.CodingSchemeIdentificationSequence = [_local_scheme()]
    ds.update(_content(observers, groups))
    return ds


def _content(observers: Sequence[sr.ObserverContext], groups: Sequence[Group]) -> Dataset:
    context = sr.ObservationContext(observer_device_context=observers[-1])
    if len(observers) > 1:
        context = sr.ObservationContext(
            observer_person_context=observers[0], observer_device_context=observers[-1]
        )
    report = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=_PROCEDURE,
        imaging_measurements=list(groups),
        title=_TITLE,
    )
    content: Dataset = report[0]
    return content


def device_observer(composer: Composer) -> sr.ObserverContext:
    """Name this node as an observer (TID 1004)."""
    return sr.ObserverContext(
        _DEVICE,
        sr.DeviceObserverIdentifyingAttributes(
            uid=composer.device_uid,
            name=MODEL_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=composer.device_uid,
            physical_location=composer.organization,
        ),
    )


def person_observer(review: SignedReview, composer: Composer) -> sr.ObserverContext:
    """Name the signer as an observer (TID 1003)."""
    return sr.ObserverContext(
        _PERSON,
        sr.PersonObserverIdentifyingAttributes(
            name=person_name(review.signer_name),
            organization_name=composer.organization,
            role_in_procedure=_RECORDING,
        ),
    )


def verifying_observer(review: SignedReview, image: SourceImage, composer: Composer) -> Dataset:
    """Return the item of the Verifying Observer Sequence (PS3.3 C.17.2)."""
    item = Dataset()
    item.VerifyingObserverName = person_name(review.signer_name)
    item.VerifyingOrganization = composer.organization
    signed_at = local_time(review.signed_at, image.time_zone or composer.time_zone)
    item.VerificationDateTime = signed_at.strftime("%Y%m%d%H%M%S%z")
    item.VerifyingObserverIdentificationCodeSequence = [
        code_item(Code(review.signer_id, codes.LOCAL_SCHEME, review.signer_role or "clinician"))
    ]
    return item


def _local_scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = codes.LOCAL_SCHEME
    item.CodingSchemeName = codes.LOCAL_SCHEME_NAME
    item.CodingSchemeVersion = codes.LOCAL_SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item


def _evidence(images: Sequence[SourceImage]) -> Dataset:
    by_series: dict[str, list[Dataset]] = defaultdict(list)
    for image in {image.sop_instance_uid: image for image in images}.values():
        by_series[image.series_instance_uid].append(
            reference_item(image.sop_class_uid, image.sop_instance_uid)
        )
    study = Dataset()
    study.StudyInstanceUID = images[0].study_instance_uid
    study.ReferencedSeriesSequence = [
        _series_item(uid, references) for uid, references in by_series.items()
    ]
    return study


def _series_item(series_instance_uid: str, references: list[Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    item.ReferencedSOPSequence = references
    return item


def predecessor_item(old: Dataset, image: SourceImage) -> Dataset:
    """Return the item of the Predecessor Documents Sequence; both documents are of one study."""
    if old.StudyInstanceUID != image.study_instance_uid:
        raise InvalidInput("the report to be replaced is of a different study")
    study = Dataset()
    study.StudyInstanceUID = old.StudyInstanceUID
    study.ReferencedSeriesSequence = [
        _series_item(old.SeriesInstanceUID, [reference_item(old.SOPClassUID, old.SOPInstanceUID)])
    ]
    return study
