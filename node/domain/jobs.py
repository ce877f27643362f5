"""Names of the durable workflows that parts start for each other, and their run-once keys."""

from __future__ import annotations

#: ``(instance_id)`` — decode one image and run the models; started by every stored image.
ANALYSE_IMAGE = "analyse_image"
#: ``(study_id, generation)`` — once a study is quiet: match, number across images, make results.
FINISH_STUDY = "finish_study"
#: ``(study_id, version)`` — a signed review flows into the chart.
CHART_FINDINGS = "chart_findings"
#: ``(command_id, attempt)`` — deliver one command to the PMS; a later attempt replaces it.
DELIVER_COMMAND = "deliver_command"
#: ``(study_id, version)`` — compose SR and annotated copy, send to peers; version 0 = preliminary.
PUBLISH_RESULTS = "publish_results"
#: ``(delivery_id, attempt)`` — try to send one result to one peer; a later attempt replaces it.
SEND_RESULT = "send_result"
#: ``(retraction_id)`` — what was signed is taken back in chart, archive and cases.
RETRACT_STUDY = "retract_study"


def analyse_key(instance_id: str, attempt: int = 0) -> str:
    """Key of the analysis of one image; a person's retry counts up."""
    return f"analyse:{instance_id}:{attempt}"


def finish_key(study_id: str, generation: int) -> str:
    """Key of finishing one generation of a study."""
    return f"finish:{study_id}:{generation}"


def reread_key(study_id: str, generation: int, cause: str | None) -> str:
    """Key of reading a finished study again; `cause` is an opaque id of why, a patient's say."""
    return f"finish:{study_id}:{generation}:{cause or 'nobody'}"


def chart_key(study_id: str, version: int) -> str:
    """Key of charting one signed version."""
    return f"chart:{study_id}:{version}"


def deliver_key(command_id: str, attempt: int = 0) -> str:
    """Key of delivering one command; a person's retry counts up."""
    return f"deliver:{command_id}:{attempt}"


def publish_key(study_id: str, version: int, generation: int) -> str:
    """Key of publishing the results of one signed version, or of one preliminary generation."""
    return f"publish:{study_id}:{version}:{generation}"


def send_key(delivery_id: str, attempt: int = 0) -> str:
    """Key of one try to send one result to one peer."""
    return f"send:{delivery_id}:{attempt}" if attempt else f"send:{delivery_id}"


def retract_key(retraction_id: str) -> str:
    """Key of carrying out one retraction."""
    return f"retract:{retraction_id}"
