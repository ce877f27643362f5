"""Words that came from elsewhere are words on every page: names, descriptions, drafts, reasons."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from node.db.session import begin
from node.db.tables import instance, patient_identity, study

pytestmark = pytest.mark.browser

EVIL = '"><img src=x onerror="window.pwned=1">{{7*7}}${7*7}<script>window.pwned=1</script>'


@pytest.fixture
def hostile(open_clinic):
    """A practice whose patient, study and sender are called what no one is called."""
    clinic = open_clinic()
    patient_id = clinic.add_patient(EVIL, "Ada")
    clinic.hostile_study = clinic.add_study(patient_id)
    clinic.doubtful = clinic.add_study(None, match_reason=EVIL[:250])
    with begin(clinic.db, clinic.actor, "test") as tx:
        tx.conn.execute(instance.update().values(sender_ae_title='"><b onload=x>'))
    clinic.analyse(clinic.hostile_study)
    return clinic


def _is_clean(page) -> bool:
    return page.evaluate("window.pwned === undefined") and not page.locator("img[src=x]").count()


def test_a_name_made_of_script_is_only_a_name_on_every_page(hostile, open_reader) -> None:
    reader = open_reader(hostile)
    reader.sign_in()
    page = reader.page
    expect(page.get_by_text("onerror").first).to_be_visible()
    assert "{{7*7}}" in page.content()
    assert _is_clean(page)
    reader.open(hostile.hostile_study)
    assert _is_clean(page)
    for path in (f"/patient/{hostile.hostile_study}", "/search", f"/review/{hostile.doubtful}"):
        page.goto(f"{hostile.url}{path}")
        page.wait_for_load_state("networkidle")
        assert _is_clean(page), path
    with hostile.db.connect() as conn:
        names = conn.execute(sa.select(patient_identity.c.family_name)).scalars().all()
        assert names == [EVIL]
        assert conn.execute(sa.select(sa.func.count()).select_from(study)).scalar_one() == 2


def test_a_search_for_sql_finds_nothing_and_changes_nothing(hostile, open_reader) -> None:
    reader = open_reader(hostile)
    reader.sign_in()
    page = reader.page
    token = page.evaluate("JSON.parse(document.getElementById('boot').textContent).me.csrf_token")
    for text in (
        "'; DROP TABLE patient; --",
        "%%%",
        "\\\\x",
        "___",
        "' OR 1=1 --",
        "x' UNION SELECT 1 --",
    ):
        answer = page.request.post(
            f"{hostile.url}/api/patients/search",
            data={"text": text},
            headers={"X-CSRF-Token": token},
        )
        assert answer.status == 200, answer.text()
        assert answer.json()["candidates"] == []
    assert len(hostile.rows(sa.select(patient_identity))) == 1
