"""Signing in at the practice's sign-in service, and every lie that its tokens can tell."""

from __future__ import annotations

import re
import time

import httpx2
import pytest
import sqlalchemy as sa

from node.config import read_config
from node.db.tables import audit, sign_in_flow, user_account, web_session
from node.domain.destinations import Reach
from node.errors import ConfigError
from node.web.auth import COOKIE
from node.web.oidc import FLOW_COOKIE
from node.web.sign_in_service import SignInRefused, SignInService
from orchestration.sandbox_openid import Lie, OpenIdHandle, running_openid

PUBLIC = "http://testserver"


@pytest.fixture(scope="module")
def _provider():
    with running_openid() as running:
        yield running


@pytest.fixture
def provider(_provider: OpenIdHandle):
    _provider.lie, _provider.skew_s = None, 0
    _provider.asked.clear()
    members = dict(_provider.members)
    yield _provider
    _provider.lie, _provider.skew_s = None, 0
    _provider.members = members


@pytest.fixture
def office(open_house, provider):
    return open_house(oidc=provider.settings(PUBLIC))


def begin(office, path: str = "/oidc/sign-in"):
    """Start in a browser; return it and the address at the service."""
    browser = office.client()
    answer = browser.get(path, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return browser, answer.headers["location"]


def visit(provider, address: str, name: str) -> str:
    """Sign in as somebody at the service; return the way back."""
    answer = httpx2.get(f"{address}&login_hint={name}", follow_redirects=False)
    assert answer.status_code == 303, answer.text
    back = answer.headers["location"]
    assert back.startswith(PUBLIC)
    return back.removeprefix(PUBLIC)


def sign_in(office, provider, name: str, path: str = "/oidc/sign-in"):
    browser, address = begin(office, path)
    answer = browser.get(visit(provider, address, name), follow_redirects=False)
    return browser, answer


def me(browser) -> dict:
    return browser.get("/api/me").json()


@pytest.mark.parametrize(
    ("name", "role"),
    [("olivia", "dentist"), ("henry", "hygienist"), ("mia", "office_manager"), ("ada", "admin")],
)
def test_a_persons_groups_say_the_role(office, provider, name, role):
    browser, answer = sign_in(office, provider, name)
    assert answer.status_code == 200, answer.text
    assert (me(browser)["username"], me(browser)["role"]) == (name, role)
    assert me(browser)["has_password"] is False
    (row,) = office.rows(sa.select(web_session.c.method))
    assert row.method == "oidc"


def test_the_way_there_carries_state_nonce_and_a_hashed_verifier(office, provider):
    _, address = begin(office)
    query = dict(httpx2.URL(address).params)
    assert query["response_type"] == "code"
    assert query["code_challenge_method"] == "S256"
    assert "openid" in query["scope"].split()
    (flow,) = office.rows(sa.select(sign_in_flow))
    assert query["nonce"] == flow.nonce
    assert flow.verifier not in address
    assert query["state"] not in str(tuple(flow))  # only its digest is kept


def test_the_session_is_led_on_by_a_page_of_ours(office, provider):
    _, answer = sign_in(office, provider, "olivia", "/oidc/sign-in?next=/search")
    assert 'content="0;url=/search"' in answer.text
    cookies = answer.headers.get_list("set-cookie")
    session = next(each for each in cookies if each.startswith(COOKIE))
    assert "HttpOnly" in session
    assert "SameSite=strict" in session


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", ""]
)
def test_nobody_is_led_elsewhere_afterwards(office, provider, elsewhere):
    browser, _ = begin(office)
    answer = browser.get("/oidc/sign-in", params={"next": elsewhere}, follow_redirects=False)
    back = visit(provider, answer.headers["location"], "olivia")
    assert 'content="0;url=/"' in browser.get(back).text


@pytest.mark.parametrize("lie", list(Lie))
def test_every_lie_is_refused(office, provider, lie):
    provider.lie = lie
    browser, answer = sign_in(office, provider, "olivia")
    assert answer.status_code == 403, answer.text
    assert COOKIE not in answer.headers.get("set-cookie", "")
    assert browser.get("/api/me").status_code == 401
    assert office.rows(sa.select(user_account)) == []
    provider.lie = None
    assert sign_in(office, provider, "olivia")[1].status_code == 200


