"""Received images on their way to other systems: per-peer queues, sent until they are there.

What a study holds is queued once it is ready, so that a rule (``when``) may ask what was found. An
archive (``archive = true``) is asked to vouch for each image; none goes back to where it came from.
Rows survive restarts; what a peer does not take now is tried again. A peer outside the house
(``external = true``) gets no picture that may name its patient before a person let it go.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from pydicom.multival import MultiValue
from pydicom.uid import generate_uid

from node.config import Config, PeerSection
from node.db import switches
from node.db.agreements import demand_peer
from node.db.session import Actor, Tx, begin, insert_once, new_id, read
from node.db.tables import analysis_run, finding, image_delivery, instance, study
from node.dicom import burned_in, commitment
from node.dicom.damage import DAMAGE_ERRORS
from node.dicom.distant_file import DistantFile
from node.dicom.instances import InstanceStore
from node.dicom.object_file import ObjectFile, read_dataset
from node.dicom.retrying import is_due
from node.dicom.routing import Rule, read_rule
from node.dicom.send import FileOutcome, Sent, send_paths
from node.domain.study import InstanceState, StudyState
from node.errors import Rejected, Retryable
from node.rollout.showing import study_showing

_BATCH = 200
Row = sa.Row[tuple[object, ...]]
Header = Mapping[str, Sequence[str]]
#: What a rule may name that stands in no header.
_OWN_NAMES = {"sender", "findings", "finding"}


@dataclass(frozen=True, slots=True)
class Forwarder:
    """The queues of one location."""

    db: sa.Engine
    store: InstanceStore
    config: Config

    def __post_init__(self) -> None:
        """Read every peer's rule once: one that cannot be read stops the start."""
        for peer in self.config.dicom.peers:
            _rule_of(peer)

    def run_due(self, now: datetime) -> int:
        """Queue what became ready, send what is due, ask for promises; returns images sent.

        While everything outbound is paused images are queued and nothing else.
        """
        self.route()
        with read(self.db) as conn:
            if switches.is_paused(conn, self.config.node.location_id, [switches.OUTBOUND]):
                return 0
        sent = sum(self._send_to(peer, now) for peer in self.config.dicom.peers)
        self._ask()
        return sent

    def route(self) -> int:
        """Queue the images of studies that are ready; returns how many studies were looked at."""
        with read(self.db) as conn:
            due = conn.execute(
                sa.select(study).where(
                    study.c.location_id == self.config.node.location_id,
                    study.c.state.in_([StudyState.READY.value, StudyState.SIGNED.value]),
                    sa.or_(
                        study.c.routed_generation.is_(None),
                        study.c.routed_generation < study.c.generation,
                    ),
                )
            ).all()
        for row in due:
            try:
                headers = self._headers(row)
            except Retryable:  # an image is not here yet: those behind it are
                continue
            with begin(self.db, self._actor, "study.routed") as tx:
                queued = self._route(tx, row, headers)
                tx.conn.execute(
                    study.update()
                    .where(study.c.id == row.id)
                    .values(routed_generation=row.generation)
                )
                tx.record(f"study:{row.id}", queued=queued)
        return len(due)

    @property
    def _actor(self) -> Actor:
        return Actor("forwarding", self.config.node.location_id)

    def _headers(self, row: Row) -> dict[str, Header]:
        """Read what rules ask of a study's images, before anything is locked: they may be far."""
        names = sorted({name for peer in self.config.dicom.peers for name in _names_of(peer)})
        if row.is_prior or not names:
            return {}
        with read(self.db) as conn:
            images = conn.execute(sa.select(instance).where(_goes_out(row))).all()
        return {image.id: self._attributes(image, names) for image in images}

    def _route(self, tx: Tx, row: Row, headers: Mapping[str, Header]) -> int:
        if row.is_prior:
            return 0
        queued = 0
        for image in tx.conn.execute(sa.select(instance).where(_goes_out(row))).all():
            for peer in self._receivers(tx, image, headers.get(image.id, {})):
                queued += insert_once(
                    tx.conn,
                    image_delivery,
                    {
                        "id": new_id(),
                        "location_id": tx.location_id,
                        "instance_id": image.id,
                        "peer": peer.name,
                        "state": "queued",
                        "updated_at": tx.now,
                    },
                )
        return queued

    def _receivers(self, tx: Tx, image: Row, header: Header) -> Iterable[PeerSection]:
        facts: Header | None = None
        for peer in self.config.dicom.peers:
            rule = _rule_of(peer)
            if peer.ae_title.strip() == image.sender_ae_title or not (peer.archive or rule):
                continue
            if rule is not None:
                facts = self._facts(tx, image, header) if facts is None else facts
                if not rule.holds(facts):
                    continue
            yield peer

    def _facts(self, tx: Tx, image: Row, header: Header) -> Header:
        """Gather what rules may ask of an image.

        What the roll-out keeps silent is not found: a rule must not tell it to another system.
        """
        showing = study_showing(tx.conn, self.config, image.study_id)
        rows = tx.conn.execute(
            sa.select(finding, analysis_run.c.view.label("run_view"))
            .outerjoin(analysis_run, analysis_run.c.id == finding.c.run_id)
            .where(finding.c.instance_id == image.id, sa.not_(finding.c.is_removed))
        )
        kinds = [row.kind for row in rows if showing.keeps(row, row.run_view)]
        own = {"sender": [image.sender_ae_title], "findings": [str(len(kinds))], "finding": kinds}
        return {**header, **own}

    def _attributes(self, image: Row, keywords: list[str]) -> Header:
        """Read a header; one that cannot be read says nothing."""
        try:
            file = self.store.file(image.storage_key)
            ds = read_dataset(file, stop_before_pixels=True, specific_tags=keywords)
            values = {keyword: ds.get(keyword) for keyword in keywords}
        except DAMAGE_ERRORS:
            return {}
        return {
            keyword: [str(each) for each in (value if isinstance(value, MultiValue) else [value])]
            for keyword, value in values.items()
            if value is not None
        }

    def _send_to(self, peer: PeerSection, now: datetime) -> int:
        if peer.is_outside:
            self._hold_doubted(peer)
        waiting = [row for row in self._rows(peer.name, "queued") if _is_due(row, now)][:_BATCH]
        if not waiting:
            return 0
        try:
            paths = self._bring(waiting)
            demand_peer(self.db, self.config, peer.name, now)
            report = send_paths(paths, peer, calling_ae=self.config.dicom.ae_title)
        except (Retryable, Rejected) as error:  # nothing was sent; a refusal may be mended there
            self._note(waiting, "queued", str(error))
            return 0
        for outcome in report.outcomes:
            self._note([paths[outcome.path]], *_state_of(outcome))
        return len(report.sent)

    def _bring(self, waiting: Sequence[Row]) -> dict[ObjectFile, Row]:
        """Give the files of what waits; one that cannot be brought here holds up no other."""
        found: dict[ObjectFile, Row] = {}
        for row in waiting:
            file = self.store.file(row.storage_key)
            try:
                if isinstance(file, DistantFile):
                    file.bring()
            except Retryable as error:
                self._note([row], "queued", str(error))
                continue
            except FileNotFoundError:
                pass  # its sending says so
            found[file] = row
        return found

    def _hold_doubted(self, peer: PeerSection) -> None:
        """Hold what may name its patient in its pixels; let go what a person let leave."""
        for state, other, words in (("queued", "held", burned_in.DOUBT), ("held", "queued", "")):
            rows = self._rows(peer.name, state)
            with read(self.db) as conn:
                doubted = burned_in.doubted(conn, [str(row.instance_id) for row in rows])
            moved = [row for row in rows if (row.instance_id in doubted) is (other == "held")]
            if moved:
                self._note(moved, other, words)

    def _rows(self, peer: str, state: str) -> Sequence[Row]:
        with read(self.db) as conn:
            return conn.execute(
                sa.select(
                    image_delivery,
                    instance.c.storage_key,
                    instance.c.sop_class_uid,
                    instance.c.sop_instance_uid,
                )
                .join(instance, instance.c.id == image_delivery.c.instance_id)
                .where(
                    image_delivery.c.location_id == self.config.node.location_id,
                    image_delivery.c.peer == peer,
                    image_delivery.c.state == state,
                )
                .order_by(image_delivery.c.updated_at)
            ).all()

    def _note(self, rows: Sequence[Row], state: str, error: str) -> None:
        with begin(self.db, self._actor, f"image.{state}") as tx:
            tx.conn.execute(
                image_delivery.update()
                .where(image_delivery.c.id.in_([row.id for row in rows]))
                .values(
                    state=state,
                    error=error[:255],
                    attempts=image_delivery.c.attempts + 1,
                    updated_at=tx.now,
                )
            )
            tx.record(str(rows[0].peer), images=len(rows), state=state)

    def _ask(self) -> None:
        """Ask each archive to vouch for what it has, all at once."""
        for peer in self.config.dicom.peers:
            rows = self._rows(peer.name, "sent") if peer.archive else ()
            if not rows:
                continue
            with begin(self.db, self._actor, "commitment.planned") as tx:
                asked = commitment.asked_for(tx.conn, tx.location_id, peer.name)
                objects = [
                    (row.sop_class_uid, row.sop_instance_uid)
                    for row in rows
                    if row.sop_instance_uid not in asked
                ]
                if objects:
                    commitment.ask(tx, peer.name, generate_uid(prefix=None), objects[:_BATCH])
                tx.record(peer.name, objects=len(objects))


def _goes_out(row: Row) -> sa.ColumnElement[bool]:
    return sa.and_(instance.c.study_id == row.id, instance.c.state != InstanceState.REJECTED.value)


def _names_of(peer: PeerSection) -> set[str]:
    rule = _rule_of(peer)
    return set(rule.names) - _OWN_NAMES if rule else set()


def _rule_of(peer: PeerSection) -> Rule | None:
    return _read(peer.when) if peer.when.strip() else None


@functools.cache
def _read(text: str) -> Rule:
    return read_rule(text)


def _is_due(row: Row, now: datetime) -> bool:
    return is_due(row.attempts, row.updated_at, now)


def _state_of(outcome: FileOutcome) -> tuple[str, str]:
    if outcome.sent in (Sent.STORED, Sent.WARNED):
        return "sent", ""
    return ("queued" if outcome.sent is Sent.LATER else "failed"), outcome.reason
