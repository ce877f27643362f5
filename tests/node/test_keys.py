"""Keys at rest: made, opened, replaced, and a wrong or lost master key said clearly."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.config import Config, read_config
from node.db import keys
from node.db.keyring import MARK, KeyRing, Purpose
from node.db.keys import KeyState, Sealing
from node.db.master import LocalMaster, create_key_file, key_path
from node.db.sealed import give_keys
from node.db.session import Actor, begin, new_id, read
from node.db.tables import data_key, patient, patient_identity
from node.domain.study import name_key
from node.errors import ConfigError, InvalidInput, Rejected, Retryable
from node.resealing import count_uses, reseal

ACTOR = Actor("test", "main")
NUMBER = "9040021877"


def config_of(tmp_path: Path, **encryption: object) -> Config:
    return read_config(
        environment={},
        overrides={"node": {"data_dir": tmp_path / "data"}, "encryption": encryption},
    )


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path)


def add_person(db: sa.Engine, number: str = NUMBER, family: str = "Quendelwurz") -> str:
    patient_id = new_id()
    with begin(db, ACTOR, "test.person") as tx:
        tx.conn.execute(
            patient.insert().values(
                id=patient_id,
                location_id="main",
                pms_key=number,
                raw={"odd": "Tulpenweg 9"},
                synced_at=tx.now,
            )
        )
        tx.conn.execute(
            patient_identity.insert().values(
                patient_id=patient_id,
                location_id="main",
                family_name=family,
                given_name="Adalmute",
                birth_date=date(1961, 7, 23),
                name_key=name_key(family, "Adalmute"),
            )
        )
        tx.record(patient_id)
    return patient_id


def stored(db: sa.Engine, table: sa.Table) -> list[dict[str, object]]:
    """Read rows as they lie in the database."""
    with db.connect() as conn:
        rows = conn.execute(sa.text(f"SELECT * FROM {table.name}")).mappings()
        return [dict(row) for row in rows]


def named(db: sa.Engine) -> tuple[str, ...]:
    with read(db) as conn:
        row = conn.execute(sa.select(patient_identity)).one()
        return row.family_name, row.given_name, row.middle_name


def test_an_empty_location_is_sealed_from_the_first_row_on(
    database: sa.Engine, config: Config
) -> None:
    ring = keys.open_keys(database, config, ACTOR)
    assert ring is not None
    assert ring.is_strict
    add_person(database)
    text = json.dumps(
        [*stored(database, patient), *stored(database, patient_identity)], default=str
    )
    for word in (
        "Quendelwurz",
        "quendelwurz",
        "que",
        "Adalmute",
        "1961-07-23",
        NUMBER,
        "Tulpenweg",
    ):
        assert f'"{word}' not in text
        assert word == "que" or word not in text
    assert named(database) == ("Quendelwurz", "Adalmute", "")
    with read(database) as conn:
        row = conn.execute(sa.select(patient)).one()
        assert (row.pms_key, row.raw) == (NUMBER, {"odd": "Tulpenweg 9"})
        assert conn.execute(sa.select(patient_identity.c.birth_date)).scalar() == date(1961, 7, 23)


def test_sealed_values_are_found_and_stay_unique(database: sa.Engine, config: Config) -> None:
    keys.open_keys(database, config, ACTOR)
    one = add_person(database)
    two = add_person(database, "9040021878", "Quendelmann")
    with read(database) as conn:
        found = sa.select(patient.c.id)
        assert conn.execute(found.where(patient.c.pms_key == NUMBER)).scalars().all() == [one]
        both = found.where(patient.c.pms_key.in_([NUMBER, "9040021878", "1"]))
        assert sorted(conn.execute(both).scalars()) == sorted([one, two])
        people = sa.select(patient_identity.c.patient_id)
        same = people.where(
            patient_identity.c.name_key == name_key("QUENDELWURZ", "Adalmute"),
            patient_identity.c.birth_date == date(1961, 7, 23),
        )
        assert conn.execute(same).scalars().all() == [one]
        alike = people.where(patient_identity.c.name_start == "que")
        assert sorted(conn.execute(alike).scalars()) == sorted([one, two])
    with pytest.raises(sa.exc.IntegrityError):
        add_person(database)


def test_random_seals_differ_each_time(database: sa.Engine, config: Config) -> None:
    keys.open_keys(database, config, ACTOR)
    add_person(database)
    add_person(database, "2")
    rows = stored(database, patient_identity)
    assert rows[0]["family_name"] != rows[1]["family_name"]
    assert rows[0]["name_key"] == rows[1]["name_key"]


def test_two_locations_of_a_database_have_keys_of_their_own(
    database: sa.Engine, tmp_path: Path
) -> None:
    made = {}
    for place in ("north", "south"):
        config = read_config(
            environment={},
            overrides={"node": {"data_dir": tmp_path / place, "location_id": place}},
        )
        ring = keys.open_keys(database, config, Actor("test", place))
        assert ring is not None
        made[place] = {each.key_id for each in keys.list_keys(database, place)}
    assert not made["north"] & made["south"]
    assert (tmp_path / "north.key").read_bytes() != (tmp_path / "south.key").read_bytes()


@pytest.mark.parametrize("target", ["given_name", "middle_name"])
def test_a_value_moved_to_another_column_does_not_open(
    database: sa.Engine, config: Config, target: str
) -> None:
    keys.open_keys(database, config, ACTOR)
    add_person(database)
    _write(database, f"UPDATE patient_identity SET {target} = family_name")
    with pytest.raises(InvalidInput, match="changed or moved"):
        named(database)


def test_a_value_of_another_location_does_not_open(database: sa.Engine, config: Config) -> None:
    ring = keys.open_keys(database, config, ACTOR)
    assert ring is not None
    add_person(database)
    there = KeyRing("elsewhere", [ring.current(each) for each in Purpose])
    give_keys(database, there)
    with pytest.raises(InvalidInput, match="changed or moved"):
        named(database)


def test_what_is_not_sealed_is_an_error_where_all_is(database: sa.Engine, config: Config) -> None:
    keys.open_keys(database, config, ACTOR)
    add_person(database)
    _write(database, "UPDATE patient_identity SET family_name = 'Mallory'")
    with pytest.raises(InvalidInput, match="not sealed"):
        named(database)


def test_without_keys_sealed_values_are_never_taken_for_text(
    database: sa.Engine, config: Config
) -> None:
    keys.open_keys(database, config, ACTOR)
    add_person(database)
    give_keys(database, None)
    with pytest.raises(ConfigError, match="was given no keys"):
        named(database)


@pytest.mark.parametrize("name", [f"{MARK}0011223344556677:AAAA", f"{MARK}plain:x", "bw1"])
def test_plain_text_that_looks_sealed_comes_back_as_it_was(database: sa.Engine, name: str) -> None:
    add_person(database, family=name)
    assert named(database)[0] == name


# --- the master key ------------------------------------------------------------------------------


def test_the_key_file_stands_outside_the_data_folder_and_is_private(
    sqlite_database: sa.Engine, config: Config
) -> None:
    keys.open_keys(sqlite_database, config, ACTOR)
    path = key_path(config)
    assert not path.is_relative_to(config.node.data_dir)
    assert len(base64.b64decode(path.read_text())) == 32
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        with pytest.raises(ConfigError, match="open to others"):
            keys.open_keys(sqlite_database, config, ACTOR)


def test_a_key_file_in_the_data_folder_is_refused(
    sqlite_database: sa.Engine, tmp_path: Path
) -> None:
    inside = config_of(tmp_path, key_file=str(tmp_path / "data" / "master.key"))
    with pytest.raises(ConfigError, match="must not be in the data folder"):
        keys.open_keys(sqlite_database, inside, ACTOR)


def test_a_lost_key_is_said_and_no_other_is_made(
    sqlite_database: sa.Engine, config: Config
) -> None:
    keys.open_keys(sqlite_database, config, ACTOR)
    add_person(sqlite_database)
    path = key_path(config)
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(ConfigError, match="is missing; put it back"):
        keys.open_keys(sqlite_database, config, ACTOR)
    assert not path.exists()
    path.write_bytes(kept)
    path.chmod(0o600)
    keys.open_keys(sqlite_database, config, ACTOR)
    assert named(sqlite_database)[0] == "Quendelwurz"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (base64.b64encode(bytes(32)).decode(), "is not the one that wrapped"),
        (base64.b64encode(bytes(16)).decode(), "holds no master key"),
        ("not base 64", "holds no master key"),
        ("", "holds no master key"),
    ],
)
def test_a_wrong_key_is_said_at_the_start(
    sqlite_database: sa.Engine, config: Config, text: str, words: str
) -> None:
    keys.open_keys(sqlite_database, config, ACTOR)
    key_path(config).write_text(text)
    with pytest.raises(ConfigError, match=words):
        keys.open_keys(sqlite_database, config, ACTOR)


def test_the_master_key_may_be_in_the_environment(sqlite_database: sa.Engine) -> None:
    text = base64.b64encode(os.urandom(32)).decode()
    config = read_config(environment={"BITEWING_ENCRYPTION_MASTER_KEY": text})
    assert text not in repr(config)
    keys.open_keys(sqlite_database, config, ACTOR)
    assert not key_path(config).exists()
    other = base64.b64encode(os.urandom(32)).decode()
    with pytest.raises(ConfigError, match="is not the one") as caught:
        keys.open_keys(
            sqlite_database,
            read_config(environment={"BITEWING_ENCRYPTION_MASTER_KEY": other}),
            ACTOR,
        )
    assert other not in str(caught.value)


def test_two_places_are_one_too_many(sqlite_database: sa.Engine, tmp_path: Path) -> None:
    config = config_of(tmp_path, key_file=str(tmp_path / "k"), kms_command="kms")
    with pytest.raises(ConfigError, match="more than one place"):
        keys.open_keys(sqlite_database, config, ACTOR)


def test_sealing_cannot_be_switched_off(sqlite_database: sa.Engine, config: Config) -> None:
    keys.open_keys(sqlite_database, config, ACTOR)
    off = config.model_copy(
        update={"encryption": config.encryption.model_copy(update={"enabled": False})}
    )
    with pytest.raises(ConfigError, match="cannot be switched off"):
        keys.open_keys(sqlite_database, off, ACTOR)


def test_a_new_location_may_stay_plain(sqlite_database: sa.Engine, tmp_path: Path) -> None:
    config = config_of(tmp_path, enabled=False)
    assert keys.open_keys(sqlite_database, config, ACTOR) is None
    assert not key_path(config).exists()


def test_old_data_is_left_as_it_is(sqlite_database: sa.Engine, config: Config) -> None:
    add_person(sqlite_database)
    assert keys.open_keys(sqlite_database, config, ACTOR) is None
    assert keys.sealing_of(sqlite_database, "main") is Sealing.NONE
    assert named(sqlite_database)[0] == "Quendelwurz"


# --- a KMS, on loopback --------------------------------------------------------------------------

_MASTER = LocalMaster("sandbox", bytes(range(32)))


def _answer(verb: str, request: dict[str, str]) -> dict[str, str]:
    if verb == "wrap":
        secret = base64.b64decode(request["plaintext"])
        return {"ciphertext": _MASTER.wrap(secret, request["context"])}
    secret = _MASTER.unwrap(request["ciphertext"], request["context"])
    return {"plaintext": base64.b64encode(secret).decode()}


class _Kms(BaseHTTPRequestHandler):
    status = 200
    asked: list[str] = []  # noqa: RUF012 - one server a test

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        request = json.loads(self.rfile.read(length))
        verb = self.path.rpartition("/")[2]
        self.asked.append(verb)
        status = self.status if self.headers["Authorization"] == "Bearer tok" else 403
        body = b"{}"
        if status == 200:
            try:
                body = json.dumps(_answer(verb, request)).encode()
            except ConfigError:
                status = 400
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def kms() -> Iterator[tuple[type[_Kms], str]]:
    handler = type("Kms", (_Kms,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}/keys/bitewing"
    server.shutdown()
    server.server_close()


def test_a_kms_wraps_and_unwraps(
    sqlite_database: sa.Engine, tmp_path: Path, kms: tuple[type[_Kms], str]
) -> None:
    handler, url = kms
    config = config_of(tmp_path, kms_url=url, kms_token="tok")
    keys.open_keys(sqlite_database, config, ACTOR)
    add_person(sqlite_database)
    assert named(sqlite_database)[0] == "Quendelwurz"
    assert set(handler.asked) == {"wrap", "unwrap"}
    assert not key_path(config).exists()
    handler.status = 503
    with pytest.raises(Retryable, match="is away"):
        keys.open_keys(sqlite_database, config, ACTOR)
    handler.status = 400
    with pytest.raises(ConfigError, match="refused to unwrap"):
        keys.open_keys(sqlite_database, config, ACTOR)
    with pytest.raises(ConfigError, match="refused to unwrap"):
        keys.open_keys(sqlite_database, config_of(tmp_path, kms_url=url, kms_token="x"), ACTOR)


@pytest.mark.skipif(os.name != "posix", reason="a program with an interpreter line")
def test_a_program_wraps_and_unwraps(sqlite_database: sa.Engine, tmp_path: Path) -> None:
    program = tmp_path / "kms"
    program.write_text(
        f"""#!{sys.executable}
