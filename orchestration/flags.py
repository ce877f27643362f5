"""The tasks that flag an unsigned study in the PMS, and closing them where they stand."""

from __future__ import annotations

import sqlalchemy as sa

from node.db.tables import patient, pms_command
from pms_writeback.pms import CloseTask, CreateTask

_PREFIX = "flag:"


def flag_key(study_id: str, generation: int, patient_id: str) -> str:
    """Key of the task that flags one generation of a study in one patient's chart."""
    return f"{_PREFIX}{study_id}:{generation}:{patient_id}"


def closing_commands(
    conn: sa.Connection, study_id: str, *, but_of: str = ""
) -> list[tuple[str, str, CloseTask]]:
    """Close the flags of a study, each in the chart where it was made; patient `but_of` excepted.

    Returns (patient id, key, command). The study may have been linked to another patient since.
    """
    flags = conn.execute(
        sa.select(pms_command.c.key, pms_command.c.ref, pms_command.c.patient_id, patient.c.pms_key)
        .join(patient, patient.c.id == pms_command.c.patient_id)
        .where(
            pms_command.c.study_id == study_id,
            pms_command.c.kind == CreateTask.__name__,
            pms_command.c.key.like(f"{_PREFIX}%"),
            pms_command.c.patient_id != but_of,
        )
        .order_by(pms_command.c.created_at)
    ).all()
    return [(f.patient_id, f"close:{f.key}", CloseTask(f.pms_key, f.ref)) for f in flags]
