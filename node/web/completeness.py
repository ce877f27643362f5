"""Did the images arrive that the schedule asks for? By view where that is known, else by number.

The views are the models' word, checked when the study was finished (`node.domain.completeness`,
with an entry in the audit); where AI content is not shown, images are only counted.
"""

from __future__ import annotations

import sqlalchemy as sa

from node.db.tables import worklist_item
from node.domain.reading import Arrival, StudyReading
from node.domain.study import MatchState, StudyState
from node.web.facts import Facts


def completeness(
    conn: sa.Connection, facts: Facts, reading: StudyReading | None
) -> tuple[str, ...]:
    """Say in words when a complete study has fewer or more images than its visit's procedures ask.

    Silent while images are arriving, while the patient is in doubt, and where a procedure fixes no
    number (`node.domain.schedule.IMAGING_CODES`).
    """
    row = facts.study
    if row.state == StudyState.RECEIVING.value or row.appointment_id is None:
        return ()
    if not MatchState(row.match_state).is_certain:
        return ()
    if reading is not None and reading.facts.procedures:
        checks = reading.facts.procedures
        return tuple(check.words for check in checks if check.state is not Arrival.COMPLETE)
    asked = [
        item.expected_images
        for item in conn.execute(
            sa.select(worklist_item.c.expected_images).where(
                worklist_item.c.appointment_id == row.appointment_id
            )
        )
    ]
    if not asked or None in asked:
        return ()
    expected, arrived = sum(asked), len(facts.readable)
    if arrived == expected:
        return ()
    come = f"{arrived} readable image{'' if arrived == 1 else 's'}"
    if arrived < expected:
        return (f"{come} of the {expected} that today's procedures ask for: is one missing?",)
    return (f"{come}; today's procedures ask for {expected}: is one a retake?",)
