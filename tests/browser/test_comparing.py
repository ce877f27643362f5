"""The study as a whole on the review page, and a tooth beside its earlier film."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from node.db.session import begin, upsert
from node.db.tables import study, study_reading
from node.domain.findings import FindingKind, View
from node.domain.reading import (
    Change,
    Conclusions,
    ImageFacts,
    Priority,
    Registration,
    StudyFacts,
    StudyReading,
    Urgency,
    Verdict,
)
from node.domain.teeth import Surface, Tooth

pytestmark = pytest.mark.browser

WORDS = "#30 distal: bone level 1.3 mm before, 4.1 mm now: 2.8 ± 1.1 mm more loss"


@pytest.fixture
def study_id(clinic) -> str:
    patient_id = clinic.add_patient("Sandbox", "Ada")
    earlier, now = clinic.add_study(patient_id), clinic.add_study(patient_id)
    clinic.analyse(earlier)
    clinic.analyse(now)
    (image_id,), (prior_id,) = clinic.image_ids(now), clinic.image_ids(earlier)
    tooth = Tooth("46")
    still = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    facts = StudyFacts(
        images=(ImageFacts(image_id, View.BITEWING, "R", teeth=(tooth,)),),
        registrations=(Registration(tooth, image_id, prior_id, still, 0.94, 0.21, True),),
        changes=(
            Change(
                FindingKind.BONE_LEVEL, tooth, Surface.DISTAL, Verdict.MORE_LOSS, WORDS, image_id,
                prior_id, "2025-01-05", "signed", registration=0, delta_mm=2.8,
            ),
        ),
    )  # fmt: skip
    reading = StudyReading(facts, Conclusions(False, (), Priority(Urgency.ROUTINE, (), "")))
    with begin(clinic.db, clinic.actor, "test.reading") as tx:
        tx.conn.execute(sa.update(study).where(study.c.id == earlier).values(study_date="20250105"))
        values = {
            "study_id": now,
            "location_id": "main",
            "generation": 0,
            "patient_id": patient_id,
            "inputs": "0" * 64,
            "content": reading.to_json(),
            "computed_at": tx.now,
        }
        upsert(tx.conn, study_reading, ("study_id",), values)
    return now


def test_the_whole_study_stands_under_its_findings(study_id, reader, serious) -> None:
    reader.open(study_id)
    panel = reader.page.get_by_label("The study as a whole")
    expect(panel).to_contain_text("suggested, not confirmed")
    expect(panel).to_contain_text(WORDS)
    expect(panel).to_contain_text("against 2025-01-05, signed then")
    expect(panel).to_contain_text("caries suspected")
    panel.get_by_text("Codes to consider").click()
    expect(panel).to_contain_text("none selected; nothing is posted")
    assert panel.get_by_role("checkbox").count() == 0
    why = panel.get_by_role("link", name="Why shown?")
    expect(why).to_have_attribute("href", f"/rollout?study={study_id}")
    assert serious(reader.page) == []
    reader.shot("study-reading")


def test_a_tooth_is_compared_by_keyboard(study_id, reader, serious) -> None:
    reader.open(study_id)
    expect(reader.page.get_by_label("The study as a whole")).to_be_visible()
    reader.press("p")
    dialog = reader.page.get_by_role("dialog")
    expect(dialog).to_contain_text("residual 0.21 mm")
    expect(dialog.get_by_role("img")).to_have_count(2)
    assert serious(reader.page) == []
    dialog.get_by_role("button", name="Difference").click()
    expect(dialog).to_contain_text("orange darker")
    dialog.get_by_role("button", name="Wipe").click()
    dialog.get_by_role("slider").fill("20")
    expect(dialog.locator(".over")).to_have_attribute("style", re.compile("80%"))
    reader.press("b")
    expect(dialog.get_by_role("button", name=re.compile("^Blink"))).to_have_attribute(
        "aria-pressed", "true"
    )
    dialog.get_by_role("button", name="Pause").click()
    shown = dialog.get_by_role("img").get_attribute("src")
    assert shown is not None
    assert re.search(r"/comparisons/0/(now|before)$", shown)
    reader.shot("compare")
    reader.press("Escape")
    expect(dialog).to_have_count(0)


def test_without_an_earlier_film_the_key_says_so(clinic, reader) -> None:
    made = clinic.add_study(clinic.add_patient("Roe", "Sam"))
    clinic.analyse(made)
    reader.open(made)
    reader.settle()
    reader.press("p")
    expect(reader.page.get_by_text("No earlier film shows the teeth of this image.")).to_have_count(
        1
    )


def test_whole_films_move_together_until_they_are_let_go(study_id, reader, serious) -> None:
    reader.open(study_id)
    page = reader.page
    reader.press("p")
    page.get_by_role("button", name="Whole films, linked").click()
    films = page.get_by_role("img", name=re.compile("^Film of"))
    expect(films).to_have_count(2)
    before, now = films.all()
    painted = """(canvas) => new Set(canvas.getContext("2d").getImageData(
      0, 0, canvas.width, canvas.height).data).size > 20"""
    page.wait_for_function(
        f"() => [...document.querySelectorAll('.films canvas')].every({painted})"
    )
    # the pair is one picture at another time, so what is linked looks alike everywhere
    alike = """() => { const [before, now] = document.querySelectorAll(".films canvas");
      return before.toDataURL() === now.toDataURL(); }"""
    page.wait_for_function(alike)
    now.press("+")
    now.press("ArrowLeft")
    page.wait_for_function(alike)
    page.get_by_label("Linked zoom and move").uncheck()
    now.press("+")
    page.wait_for_function(alike.replace("===", "!=="))
    page.get_by_label("Linked zoom and move").check()
    before.press("+")
    page.wait_for_function(alike)
    assert serious(page) == []
    reader.shot("compare-linked")
