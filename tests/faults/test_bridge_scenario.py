"""Scheduling to chart through a bridge: a whole node, a bridge process, and their command lines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa

from node.db.tables import pms_command
from node.dicom.worklist_scu import query_worklist
from pms_writeback.bridge.sandbox_office import SandboxOffice
from pms_writeback.pms import OfficeTime
from tests.faults.running_node import NodeProcess, free_port, until
from tests.faults.test_kill_node import all_done, sign_study
from tests.pms_writeback.bridge_world import VENDORS, ZONE

pytestmark = [pytest.mark.faults, pytest.mark.timeout(290)]

ROOT = Path(__file__).parents[2]


@dataclass
class BridgedNode(NodeProcess):
    """A node that waits for a bridge."""

    pms: str = "dentrix"
    bridge_port: int = field(default_factory=free_port)

    def write_config(self) -> Path:
        path = self.folder / "bitewing.toml"
        path.write_text(
            f"""
[node]
data_dir = "{self.folder / "data"}"
mode = "assist"
time_zone = "{ZONE}"
[dicom]
host = "127.0.0.1"
port = {self.dicom_port}
study_quiet_s = 1.0
[web]
port = {self.http_port}
[pms]
kind = "{self.pms}"
poll_s = 2
[bridge]
host = "127.0.0.1"
port = {self.bridge_port}
"""
        )
        return path


def bitewing(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one command of ours to its end."""
    return subprocess.run(
        [sys.executable, "-m", "node", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=check,
        cwd=ROOT,
        timeout=120,
    )


@pytest.fixture(scope="module", params=["dentrix", "eaglesoft"])
def node(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "data").mkdir()
    process = BridgedNode(folder, None, pms=request.param)
    process.add_dentist()
    process.start()
    yield process
    if process.process is not None and process.process.poll() is None:
        process.kill()


@pytest.fixture(scope="module")
def clinic(node):
    """Make a practice, enrol and run a bridge for it, by the commands of the manual."""
    folder = node.folder / "clinic"
    config = node.folder / "bitewing.toml"
    url = f"https://127.0.0.1:{node.bridge_port}"
    bitewing("bridge", "sandbox", "--pms", node.pms, "--folder", folder, "--time-zone", ZONE)
    (folder / "bridge.toml").write_text(
        f'node_url = "{url}"\npms = "{node.pms}"\ntime_zone = "{ZONE}"\n'
        'driver = "sandbox"\nsnapshot_s = 1\n'
    )
    token = bitewing("bridge", "token", "--config", config).stdout.strip()
    said = bitewing("bridge", "enrol", "--node", url, "--token", token, "--folder", folder).stdout
    assert said.startswith("enrolled")
    running = start(folder)
    yield folder
    running.terminate()
    running.wait(30)


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "node", "bridge", "run", "--folder", str(folder)],
        env=environment,
        stderr=(folder / "log").open("ab"),
    )


def test_from_the_schedule_to_the_chart(node, clinic):
    study_id = sign_study(node, "bitewings-4")
    until(lambda: all_done(node, study_id), 120, "the chart write")
    office = SandboxOffice(clinic / f"{node.pms}.sqlite", VENDORS[node.pms].LAYOUT)
    entries = office.entries()
    commands = node.rows(
        sa.select(pms_command.c.ref, pms_command.c.kind).where(
            pms_command.c.study_id == study_id, pms_command.c.kind != "CloseTask"
        )
    )
    landed = Counter(
        word.strip(".,)") for each in entries for word in each.text.split() if "ref:BW-" in word
    )
    assert {row.ref for row in commands} == set(landed)
    assert set(landed.values()) == {1}
    assert {each.patient_id for each in entries} == {"1"}
    kinds = {each.kind for each in entries}
    assert {"note", "document"} <= kinds
    assert any(each.content and each.content.startswith(b"%PDF") for each in entries)
    health = httpx2.get(f"{node.url}/healthz", timeout=10).json()
    assert health["status"] == "ok", health
    config = node.folder / "bitewing.toml"
    checked = bitewing("check", "--config", config, check=False).stdout
    assert "by a bridge (sandbox)" in checked
    listed = bitewing("bridge", "list", "--config", config).stdout
    assert "protocol 2" in listed
    assert "certificate " in listed
    assert "ok    driver" in bitewing("bridge", "check", "--folder", clinic).stdout
    verified = bitewing("verify-audit", "--config", config).stdout
    assert "chain intact" in verified


