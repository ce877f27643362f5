"""The image store: whole or not at all, private, and never under a name from the network."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.dicom.instances import FolderStore
from node.errors import InvalidInput, NotFound, Retryable


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "images")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_put_can_be_read_back(store):
    stored = store.put("main", "abcd1234.dcm", lambda file: file.write(b"film"))
    assert stored.storage_key == "main/ab/abcd1234.dcm"
    assert stored.size_bytes == 4
    assert stored.sha256 == hashlib.sha256(b"film").hexdigest()
    with store.open(stored.storage_key) as file:
        assert file.read() == b"film"
    assert store.path(stored.storage_key).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "", "x", "abcd1234.dcm/..", "ABCD1234", "a" * 90]
)
def test_only_our_own_names_become_paths(store, name):
    with pytest.raises(InvalidInput):
        store.put("main", name, lambda file: file.write(b"x"))


@pytest.mark.parametrize("location_id", ["..", "a/b", "", "Main"])
def test_a_location_is_never_a_path(store, location_id):
    with pytest.raises(InvalidInput):
        store.put(location_id, "abcd1234", lambda file: file.write(b"x"))


@pytest.mark.parametrize(
    "key", ["main/../../etc/passwd", "/etc/passwd", "main/zz/abcd1234", "main"]
)
def test_a_key_leads_nowhere_else(store, key):
    with pytest.raises(InvalidInput):
        store.open(key)


def test_a_missing_object_is_not_found(store):
    with pytest.raises(NotFound):
        store.open("main/ab/abcd1234")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failing_disk_is_retryable_and_leaves_nothing(store, tmp_path, number):
    def write(file):
        file.write(b"half a film")
        raise OSError(number, os.strerror(number))

    with pytest.raises(Retryable):
        store.put("main", "abcd1234.dcm", write)
    assert files(tmp_path) == []


def test_a_failing_writer_leaves_nothing(store, tmp_path):
    with pytest.raises(ZeroDivisionError):
        store.put("main", "abcd1234.dcm", lambda file: 1 / 0)
    assert files(tmp_path) == []


def test_the_watermark_refuses_before_anything_is_written(tmp_path):
    store = FolderStore(tmp_path, min_free_mb=10**9)
    with pytest.raises(Retryable, match="full"):
        store.require_room(1)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a real file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root on Linux")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not allow mounts")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_is_retryable_and_leaves_nothing(tiny_disk):
    store = FolderStore(tiny_disk)
    store.put("main", "aaaa1111.dcm", lambda file: file.write(bytes(600_000)))
    with pytest.raises(Retryable, match="full"):
        store.put("main", "bbbb1111.dcm", lambda file: file.write(bytes(600_000)))
    assert [path.name for path in files(tiny_disk)] == ["aaaa1111.dcm"]
    store.put("main", "cccc1111.dcm", lambda file: file.write(bytes(300_000)))


def test_parts_of_a_killed_process_are_swept_at_the_next_start(store, tmp_path):
    store.put("main", "abcd1234.dcm", lambda file: file.write(b"film"))
    folder = tmp_path / "images" / "main" / "parts"
    for name, age_s in (("old.dcm.1", 7200), ("fresh.dcm.2", 0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age_s, time.time() - age_s))
    FolderStore(tmp_path / "images")
    assert sorted(path.name for path in files(tmp_path)) == ["abcd1234.dcm", "fresh.dcm.2"]


def test_a_failing_second_put_keeps_the_first(store):
    store.put("main", "abcd1234.dcm", lambda file: file.write(b"first"))
    with pytest.raises(ZeroDivisionError):
        store.put("main", "abcd1234.dcm", lambda file: 1 / 0)
    with store.open("main/ab/abcd1234.dcm") as file:
        assert file.read() == b"first"
    store.put("main", "abcd1234.dcm", lambda file: file.write(b"second"))
    with store.open("main/ab/abcd1234.dcm") as file:
        assert file.read() == b"second"
