"""What a person chooses for their own screen does what it says, on the next page too."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.fixture
def chosen(clinic, reader):
    """A study whose reader has chosen everything that differs from the usual."""
    study_id = clinic.add_study(clinic.add_patient("Sandbox", "Ada"), images=2)
    clinic.analyse(study_id)
    reader.open(study_id)
    page = reader.page
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("FDI (46)").check()
    page.get_by_label("Strict: strong ones").check()
    page.get_by_label("Left", exact=True).check()
    for words in ("Read first", "Zoom to each", "Tooth numbers on the image", "No smoothing"):
        page.get_by_label(words).check()
    page.get_by_label("Single letters are commands").uncheck()
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    reader.open(study_id)
    return reader


def test_each_choice_does_what_it_says(chosen) -> None:
    page = chosen.page
    # strict from the start; what is hidden is counted
    expect(page.get_by_role("radio", name="strict")).to_be_checked()
    expect(page.get_by_text("below the line, still undecided")).to_be_visible()
    # the numbering, and the panel's side
    expect(page.locator(".card").first).to_contain_text("17")
    stage, panel = page.locator("#stage").bounding_box(), page.locator(".side").bounding_box()
    assert panel["x"] < stage["x"]
    # tooth numbers stand, and the view is at the finding
    expect(page.locator(".tooth text", has_text="17")).to_have_count(1)
    zoom = page.locator(".readout span").nth(1)
    fitted = zoom.inner_text()
    page.locator(".card").last.locator(".cardhead").click()
    expect(zoom).not_to_have_text(fitted)
    # letters are no commands, named keys are
    chosen.press("Escape", "x")
    expect(page.get_by_text("4 left", exact=True)).to_be_visible()
    chosen.press("PageDown")
    expect(page.locator(".thumb").nth(1)).to_have_attribute("aria-current", "true")
    # an image nobody has seen comes without marks, until its reader asks
    expect(page.locator("#stage").get_by_text("Marks hidden")).to_be_visible()
    page.get_by_role("button", name="Marks").click()
    expect(page.locator("#stage").get_by_text("Marks hidden")).to_have_count(0)


def test_the_usual_settings_come_back(chosen) -> None:
    page = chosen.page
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Usual settings").click()
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.locator(".card").first).to_contain_text("#2")
    chosen.press("a")
    expect(page.get_by_text("3 left", exact=True)).to_be_visible()
