"""OpenStack Swift with its S3 interface, all in one folder, as whoever runs the tests.

Its four servers listen on loopback; nothing of it is left when the folder goes.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ACCESS_KEY, SECRET_KEY, REGION = "test:tester", "testing", "us-east-1"
_SERVERS = ("account", "container", "object", "proxy")
_FILTERS = "catch_errors cache s3api tempauth bulk slo dlo"


class NotHere(Exception):
    """Swift cannot run on this machine, and why."""


@dataclass(frozen=True)
class Swift:
    """A running Swift: its port and the folder in which its objects lie."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running() -> Iterator[Swift]:
    """Run Swift until the context is left; raises NotHere where it cannot be."""
    for name in _SERVERS:
        if shutil.which(f"swift-{name}-server") is None:
            raise NotHere(f"OpenStack Swift (swift-{name})")
    folder = Path(tempfile.mkdtemp(prefix="bwswift"))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        _demand_attributes(folder)
        ports = {name: _free_port() for name in _SERVERS}
        _configure(folder, ports)
        for name in _SERVERS:
            with (folder / f"{name}.log").open("wb") as log:
                command = [f"swift-{name}-server", str(folder / f"{name}-server.conf"), "-v"]
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        for name, process in zip(_SERVERS, processes, strict=True):
            _await(ports[name], process, folder / f"{name}.log")
        yield Swift(ports["proxy"], folder)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def demanded() -> Iterator[Swift]:
    """Run Swift for a test; where it cannot be the test is skipped, and fails in CI."""
    try:
        with running() as server:
            yield server
    except NotHere as reason:
        if os.environ.get("CI"):
            pytest.fail(f"{reason} is not available")
        pytest.skip(f"{reason} is not available")


def _demand_attributes(folder: Path) -> None:
    """Swift keeps what it says of an object in attributes of its file."""
    try:
        os.setxattr(folder, "user.try", b"1")
    except OSError:
        raise NotHere("a temporary folder with extended attributes, for Swift") from None


def _configure(folder: Path, ports: dict[str, int]) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    (folder / "devices" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n"
        "[storage-policy:0]\nname = only\ndefault = yes\n"
        "[swift-constraints]\nmax_header_size = 16384\n"
    )
    for name in _SERVERS[:3]:
        builder = str(folder / f"{name}.builder")
        for words in (
            ("create", "2", "1", "0"),
            ("add", f"r1z1-127.0.0.1:{ports[name]}/d1", "1"),
            ("rebalance",),
        ):
            command = ["swift-ring-builder", builder, *words]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        (folder / f"{name}-server.conf").write_text(
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {ports[name]}\nuser = {user}\n"
            f"swift_dir = {folder}\ndevices = {folder}/devices\nmount_check = false\n"
            "workers = 0\ndisable_fallocate = true\n"
            f"[pipeline:main]\npipeline = {name}-server\n"
            f"[app:{name}-server]\nuse = egg:swift#{name}\n"
        )
    filters = "".join(
        f"[filter:{each}]\nuse = egg:swift#{'memcache' if each == 'cache' else each}\n"
        for each in _FILTERS.split()
    )
    (folder / "proxy-server.conf").write_text(
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {ports['proxy']}\nuser = {user}\n"
        f"swift_dir = {folder}\nworkers = 0\n"
        f"[pipeline:main]\npipeline = {_FILTERS} proxy-server\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
        + filters.replace("#memcache\n", "#memcache\nmemcache_servers = 127.0.0.1:1\n")
        .replace("#s3api\n", f"#s3api\nlocation = {REGION}\n")
        .replace("#tempauth\n", "#tempauth\nuser_test_tester = testing .admin\n")
    )


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 200
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"Swift does not listen: {log.read_text()[-2000:]}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
