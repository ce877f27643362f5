"""After the signature: the patient page, searching, taking back, retrying a refused entry."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from node.db.session import begin, new_id
from node.db.tables import pms_command, retraction, study
from node.domain.rights import Role

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"


@pytest.fixture
def signed(clinic, reader) -> str:
    """A study of one image, three findings accepted and one rejected, signed."""
    study_id = clinic.add_study(clinic.add_patient("Sandbox", "Ada"))
    clinic.analyse(study_id)
    reader.open(study_id)
    reader.press("a", "a", "x", "Escape", "a")
    expect(reader.page.get_by_text("all decided", exact=True)).to_be_visible()
    reader.settle()
    reader.press("Control+Enter")
    reader.page.get_by_label("Password of Dr. Mei Lin").fill(PASSWORD)
    reader.page.get_by_role("button", name="Sign Enter").click()
    expect(reader.page.get_by_text("Signed, version 1.", exact=True)).to_be_visible()
    return study_id


def test_the_patient_page_shows_what_was_signed_and_ends_neutrally(
    clinic, signed, reader, serious
) -> None:
    page = reader.page
    page.goto(f"{clinic.url}/patient/{signed}")
    expect(page.get_by_role("heading", name="What your dentist found")).to_be_visible()
    expect(page.locator("li.item")).to_have_count(3)
    expect(page.get_by_text("Written for about reading grade")).to_be_visible()
    expect(page.locator(".ring.over")).to_have_count(3)
    page.wait_for_function("() => [...document.images].every((i) => i.complete && i.naturalWidth)")
    assert serious(page) == []
    expect(page.get_by_text("Your X-rays of January 5, 2026, read and signed")).to_be_visible()
    reader.shot("patient-page")
    page.get_by_role("button", name="Marks on").click()
    expect(page.locator(".ring.over")).to_have_count(0)
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_text("Thank you.")).to_be_visible()
    assert "Sandbox, Ada" not in page.content().split('id="boot"')[0]
    expect(page.locator("a[href='/']")).to_have_count(0)
    page.goto(f"{clinic.url}/patient/{signed}")
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Done")).to_be_hidden()


def test_signed_findings_are_found_across_patients(clinic, signed, reader, serious) -> None:
    page = reader.page
    page.goto(f"{clinic.url}/")
    page.get_by_role("link", name="Search findings").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_label("Kind").select_option("caries")
    reader.page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    assert serious(page) == []
    reader.shot("search")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export (CSV)").click()
    assert download.value.suggested_filename == "findings.csv"
    page.get_by_role("textbox", name="Tooth").fill("99")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert")).to_have_text("There is no tooth 99.")


def test_wrong_patient_is_taken_back_from_the_page(clinic, signed, reader, serious) -> None:
    right = clinic.add_patient("Poe", "Ann")
    page = reader.page
    reader.open(signed)
    page.get_by_role("button", name="Take back").click()
    page.get_by_placeholder("Name or patient number").fill("poe")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("radio", name=re.compile("Poe, Ann")).check()
    page.get_by_label("Reason").fill("films of another patient")
    page.get_by_label("Password of Dr. Mei Lin").fill(PASSWORD)
    assert serious(page) == []
    reader.shot("take-back")
    page.locator("dialog").get_by_role("button", name="Take back").click()
    expect(page.get_by_text("Taken back. Corrections are on their way")).to_be_visible()
    expect(page.get_by_text("Poe, Ann")).to_be_visible()
    expect(page.get_by_text("Version 1 taken back: wrong patient")).to_be_visible()
    reader.shot("taken-back")
    (row,) = clinic.rows(sa.select(retraction))
    assert (row.kind, row.new_patient_id) == ("patient", right)
    assert clinic.rows(sa.select(study.c.patient_id))[0].patient_id == right


def test_a_refused_entry_can_be_tried_again(clinic, signed, reader) -> None:
    (owner,) = clinic.rows(sa.select(study.c.patient_id))
    with begin(clinic.db, clinic.actor, "test.refused") as tx:
        tx.conn.execute(
            pms_command.insert().values(
                id=new_id(),
                location_id="main",
                key="chart:test",
                ref="ref:BW-0123456789",
                study_id=signed,
                patient_id=owner.patient_id,
                review_version=1,
                kind="AppendCommlog",
                payload={"command": {}},
                state="failed",
                attempts=1,
                error="The practice system refused the note.",
                created_at=tx.now,
                updated_at=tx.now,
            )
        )
    reader.open(signed)
    page = reader.page
    expect(page.get_by_text("The practice system refused the note.")).to_be_visible()
    reader.shot("receipt-refused")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text(re.compile("^waiting"))).to_be_visible()
    assert clinic.rows(sa.select(pms_command.c.state))[0].state == "queued"


def test_an_assistant_sees_no_findings_but_shows_the_page(clinic, signed, open_reader) -> None:
    clinic.add_user("kim", "Kim Asst", Role.ASSISTANT)
    reader = open_reader(clinic)
    reader.sign_in("kim")
    reader.page.goto(f"{clinic.url}/patient/{signed}")
    expect(reader.page.locator("li.item")).to_have_count(3)
    assert reader.page.goto(f"{clinic.url}/search").status == 403
