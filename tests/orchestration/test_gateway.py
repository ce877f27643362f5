"""The door to a language model: closed unless opened, nobody named in a prompt, limits kept."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.deidentify import HELD_OUT, TEMPLATES, measure
from node.config import GatewaySection
from node.db.agreements import NoAgreement
from node.db.session import Actor, begin, read
from node.db.tables import audit, model_exchange, partner_agreement
from node.errors import (
    ConfigError,
    Forbidden,
    InvalidInput,
    Rejected,
    Retryable,
    Unsupported,
)
from orchestration.deidentify import birth_date_words, strip
from orchestration.gateway import Gateway, ModelRefused

KNOWN = ("Marianne Q. Doe", "Doe", "Marianne", "W1234", *birth_date_words(date(1980, 1, 2)))


class Model(ThreadingHTTPServer):
    """A service that speaks chat completions and says what it is told to say."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.says = "Crown for [name-4] planned [date-1]."
        self.status = 200
        self.raw: bytes | None = None
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Model

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append({**json.loads(body), "path": self.path})
        answer = {
            "choices": [{"message": {"content": self.server.says}}],
            "usage": {"total_tokens": 120},
        }
        content = self.server.raw if self.server.raw is not None else json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served() -> Iterator[Model]:
    server = Model()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


@pytest.fixture
def model() -> Iterator[Model]:
    with served() as server:
        yield server


def opened(model: Model, db: sa.Engine, **values: object) -> Gateway:
    settings = {
        "base_url": model.url, "allowed_hosts": ("127.0.0.1",), "model": "m", "is_sandbox": True,
        **values,
    }  # fmt: skip
    return Gateway(GatewaySection.model_validate(settings), db, Actor("test", "main"))


def details(db: sa.Engine, action: str) -> list[dict[str, object]]:
    with read(db) as conn:
        rows = conn.execute(sa.select(audit.c.detail).where(audit.c.action == action))
        return list(rows.scalars())


def test_nothing_is_asked_unless_an_operator_opened_it(sqlite_database: sa.Engine) -> None:
    closed = Gateway(GatewaySection(), sqlite_database, Actor("test", "main"))
    assert not closed.is_on
    with pytest.raises(Unsupported, match="no language model"):
        closed.ask("narrative", "be brief", "text", ())
    for values in (
        {"base_url": "https://llm.example/v1", "model": "m"},
        {"base_url": "http://llm.example/v1", "model": "m", "allowed_hosts": ("llm.example",)},
        {"base_url": "https://llm.example/v1", "allowed_hosts": ("llm.example",)},
    ):
        with pytest.raises(ConfigError, match="gateway"):
            Gateway(GatewaySection.model_validate(values), sqlite_database, Actor("t", "main"))


def test_the_prompt_names_nobody_and_the_answer_does_again(
    model: Model, sqlite_database: sa.Engine
) -> None:
    gateway = opened(model, sqlite_database)
    text = (
        "DOE, Marianne (born 01/02/1980, member W1234, 503-555-0100, m@doe.example) needs a crown"
        " on #30, film of 2026-02-01, 40 % sound."
    )
    answer = gateway.ask("narrative", "Write one sentence.", text, KNOWN)
    assert answer.text == "Crown for DOE planned 2026-02-01."
    sent = json.dumps(model.asked)
    for word in ("Doe", "DOE", "Marianne", "1980", "W1234", "555-0100", "doe.example", "2026-02"):
        assert word not in sent, word
    assert "#30" in sent
    assert "40 %" in sent
    (asked,) = details(sqlite_database, "gateway.asked")
    (answered,) = details(sqlite_database, "gateway.answered")
    assert (asked["purpose"], asked["model"], answered["tokens"]) == ("narrative", "m", 120)
    with read(sqlite_database) as conn:
        kept = conn.execute(sa.select(model_exchange)).one()
    assert (kept.id, kept.state, kept.answer) == (answer.exchange_id, "answered", model.says)
    assert "Marianne" not in json.dumps([asked, answered, kept.prompt])
    assert "needs a crown on #30" in kept.prompt[1]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in
               ("\n".join(kept.prompt), kept.answer)]  # fmt: skip
    assert [asked["prompt"], answered["answer"]] == digests
    gateway.close()


def test_limits_are_kept(model: Model, sqlite_database: sa.Engine) -> None:
    gateway = opened(model, sqlite_database, requests_a_day=2, prompt_chars=300)
    model.says = "Fine."
    with pytest.raises(InvalidInput, match="prompt_chars"):
        gateway.ask("narrative", "x", "y" * 400, ())
    gateway.ask("narrative", "x", "y", ())
    gateway.ask("narrative", "x", "y", ())
    with pytest.raises(Rejected, match="limit"):
        gateway.ask("narrative", "x", "y", ())
    assert len(model.asked) == 2
    thrifty = opened(model, sqlite_database, tokens_a_day=240)
    with pytest.raises(Rejected, match="limit"):
        thrifty.ask("narrative", "x", "y", ())


