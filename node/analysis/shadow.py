"""Shadow runs: a network in trial reads the same images silently, after the live result is stored.

Its output stands in ``shadow_run`` only. It is never shown to a clinician, never part of a result
and never leaves the node; ``bitewing models compare`` sets it against the signed reviews.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from models.registry import Choice, Role, choices
from models.weights import Entry
from node.analysis.findings import pipeline_digest
from node.analysis.inference import InferenceDied, InferenceProcess
from node.config import AnalysisSection, ModelSection
from node.db.session import Actor, begin, insert_once, new_id, read
from node.db.tables import analysis_run, instance, shadow_run
from node.dicom.object_file import ObjectFile
from node.domain.audit_chain import canonical
from node.domain.findings import ImageAnalysis, View
from node.domain.image_json import outline_to_json, site_to_json
from node.domain.review import finding_to_json
from node.domain.study import InstanceState
from node.errors import ConfigError, InvalidInput, Rejected, Retryable

log = logging.getLogger("bitewing")

#: Older images are not read again: the practice would wait for its archive.
_DAYS = 90
_TRIES = 3
_INTRAORAL = (View.BITEWING.value, View.PERIAPICAL.value)
#: Views of the live result on which a task's network runs at all; triage runs on every image.
_VIEWS: dict[str, tuple[str, ...]] = {
    "panoramic_teeth": (View.PANORAMIC.value,),
    "panoramic_caries": (View.PANORAMIC.value,),
    "intraoral": _INTRAORAL,
}


def choice_of(section: ModelSection) -> Choice:
    """Read one ``[[analysis.models]]`` as the registry's value; raises ConfigError."""
    return Choice(section.task, section.dir, section.version, Role(section.role))


def all_choices(config: AnalysisSection) -> tuple[Choice, ...]:
    """Give every network of the configuration with its role; raises ConfigError."""
    folder = Path(config.weights_dir) if config.weights_dir else None
    return choices([choice_of(model) for model in config.models], folder, config.disabled_models)


def shadow_sections(config: AnalysisSection) -> tuple[ModelSection, ...]:
    """Give the configured networks that run in the shadow, those of disabled tasks left out."""
    return tuple(
        model
        for model in config.models
        if model.role == Role.SHADOW.value and model.task not in config.disabled_models
    )


@dataclass(slots=True)
class ShadowReader:
    """Reads stored images with the shadow networks, one image at a time, when nothing waits."""

    db: sa.Engine
    actor: Actor
    inference: InferenceProcess
    shadows: Sequence[ModelSection]
    file_of: Callable[[str], ObjectFile]
    _is_refused: bool = field(default=False, init=False)

    def read_waiting(self, is_stopping: Callable[[], bool]) -> int:
        """Read what the shadows have not read yet until a live image waits; return how many.

        A network that cannot be loaded is said once in the log; the live ones are not touched.
        """
        if self._is_refused:
            return 0
        done = 0
        try:
            entries = [choice_of(section).entry() for section in self.shadows]
            while not is_stopping() and not self._is_live_waiting():
                found = self._next(entries)
                if found is None:
                    break
                self._read(*found)
                done += 1
        except Retryable:  # the node is stopping, or the database is away: later
            return done
        except ConfigError as error:
            self._is_refused = True
            log.error("shadow models are off until the next start: %s", error)
        return done

    def _is_live_waiting(self) -> bool:
        query = sa.select(instance.c.id).where(
            instance.c.location_id == self.actor.location_id,
            instance.c.state == InstanceState.RECEIVED.value,
        )
        with read(self.db) as conn:
            return conn.execute(query.limit(1)).first() is not None

    def _next(self, entries: Sequence[Entry]) -> tuple[int, Entry, str, str] | None:
        """Find the newest image that a shadow has not read: (number, entry, id, storage key)."""
        with read(self.db) as conn:
            for number, entry in enumerate(entries):
                row = conn.execute(self._unread(entry)).first()
                if row is not None:
                    return number, entry, row.id, row.storage_key
        return None

    def _unread(self, entry: Entry) -> sa.Select[tuple[str, str]]:
        is_read = sa.exists().where(
            shadow_run.c.instance_id == instance.c.id, shadow_run.c.model_digest == entry.sha256
        )
        is_analysed = sa.exists().where(analysis_run.c.instance_id == instance.c.id)
        if entry.task in _VIEWS:
            is_analysed = is_analysed.where(analysis_run.c.view.in_(_VIEWS[entry.task]))
        return (
            sa.select(instance.c.id, instance.c.storage_key)
            .where(
                instance.c.location_id == self.actor.location_id,
                instance.c.state == InstanceState.ANALYSED.value,
                instance.c.received_at > datetime.now(UTC) - timedelta(days=_DAYS),
                is_analysed,
                sa.not_(is_read),
            )
            .order_by(instance.c.received_at.desc(), instance.c.id)
            .limit(1)
        )

    def _read(self, number: int, entry: Entry, instance_id: str, storage_key: str) -> None:
        started = time.monotonic()
        analysis, failure = self._analyse(self.file_of(storage_key), number)
        values = _content(analysis) if analysis else {"pipeline": ""}
        with begin(self.db, self.actor, "shadow.stored") as tx:
            insert_once(
                tx.conn,
                shadow_run,
                {
                    "id": new_id(),
                    "location_id": tx.location_id,
                    "instance_id": instance_id,
                    "task": entry.task,
                    "version": entry.version,
                    "model_digest": entry.sha256,
                    "failure": failure[:255],
                    "duration_ms": round((time.monotonic() - started) * 1000),
                    "finished_at": tx.now,
                    **values,
                },
            )
            tx.record(
                f"instance:{instance_id}",
                task=entry.task,
                version=entry.version,
                model=entry.sha256,
                output=hashlib.sha256(canonical([values])).hexdigest(),
            )

    def _analyse(self, path: ObjectFile, number: int) -> tuple[ImageAnalysis | None, str]:
        for _ in range(_TRIES):
            try:
                return self.inference.analyse(path, shadow=number), ""
            except InferenceDied:
                continue
            except (InvalidInput, Rejected) as error:
                return None, str(error)
        return None, f"the inference process ended {_TRIES} times on this image"


def _content(analysis: ImageAnalysis) -> dict[str, object]:
    return {
        "pipeline": pipeline_digest(analysis.models),
        "view": analysis.view.value if analysis.view else None,
        "findings": [finding_to_json(one) for one in analysis.findings],
        "teeth": [
            {
                "tooth": mark.tooth.code,
                "box": [round(v, 1) for v in (mark.box.x0, mark.box.y0, mark.box.x1, mark.box.y1)],
                "outline": outline_to_json(mark.outline),
                "probability": mark.probability,
            }
            for mark in analysis.teeth
        ],
        "sites": [site_to_json(site) for site in analysis.sites],
    }
