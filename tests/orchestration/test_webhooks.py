"""Webhooks in are verified and counted once; webhooks out are signed and sent until taken."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from node.config import read_config
from node.db.session import begin
from node.domain.events import EventKind
from node.domain.findings import Disposition, FindingKind
from node.engine import DurableEngine
from node.errors import ConfigError, InvalidInput
from orchestration.case import Case
from orchestration.cases import CaseState
from orchestration.signatures import sign, verify
from orchestration.webhook_messages import ImagingStudyAnalyzed, schema_files
from orchestration.webhooks import Delivery, make_router
from orchestration.workflow import Outcome, Signal, Workflow, done, wait
from orchestration.workflows import notify_subscribers
from pms_writeback.sandbox.server import running
from tests.orchestration.clockwork import ACTOR, Clockwork
from tests.orchestration.practice import Practice

SECRET = "a secret that both sides know"


class Laboratory:
    """A source whose calls are signed JSON."""

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Delivery:
        verify(SECRET, body, headers.get("x-signature", ""), now)
        try:
            said = json.loads(body)
        except ValueError:
            raise InvalidInput("not JSON") from None
        signal = Signal(said["case"], "shipped", said["id"], {"tracking": said["tracking"]})
        return Delivery(said["id"], [("parcels", signal)])


def parcels() -> Workflow:
    flow = Workflow(name="parcels", title="Parcels")

    @flow.stage
    def expect(case: Case) -> Outcome:
        return wait(on={"shipped": arrived})

    @flow.stage
    def arrived(case: Case) -> Outcome:
        case.data["tracking"] = case.signal["tracking"]
        return done("arrived")

    return flow


@pytest.fixture
def work(sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path) -> Clockwork:
    return Clockwork(sqlite_database, engine, tmp_path, parcels())


@pytest.fixture
def door(work: Clockwork) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(make_router(work.runner, {"lab": Laboratory()}))
    with TestClient(app) as client:
        yield client


def _call(door: TestClient, work: Clockwork, secret: str = SECRET, age_s: int = 0, **said: str):
    body = json.dumps({"case": "a", "id": "delivery-1", "tracking": "1Z", **said}).encode()
    headers = {"x-signature": sign(secret, body, work.now - timedelta(seconds=age_s))}
    return door.post("/hooks/lab", content=body, headers=headers)


def test_a_signed_call_wakes_its_case_and_a_repeat_is_taken_without_effect(
    work: Clockwork, door: TestClient
) -> None:
    case_id = work.start(work.runner.workflows["parcels"], "a")
    assert _call(door, work).status_code == 202
    assert _call(door, work, tracking="other").status_code == 202
    work.settle()
    assert work.state(case_id) is CaseState.DONE
    assert work.case(case_id).data["tracking"] == "1Z"


def test_forged_stale_unreadable_unknown_and_huge_calls_change_nothing(
    work: Clockwork, door: TestClient
) -> None:
    case_id = work.start(work.runner.workflows["parcels"], "a")
    assert _call(door, work, secret="another").status_code == 401
    assert _call(door, work, age_s=1200).status_code == 401
    body = b"{"
    headers = {"x-signature": sign(SECRET, body, work.now)}
    assert door.post("/hooks/lab", content=body, headers=headers).status_code == 422
    assert door.post("/hooks/nobody", content=b"").status_code == 404
    assert door.post("/hooks/lab", content=b"x" * (3 << 20)).status_code == 413
    work.settle()
    assert work.state(case_id) is CaseState.WAITING


class Subscriber:
    """An HTTP server that takes webhooks; the first answers may be refusals."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the library's name
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                owner.received.append((headers, body))
                self.send_response(owner.answers.pop(0) if owner.answers else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/bitewing"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    running = Subscriber()
    yield running
    running.close()


def _telling(
    database: sa.Engine, engine: DurableEngine, folder: Path, subscriber: Subscriber
) -> Clockwork:
    section = {
        "name": "dso",
        "url": subscriber.url,
        "secret": SECRET,
        "is_sandbox": True,
        "events": ["imaging_study_analyzed", "workflow_state"],
    }
    config = read_config(environment={}, overrides={"workflows": {"webhooks": [section]}})
    work = Clockwork(
        database,
        engine,
        folder,
        notify_subscribers.make(config),
        parcels(),
        workflows={"webhooks": [section]},
    )
    work.hooks.run_once()
    return work


def test_a_ready_study_is_told_with_its_state_only_until_it_is_taken(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path, subscriber: Subscriber
) -> None:
    work = _telling(sqlite_database, engine, tmp_path, subscriber)
    subscriber.answers = [503, 500]
    with begin(work.db, ACTOR, "test") as tx:
        tx.append_event(EventKind.STUDY_READY, "f" * 32, "ready:1")
    work.hooks.run_once()
    work.pass_time(hours=1)
    assert len(subscriber.received) == 3
    assert len({headers["x-delivery"] for headers, _ in subscriber.received}) == 1
    headers, body = subscriber.received[-1]
    verify(SECRET, body, headers["x-signature"], datetime.now(UTC))
    said = json.loads(body)
    assert (said["event_type"], said["state"], said["findings"]) == (
        "imaging_study_analyzed", "ready", None,
    )  # fmt: skip


def test_a_case_is_told_by_its_state_and_never_its_data(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path, subscriber: Subscriber
) -> None:
    work = _telling(sqlite_database, engine, tmp_path, subscriber)
    work.start(work.runner.workflows["parcels"], "a", shade="A2")
    work.settle()
    work.hooks.run_once()
    work.settle()
    work.hooks.run_once()  # what the webhooks' own cases did is told to nobody
    work.settle()
    (told,) = [json.loads(body) for _, body in subscriber.received]
    assert (told["current_step"], told["data"]) == ("", {"state": "waiting"})
    assert "A2" not in str(subscriber.received)


def test_an_address_that_is_not_encrypted_is_refused() -> None:
    section = {"name": "a", "url": "http://example.org/x", "secret": SECRET}
    with pytest.raises(ConfigError, match="https"):
        read_config(environment={}, overrides={"workflows": {"webhooks": [section]}})


def test_the_shipped_schemas_are_those_of_the_messages() -> None:
    for path, text in schema_files().items():
        assert path.read_text() == text, path.name


def test_a_signed_study_is_told_with_what_was_signed(
    sqlite_database: sa.Engine, engine: DurableEngine, tmp_path: Path, subscriber: Subscriber
) -> None:
    section = {"name": "dso", "url": subscriber.url, "secret": SECRET, "is_sandbox": True}
    config = read_config(environment={}, overrides={"workflows": {"webhooks": [section]}})
    with running(tmp_path / "sandbox.sqlite") as sandbox:
        practice = Practice(sqlite_database, engine, tmp_path, sandbox, mode="assist")
        work = Clockwork(
            sqlite_database, engine, tmp_path, notify_subscribers.make(config),
            workflows={"webhooks": [section]},
        )  # fmt: skip
        work.hooks.run_once()
        practice.sign(practice.mark(FindingKind.CARIES, "36", Disposition.RESTORE))
        with begin(work.db, ACTOR, "test") as tx:
            tx.append_event(EventKind.REVIEW_SIGNED, practice.study_id, "signed:1", {"version": 1})
        work.hooks.run_once()
        work.settle()
    (told,) = [ImagingStudyAnalyzed.model_validate_json(body) for _, body in subscriber.received]
    assert told.findings is not None
    assert told.findings.tags == ["caries:36"]
    assert told.findings.anomaly_location == ["36"]
    assert told.findings.recommended_actions == ["restore"]
    assert told.patient_id == practice.patient_id
