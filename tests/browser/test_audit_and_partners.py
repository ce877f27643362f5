"""The audit's page and the partners' page in a real browser."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from node.domain.audit_chain import verify_export
from node.domain.rights import Role
from tests.browser.test_people_pages import sign_in

pytestmark = pytest.mark.browser


def test_an_auditor_searches_and_exports(clinic, open_reader, serious, tmp_path: Path):
    clinic.add_user("ruth", "Ruth Auditor", Role.AUDITOR)
    study = clinic.add_study(clinic.add_patient("Doe", "Jane"))
    dentist = open_reader(clinic)
    dentist.sign_in()
    dentist.open(study)
    auditor = open_reader(clinic)
    sign_in(auditor, "ruth")
    page = auditor.page
    page.goto(f"{clinic.url}/audit")
    expect(page.get_by_role("cell", name="study.opened").first).to_be_visible()
    page.get_by_label("Person or part").fill("lin")
    page.get_by_label("Action").fill("image")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("cell", name="study.opened")).to_have_count(0)
    expect(page.get_by_role("cell", name="lin").first).to_be_visible()
    assert serious(page) == []
    auditor.shot("audit")
    with page.expect_download() as found:
        page.get_by_role("button", name="Export (CSV)").click()
    path = tmp_path / "audit.csv"
    found.value.save_as(path)
    proof = verify_export(path)
    assert (proof.problem, proof.shown > 0) == ("", True)
    page.get_by_label("Study").fill("nothing")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert")).to_contain_text("no such study")


def test_a_manager_records_an_agreement(open_clinic, open_reader, serious, tmp_path: Path):
    house = {"url": "https://clearinghouse.example/v1", "api_key": "k",
             "allowed_hosts": ("clearinghouse.example",)}  # fmt: skip
    clinic = open_clinic(payers=house)
    clinic.add_user("pat", "Pat Manager", Role.OFFICE_MANAGER)
    manager = open_reader(clinic)
    sign_in(manager, "pat")
    page = manager.page
    page.goto(f"{clinic.url}/partners")
    expect(page.get_by_text("waits for an agreement with payer: none is recorded")).to_be_visible()
    page.get_by_role("button", name="Record an agreement with clearinghouse").click()
    page.get_by_label("Other side's legal name").fill("Clearing House Inc.")
    page.get_by_label("Signed for the practice by").fill("Pat Manager")
    page.get_by_label("Signed on").fill(date.today().isoformat())  # noqa: DTZ011 - the page's day
    page.get_by_label("Last day").fill((date.today() + timedelta(days=20)).isoformat())  # noqa: DTZ011
    paper = tmp_path / "baa.pdf"
    paper.write_bytes(b"%PDF-1.7 signed")
    page.get_by_label("The signed paper").set_input_files(paper)
    page.get_by_role("button", name="Record", exact=True).click()
    expect(page.get_by_text("Clearing House Inc.")).to_be_visible()
    expect(page.get_by_text("the agreement with payer ends on")).to_be_visible()
    assert serious(page) == []
    manager.shot("partners")
    page.on("dialog", lambda dialog: dialog.accept("changed the clearinghouse"))
    page.get_by_role("button", name="End the agreement with clearinghouse").click()
    expect(page.get_by_text("waits for an agreement with payer: none is recorded")).to_be_visible()
