"""The services' rows on both databases: steps, commitments, queries, priors, forwarding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from node.config import read_config
from node.db import switches
from node.db.session import Actor, begin, read
from node.db.tables import (
    commitment,
    image_delivery,
    instance,
    performed_step,
    prior_fetch,
    rejected_object,
    study,
)
from node.dicom import archive, burned_in, withdrawal
from node.dicom.availability import Notifier
from node.dicom.commitment import NO_SUCH_INSTANCE, Report, ask, judge, request, take_report
from node.dicom.forwarding import Forwarder
from node.dicom.held import find_held
from node.dicom.importing import encoded
from node.dicom.instances import FolderStore
from node.dicom.mpps import Message, change, create
from node.dicom.object_file import ObjectFile
from node.dicom.priors import PriorFetcher
from node.dicom.query import Keys, Query, vr_of
from node.dicom.store import receive
from node.errors import Retryable

PEER = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
CONFIG = read_config(None, {}, {"dicom": {"peers": [PEER | {"archive": True, "priors": True}]}})


def keys(**texts: str) -> Keys:
    tags = {int(name[1:], 16): text for name, text in texts.items()}
    return Keys(texts=tags, vrs={tag: vr_of(tag) for tag in tags})


def message(status: str) -> Message:
    told = keys(t00400252=status, t00100010="Doe^Jane", t00100020="17", t00100030="19800102")
    return Message("1.2.3", b"", "1.2.840.10008.1.2", "SENSOR", told)


def test_steps(database, practice, tmp_path: Path):
    practice.patient()
    store = FolderStore(tmp_path)
    assert create(database, store, message("IN PROGRESS"), CONFIG).status == 0
    assert create(database, store, message("IN PROGRESS"), CONFIG).status == 0x0111
    assert change(database, store, message("COMPLETED"), CONFIG).status == 0
    with read(database) as conn:
        (row,) = conn.execute(sa.select(performed_step)).all()
    assert (row.state, row.match_state, len(row.messages)) == ("completed", "matched", 2)


class FarStore(FolderStore):
    """A store that has one object elsewhere, and finds nobody writing while it is asked."""

    def __init__(self, folder: Path, database: sa.Engine, far: set[str]) -> None:
        super().__init__(folder)
        self._database = database
        self._far = far

    def file(self, storage_key: str) -> ObjectFile:
        with begin(self._database, Actor("test", "main"), "test"):
            if storage_key in self._far:
                raise Retryable("the image has not yet come")
        return super().file(storage_key)


def test_a_rule_reads_headers_before_it_locks_and_a_far_image_holds_up_nobody(
    database, enqueuer, film, tmp_path: Path
):
    for _ in range(2):
        receive(database, FolderStore(tmp_path), enqueuer, encoded(film()), location_id="main")
    with begin(database, Actor("test", "main"), "test") as tx:
        tx.conn.execute(study.update().values(state="ready"))
        first, second = tx.conn.execute(sa.select(instance.c.storage_key)).scalars()
    far = {first}
    config = read_config(None, {}, {"dicom": {"peers": [PEER | {"when": "Modality == 'IO'"}]}})
    forwarder = Forwarder(database, FarStore(tmp_path, database, far), config)
    forwarder.route()
    with read(database) as conn:
        queued = sa.select(instance.c.storage_key).join(image_delivery)
        assert conn.execute(queued).scalars().all() == [second]
    far.clear()
    assert forwarder.route() == 1
    with read(database) as conn:
        assert set(conn.execute(queued).scalars()) == {first, second}


def test_stored_studies_are_queried_forwarded_and_vouched_for(
    database, enqueuer, film, tmp_path: Path
):
    store = FolderStore(tmp_path)
    ds = film()
    receive(database, store, enqueuer, encoded(ds), location_id="main")
    with read(database) as conn:
        place = archive.Archive(conn, store, "main", "BITEWING", with_results=True)
        for level in archive.Level:
            (found,) = place.find(Query(keys(t00100010="doe*", t00080020="20260101-")), level)
            assert found.text(archive.STUDY_UID) == ds.StudyInstanceUID
    with begin(database, Actor("test", "main"), "test") as tx:
        tx.conn.execute(study.update().values(state="ready"))
    forwarder = Forwarder(database, store, CONFIG)
    assert (forwarder.route(), forwarder.route()) == (1, 0)
    with begin(database, Actor("test", "main"), "test") as tx:
        switches.turn(tx, switches.OUTBOUND, True)
    assert forwarder.run_due(datetime.now(UTC)) == 0
    with read(database) as conn:
        waiting = conn.execute(sa.select(image_delivery.c.state, image_delivery.c.attempts)).all()
    assert [tuple(row) for row in waiting] == [("queued", 0)], "held, not tried"
    with begin(database, Actor("test", "main"), "test") as tx:
        tx.conn.execute(image_delivery.update().values(state="asked"))
        ask(tx, "pacs", "1.2.9", [(str(ds.SOPClassUID), str(ds.SOPInstanceUID))])
    held = Report("1.2.9", ((str(ds.SOPClassUID), str(ds.SOPInstanceUID)),))
    assert take_report(database, CONFIG, held)
    assert not take_report(database, CONFIG, Report("1.2.10", ()))
    asked = [(str(ds.SOPClassUID), str(ds.SOPInstanceUID))]
    with read(database) as conn:
        assert judge(conn, store, CONFIG, "SENSOR", asked).held == tuple(asked)
    with begin(database, Actor("test", "main"), "test") as tx:
        tx.conn.execute(instance.update().values(state="rejected"))
    with read(database) as conn:
        ((*_, reason),) = judge(conn, store, CONFIG, "SENSOR", asked).failed
        assert reason == NO_SUCH_INSTANCE, "what its sender rejected is promised no more"
    with read(database) as conn:
        assert conn.execute(sa.select(image_delivery.c.state)).scalar_one() == "committed"


def test_requests_and_plans(database, practice, enqueuer, tmp_path: Path):
    item = keys(t00081150="1.2.840.10008.5.1.4.1.1.7", t00081155="1.2.3")
    asked = Keys(texts={0x00081195: "1.2.9"}, sequences={0x00081199: (item,)}, vrs={})
    for _ in range(2):
        request(database, CONFIG, "SENSOR", asked)
    now = datetime.now(UTC)
    practice.appointment(practice.patient(), now + timedelta(hours=5))
    fetcher = PriorFetcher(database, FolderStore(tmp_path), enqueuer, CONFIG)
    assert (fetcher.plan(now), fetcher.plan(now)) == (1, 0)
    with read(database) as conn:
        counts = [
            conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (commitment, prior_fetch)
        ]
    assert counts == [1, 1]


def test_lettering_notices_and_rejections(database, enqueuer, film, tmp_path: Path):
    store = FolderStore(tmp_path)
    ds = film()
    image_id = receive(database, store, enqueuer, encoded(ds), location_id="main").instance_id
    actor = Actor("test", "main")
    with begin(database, actor, "test") as tx:
        tx.conn.execute(instance.update().values(state="analysed"))
        assert burned_in.doubted(tx.conn, [image_id]) == frozenset()
        burned_in.note(tx, image_id, "seen")
        burned_in.note(tx, image_id, "seen again")
        assert burned_in.doubted(tx.conn, [image_id]) == {image_id}
        burned_in.release(tx, image_id, "only a side")
        burned_in.note(tx, image_id, "seen once more")
        assert burned_in.doubted(tx.conn, [image_id]) == frozenset(), "a person's word stays"
        tx.conn.execute(study.update().values(state="ready"))
    notifier = Notifier(database, store, CONFIG)
    now = datetime.now(UTC)
    assert (notifier.plan(["ris"], now), notifier.plan(["ris"], now)) == (1, 0)
    with begin(database, actor, "test") as tx:
        note = withdrawal.Note("113001", (str(ds.SOPInstanceUID), "1.2.3.4"))
        assert withdrawal.act_on(tx, note, image_id, ["*"]) == 1
        assert withdrawal.act_on(tx, note, image_id, ["*"]) == 0
    with read(database) as conn:
        row = conn.execute(sa.select(instance)).one()
        assert withdrawal.code_of(conn, row, []) == "113001"
        assert (row.state, find_held(conn, store, "main", with_results=True)) == ("rejected", [])
        assert conn.execute(sa.select(sa.func.count()).select_from(rejected_object)).scalar() == 2
