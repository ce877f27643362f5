"""The dentist's path through the pages, in a real Chromium against the real web server."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from node.analysis.findings import store_analysis
from node.db.tables import finding, image_view, operation, review, study
from node.domain.findings import Box, Finding, FindingKind, ImageAnalysis, ModelVersion, View
from node.domain.review import SignedReview
from node.domain.rights import Role
from node.domain.teeth import Tooth

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"


def marks(clinic, study_id: str) -> list:
    """Findings of a study in the order of the page: left to right."""
    rows = clinic.rows(sa.select(finding).where(finding.c.study_id == study_id))
    return sorted(rows, key=lambda row: (row.geometry["points"][0][0], row.id))


def to_stage(reader, x: float, y: float) -> tuple[float, float]:
    """Map an image pixel to the browser's window, as the page does."""
    return tuple(
        reader.page.evaluate(
            """async ([x, y]) => {
              const { toStage } = await fromPage("review/tools.mjs");
              const { left, top } = document.getElementById("stage").getBoundingClientRect();
              const [sx, sy] = toStage([x, y]);
              return [left + sx, top + sy];
            }""",
            [x, y],
        )
    )


def drag(reader, start: tuple[float, float], end: tuple[float, float]) -> None:
    mouse = reader.page.mouse
    mouse.move(*start)
    mouse.down()
    mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    mouse.move(*end)
    mouse.up()


@pytest.fixture
def study_id(clinic) -> str:
    """Two bitewings of one patient, four suggestions on the first."""
    made = clinic.add_study(clinic.add_patient("Sandbox", "Ada"), images=2)
    clinic.analyse(made)
    return made


