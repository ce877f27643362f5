"""What the killed child does: a lab case from its start until it is sent and seated.

The practice's system is away in these runs, so that every commit is one of the case's own; the
laboratory is a program of its own that keeps its bench on the disk.
"""

from __future__ import annotations

import json
import struct
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from node.config import read_config
from node.db.migrate import migrate
from node.db.session import begin, insert_once, open_database, read
from node.db.tables import (
    appointment,
    approval,
    patient,
    patient_identity,
    pms_record,
    user_account,
    workflow_case,
)
from node.domain.rights import Right
from node.errors import Conflict
from orchestration import approvals, cases
from orchestration.cases import CaseState
from orchestration.labs.sandbox.server import LabHandle, running_lab
from orchestration.workflow import Start
from orchestration.workflows import lab_case
from tests.conftest import launch, make_engine
from tests.orchestration.clockwork import ACTOR, NINE, Clockwork, until
from tests.orchestration.labs.lab_world import MISSING, merged

KEY = "LC-0123456789ab"
_ID = "0" * 31


def work(folder: Path) -> None:
    db = open_database(f"sqlite:///{folder / 'bitewing.sqlite'}")
    migrate(db)
    engine = make_engine(db)
    made: list[Clockwork] = []

    def clock() -> datetime:
        return made[0].now if made else NINE

    with running_lab(folder / "lab", clock=clock) as lab:
        config = _sections(folder, lab)
        node = {"node": {"data_dir": folder, "time_zone": "America/New_York"}}
        made_for = read_config(environment={}, overrides={**config, **node})
        world = Clockwork(db, engine, folder, lab_case.make(made_for), now=NINE, **config)
        made.append(world)
        launch(engine)
        world.runner.heal()
        _fill(db, folder)
        with begin(db, ACTOR, "test") as tx:
            flow = world.runner.workflows["lab_case"]
            cases.start(tx, engine, flow, Start(KEY, f"{_ID}1", {"procedures": ["7"]}))
        case_id = world.find(flow, KEY)
        kept = folder / "now"  # time does not go back when the process starts anew
        if kept.exists():
            world.now = datetime.fromisoformat(kept.read_text())

        def has_ended() -> bool:
            lab.bench.tick()
            world.settle()
            state = world.state(case_id)
            assert state is not CaseState.PARKED, world.case(case_id).error
            if state is CaseState.ASKING:
                _decide(world, case_id)
            elif state is not CaseState.DONE:
                world.pass_time(days=1)
                kept.write_text(world.now.isoformat())
            return world.state(case_id) is CaseState.DONE

        until(has_ended, 120)
    engine.close(wait_s=1)


def _sections(folder: Path, lab: LabHandle) -> dict[str, Any]:
    return {
        "workflows": {"modes": {"lab_case": "assist"}},
        "labs": {
            "practice_address": "1 Main Street",
            "contact": "Pat",
            "infection_control": "disinfected",
            "poll_hours": 48,
            "scans_dir": str(folder / "scans"),
            "partners": [lab.settings()],
            "prescribers": [
                {"user": "marsh", "provider": "1", "name": "A", "licence_number": "1"},
            ],
        },
    }


def _fill(db: sa.Engine, folder: Path) -> None:
    """Put patient, procedure, visit and dentist into the tables, as a sync would; once."""
    scans = folder / "scans" / "41"
    scans.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("prep.stl", "opposing.stl", "bite.stl"), start=1):
        content = bytes(80) + struct.pack("<I", number) + bytes(50 * number)
        if not (scans / name).exists():
            (scans / name).write_bytes(content)
    here: dict[str, object] = {"location_id": "main"}
    rows: list[tuple[sa.Table, dict[str, object]]] = [
        (patient, {"id": f"{_ID}1", "pms_key": "41", "synced_at": NINE}),
        (patient_identity, {"patient_id": f"{_ID}1", "family_name": "I", "given_name": "A",
                            "birth_date": date(1980, 1, 2), "sex": "F", "name_key": "I^A"}),
        (appointment, {"id": f"{_ID}2", "pms_key": "9", "patient_id": f"{_ID}1",
                       "start_at": NINE + timedelta(days=20), "duration_min": 60,
                       "provider_key": "1", "operatory_key": "1", "status": "scheduled",
                       "accession_number": "A1", "study_instance_uid": "1.2.3",
                       "synced_at": NINE}),
        (user_account, {"id": f"{_ID}3", "username": "marsh", "display_name": "A",
                        "role": "dentist", "password_hash": "-"}),
        (pms_record, {"id": f"{_ID}4", "kind": "procedure", "pms_key": "7", "patient_key": "41",
                      "clinic_key": "", "digest": "d", "raw": {}, "synced_at": NINE,
                      "record": {"cdt_code": "D2740", "status": "C", "tooth": "19",
                                 "surfaces": "", "tooth_range": "", "day": "2026-03-02",
                                 "provider_key": "1", "appointment_key": ""}}),
    ]  # fmt: skip
    with begin(db, ACTOR, "test.filled") as tx:
        for table, row in rows:
            insert_once(tx.conn, table, {**here, **row})


def _decide(world: Clockwork, case_id: str) -> None:
    with read(world.db) as conn:
        asked = conn.execute(
            sa.select(approval).where(approval.c.case_id == case_id, approval.c.state == "waiting")
        ).first()
    if asked is None:
        return
    draft, verdict, reason = None, "approved", ""
    if asked.kind == "complete_prescription":
        verdict, reason = "edited", "completed"
        draft = {**asked.draft, "rx": merged(asked.draft["rx"], MISSING)}
    try:
        with begin(world.db, ACTOR, "test") as tx:
            approvals.decide(
                tx, world.engine, world.runner.workflows, asked.id, by=f"{_ID}3",
                rights=frozenset(Right), verdict=verdict, draft=draft, reason=reason,
            )  # fmt: skip
    except Conflict:
        return


def ended(folder: Path) -> list[tuple[str, str, str]]:
    """Give state, result and laboratory state of every case."""
    db = open_database(f"sqlite:///{folder / 'bitewing.sqlite'}")
    with read(db) as conn:
        rows = conn.execute(sa.select(workflow_case)).all()
    db.dispose()
    return [(row.state, row.stage, row.data["standing"]["state"]) for row in rows]


def packages(folder: Path) -> list[int]:
    """Say how often the package of each case arrived at the laboratory."""
    kept = json.loads((folder / "lab" / "bench.json").read_text())
    return [job["packages"] for job in kept["jobs"]]
