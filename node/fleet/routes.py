"""The fleet's routes: locations report, and whoever runs them looks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends

from node.domain.rights import Right
from node.fleet.report import LocationReport, compose_report
from node.fleet.reports import Kept, keep_report, kept_reports
from node.status import Status
from node.web.accounts import Session
from node.web.auth import require


def make_router(status: Status) -> APIRouter:
    """Make ``POST /api/fleet/reports`` and ``GET /api/fleet``; `status` says how we stand."""
    db, location_id = status.db, status.config.node.location_id
    router = APIRouter(prefix="/api/fleet")

    @router.post("/reports", status_code=204)
    def take(
        report: LocationReport, session: Annotated[Session, Depends(require(Right.FLEET_REPORT))]
    ) -> None:
        keep_report(db, session.actor, session.username, report)

    @router.get("")
    def show(
        session: Annotated[Session, Depends(require(Right.FLEET_SEE))],
    ) -> dict[str, object]:
        now = datetime.now(UTC)
        ours = Kept(compose_report(status), "", now)
        found = [ours, *kept_reports(db, location_id)]
        return {
            "locations": [
                {
                    **each.report.model_dump(mode="json"),
                    "received_at": each.received_at.isoformat(),
                    "is_silent": each.is_silent(now),
                    "is_here": each is ours,
                    "sender": each.sender,
                }
                for each in found
            ]
        }

    return router
