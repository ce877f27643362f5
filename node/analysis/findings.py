"""Store what the models said about one image, once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from node.db.session import Actor, Tx, begin, insert_once
from node.db.tables import analysis_run, finding, instance, study, tooth_mark
from node.dicom import burned_in
from node.domain.audit_chain import canonical
from node.domain.events import EventKind
from node.domain.findings import DecisionState, ImageAnalysis, ModelVersion, QualityKind
from node.domain.image_json import (
    flag_to_json,
    orientation_to_json,
    outline_to_json,
    points_to_json,
    site_to_json,
)
from node.domain.plain_json import encode
from node.domain.review import finding_to_json, model_to_json
from node.domain.study import InstanceState
from node.errors import NotFound


def pipeline_digest(models: Sequence[ModelVersion], calibration: int | None = None) -> str:
    """Name one set of installed networks; the same image is analysed once by each set.

    A practice's own `calibration` makes it another one.
    """
    text = "|".join(sorted(f"{m.name}:{m.version}:{m.digest}" for m in models))
    if calibration is not None:
        text += f"|calibration:{calibration}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def store_analysis(
    db: sa.Engine,
    actor: Actor,
    instance_id: str,
    analysis: ImageAnalysis,
    started_at: datetime,
    calibration: int | None = None,
) -> bool:
    """Commit run, tooth marks and findings of one image; return False when they were there.

    The ids derive from image and pipeline, so a repeated run adds nothing. `calibration` is the
    version of the practice's own that moved the probabilities.
    """
    pipeline = pipeline_digest(analysis.models, calibration)
    run_id = _derive(instance_id, pipeline)
    with begin(db, actor, "analysis.stored") as tx:
        image = _image(tx.conn, instance_id)
        is_new = insert_once(
            tx.conn,
            analysis_run,
            {
                "id": run_id,
                "location_id": tx.location_id,
                "instance_id": instance_id,
                "pipeline": pipeline,
                "view": analysis.view.value if analysis.view else None,
                "view_probability": analysis.view_probability,
                "models": [model_to_json(model) for model in analysis.models],
                "absent": list(analysis.absent),
                "notes": list(analysis.notes),
                "side": analysis.side,
                "region": analysis.region,
                "orientation": orientation_to_json(analysis.orientation),
                "quality": [flag_to_json(flag) for flag in analysis.quality],
                "sites": [site_to_json(site) for site in analysis.sites],
                "operating_points": points_to_json(analysis.operating_points),
                "calibration": calibration,
                "started_at": started_at,
                "finished_at": tx.now,
            },
        )
        if is_new:
            _add_marks(tx, run_id, instance_id, analysis)
            _add_findings(tx, run_id, image, analysis, calibration)
        for flag in analysis.quality:
            if flag.kind is QualityKind.LETTERING:
                burned_in.note(tx, instance_id, flag.detail)
        set_image_state(tx, instance_id, InstanceState.ANALYSED)
        tx.append_event(
            EventKind.IMAGE_ANALYSED,
            instance_id,
            f"analysed:{run_id}",
            {"study_id": image.study_id, "findings": len(analysis.findings)},
        )
        tx.record(
            f"instance:{instance_id}",
            run=run_id,
            sha256=image.sha256,
            models=[model_to_json(model) for model in analysis.models],
            calibration=calibration,
            findings=len(analysis.findings),
            output=_output_digest(analysis),
            kept=f"analysis_run:{run_id}" if is_new else "",
        )
    return is_new


def _output_digest(analysis: ImageAnalysis) -> str:
    """Digest everything that the networks said of the image (SHA-256)."""
    return hashlib.sha256(canonical([encode(analysis)])).hexdigest()


def store_failure(
    db: sa.Engine, actor: Actor, instance_id: str, state: InstanceState, reason: str
) -> None:
    """Commit why one image could not be analysed; the rest of its study goes on."""
    with begin(db, actor, "analysis.failed") as tx:
        image = _image(tx.conn, instance_id)
        set_image_state(tx, instance_id, state, reason)
        tx.append_event(
            EventKind.IMAGE_ANALYSED,
            instance_id,
            f"failed:{instance_id}:{state.value}:{tx.now.isoformat()}",
            {"study_id": image.study_id, "state": state.value},
        )
        tx.record(f"instance:{instance_id}", state=state.value, reason=reason)


def set_image_state(tx: Tx, instance_id: str, state: InstanceState, failure: str = "") -> None:
    """Set one image's state inside the caller's transaction."""
    tx.conn.execute(
        instance.update()
        .where(instance.c.id == instance_id, instance.c.location_id == tx.location_id)
        .values(state=state.value, failure=failure[:255])
    )


def _add_marks(tx: Tx, run_id: str, instance_id: str, analysis: ImageAnalysis) -> None:
    tx.conn.execute(tooth_mark.delete().where(tooth_mark.c.instance_id == instance_id))
    rows = [
        {
            "id": _derive(run_id, f"tooth{number}"),
            "location_id": tx.location_id,
            "run_id": run_id,
            "instance_id": instance_id,
            "tooth": mark.tooth.code,
            "box": [round(v, 1) for v in (mark.box.x0, mark.box.y0, mark.box.x1, mark.box.y1)],
            "outline": outline_to_json(mark.outline),
            "probability": mark.probability,
        }
        for number, mark in enumerate(analysis.teeth)
    ]
    if rows:
        tx.conn.execute(tooth_mark.insert(), rows)


def _add_findings(
    tx: Tx,
    run_id: str,
    image: sa.Row[tuple[str, str]],
    analysis: ImageAnalysis,
    calibration: int | None,
) -> None:
    """Add the suggestions; undecided ones of an earlier pipeline give way to them."""
    tx.conn.execute(
        finding.update()
        .where(
            finding.c.instance_id == image.id,
            finding.c.origin == "ai",
            finding.c.state == DecisionState.SUGGESTED.value,
        )
        .values(is_removed=True, rev=finding.c.rev + 1)
    )
    rows = [
        {
            "id": _derive(run_id, f"finding{number}"),
            "location_id": tx.location_id,
            "study_id": image.study_id,
            "instance_id": image.id,
            "run_id": run_id,
            "origin": "ai",
            "state": DecisionState.SUGGESTED.value,
            "created_at": tx.now,
            "calibration": calibration,
            **finding_to_json(suggestion),
        }
        for number, suggestion in enumerate(analysis.findings)
    ]
    if rows:
        tx.conn.execute(finding.insert(), rows)


def _image(conn: sa.Connection, instance_id: str) -> sa.Row[tuple[str, str]]:
    row = conn.execute(
        sa.select(instance.c.id, instance.c.study_id, instance.c.sha256, study.c.location_id)
        .join(study, study.c.id == instance.c.study_id)
        .where(instance.c.id == instance_id)
    ).first()
    if row is None:
        raise NotFound("there is no such image")
    return row  # type: ignore[return-value]


def _derive(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]
