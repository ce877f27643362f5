"""Run every benchmark in turn: ``python -m benchmarks [NAME …]``; each prints markdown rows."""

from __future__ import annotations

import subprocess
import sys

NAMES = (
    "store",
    "worklist",
    "journey",
    "review_page",
    "protected_page",
    "inference",
    "pms_sync",
    "pms_events",
    "bridge_writes",
    "office_writes",
    "change",
    "workflows",
    "recall_sweep",
    "encryption",
    "audit",
    "deidentify",
    "restore",
)


def main() -> int:
    """Run the named benchmarks, all when none is named; returns the worst exit status."""
    names = sys.argv[1:] or list(NAMES)
    worst = 0
    for name in names:
        print(f"## {name}", flush=True)
        worst = max(worst, subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode)
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
