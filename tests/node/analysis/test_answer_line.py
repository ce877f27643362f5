"""A line from a child process comes whole or not at all."""

import subprocess
import sys

import pytest

from node.analysis.answer_line import read_line

WHOLE = "import sys; sys.stdout.write('{\"a\":'); sys.stdout.flush(); print(' 1}', flush=True)"
CUT = "import sys; sys.stdout.write('{\"a\":'); sys.stdout.flush()"
HANGS = CUT + "; import time; time.sleep(600)"


@pytest.mark.parametrize(
    ("program", "timeout_s", "line"),
    [(WHOLE, 60, '{"a": 1}\n'), (CUT, 60, ""), (HANGS, 2, ""), ("", 60, "")],
    ids=["whole", "cut by its end", "hangs in the middle", "says nothing"],
)
def test_a_line_comes_whole_or_not_at_all(program: str, timeout_s: float, line: str) -> None:
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert read_line(child, timeout_s) == line
