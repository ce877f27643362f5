"""What a node says of itself to anybody who asks."""

from datetime import UTC, datetime, timedelta

import pytest

from node.config import Config, read_config
from node.db.migrate import migrate
from node.db.session import Actor, begin, open_database
from node.db.tables import sync_state
from node.status import Probe, Status
from pms_writeback.record_state import keep_state

POLL_S = 15.0


@pytest.fixture
def config(tmp_path) -> Config:
    pms = {
        "kind": "open_dental",
        "base_url": "http://127.0.0.1:9/api/v1",
        "developer_key": "d",
        "customer_key": "c",
        "poll_s": POLL_S,
    }
    return read_config(environment={}, overrides={"node": {"data_dir": tmp_path}, "pms": pms})


def look(config: Config, age: timedelta | None, error: str = "") -> Probe:
    db = open_database(config.database_url)
    migrate(db)
    now = datetime.now(UTC)
    last = None if age is None else now - age
    with begin(db, Actor("test", config.node.location_id), "test.synced") as tx:
        tx.conn.execute(
            sync_state.insert().values(
                location_id=config.node.location_id,
                resource="schedule",
                watermark=last,
                last_ok_at=last,
                last_try_at=now,
                error=error,
                clock_offset_s=0.0,
            )
        )
    found = Status(db, config).probes()["pms"]
    db.dispose()
    return found


def test_a_quiet_practice_is_well(config: Config) -> None:
    # a sync without a change is written down every five minutes only
    verdict = look(config, timedelta(minutes=5, seconds=POLL_S))
    assert verdict.is_ok, verdict.words


@pytest.mark.parametrize(
    ("age", "error"),
    [(None, ""), (timedelta(minutes=20), ""), (timedelta(seconds=5), "Sandbox^Ada is away")],
)
def test_a_late_or_failing_sync_degrades_in_words_for_anybody(
    config: Config, age: timedelta | None, error: str
) -> None:
    verdict = look(config, age, error)
    assert not verdict.is_ok
    assert not verdict.is_ours
    assert "bitewing check" in verdict.words
    assert "Ada" not in verdict.words


def test_kinds_of_record_that_failed_are_named_without_the_reason(config: Config) -> None:
    db = open_database(config.database_url)
    migrate(db)
    assert Status(db, config).probes()["records"].is_ok
    with begin(db, Actor("test", config.node.location_id), "test.synced") as tx:
        keep_state(tx, "records:claim", error="Sandbox^Ada has no permission")
    verdict = Status(db, config).probes()["records"]
    db.dispose()
    assert (verdict.is_ok, verdict.is_ours) == (False, False)
    assert "claim" in verdict.words
    assert "Ada" not in verdict.words