import json, sys
asked = json.load(sys.stdin)
turned = lambda text: text[::-1]
if sys.argv[1] == "wrap":
    print(json.dumps({{"ciphertext": turned(asked["plaintext"]) + "|" + asked["context"]}}))
else:
    text, _, context = asked["ciphertext"].partition("|")
    sys.exit(3) if context != asked["context"] else None
    print(json.dumps({{"plaintext": turned(text)}}))
"""
    )
    program.chmod(0o700)
    config = config_of(tmp_path, kms_command=str(program))
    keys.open_keys(sqlite_database, config, ACTOR)
    add_person(sqlite_database)
    assert named(sqlite_database)[0] == "Quendelwurz"
    _write(sqlite_database, "UPDATE data_key SET wrapped = wrapped || 'x'")
    with pytest.raises(ConfigError, match=r"refused to unwrap \(exit code 3\)"):
        keys.open_keys(sqlite_database, config, ACTOR)
    program.write_text(f'#!{sys.executable}\nprint(\'{{"plaintext": "AAAA"}}\')\n')
    with pytest.raises(ConfigError, match="cannot be opened"):
        keys.open_keys(sqlite_database, config, ACTOR)


def test_another_key_under_a_known_id_is_noticed(
    sqlite_database: sa.Engine, config: Config
) -> None:
    """A KMS that answers with the wrong key must not lead to data that nobody can read."""
    keys.open_keys(sqlite_database, config, ACTOR)
    master = LocalMaster("x", base64.b64decode(key_path(config).read_text()))
    row = stored(sqlite_database, data_key)[0]
    about = f"main|{row['purpose']}|{row['key_id']}"
    with begin(sqlite_database, ACTOR, "test") as tx:
        tx.conn.execute(
            data_key.update()
            .where(data_key.c.key_id == row["key_id"])
            .values(wrapped=master.wrap(bytes(32), about))
        )
        tx.record("key")
    with pytest.raises(ConfigError, match="gave another key"):
        keys.open_keys(sqlite_database, config, ACTOR)


# --- replacing -----------------------------------------------------------------------------------


def test_a_new_key_seals_everything_anew_and_the_old_one_may_go(
    database: sa.Engine, config: Config
) -> None:
    keys.open_keys(database, config, ACTOR)
    for number in range(7):
        add_person(database, str(number))
    before = keys.list_keys(database, "main")
    (old,) = (each.key_id for each in before if each.purpose is Purpose.DATA)
    used = count_uses(database, config, "main")
    assert used[""] == 0
    assert used[old] == 7 * 3  # family and given name, raw
    new = keys.rotate(database, config, ACTOR)
    add_person(database, "8")
    assert count_uses(database, config, "main")[new] == 3
    with read(database) as conn:
        assert len(conn.execute(sa.select(patient_identity)).all()) == 8
    assert reseal(database, config, ACTOR, _tell_nobody).values == 7 * 3
    assert reseal(database, config, ACTOR, _tell_nobody).values == 0
    assert count_uses(database, config, "main")[old] == 0
    states = {each.key_id: each.state for each in keys.list_keys(database, "main")}
    assert (states[old], states[new]) == (KeyState.OLD, KeyState.CURRENT)
    with pytest.raises(Rejected, match="in use"):
        keys.drop(database, ACTOR, new)
    with pytest.raises(Rejected, match="until a moment ago"):
        keys.drop(database, ACTOR, old)
    _age(database, old)
    keys.drop(database, ACTOR, old)
    keys.open_keys(database, config, ACTOR)
    with read(database) as conn:
        assert len(conn.execute(sa.select(patient_identity)).all()) == 8


def test_a_process_that_runs_finds_a_key_made_since(database: sa.Engine, config: Config) -> None:
    ring = keys.open_keys(database, config, ACTOR)
    assert ring is not None
    keys.rotate(database, config, ACTOR)
    add_person(database)
    give_keys(database, ring)  # as the process that started before
    assert named(database)[0] == "Quendelwurz"
    assert ring.current(Purpose.DATA).key_id in {
        each.key_id for each in keys.list_keys(database, "main") if each.state is KeyState.CURRENT
    }


def test_another_master_key_leaves_the_data_as_it_is(
    database: sa.Engine, config: Config, tmp_path: Path
) -> None:
    keys.open_keys(database, config, ACTOR)
    add_person(database)
    rows = stored(database, patient_identity)
    moved = config_of(tmp_path, key_file=str(tmp_path / "safe" / "new.key"))
    assert create_key_file(key_path(moved))
    assert keys.rewrap(database, config, moved, ACTOR) == len(Purpose)
    assert keys.rewrap(database, config, moved, ACTOR) == 0
    with pytest.raises(ConfigError, match="is not the one that wrapped"):
        keys.open_keys(database, config, ACTOR)
    keys.open_keys(database, moved, ACTOR)
    assert named(database)[0] == "Quendelwurz"
    assert stored(database, patient_identity) == rows


def _age(db: sa.Engine, key_id: str) -> None:
    with begin(db, ACTOR, "test") as tx:
        tx.conn.execute(
            data_key.update()
            .where(data_key.c.key_id == key_id)
            .values(replaced_at=tx.now - timedelta(days=1))
        )
        tx.record("key")


def _write(db: sa.Engine, statement: str) -> None:
    with db.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        conn.execute(sa.text(statement))


def _tell_nobody(_: str) -> None:
    """Say nothing."""