def test_minutes_and_costs_are_limited_too(model: Model, sqlite_database: sa.Engine) -> None:
    model.says = "Fine."
    hasty = opened(model, sqlite_database, requests_a_minute=1)
    hasty.ask("narrative", "x", "y", ())
    with pytest.raises(Retryable, match="minute"):
        hasty.ask("narrative", "x", "y", ())
    costly = opened(model, sqlite_database, price_per_1000_tokens=5.0, cost_a_day=0.5)
    costly.ask("narrative", "x", "y", ())
    with pytest.raises(Rejected, match="cost_a_day"):
        costly.ask("narrative", "x", "y", ())
    assert len(model.asked) == 2


def test_only_listed_purposes_are_asked_for(model: Model, sqlite_database: sa.Engine) -> None:
    gateway = opened(model, sqlite_database, purposes=("recall",))
    with pytest.raises(Forbidden, match="narrative"):
        gateway.ask("narrative", "x", "y", ())
    assert model.asked == []


def test_a_model_without_an_agreement_is_not_asked(
    model: Model, sqlite_database: sa.Engine
) -> None:
    gateway = opened(model, sqlite_database, is_sandbox=False)
    with pytest.raises(NoAgreement, match="model"):
        gateway.ask("narrative", "x", "y", ())
    assert (model.asked, details(sqlite_database, "gateway.asked")) == ([], [])
    model.says = "Fine."
    with begin(sqlite_database, Actor("test", "main"), "test") as tx:
        today = datetime.now(UTC).date()
        tx.conn.execute(
            partner_agreement.insert().values(
                id="a" * 32, location_id="main", party="model", counterparty="Model Inc.",
                signed_by="A. Manager", signed_on=today, valid_until=today + timedelta(days=9),
                document_sha256="a" * 64, recorded_by="test", recorded_at=tx.now,
            )
        )  # fmt: skip
    assert gateway.ask("narrative", "x", "y", ()).text == "Fine."


@pytest.mark.parametrize(
    "said",
    [
        {"choices": [{"finish_reason": "content_filter", "message": {"content": "…"}}]},
        {"choices": [{"message": {"content": None, "refusal": "I cannot help with that."}}]},
    ],
)
def test_a_refusal_is_told_apart_and_kept(
    model: Model, sqlite_database: sa.Engine, said: dict[str, object]
) -> None:
    model.raw = json.dumps(said).encode()
    with pytest.raises(ModelRefused):
        opened(model, sqlite_database).ask("narrative", "x", "y", ())
    (refused,) = details(sqlite_database, "gateway.refused")
    assert refused["why"] == "ModelRefused"
    with read(sqlite_database) as conn:
        assert conn.execute(sa.select(model_exchange.c.state)).scalar_one() == "refused"


@pytest.mark.parametrize(
    ("templates", "is_blind", "least"),
    [
        (TEMPLATES, False, 0.999),
        (TEMPLATES, True, 0.995),
        (HELD_OUT, False, 0.995),
        (HELD_OUT, True, 0.985),
    ],
)
def test_identifiers_of_invented_notes_are_found(
    templates: tuple[str, ...], is_blind: bool, least: float
) -> None:
    result = measure(400, templates, is_blind=is_blind)
    assert result.recall() >= least
    assert result.too_much <= 0.05


@pytest.mark.parametrize(
    "words",
    [
        "D2740 crown on #30, tooth 46, MOD composite, probing 3-2-3 and 4-3-5, 2.5 mm loss.",
        "RCT #5, working length 21 mm, 2 carpules lidocaine 2 % with epinephrine 1:100,000.",
        "BWX taken. Class II caries 14 DO, 19 MO. Prognosis good. Recall six months.",
    ],
)
def test_what_a_dentist_writes_stays(words: str) -> None:
    assert strip(words, ()).text == words


def test_bad_answers_are_refused_by_family(model: Model, sqlite_database: sa.Engine) -> None:
    gateway = opened(model, sqlite_database)
    for status, family in ((500, Retryable), (429, Retryable), (401, ConfigError), (400, Rejected)):
        model.status = status
        with pytest.raises(family):
            gateway.ask("narrative", "x", "y", ())
    model.status = 200
    for raw in (b"", b"[]", b"{}", b'{"choices": [{"message": {"content": ""}}]}'):
        model.raw = raw
        with pytest.raises(Rejected):
            gateway.ask("narrative", "x", "y", ())
    model.raw = None
    model.says = "Ask [name-9]."
    with pytest.raises(Rejected, match="not told"):
        gateway.ask("narrative", "x", "y", ())


@given(st.text(max_size=80), st.lists(st.text(min_size=1, max_size=12), max_size=4))
def test_what_is_stripped_comes_back_whole(text: str, known: list[str]) -> None:
    stripped = strip(text, known)
    for value in known:
        if value.strip().isalpha() and value.isascii():
            words = stripped.text
            for placeholder in stripped.originals:
                words = words.replace(placeholder, " ")
            padded = f" {words} ".casefold()
            assert f" {value.strip().casefold()} " not in padded
    assert "[" in text or stripped.restore(stripped.text) == text
