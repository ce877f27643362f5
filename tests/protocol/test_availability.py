"""Availability notices to a peer that takes N-CREATE: when, what, and again until it is told."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from node.db import switches
from node.db.session import Actor, begin
from node.db.tables import availability_notice, instance, study
from node.dicom.availability import NOTIFICATION_CLASS, Notifier
from node.dicom.instances import FolderStore
from tests.protocol.conftest import Node, make_film
from tests.protocol.rsyslog import free_port
from tests.protocol.test_query_retrieve_scp import send

pytestmark = pytest.mark.protocol

ACTOR = Actor("test", "main")


def soon(hours: int = 1) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


@contextmanager
def listener(port: int, status: int = 0x0000) -> Iterator[list[tuple[str, Dataset]]]:
    told: list[tuple[str, Dataset]] = []

    def take(event: evt.Event) -> tuple[int, Dataset | None]:
        told.append((str(event.request.AffectedSOPInstanceUID), event.attribute_list))
        return status, event.attribute_list if status == 0 else None

    entity = AE("RIS")
    entity.add_supported_context(NOTIFICATION_CLASS)
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_CREATE, take)]
    )
    try:
        yield told
    finally:
        server.shutdown()


@pytest.fixture
def port() -> int:
    return free_port(socket.SOCK_STREAM)


@pytest.fixture
def node(start: Callable[..., Node], port: int) -> Node:
    ris = {"name": "ris", "ae_title": "RIS", "host": "127.0.0.1", "port": port}
    return start(peers=[{**ris, "availability": True}])


@pytest.fixture
def notifier(node: Node) -> Notifier:
    return Notifier(node.db, FolderStore(node.folder), node.config)


def become(node: Node, **values: object) -> None:
    with begin(node.db, ACTOR, "test") as tx:
        tx.conn.execute(study.update().values(**values))


def states(node: Node) -> list[str]:
    return [row.state for row in node.rows(availability_notice)]


def test_a_study_is_told_of_once_it_is_ready_and_again_after_late_images(node, notifier, port):
    films = [make_film(), make_film()]
    films[1].StudyInstanceUID = films[0].StudyInstanceUID
    send(node, *films)
    with listener(port) as told:
        assert notifier.run_due(soon()) == 0, "its images are not analysed yet"
        become(node, state="ready")
        assert notifier.run_due(soon()) == 1
        assert notifier.run_due(soon()) == 0
        become(node, generation=1)
        assert notifier.run_due(soon()) == 1
    (first, notice), (second, _) = told
    assert first != second
    assert notice.StudyInstanceUID == films[0].StudyInstanceUID
    listed = {
        item.ReferencedSOPInstanceUID: item
        for series in notice.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert set(listed) == {film.SOPInstanceUID for film in films}
    item = listed[films[0].SOPInstanceUID]
    assert (item.InstanceAvailability, item.RetrieveAETitle) == ("ONLINE", "BITEWING")


def test_a_peer_that_is_away_is_told_later_and_a_pause_holds(node, notifier, port):
    send(node, make_film())
    become(node, state="ready")
    assert notifier.run_due(soon()) == 0
    assert states(node) == ["queued"]
    with begin(node.db, ACTOR, "test") as tx:
        switches.turn(tx, switches.OUTBOUND, True)
    with listener(port) as told:
        assert notifier.run_due(soon(2)) == 0
        assert told == []
        with begin(node.db, ACTOR, "test") as tx:
            switches.turn(tx, switches.OUTBOUND, False)
        assert notifier.run_due(soon(2)) == 1
    assert states(node) == ["done"]


@pytest.mark.parametrize(
    ("status", "state"), [(0x0111, "done"), (0x0213, "queued"), (0x0106, "failed")]
)
def test_what_the_peer_answers_decides(node, notifier, port, status, state):
    send(node, make_film())
    become(node, state="ready")
    with listener(port, status):
        notifier.run_due(soon())
    assert states(node) == [state]


def test_rejected_images_and_old_studies_are_not_told_of(node, notifier, port):
    send(node, make_film(), make_film())
    become(node, state="ready")
    with begin(node.db, ACTOR, "test") as tx:
        first, other = tx.conn.execute(sa.select(instance)).all()
        tx.conn.execute(instance.update().where(instance.c.id == first.id).values(state="rejected"))
        tx.conn.execute(
            study.update()
            .where(study.c.id == other.study_id)
            .values(last_image_at=soon() - timedelta(days=30))
        )
    with listener(port) as told:
        notifier.run_due(soon())
    assert told == []
