"""Results as DICOM to the configured peers.

Started by: a signature (version 1, 2, …), or a study that became ready in assist mode when a peer
opted in to preliminary reports (version 0). Writes: a structured report, and after a signature one
annotated copy per image with findings, into the node's store and to each peer. Approved by: the
signature; before it nothing but the report marked PRELIMINARY leaves, and only to peers that asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node import __version__
from node.config import Config, PeerSection
from node.db.session import Actor, Tx, begin, insert_once, new_id, read
from node.db.tables import (
    analysis_run,
    dicom_result,
    finding,
    instance,
    review,
    study,
    workflow_case,
)
from node.dicom.derived import Composer, encode
from node.dicom.instances import InstanceStore
from node.dicom.measurements import ReportedFinding
from node.dicom.object_file import ObjectFile, read_dataset
from node.dicom.pixels import decode, render8
from node.dicom.presentation import compose_presentation
from node.dicom.rejection import compose_of_interest
from node.dicom.results import (
    Algorithms,
    compose_annotated,
    compose_preliminary_sr,
    compose_signed_sr,
)
from node.dicom.segmentation import areas_of, compose_segmentation
from node.domain import jobs
from node.domain.findings import DecisionState, ModelVersion
from node.domain.review import SignedReview, finding_from_json, model_from_json
from node.domain.study import NOT_SHOWN, InstanceState, MatchState, StudyState
from node.engine import DurableEngine
from node.errors import InvalidInput, Rejected
from node.rollout.showing import study_showing
from orchestration.workflows import send_results
from orchestration.workflows.send_results import Send, may_be_early

_KINDS: dict[str, str] = {
    ComprehensiveSRStorage: "SR",
    SecondaryCaptureImageStorage: "SC",
    GrayscaleSoftcopyPresentationStateStorage: "PR",
    SegmentationStorage: "SEG",
    KeyObjectSelectionDocumentStorage: "KO",
}


@dataclass(frozen=True, slots=True)
class _Image:
    """One stored image of the study, its header and its models' verdict."""

    id: str
    sop_instance_uid: str
    path: ObjectFile
    header: Dataset
    has_run: bool


