"""The sandbox's events: what the vendor's service does for its subscriptions.

Every ``PollingSeconds`` the rows of the watched table that changed since ``DateTimeStart`` are
posted as a JSON array, at most 1,000 at once, and ``DateTimeStart`` moves when all were taken.
After an outage the next success carries up to three days. A blank workstation sends everything
twice, as two running instances would.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import httpx2

from pms_writeback.sandbox.catalog import match
from pms_writeback.sandbox.store import Chart, Row, Store, stamp
from pms_writeback.sandbox.tables import TABLES
from pms_writeback.sandbox.twins import show
from pms_writeback.sandbox.wire import Shaped

log = logging.getLogger(__name__)

_LOOK_S = 0.25
_BATCH = 1000
_REPLAY = timedelta(days=3)
_TABLES = {
    "Appointment": "appointments",
    "Patient": "patients",
    "Operatory": "operatories",
    "Provider": "providers",
    "Schedule": "schedules",
    "ToothInitial": "toothinitials",
    "PatField": "patfields",
}
_STAMPS = ("DateTStamp", "SecDateTEdit")


class Events:
    """Polls for one practice; `poll` may be called at any time."""

    def __init__(self, store: Store, customer_key: str) -> None:
        self._store = store
        self._key = customer_key
        self._client = httpx2.Client(timeout=5.0, trust_env=False)

    def close(self) -> None:
        """Close the pooled connections."""
        self._client.close()

    def poll(self) -> None:
        """Send what is due for every subscription."""
        with self._store.begin() as chart:
            due = [row for row in chart.select("subscriptions") if _is_due(chart, row)]
        for subscription in due:
            self._serve(subscription)

    def _serve(self, subscription: Row) -> None:
        with self._store.begin() as chart:
            now = chart.stamp
            rows = _changed(chart, subscription)
        twice = 2 if not str(subscription["Workstation"]) else 1
        for start in range(0, len(rows), _BATCH):
            for _ in range(twice):
                if not self._post(subscription, rows[start : start + _BATCH]):
                    return  # DateTimeStart stays: the next success carries it
        with self._store.begin() as chart:
            key = int(subscription["SubscriptionNum"])
            chart.change("subscriptions", key, {"DateTimeStart": now})

    def _post(self, subscription: Row, rows: list[Shaped]) -> bool:
        headers = {
            "Authorization": self._key,
            "Workstation": str(subscription["Workstation"]),
            "Event-Type": f"WatchTable: {subscription['WatchTable']}",
        }
        try:
            answer = self._client.post(str(subscription["EndPointUrl"]), json=rows, headers=headers)
        except httpx2.HTTPError as error:
            log.info("an event could not be delivered (%s)", type(error).__name__)
            return False
        return answer.is_success


def _is_due(chart: Chart, row: Row) -> bool:
    started = str(row["DateTimeStart"])
    if started.startswith("0001"):
        return True
    every = timedelta(seconds=max(1, int(row["PollingSeconds"])))
    return chart.now - datetime.fromisoformat(started) >= every


def _changed(chart: Chart, subscription: Row) -> list[Shaped]:
    """Read what changed since the subscription's start, three days back at most."""
    started = str(subscription["DateTimeStart"])
    since = chart.stamp if started.startswith("0001") else started
    since = max(since, stamp(chart.now - _REPLAY))
    if subscription["WatchTable"] == "AppointmentDeleted":
        columns = TABLES["histappointments"].c
        rows = chart.select(
            "histappointments",
            columns.HistApptAction == "Deleted",
            columns.HistDateTStamp >= since,
        )
        return [{"AptNum": int(row["AptNum"])} for row in rows]
    resource = _TABLES[str(subscription["WatchTable"])]
    found = match("GET", f"/{resource}")
    name = next((each for each in _STAMPS if each in TABLES[resource].c), None)
    if name is None or found is None:
        return []
    rows = chart.select(resource, TABLES[resource].c[name] >= since)
    return [show(chart, found.operation, row) for row in rows]


@contextmanager
def polling(store: Store, customer_key: str) -> Iterator[None]:
    """Poll from a thread while the block runs."""
    stop = threading.Event()
    events = Events(store, customer_key)

    def loop() -> None:
        while not stop.wait(_LOOK_S):
            events.poll()

    thread = threading.Thread(target=loop, name="sandbox-events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
        events.close()
