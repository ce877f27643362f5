"""A link to the sign-in page leads on to a page of this node, however it is written."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

PASSWORD = "correct horse battery"


# Browsers take blanks out of an address: "/<tab>/host" is another host.
@pytest.mark.parametrize("astray", ["/%09/elsewhere.invalid/", "/%0A/elsewhere.invalid/"])
def test_a_sign_in_never_leads_elsewhere(clinic, open_reader, astray: str) -> None:
    reader = open_reader(clinic)
    reader.page.goto(f"{reader.clinic.url}/login?next={astray}")
    reader.page.get_by_label("User name").fill("lin")
    reader.page.get_by_label("Password").fill(PASSWORD)
    reader.page.keyboard.press("Enter")
    expect(reader.page.get_by_role("tab", name="To review")).to_be_visible()
    assert reader.page.url.startswith(f"{reader.clinic.url}/")
