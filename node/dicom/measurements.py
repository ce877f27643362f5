"""One finding as a measurement group of a TID 1500 report.

A closed outline is a planar region (TID 1410); a measured line is a group of numbers inferred
from the line (TID 1501). Coordinates are (column, row), 0..Columns and 0..Rows (PS3.3 C.18.6).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from highdicom import sr
from pydicom.sr.coding import Code

from node.dicom import codes
from node.dicom.derived import MANUFACTURER, SourceImage, derived_uid
from node.domain.findings import (
    Box,
    DecisionState,
    Finding,
    FindingKind,
    Line,
    ModelVersion,
    Point,
)
from node.domain.review import SignedFinding
from node.errors import InvalidInput, Rejected, Unsupported

AI_FAMILY = Code("123110", "DCM", "Artificial Intelligence")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
_CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
_COMMENT = Code("121106", "DCM", "Comment")
_LENGTH = Code("410668003", "SCT", "Length")
_OUTLINE = Code("111041", "DCM", "Outline")
_PERCENT = Code("%", "UCUM", "Percent")
_MILLIMETRE = Code("mm", "UCUM", "millimeter")
_PIXELS = Code("{pixels}", "UCUM", "Pixels")

_NOT_CALIBRATED = "Millimetres at the detector plane; magnification is not calibrated."

Pixels = npt.NDArray[np.float32]
Group: TypeAlias = (
    sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations
)


@dataclass(frozen=True, slots=True)
class ReportedFinding:
    """A finding as a report tells it; ``id`` stays the same from suggestion to signature.

    ``decision`` is empty in a preliminary report, else ``accepted``, ``edited`` or ``added``.
    """

    id: str
    sop_instance_uid: str
    finding: Finding
    decision: str = ""
    comment: str = ""

    @classmethod
    def from_signed(cls, signed: SignedFinding) -> ReportedFinding:
        """Take over what was signed; raises Rejected when it was not accepted by anybody."""
        if signed.state not in (DecisionState.ACCEPTED, DecisionState.EDITED):
            raise Rejected("a finding nobody accepted cannot be reported as signed")
        decision = "added" if signed.origin == "human" else signed.state.value
        return cls(signed.id, signed.sop_instance_uid, signed.finding, decision, signed.comment)


def label(finding: Finding) -> str:
    """Name tooth, surfaces and depth in short, Universal numbers as US practices read them."""
    tooth = f"#{finding.tooth.universal}" if finding.tooth else ""
    surfaces = "".join(surface.value for surface in finding.surfaces)
    depth = finding.depth.value if finding.depth else ""
    return " ".join(part for part in (tooth, surfaces, depth) if part)


def measurement_group(reported: ReportedFinding, source: SourceImage) -> Group:
    """Compose the measurement group of one finding on `source`."""
    finding = reported.finding
    shared = {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=derived_uid("finding", reported.id), identifier=_title(finding)
        ),
        "finding_category": ABNORMAL if finding.kind.is_disease else None,
        "finding_type": codes.finding_code(finding.kind),
        "finding_sites": _sites(finding),
        "algorithm_id": _algorithm(finding.model) if reported.decision != "added" else None,
        "qualitative_evaluations": _evaluations(reported),
    }
    certainty = [sr.Measurement(*number) for number in _certainty(reported)]
    group: Group
    if isinstance(finding.geometry, Line):
        line = _coordinates(finding.geometry.points, source)
        group = sr.MeasurementsAndQualitativeEvaluations(
            **shared,
            measurements=[
                *(
                    _measured(number, line, source)
                    for number in [_length(line), *_bone_numbers(finding)]
                ),
                *certainty,
            ],
            source_images=[_group_source(source)],
        )
    else:
        group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            **shared,
            referenced_region=_region(finding, source),
            measurements=[
                *(sr.Measurement(*number) for number in _bone_numbers(finding)),
                *certainty,
            ],
            geometric_purpose=_OUTLINE,
        )
    if finding.value_mm is not None and not source.is_calibrated:
        _append_comment(group, _NOT_CALIBRATED)
    _append_comment(group, reported.comment)
    return group


def summary_group(
    sources: Sequence[SourceImage],
    *,
    uid: str,
    conclusion: Code,
    algorithm: sr.AlgorithmIdentification,
    comment: str,
) -> Group:
    """Say what the algorithms found over all images, so that silence is never a result."""
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid, identifier="Summary"),
        algorithm_id=algorithm,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                Code("111017", "DCM", "CAD Processing and Findings Summary"), conclusion
            )
        ],
        source_images=[_group_source(image) for image in sources],
    )
    _append_comment(group, comment)
    return group


def algorithm_identification(
    name: str, version: str, parameters: Sequence[str]
) -> sr.AlgorithmIdentification:
    """Identify an algorithm of ours (TID 4019)."""
    return sr.AlgorithmIdentification(
        name=name,
        version=version,
        parameters=list(parameters) or None,
        family=AI_FAMILY,
        manufacturer=MANUFACTURER,
    )


def _algorithm(model: ModelVersion | None) -> sr.AlgorithmIdentification | None:
    if model is None:
        return None
    return algorithm_identification(
        model.name, model.version, [f"weights_sha256={model.digest}"] if model.digest else []
    )


def _title(finding: Finding) -> str:
    kind = finding.kind.value.replace("_", " ").capitalize()
    return f"{kind} {label(finding)}".strip()


def _sites(finding: Finding) -> list[sr.FindingSite] | None:
    if finding.tooth is None:
        return None
    tooth = codes.tooth_code(finding.tooth)
    surfaces = dict.fromkeys(finding.surfaces)
    return [
        sr.FindingSite(tooth, topographical_modifier=codes.surface_code(surface))
        for surface in surfaces
    ] or [sr.FindingSite(tooth)]


def _evaluations(reported: ReportedFinding) -> list[sr.QualitativeEvaluation]:
    found = []
    if reported.finding.depth is not None:
        found.append(
            sr.QualitativeEvaluation(codes.CARIES_DEPTH, codes.depth_code(reported.finding.depth))
        )
    if reported.decision:
        found.append(sr.QualitativeEvaluation(codes.DECISION, codes.DECISIONS[reported.decision]))
    return found


_Number = tuple[Code, float, Code]


def _bone_numbers(finding: Finding) -> list[_Number]:
    if finding.kind is not FindingKind.BONE_LEVEL:
        return []
    numbers = []
    if finding.value_mm is not None:
        numbers.append((codes.BONE_LEVEL_MM, round(float(finding.value_mm), 2), _MILLIMETRE))
    if finding.value_percent is not None:
        numbers.append((codes.BONE_LOSS_PERCENT, round(float(finding.value_percent), 1), _PERCENT))
    return numbers


def _certainty(reported: ReportedFinding) -> list[_Number]:
    # A probability belongs to the suggestion as the model made it, not to what a person drew.
    if reported.decision in ("edited", "added") or reported.finding.probability is None:
        return []
    return [(_CERTAINTY, round(float(reported.finding.probability) * 100, 1), _PERCENT)]


def _length(line: Pixels) -> _Number:
    return _LENGTH, round(float(np.hypot(*(line[1] - line[0]))), 2), _PIXELS


def _measured(number: _Number, line: Pixels, source: SourceImage) -> sr.Measurement:
    coordinates = sr.CoordinatesForMeasurement("POLYLINE", line, _region_source(source))
    return sr.Measurement(*number, referenced_coordinates=[coordinates])


def _region(finding: Finding, source: SourceImage) -> sr.ImageRegion:
    outline = _coordinates(_ring(finding), source)
    try:
        return sr.ImageRegion("POLYLINE", outline, _region_source(source))
    except KeyError:  # highdicom looks the class up in its table of the standard's
        raise Unsupported("a report cannot refer to an image of this SOP class") from None


def _ring(finding: Finding) -> tuple[Point, ...]:
    if isinstance(finding.geometry, Box):
        box = finding.geometry
        corners: tuple[Point, ...] = (
            (box.x0, box.y0),
            (box.x1, box.y0),
            (box.x1, box.y1),
            (box.x0, box.y1),
        )
    else:
        corners = finding.geometry.points
    # A 2-D region has no POLYGON: the ring is closed by its first point (PS3.3 C.18.6.1.2).
    return corners if corners[0] == corners[-1] else (*corners, corners[0])


def _coordinates(points: Sequence[Point], source: SourceImage) -> Pixels:
    array = np.asarray(points, dtype=np.float64)
    if not np.isfinite(array).all():
        raise InvalidInput("coordinates must be finite numbers")
    return np.clip(array, 0.0, [float(source.columns), float(source.rows)]).astype(np.float32)


def _region_source(source: SourceImage) -> sr.SourceImageForRegion:
    return sr.SourceImageForRegion(source.sop_class_uid, source.sop_instance_uid)


def _group_source(source: SourceImage) -> sr.SourceImageForMeasurementGroup:
    return sr.SourceImageForMeasurementGroup(source.sop_class_uid, source.sop_instance_uid)


def _append_comment(group: Group, comment: str) -> None:
    # PS3.5 6.2: UT holds line breaks and tabs, no other control characters
    clean = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]+", " ", comment).strip()
    if clean:
        group[0].ContentSequence.append(
            sr.TextContentItem(_COMMENT, clean, relationship_type="CONTAINS")
        )
