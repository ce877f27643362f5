"""From the sensor to the page: how long a dentist waits, and what the node costs when idle.

Measured on a whole node (`bitewing serve`, all parts, SQLite with full durability, assist mode)
beside a sandbox practice on the same machine: seconds from the C-STORE Success of the last image to
its findings committed where the page reads them, for one bitewing and for the last of four;
milliseconds of preview and 16-bit image over a warm connection; CPU and memory of the idle node and
its inference process over 60 s.

Run: ``python -m benchmarks.journey [--rounds 5]`` (about 5 minutes).
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import sqlalchemy as sa

from benchmarks.whole_node import print_head, print_row, started
from node.db.tables import instance, study
from node.dicom.send import send_paths
from node.domain.study import InstanceState
from tests.faults.running_node import PASSWORD, NodeProcess, sample_study, until


def main() -> None:
    """Measure and print the rows of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with started() as node:
        _measure(node, rounds)


def _measure(node: NodeProcess, rounds: int) -> None:
    _warm_up(node)
    print_head()
    print_row(
        "one bitewing: Success to findings, s", _times(lambda: _store(node, "bitewing-1"), rounds)
    )
    print_row(
        "last of four: Success to findings, s", _times(lambda: _store(node, "bitewings-4"), rounds)
    )
    for what, path in (("preview, ms", "preview?w=900"), ("16-bit image, ms", "pixels")):
        print_row(what, [1000 * t for t in _times(lambda p=path: _fetch(node, p), rounds * 4)])
    _idle(node)


def _times(action: Callable[[], float], rounds: int) -> list[float]:
    return [action() for _ in range(rounds)]


def _warm_up(node: NodeProcess) -> None:
    _store(node, "bitewing-1")


def _store(node: NodeProcess, key: str) -> float:
    """Send a sample under new UIDs; seconds from its last Success to that image's findings."""
    sample = sample_study(key)
    with tempfile.TemporaryDirectory() as folder:
        paths = _write_new(sample, Path(folder))
        report = send_paths(paths, node.peer, calling_ae="BENCH")
        sent = time.perf_counter()
        assert not report.failed, report
    db = node.database()
    query = sa.select(sa.func.count()).where(instance.c.state == InstanceState.RECEIVED.value)
    while True:
        with db.connect() as conn:
            if conn.execute(query).scalar_one() == 0:
                break
        time.sleep(0.01)
    db.dispose()
    return time.perf_counter() - sent


def _write_new(sample: object, folder: Path) -> list[Path]:
    """Write a sample with fresh UIDs, so that every round is a new study."""
    import pydicom

    paths = sample.write(  # type: ignore[attr-defined]
        folder,
        accession=uuid.uuid4().hex[:12],
        study_instance_uid=f"2.25.{uuid.uuid4().int}",
        study_date=datetime.now(UTC).date(),
    )
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = f"2.25.{uuid.uuid4().int}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(path)
    return list(paths)


def _fetch(node: NodeProcess, what: str) -> float:
    """Seconds to fetch one image of the newest study over a warm connection."""
    http, image_id = _session(node)
    http.get(f"/api/images/{image_id}/{what}")
    start = time.perf_counter()
    answer = http.get(f"/api/images/{image_id}/{what}")
    took = time.perf_counter() - start
    assert answer.status_code == 200, answer.status_code
    return took


_SESSIONS: dict[str, tuple[httpx2.Client, str]] = {}


def _session(node: NodeProcess) -> tuple[httpx2.Client, str]:
    if node.url not in _SESSIONS:
        http = httpx2.Client(base_url=node.url, timeout=30)
        http.post("/api/login", json={"username": "dentist", "password": PASSWORD})
        rows = node.rows(
            sa.select(instance.c.id)
            .join(study, study.c.id == instance.c.study_id)
            .order_by(instance.c.received_at.desc())
        )
        _SESSIONS[node.url] = (http, str(rows[0].id))
    return _SESSIONS[node.url]


def _idle(node: NodeProcess, seconds: float = 60.0) -> None:
    """CPU (share of one core) and resident memory of the node and its child while nothing comes."""
    assert node.process is not None
    until(lambda: node.count(study, study.c.state == "receiving") == 0, 60, "quiet")
    time.sleep(5)
    pids = [node.process.pid, *node.children()]
    before = [_cpu_s(pid) for pid in pids]
    time.sleep(seconds)
    used = [(_cpu_s(pid) - start) / seconds * 100 for pid, start in zip(pids, before, strict=True)]
    memory = [_rss_mb(pid) for pid in pids]
    print(f"| idle CPU, % of one core (node + inference) | {sum(used):.1f} | – | 60 s |")
    print(f"| resident memory, MB (node + inference) | {sum(memory):.0f} | – | – |")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
