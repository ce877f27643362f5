"""Accounts and tokens from the command line."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from node.__main__ import cli
from node.db.tables import user_account
from node.domain.rights import Right
from node.errors import BitewingError, Conflict, InvalidInput, NotFound

PASSWORD = "correct horse battery"


@pytest.fixture
def run(house, tmp_path, monkeypatch):
    """Run a command on the same database; its errors are raised as the edge would see them."""
    url = house.db.url.render_as_string(hide_password=False)
    monkeypatch.setenv("BITEWING_DATABASE_URL", url)
    monkeypatch.chdir(tmp_path)

    def command(*words: str, answers: str = "") -> str:
        given = [*words, "--data-dir", str(tmp_path)]
        done = CliRunner().invoke(cli, given, input=answers, catch_exceptions=True)
        if isinstance(done.exception, BitewingError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return command


def log_in(house, username: str, password: str):
    return house.client().post("/api/login", json={"username": username, "password": password})


def test_an_account_is_made_changed_and_put_out(house, run):
    run("user", "add", "osei", "--role", "dentist", answers=f"{PASSWORD}\n{PASSWORD}\n")
    assert log_in(house, "osei", PASSWORD).json()["role"] == "dentist"
    run("user", "change", "osei", "--role", "hygienist", "--provider", "HYG1")
    (row,) = house.rows(sa.select(user_account))
    assert (row.role, row.provider_key) == ("hygienist", "HYG1")
    assert "osei  hygienist" in run("user", "list")
    run("user", "change", "osei", "--disable")
    assert log_in(house, "osei", PASSWORD).status_code == 401
    assert "disabled" in run("user", "list")
    with pytest.raises(NotFound):
        run("user", "change", "nobody", "--disable")
    with pytest.raises(InvalidInput):
        run("user", "change", "osei", "--role", "king")


def test_the_last_administrator_stays(house, run):
    house.user("admin")
    with pytest.raises(Conflict):
        run("user", "change", "admin", "--disable")


def test_a_first_password_is_made_and_a_lost_phone_forgotten(house, run):
    house.user("dentist")
    said = run("user", "reset-password", "dentist")
    password = re.search(r"[a-z2-9]{4}(-[a-z2-9]{4}){3}", said)[0]
    assert log_in(house, "dentist", password).json()["owes"] == "password"
    house.change("dentist", totp_at=sa.func.current_timestamp())
    run("user", "remove-second-factor", "dentist")
    (row,) = house.rows(sa.select(user_account))
    assert row.totp_at is None


def test_a_token_is_made_listed_and_revoked(house, run):
    run("user", "add", "robot", "--role", "service")
    token = run("token", "add", "robot", "--name", "viewer", "--right", "worklist.see").strip()
    program = house.stranger()
    program.headers = {"Authorization": f"Bearer {token}"}
    assert program.get("/api/worklist").status_code == 200
    listed = run("token", "list")
    assert token not in listed
    token_id = listed.split()[0]
    run("token", "revoke", token_id)
    assert program.get("/api/worklist").status_code == 401
    with pytest.raises(InvalidInput):
        run("token", "add", "robot", "--name", "x", "--right", Right.FINDINGS_SIGN.value)
    with pytest.raises(InvalidInput):
        run("token", "add", "robot", "--name", "x", "--right", "no.right")
