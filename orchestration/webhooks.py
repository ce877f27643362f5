"""Webhooks in: one door, a source each; verified, kept under the delivery id, answered at once.

Whatever a partner sends becomes signals of cases in one transaction, before 202 is answered. The
same delivery again is 202 too and has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from node.db.session import Actor, begin, insert_once, new_id
from node.db.tables import webhook_delivery
from node.domain.rights import Open
from node.errors import BitewingError, Forbidden, outcome
from orchestration import cases
from orchestration.runner import Runner
from orchestration.workflow import Signal

_MAX_BODY = 2 << 20


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one webhook says: under the sender's id, signals for cases of named workflows."""

    delivery_id: str
    signals: Sequence[tuple[str, Signal]]


class Source(Protocol):
    """A partner that calls us."""

    def read(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Delivery:
        """Verify and read one call; header names are lower case.

        Raises
        ------
        Forbidden
            The signature is wrong, or too old.
        InvalidInput
            It is signed and cannot be understood.
        """
        ...


def make_router(runner: Runner, sources: Mapping[str, Source]) -> APIRouter:
    """Make the route ``POST /hooks/{source}`` for the sources that are configured."""
    router = APIRouter(dependencies=[Depends(Open("the partner's signature"))])

    @router.post("/hooks/{name}", include_in_schema=False)
    async def take(name: str, request: Request) -> Response:
        source = sources.get(name)
        if source is None:
            return Response(status_code=404)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > _MAX_BODY:
                return Response(status_code=413)
        headers = {key.lower(): value for key, value in request.headers.items()}
        try:
            await run_in_threadpool(_receive, runner, name, source, headers, bytes(body))
        except Forbidden:
            return Response(status_code=401)
        except BitewingError as error:
            return Response(status_code=outcome(error).http_status)
        return Response(status_code=202)

    return router


def _receive(
    runner: Runner, name: str, source: Source, headers: Mapping[str, str], body: bytes
) -> None:
    delivery = source.read(headers, body, runner.clock())
    actor = Actor(f"webhook:{name}", runner.actor.location_id)
    with begin(runner.db, actor, "webhook.received") as tx:
        values: dict[str, object] = {
            "id": new_id(),
            "location_id": tx.location_id,
            "source": name,
            "delivery_id": delivery.delivery_id[:128],
            "digest": sha256(body).hexdigest(),
            "at": tx.now,
        }
        tx.record(f"webhook:{name}", delivery=delivery.delivery_id[:128])
        if not insert_once(tx.conn, webhook_delivery, values):
            return
        for workflow, signal in delivery.signals:
            if workflow in runner.workflows:
                cases.send(tx, runner.engine, runner.workflows[workflow], signal)
