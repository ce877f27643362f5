"""Open Dental's sandbox in a storm: each write lands exactly once, in order per patient."""

from __future__ import annotations

import pytest

from node.engine import DurableEngine
from tests.faults.office_storm import FAULTS, office_storm
from tests.faults.storm import ENGINE_KEY

pytestmark = [pytest.mark.faults, pytest.mark.timeout(280)]


@pytest.fixture
def still_engine(sqlite_database):
    url = sqlite_database.url.render_as_string(hide_password=False)
    opened = DurableEngine(url, ENGINE_KEY, "test-1")
    opened.connect()
    yield opened
    opened.close()


def test_writes_through_a_storm_land_exactly_once_in_order(sqlite_database, still_engine, tmp_path):
    with office_storm(tmp_path, sqlite_database, still_engine) as storm:
        report = storm.run(FAULTS, writes=60, faults=2 * len(FAULTS), patients=5)
    assert sum(report.faults.values()) == 2 * len(FAULTS)
    assert set(report.faults) == set(FAULTS)
    assert (report.missing, report.doubled, report.out_of_order) == (0, 0, 0)
    assert report.asked_a_person == 0
