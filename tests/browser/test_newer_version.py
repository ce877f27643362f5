"""A page open while the node is upgraded: it tells, keeps decisions, and reloads safely."""

from __future__ import annotations

import json
import re

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, Route, expect

from node.db.tables import finding
from node.web.assets import release

pytestmark = pytest.mark.browser

READY = "A newer version is ready. Nothing is lost."


def upgrade(page: Page) -> None:
    """From now on the node answers as one of another release does, with nothing of this one."""

    def answer(route: Route) -> None:
        told = route.fetch()
        route.fulfill(response=told, headers={**told.headers, "x-release": "f" * 16})

    page.route(re.compile("/api/(?!events)"), answer)
    page.route(f"**/static/{release().name}/**", lambda route: route.fulfill(status=404))


def states(clinic) -> list[str]:
    """The states of the suggestions, from left to right in the order they were stored."""
    return [row.state for row in clinic.rows(sa.select(finding).order_by(finding.c.id))]


@pytest.fixture
def study_id(clinic) -> str:
    made = clinic.add_study(clinic.add_patient("Sandbox", "Ada"))
    clinic.analyse(made)
    return made


def test_decisions_that_a_newer_node_refuses_wait_for_the_reload(
    clinic, study_id, reader, serious
) -> None:
    page = reader.page
    reader.open(study_id)
    upgrade(page)
    refusal = {"type": "invalid", "title": "The request is not as it must be.", "status": 422}
    headers = {"x-release": "f" * 16, "content-type": "application/problem+json"}
    page.route(
        "**/ops",
        lambda route: route.fulfill(status=422, headers=headers, body=json.dumps(refusal)),
    )
    reader.press("a")
    expect(page.get_by_role("alert").filter(has_text=READY)).to_be_visible()
    expect(page.get_by_text("1 change kept here, will be sent")).to_be_visible()
    reader.press("x")
    expect(page.get_by_text("2 changes kept here, will be sent")).to_be_visible()
    assert set(states(clinic)) == {"suggested"}
    size = page.evaluate("document.documentElement.scrollHeight")
    assert size <= 900, "the bar takes its place from the page"
    assert serious(page) == []
    reader.shot("newer-version")
    page.unroute_all()  # what is fetched from here on is the newer node's
    page.on("dialog", lambda dialog: dialog.accept())
    with page.expect_navigation():
        page.get_by_role("button", name="Reload").click()
    reader.settle()
    expect(page.get_by_text(READY)).to_be_hidden()
    assert sorted(states(clinic)) == ["accepted", "rejected", "suggested", "suggested"]


def test_a_locked_page_of_an_older_release_still_asks_for_the_password(
    clinic, study_id, reader
) -> None:
    reader.open(study_id)
    gone = "**/shared/lock.mjs"
    reader.page.route(gone, lambda route: route.fulfill(status=404), times=1)
    with reader.page.expect_navigation():
        reader.press("Shift+L")
    expect(reader.page.get_by_role("dialog", name="Locked")).to_be_visible()


def test_pages_without_a_live_stream_tell_too(clinic, reader) -> None:
    reader.page.goto(f"{clinic.url}/account")
    expect(reader.page.get_by_role("heading", name="Your account")).to_be_visible()
    assert reader.page.get_by_text(READY).count() == 0
    upgrade(reader.page)
    reader.page.evaluate("fromPage('shared/api.mjs').then((api) => api.call('/api/me'))")
    expect(reader.page.get_by_text(READY)).to_be_visible()
