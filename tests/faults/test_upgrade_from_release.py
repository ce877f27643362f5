"""A practice of release 0.1, killed while it wrote to the chart, starts under this release."""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from node.db.tables import finding, patient_identity, pms_command, study
from pms_writeback.sandbox.server import running
from tests.faults.running_node import NodeProcess, Reviewer

RELEASE = Path(__file__).parent / "release_0_1"
FILM = "259898fda2929eb721230986ed01c45b.dcm"


def _unpack(data: Path) -> None:
    shard = data / "images" / "main" / FILM[:2]
    shard.mkdir(parents=True)
    for name, target in (
        ("bitewing.sqlite.xz", data / "bitewing.sqlite"),
        (f"{FILM}.xz", shard / FILM),
    ):
        target.write_bytes(lzma.decompress((RELEASE / name).read_bytes()))
    (data / "engine.key").write_bytes((RELEASE / "engine.key").read_bytes())
    (data / "engine.key").chmod(0o600)


def _bitewing(node: NodeProcess, *words: str) -> str:
    command = [sys.executable, "-m", "node", *words, "--config", str(node.write_config())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=RELEASE.parents[2])
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    return done.stdout


def test_everything_signed_is_there_and_what_was_under_way_is_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    _unpack(data)
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        node = NodeProcess(tmp_path, sandbox)
        try:
            node.start()
            (signed,) = node.rows(sa.select(study).where(study.c.state == "signed"))
            reviewer = Reviewer(node.url, "demo", "bitewing-demo")
            shown = reviewer.study(signed.id)
            assert shown["sign"]["next_version"] == 2
            assert len(shown["findings"]) > 0
            film = next(each["id"] for each in shown["images"] if each["id"] == _film_id(node))
            assert reviewer.get(f"/api/images/{film}/preview").status_code == 200
            assert node.count(finding) == 140
            assert node.count(pms_command) >= 19
            assert len(node.rows(sa.select(patient_identity.c.family_name))) >= 40
        finally:
            node.kill()
        assert "chain intact" in _bitewing(node, "verify-audit")
        _bitewing(node, "encrypt-data")
        whole = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
        for name in (b"Sandbox", b"DICM"):
            assert name not in whole
        node.start()
        reviewer = Reviewer(node.url, "demo", "bitewing-demo")
        assert reviewer.get(f"/api/images/{film}/preview").status_code == 200
        assert node.stop() == 0


def _film_id(node: NodeProcess) -> str:
    from node.db.tables import instance

    query = sa.select(instance.c.id).where(instance.c.storage_key.endswith(FILM))
    return str(node.rows(query)[0].id)
