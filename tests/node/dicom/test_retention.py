"""Pixels go when everything that must be there is there, and never before."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.uid import ExplicitVRLittleEndian

from node.config import Config, read_config
from node.db import tables
from node.db.session import read
from node.dicom.holds import holds, is_held, place_hold, release_hold
from node.dicom.instances import FolderStore
from node.dicom.purged import find_purged, refuse_purged
from node.dicom.retention import Retention
from node.dicom.store import Incoming, Kept, receive
from node.errors import InvalidInput, NotFound, Rejected, Retryable
from tests.node.dicom.conftest import Practice, make_film

NOW = datetime.now(UTC).replace(microsecond=0)
LONG_AGO = NOW - timedelta(days=60)
ARCHIVE = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "archive": True}


def config(**retention: object) -> Config:
    section = {"mode": "processor", "pixels_days": 30.0} | retention
    return read_config(None, {}, {"dicom": {"peers": [ARCHIVE]}, "retention": section})


@dataclass
class World:
    """One signed study with one image that the archive has promised to keep."""

    db: sa.Engine
    store: FolderStore
    practice: Practice
    patient_id: str
    study_id: str
    instance_id: str
    data: bytes
    keep: Callable[[], Kept]

    def retention(self, **section: object) -> Retention:
        return Retention(self.db, self.store, config(**section))

    def files(self) -> int:
        return sum(1 for path in self.store._folder.rglob("*.dcm") if path.is_file())

    def change(self, table: sa.Table, **values: object) -> None:
        with self.db.begin() as conn:
            conn.execute(table.update().values(**values))

    def rows(self, table: sa.Table) -> list:
        with read(self.db) as conn:
            return list(conn.execute(sa.select(table)))


@pytest.fixture
def world(database, enqueuer, tmp_path: Path) -> World:
    practice, store = Practice(database), FolderStore(tmp_path / "images")
    film = make_film()
    out = io.BytesIO()
    film.save_as(out, enforce_file_format=True)
    content = out.getvalue()
    data = content[144 + int.from_bytes(content[140:144], "little") :]

    def keep() -> Kept:
        message = Incoming(
            memoryview(data),
            film.SOPClassUID,
            film.SOPInstanceUID,
            ExplicitVRLittleEndian,
            "SENSOR",
        )
        return receive(database, store, enqueuer, message, location_id="main").kept

    keep()
    patient_id = practice.patient()
    with read(database) as conn:
        image = conn.execute(sa.select(tables.instance)).one()
    user_id = practice.insert(
        tables.user_account,
        username="ada",
        display_name="Ada",
        role="dentist",
        password_hash="x",
    )
    with database.begin() as conn:
        conn.execute(
            tables.study.update().values(
                state="signed", patient_id=patient_id, routed_generation=0, received_at=LONG_AGO
            )
        )
    practice.insert(
        tables.review,
        study_id=image.study_id,
        version=1,
        signed_by=user_id,
        signer_name="Ada",
        signer_role="dentist",
        statement="s",
        content_hash="h",
        content={},
        software_version="1",
        signed_at=LONG_AGO,
    )
    practice.insert(
        tables.image_delivery,
        instance_id=image.id,
        peer="pacs",
        state="committed",
        updated_at=LONG_AGO,
    )
    practice.insert(
        tables.commitment,
        role="ask",
        peer="pacs",
        transaction_uid="1.2.3",
        state="done",
        objects=[[film.SOPClassUID, film.SOPInstanceUID]],
        failures=[],
        created_at=LONG_AGO,
        updated_at=LONG_AGO,
    )
    return World(database, store, practice, patient_id, image.study_id, image.id, data, keep)


def test_a_signed_and_promised_image_goes_and_the_rest_stays(world):
    before = world.rows(tables.review), world.rows(tables.study_identity)
    report = world.retention().run(NOW)
    assert (report.studies, report.images, world.files()) == (1, 1, 0)
    (row,) = world.rows(tables.pixel_purge)
    assert (row.state, row.holder, row.basis, row.transaction_uid) == (
        "purged", "pacs", "committed", "1.2.3",
    )  # fmt: skip
    assert row.removed_at is not None
    assert (world.rows(tables.review), world.rows(tables.study_identity)) == before
    assert world.retention().run(NOW).images == 0


def test_a_dry_run_counts_and_touches_nothing(world):
    report = world.retention().run(NOW, is_dry=True)
    assert (report.images, world.files(), world.rows(tables.pixel_purge)) == (1, 1, [])
    assert report.size_bytes == len(world.data)


Break = Callable[[World], object]
BREAKS: dict[str, Break] = {
    "not signed": lambda w: w.change(tables.study, state="ready"),
    "younger than": lambda w: w.change(tables.review, signed_at=NOW - timedelta(days=29)),
    "no receipt": lambda w: w.practice.insert(
        tables.pms_command, key="k", ref="r", study_id=w.study_id, patient_id=w.patient_id,
        kind="note", payload={}, state="unknown", created_at=NOW, updated_at=NOW,
    ),
    "no receipt of the practice's": lambda w: w.practice.insert(
        tables.pms_command, key="k", ref="r", study_id=w.study_id, patient_id=w.patient_id,
        kind="note", payload={}, state="failed", created_at=NOW, updated_at=NOW,
    ),
    "not yet with every peer": lambda w: w.practice.insert(
        tables.image_delivery, instance_id=w.instance_id, peer="other", state="queued",
        updated_at=NOW,
    ),
    "a result is not yet": lambda w: w.practice.insert(
        tables.dicom_delivery, peer="pacs", state="failed", updated_at=NOW,
        result_id=w.practice.insert(
            tables.dicom_result, study_id=w.study_id, review_version=1, kind="SR",
            sop_instance_uid="1.2", sop_class_uid="1.3", storage_key="main/ab/abcd",
            created_at=NOW,
        ),
    ),
    "a case of the patient is open": lambda w: w.practice.insert(
        tables.workflow_case, workflow="preauthorisation", key="c", patient_id=w.patient_id,
        state="waiting", data={}, created_at=NOW, updated_at=NOW,
    ),
    "no archive has promised": lambda w: w.change(tables.image_delivery, state="sent"),
    "no archive has promised to keep": lambda w: w.change(
        tables.commitment,
        failures=[[*w.rows(tables.commitment)[0].objects[0], 0x0110]],
    ),
    "no archive has promised to keep every": lambda w: w.change(tables.commitment, objects=[]),
    "other bytes came": lambda w: w.practice.insert(
        tables.instance_duplicate, instance_id=w.instance_id, sha256="x", size_bytes=1,
        storage_key="main/ab/abcd", received_at=NOW,
    ),
    "not yet routed": lambda w: w.change(tables.study, generation=1),
    "legal hold": lambda w: place_hold(w.db, w.retention()._actor, "suit", patient_key="17"),
}  # fmt: skip


@pytest.mark.parametrize("reason", BREAKS)
def test_never_before(world, reason):
    BREAKS[reason](world)
    report = world.retention().run(NOW)
    assert (report.images, world.files(), world.rows(tables.pixel_purge)) == (0, 1, [])
    assert any(reason in each for each in report.kept), report.kept


def test_a_recall_that_waits_for_months_holds_nothing(world):
    world.practice.insert(
        tables.workflow_case,
        workflow="recall",
        key="c",
        patient_id=world.patient_id,
        state="waiting",
        data={},
        created_at=NOW,
        updated_at=NOW,
    )
    assert world.retention().run(NOW).images == 1


def test_by_default_pixels_stay(world):
    report = world.retention(mode="keep").run(NOW)
    assert (report.images, world.files()) == (0, 1)
    assert read_config(None, {}, {}).retention.mode == "keep"


def test_an_image_that_cannot_be_decoded_stays(world):
    (path,) = (p for p in world.store._folder.rglob("*.dcm"))
    path.write_bytes(path.read_bytes()[:-300])
    assert world.retention().run(NOW).images == 0
    assert world.files() == 1


def test_the_image_that_comes_again_is_taken_in_again(world):
    world.retention().run(NOW)
    assert world.keep() is not Kept.STORED
    assert world.files() == 1
    (row,) = world.rows(tables.pixel_purge)
    assert (row.state, row.restored_at is None) == ("restored", False)
    report = world.retention().run(NOW + timedelta(days=29))
    assert "younger than retention.pixels_days" in report.kept
    assert world.retention().run(NOW + timedelta(days=31)).images == 1
    assert world.files() == 0


def test_who_opens_what_was_purged_is_told_who_holds_it(world, actor):
    refuse_purged(world.db, actor, [world.study_id])
    world.retention().run(NOW)
    for _ in range(2):
        with pytest.raises(Retryable, match="held by pacs"):
            refuse_purged(world.db, actor, [world.study_id])
    (row,) = world.rows(tables.pixel_fetch)
    assert row.state == "queued"
    with read(world.db) as conn:
        assert list(find_purged(conn, [world.study_id])) == [world.instance_id]


def test_a_hold_on_a_study_lasts_until_it_is_released(world, actor):
    uid = world.rows(tables.study)[0].study_instance_uid
    hold_id = place_hold(world.db, actor, "insurer asks", study_uid=uid)
    assert world.retention().run(NOW).kept == {"legal hold": 1}
    release_hold(world.db, actor, hold_id, "settled")
    with pytest.raises(Rejected):
        release_hold(world.db, actor, hold_id, "settled")
    assert world.retention().run(NOW).images == 1
    with read(world.db) as conn:
        (hold,) = holds(conn, "main")
        assert hold.released_at is not None
    actions = [row.action for row in world.rows(tables.audit)]
    assert {"hold.placed", "hold.released", "pixels.purged", "pixels.removed"} <= set(actions)


def test_a_hold_says_on_whom_and_why(world, actor):
    with pytest.raises(InvalidInput):
        place_hold(world.db, actor, " ", patient_key="17")
    with pytest.raises(InvalidInput):
        place_hold(world.db, actor, "suit")
    with pytest.raises(NotFound):
        place_hold(world.db, actor, "suit", patient_key="99")
    with pytest.raises(NotFound):
        release_hold(world.db, actor, "none", "settled")


def test_a_hold_that_comes_behind_the_tombstone_still_saves_the_file(world, actor):
    """Between the committed tombstone and the removal of the file, a hold is placed."""

    class Late(FolderStore):
        def discard(self, storage_key: str) -> None:
            raise OSError("stopped here")

    late = Retention(world.db, Late(world.store._folder), config())
    with pytest.raises(OSError, match="stopped here"):
        late.run(NOW)
    assert [row.state for row in world.rows(tables.pixel_purge)] == ["purging"]
    place_hold(world.db, actor, "suit", patient_key="17")
    assert world.retention().resume() == 0
    assert (world.files(), world.rows(tables.pixel_purge)) == (1, [])
    with read(world.db) as conn:
        assert is_held(conn, world.study_id)


KILLED = """
    import os, signal, sys
    from datetime import datetime, UTC
    from pathlib import Path
    from node.config import read_config
    from node.db.session import open_database
    from node.dicom.instances import FolderStore
    from node.dicom.retention import Retention

    class Deadly(FolderStore):
        def discard(self, storage_key):
            if sys.argv[3] == "after":
                super().discard(storage_key)
            os.kill(os.getpid(), signal.SIGKILL)

    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "archive": True}
    config = read_config(None, {}, {
        "dicom": {"peers": [peer]}, "retention": {"mode": "processor"}})
    Retention(open_database(sys.argv[1]), Deadly(Path(sys.argv[2])), config).run(datetime.now(UTC))
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_the_removal_it_is_finished_at_the_next_start(world, moment):
    url = world.db.url.render_as_string(hide_password=False)
    arguments = [url, str(world.store._folder), moment]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), *arguments],
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL
    assert [row.state for row in world.rows(tables.pixel_purge)] == ["purging"]
    assert world.files() == (1 if moment == "before" else 0)
    assert world.retention().resume() == 1
    assert [row.state for row in world.rows(tables.pixel_purge)] == ["purged"]
    assert world.files() == 0
