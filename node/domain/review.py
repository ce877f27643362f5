"""What a dentist signed: the values that flow from the review page to chart, peers and payers.

A :class:`SignedReview` is stored as JSON in ``review.content`` and read back by everything that
follows from a signature, so that all of them speak of exactly what was signed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from node.domain.findings import (
    Box,
    CariesDepth,
    DecisionState,
    Disposition,
    Finding,
    FindingKind,
    Geometry,
    Line,
    ModelVersion,
    Point,
    Polygon,
)
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput, Rejected

Json = Mapping[str, object]

#: Stands on everything that is made from a signed review.
NOT_CLEARED = "Research and quality-improvement use. Not cleared as a medical device."


@dataclass(frozen=True, slots=True)
class SignedFinding:
    """One accepted, edited or added finding as it was signed."""

    id: str
    instance_id: str
    sop_instance_uid: str
    origin: str  # "ai" | "human"
    state: DecisionState
    finding: Finding
    disposition: Disposition | None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class DecisionCounts:
    """How the suggestions of a study were decided."""

    suggested: int
    accepted: int
    edited: int
    rejected: int
    added: int
    left_unreviewed: int = 0


@dataclass(frozen=True, slots=True)
class SignedReview:
    """One signed version of a study's findings. Carries no name of a patient."""

    study_id: str
    study_instance_uid: str
    version: int
    signer_id: str
    signer_name: str
    signer_role: str
    signed_at: datetime
    statement: str
    reason: str
    software_version: str
    instances: tuple[tuple[str, str], ...]  # (instance id, SOP Instance UID) of every image
    findings: tuple[SignedFinding, ...]
    models: tuple[ModelVersion, ...]
    counts: DecisionCounts

    def number_of(self, sop_instance_uid: str) -> int:
        """Number an image within the signed ones, from 1; raises Rejected when it is none."""
        covered = [uid for _, uid in self.instances]
        if self.version < 1 or sop_instance_uid not in covered:
            raise Rejected("this image is not part of a signed review")
        return 1 + covered.index(sop_instance_uid)

    def to_json(self) -> dict[str, object]:
        """Encode for ``review.content``."""
        return {
            "study_id": self.study_id,
            "study_instance_uid": self.study_instance_uid,
            "version": self.version,
            "signer_id": self.signer_id,
            "signer_name": self.signer_name,
            "signer_role": self.signer_role,
            "signed_at": self.signed_at.isoformat(),
            "statement": self.statement,
            "reason": self.reason,
            "software_version": self.software_version,
            "instances": [list(pair) for pair in self.instances],
            "findings": [_signed_to_json(finding) for finding in self.findings],
            "models": [model_to_json(model) for model in self.models],
            "counts": {
                "suggested": self.counts.suggested,
                "accepted": self.counts.accepted,
                "edited": self.counts.edited,
                "rejected": self.counts.rejected,
                "added": self.counts.added,
                "left_unreviewed": self.counts.left_unreviewed,
            },
        }

    @classmethod
    def from_json(cls, data: Json) -> SignedReview:
        """Decode what :meth:`to_json` wrote."""
        return cls(
            study_id=str(data["study_id"]),
            study_instance_uid=str(data["study_instance_uid"]),
            version=int(str(data["version"])),
            signer_id=str(data["signer_id"]),
            signer_name=str(data["signer_name"]),
            signer_role=str(data["signer_role"]),
            signed_at=datetime.fromisoformat(str(data["signed_at"])),
            statement=str(data["statement"]),
            reason=str(data["reason"]),
            software_version=str(data["software_version"]),
            instances=tuple(
                (str(a), str(b)) for a, b in cast("Sequence[tuple[str, str]]", data["instances"])
            ),
            findings=tuple(
                _signed_from_json(item) for item in cast("Sequence[Json]", data["findings"])
            ),
            models=tuple(model_from_json(item) for item in cast("Sequence[Json]", data["models"])),
            counts=DecisionCounts(
                **{key: int(str(n)) for key, n in cast("Json", data["counts"]).items()}
            ),
        )


