"""The page of the roll-out: from silence to assist, back with one press, entries to verify."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from node.analysis.recalibrating import propose_content
from node.analysis.silent_agreement import silent_report
from node.db.session import Actor, begin, open_database
from node.db.tables import auto_entry
from node.domain.rights import Role
from node.rollout.acknowledgements import Card, record_installed
from node.web.rollout_page import Sources, make_router
from tests.browser.conftest import MODEL, PASSWORD

pytestmark = pytest.mark.browser

CARD = Card(MODEL.name, MODEL.version, MODEL.digest, "# Intraoral\n\nTrained on synthetic films.")


@pytest.fixture
def clinic(open_clinic, sqlite_database):
    """A fresh clinic with one network installed, into which nobody has let anything."""
    url = sqlite_database.url.render_as_string(hide_password=False)
    db = open_database(url)
    with begin(db, Actor("analysis", "main"), "models.installed") as tx:
        record_installed(tx, (CARD,))
    sources = Sources(
        {"recall": "Recall"},
        lambda: silent_report(db, "main"),
        lambda: propose_content(db, "main"),
    )
    made = open_clinic(mode="fresh", routers=[make_router(sources)])
    yield made
    db.dispose()


def enter(reader, name: str = "lin"):
    reader.page.goto(f"{reader.clinic.url}/login?next=/rollout")
    reader.page.get_by_label("User name").fill(name)
    reader.page.get_by_label("Password").fill(PASSWORD)
    reader.page.keyboard.press("Enter")
    expect(reader.page.get_by_role("heading", name="What is let in")).to_be_visible()
    return reader.page


def row(page, title: str):
    return page.get_by_role("row").filter(has=page.get_by_role("cell", name=title, exact=True))


def test_the_lead_reads_acknowledges_lets_in_and_switches_back(
    clinic, open_reader, serious
) -> None:
    reader = open_reader(clinic)
    page = enter(reader)
    expect(row(page, "caries")).to_contain_text("silent")
    expect(page.get_by_text("Nobody has acknowledged")).to_be_visible()
    page.get_by_role("button", name="Compare what was silent now").click()
    page.get_by_role("button", name="Read and acknowledge").click()
    paper = page.get_by_label("What you acknowledge")
    expect(paper).to_contain_text("Not cleared as a medical device")
    expect(paper).to_contain_text("Trained on synthetic films")
    assert serious(page) == []
    page.get_by_label("Your password").fill("wrong")
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Acknowledge", exact=True).click()
    expect(page.get_by_role("alert").first).to_be_visible()
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Acknowledge", exact=True).click()
    expect(page.get_by_text("Acknowledged by Dr. Mei Lin")).to_be_visible()
    form = page.get_by_role("form", name="New rule")
    form.get_by_label("What").select_option("finding:caries")
    form.get_by_label("Mode").select_option("assist")
    form.get_by_role("button", name="Set").click()
    expect(page.get_by_text("was compared with the dentist on 0 studies")).to_be_visible()
    form.get_by_label("What").select_option("tag:view")
    form.get_by_role("button", name="Set").click()
    expect(row(page, "view")).to_contain_text("assist")
    form.get_by_label("What").select_option("finding:caries")
    form.get_by_label("Mode").select_option("auto")
    form.get_by_role("button", name="Set").click()
    expect(page.get_by_text("never automatic")).to_be_visible()
    page.get_by_role("button", name="Make everything silent now").click()
    expect(row(page, "view")).to_contain_text("silent")
    expect(page.locator(".notice", has_text="Held back: everything at most silent")).to_be_visible()
    assert serious(page) == []
    reader.shot("rollout")
    page.get_by_role("button", name="Let the rules hold again").click()
    expect(row(page, "view")).to_contain_text("assist")


def test_the_manager_lets_workflows_in_but_no_finding(clinic, open_reader) -> None:
    clinic.add_user("pat", "Pat Manager", Role.OFFICE_MANAGER)
    page = enter(open_reader(clinic), "pat")
    expect(page.get_by_role("button", name="Compare what was silent now")).to_have_count(0)
    form = page.get_by_role("form", name="New rule")
    form.get_by_label("What").select_option("workflow:recall")
    form.get_by_label("Mode").select_option("assist")
    form.get_by_role("button", name="Set").click()
    expect(row(page, "Recall")).to_contain_text("assist")
    form.get_by_label("What").select_option("finding:caries")
    form.get_by_role("button", name="Set").click()
    expect(page.get_by_text("You need the right: lead the roll-out")).to_be_visible()
    page.get_by_role("button", name="Hold Recall at silent").click()
    expect(row(page, "Recall")).to_contain_text("silent")


def test_automatic_entries_are_verified_and_a_study_is_explained(clinic, open_reader) -> None:
    study_id = clinic.add_study(clinic.add_patient("Sandbox", "Ada"))
    clinic.analyse(study_id)
    with begin(clinic.db, clinic.actor, "test.entered") as tx:
        for number, tag in enumerate(("view", "quality")):
            tx.conn.execute(
                auto_entry.insert().values(
                    id=f"{number}" * 32, location_id="main", study_id=study_id, tag=tag,
                    value="bitewing", models=[], is_sampled=True, state="entered",
                    entered_at=tx.now,
                )
            )  # fmt: skip
    reader = open_reader(clinic)
    page = enter(reader)
    page.get_by_role("button", name="view bitewing is right").click()
    expect(page.get_by_text("view: 0 of 1 drawn and verified were wrong")).to_be_visible()
    page.get_by_role("button", name="quality bitewing is wrong").click()
    expect(page.get_by_text("quality: 1 of 1 drawn and verified were wrong")).to_be_visible()
    page.get_by_label("Study (the end").fill(study_id)
    page.get_by_role("button", name="Explain").click()
    lines = page.get_by_role("group", name="Explanation")
    expect(lines).to_contain_text("finding:caries")
    expect(lines).to_contain_text("what nobody let in is silent")
    page.get_by_role("button", name="Propose from signed decisions").click()
    expect(page.get_by_role("heading", name="Version 1")).to_be_visible()
