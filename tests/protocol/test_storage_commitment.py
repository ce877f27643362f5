"""Promises: given to senders, asked of archives; pynetdicom and Orthanc are the other side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel as COMMITMENT

from node.db.session import read
from node.db.tables import commitment, image_delivery, study
from node.dicom.commitment import COMMITMENT_INSTANCE
from node.dicom.commitment_report import CommitmentDesk
from node.dicom.forwarding import Forwarder
from node.dicom.instances import FolderStore
from node.errors import ConfigError
from tests.protocol.conftest import IO, Node, make_film

pytestmark = pytest.mark.protocol


class Station:
    """A sensor that stores, asks for a promise, and listens for the answer."""

    def __init__(self, ae_title: str = "SENSOR") -> None:
        self.entity = AE(ae_title)
        self.entity.add_requested_context(IO)
        self.entity.add_requested_context(COMMITMENT)
        self.entity.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
        self.entity.add_supported_context(IO)
        self.reports: list[tuple[int, Dataset]] = []
        self.came = threading.Event()
        self.handlers = [(evt.EVT_N_EVENT_REPORT, self._take), (evt.EVT_C_STORE, lambda _: 0)]
        self.server = None

    def _take(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        self.came.set()
        return 0, None

    def listen(self, port: int = 0) -> int:
        self.server = self.entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=self.handlers
        )
        return self.server.server_address[1]

    def connect(self, node: Node):
        return self.entity.associate("127.0.0.1", node.port, evt_handlers=self.handlers)

    def close(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server = None

    def failures(self) -> list[tuple[str, int]]:
        (_, told) = self.reports[-1]
        return [
            (str(item.ReferencedSOPInstanceUID), item.FailureReason)
            for item in told.get("FailedSOPSequence", [])
        ]


@pytest.fixture
def station() -> Iterator[Station]:
    made = Station()
    yield made
    made.close()


def request_of(*objects: tuple[str, str], transaction: str | None = None) -> Dataset:
    ds = Dataset()
    ds.TransactionUID = transaction or generate_uid()
    ds.ReferencedSOPSequence = []
    for sop_class, uid in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        ds.ReferencedSOPSequence.append(item)
    return ds


def ask(assoc, ds: Dataset, kind: int = 1, uid: str = COMMITMENT_INSTANCE) -> int:
    status, _ = assoc.send_n_action(ds, kind, COMMITMENT, uid)
    return int(status.Status)


def desk_of(node: Node) -> CommitmentDesk:
    store = FolderStore(node.folder)
    return CommitmentDesk(node.db, store, node.config, node.listener.find_open)


def soon(seconds: float = 60.0) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def states(db: sa.Engine) -> list[tuple[str, str]]:
    with read(db) as conn:
        return [(row.role, row.state) for row in conn.execute(sa.select(commitment)).all()]


def peer_of(port: int, **more: object) -> dict[str, object]:
    return {"name": "sensor", "ae_title": "SENSOR", "host": "127.0.0.1", "port": port, **more}


def test_a_sender_in_archive_mode_is_promised_on_a_new_association(start, station):
    node = start(archive_senders=["SENSOR"], peers=[peer_of(station.listen())])
    film = make_film()
    assoc = station.connect(node)
    assert assoc.send_c_store(film).Status == 0x0000
    asked = request_of((IO, film.SOPInstanceUID))
    assert ask(assoc, asked) == 0x0000
    assoc.release()
    assert desk_of(node).run_due(soon()) == 1
    ((kind, told),) = station.reports
    assert (kind, told.TransactionUID) == (1, asked.TransactionUID)
    assert told.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == film.SOPInstanceUID
    assert "FailedSOPSequence" not in told
    assert states(node.db) == [("answer", "done")]
    assert desk_of(node).run_due(soon()) == 0, "told once"


def test_a_sender_without_an_address_is_told_on_its_own_association(start, station):
    node = start(archive_senders=["*"])
    film = make_film()
    assoc = station.connect(node)
    assoc.send_c_store(film)
    assert ask(assoc, request_of((IO, film.SOPInstanceUID))) == 0x0000
    assert desk_of(node).run_due(soon()) == 1
    assert station.came.wait(60)
    assert station.reports[0][0] == 1
    assert assoc.is_established
    assert assoc.send_c_store(make_film()).Status == 0x0000, "the association still works"
    assoc.release()


def test_what_is_not_here_or_is_something_else_is_not_promised(start, station):
    node = start(archive_senders=["*"])
    film, unknown = make_film(), generate_uid()
    assoc = station.connect(node)
    assoc.send_c_store(film)
    ask(assoc, request_of((IO, film.SOPInstanceUID), (IO, unknown)))
    desk_of(node).run_due(soon())
    assert station.reports[-1][0] == 2
    assert station.failures() == [(unknown, 0x0112)]
    ask(assoc, request_of(("1.2.840.10008.5.1.4.1.1.7", film.SOPInstanceUID)))
    desk_of(node).run_due(soon())
    assert station.failures() == [(film.SOPInstanceUID, 0x0119)]
    next(path for path in node.files()).unlink()
    ask(assoc, request_of((IO, film.SOPInstanceUID)))
    desk_of(node).run_due(soon())
    assert station.failures() == [(film.SOPInstanceUID, 0x0112)], "a lost file is not promised"
    assoc.release()


def test_a_node_that_is_no_archive_promises_nothing(start, station):
    node = start()
    film = make_film()
    assoc = station.connect(node)
    assoc.send_c_store(film)
    ask(assoc, request_of((IO, film.SOPInstanceUID)))
    desk_of(node).run_due(soon())
    assert station.failures() == [(film.SOPInstanceUID, 0x0110)]
    assoc.release()


@pytest.mark.parametrize(
    ("ds", "kind", "uid", "status"),
    [
        (request_of(), 1, COMMITMENT_INSTANCE, 0x0115),
        (request_of((IO, "1.2.3")), 2, COMMITMENT_INSTANCE, 0x0123),
        (request_of((IO, "1.2.3")), 1, "1.2.3.4", 0x0112),
    ],
)
def test_a_request_that_is_none_is_refused(start, station, ds, kind, uid, status):
    node = start(archive_senders=["*"])
    assoc = station.connect(node)
    assert ask(assoc, ds, kind, uid) == status
    assoc.release()
    assert states(node.db) == []


def test_a_report_waits_for_a_sender_that_is_away(start, station):
    port = station.listen()
    station.close()
    node = start(archive_senders=["*"], peers=[peer_of(port)])
    film = make_film()
    assoc = station.connect(node)
    assoc.send_c_store(film)
    ask(assoc, request_of((IO, film.SOPInstanceUID)))
    assoc.release()
    assert desk_of(node).run_due(soon()) == 0
    assert states(node.db) == [("answer", "queued")]
    assert desk_of(node).run_due(datetime.now(UTC)) == 0, "not at once again"
    back = Station()
    back.listen(port)
    assert desk_of(node).run_due(soon()) == 1
    back.close()
    assert back.reports[0][0] == 1
    assert states(node.db) == [("answer", "done")]


def test_the_same_transaction_again_is_answered_again(start, station):
    node = start(archive_senders=["*"])
    film = make_film()
    assoc = station.connect(node)
    assoc.send_c_store(film)
    asked = request_of((IO, film.SOPInstanceUID))
    for _ in range(2):
        ask(assoc, asked)
        desk_of(node).run_due(soon())
    assoc.release()
    assert [kind for kind, _ in station.reports] == [1, 1]
    assert states(node.db) == [("answer", "done")]


class Archive(Station):
    """An archive: it keeps what it is sent and vouches for it, or not, when it is told to."""

    def __init__(self) -> None:
        super().__init__("ARCHIVE")
        self.requests: list[Dataset] = []
        self.handlers.append((evt.EVT_N_ACTION, self._asked))

    def _asked(self, event: evt.Event) -> tuple[int, None]:
        self.requests.append(event.action_information)
        return 0, None

    def vouch(self, node: Node, is_held: bool = True) -> int:
        """Report on a new association, as SCP."""
        asked, told = self.requests[-1], Dataset()
        told.TransactionUID = asked.TransactionUID
        objects = asked.ReferencedSOPSequence
        if is_held:
            told.ReferencedSOPSequence = objects
        else:
            for item in objects:
                item.FailureReason = 0x0112
            told.FailedSOPSequence = objects
        assoc = self.entity.associate(
            "127.0.0.1",
            node.port,
            [build_context(COMMITMENT)],
            ext_neg=[build_role(COMMITMENT, scp_role=True)],
        )
        status, _ = assoc.send_n_event_report(
            told, 1 if is_held else 2, COMMITMENT, COMMITMENT_INSTANCE
        )
        assoc.release()
        return int(status.Status)


@pytest.fixture
def archived(start) -> Iterator[tuple[Node, Archive]]:
    archive = Archive()
    peer = {"name": "pacs", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.listen()}
    yield start(peers=[peer | {"archive": True}]), archive
    archive.close()


def set_ready(node: Node) -> None:
    with node.db.begin() as conn:
        conn.execute(study.update().values(state="ready"))


def deliveries(node: Node) -> list[str]:
    with read(node.db) as conn:
        return list(conn.execute(sa.select(image_delivery.c.state)).scalars())


def forward(node: Node) -> int:
    return Forwarder(node.db, FolderStore(node.folder), node.config).run_due(soon(7200))


def test_a_promise_follows_that_of_the_archive_behind_us(archived, station):
    node, archive = archived
    film = make_film()
    assoc = station.connect(node)
    assoc.send_c_store(film)
    ask(assoc, request_of((IO, film.SOPInstanceUID)))
    desk = desk_of(node)
    desk.run_due(soon())
    assert station.reports == [], "nothing is promised before the archive has"
    set_ready(node)
    assert forward(node) == 1
    desk.run_due(soon())
    assert deliveries(node) == ["asked"]
    assert archive.vouch(node) == 0x0000
    assert deliveries(node) == ["committed"]
    desk.run_due(soon())
    assert station.came.wait(60)
    assert (station.reports[0][0], station.failures()) == (1, [])
    assoc.release()
    assert sorted(states(node.db)) == [("answer", "done"), ("ask", "done")]
    assert forward(node) == 0, "sent once"


def test_what_an_archive_does_not_vouch_for_is_sent_again(archived, station):
    node, archive = archived
    assoc = station.connect(node)
    assoc.send_c_store(make_film())
    assoc.release()
    set_ready(node)
    forward(node)
    desk_of(node).run_due(soon())
    assert archive.vouch(node, is_held=False) == 0x0000
    assert deliveries(node) == ["queued"]
    assert forward(node) == 1
    desk_of(node).run_due(soon())
    assert archive.vouch(node) == 0x0000
    assert deliveries(node) == ["committed"]


def test_a_report_nobody_asked_for_is_refused(archived):
    node, archive = archived
    archive.requests.append(request_of((IO, "1.2.3")))
    assert archive.vouch(node) == 0x0115


def test_an_archive_that_is_away_gets_its_images_later(archived, station):
    node, archive = archived
    port = archive.server.server_address[1]
    archive.close()
    assoc = station.connect(node)
    assoc.send_c_store(make_film())
    assoc.release()
    set_ready(node)
    assert forward(node) == 0
    assert deliveries(node) == ["queued"]
    archive.listen(port)
    assert forward(node) == 1


def test_an_image_is_not_sent_back_to_where_it_came_from(archived):
    node, archive = archived
    assoc = archive.connect(node)
    assoc.send_c_store(make_film())
    assoc.release()
    set_ready(node)
    assert forward(node) == 0
    assert deliveries(node) == []


def test_a_rule_decides_which_images_a_peer_gets(start, station):
    receiver = Archive()
    peer = {"name": "ortho", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": receiver.listen()}
    rule = 'Modality == "PX" and sender == "SENSOR" and findings == 0'
    node = start(peers=[peer | {"when": rule}])
    assoc = station.connect(node)
    wanted = make_film(Modality="PX")
    for film in (wanted, make_film(Modality="IO")):
        assoc.send_c_store(film)
    assoc.release()
    set_ready(node)
    assert forward(node) == 1
    assert deliveries(node) == ["sent"], "it is no archive: nobody is asked to vouch"
    receiver.close()


def test_a_rule_that_cannot_be_read_stops_the_start(start):
    node = start(
        peers=[{"name": "p", "ae_title": "P", "host": "127.0.0.1", "port": 1, "when": "eval(1)"}]
    )
    with pytest.raises(ConfigError):
        Forwarder(node.db, FolderStore(node.folder), node.config)
