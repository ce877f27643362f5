"""From the schedule to the chart in each of the four systems, as far as its matrix says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
import sqlalchemy as sa

from node.config import Config, read_config
from node.db.session import begin, read
from node.db.tables import appointment, patient, pms_command, worklist_item
from node.domain.findings import Disposition, FindingKind
from node.engine import DurableEngine
from pms_writeback import outbox
from pms_writeback.command_rows import OPEN
from pms_writeback.curve import sandbox as curve
from pms_writeback.pms import BookAppointment, Capability, Command, Pms, Support, UploadDocument
from pms_writeback.practice import open_pms
from pms_writeback.sandbox.server import running
from pms_writeback.sync import ScheduleSync
from tests.orchestration.practice import ACTOR, Practice, until
from tests.pms_writeback.bridge_world import clinic
from tests.roll_out import acknowledge


@dataclass
class System:
    """One vendor's sandbox: how to reach it, and every text that is in its charts."""

    config: Config
    pms: Pms
    patient_key: str
    texts: Callable[[], list[str]]


@contextmanager
def open_dental(folder: Path, _db: sa.Engine) -> Iterator[System]:
    with running(folder / "pms.sqlite") as office:
        config = configured(
            folder,
            kind="open_dental",
            base_url=office.url,
            developer_key=office.developer_key,
            customer_key=office.customer_key,
        )

        def texts() -> list[str]:
            columns = {"procnotes": "Note", "commlogs": "Note", "tasks": "Descript"}
            columns |= {"documents": "Description", "appointments": "Note"}
            return [str(row[name]) for kind, name in columns.items() for row in office.rows(kind)]

        yield System(config, opened(config), "2", texts)


@contextmanager
def bridged(kind: str, folder: Path, db: sa.Engine) -> Iterator[System]:
    with clinic(folder, db, kind) as world:
        world.connect()
        yield System(
            world.config, world.pms, "2", lambda: [each.text for each in world.office.entries()]
        )


@contextmanager
def through_a_partner(folder: Path, _db: sa.Engine) -> Iterator[System]:
    with curve.running(folder / "partner.sqlite") as (address, partner):
        config = configured(
            folder,
            kind="curve",
            base_url=address,
            customer_key=curve.API_KEY,
            subdomain=curve.SUBDOMAIN,
            partner_location=str(curve.LOCATION),
        )
        pms = opened(config)
        today = datetime.now(UTC).date()
        visits = pms.appointments(today, today + timedelta(days=1))

        def texts() -> list[str]:
            rows = [*partner.store.rows("documents"), *partner.store.rows("appointments")]
            return [f"ref:{part}" for row in rows for part in str(row).split() if "BW-" in part]

        yield System(config, pms, visits[0].patient_key, texts)


def configured(folder: Path, **pms: str) -> Config:
    node = {"data_dir": folder, "time_zone": "America/New_York", "mode": "assist"}
    return read_config(environment={}, overrides={"node": node, "pms": pms})


def opened(config: Config) -> Pms:
    pms = open_pms(config)
    assert pms is not None
    return pms


SYSTEMS = {
    "open_dental": open_dental,
    "dentrix": lambda folder, db: bridged("dentrix", folder, db),
    "eaglesoft": lambda folder, db: bridged("eaglesoft", folder, db),
    "curve": through_a_partner,
}


@pytest.fixture(params=list(SYSTEMS))
def system(request, tmp_path: Path, sqlite_database: sa.Engine) -> Iterator[System]:
    with SYSTEMS[request.param](tmp_path, sqlite_database) as running_system:
        yield running_system


class AnyPractice(Practice):
    """A node beside whichever system."""

    def __init__(self, system: System, db: sa.Engine, engine: DurableEngine, folder: Path) -> None:
        self.patient_key = system.patient_key
        self._set_up(db, engine, folder, system.config, system.pms)
        acknowledge(db)

    def queue(self, key: str, command: Command) -> None:
        with begin(self.db, ACTOR, "test.queue") as tx:
            outbox.queue(
                tx,
                self.engine,
                self.store,
                key=key,
                command=command,
                patient_id=str(self.patient_id),
            )

    def is_settled(self) -> bool:
        return not self.states() & {state.value for state in OPEN}

    def commands(self) -> list[sa.Row]:  # type: ignore[type-arg]
        with read(self.db) as conn:
            return list(conn.execute(sa.select(pms_command)).all())


def can_take(capability: Capability, command: object) -> bool:
    """Read the matrix: supported, and for Curve's documents a PDF."""
    is_pdf_only = capability.reason.startswith("PDF only")
    extension = command["extension"] if isinstance(command, dict) and is_pdf_only else ".pdf"
    return capability.support is Support.SUPPORTED and extension == ".pdf"


def test_from_the_schedule_to_the_chart(
    system: System, sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path
) -> None:
    practice = AnyPractice(system, sqlite_database, engine, tmp_path)
    with read(sqlite_database) as conn:
        scheduled = conn.execute(
            sa.select(worklist_item.c.id)
            .join(appointment, appointment.c.id == worklist_item.c.appointment_id)
            .join(patient, patient.c.id == appointment.c.patient_id)
            .where(patient.c.pms_key == system.patient_key)
        ).all()
    assert scheduled, "the visit is on the worklist"

    practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.RESTORE))
    until(lambda: practice.commands() and practice.is_settled())
    known = system.pms.capabilities()
    kinds = {each.__name__: each for each in get_args(Command)}
    for row in practice.commands():
        capability = known.of(kinds[row.kind])
        expected = "done" if can_take(capability, row.payload["command"]) else "declined"
        assert (row.kind, row.state) == (row.kind, expected), row.error
        if expected == "declined":
            assert row.error, "a person is told why"
    written = [row for row in practice.commands() if row.state == "done"]
    assert UploadDocument.__name__ in {row.kind for row in written}, "the report reaches them all"
    held = " ".join(system.texts())
    for row in written:
        assert row.ref in held

    start = (datetime.now(UTC) + timedelta(days=2)).replace(hour=23, minute=0, second=0)
    start = start.replace(microsecond=0)  # after hours in the practice: the room is free
    ref = outbox.ref_for("main", "visit")
    room, provider = system.pms.operatories()[0].key, system.pms.providers()[0].key
    booking = BookAppointment(system.patient_key, start, 30, room, provider, "seat crown", ref)
    practice.queue("visit", booking)
    until(practice.is_settled)
    assert [row.state for row in practice.commands() if row.ref == ref] == ["done"]
    assert known.of(BookAppointment).support is Support.SUPPORTED

    def is_on_the_schedule() -> bool:
        ScheduleSync(sqlite_database, system.pms, system.config).run_once(datetime.now(UTC))
        with read(sqlite_database) as conn:
            found = conn.execute(
                sa.select(appointment.c.patient_id).where(appointment.c.start_at == start)
            ).scalars()
            return practice.patient_id in set(found)

    until(is_on_the_schedule)
