"""`bitewing demo` as a newcomer runs it: twice, ended by Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.faults.running_node import ROOT, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(290)]


class Demo:
    """The demo as a process, its output in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.output = folder / f"{name}.log"
        command = [sys.executable, "-m", "node", "demo", "--no-browser"]
        command += ["--data-dir", str(folder / "demo"), "--dicom-port", "0", "--http-port", "0"]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=self.output.open("wb"),
            stderr=subprocess.STDOUT,
        )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_ready(self) -> httpx2.Client:
        until(lambda: self._ended() or "Ctrl-C ends everything" in self.text, 240, "the demo")
        assert not self._ended(), self.text
        page = re.search(r"Review page\s+(http://\S+)", self.text)
        assert page is not None
        http = httpx2.Client(base_url=page.group(1), timeout=30)
        login = re.search(r"sign in: (\S+) / (\S+)", self.text)
        assert login is not None
        answer = http.post(
            "/api/login", json={"username": login.group(1), "password": login.group(2)}
        )
        assert answer.status_code == 200
        return http

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.text
        assert "goes on from here" in self.text

    def _ended(self) -> bool:
        return self.process.poll() is not None


def test_the_demo_fills_itself_and_goes_on(tmp_path: Path) -> None:
    first = Demo(tmp_path, "first")
    rows = first.wait_ready().get("/api/worklist?filter=all").json()["rows"]
    assert len(rows) == 8
    assert sum(row["images"] for row in rows) == 27
    assert {row["state"] for row in rows} <= {"ready", "ai_off"}
    first.end()
    assert "Traceback" not in first.text
    second = Demo(tmp_path, "second")
    again = second.wait_ready().get("/api/worklist?filter=all").json()["rows"]
    assert {row["id"] for row in again} == {row["id"] for row in rows}
    second.end()