def test_from_sign_in_to_signature(clinic, study_id, reader) -> None:
    page = reader.page
    expect(page.get_by_role("link", name="Sandbox, Ada")).to_be_visible()
    reader.shot("worklist")
    reader.press("Enter")
    expect(page).to_have_url(re.compile(study_id))
    expect(page.locator(".card")).to_have_count(4)
    expect(page.get_by_text("4 left", exact=True)).to_be_visible()
    reader.shot("review")

    # A accepts and moves on; X rejects, then a number gives the reason
    reader.press("a")
    expect(page.get_by_text("3 left", exact=True)).to_be_visible()
    reader.press("x")
    expect(page.get_by_role("dialog", name="Rejected. Why?")).to_be_visible()
    reader.shot("review-reject")
    reader.press("3")
    reader.settle()
    first, second, third, _ = marks(clinic, study_id)
    assert (first.state, first.decided_by is not None) == ("accepted", True)
    assert (second.state, second.reason) == ("rejected", "overlap")

    # one undo takes the rejection back with its reason; redo does it again
    reader.press("Control+z")
    reader.settle()
    assert [row.state for row in marks(clinic, study_id)][:2] == ["accepted", "suggested"]
    reader.press("Control+Shift+z")
    reader.settle()
    second = marks(clinic, study_id)[1]
    assert (second.state, second.reason) == ("rejected", "overlap")

    # pull a handle of the third; the original is kept and keys work right after
    page.locator(".card", has_text="Caries").filter(has_text="#30").locator(".cardhead").click()
    corner = to_stage(reader, 620, 612)
    drag(reader, corner, (corner[0] + 24, corner[1] + 18))
    expect(page.locator(".card.selected")).to_contain_text("edited by you")
    reader.settle()
    edited = marks(clinic, study_id)[2]
    assert edited.state == "edited"
    assert edited.geometry["points"][0] == third.geometry["points"][0]
    assert edited.geometry["points"][1][0] > third.geometry["points"][1][0] + 10
    assert edited.original["geometry"] == third.geometry
    reader.press("g", "3")
    reader.settle()
    assert marks(clinic, study_id)[2].disposition == "restore"

    # a missed lesion, drawn by drag; class, tooth and depth by keys
    reader.press("n")
    drag(reader, to_stage(reader, 760, 180), to_stage(reader, 820, 250))
    expect(page.get_by_role("dialog", name="What is it?")).to_be_visible()
    reader.press("1")
    expect(page.get_by_role("dialog", name="Tooth and surface")).to_be_visible()
    reader.shot("review-add")
    reader.press("Enter")
    expect(page.get_by_role("dialog", name="Depth")).to_be_visible()
    reader.press("4")
    reader.settle()
    (added,) = [row for row in marks(clinic, study_id) if row.origin == "human"]
    assert (added.kind, added.tooth, added.depth, added.state) == (
        "caries",
        "15",
        "D2",
        "accepted",
    )

    # a window drag changes the picture and nothing else
    before = page.locator(".readout").inner_text()
    drag(reader, to_stage(reader, 900, 700), to_stage(reader, 1000, 760))
    assert page.locator(".readout").inner_text() != before

    # what is left blocks the signature; an unseen image too
    reader.press("Control+Enter")
    expect(page.get_by_text("1 suggestions are not decided.")).to_be_visible()
    expect(page.get_by_text("You have not seen 1 of 2 images.")).to_be_visible()
    reader.shot("sign-blocked")
    expect(page.get_by_role("button", name="Sign Enter")).to_be_disabled()
    reader.press("Escape")
    reader.press("Shift+J")
    expect(page.locator(".card.selected")).to_contain_text("#5")
    reader.press("a", "]")
    expect(page.get_by_text("all decided", exact=True)).to_be_visible()
    expect(page.get_by_text("seen 2/2")).to_be_visible()
    reader.settle()

    # sign
    reader.press("Control+Enter")
    expect(page.get_by_text("I have reviewed these images")).to_be_visible()
    page.get_by_label("Password of Dr. Mei Lin").fill("not the password")
    expect(page.get_by_role("button", name="Sign Enter")).to_be_enabled()
    reader.press("Enter")
    expect(page.get_by_text("password does not fit")).to_be_visible()
    page.get_by_label("Password of Dr. Mei Lin").fill("correct horse battery")
    reader.shot("sign")
    reader.press("Enter")
    expect(page.get_by_text("Signed, version 1", exact=True).first).to_be_visible()
    reader.shot("signed")

    (signed,) = clinic.rows(sa.select(review).where(review.c.study_id == study_id))
    content = SignedReview.from_json(signed.content)
    assert sorted(item.finding.tooth.code for item in content.findings) == ["14", "15", "17", "46"]
    assert (content.counts.accepted, content.counts.edited) == (2, 1)
    assert (content.counts.rejected, content.counts.added) == (1, 1)
    (state,) = clinic.rows(sa.select(study.c.state).where(study.c.id == study_id))
    assert state[0] == "signed"

    # a signed study is read-only until it is amended with a reason
    reader.press("[", "x")
    reader.settle()
    assert [row.state for row in marks(clinic, study_id)].count("rejected") == 1
    reader.press("Control+Enter")
    page.get_by_label("Reason").fill("Tooth number was wrong")
    reader.press("Enter")
    expect(page.get_by_text("Amending: version 2 is open.")).to_be_visible()


def test_everything_by_keyboard(clinic, study_id, reader) -> None:
    page = reader.page
    reader.press("n")
    expect(page).to_have_url(re.compile(study_id))
    expect(page.locator(".card")).to_have_count(4)
    # edit: arrows move the shape, Tab picks a handle, Enter keeps: one operation
    reader.settle()
    before = marks(clinic, study_id)[0]
    reader.press("e", "ArrowRight", "Shift+ArrowDown", "Tab", "ArrowLeft", "Enter")
    expect(page.locator(".card.selected")).to_contain_text("edited by you")
    reader.settle()
    moved = marks(clinic, study_id)[0]
    (x0, y0), (x1, y1) = before.geometry["points"]
    assert moved.geometry["points"] == [[x0, y0 + 10], [x1 + 1, y1 + 10]]
    edits = sa.select(operation.c.kind).where(operation.c.finding_id == moved.id)
    assert [row[0] for row in clinic.rows(edits)] == ["set_geometry"]
    # Escape leaves it as it was
    reader.press("e", "ArrowRight", "Escape")
    reader.settle()
    assert marks(clinic, study_id)[0].geometry == moved.geometry
    # add by crosshair
    reader.press("n", "ArrowLeft", "Enter", *["Shift+ArrowRight"] * 2, *["Shift+ArrowDown"] * 2)
    reader.press("Enter", "1")
    expect(page.get_by_role("dialog", name="Tooth and surface")).to_be_visible()
    reader.press("Control+a", "3", "0", "Enter", "1")
    reader.settle()
    (added,) = [row for row in marks(clinic, study_id) if row.origin == "human"]
    assert (added.tooth, added.depth) == ("46", "E1")
    # a comment is text: its letters decide nothing
    reader.press("/")
    page.keyboard.type("xx aa nn see bitewing")
    reader.press("Enter")
    reader.settle()
    rows = marks(clinic, study_id)
    assert [row.comment for row in rows if row.origin == "human"] == ["xx aa nn see bitewing"]
    assert [row.state for row in rows if row.origin == "ai"].count("rejected") == 0
    # Delete removes an own mark, undo brings it back
    reader.press("Delete")
    reader.settle()
    expect(page.locator(".card")).to_have_count(4)
    reader.press("Control+z")
    reader.settle()
    expect(page.locator(".card")).to_have_count(5)
    # Space shows the bare image while it is held, and that is on record
    page.keyboard.down("Space")
    expect(page.locator(".mark")).to_have_count(0)
    page.keyboard.up("Space")
    expect(page.locator(".mark")).to_have_count(5)
    reader.settle()
    bare = sa.select(image_view.c.bare_at).where(image_view.c.bare_at.is_not(None))
    assert len(clinic.rows(bare)) == 1


