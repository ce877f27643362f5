"""One file a workflow; the first docstring of each says what starts it, writes it and approves it."""

from __future__ import annotations

import sqlalchemy as sa

from node.config import Config
from orchestration.workflow import Workflow


def open_workflows(config: Config, db: sa.Engine) -> dict[str, Workflow]:
    """Open every workflow that this installation is configured for, by its stored name."""
    workflows: list[Workflow] = []
    return {workflow.name: workflow for workflow in workflows}
