"""What everybody does with their own account: password, second factor, open sessions."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from node.db.tables import audit, recovery_code, user_account, web_session
from node.web.accounts import LOCK_OUT, LONGEST_LOCK_OUT, lock_out_after
from node.web.auth import COOKIE
from node.web.own_account import qr_path
from node.web.second_factor import STEP_S, Codes, address_of, fitting_step, totp

PASSWORD = "correct horse battery"
NEW = "another staple of horses"
#: RFC 6238, appendix B, SHA-1: seconds and the last six of the eight digits.
RFC_VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]


def log_in(house, username: str, password: str = PASSWORD, **more: str):
    client = house.client()
    body = {"username": username, "password": password, **more}
    return client, client.post("/api/login", json=body)


def code_of(secret: str, steps: int = 0) -> str:
    now = int(datetime.now(UTC).timestamp()) // STEP_S
    return totp(base64.b32decode(secret), now + steps)


def set_up(person) -> tuple[str, list[str]]:
    begun = person.post("/api/second-factor", {"password": PASSWORD})
    assert begun.status_code == 200, begun.text
    secret = begun.json()["secret"]
    # the step before now is taken, so that the one of now is still to be used
    answer = person.post("/api/second-factor/confirm", {"code": code_of(secret, -1)})
    assert answer.status_code == 200, answer.text
    return secret, answer.json()["codes"]


# --- passwords -----------------------------------------------------------------------------------


def test_a_new_password_ends_every_session_and_gives_this_browser_a_new_one(house):
    person, other = house.person("dentist"), house.person("dentist")
    before = person.http.cookies[COOKIE]
    answer = person.post("/api/password", {"password": PASSWORD, "new_password": NEW})
    assert answer.status_code == 200, answer.text
    assert person.http.cookies[COOKIE] != before
    assert person.get("/api/me").status_code == 200
    assert other.get("/api/me").status_code == 401
    assert log_in(house, "dentist")[1].status_code == 401
    assert log_in(house, "dentist", NEW)[1].status_code == 200


@pytest.mark.parametrize(
    "weak", ["short", "password123", "aaaaaaaaaa", "dentist2026", "dentistdentist", PASSWORD]
)
def test_a_weak_or_the_same_password_is_refused(house, weak):
    person = house.person("dentist")
    answer = person.post("/api/password", {"password": PASSWORD, "new_password": weak})
    assert answer.status_code == 422, answer.text
    assert person.get("/api/me").status_code == 200


def test_the_password_before_is_asked_for(house):
    person = house.person("dentist")
    answer = person.post("/api/password", {"password": "wrong one", "new_password": NEW})
    assert answer.json()["type"] == "credentials"


def test_each_rest_is_twice_the_one_before_until_the_right_password(house):
    assert [lock_out_after(n) // LOCK_OUT for n in range(5)] == [1, 2, 4, 8, 16]
    assert lock_out_after(40) == LONGEST_LOCK_OUT
    house.user("dentist")

    def rest() -> timedelta:
        for _ in range(5):
            assert log_in(house, "dentist", "wrong one")[1].status_code == 401
        (row,) = house.rows(sa.select(user_account))
        house.change("dentist", locked_until=datetime.now(UTC) - timedelta(seconds=1))
        return row.locked_until - datetime.now(UTC)

    assert timedelta() < rest() <= LOCK_OUT < rest() <= 2 * LOCK_OUT < rest() <= 4 * LOCK_OUT
    assert log_in(house, "dentist")[1].status_code == 200
    assert rest() <= LOCK_OUT


# --- session fixation and sessions ---------------------------------------------------------------


def test_a_session_id_from_elsewhere_is_never_taken_over(house):
    house.user("dentist")
    client = house.client()
    client.cookies.set(COOKIE, "planted-by-somebody", domain="testserver.local")
    answer = client.post("/api/login", json={"username": "dentist", "password": PASSWORD})
    assert answer.status_code == 200
    assert "planted-by-somebody" not in answer.headers["set-cookie"]
    planted = house.client()
    planted.cookies.set(COOKIE, "planted-by-somebody")
    assert planted.get("/api/me").status_code == 401


def test_a_pin_switch_gives_a_new_session_id_and_ends_the_one_before(house):
    dentist, assistant = house.person("dentist"), house.person("assistant")
    dentist.post("/api/pin", {"password": PASSWORD, "pin": "482915"})
    before = assistant.http.cookies[COOKIE]
    answer = assistant.post("/api/switch", {"username": "dentist", "pin": "482915"})
    assert answer.status_code == 200
    assert COOKIE in answer.headers["set-cookie"]
    assert before not in answer.headers["set-cookie"]
    old = house.client()
    old.cookies.set(COOKIE, before)
    assert old.get("/api/me").status_code == 401


def test_a_person_sees_and_ends_their_own_sessions_only(house):
    here, there, other = house.person("dentist"), house.person("dentist"), house.person("admin")
    shown = here.get("/api/sessions").json()["sessions"]
    assert sorted(one["is_this"] for one in shown) == [False, True]
    text = str(shown)
    hashes = [row.token_hash for row in house.rows(sa.select(web_session.c.token_hash))]
    assert not any(each in text for each in hashes)
    (theirs,) = other.get("/api/sessions").json()["sessions"]
    assert here.post(f"/api/sessions/{theirs['id']}/end").status_code == 404
    (away,) = [one["id"] for one in shown if not one["is_this"]]
    assert here.post(f"/api/sessions/{away}/end").status_code == 204
    assert there.get("/api/me").status_code == 401
    assert here.get("/api/me").status_code == 200
    assert other.get("/api/me").status_code == 200


def test_every_other_session_ends_at_once(house):
    here, there = house.person("dentist"), house.person("dentist")
    assert len(here.post("/api/sessions/end-others").json()["sessions"]) == 1
    assert there.get("/api/me").status_code == 401


# --- second factor -------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "code"), RFC_VECTORS)
def test_codes_are_those_of_the_standard(seconds, code):
    secret = b"12345678901234567890"
    assert totp(secret, seconds // STEP_S) == code
    at = datetime.fromtimestamp(seconds, UTC)
    assert fitting_step(secret, code, at, 0) == seconds // STEP_S


def test_a_code_fits_one_step_early_or_late_and_no_more():
    secret, at = b"12345678901234567890", datetime.fromtimestamp(3_000_000, UTC)
    step = 3_000_000 // STEP_S
    for drift in (-2, -1, 0, 1, 2):
        found = fitting_step(secret, totp(secret, step + drift), at, 0)
        assert found == (step + drift if abs(drift) <= 1 else None)


def test_signing_in_asks_for_the_code_only_after_the_right_password(house):
    person = house.person("dentist")
    secret, _ = set_up(person)
    client, answer = log_in(house, "dentist", "wrong one")
    assert answer.json()["type"] == "credentials"
    client, answer = log_in(house, "dentist")
    assert (answer.status_code, answer.json()["type"]) == (401, "second_factor")
    assert COOKIE not in client.cookies
    assert log_in(house, "dentist", code="000000")[1].json()["type"] == "credentials"
    assert log_in(house, "dentist", code=code_of(secret))[1].status_code == 200


def test_a_code_counts_once(house):
    secret, _ = set_up(house.person("dentist"))
    code = code_of(secret)
    assert log_in(house, "dentist", code=code)[1].status_code == 200
    assert log_in(house, "dentist", code=code)[1].status_code == 401


def test_wrong_codes_rest_the_account(house):
    secret, _ = set_up(house.person("dentist"))
    for _ in range(5):
        log_in(house, "dentist", code="000000")
    assert log_in(house, "dentist", code=code_of(secret))[1].status_code == 401


def test_a_recovery_code_counts_once_and_new_ones_replace_all(house):
    person = house.person("dentist")
    _, codes = set_up(person)
    assert len(codes) == 10
    assert len(set(codes)) == 10
    assert log_in(house, "dentist", code=codes[0])[1].status_code == 200
    assert log_in(house, "dentist", code=codes[0])[1].status_code == 401
    assert log_in(house, "dentist", code=codes[1].lower())[1].status_code == 200
    assert person.get("/api/second-factor").json() == {"is_on": True, "codes_left": 8}
    fresh = person.post("/api/second-factor/recovery-codes", {"password": PASSWORD}).json()["codes"]
    assert log_in(house, "dentist", code=codes[2])[1].status_code == 401
    assert log_in(house, "dentist", code=fresh[0])[1].status_code == 200
    kept = str([tuple(row) for row in house.rows(sa.select(recovery_code))])
    assert not any(code.replace("-", "") in kept for code in fresh)


def test_neither_secret_nor_codes_lie_open_in_the_database_or_the_audit(house, tmp_path):
    secret, codes = set_up(house.person("dentist"))
    (row,) = house.rows(sa.select(user_account))
    raw = base64.b32decode(secret)
    assert secret not in row.totp_secret
    assert raw not in base64.b64decode(row.totp_secret)
    trail = str([tuple(each) for each in house.rows(sa.select(audit))])
    assert secret not in trail
    assert not any(code in trail for code in codes)
    stranger = Codes(house.db, "main", b"another key of thirty-two bytes!")
    with pytest.raises(Exception, match="another key"):
        stranger.take(row.id, code_of(secret))


def test_without_confirming_nothing_is_asked_for(house):
    person = house.person("dentist")
    assert person.post("/api/second-factor", {"password": "wrong one"}).status_code == 401
    assert person.post("/api/second-factor", {"password": PASSWORD}).status_code == 200
    assert log_in(house, "dentist")[1].status_code == 200
    assert person.post("/api/second-factor/confirm", {"code": "000000"}).status_code == 422


def test_a_role_that_needs_a_second_factor_has_no_rights_before(open_house):
    house = open_house(web={"second_factor_roles": ["admin"]})
    admin = house.person("admin")
    assert admin.get("/api/me").json()["owes"] == "second_factor"
    assert admin.get("/api/me").json()["rights"] == []
    answer = admin.get("/api/people")
    assert (answer.status_code, answer.json()["type"]) == (403, "owing")
    assert admin.get("/").headers["location"] == "/account"
    assert admin.get("/account").status_code == 200
    set_up(admin)
    assert admin.get("/api/people").status_code == 200
    assert house.person("dentist").get("/api/worklist").status_code == 200
    assert admin.post("/api/second-factor/remove", {"password": PASSWORD}).status_code == 204
    assert admin.get("/api/people").status_code == 403


def test_a_viewer_with_only_a_password_does_not_get_past_a_second_factor(house):
    set_up(house.person("dentist"))
    word = base64.b64encode(f"dentist:{PASSWORD}".encode()).decode()
    answer = house.stranger().get("/dicomweb/studies", Authorization=f"Basic {word}")
    assert (answer.status_code, answer.json()["type"]) == (401, "second_factor")


def test_the_picture_says_the_address_to_a_camera():
    address = address_of(b"12345678901234567890", "dentist", "Sandbox Dental")
    path, side = qr_path(address)
    assert set(path) <= set("Mh0123456789. ")
    drawn = np.full((side, side), 255, np.uint8)
    for x, y, length in re.findall(r"M(\d+) (\d+)\.5h(\d+)", path):
        drawn[int(y), int(x) : int(x) + int(length)] = 0
    large = cv2.resize(drawn, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    assert cv2.QRCodeDetector().detectAndDecode(large)[0] == address


# --- rates ---------------------------------------------------------------------------------------


def test_tries_to_sign_in_are_limited_by_address(open_house):
    house = open_house(web={"sign_ins_per_min": 5})
    house.user("dentist")
    answers = [log_in(house, f"nobody{n}", "wrong one")[1] for n in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].json()["type"] == "too_many"
    assert log_in(house, "dentist")[1].status_code == 429


@pytest.mark.parametrize(
    ("address", "other", "is_same"),
    [
        ("192.0.2.7", "192.0.2.8", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("::1", "127.0.0.1", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
    ],
)
def test_a_network_of_one_sender_is_one_sender(open_house, address, other, is_same):
    house = open_house(web={"sign_ins_per_min": 1})

    def answer(host: str) -> int:
        client = TestClient(house.app, raise_server_exceptions=False, client=(host, 50000))
        body = {"username": "nobody", "password": "wrong one"}
        return client.post("/api/login", json=body).status_code

    assert (answer(address), answer(other)) == (401, 429 if is_same else 401)


def test_requests_are_limited_by_account(open_house):
    house = open_house(web={"requests_per_min": 20})
    dentist, hygienist = house.person("dentist"), house.person("hygienist")
    answers = [dentist.get("/api/me").status_code for _ in range(22)]
    assert answers[:20] == [200] * 20
    assert answers[-1] == 429
    assert hygienist.get("/api/me").status_code == 200
