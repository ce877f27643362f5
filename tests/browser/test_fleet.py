"""Locations report to one node, whose page shows how each stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import gettempdir

import pytest
import sqlalchemy as sa
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import expect

from node.config import read_config
from node.db.session import Actor, begin, read
from node.db.tables import audit, fleet_report, instance
from node.domain.rights import Right, Role
from node.errors import ConfigError, Rejected, Retryable
from node.fleet.report import compose_report
from node.fleet.reports import FleetCollector, kept_reports, send_report
from node.fleet.routes import make_router
from node.status import Status
from node.web.accounts import create_user
from node.web.tokens import Tokens

pytestmark = pytest.mark.browser


@pytest.fixture
def office(sqlite_database, tmp_path, open_clinic):
    """The node that shows all; it also is a location itself."""
    config = read_config(
        environment={},
        overrides={"node": {"data_dir": tmp_path, "practice_name": "Head Office Dental"}},
    )
    clinic = open_clinic(routers=[make_router(Status(sqlite_database, config))])
    clinic.add_user("sky", "Sky Admin", Role.ADMIN)
    return clinic


@pytest.fixture
def token(office):
    return service_token(office, "north-office", Right.FLEET_REPORT)


def service_token(office, name: str, right: Right) -> str:
    sky = Actor("sky", "main")
    account = create_user(
        office.db, sky, username=name, display_name=name, role=Role.SERVICE.value, password=""
    )
    return Tokens(office.db, "main").issue(sky, account, "fleet", [right], 90)[1]


def north(url: str, token: str, **values: object):
    """What the node of the northern location is told of the fleet."""
    name = "Northern Dental with a rather long name"
    node = {"location_id": "north", "practice_name": name, "data_dir": Path(gettempdir())}
    fleet = {"report_to": url, "token": token, **values}
    return read_config(environment={}, overrides={"node": node, "fleet": fleet})


def report(office, config, **values):
    values = {"free_bytes": 7_000_000_000, **values}
    return compose_report(Status(office.db, config)).model_copy(update=values)


def enter(reader, name: str):
    reader.page.goto(f"{reader.clinic.url}/login?next=/fleet")
    reader.page.get_by_label("User name").fill(name)
    reader.page.get_by_label("Password").fill("correct horse battery")
    reader.page.keyboard.press("Enter")
    return reader.page


def test_a_location_reports_and_is_seen_with_what_needs_a_look(office, token, open_reader) -> None:
    study_id = office.add_study(office.add_patient("Sandbox", "Ada"), images=2)
    with begin(office.db, Actor("test", "main"), "test") as tx:
        tx.conn.execute(
            instance.update()
            .where(instance.c.study_id == study_id)
            .values(sender_ae_title="CHAIR1")
        )
    config = north(office.url, token)
    send_report(config, report(office, config, is_paused=True))
    send_report(config, report(office, config, is_paused=True))
    (kept,) = kept_reports(office.db, "main")
    assert (kept.report.location_id, kept.sender) == ("north", "north-office")
    reader = open_reader(office)
    page = enter(reader, "sky")
    rows = page.get_by_role("row")
    expect(rows).to_have_count(3)
    expect(page.get_by_role("row", name="Northern")).to_contain_text("outbound paused")
    expect(page.get_by_role("row", name="Head Office")).to_contain_text("CHAIR1")
    expect(page.get_by_role("row", name="Head Office")).to_contain_text("1 to review")
    found = Axe().run(page)["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    reader.shot("fleet")
    text = page.content()
    assert "Ada" not in text
    with read(office.db) as conn:
        noted = conn.execute(sa.select(audit).where(audit.c.action == "fleet.reported")).all()
    assert {row.subject for row in noted} == {"location:north"}
    assert len(noted) == 1


def test_a_location_that_falls_silent_comes_first_and_raises_the_metric(
    office, token, open_reader
) -> None:
    config = north(office.url, token)
    send_report(config, report(office, config))
    with begin(office.db, Actor("test", "main"), "test") as tx:
        old = datetime.now(UTC) - timedelta(hours=2)
        tx.conn.execute(fleet_report.update().values(received_at=old))
    page = enter(open_reader(office), "sky")
    expect(page.get_by_role("row").nth(1)).to_contain_text("silent")
    (family,) = FleetCollector(office.db, "main").collect()
    assert family.samples[0].value >= 7200
    assert family.samples[0].labels == {"location": "north"}


def test_who_may_neither_report_nor_look(office, token, open_reader) -> None:
    for wrong in ("bwt_unknown", token[:-2] + "xx"):
        config = north(office.url, wrong)
        with pytest.raises(Rejected, match="401"):
            send_report(config, report(office, config))
    config = north(office.url, service_token(office, "south-office", Right.WORKLIST_SEE))
    with pytest.raises(Rejected, match="403"):
        send_report(config, report(office, config))
    reader = open_reader(office)
    reader.sign_in("lin")
    answer = reader.page.request.get(f"{office.url}/api/fleet")
    assert answer.status == 403


def test_a_node_that_is_away_or_inside_another_network_is_told_apart(office, token) -> None:
    config = north("http://127.0.0.1:9", token)
    with pytest.raises(Retryable, match="away"):
        send_report(config, report(office, config))
    config = north("https://169.254.169.254", token)
    with pytest.raises(ConfigError, match="private_networks"):
        send_report(config, report(office, config))


def test_what_is_no_report_is_refused_whole(office, token, open_reader) -> None:
    page = open_reader(office).page
    config = north(office.url, token)
    whole = report(office, config).model_dump(mode="json")
    headers = {"Authorization": f"Bearer {token}"}
    for change in ({"location_id": "../x"}, {"status": "<b>"}, {"queues": {"a": "many"}}):
        answer = page.request.post(
            f"{office.url}/api/fleet/reports", data={**whole, **change}, headers=headers
        )
        assert answer.status in (400, 422)
    assert kept_reports(office.db, "main") == []
