"""PINs, handing a workstation over, and what each person chose for their own screen."""

from __future__ import annotations

PASSWORD = "correct horse battery"
PIN = "482915"


def with_pin(practice, username: str = "dentist", pin: str = PIN):
    browser = practice.sign_in(username)
    answer = browser.post("/api/pin", {"password": PASSWORD, "pin": pin})
    assert answer.status_code == 200, answer.text
    assert answer.json()["has_pin"] is True
    return browser


def test_a_pin_unlocks_and_signs(practice):
    browser = with_pin(practice)
    study_id = practice.add_study()
    assert browser.post("/api/lock").status_code == 204
    assert browser.get("/api/worklist").status_code == 401
    assert browser.post("/api/prove", {"pin": "000000"}).status_code == 401
    assert browser.post("/api/prove", {"pin": PIN}).json()["is_locked"] is False
    browser.see_all(study_id)
    refused = browser.sign(study_id, pin="999999")
    assert refused.status_code == 409
    assert refused.json()["blockers"][0]["kind"] == "proof"
    assert browser.sign(study_id, pin=PIN).status_code == 200


def test_a_pin_rests_after_five_wrong_tries_until_the_password(practice):
    browser = with_pin(practice)
    for _ in range(5):
        assert browser.post("/api/prove", {"pin": "111112"}).status_code == 401
    assert browser.post("/api/prove", {"pin": PIN}).status_code == 401
    assert browser.post("/api/prove", {"password": PASSWORD}).status_code == 200
    assert browser.post("/api/prove", {"pin": PIN}).status_code == 200


def test_a_weak_pin_and_a_wrong_password_are_refused(practice):
    browser = practice.sign_in("dentist")
    for pin in ("12345", "111111", "123456", "654321", "12a456"):
        answer = browser.post("/api/pin", {"password": PASSWORD, "pin": pin})
        assert answer.status_code == 422, pin
    assert browser.post("/api/pin", {"password": "wrong one", "pin": PIN}).status_code == 401
    assert browser.get("/api/me").json()["has_pin"] is False


def test_a_pin_alone_opens_no_session_at_a_new_workstation(practice):
    with_pin(practice)
    stranger = practice.client()
    answer = stranger.post("/api/switch", json={"username": "dentist", "pin": PIN})
    assert answer.status_code == 401
    assert "bitewing_session" not in answer.cookies


def test_another_person_takes_over_a_locked_screen_with_their_own_rights(practice):
    dentist = with_pin(practice)
    practice.add_user("hygienist", "hygienist")
    study_id = practice.add_study()
    assistant = practice.sign_in("assistant")
    before = dict(assistant.http.cookies)["bitewing_session"]
    assistant.post("/api/lock")
    wrong = assistant.post("/api/switch", {"username": "dentist", "pin": "777777"})
    assert wrong.status_code == 401
    assert assistant.get("/api/me").json()["is_locked"] is True  # as it was
    taken = assistant.post("/api/switch", {"username": "Dentist ", "pin": PIN})
    assert taken.status_code == 200, taken.text
    assert taken.json()["username"] == "dentist"
    assistant.http.headers["X-CSRF-Token"] = taken.json()["csrf_token"]
    assert "findings.decide" in assistant.study(study_id)["rights"]
    old = practice.client()
    old.cookies.set("bitewing_session", before)
    assert old.get("/api/me").status_code == 401
    assert dentist.get("/api/me").status_code == 200  # the other workstation is not ended


def test_both_proofs_at_once_are_refused(practice):
    browser = with_pin(practice)
    both = {"pin": PIN, "password": PASSWORD}
    assert browser.post("/api/prove", both).status_code == 422
    assert browser.post("/api/prove", {}).status_code == 422


def test_preferences_are_kept_for_each_person_and_checked(practice):
    browser = practice.sign_in("dentist")
    chosen = {"numbering": "palmer", "stop": "strict", "reads_first": True, "keys": {"accept": "Y"}}
    answer = browser.post("/api/preferences", chosen)
    assert answer.status_code == 200
    kept = practice.sign_in("dentist").me["preferences"]
    assert {name: kept[name] for name in chosen} == chosen
    assert kept["panel"] == "right"
    assert practice.sign_in("hygienist").me["preferences"]["numbering"] == "universal"
    assert browser.post("/api/preferences", {"numbering": "roman"}).status_code == 422
