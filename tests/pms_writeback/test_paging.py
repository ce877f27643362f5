"""A list whose rows move while it is read, a page at a time, loses nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from pms_writeback.opendental.connection import Connection, OpenDentalSettings
from pms_writeback.sandbox.server import SandboxHandle

EVERY_DAY = {"dateStart": "2000-01-01", "dateEnd": "2100-01-01"}


@pytest.fixture
def connection(office: SandboxHandle) -> Iterator[Connection]:
    settings = OpenDentalSettings(
        base_url=office.url,
        developer_key=office.developer_key,
        customer_key=office.customer_key,
        time_zone="America/New_York",
        page_size=4,
    )
    with closing(Connection(settings)) as opened:
        yield opened


def test_a_row_deleted_at_the_front_hides_none_behind_it(
    office: SandboxHandle, connection: Connection
) -> None:
    pages = connection.pages("/appointments", EVERY_DAY)
    first = [row.own_key("AptNum") for row in next(pages)]
    office.delete_appointment(int(first[1]))
    seen = {*first, *(row.own_key("AptNum") for page in pages for row in page)}
    alive = {str(row["AptNum"]) for row in office.rows("appointments")}
    assert first[1] not in alive
    assert alive <= seen


def test_every_row_of_a_list_that_holds_still_comes_once(
    office: SandboxHandle, connection: Connection
) -> None:
    for size in (1, 2, 3, 4, 20, 40):
        settings = OpenDentalSettings(
            base_url=office.url,
            developer_key=office.developer_key,
            customer_key=office.customer_key,
            time_zone="America/New_York",
            page_size=size,
        )
        with closing(Connection(settings)) as paging:
            keys = [row.own_key("PatNum") for row in paging.rows("/patients/Simple")]
        assert len(keys) == len(set(keys)) == 40


def test_a_list_that_never_holds_still_is_read_as_it_comes(
    office: SandboxHandle, connection: Connection
) -> None:
    pages = connection.pages("/patients/Simple")
    seen: set[str] = set()
    for number, page in enumerate(pages):
        seen |= {row.own_key("PatNum") for row in page}
        if number % 2 == 0 and number < 20:
            office.add("patients", LName="Aa", FName=f"New {number}")
    assert len(seen) >= 40
