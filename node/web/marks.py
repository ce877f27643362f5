"""Findings as the page draws them: from rows, and from what was signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import sqlalchemy as sa

from node.db.tables import operation, review, user_account
from node.domain.findings import FindingKind
from node.domain.review import Json, SignedFinding, SignedReview, finding_to_json
from node.domain.teeth import Tooth
from node.web.accounts import Session
from node.web.facts import SUGGESTED, Row
from node.web.sensitivity import stop_of
from node.web.shapes import Finding, GeometryShape, Model, Original, Proposal


def finding_shape(
    row: Row, session: Session, display_name: str | None, proposal: Proposal | None = None
) -> Finding:
    """Describe one row of :func:`node.web.facts.finding_rows`; `display_name` decided it."""
    kind = FindingKind(row.kind)
    return Finding(
        id=row.id,
        image_id=row.instance_id,
        origin=row.origin,
        kind=row.kind,
        letter=kind.letter,
        is_disease=kind.is_disease,
        tooth=row.tooth,
        universal=universal(row.tooth),
        surfaces=row.surfaces,
        depth=row.depth,
        value_mm=row.value_mm,
        value_percent=row.value_percent,
        probability=row.probability,
        stop=stop_of(row.kind, row.probability, row.operating_points),
        geometry=GeometryShape.model_validate(row.geometry),
        model=Model.model_validate(row.model) if row.model else None,
        original=_original(row.original),
        state=row.state,
        disposition=row.disposition,
        reason=row.reason,
        comment=row.comment,
        proposal=proposal if row.state == SUGGESTED else None,
        decided_by=display_name,
        decided_by_me=row.decided_by == session.user_id,
        decided_at=row.decided_at,
        is_removed=row.is_removed,
        rev=row.rev,
    )


def finding_shapes(conn: sa.Connection, session: Session, rows: Iterable[Row]) -> list[Finding]:
    """Describe the findings of one study with what others proposed for them."""
    listed = list(rows)
    proposed = proposals(conn, listed[0].study_id) if listed else {}
    return [finding_shape(row, session, row.display_name, proposed.get(row.id)) for row in listed]


def signed_shapes(session: Session, signed: SignedReview) -> list[Finding]:
    """Describe what was signed, for those who may not see anything unsigned."""
    return [_signed_shape(session, signed, item) for item in signed.findings]


def proposals(conn: sa.Connection, study_id: str) -> dict[str, Proposal]:
    """Read the last proposal for each finding of a study."""
    rows = conn.execute(
        sa.select(operation, user_account.c.display_name)
        .join(user_account, user_account.c.id == operation.c.user_id)
        .where(operation.c.study_id == study_id, operation.c.kind.in_(("accept", "reject")))
        .order_by(operation.c.at)
    )
    return {
        row.finding_id: Proposal(
            kind=row.kind,
            reason=str(row.data.get("reason") or ""),
            by=row.display_name,
            at=row.at,
        )
        for row in rows
        if row.outcome.get("status") == "proposed"
    }


def read_reviews(conn: sa.Connection, study_id: str) -> list[SignedReview]:
    """Read the signed versions of a study, first to last."""
    contents = conn.execute(
        sa.select(review.c.content).where(review.c.study_id == study_id).order_by(review.c.version)
    ).scalars()
    return [SignedReview.from_json(content) for content in contents]


def universal(tooth: str | None) -> str | None:
    """Number a tooth as US practices read it."""
    return Tooth(tooth).universal if tooth else None


def _original(data: Json | None) -> Original | None:
    if data is None:
        return None
    fields: Sequence[str] = tuple(Original.model_fields)
    return Original.model_validate({name: data.get(name) for name in fields})


def _signed_shape(session: Session, signed: SignedReview, item: SignedFinding) -> Finding:
    content = cast("Mapping[str, object]", finding_to_json(item.finding))
    tooth = item.finding.tooth
    return Finding.model_validate(
        {
            **content,
            "id": item.id,
            "image_id": item.instance_id,
            "origin": item.origin,
            "letter": item.finding.kind.letter,
            "is_disease": item.finding.kind.is_disease,
            "universal": tooth.universal if tooth else None,
            "original": None,
            "stop": "strict",
            "state": item.state.value,
            "disposition": item.disposition.value if item.disposition else None,
            "reason": "",
            "comment": item.comment,
            "proposal": None,
            "decided_by": signed.signer_name,
            "decided_by_me": signed.signer_id == session.user_id,
            "decided_at": signed.signed_at,
            "is_removed": False,
            "rev": 1,
        }
    )
