"""Two signed versions beside each other."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"


def sign(reader, version: int, reason: str = "") -> None:
    reader.settle()
    reader.press("Control+Enter")
    page = reader.page
    page.get_by_label("Password of Dr. Mei Lin").fill(PASSWORD)
    if reason:
        page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Sign Enter").click()
    expect(page.get_by_text(f"Signed, version {version}.", exact=True)).to_be_visible()


def test_an_amended_version_stands_beside_the_first(clinic, reader, serious) -> None:
    study_id = clinic.add_study(clinic.add_patient("Sandbox", "Ada"))
    clinic.analyse(study_id)
    reader.open(study_id)
    page = reader.page
    reader.press("a", "a", "a", "x", "1")
    expect(page.get_by_text("all decided", exact=True)).to_be_visible()
    sign(reader, 1)
    expect(page.get_by_role("button", name="Differences")).to_have_count(0)

    page.get_by_role("button", name="Amend", exact=True).click()
    page.get_by_label("Reason").fill("Tooth number was wrong")
    reader.press("Enter")
    expect(page.get_by_text("Amending: version 2 is open.")).to_be_visible()
    page.locator(".card", has_text="#2").locator(".cardhead").first.click()
    reader.press("g", "1", "v", "4")
    expect(page.locator(".card.selected")).to_contain_text("D2")
    sign(reader, 2)

    page.get_by_role("button", name="Differences").click()
    dialog = page.get_by_role("dialog", name="Signed versions")
    expect(dialog.get_by_role("status")).to_have_text("1 of 3 findings differs.")
    expect(dialog.locator("tr.differs")).to_have_count(1)
    expect(dialog.locator("tr.differs")).to_contain_text("depth: D1 → D2")
    expect(dialog.locator("tr.differs")).to_contain_text("plan: no plan → Watch")
    expect(dialog).to_contain_text("Reason: Tooth number was wrong")
    assert serious(page) == []
    reader.shot("versions")
    dialog.get_by_label("Later version").select_option("0")
    expect(dialog.get_by_role("status")).to_have_text("No finding differs.")
