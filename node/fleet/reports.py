"""Reports that locations sent to this node: the last of each, kept in a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx2
import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from node.config import Config
from node.db.session import Actor, begin, begin_group, read, upsert
from node.db.tables import fleet_report
from node.errors import Rejected, Retryable
from node.fleet.report import LocationReport
from node.outgoing import open_client

#: A location that has said nothing for so long is shown as silent.
SILENT = timedelta(minutes=10)
_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Kept:
    """The last report of one location, when it came and from which account."""

    report: LocationReport
    sender: str
    received_at: datetime

    def is_silent(self, now: datetime) -> bool:
        """Tell whether it is too old to be true."""
        return now - self.received_at > SILENT


def keep_report(db: sa.Engine, actor: Actor, sender: str, report: LocationReport) -> None:
    """Keep a report in the place of the last one of the same account and location.

    The first one is a row of the audit; what comes every minute after it is none.
    """
    columns = fleet_report.c
    values = {"report": report.model_dump(mode="json"), "received_at": datetime.now(UTC)}
    with begin_group(db) as conn:
        known = conn.execute(
            fleet_report.update()
            .where(
                columns.location_id == actor.location_id,
                columns.sender == sender,
                columns.reported_location == report.location_id,
            )
            .values(values)
        )
    if known.rowcount:
        return
    with begin(db, actor, "fleet.reported") as tx:
        first: dict[str, object] = {
            "location_id": tx.location_id,
            "sender": sender,
            "reported_location": report.location_id,
            **values,
        }
        upsert(tx.conn, fleet_report, ("location_id", "sender", "reported_location"), first)
        tx.record(f"location:{report.location_id}")


def kept_reports(db: sa.Engine, location_id: str) -> list[Kept]:
    """Read the last report of every location that reports here."""
    with read(db) as conn:
        rows = conn.execute(
            sa.select(fleet_report)
            .where(fleet_report.c.location_id == location_id)
            .order_by(fleet_report.c.reported_location, fleet_report.c.sender)
        )
        return [
            Kept(LocationReport.model_validate(row.report), row.sender, row.received_at)
            for row in rows
        ]


def send_report(config: Config, report: LocationReport) -> None:
    """Send how this location stands to ``[fleet] report_to``.

    Raises
    ------
    Retryable
        The other node is away; the next report says what this one would have said.
    Rejected
        It does not take our token or our report.
    """
    section = config.fleet
    headers = {"Authorization": f"Bearer {section.token.get_secret_value()}"}
    timeout = httpx2.Timeout(_TIMEOUT_S)
    reach = config.outgoing.reach("fleet")
    try:
        with open_client(
            reach, timeout=timeout, headers=headers, ca_file=section.ca_file
        ) as client:
            url = section.report_to.rstrip("/") + "/api/fleet/reports"
            answer = client.post(url, json=report.model_dump(mode="json"))
    except httpx2.HTTPError as error:
        raise Retryable(f"the fleet's node is away ({type(error).__name__})") from None
    if answer.status_code >= 500:
        raise Retryable(f"the fleet's node answered {answer.status_code}")
    if answer.status_code >= 300:
        raise Rejected(f"the fleet's node answered {answer.status_code}: look at [fleet] token")


@dataclass(frozen=True, slots=True)
class FleetCollector(Collector):
    """The age of every location's last report, for alerts."""

    db: sa.Engine
    location_id: str

    def collect(self) -> list[Metric]:
        """Read the last reports."""
        family = GaugeMetricFamily(
            "bitewing_fleet_report_age_seconds",
            "Since a location's last report",
            labels=["location"],
        )
        now = datetime.now(UTC)
        for kept in kept_reports(self.db, self.location_id):
            age = (now - kept.received_at).total_seconds()
            family.add_metric([kept.report.location_id], age)
        return [family]
