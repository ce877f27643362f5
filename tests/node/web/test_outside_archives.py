"""Images for an archive outside wait in their queue until its agreement is recorded."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from node.config import Config, read_config
from node.db.agreements import Agreement, record
from node.db.session import begin
from node.db.tables import image_delivery, study
from node.dicom.forwarding import Forwarder


def config_of(practice, port: int) -> Config:
    peer = {"name": "clinic", "ae_title": "PACS", "host": "127.0.0.1", "port": port,
            "when": "Modality == 'IO'", "external": True}  # fmt: skip
    dicom = {"peers": [peer], "min_free_mb": 0}
    return read_config(None, {}, {"dicom": dicom, "node": {"location_id": practice.location_id}})


def test_nobody_outside_is_called_without_an_agreement(practice):
    practice.analysed_study(images=2)
    with begin(practice.db, practice.actor, "test") as tx:
        tx.conn.execute(study.update().values(state="ready"))
    called = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)

        def answer() -> None:
            line, _ = server.accept()
            called.set()
            line.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        config = config_of(practice, server.getsockname()[1])
        forwarder = Forwarder(practice.db, practice.store, config)
        forwarder.run_due(datetime.now(UTC) + timedelta(minutes=1))
        rows = practice.rows(sa.select(image_delivery.c.state, image_delivery.c.error))
        words = "waits for an agreement with archive:clinic: none is recorded"
        assert [tuple(row) for row in rows] == [("queued", words)] * 2
        assert not called.is_set()
        today = datetime.now(UTC).date()
        with begin(practice.db, practice.actor, "agreement.recorded") as tx:
            record(tx, config, _paper(today))
        forwarder.run_due(datetime.now(UTC) + timedelta(hours=2))
        assert called.wait(60)
        thread.join(60)
    rows = practice.rows(sa.select(image_delivery.c.error))
    assert not any("agreement" in row.error for row in rows)


def _paper(today: date) -> Agreement:
    until = today + timedelta(days=365)
    return Agreement("archive:clinic", "Archive Inc.", "A. Manager", today, until, "a" * 64)