@dataclass(frozen=True, slots=True)
class Publisher:
    """What the two workflows need."""

    db: sa.Engine
    engine: DurableEngine
    store: InstanceStore
    config: Config
    composer: Composer

    @property
    def _actor(self) -> Actor:
        return Actor("results", self.config.node.location_id)

    def publish(self, study_id: str, version: int, generation: int) -> int:
        """Compose, keep and queue the results; returns how many objects. Safe to repeat."""
        peers = [p for p in self.config.dicom.peers if version or may_be_early(self.config, p)]
        if not peers and not version:
            return 0
        images = self._images(study_id)
        if not images:
            return 0
        try:
            if version:
                composed = self._signed(study_id, version, images)
            else:
                composed = self._preliminary(study_id, generation, images)
        except (InvalidInput, Rejected) as error:
            self._set_case(study_id, version, generation, str(error))
            return 0
        if not composed:
            return 0
        with begin(self.db, self._actor, "results.composed") as tx:
            for ds, image_id in composed:
                self._keep(tx, study_id, version, generation, ds, image_id, peers)
            tx.record(f"study:{study_id}", version=version, objects=len(composed))
        return len(composed)

    def _set_case(self, study_id: str, version: int, generation: int, error: str) -> None:
        """Keep why results could not be composed, where `/healthz` finds it."""
        with begin(self.db, self._actor, "results.not_composed") as tx:
            insert_once(
                tx.conn,
                workflow_case,
                {
                    "id": new_id(),
                    "location_id": tx.location_id,
                    "workflow": jobs.PUBLISH_RESULTS,
                    "key": f"{study_id}:{version}:{generation}",
                    "state": "failed",
                    "data": {"study_id": study_id, "version": version},
                    "error": error[:255],
                    "created_at": tx.now,
                    "updated_at": tx.now,
                },
            )
            tx.record(f"study:{study_id}", version=version, error=error)

    def _signed(
        self, study_id: str, version: int, images: Sequence[_Image]
    ) -> list[tuple[Dataset, str | None]]:
        signed, predecessor = self._review(study_id, version)
        known = {image_id for image_id, _ in signed.instances}
        seen = [image for image in images if image.id in known]
        if not seen:
            return []
        signed = _as_filed(signed, seen)
        report = compose_signed_sr(
            [image.header for image in seen],
            signed,
            algorithms=_algorithms(seen, signed.models),
            composer=self.composer,
            predecessor=predecessor,
        )
        copies = [
            (self._annotate(image, signed), image.id)
            for image in seen
            if any(f.instance_id == image.id for f in signed.findings)
        ]
        return [(report, None), *copies, *self._on_request(seen, signed)]

    def _on_request(
        self, images: Sequence[_Image], signed: SignedReview
    ) -> Iterator[tuple[Dataset, str | None]]:
        """Compose what some peer takes besides: overlays, areas, the list of films of interest."""
        asked = {kind for peer in self.config.dicom.peers for kind in peer.objects}
        marked = {each.instance_id for each in signed.findings}
        films = [image for image in images if image.id in marked]
        for image in films:
            is_grey = image.header.get("SamplesPerPixel", 1) == 1  # colour takes no overlay
            if "PR" in asked and is_grey:
                yield compose_presentation(image.header, signed, composer=self.composer), image.id
            if "SEG" in asked and areas_of(signed, image.sop_instance_uid):
                yield compose_segmentation(image.header, signed, composer=self.composer), image.id
        if "KO" in asked and films:
            headers = [image.header for image in films]
            yield compose_of_interest(headers, signed, composer=self.composer), None

    def _annotate(self, image: _Image, signed: SignedReview) -> Dataset:
        source = read_dataset(image.path, stop_before_pixels=True)
        grey8 = render8(decode(image.path))
        return compose_annotated(source, grey8, signed, composer=self.composer)

    def _preliminary(
        self, study_id: str, generation: int, images: Sequence[_Image]
    ) -> list[tuple[Dataset, str | None]]:
        seen = [image for image in images if image.has_run]
        if not seen:
            return []
        uids = {image.id: image.sop_instance_uid for image in seen}
        with read(self.db) as conn:
            match = conn.execute(
                sa.select(study.c.match_state, study.c.generation, study.c.state).where(
                    study.c.id == study_id
                )
            ).one()
            rows = conn.execute(
                sa.select(finding, analysis_run.c.view.label("run_view"))
                .outerjoin(analysis_run, analysis_run.c.id == finding.c.run_id)
                .where(
                    finding.c.study_id == study_id,
                    finding.c.origin == "ai",
                    finding.c.state == DecisionState.SUGGESTED.value,
                    sa.not_(finding.c.is_removed),
                    finding.c.instance_id.in_(uids),
                )
            ).all()
            showing = study_showing(conn, self.config, study_id)
            rows = [row for row in rows if showing.keeps(row, row.run_view)]
            runs = conn.execute(
                sa.select(analysis_run.c.models, analysis_run.c.finished_at).where(
                    analysis_run.c.instance_id.in_(uids)
                )
            ).all()
        if not showing.is_any:
            return []
        if not MatchState(match.match_state).is_certain or match.generation != generation:
            return []
        if match.state == StudyState.SIGNED.value:
            return []
        models = {str(m["digest"]): model_from_json(m) for run in runs for m in run.models}
        ds = compose_preliminary_sr(
            [image.header for image in seen],
            [
                ReportedFinding(
                    row.id, uids[row.instance_id], finding_from_json(dict(row._mapping))
                )
                for row in rows
            ],
            generation=generation,
            at=max(run.finished_at for run in runs),
            models=tuple(sorted(models.values(), key=_name)),
            algorithms=_algorithms(seen, tuple(models.values())),
            composer=self.composer,
            predecessor=self._report_before(study_id, 0, generation),
        )
        return [(ds, None)]

    def _report_before(self, study_id: str, version: int, generation: int) -> Dataset | None:
        """Read the report that one of this version and generation replaces."""
        is_before = sa.or_(
            dicom_result.c.review_version < version,
            sa.and_(
                dicom_result.c.review_version == version,
                dicom_result.c.generation < generation,
            ),
        )
        with read(self.db) as conn:
            before = conn.execute(
                sa.select(dicom_result.c.storage_key)
                .where(dicom_result.c.study_id == study_id, dicom_result.c.kind == "SR", is_before)
                .order_by(dicom_result.c.review_version.desc(), dicom_result.c.generation.desc())
                .limit(1)
            ).scalar()
        return read_dataset(self.store.file(before)) if before else None

    def _review(self, study_id: str, version: int) -> tuple[SignedReview, Dataset | None]:
        with read(self.db) as conn:
            content = conn.execute(
                sa.select(review.c.content).where(
                    review.c.study_id == study_id, review.c.version == version
                )
            ).scalar_one()
        return SignedReview.from_json(content), self._report_before(study_id, version, 0)

    def _images(self, study_id: str) -> list[_Image]:
        with read(self.db) as conn:
            rows = conn.execute(
                sa.select(instance)
                .where(
                    instance.c.study_id == study_id,
                    instance.c.rows.is_not(None),
                    instance.c.state.not_in([*NOT_SHOWN, InstanceState.UNREADABLE.value]),
                )
                .order_by(instance.c.instance_number, instance.c.id)
            ).all()
        return [
            _Image(
                row.id,
                row.sop_instance_uid,
                self.store.file(row.storage_key),
                read_dataset(self.store.file(row.storage_key), stop_before_pixels=True),
                row.state == InstanceState.ANALYSED.value,
            )
            for row in rows
        ]

    def _keep(
        self,
        tx: Tx,
        study_id: str,
        version: int,
        generation: int,
        ds: Dataset,
        image_id: str | None,
        peers: Sequence[PeerSection],
    ) -> None:
        kind = _KINDS[str(ds.SOPClassUID)]
        peers = [peer for peer in peers if kind in peer.objects]
        result_id = _derive(str(ds.SOPInstanceUID))
        if self._is_kept(tx, result_id):  # what was composed first stands, also after an upgrade
            for peer in peers:
                send_results.queue(tx, self.engine, result_id, peer.name)
            return
        content = encode(ds)
        stored = self.store.put(
            tx.location_id, f"{result_id}.dcm", lambda file: _write(file, content)
        )
        insert_once(
            tx.conn,
            dicom_result,
            {
                "id": result_id,
                "location_id": tx.location_id,
                "study_id": study_id,
                "review_version": version,
                "generation": generation,
                "kind": kind,
                "instance_id": image_id,
                "sop_instance_uid": str(ds.SOPInstanceUID),
                "sop_class_uid": str(ds.SOPClassUID),
                "series_instance_uid": str(ds.SeriesInstanceUID),
                "modality": str(ds.Modality),
                "instance_number": int(ds.InstanceNumber),
                "storage_key": stored.storage_key,
                "created_at": tx.now,
            },
        )
        for peer in peers:
            send_results.queue(tx, self.engine, result_id, peer.name)

    def _is_kept(self, tx: Tx, result_id: str) -> bool:
        query = sa.select(dicom_result.c.id).where(dicom_result.c.id == result_id)
        return tx.conn.execute(query).first() is not None


