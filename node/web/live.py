"""Live events: the event table, followed while somebody listens, sent as ids and numbers only."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from node.db.session import read
from node.db.tables import event, instance
from node.domain.rights import Right
from node.errors import BitewingError, Retryable, place_of
from node.web.accounts import Locked, Session
from node.web.auth import Web, require
from node.web.facts import Row
from node.web.shapes import LiveEvent

log = logging.getLogger(__name__)

POLL_S = 0.25
HEARTBEAT_S = 15.0
_LOOK_EVERY_S = 1.0  # how long somebody may go on who lost the right
_FOLLOWER = require(Right.WORKLIST_SEE)
MAX_STREAMS_PER_USER = 4
MAX_STREAMS = 200
_KEEP = timedelta(minutes=10)
_BACKLOG = 500
#: PostgreSQL numbers a row before it is committed, so a lower number may appear later.
_LOOK_BACK = 100
_ID = re.compile(r"[0-9a-f]{32}")

router = APIRouter(prefix="/api")


@dataclass(slots=True, eq=False)
class _Listener:
    """One open stream; `queue` holds what it has not been sent."""

    user_id: str
    queue: asyncio.Queue[LiveEvent] = field(default_factory=lambda: asyncio.Queue(_BACKLOG))


class Live:
    """Follows the event table four times a second while somebody listens, and not at all else."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._listeners: set[_Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._sent: deque[int] = deque(maxlen=4 * _LOOK_BACK)
        self._last = 0
        self._is_closing = False

    def join(self, user_id: str) -> _Listener:
        """Open a stream. Raises Retryable when there are too many."""
        mine = Counter(listener.user_id for listener in self._listeners)[user_id]
        if mine >= MAX_STREAMS_PER_USER or len(self._listeners) >= MAX_STREAMS:
            raise Retryable("Too many live connections are open; close another tab.", 10.0)
        listener = _Listener(user_id)
        self._listeners.add(listener)
        return listener

    async def start(self) -> None:
        """Begin to follow, unless that runs already."""
        async with self._starting:
            if self._task is None or self._task.done():
                self._last = await run_in_threadpool(self._last_seq)
                self._sent.clear()
                self._sent.extend(await run_in_threadpool(self._recent))
                self._task = asyncio.create_task(self._follow())

    def leave(self, listener: _Listener) -> None:
        """Close a stream."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream soon, so that the server can stop."""
        self._is_closing = True

    @property
    def is_closing(self) -> bool:
        """Whether the server is stopping."""
        return self._is_closing

    def since(self, seq: int) -> list[LiveEvent]:
        """Read what happened after event `seq`; a single ``resync`` when that is too much."""
        with read(self._web.db) as conn:
            rows = self._rows(conn, event.c.seq > seq, _BACKLOG + 1)
        too_old = bool(rows) and rows[0].at < datetime.now(UTC) - _KEEP
        if len(rows) > _BACKLOG or too_old:
            return [LiveEvent(seq=rows[-1].seq, kind="resync")]
        return [live_event(row) for row in rows]

    async def _follow(self) -> None:
        while self._listeners and not self._is_closing:
            try:
                found = await run_in_threadpool(self._new)
            except BitewingError as error:
                log.warning("live events: %s", error)
                found = []
            except sa.exc.SQLAlchemyError as error:
                log.warning("live events: %s at %s", type(error).__name__, place_of(error))
                found = []
            for news in found:
                for listener in self._listeners:
                    _offer(listener, news)
            await asyncio.sleep(POLL_S)

    def _new(self) -> list[LiveEvent]:
        with read(self._web.db) as conn:
            rows = self._rows(conn, event.c.seq > self._last - _LOOK_BACK, _BACKLOG)
        fresh = [row for row in rows if row.seq not in self._sent]
        self._sent.extend(row.seq for row in fresh)
        self._last = max([self._last, *(row.seq for row in fresh)])
        return [live_event(row) for row in fresh]

    def _rows(
        self, conn: sa.Connection, condition: sa.ColumnElement[bool], limit: int
    ) -> list[Row]:
        return list(
            conn.execute(
                sa.select(
                    event.c.seq,
                    event.c.kind,
                    event.c.subject,
                    event.c.data,
                    event.c.at,
                    instance.c.study_id,
                )
                .outerjoin(instance, instance.c.id == event.c.subject)
                .where(event.c.location_id == self._web.location_id, condition)
                .order_by(event.c.seq)
                .limit(limit)
            )
        )

    def _last_seq(self) -> int:
        query = sa.select(sa.func.max(event.c.seq)).where(
            event.c.location_id == self._web.location_id
        )
        with read(self._web.db) as conn:
            return int(conn.execute(query).scalar() or 0)

    def _recent(self) -> list[int]:
        with read(self._web.db) as conn:
            condition = event.c.seq > self._last - _LOOK_BACK
            return [row.seq for row in self._rows(conn, condition, _BACKLOG)]


