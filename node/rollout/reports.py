"""Comparison reports: how what the models said in silence agrees with what dentists did alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from node.db.session import Tx, new_id
from node.db.tables import rollout_report
from node.domain.plain_json import decode, encode
from node.domain.review import Json

FORMAT = "bitewing-rollout-report/1"


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval; None where nothing was counted."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def words(self) -> str:
        """Write the share with its interval."""
        if self.value is None:
            return "–"
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """One kind of finding on one view, counted once per ``tooth`` or per ``surface`` and image.

    ``signed`` is what the dentist marked or charted, ``said`` what the models said, ``both`` the
    same tooth in both. ``sensitivity`` is both of signed, ``precision`` both of said. ``is_few``:
    the figures mean nothing yet.
    """

    kind: str
    view: str
    level: str
    studies: int
    signed: int
    said: int
    both: int
    sensitivity: Share
    precision: Share
    is_few: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What was compared, on how much, with what result; no name of anybody."""

    source: str  # silent | pilot
    studies: int
    patients: int
    images: int
    views: tuple[tuple[str, int], ...] = ()  # studies with an image of each view
    rows: tuple[AgreementRow, ...] = ()
    shown: tuple[str, ...] = ()  # kinds that readers saw, which are not compared
    models: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Encode for the table and the file."""
        encoded = encode(self)
        assert isinstance(encoded, dict)
        return {"format": FORMAT, **encoded}

    @classmethod
    def from_json(cls, data: Json) -> Report:
        """Decode what :meth:`to_json` wrote; raises InvalidInput."""
        return decode(cls, {name: value for name, value in data.items() if name != "format"})


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A report as it is kept."""

    id: str
    made_at: datetime
    made_by: str
    report: Report


def keep(tx: Tx, report: Report) -> str:
    """Keep a report; return its id."""
    report_id = new_id()
    tx.conn.execute(
        rollout_report.insert().values(
            id=report_id,
            location_id=tx.location_id,
            source=report.source,
            studies=report.studies,
            content=report.to_json(),
            made_by=tx.actor.name,
            made_at=tx.now,
        )
    )
    tx.record(f"report:{report_id}", source=report.source, studies=report.studies)
    return report_id


def read_reports(conn: sa.Connection, location_id: str, most: int = 10) -> Sequence[KeptReport]:
    """Read the latest reports, the last first."""
    rows = conn.execute(
        sa.select(rollout_report)
        .where(rollout_report.c.location_id == location_id)
        .order_by(rollout_report.c.made_at.desc(), rollout_report.c.id)
        .limit(most)
    )
    return [
        KeptReport(row.id, row.made_at, row.made_by, Report.from_json(row.content)) for row in rows
    ]


def studies_compared(
    conn: sa.Connection, location_id: str, kind: str, view: str, models: frozenset[str]
) -> int:
    """Count the studies on which the best of the latest reports compared a kind of finding.

    Only reports about none but `models` count. A kind neither said nor marked was compared all the
    same, unless it was shown. `kind` empty asks for every kind, `view` empty for all views.
    """
    counts = [
        _compared(kept.report, kind, view)
        for kept in read_reports(conn, location_id)
        if set(kept.report.models) <= models
    ]
    return max(counts, default=0)


def _compared(report: Report, kind: str, view: str) -> int:
    if report.shown and (not kind or kind in report.shown):
        return 0
    return dict(report.views).get(view, 0) if view else report.studies
