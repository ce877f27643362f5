"""Kills a child process with SIGKILL around its commits, again and again, until it gets through.

The child's module defines ``work(folder: Path) -> None``: open everything that lies in `folder`,
go on from there, and return when nothing is left to do. :func:`run_killed` starts it anew until it
returns by itself; every child dies just before or just after one of its first commits, chosen by
a seeded generator, so that what lies between any two commits is cut somewhere.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import DBAPIConnection

_KILL_AT = "BITEWING_TEST_KILL_AT"


#: So many children die early whatever the seed draws, so that every run is one with kills.
LEAST = 2
_EARLY = 4


def run_killed(
    module: str, folder: Path, *, seed: int = 1, reach: int = 6, limit: int = 300
) -> int:
    """Run `module` in children until one ends by itself; returns how many were killed.

    `reach` is how many commits a child lives at most; one that ends earlier has got through. The
    first `LEAST` live four at most, which no run gets through with: how many kills there are at
    least depends neither on the seed nor on how fast the machine is.
    """
    chance = random.Random(seed)
    for kills in range(limit):
        most = reach if kills >= LEAST else min(reach, _EARLY)
        moment, commit = chance.choice(["before", "after"]), chance.randint(1, most)
        child = subprocess.run(
            [sys.executable, "-m", "tests.orchestration.killing", module, str(folder)],
            env={**os.environ, _KILL_AT: f"{moment}:{commit}"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=240,
        )
        if child.returncode == 0:
            return kills
        assert child.returncode == -signal.SIGKILL, child.stderr[-4000:]
    raise AssertionError(f"still at work after {limit} kills")


def arm(moment: str, commit: int) -> None:
    """Make the process kill itself around its n-th commit of our own tables."""
    do_commit = DefaultDialect.do_commit
    mine = threading.local()
    counter = itertools.count(1)

    def notice(connection: sa.Connection) -> None:
        mine.is_next = connection.get_execution_options().get("bitewing_write", False)

    def counted(self: DefaultDialect, connection: DBAPIConnection) -> None:
        is_last = getattr(mine, "is_next", False) and next(counter) == commit
        mine.is_next = False
        if is_last and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        do_commit(self, connection)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "commit", notice)
    DefaultDialect.do_commit = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    when, _, number = os.environ[_KILL_AT].partition(":")
    arm(when, int(number))
    import_module(sys.argv[1]).work(Path(sys.argv[2]))