def test_a_visit_that_is_cancelled_leaves_the_worklist(node, clinic):
    assert node.scheduled("2").accession_number
    office = SandboxOffice(clinic / f"{node.pms}.sqlite", VENDORS[node.pms].LAYOUT)
    table = "v_appt" if node.pms == "dentrix" else "appointment"
    with office.writing() as db:
        db.execute(f"DELETE FROM {table} WHERE patient_id = 2")
    until(lambda: not query_worklist(node.peer, patient_id="2"), 60, "the empty worklist")


def test_the_node_stops_the_bridge_and_lets_it_go(node, clinic):
    node.scheduled("1")
    config = node.folder / "bitewing.toml"
    bitewing("bridge", "stop", "--reason", "maintenance", "--config", config)
    until(
        lambda: "it is stopped by the node" in bitewing("bridge", "list", "--config", config).stdout
    )
    bitewing("bridge", "go", "--config", config)
    until(lambda: "it is" not in bitewing("bridge", "list", "--config", config).stdout)
    today = OfficeTime(ZONE).today(datetime.now(UTC))
    assert query_worklist(node.peer, patient_id="1"), today


def test_commands_say_what_is_wrong(tmp_path):
    missing = bitewing("bridge", "run", "--folder", tmp_path, check=False)
    assert (missing.returncode, "no bridge.toml" in missing.stderr) == (2, True)
    wrong = bitewing("bridge", "sandbox", "--pms", "softdent", "--folder", tmp_path, check=False)
    assert wrong.returncode == 2
    config = tmp_path / "bitewing.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}"\n[pms]\nkind = "none"\n')
    nobody = bitewing("bridge", "token", "--config", config, check=False)
    assert (nobody.returncode, "for a bridge" in nobody.stderr) == (2, True)
    waiting = tmp_path / "waiting.toml"
    waiting.write_text(config.read_text().replace("none", "dentrix"))
    unheard = bitewing("bridge", "list", "--config", waiting).stdout
    assert "no bridge was heard" in unheard
    checked = bitewing("check", "--config", waiting, check=False).stdout
    assert "no bridge has called yet" in checked
    lost = bitewing("bridge", "revoke", "ab12", "--reason", "x", "--config", config, check=False)
    assert lost.returncode == 1
    if sys.platform != "win32":
        service = bitewing("bridge", "service", "install", "--folder", tmp_path, check=False)
        assert (service.returncode, "systemd" in service.stderr) == (2, True)
        service = bitewing("service", "install", check=False)
        assert (service.returncode, "bitewing.service" in service.stderr) == (2, True)


def test_a_release_is_signed_offered_and_staged_by_commands(tmp_path):
    key, wheel = tmp_path / "release.pem", tmp_path / "bitewing-9.0.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    assert "update_key" in bitewing("bridge", "new-key", key).stdout
    assert bitewing("bridge", "new-key", key, check=False).returncode == 2
    bitewing("bridge", "sign", wheel, "--version", "9.0.0", "--key", key)
    config = tmp_path / "bitewing.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n[pms]\nkind = "dentrix"\n')
    manifest = wheel.with_suffix(".json")
    assert "9.0.0" in bitewing("bridge", "offer", manifest, "--config", config).stdout
    assert list((tmp_path / "data" / "bridge" / "packages").glob("*.whl"))
    assert "nothing" in bitewing("bridge", "offer", "--config", config).stdout
    wheel.unlink()
    assert bitewing("bridge", "offer", manifest, "--config", config, check=False).returncode == 2