def live_event(row: Row) -> LiveEvent:
    """Tell an event to the page: which study and image, and nothing of what is in it."""
    is_image = row.study_id is not None
    named = row.data.get("study_id") if isinstance(row.data, dict) else None
    study_id = row.study_id or named or (row.subject if row.kind.startswith("study.") else None)
    return LiveEvent(
        seq=row.seq,
        kind=row.kind,
        study_id=study_id if isinstance(study_id, str) and _ID.fullmatch(study_id) else None,
        image_id=row.subject if is_image else None,
    )


@router.get("/events")
async def events(
    request: Request,
    session: Annotated[Session, Depends(_FOLLOWER)],
    after: Annotated[int | None, Query(ge=0)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Follow what happens: one stream for each browser, heartbeat every 15 s."""
    live = request.app.state.live
    assert isinstance(live, Live)
    listener = live.join(session.user_id)
    start = int(last_event_id) if last_event_id and last_event_id.isdigit() else after
    try:
        await live.start()
        missed = await run_in_threadpool(live.since, start) if start is not None else []
    except BaseException:
        live.leave(listener)
        raise
    stream = _stream(request, live, listener, missed)
    return StreamingResponse(
        stream,
        media_type="text/event-stream",
        headers={"Cache-Control": "private, no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(
    request: Request, live: Live, listener: _Listener, missed: list[LiveEvent]
) -> AsyncIterator[str]:
    sent = {news.seq for news in missed}
    try:
        yield "retry: 2000\n: live\n\n"
        for news in missed:
            yield _message(news)
        looked_at = asyncio.get_running_loop().time()
        beat_at = looked_at + HEARTBEAT_S
        while not live.is_closing:
            try:
                news = await asyncio.wait_for(listener.queue.get(), 1.0)
            except TimeoutError:
                if asyncio.get_running_loop().time() < beat_at:
                    continue
                if not await run_in_threadpool(_may_follow, request):
                    return
                beat_at = asyncio.get_running_loop().time() + HEARTBEAT_S
                yield ": beat\n\n"
                continue
            if news.seq in sent:
                continue
            if asyncio.get_running_loop().time() - looked_at > _LOOK_EVERY_S:
                if not await run_in_threadpool(_may_follow, request):
                    return
                looked_at = asyncio.get_running_loop().time()
            yield _message(news)
    finally:
        live.leave(listener)


def _may_follow(request: Request) -> bool:
    """Whether the session is open and has the right still; behind a lock it may go on."""
    try:
        _FOLLOWER(request)
    except Locked:
        return True
    except BitewingError:
        return False
    return True


def _message(news: LiveEvent) -> str:
    data = json.dumps(news.model_dump(mode="json"), separators=(",", ":"))
    return f"id: {news.seq}\ndata: {data}\n\n"


def _offer(listener: _Listener, news: LiveEvent) -> None:
    """Queue an event; a listener that does not keep up is told to fetch everything again."""
    try:
        listener.queue.put_nowait(news)
    except asyncio.QueueFull:
        while not listener.queue.empty():
            listener.queue.get_nowait()
        listener.queue.put_nowait(LiveEvent(seq=news.seq, kind="resync"))
