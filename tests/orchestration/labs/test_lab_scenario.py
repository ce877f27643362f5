"""A lab case over simulated weeks: practice, laboratory, inbox and node, with what goes wrong."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.engine import DurableEngine
from orchestration.labs.package import read_package
from tests.orchestration.labs.lab_world import LabWorld, lab_world


@pytest.fixture
def world(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Iterator[LabWorld]:
    with lab_world(sqlite_database, engine, tmp_path) as running:
        yield running


def test_a_crown_from_preparation_to_invoice(world: LabWorld) -> None:
    world.prescribe()
    (job,) = world.lab.bench.jobs.values()
    rx = read_package(io.BytesIO(world.lab.bench.package(job.case_number))).rx
    assert rx.signature is not None
    assert (rx.dentist.name, rx.dentist.licence_number) == ("Ada Marsh DDS", "12345")
    assert [ref.name for ref in rx.attachments] == ["bite.stl", "opposing.stl", "prep.stl"]
    assert world.state == "sent", world.explain()

    world.hours(2)
    assert world.state == "acknowledged"
    (row,) = world.lab_cases()
    assert job.case_number in str(row["Instructions"])
    assert str(row["DateTimeSent"])[:10] == "2026-03-02"

    world.days(14)
    assert world.state == "shipped", world.explain()
    assert world.asked == "receive_case"
    assert any("SBX" in task for task in world.tasks())
    assert [text.partition(": ")[2].split(". ")[0] for text in world.texts()] == [
        "Your dental work has been sent to the laboratory",
        "The laboratory is making your dental work",
        "Your dental work is on its way to our office",
    ]
    world.decide()
    assert world.asked == "check_case"
    world.decide()
    world.pull()
    assert world.asked == "seat_case"
    (row,) = world.lab_cases()
    assert str(row["DateTimeRecd"])[:4] == "2026"
    assert str(row["DateTimeChecked"])[:4] == "2026"
    world.days(2)
    world.decide()
    assert world.result == "seated", world.explain()
    assert world.case.data["invoice"]["amount"] == "185.00"
    assert any("matched" in entry for entry in world.log())
