"""The account pages in a real browser: people, own account, emergencies, the sign-in service."""

from __future__ import annotations

import base64
import re
import socket
import threading
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect
from prometheus_client import CollectorRegistry

from node.config import read_config
from node.db.session import open_database
from node.dicom.instances import FolderStore
from node.domain.rights import Role
from node.engine import DurableEngine
from node.web.app import create_web
from node.web.second_factor import STEP_S, totp
from orchestration.sandbox_openid import running_openid
from tests.browser.conftest import PASSWORD, Clinic, Reader, _serve

pytestmark = pytest.mark.browser

NEW = "another staple of horses"
REASON = "The hospital calls: the patient is in the emergency room."


def sign_in(reader: Reader, username: str, password: str = PASSWORD, code: str = "") -> None:
    reader.page.goto(f"{reader.clinic.url}/login")
    reader.page.get_by_label("User name").fill(username)
    reader.page.get_by_label("Password").fill(password)
    reader.page.keyboard.press("Enter")
    if code:
        field = reader.page.get_by_label("Code of the authenticator app")
        expect(field).to_be_focused()
        field.fill(code)
        reader.page.keyboard.press("Enter")
    reader.page.wait_for_url(lambda url: "/login" not in url)


def code_of(secret: str, steps: int = 0) -> str:
    now = int(datetime.now(UTC).timestamp()) // STEP_S
    return totp(base64.b32decode(secret), now + steps)


@pytest.fixture
def office(clinic: Clinic) -> Clinic:
    clinic.add_user("ada", "Ada Admin", Role.ADMIN)
    clinic.add_user("pat", "Pat Manager", Role.OFFICE_MANAGER)
    clinic.add_user("ruth", "Ruth Auditor", Role.AUDITOR)
    return clinic


def test_a_new_person_gets_a_first_password_and_chooses_their_own(office, open_reader, serious):
    admin = open_reader(office)
    sign_in(admin, "ada")
    admin.page.get_by_role("link", name="People", exact=True).click()
    expect(admin.page.get_by_role("heading", name="Accounts")).to_be_visible()
    admin.page.get_by_label("User name").fill("kim")
    form = admin.page.get_by_role("region", name="New account")
    form.get_by_label("Name shown on reviews").fill("Kim Ruiz, RDH")
    form.get_by_label("Role").select_option("hygienist")
    form.get_by_label("Provider in the practice system").fill("HYG1")
    form.get_by_role("button", name="Make account").click()
    password = admin.page.locator(".secret").inner_text()
    expect(admin.page.get_by_role("button", name="Change kim")).to_be_visible()
    assert serious(admin.page) == []
    admin.shot("people")

    kim = open_reader(office)
    sign_in(kim, "kim", password)
    kim.page.wait_for_url("**/account")
    expect(kim.page.get_by_text("Choose a password of your own")).to_be_visible()
    assert serious(kim.page) == []
    kim.page.goto(f"{office.url}/")
    kim.page.wait_for_url("**/account")
    kim.page.get_by_label("Password now").fill(password)
    kim.page.get_by_label("New password (8").fill(NEW)
    kim.page.get_by_label("New password again").fill(NEW)
    kim.page.get_by_role("button", name="Change password").click()
    kim.page.get_by_role("link", name="Go on").click()
    expect(kim.page.get_by_role("tab", name="To review")).to_be_visible()

    admin.page.get_by_role("button", name="Disable kim").click()
    expect(admin.page.get_by_role("button", name="Enable kim")).to_be_visible()
    kim.page.reload()
    kim.page.wait_for_url("**/login**")


