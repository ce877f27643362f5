"""The workflows' console: a manager decides drafts, mends a stopped case, pauses what leaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import expect

from node.db.session import Actor, begin, new_id
from node.db.tables import workflow_case
from node.domain.rights import Right, Role
from node.errors import Rejected
from node.web.auth import require
from orchestration.case import Case
from orchestration.cases import CaseState
from orchestration.console import make_router
from orchestration.hooks import Hooks
from orchestration.labs.prescription import rx_to_json
from orchestration.labs.source import LAB_CASE
from orchestration.orchestra import Orchestra
from orchestration.workflow import Outcome, Workflow, ask, done
from tests.browser.conftest import PASSWORD
from tests.conftest import close_engine, launch, make_engine
from tests.orchestration.clockwork import Clockwork
from tests.orchestration.labs.prescriptions import CROWN

pytestmark = pytest.mark.browser

TEXT = (
    "Crown on tooth 30: less than half of the sound structure is left. " * 3
    + "<img src=x onerror=window.pwned=1>"
)


def narratives() -> Workflow:
    again = {"refused": "draft"}
    flow = Workflow(name="narratives", title="Pre-authorisation", again=again)
    stopped_once: list[str] = []

    @flow.stage
    def draft(case: Case) -> Outcome:
        if case.key == "stopped" and not stopped_once:
            stopped_once.append(case.id)
            raise Rejected("the payer's list does not know this plan")
        return ask(
            "narrative", title="Send a pre-authorisation",
            draft={"narrative": TEXT, "teeth": ["30"], "fee": 1450.0, "is_urgent": False},
            right=Right.PREAUTHS_APPROVE, then=send, timeout=timedelta(days=2),
            escalate_to=Role.OFFICE_MANAGER,
        )  # fmt: skip

    @flow.stage
    def send(case: Case) -> Outcome:
        assert case.decision is not None
        case.data["sent"] = case.decision.draft if case.decision.is_approved else None
        return done("sent" if case.decision.is_approved else "refused")

    return flow


@pytest.fixture
def work(sqlite_database, tmp_path):
    engine = make_engine(sqlite_database)
    clockwork = Clockwork(sqlite_database, engine, tmp_path, narratives())
    _apart(lambda: launch(engine))
    yield clockwork
    _apart(lambda: close_engine(engine))


def _apart(act) -> None:
    """Act in a thread of its own: the browser's driver keeps an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(act).result()


@pytest.fixture
def office(open_clinic, work):
    orchestra = Orchestra(work.runner, Hooks(work.runner))
    clinic = open_clinic(routers=[make_router(orchestra, require)])
    clinic.add_user("pat", "Pat Manager", Role.OFFICE_MANAGER)
    clinic.add_user("sam", "Sam Desk", Role.FRONT_DESK)
    clinic.add_user("jo", "Jo Assistant", Role.ASSISTANT)
    return clinic


def _start(work: Clockwork, clinic, key: str, given: str) -> str:
    patient_id = clinic.add_patient("Sandbox", given)
    case_id = work.start(work.runner.workflows["narratives"], key, patient_id)
    work.settle()
    return case_id


def _enter(reader, name: str):
    reader.page.goto(f"{reader.clinic.url}/login?next=/workflows")
    reader.page.get_by_label("User name").fill(name)
    reader.page.get_by_label("Password").fill(PASSWORD)
    reader.page.keyboard.press("Enter")
    expect(reader.page.get_by_role("tab", name="Cases")).to_be_visible()
    return reader.page


def _violations(page) -> list[str]:
    found = Axe().run(page)["violations"]
    return [item["id"] for item in found if item["impact"] in ("serious", "critical")]


def test_a_draft_is_read_edited_with_its_reason_and_goes_on(office, work, open_reader) -> None:
    case_id = _start(work, office, "a", "Ada")
    reader = open_reader(office)
    page = _enter(reader, "sam")
    page.get_by_role("button", name="Send a pre-authorisation").click()
    expect(page.get_by_text("Crown on tooth 30").first).to_be_visible()
    assert page.evaluate("window.pwned === undefined")
    assert _violations(page) == []
    reader.shot("workflows-approval")
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Narrative").fill("Crown on tooth 30.")
    expect(page.get_by_role("button", name="Approve as edited")).to_be_disabled()
    page.get_by_label("Reason").fill("shorter")
    page.get_by_role("button", name="Approve as edited").click()
    expect(page.get_by_text("Nothing waits for a decision")).to_be_visible()
    work.settle()
    assert work.state(case_id) is CaseState.DONE
    sent = work.case(case_id).data["sent"]
    assert (sent["narrative"], sent["fee"]) == ("Crown on tooth 30.", 1450.0)


