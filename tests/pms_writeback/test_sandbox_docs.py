"""The page about the sandbox names every fault and every address."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pms_writeback.sandbox.faults import FaultKind

PAGE = Path(__file__).parents[2] / "docs" / "sandbox-pms.md"


def test_every_fault_is_documented():
    text = PAGE.read_text("utf-8")
    for kind in get_args(FaultKind):
        assert f"| `{kind}` |" in text, kind
    for address in ("/api/v1/", "/_sandbox/faults", "/_sandbox/log", "/_sandbox/appointments/"):
        assert address in text