def test_a_conflict_is_shown_and_nothing_overwritten(clinic, study_id, reader, open_reader) -> None:
    clinic.add_user("osei", "Dr. Kofi Osei")
    other = open_reader(clinic)
    other.sign_in("osei")
    reader.open(study_id)
    other.open(study_id)
    # the first reader's browser is cut off while the second decides
    reader.context.set_offline(True)
    reader.press("x", "Escape")
    expect(reader.page.get_by_text("kept here, will be sent")).to_be_visible()
    reader.shot("offline")
    other.press("a")
    other.settle()
    reader.context.set_offline(False)
    expect(reader.page.get_by_text("Dr. Kofi Osei accepted this")).to_be_visible(timeout=40_000)
    reader.shot("conflict")
    assert marks(clinic, study_id)[0].state == "accepted"
    reader.page.get_by_role("button", name="Keep mine").click()
    reader.settle()
    assert marks(clinic, study_id)[0].state == "rejected"
    # the other browser hears of it without being asked
    expect(other.page.get_by_text("show 1 rejected")).to_be_visible()


def test_decisions_survive_a_closed_page(clinic, study_id, reader) -> None:
    reader.open(study_id)
    reader.page.route("**/ops", lambda route: route.abort())
    reader.press("a", "x", "1", "a")
    expect(reader.page.get_by_text("4 changes kept here, will be sent")).to_be_visible()
    assert all(row.state == "suggested" for row in marks(clinic, study_id))
    reader.page.unroute("**/ops")
    reader.page.on("dialog", lambda dialog: dialog.accept())
    reader.open(study_id)
    expect(reader.page.get_by_text("1 left", exact=True)).to_be_visible()
    states = [row.state for row in marks(clinic, study_id)]
    assert states == ["accepted", "rejected", "accepted", "suggested"]
    stored = reader.page.evaluate("""async () => {
      const open = indexedDB.open("bitewing");
      await new Promise((done) => (open.onsuccess = done));
      const all = open.result.transaction("ops").objectStore("ops").getAll();
      await new Promise((done) => (all.onsuccess = done));
      return all.result.length;
    }""")
    assert stored == 0


#: The browser's store opens when the test says so, as on a machine that is busy with other things.
SLOW_STORE = """
  const open = indexedDB.open.bind(indexedDB);
  window.kept = async () => {
    const request = open("bitewing");
    await new Promise((done) => (request.onsuccess = done));
    const all = request.result.transaction("ops").objectStore("ops").getAll();
    await new Promise((done) => (all.onsuccess = done));
    request.result.close();
    return all.result.map((entry) => entry.op.kind);
  };
  IDBFactory.prototype.open = (...given) => {
    const late = {};
    window.openStore = () => {
      const request = open(...given);
      for (const name of ["onupgradeneeded", "onsuccess"])
        request[name] = () => {
          late.result = request.result;
          late[name]?.();
          window.isOpen = name === "onsuccess";
        };
    };
    return late;
  };
"""