def test_a_clock_that_is_a_little_off_is_forgiven_and_more_is_not(office, provider):
    for skew_s, status in ((40, 200), (-320, 200), (120, 403), (-400, 403)):
        provider.skew_s = skew_s
        assert sign_in(office, provider, "olivia")[1].status_code == status, skew_s


def test_new_keys_are_fetched_when_a_token_names_one(office, provider):
    assert sign_in(office, provider, "olivia")[1].status_code == 200
    provider.rotate()
    service = office.web.service
    service._keys = (service._keys[0] - 60, service._keys[1])  # a minute goes by
    assert sign_in(office, provider, "olivia")[1].status_code == 200


def test_strange_key_names_do_not_make_us_ask_again_and_again(office, provider):
    provider.lie = Lie.UNKNOWN_KEY
    for _ in range(4):
        assert sign_in(office, provider, "olivia")[1].status_code == 403
    assert provider.asked.count("/keys") == 1


def test_a_code_counts_once_and_for_the_browser_that_began(office, provider):
    browser, address = begin(office)
    back = visit(provider, address, "olivia")
    thief = office.client()
    assert thief.get(back).status_code == 403
    assert browser.get(back).status_code == 200
    browser.cookies.set(FLOW_COOKIE, "anything", path="/oidc")
    assert browser.get(back).status_code == 403


def test_a_way_back_that_nobody_began_or_that_took_too_long_is_refused(office, provider):
    assert office.client().get("/oidc/callback?state=x&code=y").status_code == 403
    browser, address = begin(office)
    back = visit(provider, address, "olivia")
    with office.db.begin() as conn:
        created = conn.execute(sa.select(sign_in_flow.c.created_at)).scalar_one()
        old = created.replace(year=created.year - 1)
        conn.execute(sign_in_flow.update().values(created_at=old))
    assert browser.get(back).status_code == 403


def test_an_answer_of_another_issuer_is_refused(office, provider):
    browser, address = begin(office)
    back = re.sub(r"iss=[^&]*", "iss=http%3A%2F%2Fevil.example", visit(provider, address, "olivia"))
    assert browser.get(back).status_code == 403


def test_who_has_no_group_of_ours_stays_out(office, provider):
    _, answer = sign_in(office, provider, "gus")
    assert answer.status_code == 403
    assert "give you no role" in answer.text
    assert office.rows(sa.select(user_account)) == []


def test_a_changed_group_counts_at_the_next_sign_in_and_losing_all_ends_every_session(
    office, provider
):
    browser, _ = sign_in(office, provider, "olivia")
    provider.regroup("olivia", "hygienists")
    second, _ = sign_in(office, provider, "olivia")
    assert me(second)["role"] == "hygienist"
    assert me(browser)["role"] == "hygienist"  # the older session too
    provider.regroup("olivia", "visitors")
    assert sign_in(office, provider, "olivia")[1].status_code == 403
    assert browser.get("/api/me").status_code == 401
    assert second.get("/api/me").status_code == 401


def test_a_group_means_another_role_at_another_location(open_house, provider):
    groups = [
        {"group": "dentists", "role": "dentist", "locations": ["north"]},
        {"group": "dentists", "role": "auditor", "locations": ["south"]},
    ]
    section = {**provider.settings(PUBLIC), "groups": groups}
    for location, role in (("north", "dentist"), ("south", "auditor")):
        office = open_house(location, oidc=section)
        browser, answer = sign_in(office, provider, "olivia")
        assert answer.status_code == 200, answer.text
        assert me(browser)["role"] == role
    west = open_house("west", oidc=section)
    assert sign_in(west, provider, "olivia")[1].status_code == 403


def test_a_name_that_exists_is_never_taken_over_but_can_be_linked(office, provider):
    olivia = office.user("dentist", "olivia")
    _, answer = sign_in(office, provider, "olivia")
    assert answer.status_code == 403
    assert "Ask an administrator to link it" in answer.text
    admin = office.person("admin")
    subject = provider.members["olivia"].subject
    body = {"sign_in_subject": subject}
    assert admin.post(f"/api/people/{olivia}", body).json()["sign_in_subject"] == subject
    browser, answer = sign_in(office, provider, "olivia")
    assert answer.status_code == 200
    assert me(browser)["user_id"] == olivia


def test_a_disabled_account_stays_out(office, provider):
    sign_in(office, provider, "olivia")
    with office.db.begin() as conn:
        conn.execute(user_account.update().values(is_active=False))
    assert sign_in(office, provider, "olivia")[1].status_code == 403


