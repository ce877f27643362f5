"""Old rows go by their kind; what was decided or belongs to somebody on hold stays."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from node.config import read_config
from node.db import tables
from node.db.session import read
from node.db.shedding import count_old, shed
from node.dicom.holds import place_hold
from tests.node.dicom.conftest import Practice

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OLD, NEW = NOW - timedelta(days=400), NOW - timedelta(days=10)
CONFIG = read_config(None, {}, {})


@pytest.fixture
def practice(database: sa.Engine) -> Practice:
    made = Practice(database)
    user_id = made.insert(
        tables.user_account, username="a", display_name="A", role="dentist", password_hash="x"
    )
    patient_id = made.patient()
    for at in (OLD, NEW):
        made.insert(tables.webhook_delivery, source="lab", delivery_id=f"{at}", digest="d", at=at)
        made.insert(
            tables.model_exchange, purpose="p", model="m", state="answered", prompt=["x"], at=at
        )
        made.insert(tables.link_use, digest=f"{at}", purpose="p", subject="s", used_at=at)
        made.insert(
            tables.web_session, token_hash=f"{at}", user_id=user_id, csrf_token="c",
            created_at=at, last_seen_at=at, proved_at=at,
        )  # fmt: skip
        for state in ("done", "waiting"):
            case_id = made.insert(
                tables.workflow_case, workflow="lab_case", key=f"{state}{at}", state=state,
                patient_id=patient_id, data={}, created_at=at, updated_at=at,
            )  # fmt: skip
            for key in ("delivery", "reply:1"):
                made.insert(
                    tables.case_signal, case_id=case_id, topic="t", delivery_id=key, payload={},
                    at=at,
                )  # fmt: skip
    return made


def count(db: sa.Engine, table: sa.Table) -> int:
    with read(db) as conn:
        return conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_each_kind_goes_when_it_is_old(practice: Practice) -> None:
    db = practice.db
    expected = {"webhooks": 2, "prompts": 1, "sessions": 2}
    assert count_old(db, CONFIG, NOW) == expected
    assert shed(db, CONFIG, NOW) == expected
    assert shed(db, CONFIG, NOW) == {}
    left = [tables.webhook_delivery, tables.model_exchange, tables.link_use, tables.web_session]
    assert [count(db, table) for table in left] == [1, 1, 1, 1]
    # of the old ones: open cases keep all, closed ones the replies that the recall has told of
    assert count(db, tables.case_signal) == 7
    assert count(db, tables.workflow_case) == 4


def test_a_patient_on_hold_keeps_what_partners_sent(practice: Practice, actor) -> None:
    place_hold(practice.db, actor, "suit", patient_key="17")
    assert shed(practice.db, CONFIG, NOW)["webhooks"] == 1
    assert count(practice.db, tables.case_signal) == 8


def test_another_location_is_left_alone(practice: Practice) -> None:
    other = CONFIG.model_copy(
        update={"node": CONFIG.node.model_copy(update={"location_id": "other"})}
    )
    assert shed(practice.db, other, NOW) == {}