def test_a_case_that_waits_for_a_decision_is_listed(office, work, open_reader) -> None:
    _start(work, office, "a", "Ada")
    page = _enter(open_reader(office), "pat")
    page.get_by_role("tab", name="Cases").click()
    expect(page.get_by_role("button", name="Pre-authorisation")).to_be_visible()


def test_drafts_that_were_read_are_approved_together(office, work, open_reader) -> None:
    ids = [_start(work, office, key, key) for key in ("Ada", "Ben")]
    reader = open_reader(office)
    page = _enter(reader, "pat")
    boxes = page.get_by_role("checkbox")
    expect(boxes.first).to_be_disabled()
    for number in range(2):
        page.get_by_role("button", name="Send a pre-authorisation").nth(number).click()
        boxes.nth(number).check()
    page.get_by_role("button", name="Approve 2 drafts").click()
    expect(page.get_by_text("Nothing waits for a decision")).to_be_visible()
    work.settle()
    assert {work.state(each) for each in ids} == {CaseState.DONE}


def test_a_stopped_case_says_why_and_is_tried_again(office, work, open_reader) -> None:
    case_id = _start(work, office, "stopped", "Ada")
    reader = open_reader(office)
    page = _enter(reader, "pat")
    page.get_by_role("tab", name="Cases").click()
    page.get_by_role("button", name="Pre-authorisation").click()
    expect(page.locator(".detail .notice")).to_have_text("the payer's list does not know this plan")
    assert _violations(page) == []
    reader.shot("workflows-case")
    page.get_by_role("button", name="Try again now").click()
    expect(page.locator(".detail .pill")).not_to_have_text("parked")
    work.settle()
    assert work.state(case_id) is CaseState.ASKING


def test_a_case_refused_by_mistake_is_taken_up_again(office, work, open_reader) -> None:
    case_id = _start(work, office, "a", "Ada")
    work.decide(case_id, "refused", reason="the wrong button")
    page = _enter(open_reader(office), "pat")
    page.get_by_role("tab", name="Cases").click()
    page.get_by_label("Which cases").select_option("done")
    page.get_by_role("button", name="Pre-authorisation").click()
    page.get_by_role("button", name="Take it up again").click()
    expect(page.locator(".detail .pill")).not_to_have_text("done")
    work.settle()
    assert work.state(case_id) is CaseState.ASKING


def test_everything_outbound_is_paused_and_let_go_on(office, work, open_reader) -> None:
    reader = open_reader(office)
    page = _enter(reader, "pat")
    page.get_by_role("tab", name="Workflows").click()
    page.get_by_role("button", name="Pause everything outbound").click()
    expect(page.get_by_text("Nothing leaves the practice")).to_be_visible()
    assert _violations(page) == []
    reader.shot("workflows-kinds")
    page.get_by_role("button", name="Let everything outbound go on").click()
    expect(page.get_by_text("Nothing leaves the practice")).to_be_hidden()


def test_laboratories_are_compared_by_what_came_back(office, work, open_reader) -> None:
    moments = {  # sent on the evening of the 2nd there; made again and back on the 9th and 18th
        "0:sent": "2026-11-03T02:00:00+00:00", "0:received": "2026-11-09T16:00:00+00:00",
        "1:sent": "2026-11-09T20:00:00+00:00", "1:received": "2026-11-18T16:00:00+00:00",
    }  # fmt: skip
    remade = [{"round": "0", "reason": "shade"}]
    rest = {"round": 1, "moments": moments, "remade": remade, "invoice": {"amount": "185.00"}}
    with begin(work.db, Actor("test", "main"), "test") as tx:
        row = {"id": new_id(), "location_id": "main", "workflow": LAB_CASE, "key": "a"}
        times = {"created_at": tx.now, "updated_at": tx.now}
        data = {"rx": rx_to_json(CROWN), **rest}
        tx.conn.execute(workflow_case.insert().values(**row, **times, state="done", data=data))
    reader = open_reader(office)
    page = _enter(reader, "pat")
    page.get_by_role("tab", name="Workflows").click()
    cells = page.get_by_role("table", name="Laboratories").locator("tbody td")
    expect(cells).to_have_text(
        ["sandbox", "2", "6, 7 working days", "0 % of 1", "1 of 2 (50 %)", "185.00 (1 billed)"]
    )
    assert _violations(page) == []
    reader.shot("workflows-laboratories")


def test_who_may_not_see_workflows_sees_none(office, work, open_reader) -> None:
    reader = open_reader(office)
    reader.sign_in("jo")
    answer = reader.page.goto(f"{office.url}/workflows")
    assert answer is not None
    assert answer.status == 403