def register(
    engine: DurableEngine,
    db: sa.Engine,
    store: InstanceStore,
    config: Config,
    device_uid: str,
    send: Send,
) -> Publisher:
    """Register both workflows; returns what they run, for callers that publish at once."""
    composer = Composer(
        device_uid,
        config.node.practice_name,
        __version__,
        config.zone,
        config.dicom.fallback_charset,
    )
    publisher = Publisher(db, engine, store, config, composer)
    send_results.register(engine, db, store, config, send)

    @engine.workflow(jobs.PUBLISH_RESULTS)
    def publish_results(study_id: str, version: int, generation: int) -> int:
        return engine.step_until_done("publish", publisher.publish, study_id, version, generation)

    return publisher


def _as_filed(signed: SignedReview, images: Sequence[_Image]) -> SignedReview:
    """Name the study as its images do; ours differs where two patients came under one UID."""
    filed = str(images[0].header.get("StudyInstanceUID") or signed.study_instance_uid)
    return replace(signed, study_instance_uid=filed)


def _algorithms(images: Sequence[_Image], models: Sequence[ModelVersion]) -> Algorithms:
    """Say how many ran; none where no network is installed, or none was shown to the signer."""
    if not models:
        return Algorithms.NONE_RAN
    ran = sum(image.has_run for image in images)
    if ran == 0:
        return Algorithms.NONE_RAN
    return Algorithms.ALL_RAN if ran == len(images) else Algorithms.SOME_RAN


def _derive(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _name(model: ModelVersion) -> str:
    return model.name


def _write(file: object, content: bytes) -> None:
    file.write(content)  # type: ignore[attr-defined]
