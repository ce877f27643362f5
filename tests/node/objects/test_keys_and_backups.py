"""Keys, backups and the command line know that objects may lie in a bucket."""

from __future__ import annotations

import os

import pytest

from node.backup.runs import create, find_run, problems_of
from node.check import run_checks
from node.db import keys
from node.db.keyring import Purpose
from node.db.session import open_database
from node.errors import Retryable
from node.resealing import count_uses, reseal, unreadable_files
from node.restoring import restore
from tests.node.objects.conftest import ACTOR, BOTH, Place

FILM = b"a film's bytes " * 3000


def ring_of(place):
    ring = keys.open_keys(place.db, place.config, ACTOR)
    assert ring is not None
    return ring


def forget_local(place, key: str) -> None:
    place.file(key).unlink()


def test_a_new_key_reaches_what_only_the_bucket_has(node, place):
    key, local = node.put(FILM), node.put(FILM)
    node.move()
    forget_local(node, key)
    other = place("b")
    assert other.read(key) == FILM
    old = ring_of(node).current(Purpose.DATA).key_id
    new = keys.rotate(node.db, node.config, ACTOR)
    assert count_uses(node.db, node.config, "main")[old] == 2
    said: list[str] = []
    done = reseal(node.db, node.config, ACTOR, said.append)
    assert (done.files, done.unreadable) == (2, 0)
    node.move()
    node.move()
    uses = count_uses(node.db, node.config, "main")
    assert (uses[old], uses[new]) == (0, 2)
    assert len(node.objects()) == 2
    for each in (node, other):
        each.move()
        assert each.read(key) == each.read(local) == FILM
    assert list(unreadable_files(node.db, node.config, ring_of(node))) == []


def test_a_key_that_another_node_still_uses_is_not_dropped(node, place, line):
    other = place("b")
    key = other.put(FILM)
    line.fault = "away"
    with pytest.raises(Retryable):
        other.move()  # its row is written, the bucket has not got it
    line.fault = ""
    old = ring_of(node).current(Purpose.DATA).key_id
    keys.rotate(node.db, node.config, ACTOR)
    said: list[str] = []
    reseal(node.db, node.config, ACTOR, said.append)
    assert any("other nodes" in words for words in said)
    assert count_uses(node.db, node.config, "main")[old] == 1
    other.move()
    reseal(node.db, node.config, ACTOR, said.append)
    node.move()
    assert count_uses(node.db, node.config, "main")[old] == 0
    other.move()  # lets its old file go
    assert other.read(key) == FILM


def test_every_file_is_read_wherever_it_lies(node):
    key = node.put(FILM)
    node.move()
    forget_local(node, key)
    (copy,) = node.copies(key)
    node.overwrite(copy.name, b"something else")
    (bad,) = unreadable_files(node.db, node.config, ring_of(node))
    assert bad[0] == key
    assert "other bytes" in bad[1]


@BOTH
def test_a_backup_holds_what_only_the_bucket_has(node, tmp_path, line):
    root = tmp_path / "backups"
    gone, here = node.put(FILM), node.put(os.urandom(5000))
    node.move()
    sealed = node.file(gone).read_bytes()
    forget_local(node, gone)
    run = create(node.db, node.config, root)
    again = create(node.db, node.config, root)
    assert {entry.path for entry in run.manifest.files} >= {f"images/{gone}", f"images/{here}"}
    assert not any(entry.path.startswith("objects/") for entry in run.manifest.files)
    assert problems_of(root, again) == []
    assert line.requests.count("GET") == 1  # the second run fetched nothing
    (entry,) = [each for each in run.manifest.files if each.path == f"images/{gone}"]
    assert (root / "pool" / entry.sha256[:2] / entry.sha256).read_bytes() == sealed


def test_a_backup_is_not_called_whole_while_objects_are_out_of_reach(node, tmp_path, line):
    gone = node.put(FILM)
    node.move()
    forget_local(node, gone)
    line.fault = "away"
    with pytest.raises(Retryable):
        create(node.db, node.config, tmp_path / "backups")


def test_a_restored_node_puts_back_what_the_bucket_has_lost(node, place, tmp_path):
    root = tmp_path / "backups"
    key = node.put(FILM)
    node.move()
    forget_local(node, key)
    create(node.db, node.config, root)
    (copy,) = node.copies(key)
    node.there.remove_object(node.config.objects.bucket, "practice/" + copy.name)
    fresh = node.config.model_copy(
        update={
            "node": node.config.node.model_copy(update={"data_dir": tmp_path / "fresh"}),
            "database": type(node.config.database)(),
        }
    )
    restore(fresh, root, find_run(root), lambda _: None)
    back = Place(fresh, open_database(fresh.database_url), node.there)
    try:
        assert back.read(key) == FILM
        back.move()
        assert back.states(key) == ["confirmed"]
    finally:
        back.db.dispose()


@pytest.mark.parametrize(
    ("fault", "level", "words"), [("", "ok", "test object"), ("forbid", "fail", "AccessDenied")]
)
def test_check_tries_the_bucket(node, line, fault, level, words):
    line.fault = fault
    (verdict,) = run_checks(node.config, "objects")
    assert verdict.level == level
    assert words in verdict.words
    line.fault = ""
    assert node.objects() == set()
