"""Accounts kept by an administrator, tokens of programs, and rights that end at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.db.tables import api_token, audit, provider, user_account
from node.domain.events import EventKind
from node.domain.rights import RIGHTS, Right, Role
from node.web.tokens import PERSONAL

PASSWORD = "correct horse battery"


def make(admin, username: str = "kim", role: str = "hygienist", **more: str):
    body = {"username": username, "display_name": "Kim Ruiz", "role": role, **more}
    return admin.post("/api/people", body)


def log_in(house, username: str, password: str):
    return house.client().post("/api/login", json={"username": username, "password": password})


def test_a_new_person_signs_in_once_with_the_first_password_and_chooses_their_own(house):
    made = make(house.person("admin"), pms_user_key="7", provider_key="DOC1")
    assert made.status_code == 201, made.text
    person, password = made.json()["person"], made.json()["password"]
    assert (person["pms_user_key"], person["provider_key"]) == ("7", "DOC1")
    assert person["must_change_password"] is True
    client = house.client()
    me = client.post("/api/login", json={"username": "kim", "password": password}).json()
    assert (me["owes"], me["rights"]) == ("password", [])
    refused = client.get("/api/worklist")
    assert (refused.status_code, refused.json()["type"]) == (403, "owing")
    body = {"password": password, "new_password": "a word of my own"}
    headers = {"X-CSRF-Token": me["csrf_token"]}
    me = client.post("/api/password", json=body, headers=headers).json()
    assert me["owes"] == ""
    assert client.get("/api/worklist").status_code == 200


def test_a_provider_must_be_one_that_the_practice_system_knows(house):
    admin = house.person("admin")
    with house.db.begin() as conn:
        for key, location in (("1", "main"), ("2", "elsewhere")):
            conn.execute(
                provider.insert().values(
                    id=key * 32, location_id=location, pms_key=key, abbreviation=f"DOC{key}"
                )
            )
    assert [one["key"] for one in admin.get("/api/people").json()["providers"]] == ["1"]
    assert make(admin, provider_key="2").status_code == 422
    made = make(admin, provider_key="1")
    assert made.status_code == 201, made.text
    path = f"/api/people/{made.json()['person']['id']}"
    assert admin.post(path, {"provider_key": "2"}).status_code == 422
    assert admin.post(path, {"provider_key": ""}).json()["provider_key"] == ""


def test_no_answer_ever_holds_a_hash_or_a_secret(house):
    admin = house.person("admin")
    made = make(admin)
    text = made.text + admin.get("/api/people").text + admin.get("/api/tokens").text
    for word in ("argon2", "password_hash", "pin_hash", "totp_secret", "digest"):
        assert word not in text
    trail = str([tuple(row) for row in house.rows(sa.select(audit))])
    assert made.json()["password"] not in trail
    assert "user.created" in trail


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"username": "admin"}, 409),
        ({"username": "two words"}, 422),
        ({"username": ""}, 422),
        ({"display_name": ""}, 422),
        ({"role": "king"}, 422),
        ({"password": "password123"}, 422),
        ({"is_admin": True}, 422),
    ],
)
def test_what_cannot_be_an_account_is_refused(house, change, status):
    admin = house.person("admin")
    body = {"username": "kim", "display_name": "Kim", "role": "dentist", **change}
    assert admin.post("/api/people", body).status_code == status


@pytest.mark.parametrize("new_role", ["assistant", "auditor", "office_manager"])
def test_a_changed_role_counts_with_the_next_request_of_an_open_session(house, new_role):
    admin, dentist = house.person("admin"), house.person("dentist")
    program = house.program(Right.IMAGES_DOWNLOAD, role="dentist")
    amend = "/api/studies/" + "0" * 32 + "/amend"
    assert dentist.post(amend, {"reason": "looked again"}).status_code == 404
    answer = admin.post(f"/api/people/{house.people['dentist']}", {"role": new_role})
    assert answer.json()["role"] == new_role
    refused = dentist.post(amend, {"reason": "looked again"})
    assert (refused.status_code, refused.json()["type"]) == (403, "forbidden")
    assert set(dentist.get("/api/me").json()["rights"]) == {r.value for r in RIGHTS[Role(new_role)]}
    may_download = Right.IMAGES_DOWNLOAD in RIGHTS[Role(new_role)]
    answer = program.get("/api/images/" + "0" * 32 + "/dicom")
    assert answer.status_code == (404 if may_download else 403)


def test_a_disabled_person_is_out_with_every_session_and_token(house):
    admin, dentist = house.person("admin"), house.person("dentist")
    program = house.program(Right.WORKLIST_SEE, role="dentist")
    assert program.get("/api/worklist").status_code == 200
    admin.post(f"/api/people/{house.people['dentist']}", {"is_active": False})
    assert dentist.get("/api/me").status_code == 401
    assert program.get("/api/worklist").status_code == 401
    assert log_in(house, "dentist", PASSWORD).status_code == 401
    admin.post(f"/api/people/{house.people['dentist']}", {"is_active": True})
    assert dentist.get("/api/me").status_code == 401  # the old session stays ended
    assert log_in(house, "dentist", PASSWORD).status_code == 200


def test_a_stream_ends_when_its_reader_loses_the_right(house, monkeypatch):
    from node.web import live

    monkeypatch.setattr(live, "_LOOK_EVERY_S", 0.0)
    dentist = house.person("dentist")
    listener = house.app.state.live.join(house.people["dentist"])
    cookie = f"bitewing_session={dentist.http.cookies['bitewing_session']}"
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/events",
        "query_string": b"",
        "headers": [(b"cookie", cookie.encode())],
        "app": house.app,
        "path_params": {},
    }
    news = [live.LiveEvent(seq=n, kind=EventKind.STUDY_READY.value) for n in (1, 2)]

    async def follow() -> list[str]:
        stream = live._stream(live.Request(scope), house.app.state.live, listener, [])
        lines = [await anext(stream)]
        listener.queue.put_nowait(news[0])
        lines.append(await anext(stream))
        house.change("dentist", role="front_desk")
        listener.queue.put_nowait(news[1])
        lines += [line async for line in stream]
        return lines

    lines = asyncio.run(follow())
    assert len(lines) == 2
    assert "id: 1" in lines[1]


def test_a_new_first_password_ends_sessions_pin_and_rest(house):
    admin, dentist = house.person("admin"), house.person("dentist")
    dentist.post("/api/pin", {"password": PASSWORD, "pin": "482915"})
    house.change("dentist", locked_until=datetime.now(UTC) + timedelta(hours=1), lockouts=3)
    answer = admin.post(f"/api/people/{house.people['dentist']}/reset")
    assert answer.status_code == 200, answer.text
    assert answer.json()["person"]["has_pin"] is False
    assert dentist.get("/api/me").status_code == 401
    assert log_in(house, "dentist", PASSWORD).status_code == 401
    assert log_in(house, "dentist", answer.json()["password"]).status_code == 200


def test_an_administrator_ends_sessions_and_removes_a_lost_phone(house):
    admin, dentist = house.person("admin"), house.person("dentist")
    user_id = house.people["dentist"]
    house.change("dentist", totp_secret="x", totp_at=datetime.now(UTC))
    assert len(admin.get(f"/api/people/{user_id}/sessions").json()["sessions"]) == 1
    removed = admin.post(f"/api/people/{user_id}/second-factor/remove").json()
    assert removed["has_second_factor"] is False
    assert admin.post(f"/api/people/{user_id}/sessions/end").json()["sessions"] == 0
    assert dentist.get("/api/me").status_code == 401


def test_nobody_raises_or_disables_themselves_and_one_administrator_stays(house):
    admin = house.person("admin")
    own = f"/api/people/{house.people['admin']}"
    for change in ({"role": "dentist"}, {"is_active": False}):
        assert admin.post(own, change).status_code == 409
    second = house.person("admin", "second")
    other = f"/api/people/{house.people['second']}"
    assert admin.post(other, {"role": "assistant"}).status_code == 200
    assert second.get("/api/people").status_code == 403
    third = house.person("admin", "third")
    assert third.post(own, {"is_active": False}).status_code == 200
    assert admin.get("/api/people").status_code == 401
    assert third.post(own, {"is_active": True}).status_code == 200


def test_who_may_not_change_users_cannot_make_themselves_one_who_may(house):
    for role in ("dentist", "office_manager", "auditor", "assistant"):
        person = house.person(role)
        own = f"/api/people/{house.people[role]}"
        assert person.post(own, {"role": "admin"}).status_code == 403
        assert person.post("/api/people", {"role": "admin"}).status_code == 403
        assert person.post("/api/preferences", {"role": "admin"}).status_code == 422
        assert person.get("/api/me").json()["role"] == role


def test_another_locations_people_and_tokens_are_not_there(open_house):
    north, south = open_house("north"), open_house("south")
    foreign = north.user("dentist")
    north.user("service")
    token_id, _ = north.web.tokens.issue(
        north.actor, north.people["service"], "p", [Right.WORKLIST_SEE], 1
    )
    admin = south.person("admin")
    assert foreign not in admin.get("/api/people").text
    assert token_id not in admin.get("/api/tokens").text
    new = {"user_id": foreign, "name": "x", "rights": ["worklist.see"]}
    for method, path, body in [
        ("POST", f"/api/people/{foreign}", {"role": "admin"}),
        ("POST", f"/api/people/{foreign}/reset", {}),
        ("POST", f"/api/people/{foreign}/second-factor/remove", {}),
        ("GET", f"/api/people/{foreign}/sessions", None),
        ("POST", f"/api/people/{foreign}/sessions/end", {}),
        ("POST", "/api/tokens", new),
        ("POST", f"/api/tokens/{token_id}/revoke", {}),
    ]:
        assert admin.ask(method, path, body).status_code == 404, path
    (row,) = [r for r in north.rows(sa.select(user_account)) if r.id == foreign]
    assert row.role == "dentist"


# --- programs ------------------------------------------------------------------------------------


def issue(admin, user_id: str, rights: list[str], **more: object):
    body = {"user_id": user_id, "name": "viewer", "rights": rights, **more}
    return admin.post("/api/tokens", body)


def test_a_token_is_shown_once_kept_as_a_digest_and_revoked_at_once(house):
    admin = house.person("admin")
    made = issue(admin, house.user("service"), ["worklist.see"])
    assert made.status_code == 201, made.text
    token = made.json()["token"]
    program = house.stranger()
    program.headers = {"Authorization": f"Bearer {token}"}
    assert program.get("/api/worklist").status_code == 200
    shown = admin.get("/api/tokens")
    assert token not in shown.text
    assert token not in str([tuple(row) for row in house.rows(sa.select(api_token))])
    assert token not in str([tuple(row) for row in house.rows(sa.select(audit))])
    (line,) = shown.json()["tokens"]
    assert (line["is_active"], line["rights"]) == (True, ["worklist.see"])
    assert line["last_used_at"] is not None
    assert admin.post(f"/api/tokens/{line['id']}/revoke").status_code == 204
    assert program.get("/api/worklist").status_code == 401
    assert admin.post(f"/api/tokens/{line['id']}/revoke").status_code == 404


def test_an_expired_or_invented_token_opens_nothing(house):
    program = house.program(Right.WORKLIST_SEE)
    with house.db.begin() as conn:
        conn.execute(api_token.update().values(expires_at=datetime.now(UTC)))
    assert program.get("/api/worklist").status_code == 401
    for header in ("Bearer ", "Bearer bwt_x", "Bearer null", "bearer x", "Basic x", "Bearer a b"):
        answer = house.stranger().get("/api/worklist", Authorization=header)
        assert answer.status_code == 401, header


@pytest.mark.parametrize(
    ("rights", "days", "status"),
    [
        (["findings.sign"], 1, 422),
        (["users.change"], 1, 422),
        (["no.right"], 1, 422),
        ([], 1, 422),
        (["worklist.see"], 0, 422),
        (["worklist.see"], 400, 422),
    ],
)
def test_a_token_cannot_have_more_than_its_account_or_last_for_ever(house, rights, days, status):
    admin = house.person("admin")
    assert issue(admin, house.user("service"), rights, days=days).status_code == status


def test_a_service_account_never_signs_in_and_never_becomes_a_person(house):
    admin = house.person("admin")
    made = make(admin, "robot", "service", password="a long password")
    assert (made.status_code, made.json()["password"]) == (201, "")
    for password in ("", "a long password", "x"):
        assert log_in(house, "robot", password or " ").status_code == 401
    path = f"/api/people/{made.json()['person']['id']}"
    assert admin.post(path, {"role": "dentist"}).status_code == 422
    assert admin.post(f"{path}/reset").status_code == 422
    assert (
        admin.post(f"/api/people/{house.user('dentist')}", {"role": "service"}).status_code == 422
    )


def test_possible_rights_of_a_token_leave_out_what_needs_a_person(house):
    admin = house.person("admin")
    dentist = house.user("dentist")
    possible = admin.get("/api/tokens").json()["possible"]
    assert set(possible[dentist]) == {r.value for r in RIGHTS[Role.DENTIST] - PERSONAL}


def test_a_token_stores_and_fetches_images_by_dicomweb(house):
    program = house.program(Right.PATIENTS_SEE, Right.IMAGES_SEE)
    assert program.get("/dicomweb/studies").status_code == 204
    assert program.post("/dicomweb/studies").status_code == 403
    assert house.program(Right.IMAGES_STORE).post("/dicomweb/studies").status_code == 415
