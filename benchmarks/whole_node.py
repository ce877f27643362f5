"""A whole node beside a sandbox practice, for benchmarks that need both, and their table."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pms_writeback.sandbox.server import running
from tests.faults.running_node import NodeProcess


@contextlib.contextmanager
def started(program: str = "node", extra: str = "") -> Iterator[NodeProcess]:
    """Start a node (``bitewing serve``) with a dentist's account; stops it at the end.

    `program` is the module that runs, `extra` what is added to its configuration.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder / "sandbox.sqlite") as sandbox:
            (folder / "data").mkdir()
            node = NodeProcess(folder, sandbox, program=program, extra=extra)
            node.add_dentist()
            node.start()
            try:
                yield node
            finally:
                node.stop()


def print_head() -> None:
    """Print the head of the table of measures."""
    print("| measure | median | worst | rounds |")
    print("|---|--:|--:|--:|")


def print_row(name: str, values: Sequence[float], digits: int = 2) -> None:
    """Print median, worst and number of one measure."""
    middle, worst = statistics.median(values), max(values)
    print(f"| {name} | {middle:.{digits}f} | {worst:.{digits}f} | {len(values)} |")
