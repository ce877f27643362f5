"""The study answer: everything that the review page draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime

import sqlalchemy as sa

from node.db.session import read
from node.db.tables import (
    appointment,
    dicom_delivery,
    dicom_result,
    event,
    image_calibration,
    instance_duplicate,
    pms_command,
    retraction,
    tooth_mark,
    user_account,
)
from node.dicom.purged import Purged, find_purged, want_back
from node.domain.findings import View
from node.domain.review import SignedReview
from node.domain.rights import Right
from node.domain.study import MatchState
from node.rollout.showing import ShownRun
from node.web.accounts import Session
from node.web.auth import Web
from node.web.completeness import completeness
from node.web.facts import Facts, Row, find_study, patient_header, read_facts
from node.web.flaws import flaws
from node.web.images import Pictures
from node.web.marks import finding_shapes, read_reviews, signed_shapes, universal
from node.web.mounts import compose_mount
from node.web.readings import reading_json, stored_reading
from node.web.shapes import (
    Calibration,
    Counts,
    Delivery,
    Finding,
    Image,
    Match,
    Model,
    Progress,
    Receipt,
    Retraction,
    SignedVersion,
    SignedVersions,
    SpacingShape,
    Study,
    ToothShape,
    Version,
)
from node.web.signing import screen_hash, sign_state

_VIEW_LABELS = {
    View.BITEWING.value: "BW",
    View.PERIAPICAL.value: "PA",
    View.PANORAMIC.value: "PAN",
    View.OCCLUSAL.value: "OCC",
    View.CEPHALOMETRIC.value: "CEPH",
    View.PHOTO.value: "PHOTO",
}


def compose_study(web: Web, pictures: Pictures, session: Session, study_id: str) -> Study:
    """Compose the answer for one person, and fetch what an archive holds. Raises NotFound."""
    with read(web.db) as conn:
        facts = read_facts(conn, web, session, study_id)
        want_back(web.db, session.actor, study_id)
        reviews = read_reviews(conn, study_id)
        row = facts.study
        stored = stored_reading(conn, row, facts.showing) if facts.sees_ai else None
        return Study(
            id=row.id,
            label=label((i.modality for i in facts.images), facts.runs.values()),
            study_date=row.study_date,
            received_at=row.received_at,
            state=facts.shown_state,
            is_editable=facts.is_editable and session.may(Right.FINDINGS_PROPOSE),
            patient=patient_header(conn, session, row, today(web)),
            match=match_shape(row),
            appointment_at=appointment_at(conn, row),
            images=_images(conn, pictures, facts),
            mount=compose_mount(conn, facts, stored),
            findings=tuple(_findings(conn, session, facts, reviews)),
            progress=Progress(done=len(facts.images) - len(facts.waiting), total=len(facts.images)),
            models=_models(facts),
            absent=_in_order(task for run in facts.runs.values() for task in run.absent),
            notes=(
                *completeness(conn, facts, stored),
                *_in_order(note for run in facts.runs.values() for note in run.notes),
            ),
            reading=reading_json(web, facts, reviews, stored),
            versions=tuple(_version(signed) for signed in reviews),
            retractions=_retractions(conn, study_id),
            receipts=_receipts(conn, pms_command.c.study_id == study_id),
            deliveries=_deliveries(conn, study_id),
            sign=sign_state(facts, session),
            content_hash=screen_hash(facts),
            rights=tuple(sorted(right.value for right in session.rights)),
            settings=web.settings.model_copy(
                update={"mode": "assist" if facts.showing.is_any else "silent"}
            ),
            last_seq=last_seq(conn, web.location_id),
        )


def compose_versions(web: Web, session: Session, study_id: str) -> SignedVersions:
    """Compose the signed versions of a study with their findings. Raises NotFound."""
    with read(web.db) as conn:
        find_study(conn, web.location_id, study_id)
        reviews = read_reviews(conn, study_id)
    return SignedVersions(
        versions=tuple(
            SignedVersion(
                **_version(signed).model_dump(), findings=tuple(signed_shapes(session, signed))
            )
            for signed in reviews
        )
    )


def label(modalities: Iterable[str], runs: Iterable[ShownRun | Row]) -> str:
    """Name what was taken: ``BW 2 PA 1`` by view, or by modality where views are not shown."""
    views = [_VIEW_LABELS.get(run.view or "", "") for run in runs]
    names = [view for view in views if view] or [name or "image" for name in modalities]
    return " ".join(f"{name} {count}" for name, count in sorted(Counter(names).items()))


def match_shape(row: Row) -> Match:
    """Say whose study this is, as far as the node knows."""
    state = MatchState(row.match_state)
    return Match(state=state.value, is_certain=state.is_certain, reason=row.match_reason)


def today(web: Web) -> date:
    """The practice's day."""
    return datetime.now(web.config.zone).date()


