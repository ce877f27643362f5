"""A picture that may name its patient, on the list of problems: looked at, then let go."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from node.db.session import begin
from node.db.tables import burned_in
from node.dicom.burned_in import note
from tests.browser.conftest import Clinic, Reader

pytestmark = pytest.mark.browser

OUTSIDE = {"name": "clinic", "ae_title": "PACS", "host": "127.0.0.1", "port": 9, "external": True}
WORDS = "There seems to be a line of lettering in the picture; it may name the patient."


def test_a_dentist_lets_a_picture_leave_with_a_reason(
    open_clinic: Callable[..., Clinic], open_reader: Callable[[Clinic], Reader]
) -> None:
    clinic = open_clinic(dicom={"peers": [OUTSIDE]})
    study_id = clinic.add_study(clinic.add_patient("Doe", "Jane"))
    (image_id,) = clinic.image_ids(study_id)
    with begin(clinic.db, clinic.actor, "test") as tx:
        note(tx, image_id, WORDS)
    reader = open_reader(clinic)
    reader.sign_in()
    page = reader.page
    page.get_by_role("tab", name="Problems").click()
    expect(page.get_by_text("A picture may name the patient.")).to_be_visible()
    page.get_by_role("button", name="I looked at it: let it leave").click()
    page.get_by_label("Why it may leave").fill("Only the tooth number is written there")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No problems")).to_be_visible()
    (row,) = clinic.rows(sa.select(burned_in))
    assert row.released_at is not None
    assert row.released_reason == "Only the tooth number is written there"