def test_what_was_decided_before_the_store_was_open_is_kept(clinic, study_id, reader) -> None:
    page = reader.page
    page.add_init_script(SLOW_STORE)
    reader.open(study_id)
    page.route("**/ops", lambda route: route.abort())
    reader.press("a", "a")
    expect(page.get_by_text("2 changes kept here, will be sent")).to_be_visible()
    page.evaluate("openStore()")
    page.wait_for_function("() => window.isOpen")
    page.evaluate("kept().then((kinds) => (window.found = kinds.join()))")
    page.wait_for_function("() => window.found")
    assert page.evaluate("found") == "accept,accept"
    page.on("dialog", lambda dialog: dialog.accept())


def test_existing_work_is_accepted_together_and_no_disease(clinic, reader) -> None:
    model = ModelVersion("intraoral", "1.0", "d" * 64)

    def mark(kind: FindingKind, left: int) -> Finding:
        box = Box(left, 262, left + 60, 338)
        return Finding(kind, box, Tooth("16"), probability=0.9, model=model)

    study_id = clinic.add_study(clinic.add_patient("Sandbox", "Bea"))
    kinds = (FindingKind.CARIES, FindingKind.CROWN, FindingKind.RESTORATION, FindingKind.IMPLANT)
    clinic.analyse(study_id, tuple(mark(kind, 100 + 200 * n) for n, kind in enumerate(kinds)))
    reader.open(study_id)
    reader.press("Shift+A")
    expect(reader.page.get_by_text("1 left", exact=True)).to_be_visible()
    reader.settle()
    states = [row.state for row in marks(clinic, study_id)]
    assert states == ["suggested", "accepted", "accepted", "accepted"]
    expect(reader.page.locator(".card.selected")).to_contain_text("Caries")
    reader.press("Control+z")
    expect(reader.page.get_by_text("4 left", exact=True)).to_be_visible()
    reader.press("Control+Shift+Z")
    expect(reader.page.get_by_text("1 left", exact=True)).to_be_visible()
    reader.settle()
    assert [row.state for row in marks(clinic, study_id)] == states


def test_a_cancelled_gesture_changes_nothing(clinic, study_id, reader) -> None:
    reader.open(study_id)
    corner = to_stage(reader, 322, 338)
    reader.page.mouse.move(*corner)
    reader.page.mouse.down()
    reader.page.mouse.move(corner[0] + 40, corner[1] + 40)
    reader.page.evaluate(
        """document.getElementById("stage").dispatchEvent(
             new PointerEvent("pointercancel", { pointerId: 1, bubbles: true }))"""
    )
    reader.page.mouse.up()
    reader.settle()
    row = marks(clinic, study_id)[0]
    assert (row.state, row.geometry["points"][1]) == ("suggested", [322, 338])


def test_weak_suggestions_are_hidden_but_count(clinic, study_id, reader) -> None:
    reader.open(study_id)
    expect(reader.page.locator(".mark")).to_have_count(4)
    reader.press(",")
    shown = reader.page.locator(".mark").count()
    assert shown < 4
    expect(reader.page.get_by_text(f"{4 - shown} below the line, still undecided")).to_be_visible()
    expect(reader.page.get_by_text("4 left", exact=True)).to_be_visible()


def test_link_a_patient(clinic, reader) -> None:
    clinic.add_patient("Sandbox", "Ada")
    stray = clinic.add_study(None)
    clinic.analyse(stray)
    page = reader.page
    page.reload()
    page.get_by_role("tab", name="Problems").click()
    page.get_by_role("button", name="Link patient").click()
    expect(page.get_by_role("dialog", name="Whose images are these?")).to_be_visible()
    page.get_by_label("Search the practice's patients").fill("Sandbox")
    reader.press("Enter")
    page.get_by_role("radio").first.check()
    reader.shot("link-choose")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("dialog", name="Is this the same person?")).to_be_visible()
    reader.shot("link-confirm")
    page.get_by_role("button", name="Yes, link to Sandbox, Ada").click()
    expect(page.get_by_role("heading", name="No problems")).to_be_visible()
    (row,) = clinic.rows(sa.select(study.c.match_state).where(study.c.id == stray))
    assert row[0] == "linked"