def test_who_signs_in_there_has_no_password_here_but_may_choose_a_pin(office, provider):
    browser, _ = sign_in(office, provider, "olivia")
    headers = {"X-CSRF-Token": me(browser)["csrf_token"]}
    answer = browser.post("/api/pin", json={"pin": "482915"}, headers=headers)
    assert answer.json()["has_pin"] is True
    assert browser.post("/api/prove", json={"pin": "482915"}, headers=headers).status_code == 200
    for password in ("x", "correct horse battery"):
        body = {"username": "olivia", "password": password}
        assert office.client().post("/api/login", json=body).status_code == 401


def test_a_session_before_ends_and_the_new_one_has_another_id(office, provider):
    office.user("assistant")
    browser = office.client()
    body = {"username": "assistant", "password": "correct horse battery"}
    browser.post("/api/login", json=body)
    before = browser.cookies[COOKIE]
    address = browser.get("/oidc/sign-in", follow_redirects=False).headers["location"]
    browser.get(visit(provider, address, "olivia"))
    assert me(browser)["username"] == "olivia"
    old = office.client()
    old.cookies.set(COOKIE, before)
    assert old.get("/api/me").status_code == 401


def test_no_code_nonce_or_token_stands_in_the_audit(office, provider):
    sign_in(office, provider, "olivia")
    text = str([tuple(row) for row in office.rows(sa.select(audit))])
    (flow,) = office.rows(sa.select(sign_in_flow))
    assert flow.nonce not in text
    assert flow.verifier not in text
    assert "user.signed_in_elsewhere" in text


def test_a_service_that_is_away_is_said_and_nothing_else_stops(open_house):
    section = {
        "issuer": "http://127.0.0.1:1",
        "client_id": "bitewing",
        "public_url": PUBLIC,
        "groups": [{"group": "dentists", "role": "dentist"}],
    }
    office = open_house(oidc=section)
    answer = office.client().get("/oidc/sign-in")
    assert answer.status_code == 503
    assert "does not answer" in answer.text
    assert office.client().get("/login").status_code == 200


def test_without_a_service_the_routes_are_not_there(house):
    assert house.client().get("/oidc/sign-in").status_code == 404
    assert house.client().get("/oidc/callback?state=x&code=y").status_code == 403


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"issuer": "http://login.example"}, "oidc.issuer"),
        ({"client_id": ""}, "client_id"),
        ({"groups": []}, "groups"),
        ({"groups": [{"group": "x", "role": "king"}]}, "role"),
        ({"groups": [{"group": "x", "role": "service"}]}, "service"),
    ],
)
def test_a_configuration_that_cannot_be_right_is_refused(provider, change, words):
    with pytest.raises(ConfigError, match=words):
        read_config(None, {}, {"oidc": {**provider.settings(PUBLIC), **change}})


def test_metadata_of_another_issuer_are_refused(provider):
    section = read_config(None, {}, {"oidc": provider.settings(PUBLIC)}).oidc
    elsewhere = section.model_copy(update={"issuer": section.issuer + "/"})
    service = SignInService(elsewhere, Reach("oidc"))
    with pytest.raises(ConfigError, match="calls itself otherwise"):
        service.address("s", "n", "v" * 43)


def test_a_wrong_verifier_gets_no_token(provider):
    section = read_config(None, {}, {"oidc": provider.settings(PUBLIC)}).oidc
    service = SignInService(section, Reach("oidc"))
    back = visit(provider, service.address("state", "nonce", "v" * 43), "olivia")
    code = dict(httpx2.URL(f"{PUBLIC}{back}").params)["code"]
    with pytest.raises(SignInRefused, match="refused"):
        service.identify(code, "w" * 43, "nonce")


def test_an_old_token_is_refused_by_our_own_clock(provider):
    section = read_config(None, {}, {"oidc": provider.settings(PUBLIC)}).oidc
    late = SignInService(section, Reach("oidc"), now=lambda: time.time() + 3600)
    back = visit(provider, late.address("state", "nonce", "v" * 43), "olivia")
    code = dict(httpx2.URL(f"{PUBLIC}{back}").params)["code"]
    with pytest.raises(SignInRefused, match="Expired"):
        late.identify(code, "v" * 43, "nonce")