def last_seq(conn: sa.Connection, location_id: str) -> int:
    """The number of the last event here."""
    query = sa.select(sa.func.max(event.c.seq)).where(event.c.location_id == location_id)
    return int(conn.execute(query).scalar() or 0)


def appointment_at(conn: sa.Connection, row: Row) -> datetime | None:
    """When the appointment is that this study belongs to."""
    if row.appointment_id is None:
        return None
    query = sa.select(appointment.c.start_at).where(appointment.c.id == row.appointment_id)
    return conn.execute(query).scalar()


def _images(conn: sa.Connection, pictures: Pictures, facts: Facts) -> tuple[Image, ...]:
    ids = [image.id for image in facts.images]
    duplicates = Counter(
        conn.execute(
            sa.select(instance_duplicate.c.instance_id).where(
                instance_duplicate.c.instance_id.in_(ids)
            )
        ).scalars()
    )
    teeth = _teeth(conn, [i for i, run in facts.runs.items() if run.has_teeth])
    scales = _calibrations(conn, ids)
    away = find_purged(conn, {image.study_id for image in facts.images})
    return tuple(
        _image(
            image,
            pictures,
            facts,
            teeth.get(image.id, ()),
            duplicates[image.id],
            scales.get(image.id),
            away.get(image.id),
        )
        for image in facts.images
    )


def _calibrations(conn: sa.Connection, ids: list[str]) -> dict[str, Calibration]:
    rows = conn.execute(
        sa.select(image_calibration, user_account.c.display_name)
        .join(user_account, user_account.c.id == image_calibration.c.calibrated_by)
        .where(image_calibration.c.instance_id.in_(ids))
    )
    found = {}
    for row in rows:
        first, second = ((x, y) for x, y in row.points)
        found[row.instance_id] = Calibration(
            mm_per_px=row.known_mm / math.dist(first, second),
            known_mm=row.known_mm,
            points=(first, second),
            by=row.display_name,
            at=row.calibrated_at,
        )
    return found


def _image(
    image: Row,
    pictures: Pictures,
    facts: Facts,
    teeth: tuple[ToothShape, ...],
    duplicates: int,
    calibration: Calibration | None,
    away: Purged | None,
) -> Image:
    run = facts.runs.get(image.id)
    grey, problem = pictures.grey_or_problem(image)
    if away is not None:
        problem = f"{away.words} They are being fetched; open the study again in a minute."
    return Image(
        id=image.id,
        number=image.instance_number,
        rows=image.rows,
        columns=image.columns,
        modality=image.modality,
        view=run.view if run is not None else None,
        view_probability=run.view_probability if run is not None else None,
        state=image.state,
        failure=image.failure or problem,
        spacing=SpacingShape(
            mm_row=image.spacing_mm_row or 0.0,
            mm_col=image.spacing_mm_col or 0.0,
            kind=image.spacing_kind,
        ),
        calibration=calibration,
        grey=grey,
        teeth=teeth,
        side=run.side if run is not None else "",
        region=run.region if run is not None else "",
        flaws=flaws(run.quality, run.orientation) if run is not None else (),
        is_seen=image.id in facts.seen,
        is_seen_bare=image.id in facts.seen_bare,
        duplicates=duplicates,
        received_at=image.received_at,
    )


