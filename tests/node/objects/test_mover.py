"""What lies in the folder goes into the bucket; nothing is let go that is not surely there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from node.config import read_config
from node.db.session import read
from node.dicom.object_file import file_from_json, file_to_json
from node.dicom.sealed_file import MAGIC
from node.errors import BitewingError, ConfigError, NotFound, Retryable
from node.objects.opening import open_objects
from node.objects.standing import standing_of
from node.status import Status
from tests.node.objects.conftest import BOTH

FILM = b"a film's bytes " * 5000
HOUR = timedelta(hours=1)


def standing(place):
    with read(place.db) as conn:
        return standing_of(conn, "main")


def test_a_file_goes_up_sealed_as_it_lies_and_stays_here(node):
    key = node.put(FILM)
    node.move()
    (copy,) = node.copies(key)
    assert copy.state.value == "confirmed"
    assert node.objects() == {copy.name}
    sent = node.raw(copy.name)
    assert sent == node.file(key).read_bytes()
    assert sent[: len(MAGIC)] == MAGIC
    assert FILM[:15] not in sent
    assert node.read(key) == FILM
    assert standing(node).words(datetime.now(UTC)) == "all are in the bucket"


@BOTH
def test_another_node_reads_what_it_never_received(node, place):
    key = node.put(FILM)
    node.move()
    other = place("b")
    assert not other.file(key).exists()
    assert other.store.holds(key)
    file = other.store.file(key)
    assert file.is_file()
    assert file.read_bytes() == FILM
    fetched = len(node_requests(other))
    assert file_from_json(file_to_json(file)).read_bytes() == FILM  # a process without the ring
    assert len(node_requests(other)) == fetched  # from the cache
    other.move()
    assert node.states(key) == ["confirmed"]  # what was fetched is no new object


def node_requests(place) -> list[Path]:
    return list(place.store.shelf.cached_names("main"))


def test_what_has_not_come_yet_is_asked_for_again_and_never_called_missing(node, place, line):
    key = node.put(FILM)
    other = place("b")
    assert not other.store.holds(key)
    with pytest.raises(Retryable, match="not yet come"):
        other.read(key)
    line.fault = "away"
    with pytest.raises(Retryable):
        node.move()
    assert other.store.holds(key)  # on the disk of the one that received it
    with pytest.raises(Retryable, match="not yet come"):
        other.read(key)
    line.fault = ""
    node.move()
    assert other.read(key) == FILM


def test_local_files_go_only_when_room_is_wanted_and_come_back(place):
    node = place("a", cache_days=0.5)
    old, new = node.put(FILM), node.put(FILM)
    node.move()
    node.move(later=HOUR)
    assert node.file(old).exists()  # not old enough
    soon = (datetime.now(UTC) + 24 * HOUR).timestamp()
    os.utime(node.file(new), (soon, node.file(new).stat().st_mtime))  # used lately
    node.move(later=24 * HOUR)
    assert not node.file(old).exists()
    assert node.file(new).exists()
    assert node.read(old) == FILM
    assert node.store.holds(old)


def test_a_low_disk_and_a_small_cache_let_the_longest_unused_go(place):
    node = place("a", cache_mb=1)
    keys = [node.put(os.urandom(400_000)) for _ in range(4)]
    for number, key in enumerate(keys):
        status = node.file(key).stat()
        os.utime(node.file(key), ns=(status.st_mtime_ns + number * 10**9, status.st_mtime_ns))
    node.move(later=HOUR)
    assert [node.file(key).exists() for key in keys] == [False, False, True, True]
    node.free[0] = 0
    node.move(later=HOUR)
    assert not any(node.file(key).exists() for key in keys)
    assert all(node.store.holds(key) for key in keys)


def test_nothing_goes_that_the_bucket_has_not_or_has_lost(place, line):
    node = place("a", cache_days=0.01)
    key = node.put(FILM)
    line.fault = "away"
    with pytest.raises(Retryable):
        node.move(later=24 * HOUR)
    assert node.file(key).exists()
    line.fault = ""
    node.move()
    (copy,) = node.copies(key)
    node.there.remove_object(node.config.objects.bucket, "practice/" + copy.name)
    node.move(later=24 * HOUR)
    assert node.file(key).exists()
    assert node.states(key) == ["waiting"]
    node.move()
    assert node.objects() == {copy.name}
    node.move(later=24 * HOUR)
    assert not node.file(key).exists()
    assert node.read(key) == FILM


@pytest.mark.parametrize("fault", ["away", "slow-down", "drop-upload", "lose-answer", "forbid"])
def test_a_bucket_that_fails_makes_things_wait_and_is_told(node, line, fault):
    line.fault = fault
    first, second = node.put(FILM), node.put(FILM)
    with pytest.raises(BitewingError) as told:
        node.move()
    assert node.read(first) == FILM  # work goes on
    third = node.put(FILM)
    with pytest.raises(BitewingError):
        node.move()
    seen = standing(node)
    assert seen.waiting == 3
    assert str(told.value) in seen.errors
    assert not seen.is_fine(datetime.now(UTC))
    probe = Status(node.db, node.config).probes()["objects"]
    assert not probe.is_ok
    assert not probe.is_ours  # a node whose bucket is away still takes images
    assert "waiting for the bucket: 3" in probe.words
    line.fault = ""
    node.move()
    assert {node.states(key)[0] for key in (first, second, third)} == {"confirmed"}
    assert len(node.objects()) == 3
    assert Status(node.db, node.config).probes()["objects"].is_ok


def test_it_rests_after_a_failure_but_goes_on_looking(node, line):
    line.fault = "away"
    node.put(FILM)
    with pytest.raises(Retryable):
        node.mover.run_once()
    asked = len(line.requests)
    key = node.put(FILM)
    node.mover.run_once()
    assert len(line.requests) == asked
    assert node.states(key) == ["waiting"]


def test_a_bucket_that_is_away_holds_up_a_page_once(node, place, line):
    keys = [node.put(FILM) for _ in range(3)]
    node.move()
    other = place("b")
    line.fault = "away"
    asked = len(line.requests)
    for key in keys:
        with pytest.raises(Retryable, match="away"):
            other.read(key)
    assert len(line.requests) == asked + 1
    assert other.store.holds(keys[0])


@BOTH
def test_wrong_bytes_are_refused_put_aside_reported_and_healed(node, place, line):
    key = node.put(FILM)
    node.move()
    (copy,) = node.copies(key)
    good = node.raw(copy.name)
    node.overwrite(copy.name, good[:-1] + bytes((good[-1] ^ 1,)))
    other = place("b")
    with pytest.raises(Retryable, match="other bytes"):
        other.read(key)
    assert not other.store.shelf.cached(copy).exists()
    (aside,) = (other.config.node.data_dir / "objects" / "damaged").iterdir()
    assert aside.read_bytes() != good
    other.move()
    assert node.states(key) == ["damaged"]
    assert standing(node).damaged == 1
    node.move()  # has the file as it was
    assert node.states(key) == ["confirmed"]
    assert node.raw(copy.name) == good
    assert other.read(key) == FILM


def test_a_line_that_changes_bytes_once_costs_a_second_try(node, place, line):
    key = node.put(FILM)
    node.move()
    other = place("b")
    line.fault = "wrong-bytes"
    with pytest.raises(Retryable, match="other bytes"):
        other.read(key)
    line.fault = ""
    assert other.read(key) == FILM
    other.move()
    assert node.states(key) == ["confirmed"]


@BOTH
def test_what_is_discarded_goes_everywhere(node, place):
    key, kept = node.put(FILM), node.put(FILM)
    node.move()
    other = place("b")
    assert other.read(key) == FILM
    other.store.discard(key)
    assert not other.store.holds(key)
    other.move()
    node.move()
    assert node.states(key) == ["removed"]
    assert not node.file(key).exists()
    assert not other.store.shelf.cached(other.copies(key)[0]).exists()
    assert {name.partition(".")[0] for name in node.objects()} == {kept.partition(".")[0]}
    for each in (node, other):
        assert not each.store.holds(key)
        with pytest.raises(NotFound):
            each.store.open(key)
    assert node.read(kept) == FILM


def test_what_is_discarded_before_it_went_up_never_stays_there(node, line):
    key = node.put(FILM)
    line.fault = "lose-answer"
    with pytest.raises(Retryable):
        node.move()
    node.store.discard(key)
    line.fault = ""
    node.move()
    assert node.objects() == set()
    assert not node.store.holds(key)


@BOTH
def test_a_file_that_is_replaced_replaces_its_copy(node, place):
    key = node.put(FILM, "0000abcd.dcm")
    node.move()
    other = place("b")
    assert other.read(key) == FILM
    node.put(FILM[::-1], "0000abcd.dcm")
    node.move()
    node.move()
    assert sorted(node.states(key)) == ["confirmed", "removed"]
    assert len(node.objects()) == 1
    other.move()
    assert other.read(key) == FILM[::-1]


def test_the_same_bytes_come_back_under_another_time(node):
    key = node.put(FILM)
    node.move()
    os.utime(node.file(key), (1_000_000_000, 1_000_000_000))  # as a copy by hand does
    node.move()
    assert node.states(key) == ["confirmed"]


def test_a_mover_that_was_letting_go_puts_back(node):
    key = node.put(FILM)
    path = node.file(key)
    path.replace(node.store.shelf.aside / path.name)
    node.move()
    assert node.read(key) == FILM
    assert node.states(key) == ["confirmed"]


def test_plain_files_of_an_earlier_release_stay_here(node):
    path = node.file(node.put(FILM))
    path.write_bytes(FILM)
    node.move()
    assert node.objects() == set()
    assert "encrypt-data" in standing(node).errors[0]


def test_without_encryption_there_is_no_bucket(configured, sqlite_database):
    config = read_config(
        environment={},
        overrides=configured().model_dump(exclude={"encryption", "objects"})
        | {
            "objects": configured().objects.model_dump() | {"access_key": "a", "secret_key": "b"},
            "encryption": {"enabled": False},
        },
    )
    with pytest.raises(ConfigError, match="sealed"):
        open_objects(config, sqlite_database, None)


_CHILD = """
import sys
from pathlib import Path
from node.config import read_config
from node.db.keys import open_keys
from node.db.session import Actor, open_database
from node.objects.mover import Mover
from node.objects.opening import open_objects
config = read_config(Path(sys.argv[1]), {})
db = open_database(config.database_url)
store = open_objects(config, db, open_keys(db, config, Actor("test", "main")))
Mover(db, store, config).run_once()
"""


def test_kill_9_in_the_middle_of_an_upload_is_harmless(node, line, tmp_path, database_url):
    key = node.put(FILM)
    section = node.config.objects
    file = tmp_path / "node.toml"
    file.write_text(f"""
[node]
data_dir = "{node.config.node.data_dir}"
[database]
url = "{database_url.replace("+psycopg", "")}"
[encryption]
key_file = "{node.config.encryption.key_file}"
[objects]
endpoint = "{section.endpoint}"
bucket = "{section.bucket}"
prefix = "{section.prefix}"
access_key = "{section.access_key.get_secret_value()}"
secret_key = "{section.secret_key.get_secret_value()}"
""")
    line.fault = "hold-upload"
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(file)])
    assert line.holding.wait(60)
    child.send_signal(signal.SIGKILL)
    child.wait(20)
    assert node.objects() == set()
    assert node.read(key) == FILM
    assert node.states(key) == ["waiting"]
    line.fault = ""
    line.let_go.set()
    node.move()
    assert node.states(key) == ["confirmed"]
    assert node.raw(node.copies(key)[0].name) == node.file(key).read_bytes()
