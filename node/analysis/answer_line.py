"""One whole line from a child process, or nothing: it may end, or hang, in the middle of one."""

from __future__ import annotations

import subprocess
import threading


def read_line(child: subprocess.Popen[str], timeout_s: float) -> str:
    """Read the child's next line; empty when it ended or took too long, whatever it had begun.

    A child that took too long is killed: nothing else ends a read in the middle of a line.
    """
    assert child.stdout is not None
    timer = threading.Timer(timeout_s, child.kill)
    timer.start()
    try:
        line = child.stdout.readline()
    finally:
        timer.cancel()
    return line if line.endswith("\n") else ""
