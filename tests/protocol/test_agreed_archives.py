"""Nothing goes to a DICOM peer outside the office before its agreement is recorded."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from pydicom.uid import generate_uid

from node.db.agreements import Agreement, parties, record
from node.db.session import Actor, begin
from node.db.tables import availability_notice, commitment, study
from node.dicom.availability import Notifier
from node.dicom.burned_in import release
from node.dicom.commitment_report import CommitmentDesk
from node.dicom.instances import FolderStore
from tests.protocol.conftest import IO, Node, make_film
from tests.protocol.rsyslog import free_port
from tests.protocol.test_query_retrieve_scp import EVERYTHING, receiver, run, send
from tests.protocol.test_storage_commitment import (
    Archive,
    Station,
    ask,
    forward,
    request_of,
    set_ready,
)

pytestmark = pytest.mark.protocol
__all__ = ["receiver"]

ACTOR = Actor("test", "main")
NONE = "waits for an agreement with archive:{}: none is recorded"


def soon(hours: int = 1) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


def agree(node: Node, party: str) -> None:
    today = datetime.now(UTC).date()
    until = today + timedelta(days=365)
    paper = Agreement(party, "Archive Inc.", "A. Manager", today, until, "a" * 64)
    with begin(node.db, ACTOR, "agreement.recorded") as tx:
        record(tx, node.config, paper)


def test_a_peer_declared_to_be_the_office_needs_none(start: Callable[..., Node]) -> None:
    peer = {"ae_title": "PACS", "port": 104}
    node = start(
        peers=[
            {**peer, "name": "pacs", "host": "pacs.office.example", "external": False},
            {**peer, "name": "cloud", "host": "archive.example"},
            {**peer, "name": "near", "host": "pacs"},
            {**peer, "name": "tunnel", "host": "10.0.0.1", "external": True},
        ]
    )
    assert set(parties(node.config)) == {"archive:cloud", "archive:tunnel"}


def test_nothing_is_moved_to_a_peer_outside_without_one(start, receiver, caplog):
    port, folder = receiver
    outside = {"name": "clinic", "ae_title": "CLINIC", "host": "127.0.0.1", "port": port}
    node = start(clients=[EVERYTHING], peers=[{**outside, "external": True}])
    film = make_film()
    send(node, film)

    def move() -> str:
        done = run(
            node, "movescu", "-aem", "CLINIC", "-k", "QueryRetrieveLevel=STUDY",
            "-k", f"StudyInstanceUID={film.StudyInstanceUID}", check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    with caplog.at_level(logging.INFO):
        assert "Success" not in move().rpartition("Move Response")[2]
    assert NONE.format("clinic") in caplog.text
    assert list(folder.iterdir()) == []
    agree(node, "archive:clinic")
    caplog.clear()
    with caplog.at_level(logging.INFO):  # nobody has looked at its pixels yet
        move()
    assert "a person must let it leave" in caplog.text
    assert list(folder.iterdir()) == []
    with begin(node.db, ACTOR, "test") as tx:
        (image,) = tx.conn.execute(sa.text("SELECT id FROM instance")).scalars()
        release(tx, image, "looked at")
    move()
    assert len(list(folder.iterdir())) == 1


def test_an_archive_outside_is_asked_for_no_promise_without_one(start: Callable[..., Node]) -> None:
    archive, station = Archive(), Station()
    peer = {"name": "pacs", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.listen()}
    node = start(peers=[{**peer, "archive": True}])
    assoc = station.connect(node)
    assoc.send_c_store(make_film())
    assoc.release()
    set_ready(node)
    assert forward(node) == 1
    node.config.dicom.peers[0].__dict__["external"] = True  # it became another party's
    desk = CommitmentDesk(node.db, FolderStore(node.folder), node.config, node.listener.find_open)
    assert desk.run_due(soon()) == 0
    (row,) = node.rows(commitment)
    assert (row.state, row.error) == ("queued", NONE.format("pacs"))
    assert archive.requests == []
    agree(node, "archive:pacs")
    assert desk.run_due(soon(48)) == 1
    assert len(archive.requests) == 1
    archive.close()


def test_a_sender_outside_is_told_of_no_promise_without_one(start: Callable[..., Node]) -> None:
    station = Station()
    port = station.listen()
    sender = {"name": "sensor", "ae_title": "SENSOR", "host": "127.0.0.1", "port": port}
    node = start(archive_senders=["SENSOR"], peers=[{**sender, "external": True}])
    film = make_film()
    assoc = station.connect(node)
    assoc.send_c_store(film)
    assert ask(assoc, request_of((IO, film.SOPInstanceUID), transaction=generate_uid())) == 0
    assoc.release()
    desk = CommitmentDesk(node.db, FolderStore(node.folder), node.config, node.listener.find_open)
    assert desk.run_due(soon()) == 0
    assert [row.error for row in node.rows(commitment)] == [NONE.format("sensor")]
    assert station.reports == []
    agree(node, "archive:sensor")
    assert desk.run_due(soon(48)) == 1
    assert len(station.reports) == 1
    station.close()


def test_a_peer_outside_is_told_of_no_study_without_one(start: Callable[..., Node]) -> None:
    port = free_port(socket.SOCK_STREAM)
    ris = {"name": "ris", "ae_title": "RIS", "host": "127.0.0.1", "port": port, "external": True}
    node = start(peers=[{**ris, "availability": True}])
    send(node, make_film())
    with begin(node.db, ACTOR, "test") as tx:
        tx.conn.execute(study.update().values(state="ready"))
    notifier = Notifier(node.db, FolderStore(node.folder), node.config)
    assert notifier.run_due(soon()) == 0
    (row,) = node.rows(availability_notice)
    assert (row.state, row.error) == ("queued", NONE.format("ris"))
