"""The only door to a language model: off by default, one allowed service, no patient in a prompt.

What may be asked for is listed (`purposes`), and the service needs an agreement. Before a prompt
leaves, everything that says who somebody is goes out of it (`orchestration.deidentify`) and is put
back into the answer. Prompt (as sent) and answer (as received) are kept sealed; the audit keeps
their digests. An answer is only ever a draft: its caller judges it and a person approves it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import httpx2
import sqlalchemy as sa

from node.config import GatewaySection
from node.db.agreements import demand_party, model_party
from node.db.session import Actor, Tx, begin, new_id
from node.db.tables import model_exchange
from node.domain.destinations import PUBLIC_ONLY, Reach, check_destination
from node.errors import (
    BitewingError,
    ConfigError,
    Forbidden,
    InvalidInput,
    Rejected,
    Retryable,
    Unsupported,
)
from node.outgoing import open_client
from orchestration.deidentify import strip

_MAX_ANSWER_BYTES = 1_000_000
#: Rough count of characters a token, for the daily limit when the service does not count.
_CHARACTERS_A_TOKEN = 4
_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)


class ModelRefused(Rejected):
    """The model, or its provider's filter, declined to answer; the caller's own text stands."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A draft: what the model said, with the identifiers back in place.

    It counts for nothing until a person has read and approved it; `exchange_id` says where prompt
    and answer are kept.
    """

    text: str = field(repr=False)
    model: str
    tokens: int
    exchange_id: str


@dataclass(frozen=True, slots=True)
class _Used:
    """What was used of the model in some time."""

    requests: int
    tokens: int
    cost: float


class Gateway:
    """Asks one service; safe to use from several threads."""

    def __init__(
        self,
        settings: GatewaySection,
        db: sa.Engine,
        actor: Actor,
        reach: Reach = PUBLIC_ONLY,
    ) -> None:
        self._settings = settings
        self._db = db
        self._actor = actor
        self._client: httpx2.Client | None = None
        if settings.base_url:
            check_destination(settings.base_url, "gateway.base_url", settings.allowed_hosts)
            if not settings.model:
                raise ConfigError("gateway.base_url needs gateway.model")
            key = settings.api_key.get_secret_value()
            self._client = open_client(
                reach,
                headers={"authorization": f"Bearer {key}"} if key else {},
                timeout=httpx2.Timeout(settings.timeout_s, connect=10.0),
            )

    @property
    def is_on(self) -> bool:
        """Whether a service is configured at all."""
        return self._client is not None

    def close(self) -> None:
        """Close the pooled connections."""
        if self._client is not None:
            self._client.close()

    def ask(self, purpose: str, instructions: str, text: str, known: Sequence[str]) -> Answer:
        """Ask once for one of the listed purposes; `known` are the patient's identifying values.

        Raises
        ------
        Unsupported
            No language model is configured.
        Forbidden
            It may not be asked for this purpose.
        NoAgreement
            None is in force with its provider.
        InvalidInput
            The prompt is longer than allowed.
        ModelRefused
            It declines to answer.
        Rejected
            A limit of the day is used up, or the service answers nothing usable.
        Retryable
            The service is away or busy, or this minute's calls are used up.
        """
        if self._client is None:
            raise Unsupported("no language model is configured (gateway.base_url)")
        if purpose not in self._settings.purposes:
            raise Forbidden(f"the language model may not be asked for: {purpose}")
        stripped = strip(text, known)
        if len(instructions) + len(stripped.text) > self._settings.prompt_chars:
            raise InvalidInput("the prompt is longer than gateway.prompt_chars")
        prompt = [instructions, stripped.text]
        with begin(self._db, self._actor, "gateway.asked") as tx:
            self._demand(tx)
            exchange_id = self._keep_prompt(tx, purpose, prompt)
        try:
            content, tokens = self._complete(instructions, stripped.text)
            restored = stripped.restore(content).strip()
        except BitewingError as error:
            self._keep_failure(exchange_id, error)
            raise
        self._keep_answer(exchange_id, content, tokens)
        return Answer(restored, self._settings.model, tokens, exchange_id)

    def _demand(self, tx: Tx) -> None:
        """Refuse without an agreement, and once a limit is reached; asked under the write lock."""
        party = model_party(self._settings.base_url, self._settings.is_sandbox)
        demand_party(tx.conn, tx.location_id, party, tx.now.date())
        asked = self._used(tx, _MINUTE)
        if asked.requests >= self._settings.requests_a_minute:
            raise Retryable("this minute's calls of the language model are used up", 60.0)
        today, settings = self._used(tx, _DAY), self._settings
        if today.requests >= settings.requests_a_day or today.tokens >= settings.tokens_a_day:
            raise Rejected("the day's limit for the language model is used up")
        if settings.cost_a_day and today.cost >= settings.cost_a_day:
            raise Rejected("the day's costs of the language model are used up (gateway.cost_a_day)")

    def _used(self, tx: Tx, span: timedelta) -> _Used:
        mine = model_exchange.c.location_id == tx.location_id, model_exchange.c.at >= tx.now - span
        row = tx.conn.execute(
            sa.select(
                sa.func.count(),
                sa.func.coalesce(sa.func.sum(model_exchange.c.tokens), 0),
                sa.func.coalesce(sa.func.sum(model_exchange.c.cost), 0.0),
            ).where(*mine)
        ).one()
        return _Used(int(row[0]), int(row[1]), float(row[2]))

    def _keep_prompt(self, tx: Tx, purpose: str, prompt: list[str]) -> str:
        exchange_id = new_id()
        tx.conn.execute(
            model_exchange.insert().values(
                id=exchange_id,
                location_id=tx.location_id,
                purpose=purpose,
                model=self._settings.model,
                state="asked",
                prompt=prompt,
                at=tx.now,
            )
        )
        tx.record(
            f"exchange:{exchange_id}",
            purpose=purpose,
            model=self._settings.model,
            prompt=_digest("\n".join(prompt)),
        )
        return exchange_id

    def _keep_answer(self, exchange_id: str, content: str, tokens: int) -> None:
        cost = tokens * self._settings.price_per_1000_tokens / 1000
        with begin(self._db, self._actor, "gateway.answered") as tx:
            self._change(
                tx, exchange_id, state="answered", answer=content, tokens=tokens, cost=cost
            )
            tx.record(f"exchange:{exchange_id}", answer=_digest(content), tokens=tokens)

    def _keep_failure(self, exchange_id: str, error: BitewingError) -> None:
        state = "refused" if isinstance(error, Rejected) else "failed"
        with begin(self._db, self._actor, f"gateway.{state}") as tx:
            self._change(tx, exchange_id, state=state)
            tx.record(f"exchange:{exchange_id}", why=type(error).__name__)

    @staticmethod
    def _change(tx: Tx, exchange_id: str, **values: object) -> None:
        mine = model_exchange.c.id == exchange_id
        tx.conn.execute(model_exchange.update().where(mine).values(**values))

    def _complete(self, instructions: str, text: str) -> tuple[str, int]:
        assert self._client is not None
        body = {
            "model": self._settings.model,
            "messages": [
                {"role": "system", "content": instructions},
                {"role": "user", "content": text},
            ],
            "max_tokens": self._settings.answer_tokens,
            "temperature": 0,
        }
        url = self._settings.base_url.rstrip("/") + "/chat/completions"
        try:
            answer = self._client.post(url, json=body)
        except httpx2.RequestError as error:
            kind = type(error).__name__
            raise Retryable(f"the language model does not answer ({kind})", 30.0) from None
        if not answer.is_success:
            raise _failure(answer.status_code)
        return _content(answer, len(instructions) + len(text))


def _failure(status: int) -> BitewingError:
    if status in (401, 403, 404) or 300 <= status < 400:
        return ConfigError(f"the language model refuses our key or address ({status})")
    if status in (408, 425, 429) or status >= 500:
        return Retryable(f"the language model asks to wait ({status})", 30.0)
    return ModelRefused(f"the language model refuses the prompt ({status})")


def _content(answer: httpx2.Response, sent: int) -> tuple[str, int]:
    """Read the text and the tokens used; without a count they are estimated from the length."""
    if len(answer.content) > _MAX_ANSWER_BYTES:
        raise Rejected("the language model's answer is too large")
    try:
        said = answer.json()
        choice = said["choices"][0]
        content = choice["message"]["content"]
        if choice.get("finish_reason") == "content_filter" or choice["message"].get("refusal"):
            raise ModelRefused("the language model declines to answer")
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise Rejected("the language model's answer cannot be read") from None
    if not isinstance(content, str) or not content.strip():
        raise Rejected("the language model's answer is empty")
    usage = said.get("usage")
    count = usage.get("total_tokens") if isinstance(usage, dict) else None
    estimate = (sent + len(content)) // _CHARACTERS_A_TOKEN
    return content, count if isinstance(count, int) and count >= 0 else estimate


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