def test_a_match_by_name_and_birth_date_is_confirmed_at_signing(clinic, reader) -> None:
    clinic.add_patient("Sandbox", "Ada")
    likely = clinic.add_study(
        None, match_state="suggested", match_reason="only name and birth date agree"
    )
    clinic.analyse(likely, findings=())
    page = reader.page
    reader.open(likely)
    reader.press("Control+Enter")
    page.get_by_role("button", name="Confirm the patient").click()
    page.get_by_role("dialog").get_by_role("radio").first.check()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("The practice's record")).to_be_visible()
    page.get_by_role("button", name="Yes, link to Sandbox, Ada").click()
    expect(page.get_by_text("Patient not confirmed")).to_have_count(0)
    reader.press("Control+Enter")
    page.get_by_label("Password of Dr. Mei Lin").fill(PASSWORD)
    page.get_by_role("button", name="Sign Enter").click()
    expect(page.get_by_text("Signed, version 1.", exact=True)).to_be_visible()


def test_a_pin_signs(clinic, study_id, reader) -> None:
    page = reader.page
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("New PIN").fill("482915")
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Change the PIN").click()
    expect(page.get_by_text("Your PIN is kept.")).to_be_visible()
    reader.open(study_id)
    reader.press("a", "a", "a", "a", "]")
    reader.settle()
    expect(page.get_by_text("all decided", exact=True)).to_be_visible()
    reader.press("Control+Enter")
    proof = page.get_by_label("PIN or password of Dr. Mei Lin")
    proof.fill("111112")
    page.get_by_role("button", name="Sign Enter").click()
    expect(page.get_by_text("That PIN does not fit.")).to_be_visible()
    proof.fill("482915")
    page.get_by_role("button", name="Sign Enter").click()
    expect(page.get_by_text("Signed, version 1.", exact=True)).to_be_visible()


def test_an_unreadable_image_says_so(clinic, study_id, reader) -> None:
    words = "the pixel data is cut off"
    clinic.add_image(study_id, 3, state="unreadable", failure=words)
    reader.open(study_id)
    reader.press("]", "]")
    expect(reader.page.get_by_role("heading", name="This image cannot be shown")).to_be_visible()
    expect(reader.page.get_by_text(words).first).to_be_visible()
    reader.shot("unreadable")
    reader.press("[")
    expect(reader.page.get_by_role("heading", name="This image cannot be shown")).to_be_hidden()


def test_silent_mode_shows_no_suggestion(open_clinic, open_reader) -> None:
    clinic = open_clinic(mode="silent")
    study_id = clinic.add_study(clinic.add_patient("Sandbox", "Ada"))
    clinic.analyse(study_id)
    reader = open_reader(clinic)
    reader.sign_in()
    expect(reader.page.get_by_text("Silent mode")).to_be_visible()
    reader.open(study_id)
    expect(reader.page.get_by_text("Silent mode").first).to_be_visible()
    expect(reader.page.locator(".card")).to_have_count(0)
    expect(reader.page.locator(".mark")).to_have_count(0)
    reader.shot("silent")


def test_a_hygienist_proposes(clinic, study_id, reader, open_reader) -> None:
    clinic.add_user("ruiz", "K. Ruiz RDH", Role.HYGIENIST)
    hygienist = open_reader(clinic)
    hygienist.sign_in("ruiz")
    hygienist.open(study_id)
    hygienist.press("a")
    hygienist.settle()
    assert marks(clinic, study_id)[0].state == "suggested"
    reader.open(study_id)
    expect(reader.page.get_by_text("proposed accept by K. Ruiz RDH")).to_be_visible()
    reader.press("a")
    reader.settle()
    assert marks(clinic, study_id)[0].state == "accepted"


def test_the_lock_hides_everything(clinic, study_id, reader) -> None:
    reader.open(study_id)
    reader.press("Shift+L")
    expect(reader.page.get_by_role("heading", name="Locked")).to_be_visible()
    expect(reader.page.locator("#stage")).to_be_hidden()
    reader.press("a")
    reader.shot("locked")
    reader.page.get_by_label("Password").fill("correct horse battery")
    reader.press("Enter")
    expect(reader.page.locator("#stage")).to_be_visible()
    reader.settle()
    assert marks(clinic, study_id)[0].state == "suggested"


