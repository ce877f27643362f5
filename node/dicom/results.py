"""Results as DICOM: the structured report of a study and the annotated copy of an image.

A preliminary report tells what the models suggest and says so (PARTIAL, UNVERIFIED, PRELIMINARY);
who may receive it is the caller's to decide. Everything else is composed from a
:class:`~node.domain.review.SignedReview` and holds what was signed, nothing more. Composing again
gives the same UIDs and bytes, so a result sent twice is one object at the receiver.

Composed are Comprehensive SR (1.2.840.10008.5.1.4.1.1.88.33) with template TID 1500 and Secondary
Capture (.7); both lie in the original study.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum

import numpy as np
import numpy.typing as npt
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.coding import Code
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

from node.dicom import codes
from node.dicom.annotation import annotate, can_write, mark
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
    read_source,
    reference_item,
)
from node.dicom.measurements import (
    Group,
    ReportedFinding,
    algorithm_identification,
    label,
    measurement_group,
    summary_group,
)
from node.domain.findings import ModelVersion
from node.domain.review import SignedReview
from node.errors import InvalidInput, Rejected

SR_SERIES_NUMBER = 901
SC_SERIES_NUMBER = 903

PRELIMINARY_DESCRIPTION = "AI-ASSISTED PRELIMINARY - NOT VERIFIED"
SIGNED_DESCRIPTION = "AI-assisted findings, signed"
ANNOTATED_DESCRIPTION = "AI-assisted findings, signed, annotated copy"
NOT_CLEARED = "Research and quality-improvement use. Not cleared as a medical device."

_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
_PERFORMED = Code("1290849002", "SCT", "Dental radiography")
_SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
_RECORDING = Code("121097", "DCM", "Recording")
_DEVICE = Code("121007", "DCM", "Device")
_PERSON = Code("121006", "DCM", "Person")

# Transfer syntaxes that always lose information (PS3.5 10, A.4).
_LOSSY_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
}


class Algorithms(Enum):
    """How many of the algorithms meant to run did run (CID 6047)."""

    ALL_RAN = "all"
    SOME_RAN = "some"
    NONE_RAN = "none"


_CONCLUSIONS = {
    (Algorithms.ALL_RAN, False): ("111241", "All algorithms succeeded; without findings"),
    (Algorithms.ALL_RAN, True): ("111242", "All algorithms succeeded; with findings"),
    (Algorithms.SOME_RAN, False): ("111243", "Not all algorithms succeeded; without findings"),
    (Algorithms.SOME_RAN, True): ("111244", "Not all algorithms succeeded; with findings"),
    (Algorithms.NONE_RAN, False): ("111245", "No algorithms succeeded; without findings"),
}


def preliminary_sr_uid(study_instance_uid: str, generation: int, composer: Composer) -> str:
    """Return the SOP Instance UID of the preliminary report of one generation of a study."""
    return _uid("SR", composer, study_instance_uid, f"preliminary {generation}")


def signed_sr_uid(review: SignedReview, composer: Composer) -> str:
    """Return the SOP Instance UID of the report of one signed version."""
    return _uid("SR", composer, review.study_instance_uid, f"signed {review.version}")


def annotated_uid(review: SignedReview, sop_instance_uid: str, composer: Composer) -> str:
    """Return the SOP Instance UID of the annotated copy of one image in one signed version."""
    version = f"signed {review.version}"
    return _uid("SC", composer, review.study_instance_uid, version, sop_instance_uid)


def compose_preliminary_sr(
    sources: Sequence[Dataset],
    findings: Sequence[ReportedFinding],
    *,
    generation: int,
    at: datetime,
    models: Sequence[ModelVersion],
    algorithms: Algorithms,
    composer: Composer,
) -> Dataset:
    """Report what the models suggest on the images of a study, unverified.

    ``sources`` are all images that were analysed, pixels not needed; ``at`` is the aware time the
    analysis ended; ``findings`` may be empty, which the report then says.

    Raises
    ------
    InvalidInput
        The images are not of one study and patient, or a finding is on none of them.
    """
    images = _read_sources(sources, composer)
    study = images[0].study_instance_uid
    summary = _summary(images, models, algorithms, bool(findings), composer, "")
    ds = _new_sr(
        images,
        [*_groups(images, findings), summary],
        [_device_observer(composer)],
        composer,
        sop_instance_uid=preliminary_sr_uid(study, generation, composer),
        description=PRELIMINARY_DESCRIPTION,
        at=at,
    )
    ds.CompletionFlag = "PARTIAL"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    return ds


def compose_signed_sr(
    sources: Sequence[Dataset],
    review: SignedReview,
    *,
    algorithms: Algorithms,
    composer: Composer,
    predecessor: Dataset | None = None,
) -> Dataset:
    """Report what a dentist signed, verified by that dentist.

    ``predecessor`` is the report this one replaces: the preliminary one, if any was sent, or that
    of the version before. A finding has the same tracking UID in both.

    Raises
    ------
    InvalidInput
        The images, the review and the predecessor are not of one study and patient.
    Rejected
        The review is not signed or holds a finding nobody accepted.
    """
    _require_signed(review)
    images = _read_sources(sources, composer)
    if images[0].study_instance_uid != review.study_instance_uid:
        raise InvalidInput("the images and the signed review are of different studies")
    findings = [ReportedFinding.from_signed(signed) for signed in review.findings]
    suggested = review.counts.suggested > 0
    comment = "" if findings else "The signing clinician recorded no finding on these images."
    summary = _summary(
        images, review.models, algorithms, suggested or bool(findings), composer, comment
    )
    ds = _new_sr(
        images,
        [*_groups(images, findings), summary],
        [_person_observer(review, composer), _device_observer(composer)],
        composer,
        sop_instance_uid=signed_sr_uid(review, composer),
        description=SIGNED_DESCRIPTION,
        at=review.signed_at,
    )
    # PS3.3 C.17.2: VERIFIED only with COMPLETE.
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "VERIFIED"
    ds.PreliminaryFlag = "FINAL"
    ds.VerifyingObserverSequence = [_verifying_observer(review, images[0], composer)]
    if predecessor is not None:
        ds.PredecessorDocumentsSequence = [_predecessor(predecessor, images[0])]
    return ds


def compose_annotated(
    source: Dataset,
    grey8: npt.NDArray[np.uint8],
    review: SignedReview,
    *,
    composer: Composer,
    instance_number: int = 1,
) -> Dataset:
    """Compose a Secondary Capture of one image with its signed findings burned in.

    ``grey8`` is the image as shown, ``(rows, columns)``, 0 black whatever the photometric
    interpretation of the source. Only signed findings can be drawn: they come from the review.

    Raises
    ------
    Rejected
        The review is not signed, does not cover this image or holds a finding nobody accepted.
    InvalidInput
        The picture has not the size of the source image.
    """
    _require_signed(review)
    image = read_source(source, composer.fallback_charset)
    if image.sop_instance_uid not in {uid for _, uid in review.instances}:
        raise Rejected("this image is not part of the signed review")
    if image.study_instance_uid != review.study_instance_uid:
        raise InvalidInput("the image and the signed review are of different studies")
    if grey8.shape != (image.rows, image.columns):
        raise InvalidInput("the picture has not the size of its source image")
    findings = [ReportedFinding.from_signed(signed) for signed in review.findings]
    marks = [
        mark(reported.finding, label(reported.finding))
        for reported in findings
        if reported.sop_instance_uid == image.sop_instance_uid
    ]
    pixels = annotate(grey8, marks, _banner(review, image, composer))
    ds = new_object(
        image,
        composer,
        sop_class_uid=SecondaryCaptureImageStorage,
        sop_instance_uid=annotated_uid(review, image.sop_instance_uid, composer),
        series_instance_uid=_uid(
            "SC series", composer, review.study_instance_uid, f"signed {review.version}"
        ),
        series_number=SC_SERIES_NUMBER,
        instance_number=instance_number,
        modality=_modality(source),
        series_description=ANNOTATED_DESCRIPTION,
        at=review.signed_at,
    )
    _set_capture(ds, source, image)
    _set_rgb(ds, pixels)
    return ds


def _uid(kind: str, composer: Composer, *parts: str) -> str:
    return derived_uid(kind, composer.device_uid, *parts)


def _require_signed(review: SignedReview) -> None:
    if review.version < 1 or not review.signer_id or not review.signer_name.strip():
        raise Rejected("only a signed review may be published as signed")


def _read_sources(sources: Sequence[Dataset], composer: Composer) -> list[SourceImage]:
    images = [read_source(ds, composer.fallback_charset) for ds in sources]
    if not images:
        raise InvalidInput("a report needs at least one image")
    if len({image.study_instance_uid for image in images}) > 1:
        raise InvalidInput("a report is about the images of one study")
    if len({image.patient for image in images}) > 1:
        raise InvalidInput("the images of a report are of different patients")
    return images


def _groups(images: Sequence[SourceImage], findings: Iterable[ReportedFinding]) -> list[Group]:
    by_uid = {image.sop_instance_uid: image for image in images}
    groups = []
    for reported in findings:
        if reported.sop_instance_uid not in by_uid:
            raise InvalidInput("a finding is on none of the images of its report")
        groups.append(measurement_group(reported, by_uid[reported.sop_instance_uid]))
    return groups


def _summary(
    images: Sequence[SourceImage],
    models: Sequence[ModelVersion],
    algorithms: Algorithms,
    has_findings: bool,
    composer: Composer,
    comment: str,
) -> Group:
    # When no algorithm ran, what was found is a person's: the summary is about algorithms.
    found = has_findings and algorithms is not Algorithms.NONE_RAN
    value, meaning = _CONCLUSIONS[algorithms, found]
    return summary_group(
        images,
        uid=derived_uid("summary", images[0].study_instance_uid),
        conclusion=Code(value, "DCM", meaning),
        algorithm=algorithm_identification(
            MODEL_NAME,
            composer.software_version,
            [f"{model} weights_sha256={model.digest}" for model in dict.fromkeys(models)],
        ),
        comment=comment,
    )


def _new_sr(
    images: Sequence[SourceImage],
    groups: Sequence[Group],
    observers: Sequence[sr.ObserverContext],
    composer: Composer,
    *,
    sop_instance_uid: str,
    description: str,
    at: datetime,
) -> Dataset:
    ds = new_object(
        images[0],
        composer,
        sop_class_uid=ComprehensiveSRStorage,
        sop_instance_uid=sop_instance_uid,
        # One series for each document: a series holds objects of one kind and one run.
        series_instance_uid=derived_uid("series", sop_instance_uid),
        series_number=SR_SERIES_NUMBER,
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


def _device_observer(composer: Composer) -> sr.ObserverContext:
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


def _person_observer(review: SignedReview, composer: Composer) -> sr.ObserverContext:
    return sr.ObserverContext(
        _PERSON,
        sr.PersonObserverIdentifyingAttributes(
            name=person_name(review.signer_name),
            organization_name=composer.organization,
            role_in_procedure=_RECORDING,
        ),
    )


def _verifying_observer(review: SignedReview, image: SourceImage, composer: Composer) -> Dataset:
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


def _predecessor(old: Dataset, image: SourceImage) -> Dataset:
    if old.StudyInstanceUID != image.study_instance_uid:
        raise InvalidInput("the report to be replaced is of a different study")
    study = Dataset()
    study.StudyInstanceUID = old.StudyInstanceUID
    study.ReferencedSeriesSequence = [
        _series_item(old.SeriesInstanceUID, [reference_item(old.SOPClassUID, old.SOPInstanceUID)])
    ]
    return study


def _banner(review: SignedReview, image: SourceImage, composer: Composer) -> list[str]:
    signed_at = local_time(review.signed_at, image.time_zone or composer.time_zone)
    signer = review.signer_name if can_write(review.signer_name) else f"user {review.signer_id}"
    lines = [
        f"AI-assisted – findings signed by {signer}, {signed_at:%Y-%m-%d %H:%M}, "
        f"version {review.version}"
    ]
    if review.models:
        lines.append("Models: " + ", ".join(str(model) for model in dict.fromkeys(review.models)))
    return [*lines, NOT_CLEARED]


def _modality(source: Dataset) -> str:
    modality = str(source.get("Modality") or "")
    is_code = modality.isascii() and modality.isalnum() and modality.isupper()
    return modality if is_code and len(modality) <= 4 else "OT"


def _set_capture(ds: Dataset, source: Dataset, image: SourceImage) -> None:
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ConversionType = "WSD"
    ds.BodyPartExamined = "JAW"
    ds.PatientOrientation = _orientation(source)
    ds.BurnedInAnnotation = "YES"
    ds.DerivationDescription = "Signed findings burned in; a strip with the signature added below"
    item = reference_item(image.sop_class_uid, image.sop_instance_uid)
    item.PurposeOfReferenceCodeSequence = [code_item(_SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "YES"
    ds.SourceImageSequence = [item]
    _set_lossy(ds, source)


def _orientation(source: Dataset) -> list[str]:
    value = source.get("PatientOrientation")
    parts = [str(part) for part in value] if isinstance(value, MultiValue) else []
    is_valid = len(parts) == 2 and all(part and set(part) <= set("AFHLPR") for part in parts)
    return parts if is_valid else []


def _set_lossy(ds: Dataset, source: Dataset) -> None:
    # PS3.3 C.7.6.1.1.5: what was once compressed with loss stays marked so.
    meta = getattr(source, "file_meta", None) or Dataset()
    method = _LOSSY_METHODS.get(str(meta.get("TransferSyntaxUID", "")))
    if str(source.get("LossyImageCompression") or "") != "01" and method is None:
        ds.LossyImageCompression = "00"
        return
    ds.LossyImageCompression = "01"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if source.get(keyword):
            setattr(ds, keyword, source[keyword].value)
    if method and not ds.get("LossyImageCompressionMethod"):
        ds.LossyImageCompressionMethod = method


def _set_rgb(ds: Dataset, pixels: npt.NDArray[np.uint8]) -> None:
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated = 8
    ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    data = np.ascontiguousarray(pixels).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
