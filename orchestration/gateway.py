"""The only door to a language model: off by default, one allowed service, no patient in a prompt.

Before a prompt leaves, the values that identify the patient are taken out, then whatever has the
form of an identifier; each is replaced by a placeholder that is put back into the answer. Prompt
(as sent) and answer (as received) are kept in the audit. An answer is only ever a draft: its caller
judges it and a person approves it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import httpx2
import sqlalchemy as sa

from node.config import GatewaySection
from node.db.session import Actor, begin, read
from node.db.tables import audit
from node.domain.destinations import PUBLIC_ONLY, Reach, check_destination
from node.errors import BitewingError, ConfigError, InvalidInput, Rejected, Retryable, Unsupported
from node.outgoing import open_client

_ASKED, _ANSWERED = "gateway.asked", "gateway.answered"
_MAX_ANSWER_BYTES = 1_000_000
#: Rough count of characters a token, for the daily limit when the service does not count.
_CHARACTERS_A_TOKEN = 4
_Patterns = tuple[tuple[str, re.Pattern[str]], ...]
_ADDRESSES: _Patterns = (
    ("email", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    ("link", re.compile(r"https?://\S+")),
)
_NUMBERS: _Patterns = (
    ("number", re.compile(r"\b\d{3}-\d{2}-\d{4}\b")),
    ("date", re.compile(r"\b(?:\d{4}-\d{2}-\d{2}|\d{1,2}[/.]\d{1,2}[/.]\d{2,4})\b")),
    ("phone", re.compile(r"(?:\+?1[\s.-]?)?\(?\b\d{3}\)?[\s.-]\d{3}[\s.-]\d{4}\b")),
    ("number", re.compile(r"\b(?=[A-Z0-9-]*\d)[A-Z]{1,4}-?\d{5,}\b|\b\d{6,}\b")),
)
_PLACEHOLDER = re.compile(r"\[(?:name|email|link|number|date|phone)-\d+\]")


@dataclass(frozen=True, slots=True)
class Stripped:
    """A text without identifiers, and what its placeholders stand for."""

    text: str
    originals: dict[str, str] = field(repr=False)

    def restore(self, answer: str) -> str:
        """Put the originals back into an answer.

        Raises Rejected when it holds a placeholder that was never given.
        """
        unknown = set(_PLACEHOLDER.findall(answer)) - set(self.originals)
        if unknown:
            raise Rejected("the language model's answer names something it was not told")
        return _PLACEHOLDER.sub(lambda found: self.originals[found.group()], answer)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, with the identifiers back in place."""

    text: str = field(repr=False)
    model: str
    tokens: int


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
        """Ask once; `known` are the patient's identifying values, `purpose` a word for the audit.

        Raises
        ------
        Unsupported
            No language model is configured.
        InvalidInput
            The prompt is longer than allowed.
        Rejected
            The day's limit is used up, or the service refuses or answers nothing usable.
        Retryable
            The service is away or busy.
        """
        if self._client is None:
            raise Unsupported("no language model is configured (gateway.base_url)")
        stripped = strip(text, known)
        if len(instructions) + len(stripped.text) > self._settings.prompt_chars:
            raise InvalidInput("the prompt is longer than gateway.prompt_chars")
        self._demand_budget()
        with begin(self._db, self._actor, _ASKED) as tx:
            tx.record(purpose, model=self._settings.model, prompt=[instructions, stripped.text])
        content, tokens = self._complete(instructions, stripped.text)
        with begin(self._db, self._actor, _ANSWERED) as tx:
            tx.record(purpose, model=self._settings.model, answer=content, tokens=tokens)
        return Answer(stripped.restore(content).strip(), self._settings.model, tokens)

    def _demand_budget(self) -> None:
        since = datetime.now(UTC) - timedelta(days=1)
        mine = audit.c.location_id == self._actor.location_id, audit.c.at >= since
        with read(self._db) as conn:
            asked = conn.execute(
                sa.select(sa.func.count()).where(*mine, audit.c.action == _ASKED)
            ).scalar_one()
            details = conn.execute(
                sa.select(audit.c.detail).where(*mine, audit.c.action == _ANSWERED)
            ).scalars()
            tokens = sum(int(detail.get("tokens", 0)) for detail in details)
        if asked >= self._settings.requests_a_day or tokens >= self._settings.tokens_a_day:
            raise Rejected("the day's limit for the language model is used up")

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


def strip(text: str, known: Sequence[str]) -> Stripped:
    """Take out addresses, the known values as whole words in any case, then numbers and dates."""
    originals: dict[str, str] = {}
    names: dict[str, str] = {}

    def hide(kind: str, value: str) -> str:
        key = f"{kind} {value.casefold()}"
        if key not in names:
            count = sum(1 for each in names if each.startswith(f"{kind} ")) + 1
            names[key] = f"[{kind}-{count}]"
            originals[names[key]] = value
        return names[key]

    def hide_all(kind: str, pattern: re.Pattern[str], words: str) -> str:
        """Hide every match outside the placeholders that stand already."""
        kept = [*_PLACEHOLDER.findall(words), ""]
        parts = _PLACEHOLDER.split(words)
        hidden = (pattern.sub(lambda found: hide(kind, found.group()), part) for part in parts)
        return "".join(part + mark for part, mark in zip(hidden, kept, strict=True))

    # What already looks like a placeholder must not be taken for one of ours afterwards.
    text = _PLACEHOLDER.sub(lambda found: f"({found.group()[1:-1]})", text)
    for kind, pattern in _ADDRESSES:
        text = hide_all(kind, pattern, text)
    for value in sorted({each.strip() for each in known if each.strip()}, key=len, reverse=True):
        whole = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE)
        text = hide_all("name", whole, text)
    for kind, pattern in _NUMBERS:
        text = hide_all(kind, pattern, text)
    return Stripped(text, originals)


def birth_date_words(day: date) -> tuple[str, ...]:
    """Give the usual spellings of a date of birth, to be taken out of a prompt."""
    return (
        day.isoformat(), f"{day:%m/%d/%Y}", f"{day.month}/{day.day}/{day.year}", f"{day:%Y%m%d}",
        f"{day:%B} {day.day}, {day.year}", f"{day:%b} {day.day}, {day.year}",
    )  # fmt: skip


def _failure(status: int) -> BitewingError:
    if status in (401, 403, 404) or 300 <= status < 400:
        return ConfigError(f"the language model refuses our key or address ({status})")
    if status in (408, 425, 429) or status >= 500:
        return Retryable(f"the language model asks to wait ({status})", 30.0)
    return Rejected(f"the language model refuses the prompt ({status})")


def _content(answer: httpx2.Response, sent: int) -> tuple[str, int]:
    """Read the text and the tokens used; without a count they are estimated from the length."""
    if len(answer.content) > _MAX_ANSWER_BYTES:
        raise Rejected("the language model's answer is too large")
    try:
        said = answer.json()
        content = said["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise Rejected("the language model's answer cannot be read") from None
    if not isinstance(content, str) or not content.strip():
        raise Rejected("the language model's answer is empty")
    usage = said.get("usage")
    count = usage.get("total_tokens") if isinstance(usage, dict) else None
    estimate = (sent + len(content)) // _CHARACTERS_A_TOKEN
    return content, count if isinstance(count, int) and count >= 0 else estimate