def test_new_studies_appear_by_themselves(clinic, reader) -> None:
    expect(reader.page.get_by_text("live", exact=True)).to_be_visible()
    made = clinic.add_study(clinic.add_patient("Sandbox", "Boris"))
    clinic.analyse(made)
    expect(reader.page.get_by_role("link", name="Sandbox, Boris")).to_be_visible()


def test_suggestions_that_come_while_reading_wait_to_be_asked_for(clinic, reader) -> None:
    study_id = clinic.add_study(clinic.add_patient("Sandbox", "Clara"), images=2, state="complete")
    first = clinic.image_ids(study_id)[0]
    model = ModelVersion("intraoral", "1.0", "d" * 64)

    def caries(x: float) -> Finding:
        return Finding(FindingKind.CARIES, Box(x, 300, x + 60, 360), probability=0.9, model=model)

    clinic.analyse(study_id, findings=(caries(100),))
    reader.open(study_id)
    reader.press("a")
    reader.settle()
    late = (replace(model, version="1.1"),)
    found = (caries(300), caries(500), caries(700))
    analysis = ImageAnalysis(View.BITEWING, 0.9, (), found, models=late)
    store_analysis(clinic.db, clinic.actor, first, analysis, datetime.now(UTC))
    expect(reader.page.get_by_text("3 suggestions arrived")).to_be_visible()
    expect(reader.page.locator(".card")).to_have_count(1)
    reader.page.get_by_role("button", name="Show", exact=True).click()
    expect(reader.page.locator(".card")).to_have_count(4)


def test_a_locked_page_opens_with_the_password(clinic, study_id, reader) -> None:
    reader.page.evaluate(
        """async () => {
          const { lock } = await fromPage("shared/session.mjs");
          await lock();
        }"""
    )
    reader.page.goto(f"{clinic.url}/review/{study_id}")
    expect(reader.page.get_by_role("heading", name="Locked")).to_be_visible()
    assert "Sandbox, Ada" not in reader.page.content()
    reader.page.get_by_label("Password").fill("wrong password")
    reader.press("Enter")
    expect(reader.page.get_by_role("alert").filter(has_text=re.compile("password"))).to_be_visible()
    reader.page.get_by_label("Password").fill("correct horse battery")
    reader.press("Enter")
    expect(reader.page.locator(".card")).to_have_count(4)


def test_link_from_the_study(clinic, reader) -> None:
    clinic.add_patient("Sandbox", "Ada")
    stray = clinic.add_study(None)
    clinic.analyse(stray, findings=())
    page = reader.page
    reader.open(stray)
    reader.press("Control+Enter")
    expect(page.get_by_text("It is not certain whose images these are.")).to_be_visible()
    expect(page.get_by_role("button", name="Sign Enter")).to_be_disabled()
    reader.press("Escape")
    page.get_by_role("button", name="Link patient").click()
    page.get_by_label("Search the practice's patients").fill("Sandbox")
    reader.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("radio")).to_have_count(1)
    page.get_by_role("dialog").get_by_role("radio").check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Yes, link to Sandbox, Ada").click()
    expect(page.get_by_text("Patient not confirmed")).to_be_hidden()


def test_seven_tabs_hear_of_a_new_study(clinic, reader) -> None:
    tabs = [reader.page, *(reader.context.new_page() for _ in range(6))]
    for tab in tabs[1:]:
        tab.goto(clinic.url)
    expect(tabs[6].get_by_text("live", exact=True)).to_be_visible()
    made = clinic.add_study(clinic.add_patient("Sandbox", "Greta"))
    clinic.analyse(made)
    for tab in tabs:
        expect(tab.get_by_role("link", name="Sandbox, Greta")).to_be_visible(timeout=20_000)
    # the tab that owns the stream closes; another takes over
    tabs[0].close()
    made = clinic.add_study(clinic.add_patient("Sandbox", "Farid"))
    clinic.analyse(made)
    for tab in tabs[1:]:
        expect(tab.get_by_role("link", name="Sandbox, Farid")).to_be_visible(timeout=20_000)
