"""Results as DICOM: the structured report of a study and the annotated copy of an image.

A preliminary report tells what the models suggest and says so (PARTIAL, UNVERIFIED, PRELIMINARY);
who may receive it is the caller's to decide. Everything else is composed from a
:class:`~node.domain.review.SignedReview` and holds what was signed, nothing more. Composing again
gives the same UIDs and bytes, so a result sent twice is one object at the receiver.

Composed are Comprehensive SR (1.2.840.10008.5.1.4.1.1.88.33) with template TID 1500 and Secondary
Capture (.7); both lie in the original study.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from node.dicom.annotation import annotate, mark, writable
from node.dicom.capture import new_capture
from node.dicom.derived import (
    MODEL_NAME,
    Composer,
    SourceImage,
    derived_uid,
    local_time,
    read_source,
)
from node.dicom.document import (
    device_observer,
    new_document,
    person_observer,
    predecessor_item,
    verifying_observer,
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
from node.domain.review import NOT_CLEARED, SignedReview
from node.errors import InvalidInput, Rejected

PRELIMINARY_DESCRIPTION = "AI-ASSISTED PRELIMINARY - NOT VERIFIED"
SIGNED_DESCRIPTION = "AI-assisted findings, signed"
ANNOTATED_DESCRIPTION = "AI-assisted findings, signed, annotated copy"


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
    predecessor: Dataset | None = None,
) -> Dataset:
    """Report what the models suggest on the images of a study, unverified.

    ``sources`` are all images that were analysed, pixels not needed; ``at`` is the aware time the
    analysis ended; ``findings`` may be empty, which the report then says. ``predecessor`` is the
    report of the generation before, where a late image made this one necessary.

    Raises
    ------
    InvalidInput
        The images are not of one study and patient, or a finding is on none of them.
    """
    images = _read_sources(sources, composer)
    study = images[0].study_instance_uid
    summary = _summary(images, models, algorithms, bool(findings), composer, "")
    ds = new_document(
        images,
        [*_groups(images, findings), summary],
        [device_observer(composer)],
        composer,
        sop_instance_uid=preliminary_sr_uid(study, generation, composer),
        description=PRELIMINARY_DESCRIPTION,
        at=at,
    )
    ds.CompletionFlag = "PARTIAL"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    if predecessor is not None:
        ds.PredecessorDocumentsSequence = [predecessor_item(predecessor, images[0])]
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
    ds = new_document(
        images,
        [*_groups(images, findings), summary],
        [person_observer(review, composer), device_observer(composer)],
        composer,
        sop_instance_uid=signed_sr_uid(review, composer),
        description=SIGNED_DESCRIPTION,
        at=review.signed_at,
    )
    # PS3.3 C.17.2: VERIFIED only with COMPLETE.
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "VERIFIED"
    ds.PreliminaryFlag = "FINAL"
    ds.VerifyingObserverSequence = [verifying_observer(review, images[0], composer)]
    if predecessor is not None:
        ds.PredecessorDocumentsSequence = [predecessor_item(predecessor, images[0])]
    return ds


def compose_annotated(
    source: Dataset,
    grey8: npt.NDArray[np.uint8],
    review: SignedReview,
    *,
    composer: Composer,
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
    number = review.number_of(image.sop_instance_uid)
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
    return new_capture(
        image,
        source,
        annotate(grey8, marks, _banner(review, image, composer)),
        composer,
        sop_instance_uid=annotated_uid(review, image.sop_instance_uid, composer),
        series_instance_uid=_uid(
            "SC series", composer, review.study_instance_uid, f"signed {review.version}"
        ),
        instance_number=number,
        description=ANNOTATED_DESCRIPTION,
        at=review.signed_at,
    )


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


def _banner(review: SignedReview, image: SourceImage, composer: Composer) -> list[str]:
    signed_at = local_time(review.signed_at, image.time_zone or composer.time_zone)
    signer = writable(review.signer_name, f"user {review.signer_id}")
    lines = [
        f"AI-assisted – findings signed by {signer}, {signed_at:%Y-%m-%d %H:%M}, "
        f"version {review.version}"
    ]
    if review.models:
        lines.append("Models: " + ", ".join(str(model) for model in dict.fromkeys(review.models)))
    return [*lines, NOT_CLEARED]
