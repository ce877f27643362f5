"""The durable workflows of analysis.

``analyse_image`` — started by every stored image; writes findings or a plain reason; nobody
approves, nothing leaves the node. ``finish_study`` — started when a study is quiet; matches it to
a patient, makes it ready for the reader and computes what is said of it as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa

from node.analysis.completion import make_ready
from node.analysis.findings import store_analysis, store_failure
from node.analysis.inference import InferenceDied, InferenceProcess
from node.analysis.study_reading import StudyReader
from node.db.session import Actor, Tx, begin, read
from node.db.tables import instance, study
from node.dicom import withdrawal
from node.dicom.object_file import ObjectFile
from node.domain import cdt, jobs
from node.domain.recalibration import recalibrate
from node.domain.study import InstanceState, MatchState, StudyState
from node.engine import DurableEngine
from node.errors import ConfigError, InvalidInput, Rejected
from node.rollout.calibrations import approved

#: An image that kills the process this often is the cause, not a victim.
_TRIES = 3
#: Presentation states, raw data, structured reports and key objects, encapsulated documents
#: (PS3.4 B.5): kept with the study, but nothing to look at.
_NOT_IMAGES = tuple(f"1.2.840.10008.5.1.4.1.1.{part}" for part in ("11.", "66", "88.", "104."))


@dataclass(frozen=True, slots=True)
class Analyser:
    """What the workflows need: the database, the process, where files lie, how to match."""

    db: sa.Engine
    actor: Actor
    inference: InferenceProcess
    file_of: Callable[[str], ObjectFile]  # by storage key
    match: Callable[[Tx, str], object]  # matches one study inside a transaction
    code_table: cdt.CodeTable = field(default_factory=cdt.load)
    may_reject: tuple[str, ...] = ()  # AE titles whose rejection notes count for others' images

    def register(self, engine: DurableEngine) -> None:
        """Register both workflows with the engine."""

        @engine.workflow(jobs.ANALYSE_IMAGE)
        def analyse_image(instance_id: str) -> str:
            for number in range(_TRIES):
                outcome = engine.step_until_done(f"analyse-{number}", self.analyse, instance_id)
                if outcome != "died":
                    break
                engine.sleep(1.0)
            else:
                engine.step_until_done("give up", self.give_up, instance_id)
            engine.step_until_done("settle", self.settle, instance_id)
            return outcome

        @engine.workflow(jobs.FINISH_STUDY)
        def finish_study(study_id: str, generation: int) -> None:
            engine.step_until_done("finish", self.finish, study_id)

    def analyse(self, instance_id: str) -> str:
        """Analyse one image and store the result; returns ``analysed``, ``failed`` or ``died``.

        Raises Retryable when the node is stopping or the database is away.
        """
        image = self._image(instance_id)
        if image.sop_class_uid == withdrawal.KEY_OBJECTS:
            self._heed_note(instance_id, image.storage_key)
        if image.sop_class_uid.startswith(_NOT_IMAGES):
            store_failure(self.db, self.actor, instance_id, InstanceState.NOT_AN_IMAGE, "")
            return "failed"
        if image.rows is None:
            reason = image.failure or "the header states no image size"
            store_failure(self.db, self.actor, instance_id, InstanceState.UNREADABLE, reason)
            return "failed"
        started_at = datetime.now(UTC)
        try:
            analysis = self.inference.analyse(self.file_of(image.storage_key))
        except InvalidInput as error:
            store_failure(self.db, self.actor, instance_id, InstanceState.UNREADABLE, str(error))
            return "failed"
        except (ConfigError, Rejected) as error:
            store_failure(self.db, self.actor, instance_id, InstanceState.FAILED, str(error))
            return "failed"
        except InferenceDied:
            return "died"
        with read(self.db) as conn:
            own = approved(conn, self.actor.location_id)
        if own is not None:
            analysis = recalibrate(analysis, own)
        version = own.version if own is not None else None
        store_analysis(self.db, self.actor, instance_id, analysis, started_at, version)
        return "analysed"

    def give_up(self, instance_id: str) -> None:
        """Say that this image ended the inference process every time."""
        reason = f"the inference process ended {_TRIES} times on this image; review it without AI"
        store_failure(self.db, self.actor, instance_id, InstanceState.FAILED, reason)

    def _heed_note(self, instance_id: str, storage_key: str) -> None:
        """Do what a rejection note says, if this is one."""
        note = withdrawal.read_note(self.file_of(storage_key))
        if note is not None:
            with begin(self.db, self.actor, "images.rejected") as tx:
                withdrawal.act_on(tx, note, instance_id, self.may_reject)

    def _hide_rejected(self, image: sa.Row) -> None:  # type: ignore[type-arg]
        """Hide an image that was rejected before it came, or while it was analysed."""
        with read(self.db) as conn:
            code = withdrawal.code_of(conn, image, self.may_reject)
        if code:
            with begin(self.db, self.actor, "images.rejected") as tx:
                withdrawal.hide(tx, image, code)
                tx.record(f"instance:{image.id}", code=code)

    def settle(self, instance_id: str) -> None:
        """After an image: match its study early, and make it ready when it was the last."""
        self._hide_rejected(self._image(instance_id))
        self.finish(str(self._image(instance_id).study_id))

    def finish(self, study_id: str) -> None:
        """Match the study unless that is certain already; make it ready when all is analysed.

        What is said of the study is computed after it is ready: a reader need not wait for it.
        """
        with read(self.db) as conn:
            row = conn.execute(
                sa.select(study.c.match_state, study.c.state).where(study.c.id == study_id)
            ).one()
        with begin(self.db, self.actor, "study.finished") as tx:
            if not MatchState(row.match_state).is_certain:
                self.match(tx, study_id)
            is_ready = make_ready(tx, study_id)
            tx.record(f"study:{study_id}", ready=is_ready)
        if is_ready or row.state == StudyState.READY.value:
            reader = StudyReader(self.db, self.actor, self.inference, self.file_of, self.code_table)
            if reader.read_again(study_id):
                reader.read_later(study_id)

    def _image(self, instance_id: str) -> sa.Row:  # type: ignore[type-arg]
        # SQLAlchemy's Row is generic over its columns, which differ here from query to query.
        with read(self.db) as conn:
            return conn.execute(
                sa.select(instance).where(
                    instance.c.id == instance_id,
                    instance.c.location_id == self.actor.location_id,
                )
            ).one()
