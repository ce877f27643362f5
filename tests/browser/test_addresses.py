"""No address that the browser asks for, and nothing that it keeps, says who the patient is."""

from __future__ import annotations

from datetime import date

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

PERSON = ("quirinella", "zzyzxwood", "1937-11-30", "19371130", "30.11.1937", "11/30/1937")


def test_names_are_searched_for_and_opened_without_standing_in_an_address(
    clinic, open_reader
) -> None:
    patient_id = clinic.add_patient("Zzyzxwood", "Quirinella", date(1937, 11, 30))
    study_id = clinic.add_study(patient_id, images=1)
    clinic.analyse(study_id)
    reader = open_reader(clinic)
    asked: list[str] = []
    reader.context.on("request", lambda request: asked.append(request.url))
    reader.context.on("request", lambda request: asked.append(request.headers.get("referer", "")))
    reader.sign_in()
    search = reader.page.locator("#search")
    search.fill("Zzyzxwood")
    expect(reader.page.get_by_text("Zzyzxwood").first).to_be_visible()
    search.press("Enter")
    reader.open(study_id)
    reader.press("a", "c")
    reader.settle()
    reader.page.goto(f"{clinic.url}/search")
    reader.page.wait_for_load_state("networkidle")
    reader.page.goto(f"{clinic.url}/")
    expect(reader.page.get_by_text("Zzyzxwood").first).to_be_visible()
    asked.append(reader.page.url)
    kept = reader.page.evaluate(
        "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert any(f"/review/{study_id}" in url for url in asked)
    assert any("/api/" in url for url in asked)
    for text in (*asked, kept):
        for word in PERSON:
            assert word not in text.casefold(), text
