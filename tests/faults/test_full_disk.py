"""A real node on a disk of 300 MB that fills up: images are refused, everything else goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from node.db.tables import pms_command, study
from node.dicom.send import SendReport, send_paths
from node.disk import RESERVE, free_bytes
from pms_writeback.sandbox.server import running
from tests.faults.running_node import NodeProcess, sample_study, until

MB = 1_000_000


@pytest.fixture
def small(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node whose data folder is a disk of its own."""
    data = tmp_path / "data"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(data)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        with running(tmp_path / "sandbox.sqlite") as sandbox:
            process = NodeProcess(tmp_path, sandbox)
            process.add_dentist()
            process.start()
            yield process
            if process.process is not None and process.process.poll() is None:
                process.kill()
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def fill(data: Path, leave_mb: int) -> None:
    """Leave this much room; the filler grows and shrinks."""
    filler = data / "filler"
    size = filler.stat().st_size if filler.exists() else 0
    with filler.open("ab") as file:
        wanted = size + free_bytes(data) - leave_mb * MB
        if wanted < size:
            file.truncate(wanted)
        while file.tell() < wanted:
            file.write(b"x" * min(MB, wanted - file.tell()))


def offer(node: NodeProcess, key: str) -> SendReport:
    sample = sample_study(key)
    step = node.scheduled(sample.patient.id)
    folder = node.folder / f"send-{key}"
    folder.mkdir(exist_ok=True)
    paths = sample.write(
        folder,
        accession=step.accession_number,
        study_instance_uid=step.study_instance_uid,
        study_date=date.today(),  # noqa: DTZ011 - a sensor's own clock
    )
    return send_paths(paths, node.peer, calling_ae="SENSOR")


def said(node: NodeProcess) -> tuple[str, str]:
    health = httpx2.get(f"{node.url}/healthz", timeout=30).json()
    (disk,) = [part for part in health["parts"] if part["name"] == "disk"]
    return health["status"], disk["words"]


def test_no_image_is_taken_and_what_is_here_is_read_signed_and_charted(small: NodeProcess) -> None:
    data = small.folder / "data"
    until((data / RESERVE).exists, what="the reserve")
    step = small.send("bitewing-1")
    until(lambda: small.study_state(step.study_instance_uid) == "ready", 180, "analysis")
    (row,) = small.rows(
        sa.select(study.c.id).where(study.c.study_instance_uid == step.study_instance_uid)
    )
    status, words = said(small)
    assert (status, "make room soon" in words) == ("degraded", True)

    fill(data, leave_mb=55)
    refused = offer(small, "bitewings-4")
    assert not refused.sent
    assert all("A700" in reason for _, reason in refused.failed), refused.failed
    status, words = said(small)
    assert (status, "images are refused" in words) == ("failing", True)

    dentist = small.sign_in()
    (image,) = dentist.study(row.id)["images"]
    assert dentist.get(f"/api/images/{image['id']}/pixels").status_code == 200
    dentist.decide_everything(row.id)
    dentist.sign(row.id)

    def charted() -> bool:
        found = small.rows(sa.select(pms_command.c.state).where(pms_command.c.study_id == row.id))
        return bool(found) and all(each.state == "done" for each in found)

    until(charted, 120, "the chart")

    fill(data, leave_mb=20)
    until(lambda: not (data / RESERVE).exists(), what="letting the reserve go")
    assert free_bytes(data) > 60 * MB

    (data / "filler").unlink()
    until(lambda: "refused" not in said(small)[1], what="room again")
    assert not offer(small, "bitewings-4").failed
    until((data / RESERVE).exists, what="the reserve")
