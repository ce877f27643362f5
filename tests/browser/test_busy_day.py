"""The worklist on a busy day: every state, long names, who is in the chair, and what went wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from node.db.session import begin, new_id
from node.db.tables import appointment, instance, operatory, pms_command, study

pytestmark = pytest.mark.browser

NAMES = (
    ("Doe", "Jane"),
    ("Wolfeschlegelsteinhausenbergerdorff", "Maximiliana Alexandra"),
    ("Müller-Lüdenscheidt", "Çağla"),
    ("Roe", "Sam"),
    ("Poe", "Ann"),
    ("Loe", "Tim"),
)


def visit(clinic, study_id: str, starts_in_min: int) -> None:
    key = new_id()[:12]
    with begin(clinic.db, clinic.actor, "test.visit") as tx:
        patient_id = tx.conn.execute(
            sa.select(study.c.patient_id).where(study.c.id == study_id)
        ).scalar()
        tx.conn.execute(
            appointment.insert().values(
                id=new_id(),
                location_id="main",
                pms_key=key,
                patient_id=patient_id,
                start_at=datetime.now(UTC) + timedelta(minutes=starts_in_min),
                duration_min=60,
                operatory_key="7",
                status="scheduled",
                accession_number=key,
                study_instance_uid=f"1.2.{int(key, 16)}",
                synced_at=tx.now,
            )
        )


@pytest.fixture
def busy(clinic) -> list[str]:
    """Nine studies: ready, analysing, failed, refused by the PMS, in doubt, nobody's, signed."""
    patients = [clinic.add_patient(family, given) for family, given in NAMES]
    studies = [
        clinic.add_study(each, images=1 + number % 2) for number, each in enumerate(patients)
    ]
    for study_id in studies[:3]:
        clinic.analyse(study_id)
    studies.append(clinic.add_study(None))
    studies.append(
        clinic.add_study(
            None, match_state="ambiguous",
            match_reason="patient ID is known, but the birth date differs",
        )
    )  # fmt: skip
    studies.append(clinic.add_study(patients[0], state="signed", review_version=1))
    with begin(clinic.db, clinic.actor, "test.busy") as tx:
        tx.conn.execute(
            operatory.insert().values(id=new_id(), location_id="main", pms_key="7", name="Room 2")
        )
        tx.conn.execute(study.update().where(study.c.id == studies[3]).values(state="complete"))
        tx.conn.execute(
            instance.update().where(instance.c.study_id == studies[3]).values(state="received")
        )
        tx.conn.execute(
            instance.update()
            .where(instance.c.study_id == studies[4])
            .values(state="failed", failure="the model took longer than 60 s")
        )
        tx.conn.execute(
            pms_command.insert().values(
                id=new_id(), location_id="main", key="chart:busy", ref="ref:BW-0123456789",
                study_id=studies[8], patient_id=patients[0], review_version=1,
                kind="AppendCommlog", payload={"command": {}}, state="failed", attempts=3,
                error="the practice system refused the note: log is full", created_at=tx.now,
                updated_at=tx.now,
            )
        )  # fmt: skip
    visit(clinic, studies[1], -10)
    visit(clinic, studies[2], 45)
    return studies


@pytest.mark.skipif(
    datetime.now(UTC).hour in (0, 23), reason="appointments around now would be on two days"
)
def test_a_busy_day_stands_in_order_and_fits(clinic, busy, open_reader, serious) -> None:
    reader = open_reader(clinic)
    reader.sign_in()
    page = reader.page
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(8)
    expect(rows.nth(0)).to_contain_text("Wolfeschlegelsteinhausenbergerdorff")
    expect(rows.nth(0)).to_contain_text("in the chair")
    expect(rows.nth(0)).to_contain_text("Room 2")
    expect(rows.nth(1)).to_contain_text("Müller-Lüdenscheidt")
    expect(page.get_by_text("AI failed: read without it, or retry")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1600
    assert serious(page) == []
    reader.shot("worklist-busy")
    page.get_by_role("tab", name=re.compile("Problems")).click()
    expect(page.get_by_text("The practice system refused the note")).to_be_visible()
    expect(page.get_by_role("button", name="Link patient")).to_have_count(2)
    assert serious(page) == []
    reader.shot("worklist-problems")
    page.get_by_role("button", name="Retry").last.click()
    expect(page.get_by_text(re.compile("^Started"))).to_be_visible()
    page.get_by_role("tab", name=re.compile("schedule")).click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("Kind of images").select_option("PAN")
    expect(page.get_by_text("No images of today's patients")).to_be_visible()


def test_an_answer_that_comes_late_does_not_replace_a_later_one(clinic, busy, open_reader) -> None:
    reader = open_reader(clinic)
    reader.sign_in()
    page = reader.page
    late = []
    page.route("**/api/worklist?filter=problems", lambda route: late.append(route))
    page.get_by_role("tab", name=re.compile("Problems")).click()
    expect(page.get_by_role("tab", name=re.compile("Problems"))).to_have_attribute(
        "aria-selected", "true"
    )
    page.get_by_role("tab", name=re.compile("schedule")).click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    with page.expect_response("**/api/worklist?filter=problems"):
        late[0].continue_()
    page.evaluate("new Promise((done) => setTimeout(done))")
    expect(rows).to_have_count(2)
