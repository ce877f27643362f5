"""The practice's earlier lab cases, read from the rows of the workflow: one entry a round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import cast
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from node.db.tables import workflow_case
from node.errors import InvalidInput
from orchestration.labs.prescription import rx_from_json
from orchestration.labs.source import LAB_CASE
from orchestration.labs.states import LabState
from orchestration.labs.statistics import ClosedCase

_MOST = 5_000


def closed_cases(conn: sa.Connection, location_id: str, zone: ZoneInfo) -> list[ClosedCase]:
    """Read the rounds of the latest cases that came back from their laboratory.

    Days are those of the practice's `zone`.
    """
    rows = conn.execute(
        sa.select(workflow_case.c.data)
        .where(
            workflow_case.c.location_id == location_id,
            workflow_case.c.workflow == LAB_CASE,
        )
        .order_by(workflow_case.c.created_at.desc())
        .limit(_MOST)
    ).scalars()
    return [case for data in rows for case in _rounds(data, zone)]


def _rounds(data: Mapping[str, object], zone: ZoneInfo) -> Iterator[ClosedCase]:
    try:
        rx = rx_from_json(data["rx"])
    except (KeyError, InvalidInput):  # nothing was prescribed yet, or by another release
        return
    moments = cast("Mapping[str, str]", data.get("moments", {}))
    remade = cast("list[Mapping[str, str]]", data.get("remade", []))
    invoice = cast("Mapping[str, str]", data.get("invoice", {}))
    reasons = {int(str(each["round"])): each["reason"] for each in remade}
    last = int(str(data.get("round", 0)))
    for number in range(last + 1):
        sent = _day(moments, number, LabState.SENT, zone)
        received = _day(moments, number, LabState.RECEIVED, zone)
        if sent is None or received is None:
            continue
        is_last = number == last
        yield ClosedCase(
            lab=rx.lab.key,
            restoration=rx.restoration,
            material=rx.material,
            sent_on=sent,
            received_on=received,
            due_on=rx.due_at.astimezone(zone).date() if is_last and rx.due_at else None,
            is_remade=number in reasons,
            remake_reason=reasons.get(number, ""),
            cost=Decimal(invoice["amount"]) if is_last and invoice.get("amount") else None,
        )


def _day(moments: Mapping[str, str], number: int, state: LabState, zone: ZoneInfo) -> date | None:
    text = moments.get(f"{number}:{state.value}")
    return datetime.fromisoformat(text).astimezone(zone).date() if text else None