def test_an_authenticator_app_is_set_up_and_asked_for(office, open_reader, serious):
    reader = open_reader(office)
    sign_in(reader, "lin")
    page = reader.page
    page.get_by_role("link", name="Dr. Mei Lin").click()
    region = page.get_by_role("region", name="Authenticator app")
    region.get_by_label("Password").fill(PASSWORD)
    region.get_by_role("button", name="Set up an authenticator app").click()
    expect(page.get_by_role("img", name="Picture for the authenticator app")).to_be_visible()
    secret = region.locator(".secret").inner_text().replace(" ", "")
    page.get_by_role("region", name="Authenticator app").scroll_into_view_if_needed()
    reader.shot("account")
    assert serious(page) == []
    region.get_by_label("Code").fill(code_of(secret, -1))
    region.get_by_role("button", name="Confirm").click()
    expect(region.locator(".codes li")).to_have_count(10)
    recovery = region.locator(".codes li").first.inner_text()
    assert serious(page) == []
    expect(page.get_by_text("this one")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/login")
    sign_in(reader, "lin", code=code_of(secret))
    expect(page.get_by_role("tab", name="To review")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/login")
    sign_in(reader, "lin", code=recovery)
    expect(page.get_by_role("tab", name="To review")).to_be_visible()


def test_an_emergency_is_opened_with_a_reason_and_looked_at(office, open_reader, serious):
    study_id = office.add_study(office.add_patient("Sandbox", "Ada"))
    office.analyse(study_id)
    manager = open_reader(office)
    sign_in(manager, "pat")
    page = manager.page
    page.goto(f"{office.url}/review/{study_id}")
    page.wait_for_url(f"**/emergency/{study_id}")
    expect(page.get_by_text("Your role does not see patients' images")).to_be_visible()
    page.get_by_label("Why must it be opened now?").fill(REASON)
    assert serious(page) == []
    manager.shot("emergency")
    page.get_by_role("button", name="Open for a short time").click()
    page.wait_for_url(f"**/review/{study_id}")
    expect(page.locator("#stage:not([aria-busy=true])")).to_be_visible()
    expect(page.get_by_text("Sandbox, Ada").first).to_be_visible()
    assert "Caries" not in page.locator(".panel, .side").first.inner_text()

    auditor = open_reader(office)
    sign_in(auditor, "ruth")
    auditor.page.get_by_role("link", name="Emergencies").click()
    expect(auditor.page.get_by_text(REASON)).to_be_visible()
    expect(auditor.page.get_by_text("1 not looked at yet.")).to_be_visible()
    assert serious(auditor.page) == []
    auditor.shot("emergencies")
    auditor.page.get_by_role("button", name="Looked at the access of Pat Manager").click()
    expect(auditor.page.get_by_text("Everything has been looked at.")).to_be_visible()


def test_a_token_is_made_shown_once_and_revoked(office, open_reader, serious):
    admin = open_reader(office)
    sign_in(admin, "ada")
    page = admin.page
    page.goto(f"{office.url}/people")
    expect(page.get_by_text("Make an account with the role service first.")).to_be_visible()
    page.get_by_label("User name").fill("viewer")
    form = page.get_by_role("region", name="New account")
    form.get_by_label("Name shown on reviews").fill("The viewer")
    form.get_by_label("Role").select_option("service")
    form.get_by_role("button", name="Make account").click()
    page.get_by_label("Name of the token").fill("viewer in room 2")
    page.get_by_label("images.see").check()
    page.get_by_label("patients.see").check()
    page.get_by_role("button", name="Make token").click()
    token = page.locator(".secret").inner_text()
    assert re.fullmatch(r"bwt_[\w-]{43}", token)
    headers = {"Authorization": f"Bearer {token}"}
    answer = page.request.get(f"{office.url}/dicomweb/studies", headers=headers)
    assert answer.status == 204
    assert serious(page) == []
    page.get_by_role("button", name="Revoke viewer in room 2").click()
    expect(page.get_by_text("ended")).to_be_visible()
    assert page.request.get(f"{office.url}/dicomweb/studies", headers=headers).status == 401


@pytest.fixture
def linked(sqlite_database, tmp_path):
    """A clinic whose people sign in at an invented service."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = sqlite_database.url.render_as_string(hide_password=False)
    with running_openid() as provider:
        address = f"http://127.0.0.1:{port}"
        config = read_config(
            None,
            {},
            {
                "node": {"data_dir": tmp_path, "practice_name": "Sandbox Dental"},
                "database": {"url": url},
                "oidc": provider.settings(address),
            },
        )
        db = open_database(url)
        store = FolderStore(tmp_path / "images")
        engine = DurableEngine(url, b"a test's engine key, 32 bytes..!", "test-1")
        thread = threading.Thread(target=engine.connect)  # the driver's loop is in this one
        thread.start()
        thread.join()
        app = create_web(
            config, db, store, engine, probes=dict, metrics_registry=CollectorRegistry()
        )
        served = _serve(app, port)
        yield Clinic(address, db, store, None)
        served.stop()
        engine.close()
        db.dispose()


def test_a_person_signs_in_at_the_practices_own_service(linked, open_reader, serious):
    reader = open_reader(linked)
    page = reader.page
    page.goto(f"{linked.url}/search")
    page.wait_for_url("**/login**")
    expect(page.get_by_role("link", name="Sign in with the practice's account")).to_be_visible()
    assert serious(page) == []
    reader.shot("sign-in")
    page.get_by_role("link", name="Sign in with the practice's account").click()
    page.get_by_role("button", name="Dr Olivia Osei").click()
    page.wait_for_url(f"{linked.url}/search")
    expect(page.get_by_role("link", name="Dr Olivia Osei · dentist")).to_be_visible()
    page.get_by_role("link", name="Dr Olivia Osei").click()
    expect(page.get_by_text("the practice's sign-in service")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/login")
    page.get_by_role("link", name="Sign in with the practice's account").click()
    page.get_by_role("button", name="Gus Guest").click()
    expect(page.get_by_text("Your groups give you no role here.")).to_be_visible()
