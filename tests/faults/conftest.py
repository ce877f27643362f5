"""A real node in its own process beside a sandbox practice, to be killed and started again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pms_writeback.sandbox.server import running
from tests.faults.running_node import NodeProcess


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node that runs against its own sandbox practice, with one dentist."""
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        (tmp_path / "data").mkdir()
        process = NodeProcess(tmp_path, sandbox)
        process.add_dentist()
        process.start()
        yield process
        if process.process is not None and process.process.poll() is None:
            process.kill()
