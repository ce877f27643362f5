"""All workflows of one location at work: what the node starts, ticks and mounts."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.config import Config
from node.db.session import read
from node.db.tables import workflow_case
from node.dicom.instances import InstanceStore
from node.engine import DurableEngine
from orchestration.cases import CaseState
from orchestration.hooks import Hooks
from orchestration.runner import Runner
from orchestration.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Orchestra:
    """The workflows of one location, their runner and what starts them."""

    runner: Runner
    hooks: Hooks

    def register(self) -> None:
        """Register the durable function; every process that opens the engine must."""
        self.runner.register()

    def tick(self) -> None:
        """Wake what is due; look after processes that share the database. Twice a second."""
        self.runner.beat()
        self.runner.take_over()
        self.runner.wake_due()

    def follow(self) -> None:
        """Tell workflows what happened, and run the sweeps whose time of day has come."""
        self.hooks.run_once()
        self.hooks.run_daily()

    def parked(self) -> int:
        """Count the cases that wait for a person to mend them."""
        with read(self.runner.db) as conn:
            return int(
                conn.execute(
                    sa.select(sa.func.count()).where(
                        workflow_case.c.location_id == self.runner.actor.location_id,
                        workflow_case.c.state == CaseState.PARKED.value,
                    )
                ).scalar_one()
            )


def open_orchestra(
    db: sa.Engine,
    engine: DurableEngine,
    store: InstanceStore,
    config: Config,
    executor: str,
    workflows: dict[str, Workflow],
) -> Orchestra:
    """Put the workflows of a location together."""
    runner = Runner(db, engine, store, config, workflows, executor)
    return Orchestra(runner, Hooks(runner))