def content_hash(data: Json) -> str:
    """SHA-256 of a JSON value in canonical form; what the page showed equals what was signed."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def geometry_to_json(geometry: Geometry) -> dict[str, object]:
    """Encode as ``{"type": "box" | "polygon" | "line", "points": [[x, y], ...]}``."""
    names = {Box: "box", Polygon: "polygon", Line: "line"}
    return {
        "type": names[type(geometry)],
        "points": [[round(x, 2), round(y, 2)] for x, y in geometry.points],
    }


def geometry_from_json(data: Json) -> Geometry:
    """Decode a geometry; raises InvalidInput when it is none."""
    try:
        points: tuple[Point, ...] = tuple(
            (float(x), float(y)) for x, y in cast("Sequence[tuple[float, float]]", data["points"])
        )
        kind = data["type"]
    except (KeyError, TypeError, ValueError):
        raise InvalidInput("a geometry has a type and a list of [x, y] points") from None
    match kind:
        case "box" if len(points) == 2:
            (x0, y0), (x1, y1) = points
            return Box(x0, y0, x1, y1)
        case "polygon":
            return Polygon(points)
        case "line":
            return Line(points)
        case _:
            raise InvalidInput("a geometry is a box of two corners, a polygon or a line")


def model_to_json(model: ModelVersion) -> dict[str, object]:
    """Encode a model version."""
    return {"name": model.name, "version": model.version, "digest": model.digest}


def model_from_json(data: Json) -> ModelVersion:
    """Decode a model version."""
    return ModelVersion(str(data["name"]), str(data["version"]), str(data["digest"]))


def finding_to_json(finding: Finding) -> dict[str, object]:
    """Encode a finding with the column names of the ``finding`` table."""
    return {
        "kind": finding.kind.value,
        "tooth": finding.tooth.code if finding.tooth else None,
        "surfaces": "".join(surface.value for surface in finding.surfaces),
        "depth": finding.depth.value if finding.depth else None,
        "value_mm": finding.value_mm,
        "value_percent": finding.value_percent,
        "probability": finding.probability,
        "geometry": geometry_to_json(finding.geometry),
        "model": model_to_json(finding.model) if finding.model else None,
    }


def finding_from_json(data: Json) -> Finding:
    """Decode a finding; raises InvalidInput when a value is out of its range."""
    try:
        return Finding(
            kind=FindingKind(data["kind"]),
            geometry=geometry_from_json(cast("Json", data["geometry"])),
            tooth=Tooth(str(data["tooth"])) if data.get("tooth") else None,
            surfaces=tuple(Surface(letter) for letter in str(data.get("surfaces") or "")),
            depth=CariesDepth(data["depth"]) if data.get("depth") else None,
            value_mm=_number(data.get("value_mm")),
            value_percent=_number(data.get("value_percent")),
            probability=_number(data.get("probability")),
            model=model_from_json(cast("Json", data["model"])) if data.get("model") else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"not a finding: {type(error).__name__}") from None


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))


def _signed_to_json(signed: SignedFinding) -> dict[str, object]:
    return {
        "id": signed.id,
        "instance_id": signed.instance_id,
        "sop_instance_uid": signed.sop_instance_uid,
        "origin": signed.origin,
        "state": signed.state.value,
        "disposition": signed.disposition.value if signed.disposition else None,
        "comment": signed.comment,
        **finding_to_json(signed.finding),
    }


def _signed_from_json(data: Json) -> SignedFinding:
    return SignedFinding(
        id=str(data["id"]),
        instance_id=str(data["instance_id"]),
        sop_instance_uid=str(data["sop_instance_uid"]),
        origin=str(data["origin"]),
        state=DecisionState(data["state"]),
        finding=finding_from_json(data),
        disposition=Disposition(data["disposition"]) if data.get("disposition") else None,
        comment=str(data.get("comment") or ""),
    )
