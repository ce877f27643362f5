"""What subscribers are told: messages with versions, and the JSON schemas that are shipped of them.

A field is never taken out of a version or given another meaning; a new version stands beside it.
``python -m orchestration.webhook_messages`` writes the schemas anew.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FOLDER = Path(__file__).with_name("schemas")


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Findings(_Message):
    """What a person signed, in sum."""

    tags: list[str] = Field(description="kind, or kind:tooth with ISO 3950 codes")
    anomaly_detected: bool
    anomaly_location: list[str] = Field(description="teeth, ISO 3950")
    confidence_score: float | None = Field(
        description="the highest of the networks' own; null where people found everything"
    )
    recommended_actions: list[str] = Field(description="the signer's dispositions")


class ImagingStudyAnalyzed(_Message):
    """A study is ready to be read, or signed; before the signature it holds no finding."""

    event_type: Literal["imaging_study_analyzed"] = "imaging_study_analyzed"
    version: Literal[1] = 1
    state: Literal["ready", "signed"]
    patient_id: str | None = Field(description="null while it is not certain whose study it is")
    study_id: str
    findings: Findings | None
    source_system: Literal["bitewing"] = "bitewing"
    timestamp: datetime


class CaseStanding(_Message):
    """Where a case stands; never its data."""

    state: str


class HistoryEntry(_Message):
    """One line of a case's timeline."""

    at: datetime
    what: str
    step: str


class WorkflowState(_Message):
    """A case of a workflow came to wait, to ask, to stop or to end."""

    event_type: Literal["workflow_state"] = "workflow_state"
    version: Literal[1] = 1
    workflow_id: str
    workflow: str
    patient_id: str | None
    current_step: str
    data: CaseStanding
    history: list[HistoryEntry]
    source_system: Literal["bitewing"] = "bitewing"
    timestamp: datetime


def schema_files() -> dict[Path, str]:
    """Give each schema file with what it must hold."""
    return {
        FOLDER / f"{name}.v1.schema.json": json.dumps(model.model_json_schema(), indent=2) + "\n"
        for name, model in (
            ("imaging_study_analyzed", ImagingStudyAnalyzed),
            ("workflow_state", WorkflowState),
        )
    }


if __name__ == "__main__":
    for path, text in schema_files().items():
        path.write_text(text)
