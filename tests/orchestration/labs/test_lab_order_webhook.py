"""A subscriber is told of each lab order once, after it was sent, in the agreed shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from node.config import read_config
from node.db.session import begin, new_id
from node.db.tables import workflow_case
from node.domain.events import EventKind
from node.engine import DurableEngine
from orchestration.labs import checks, rx_schema
from orchestration.labs.order import order_to_json
from orchestration.labs.rulebook import load_pack, load_rulebook
from orchestration.labs.validation import validate
from orchestration.workflows import notify_subscribers
from tests.orchestration.clockwork import ACTOR, Clockwork
from tests.orchestration.labs.prescriptions import CROWN, CROWN_FACTS
from tests.orchestration.test_webhooks import SECRET, Subscriber


@pytest.fixture
def receiver() -> Iterator[Subscriber]:
    running = Subscriber()
    yield running
    running.close()


def test_an_order_is_told_once_and_only_after_it_was_sent(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path, receiver: Subscriber
) -> None:
    section = {
        "name": "dso", "url": receiver.url, "secret": SECRET, "is_sandbox": True,
        "events": ["lab_order"],
    }  # fmt: skip
    config = read_config(environment={}, overrides={"workflows": {"webhooks": [section]}})
    flow = notify_subscribers.make(config)
    work = Clockwork(sqlite_database, engine, tmp_path, flow, workflows={"webhooks": [section]})
    work.hooks.run_once()
    patient_id, case_id = work.add_patient(), new_id()
    book = load_rulebook()
    result = validate(CROWN, CROWN_FACTS, book, load_pack("sandbox"), checks.ALL)
    order = order_to_json(CROWN, result, book, case_id=case_id, patient_id=patient_id)

    def changed(data: dict[str, object]) -> None:
        with begin(work.db, ACTOR, "test.case") as tx:
            row = {
                "id": case_id, "location_id": "main", "workflow": "lab_case", "key": "LC-1",
                "state": "done", "data": data, "created_at": tx.now, "updated_at": tx.now,
            }  # fmt: skip
            tx.conn.execute(workflow_case.delete().where(workflow_case.c.id == case_id))
            tx.conn.execute(workflow_case.insert().values(**row))
            tx.append_event(EventKind.CASE_CHANGED, case_id, new_id())
        work.hooks.run_once()
        work.settle()

    changed({"rx": {}})
    assert receiver.received == []
    changed({"order": order})
    changed({"order": order})
    ((_, body),) = receiver.received
    told = json.loads(body)
    schema = json.loads(rx_schema.SHIPPED.with_name("lab_order.v1.schema.json").read_text())
    assert set(told) == set(schema["required"])
    assert told == json.loads(json.dumps(order))
