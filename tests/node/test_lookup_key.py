"""The key of what is looked up is replaced whole or not at all, also when the program is killed."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.app import hold_executor
from node.config import Config, read_config
from node.db import keys
from node.db.keyring import Purpose
from node.db.keys import KeyState
from node.db.session import Actor, begin, read
from node.db.tables import audit, data_key, executor_beat, patient, patient_identity
from node.domain.study import name_key
from node.errors import ConfigError, InvalidInput, Rejected
from node.resealing import count_uses, rotate_lookup
from tests.node.test_keys import add_person

ACTOR = Actor("test", "main")
PEOPLE = 40


@pytest.fixture
def config(database: sa.Engine, tmp_path: Path) -> Config:
    """Configure a node over the database, with people in it."""
    url = database.url.render_as_string(hide_password=False)
    file = tmp_path / "bitewing.toml"
    file.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n[database]\nurl = "{url}"\n')
    made = read_config(file, environment={})
    keys.open_keys(database, made, ACTOR)
    for number in range(PEOPLE):
        add_person(database, str(number), f"Quendel{number}")
    return made


def lookup_keys(db: sa.Engine) -> dict[KeyState, str]:
    entries = keys.list_keys(db, "main")
    return {each.state: each.key_id for each in entries if each.purpose is Purpose.LOOKUP}


def all_are_found(db: sa.Engine, config: Config) -> bool:
    """Look every person up by number and by name, as a node that starts now does."""
    keys.open_keys(db, config, ACTOR)
    with read(db) as conn:
        for number in range(PEOPLE):
            by_number = sa.select(patient.c.id).where(patient.c.pms_key == str(number))
            by_name = sa.select(patient_identity.c.patient_id).where(
                patient_identity.c.name_key == name_key(f"Quendel{number}", "Adalmute")
            )
            found = conn.execute(by_number).scalars().all()
            if len(found) != 1 or conn.execute(by_name).scalars().all() != found:
                return False
    return True


def rotated(db: sa.Engine, config: Config) -> str:
    return rotate_lookup(db, config, ACTOR, lambda _: None, lambda: hold_executor(config))[0]


def test_everything_is_found_under_the_new_key_and_the_old_one_may_go(
    database: sa.Engine, config: Config
) -> None:
    old = lookup_keys(database)[KeyState.CURRENT]
    used = count_uses(database, config, "main")[old]
    new = rotated(database, config)
    assert lookup_keys(database) == {KeyState.CURRENT: new, KeyState.OLD: old}
    uses = count_uses(database, config, "main")
    assert (uses[old], uses[new], uses[""]) == (0, used, 0)
    assert all_are_found(database, config)
    with pytest.raises(sa.exc.IntegrityError):  # a number is still there once
        add_person(database, "7", "Quendel7")
    with read(database) as conn:
        said = conn.execute(sa.select(audit.c.detail).where(audit.c.action == "keys.rotated"))
        assert said.scalar_one() == {"key": new, "purpose": "lookup", "values": used}
    with begin(database, ACTOR, "test") as tx:
        long_ago = tx.now - timedelta(days=1)
        tx.conn.execute(
            data_key.update().where(data_key.c.key_id == old).values(replaced_at=long_ago)
        )
        tx.record("key")
    keys.drop(database, ACTOR, old)
    assert all_are_found(database, config)


def test_a_running_node_or_one_elsewhere_is_not_overtaken(
    database: sa.Engine, config: Config
) -> None:
    before = lookup_keys(database)
    release = hold_executor(config)
    with pytest.raises(ConfigError, match="already runs"):
        rotated(database, config)
    release()
    beat = {"location_id": "main", "executor": "elsewhere-main", "beat_at": datetime.now(UTC)}
    with begin(database, ACTOR, "test") as tx:
        tx.conn.execute(executor_beat.insert().values(beat))
        tx.record("beat")
    with pytest.raises(ConfigError, match="elsewhere-main was heard of"):
        rotated(database, config)
    assert lookup_keys(database) == before
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    with begin(database, ACTOR, "test") as tx:
        tx.conn.execute(executor_beat.update().values(beat_at=long_ago))
        tx.record("beat")
    assert rotated(database, config)


def test_a_value_that_does_not_open_leaves_everything_as_it_was(
    database: sa.Engine, config: Config
) -> None:
    before = lookup_keys(database)
    with database.connect().execution_options(bitewing_write=True) as conn, conn.begin():
        conn.execute(
            sa.text("UPDATE patient_identity SET name_key = name_start WHERE patient_id = :id"),
            {"id": conn.execute(sa.text("SELECT min(id) FROM patient")).scalar_one()},
        )
    with pytest.raises(InvalidInput, match="name_key was changed or moved"):
        rotated(database, config)
    assert lookup_keys(database) == before


def test_a_plain_location_has_no_key_to_be_replaced(
    sqlite_database: sa.Engine, tmp_path: Path
) -> None:
    plain = read_config(environment={}, overrides={"node": {"data_dir": tmp_path / "data"}})
    with pytest.raises(Rejected, match="nothing is sealed"):
        rotated(sqlite_database, plain)


@contextmanager
def _stuck_after_one_line(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command whose second line of output cannot be written: it waits in the middle."""
    out, into = os.pipe()
    room = fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 4096)
    filled = os.write(into, b"." * (room - 48))  # the first line fits, two do not
    process = subprocess.Popen(command, stdout=into, stderr=subprocess.DEVNULL)
    os.close(into)
    try:
        deadline = time.monotonic() + 120
        while _waiting(out) <= filled:
            assert process.poll() is None, "the command ended before its first line"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
        os.close(out)


def _waiting(pipe: int) -> int:
    """Count the bytes that nobody has read yet."""
    answer = fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="a pipe of one page")
def test_killed_in_the_middle_nothing_has_happened_and_the_command_is_given_again(
    database: sa.Engine, config: Config, tmp_path: Path
) -> None:
    before = lookup_keys(database)
    uses = count_uses(database, config, "main")
    command = [sys.executable, "-m", "node", "keys", "rotate", "--lookup"]
    command += ["--config", str(tmp_path / "bitewing.toml")]
    database.dispose()
    with _stuck_after_one_line(command) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert lookup_keys(database) == before
    assert count_uses(database, config, "main") == uses
    assert all_are_found(database, config)
    database.dispose()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    now = lookup_keys(database)
    assert now[KeyState.OLD] == before[KeyState.CURRENT]
    assert f"new key {now[KeyState.CURRENT]} for what is looked up" in done.stdout
    assert count_uses(database, config, "main")[now[KeyState.OLD]] == 0
    assert all_are_found(database, config)
