"""Whether something composed earlier holds more than is shown now."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from node.config import Config
from node.db.tables import analysis_run, finding, rollout_acknowledgement, rollout_rule
from node.rollout.showing import study_showing


def holds_back(conn: sa.Connection, config: Config, study_id: str, since: datetime) -> bool:
    """Whether a study has silent suggestions now, after the roll-out changed since a moment.

    A report composed at `since` left out what was silent then; only a change can make it tell more
    than is shown.
    """
    showing = study_showing(conn, config, study_id)
    if not showing.is_any:
        return True
    if not _has_changed(conn, config.node.location_id, since):
        return False
    rows = conn.execute(
        sa.select(finding, analysis_run.c.view.label("run_view"))
        .outerjoin(analysis_run, analysis_run.c.id == finding.c.run_id)
        .where(finding.c.study_id == study_id, sa.not_(finding.c.is_removed))
    )
    return not all(showing.keeps(row, row.run_view) for row in rows)


def _has_changed(conn: sa.Connection, location_id: str, since: datetime) -> bool:
    rules, given = rollout_rule.c, rollout_acknowledgement.c
    changed = sa.union_all(
        sa.select(rules.id).where(
            rules.location_id == location_id,
            sa.or_(rules.set_at >= since, rules.ended_at >= since),
        ),
        sa.select(given.id).where(given.location_id == location_id, given.withdrawn_at >= since),
    )
    return conn.execute(changed.limit(1)).first() is not None
