"""Open Dental's events: subscribing to them, and the door they come in by.

An event is unsigned and may come twice, late or never: it is only taken as a hint to look again.
The sender proves itself with the office's customer key, compared in constant time.
"""

from __future__ import annotations

import hmac

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request, Response

from node.config import Config
from node.domain.rights import Open
from pms_writeback.hints import leave_hint
from pms_writeback.opendental.connection import Connection
from pms_writeback.opendental.wire import number

PATH = "/pms/open-dental/events"
WATCHED = ("Appointment", "AppointmentDeleted", "Patient", "Operatory", "Provider", "Schedule")
"""Tables whose changes touch the worklist."""

_NOTE = "Bitewing imaging node"
#: The vendor sends at most 1,000 rows at once.
_MAX_BODY = 8_000_000


def make_router(config: Config, db: sa.Engine) -> APIRouter:
    """Make the route that takes events of this location's office."""
    router = APIRouter(dependencies=[Depends(Open("the office's customer key"))])
    expected = config.pms.customer_key.get_secret_value().encode()

    @router.post(PATH, include_in_schema=False)
    async def take(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if not expected or not hmac.compare_digest(given, expected):
            return Response(status_code=401)
        size = 0
        async for part in request.stream():  # read to its end, never kept
            size += len(part)
            if size > _MAX_BODY:
                return Response(status_code=413)
        source = request.headers.get("event-type", "")
        table = source.rpartition(":")[2].strip()
        leave_hint(db, config.node.location_id, table if table in WATCHED else "event")
        return Response(status_code=200)

    return router


def subscribe(connection: Connection, url: str, workstation: str, polling_s: int) -> int:
    """Make sure that each watched table is subscribed to once, to `url`; returns how many changed.

    A blank workstation would let every running instance fire, so one is named.
    """
    ours = {
        row.text("WatchTable"): row
        for row in connection.rows("/subscriptions")
        if row.text("Note") == _NOTE
    }
    changed = 0
    for table in WATCHED:
        wanted: dict[str, str | int | list[int]] = {
            "EndPointUrl": url,
            "Workstation": workstation,
            "PollingSeconds": polling_s,
        }
        row = ours.get(table)
        if row is None:
            connection.write(
                "POST", "/subscriptions", {**wanted, "WatchTable": table, "Note": _NOTE}
            )
        elif any(row.text(name) != str(value) for name, value in wanted.items()):
            key = number(row.own_key("SubscriptionNum"))
            connection.write("PUT", f"/subscriptions/{key}", wanted)
        else:
            continue
        changed += 1
    return changed
