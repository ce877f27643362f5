"""Two offices on one PostgreSQL database, side by side, without a leak."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from node.db.tables import (
    analysis_run,
    appointment,
    audit,
    event,
    instance,
    patient,
    pms_command,
    review,
    study,
    worklist_item,
)
from node.dicom.worklist_scu import query_worklist
from pms_writeback.sandbox.server import running
from tests.faults.running_node import NodeProcess, Reviewer, sample_study, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(280)]


@pytest.fixture
def offices(tmp_path: Path, postgresql_template: str) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    name = f"offices_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(postgresql_template.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE bitewing_template")
    url = postgresql_template.format(name)
    (tmp_path / "north").mkdir()
    (tmp_path / "south").mkdir()
    with (
        running(tmp_path / "north.sqlite") as north_pms,
        running(tmp_path / "south.sqlite") as south_pms,
    ):
        nodes = []
        for place, pms in (("north", north_pms), ("south", south_pms)):
            node = NodeProcess(tmp_path / place, pms, location_id=place, shared_database=url)
            (node.folder / "data").mkdir()
            node.add_dentist()
            node.start()
            nodes.append(node)
        yield nodes[0], nodes[1]
        for node in nodes:
            node.kill()
    with admin.connect() as conn:
        conn.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


def _place_of(node: NodeProcess, table: sa.Table) -> set[str]:
    return {row.location_id for row in node.rows(sa.select(table.c.location_id).distinct())}


def test_two_offices_share_a_database_without_a_leak(
    offices: tuple[NodeProcess, NodeProcess],
) -> None:
    north, south = offices
    step = north.send("bitewing-1")
    until(lambda: north.study_state(step.study_instance_uid) == "ready", 150, "north's analysis")
    assert south.scheduled(sample_study("bitewing-1").patient.id)
    assert _place_of(north, worklist_item) == {"north", "south"}
    for table in (study, instance, analysis_run):
        assert _place_of(north, table) == {"north"}, table.name

    north_uids = {s.study_instance_uid for s in query_worklist(north.peer)}
    south_uids = {s.study_instance_uid for s in query_worklist(south.peer)}
    assert north_uids
    assert south_uids
    assert not north_uids & south_uids

    study_id = str(north.rows(sa.select(study.c.id))[0].id)
    stranger = Reviewer(south.url)
    assert stranger.get(f"/api/studies/{study_id}").status_code == 404
    image_id = str(north.rows(sa.select(instance.c.id))[0].id)
    for what in ("pixels", "preview", "dicom"):
        assert stranger.get(f"/api/images/{image_id}/{what}").status_code == 404
    assert stranger.get("/api/worklist?filter=all").json()["rows"] == []
    cookie = httpx2.Client(base_url=south.url, cookies=north.sign_in().cookies)
    assert cookie.get("/api/me").status_code == 401

    before = len(south.sandbox.log())
    dentist = north.sign_in()
    dentist.decide_everything(study_id)
    dentist.sign(study_id)
    until(lambda: _is_charted(north), 120, "north's chart write")
    assert _place_of(north, pms_command) == _place_of(north, review) == {"north"}
    assert north.sandbox.rows("documents")
    assert not south.sandbox.rows("documents")
    assert not [entry for entry in south.sandbox.log()[before:] if entry.method == "POST"]

    for table in (patient, appointment, event, audit):
        assert _place_of(north, table) <= {"north", "south"}, table.name
    keys = [row.storage_key for row in north.rows(sa.select(instance.c.storage_key))]
    assert all(key.startswith("north/") for key in keys)
    assert not any((south.folder / "data" / "images").rglob("*.dcm"))


def _is_charted(node: NodeProcess) -> bool:
    states = {row.state for row in node.rows(sa.select(pms_command.c.state))}
    notes = node.count(pms_command, pms_command.c.review_version == 1)
    return bool(notes) and states == {"done"}
