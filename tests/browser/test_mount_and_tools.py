"""The mount, the viewer's tools, settings, and two people at one study or one workstation."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from models.slots import TEMPLATES
from node.db.session import begin, upsert
from node.db.tables import finding, image_calibration, image_place, study_reading
from node.domain.reading import (
    Conclusions,
    Priority,
    Retake,
    Series,
    SlotPlace,
    StudyFacts,
    StudyReading,
    Urgency,
)
from node.domain.rights import Role

pytestmark = pytest.mark.browser

PASSWORD = "correct horse battery"
PIN = "482915"
TWO = """async (code) => {
  const film = document.querySelector(`[data-slot="${code}"] .film`);
  return film.dataset.image ?? null;
}"""


#: The largest change of a grey value at a stage point.
FURTHEST_OFF = """(plain) => {
  const canvas = document.querySelector("#stage canvas");
  const ratio = canvas.width / canvas.getBoundingClientRect().width;
  const data = canvas.getContext("2d").getImageData(300 * ratio, 300 * ratio, 40, 40).data;
  return Math.max(...plain.map((value, i) => Math.abs(value - data[4 * i])))"""

#: Whether the picture is the same as when this was asked last.
IS_STILL = """() => {
  const before = window.lastPicture;
  window.lastPicture = document.querySelector("#stage canvas").toDataURL();
  return before === window.lastPicture;
}"""


def hang(clinic, study_id: str, template: str, places: dict[str, str], **more: object) -> None:
    """Let the models say where images hang."""
    listed = tuple(SlotPlace(image_id, code, 0.1) for code, image_id in places.items())
    empty = tuple(slot.code for slot in TEMPLATES[template] if slot.code not in places)
    facts = StudyFacts(series=Series(template, listed, empty=empty, **more))
    reading = StudyReading(facts, Conclusions(False, (), Priority(Urgency.ROUTINE, (), "")))
    with begin(clinic.db, clinic.actor, "test.reading") as tx:
        values = {
            "study_id": study_id,
            "location_id": "main",
            "generation": 0,
            "patient_id": None,
            "inputs": "0" * 64,
            "content": reading.to_json(),
            "computed_at": tx.now,
        }
        upsert(tx.conn, study_reading, ("study_id",), values)


@pytest.fixture
def series(clinic) -> tuple[str, list[str]]:
    """A full-mouth series of 18, of which the models placed all but two."""
    study_id = clinic.add_study(clinic.add_patient("Sandbox", "Ada"), images=18)
    clinic.analyse(study_id)
    ids = clinic.image_ids(study_id)
    codes = [slot.code for slot in TEMPLATES["FMX18"]]
    places = dict(zip(codes[:16], ids[:16], strict=True))
    retake = Retake(ids[17], ids[3], codes[3], "shows the same teeth")
    hang(clinic, study_id, "FMX18", places, unplaced=tuple(ids[16:]), retakes=(retake,))
    return study_id, ids


def test_the_mount_of_a_full_mouth_series(clinic, series, reader, serious) -> None:
    study_id, ids = series
    page = reader.page
    reader.open(study_id)
    reader.press("Home")
    expect(page.get_by_role("heading", name="FMX18: 18 images")).to_be_visible()
    expect(page.locator(".slot img").first).to_be_visible()
    rows = page.locator(".mount > .mountrow")
    counts = [rows.nth(n).locator(".slot").count() for n in range(3)]
    assert counts == [7, 4, 7]
    expect(page.locator(".mount").get_by_text("may be a retake")).to_be_visible()
    expect(page.get_by_text("2 places are empty")).to_be_visible()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.slot img')].every((i) => i.complete)"
    )
    assert serious(page) == []
    reader.shot("mount")

    # by drag: a loose image to an empty place
    empty = page.locator(".slot .hollow").first
    code = empty.locator("xpath=..").get_attribute("data-slot")
    page.locator(f".loose [data-image='{ids[16]}']").drag_to(empty)
    expect(page.locator(f"[data-slot='{code}'] [data-image='{ids[16]}']")).to_be_visible()
    # by keys: M, an arrow, Enter change two places
    first, second = (rows.nth(0).locator(".slot").nth(n).get_attribute("data-slot") for n in (0, 1))
    before = page.evaluate(TWO, first), page.evaluate(TWO, second)
    page.locator(f"[data-slot='{first}'] .film").focus()
    reader.press("m", "ArrowRight", "Enter")
    expect(page.locator(f"[data-slot='{second}'] [data-image='{before[0]}']")).to_be_visible()
    assert page.evaluate(TWO, first) == before[1]
    # by menu: turn it
    page.locator(f"[data-slot='{first}'] select").select_option("turn")
    expect(page.locator(f"[data-slot='{first}'] img")).to_have_class(re.compile("turn1"))
    reader.press("Escape")
    reader.settle()
    kept = {
        row.instance_id: (row.slot, row.quarter_turns)
        for row in clinic.rows(sa.select(image_place))
    }
    assert kept[ids[16]] == (code, 0)
    assert kept[before[0]] == (second, 0)
    assert kept[before[1]] == (first, 1)
    # undo takes the turn back, and opening an image from the mount shows it
    reader.press("Control+z")
    reader.settle()
    again = clinic.rows(sa.select(image_place).where(image_place.c.instance_id == before[1]))
    assert again[0].quarter_turns == 0
    reader.press("Home")
    page.locator(f"[data-slot='{second}'] .film").press("Enter")
    expect(page.locator(".thumb[aria-current]")).to_have_count(1)


@pytest.fixture
def study_id(clinic) -> str:
    made = clinic.add_study(clinic.add_patient("Sandbox", "Ada"), images=2)
    clinic.analyse(made)
    return made


def grey_at(reader, x: int, y: int) -> list[int]:
    """Grey values around a stage point, as painted."""
    return reader.page.evaluate(
        """([x, y]) => {
          const canvas = document.querySelector("#stage canvas");
          const ratio = canvas.width / canvas.getBoundingClientRect().width;
          const data = canvas.getContext("2d").getImageData(x * ratio, y * ratio, 40, 40).data;
          return [...data].filter((_, i) => i % 4 === 0);
        }""",
        [x, y],
    )


def test_sharpening_changes_the_picture_and_nothing_else(clinic, study_id, reader) -> None:
    reader.open(study_id)
    page = reader.page
    reader.press("+", "+", "+", "+", "+")  # beyond the native size, where single pixels show
    page.wait_for_function(IS_STILL, polling=250)
    plain = grey_at(reader, 300, 300)
    reader.press("s")
    expect(page.get_by_text("SHARP", exact=True)).to_be_visible()
    page.wait_for_function(FURTHEST_OFF + " > 6; }", arg=plain)
    reader.shot("review-sharp")
    reader.press("s")
    page.wait_for_function(
        FURTHEST_OFF + " <= 4; }", arg=plain
    )  # smoothing alone moves it a little


def test_the_loupe_is_there_while_l_is_held(study_id, reader) -> None:
    reader.open(study_id)
    page = reader.page
    page.mouse.move(800, 400)
    page.keyboard.down("l")
    expect(page.locator(".loupe")).to_be_visible()
    page.mouse.move(700, 420)
    reader.shot("review-loupe")
    page.keyboard.up("l")
    expect(page.locator(".loupe")).to_have_count(0)


def test_a_known_length_scales_the_measures(clinic, study_id, reader) -> None:
    with begin(clinic.db, clinic.actor, "test.scale") as tx:
        tx.conn.execute(sa.text("UPDATE instance SET spacing_kind = 'unknown'"))
    reader.open(study_id)
    page = reader.page
    expect(page.get_by_text("No scale: lengths in pixels")).to_be_visible()
    page.get_by_role("button", name="Calibrate").click()
    reader.press("Enter", *["ArrowRight"] * 30, "Enter")
    field = page.get_by_label("This line is how long, in mm?")
    expect(field).to_be_focused()
    field.fill("10")
    reader.shot("review-calibrate")
    reader.press("Enter")
    expect(page.get_by_text("Scale: calibrated by Dr. Mei Lin")).to_be_visible()
    reader.press("m", "Enter", *["ArrowRight"] * 15, "Enter")
    expect(page.locator("text.length")).to_have_text(
        re.compile(r"^(4\.9|5\.0|5\.1) mm \(calibrated by")
    )
    reader.settle()
    assert clinic.rows(sa.select(image_calibration.c.known_mm))[0].known_mm == 10.0
    reader.press("Escape", "Control+z")
    expect(page.get_by_text("No scale: lengths in pixels")).to_be_visible()
    reader.settle()
    assert clinic.rows(sa.select(image_calibration)) == []


def test_settings_numbering_keys_and_pin(clinic, study_id, reader, serious) -> None:
    reader.open(study_id)
    page = reader.page
    expect(page.locator(".card").first).to_contain_text("#")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Palmer (LR6)").check()
    page.get_by_label("Left", exact=True).check()
    page.get_by_text("Keys", exact=True).last.click()
    accept = page.get_by_label("Accept, next")
    accept.press("r")
    expect(page.get_by_text("Two commands have the same key")).to_be_visible()
    accept.press("y")
    expect(page.get_by_text("Two commands have the same key")).to_be_visible()  # calibrate has it
    accept.press("q")
    expect(page.get_by_text("Two commands have the same key")).to_have_count(0)
    assert serious(page) == []
    reader.shot("settings")
    page.get_by_label("New PIN").fill(PIN)
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Change the PIN").click()
    expect(page.get_by_text("Your PIN is kept.")).to_be_visible()
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.locator(".card").first).to_contain_text("UR7")
    reader.press("q")
    expect(page.get_by_text("3 left", exact=True)).to_be_visible()
    reader.press("a")
    expect(page.get_by_text("3 left", exact=True)).to_be_visible()
    reader.settle()
    page.reload()
    expect(page.locator(".card").first).to_contain_text("UR7")


def test_another_person_takes_over_a_locked_screen(clinic, study_id, reader, serious) -> None:
    clinic.add_user("ruiz", "K. Ruiz RDH", Role.HYGIENIST)
    reader.open(study_id)
    page = reader.page
    reader.press("Shift+L")
    expect(page.get_by_role("dialog", name="Locked")).to_be_visible()
    page.get_by_role("button", name="Somebody else").click()
    page.get_by_label("User name").fill("ruiz")
    page.get_by_label("PIN or password").fill(PASSWORD)
    assert serious(page) == []
    reader.shot("locked-take-over")
    page.get_by_role("button", name="Take over").click()
    expect(page.get_by_text("K. Ruiz RDH · hygienist")).to_be_visible()
    reader.settle()
    reader.press("a")  # a hygienist's decision is a proposal
    expect(page.locator(".card").first).to_contain_text("proposed accept by K. Ruiz RDH")
    reader.settle()
    assert {row.state for row in clinic.rows(sa.select(finding))} == {"suggested"}


def test_the_lock_takes_no_focus_from_who_is_typing(study_id, reader) -> None:
    reader.open(study_id)
    reader.press("Shift+L")
    expect(reader.page.get_by_label("Password")).to_be_focused()
    kind = """async () => {
        const rest = (ms) => new Promise((done) => setTimeout(done, ms));
        const buttons = [...document.querySelectorAll(".lock button")];
        buttons.find((each) => each.textContent === "Somebody else").click();
        await rest(0);
        document.querySelector(".lock input[type=password]").focus();
        await rest(500);
        return document.activeElement.type;
    }"""
    assert reader.page.evaluate(kind) == "password"
    reader.page.get_by_role("button", name="I am Dr. Mei Lin").click()
    expect(reader.page.get_by_label("Password")).to_be_focused()
    reader.page.get_by_role("button", name="Somebody else").click()
    expect(reader.page.get_by_label("User name")).to_be_focused()


def test_two_readers_know_of_each_other(clinic, study_id, open_reader) -> None:
    clinic.add_user("osei", "Dr. Kofi Osei")
    first, second = open_reader(clinic), open_reader(clinic)
    first.sign_in()
    first.open(study_id)
    second.sign_in("osei")
    second.open(study_id)
    expect(second.page.get_by_text(re.compile("Dr. Mei Lin is here too"))).to_be_visible()
    second.shot("review-two-readers")


def test_read_first_keeps_marks_off_until_asked(clinic, study_id, reader) -> None:
    reader.page.get_by_role("button", name="Settings").click()
    reader.page.get_by_label("Read first").check()
    reader.page.get_by_role("button", name="Keep", exact=True).click()
    expect(reader.page.locator("dialog")).to_have_count(0)
    reader.open(study_id)
    expect(reader.page.get_by_text("Marks hidden")).to_be_visible()
    expect(reader.page.locator(".mark")).to_have_count(0)
    reader.press("o")
    expect(reader.page.locator(".mark").first).to_be_visible()


def test_a_person_chooses_the_template_and_undoes_it(clinic, reader, serious) -> None:
    study_id = clinic.add_study(clinic.add_patient("Sandbox", "Ada"), images=2)
    clinic.analyse(study_id)
    reader.open(study_id)
    reader.press("Home")
    page = reader.page
    template = page.get_by_label("Mount as")
    template.select_option("FMX18")
    expect(page.locator("[data-slot]")).to_have_count(18)
    expect(page.get_by_role("heading", name="FMX18: 2 images")).to_be_visible()
    assert serious(page) == []
    template.select_option("LOOSE")
    expect(page.locator("[data-slot]")).to_have_count(0)
    template.select_option("BW2")
    expect(page.locator("[data-slot]")).to_have_count(2)
    template.select_option("")
    expect(template).to_have_value("")
    reader.press("Escape")
    reader.settle()
    reader.press("Control+z")
    expect(page.get_by_role("button", name="BW2 Home")).to_be_visible()