def _teeth(conn: sa.Connection, ids: list[str]) -> Mapping[str, tuple[ToothShape, ...]]:
    found: dict[str, tuple[ToothShape, ...]] = {}
    rows = conn.execute(
        sa.select(tooth_mark)
        .where(tooth_mark.c.instance_id.in_(ids))
        .order_by(tooth_mark.c.tooth, tooth_mark.c.id)
    )
    for row in rows:
        x0, y0, x1, y1 = row.box
        mark = ToothShape(
            tooth=row.tooth,
            universal=universal(row.tooth) or "",
            box=((x0, y0), (x1, y1)),
            probability=row.probability,
        )
        found[row.instance_id] = (*found.get(row.instance_id, ()), mark)
    return found


def _findings(
    conn: sa.Connection, session: Session, facts: Facts, reviews: list[SignedReview]
) -> list[Finding]:
    if session.may(Right.FINDINGS_SEE_UNSIGNED):
        return finding_shapes(conn, session, facts.findings)
    return signed_shapes(session, reviews[-1]) if reviews else []


def _models(facts: Facts) -> tuple[Model, ...]:
    found = {
        (model["name"], model["version"], model["digest"])
        for run in facts.runs.values()
        for model in run.models
    }
    return tuple(Model(name=n, version=v, digest=d) for n, v, d in sorted(found))


def _in_order(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _version(signed: SignedReview) -> Version:
    counts = signed.counts
    return Version(
        version=signed.version,
        signer_name=signed.signer_name,
        signer_role=signed.signer_role,
        signed_at=signed.signed_at,
        reason=signed.reason,
        counts=Counts(
            suggested=counts.suggested,
            accepted=counts.accepted,
            edited=counts.edited,
            rejected=counts.rejected,
            added=counts.added,
            left_unreviewed=counts.left_unreviewed,
        ),
    )


def _retractions(conn: sa.Connection, study_id: str) -> tuple[Retraction, ...]:
    rows = conn.execute(
        sa.select(retraction, user_account.c.display_name)
        .join(user_account, user_account.c.id == retraction.c.retracted_by)
        .where(retraction.c.study_id == study_id)
        .order_by(retraction.c.at)
    )
    return tuple(
        Retraction(
            id=row.id,
            kind=row.kind,
            version=row.version,
            reason=row.reason,
            by=row.display_name,
            at=row.at,
            steps=tuple(row.steps),
            receipts=_receipts(conn, pms_command.c.key.like(f"retract:{row.id}:%")),
        )
        for row in rows
    )


def _receipts(conn: sa.Connection, which: sa.ColumnElement[bool]) -> tuple[Receipt, ...]:
    rows = conn.execute(
        sa.select(pms_command).where(which).order_by(pms_command.c.created_at, pms_command.c.id)
    )
    return tuple(
        Receipt(
            id=row.id,
            kind=row.kind,
            version=row.review_version,
            state=row.state,
            attempts=row.attempts,
            error=row.error,
            receipt=row.receipt,
            updated_at=row.updated_at,
        )
        for row in rows
    )


def _deliveries(conn: sa.Connection, study_id: str) -> tuple[Delivery, ...]:
    rows = conn.execute(
        sa.select(dicom_delivery, dicom_result.c.kind, dicom_result.c.review_version)
        .join(dicom_result, dicom_result.c.id == dicom_delivery.c.result_id)
        .where(dicom_result.c.study_id == study_id)
        .order_by(dicom_delivery.c.updated_at, dicom_delivery.c.id)
    )
    return tuple(
        Delivery(
            id=row.id,
            kind=row.kind,
            version=row.review_version,
            peer=row.peer,
            state=row.state,
            attempts=row.attempts,
            error=row.error,
            updated_at=row.updated_at,
        )
        for row in rows
    )
