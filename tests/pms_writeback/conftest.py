"""A sandbox practice on loopback, a node's configuration for it, and one matched study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.config import Config, read_config
from node.db.session import Actor, begin, new_id
from node.db.tables import patient, patient_identity, study
from node.dicom.instances import FolderStore
from node.domain.study import MatchState, StudyState, name_key
from pms_writeback.sandbox.server import SandboxHandle, running


@dataclass(frozen=True)
class Case:
    """One patient of the sandbox practice with a study that is certainly theirs."""

    patient_id: str
    patient_key: str
    study_id: str


@pytest.fixture
def office(tmp_path: Path) -> Iterator[SandboxHandle]:
    """Run a sandbox practice of 40 invented patients."""
    with running(tmp_path / "sandbox.sqlite") as handle:
        yield handle


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Make a folder for documents."""
    return FolderStore(tmp_path / "images")


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Config]:
    """Make a node's configuration for a sandbox practice."""

    def for_office(handle: SandboxHandle, location_id: str = "main", **pms: object) -> Config:
        return read_config(
            None,
            {},
            {
                "node": {
                    "location_id": location_id,
                    "time_zone": "America/New_York",
                    "data_dir": str(tmp_path / "data"),
                },
                "dicom": {
                    "stations": [
                        {"operatory": "OP1", "ae_title": "SENSOR1"},
                        {"operatory": "Operatory 2", "ae_title": "SENSOR2"},
                    ],
                    "default_station_ae_title": "ANYSENSOR",
                },
                "pms": {
                    "kind": "open_dental",
                    "base_url": handle.url,
                    "developer_key": handle.developer_key,
                    "customer_key": handle.customer_key,
                    **pms,
                },
            },
        )

    return for_office


@pytest.fixture
def config(office: SandboxHandle, configure: Callable[..., Config]) -> Config:
    """Give the node's configuration for the sandbox practice."""
    return configure(office)


@pytest.fixture
def add_case() -> Callable[..., Case]:
    """Add a patient, as if synced, with a study that was matched."""

    def add(db: sa.Engine, patient_key: str, location_id: str = "main") -> Case:
        case = Case(new_id(), patient_key, new_id())
        with begin(db, Actor("test", location_id), "test.case") as tx:
            where = {"location_id": location_id}
            tx.conn.execute(
                patient.insert().values(
                    id=case.patient_id, pms_key=patient_key, synced_at=tx.now, **where
                )
            )
            tx.conn.execute(
                patient_identity.insert().values(
                    patient_id=case.patient_id,
                    family_name="Example",
                    given_name="Robin",
                    birth_date=date(1980, 2, 3),
                    name_key=name_key("Example", "Robin"),
                    **where,
                )
            )
            tx.conn.execute(
                study.insert().values(
                    id=case.study_id,
                    study_instance_uid=f"1.2.3.{patient_key}",
                    state=StudyState.SIGNED.value,
                    match_state=MatchState.MATCHED.value,
                    patient_id=case.patient_id,
                    received_at=datetime(2026, 11, 21, 15, tzinfo=UTC),
                    last_image_at=datetime(2026, 11, 21, 15, tzinfo=UTC),
                    **where,
                )
            )
        return case

    return add
