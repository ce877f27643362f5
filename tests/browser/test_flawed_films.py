"""Films that lie otherwise, or are out of scope: sent to a running node, exported, on the page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, expect
from pydicom.uid import generate_uid

from node.db.tables import study
from pms_writeback.sandbox.server import running
from tests.faults.running_node import PASSWORD, ROOT, NodeProcess, sample_study, until

pytestmark = pytest.mark.browser

BITEWING = [sys.executable, "-m", "node"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    with running(folder / "sandbox.sqlite") as sandbox:
        (folder / "data").mkdir()
        process = NodeProcess(folder, sandbox)
        process.add_dentist()
        process.start()
        yield process
        process.kill()


def film(key: str, path: Path, turns: int = 0, is_negative: bool = False, **changes: str) -> str:
    """Write the first image of a sample study as another study, changed; give its study's UID."""
    (original, *_) = sample_study(key).write(
        path.parent, accession="", study_instance_uid=None, study_date=date(2026, 11, 2)
    )
    ds = pydicom.dcmread(original)
    pixels = np.rot90(ds.pixel_array, turns)
    pixels = 2**ds.BitsStored - 1 - pixels if is_negative else pixels
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelData = np.ascontiguousarray(pixels).tobytes()
    ds.StudyInstanceUID, ds.SOPInstanceUID = generate_uid(), generate_uid()
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return str(ds.StudyInstanceUID)


def send(node: NodeProcess, path: Path, study_uid: str) -> dict[str, object]:
    """Send a film with the command line and export what the node says of it, once analysed."""
    to = f"BITEWING@127.0.0.1:{node.dicom_port}"
    run([*BITEWING, "send", str(path), "--to", to])
    until(lambda: node.study_state(study_uid) == "ready", 120, "the study")
    command = [*BITEWING, "export-findings", study_uid, "--json"]
    exported = json.loads(run([*command, "--config", str(node.folder / "bitewing.toml")]))
    (image,) = exported["images"]
    return dict(image)


def run(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def centres(image: dict[str, object]) -> dict[str, np.ndarray]:
    teeth = image["teeth"]
    assert isinstance(teeth, list)
    return {
        mark["tooth"]: np.array(
            [(mark["box"][0] + mark["box"][2]) / 2, (mark["box"][1] + mark["box"][3]) / 2]
        )
        for mark in teeth
    }


def test_a_negative_that_stands_on_its_head(
    node: NodeProcess, chromium: Browser, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.dcm"
    usual = send(node, plain, film("panoramic-real", plain))
    assert usual["orientation"] == {
        "quarter_turns": 0,
        "is_mirrored": False,
        "is_inverted": False,
    }
    changed = tmp_path / "changed.dcm"
    study_uid = film("panoramic-real", changed, turns=2, is_negative=True)
    found = send(node, changed, study_uid)
    assert found["view"] == "panoramic"
    assert found["orientation"] == {
        "quarter_turns": 2,
        "is_mirrored": False,
        "is_inverted": True,
    }
    # the same teeth, on the same pixels of the film as it is stored
    upright, lying = centres(usual), centres(found)
    shared = set(upright) & set(lying)
    assert len(shared) >= 0.9 * len(upright) > 10
    size = np.array([usual["columns"], usual["rows"]])
    gaps = [np.abs(size - lying[tooth] - upright[tooth]).max() for tooth in shared]
    assert max(gaps) < 0.02 * max(size)

    page = chromium.new_context(viewport={"width": 1600, "height": 900}).new_page()
    page.goto(f"{node.url}/login")
    page.get_by_label("User name").fill("dentist")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    (row,) = node.rows(sa.select(study.c.id).where(study.c.study_instance_uid == study_uid))
    page.goto(f"{node.url}/review/{row.id}")
    flaws = page.get_by_role("region", name="Image quality")
    expect(flaws).to_contain_text("upside down and as a negative", timeout=30_000)


def test_a_child_is_out_of_scope(node: NodeProcess, tmp_path: Path) -> None:
    path = tmp_path / "child.dcm"
    study_uid = film("bitewings-4", path, PatientBirthDate="20180301")
    found = send(node, path, study_uid)
    assert found["view"] == "bitewing"
    assert found["teeth"] == found["findings"] == found["sites"] == []
    quality = found["quality"]
    assert isinstance(quality, list)
    assert [flag["kind"] for flag in quality] == ["out_of_scope"]
    assert "20180301" not in node.log.read_text(errors="replace")
