"""Signing in, lock-out, sessions, locking, and refusing what other sites send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db.tables import audit, user_account, web_session
from node.errors import InvalidInput, Rejected
from node.web.accounts import Accounts, create_user

PASSWORD = "correct horse battery"


def log_in(practice, username, password):
    body = {"username": username, "password": password}
    return practice.client().post("/api/login", json=body)


def test_the_cookie_cannot_be_read_by_scripts_or_sent_by_other_sites(practice):
    practice.add_user("dentist", "dentist")
    answer = log_in(practice, "Dentist ", PASSWORD)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    token = cookie.split("=")[1].split(";")[0]
    stored = practice.rows(sa.select(web_session.c.token_hash), scalars=True)
    assert token not in stored
    assert "password_hash" not in answer.text


def test_cookies_are_secure_where_the_page_is_served_by_tls(open_practice):
    practice = open_practice(secure_cookies=True)
    practice.add_user("dentist", "dentist")
    assert "Secure" in log_in(practice, "dentist", PASSWORD).headers["set-cookie"]


def test_unknown_names_and_wrong_passwords_get_the_same_words(practice):
    practice.add_user("dentist", "dentist")
    unknown = log_in(practice, "nobody", PASSWORD)
    wrong = log_in(practice, "dentist", "wrong password")
    assert unknown.status_code == wrong.status_code == 401
    assert unknown.json() == wrong.json()
    assert wrong.json()["type"] == "credentials"


def test_five_wrong_passwords_rest_the_account_even_for_the_right_one(practice):
    practice.add_user("dentist", "dentist")
    for _ in range(5):
        assert log_in(practice, "dentist", "wrong password").status_code == 401
    assert log_in(practice, "dentist", PASSWORD).status_code == 401
    with practice.db.begin() as conn:
        over = datetime.now(UTC) - timedelta(seconds=1)
        conn.execute(user_account.update().values(locked_until=over))
    assert log_in(practice, "dentist", PASSWORD).status_code == 200
    (row,) = practice.rows(sa.select(user_account).where(user_account.c.username == "dentist"))
    assert (row.failed_attempts, row.locked_until) == (0, None)


def test_four_wrong_passwords_are_forgiven_by_a_right_one(practice):
    practice.add_user("dentist", "dentist")
    for _ in range(2):
        for _ in range(4):
            log_in(practice, "dentist", "wrong password")
        assert log_in(practice, "dentist", PASSWORD).status_code == 200


def test_an_account_that_was_closed_is_out_at_once(practice):
    dentist = practice.sign_in("dentist")
    with practice.db.begin() as conn:
        conn.execute(user_account.update().values(is_active=False))
    assert dentist.get("/api/me").json()["type"] == "unauthenticated"
    assert log_in(practice, "dentist", PASSWORD).status_code == 401


@pytest.mark.parametrize("headers", [{}, {"X-CSRF-Token": "guess"}])
def test_a_change_without_the_pages_token_is_refused(practice, headers):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    del dentist.http.headers["X-CSRF-Token"]
    for path in (f"/api/studies/{study_id}/ops", f"/api/studies/{study_id}/sign", "/api/logout"):
        answer = dentist.http.post(path, json={}, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (403, "csrf")
    assert dentist.get("/api/me").status_code == 200


def test_a_request_from_another_site_is_refused_even_to_sign_in(practice):
    practice.add_user("dentist", "dentist")
    answer = practice.client().post(
        "/api/login",
        json={"username": "dentist", "password": PASSWORD},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.json()["type"] == "csrf"


def test_an_idle_screen_is_locked_until_the_password_is_given(practice):
    study_id = practice.analysed_study()
    dentist = practice.sign_in("dentist")
    assert dentist.post("/api/lock").status_code == 204
    for path in ("/api/worklist", f"/api/studies/{study_id}"):
        assert dentist.get(path).json()["type"] == "locked"
    assert dentist.get("/api/me").json()["is_locked"] is True
    page = dentist.get(f"/review/{study_id}").text
    assert '"study":null' in page
    assert "Doe" not in page
    wrong = dentist.post("/api/prove", {"password": "wrong password"})
    assert wrong.json()["type"] == "credentials"
    assert dentist.post("/api/prove", {"password": PASSWORD}).json()["is_locked"] is False
    assert dentist.get("/api/worklist").status_code == 200


def test_a_request_under_way_does_not_unlock_a_screen_that_was_just_locked(practice):
    practice.sign_in("dentist")
    accounts = Accounts(practice.db, "main", timedelta(minutes=5), timedelta(hours=8))
    token, session = accounts.sign_in("dentist", PASSWORD)
    accounts.lock(session)
    accounts.touch(session)
    assert accounts.find(token).is_locked
    accounts.prove(session, PASSWORD)
    assert not accounts.find(token).is_locked


def test_an_abandoned_screen_locks_though_the_page_refreshes_by_itself(practice):
    dentist = practice.sign_in("dentist")
    with practice.db.begin() as conn:
        long_ago = datetime.now(UTC) - timedelta(minutes=5, seconds=55)
        conn.execute(web_session.update().values(last_seen_at=long_ago))
    background = {"X-Background": "1"}
    assert dentist.get("/api/worklist", headers=background).status_code == 200
    with practice.db.begin() as conn:
        conn.execute(web_session.update().values(last_seen_at=long_ago - timedelta(seconds=10)))
    assert dentist.get("/api/worklist", headers=background).json()["type"] == "locked"


def test_a_session_ends_after_its_longest_time_and_at_sign_out(practice):
    dentist, hygienist = practice.sign_in("dentist"), practice.sign_in("hygienist")
    assert hygienist.post("/api/logout").status_code == 204
    assert hygienist.get("/api/me").json()["type"] == "unauthenticated"
    with practice.db.begin() as conn:
        conn.execute(
            web_session.update().values(created_at=datetime.now(UTC) - timedelta(hours=13))
        )
    assert dentist.get("/api/me").json()["type"] == "unauthenticated"


def test_signing_in_again_ends_the_session_before(practice):
    dentist = practice.sign_in("dentist")
    old = dentist.http.cookies["bitewing_session"]
    body = {"username": "dentist", "password": PASSWORD}
    assert dentist.http.post("/api/login", json=body).status_code == 200
    stranger = practice.client()
    stranger.cookies.set("bitewing_session", old)
    assert stranger.get("/api/me").status_code == 401


def test_passwords_never_reach_the_audit(practice):
    log_in(practice, "dentist", "wrong password")
    practice.sign_in("dentist").post("/api/prove", {"password": PASSWORD})
    text = str([tuple(row) for row in practice.rows(sa.select(audit))])
    assert PASSWORD not in text
    assert "user.created" in text
    assert "session.opened" in text


def test_accounts_need_a_known_role_a_long_password_and_a_free_name(practice):
    def make(**changes):
        given = {"username": "a", "display_name": "A", "role": "dentist", "password": PASSWORD}
        return create_user(practice.db, practice.actor, **{**given, **changes})

    make()
    with pytest.raises(Rejected):
        make(username="A")
    for bad in ({"role": "king"}, {"password": "short"}, {"username": " "}, {"display_name": ""}):
        with pytest.raises(InvalidInput):
            make(**{"username": "b", **bad})
