"""Whatever is sent to the sandbox PMS, it answers as an office would, and never with a bug."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pms_writeback.sandbox.app import CUSTOMER_KEY, DEVELOPER_KEY
from pms_writeback.sandbox.catalog import Operation, operations, parse_version
from pms_writeback.sandbox.seed import seed
from pms_writeback.sandbox.service import Office, Request, Service
from pms_writeback.sandbox.store import ServerClock, Store
from pms_writeback.sandbox.wire import Answer

HEADERS = {
    "authorization": f"ODFHIR {DEVELOPER_KEY}/{CUSTOMER_KEY}",
    "content-type": "application/json",
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 200),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["2026-06-10", "2026-06-10 09:00:00", "0001-01-01", "30", "D0274", "TP", "C", "/XX/"]
    ),
    st.sampled_from(["Patient", "true", "ImageCats", "UR", "MO", ".pdf", "QUJD", "\ud800", "\0"]),
    st.lists(st.integers(0, 5), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    path: Path = tmp_path_factory.mktemp("sandbox") / "pms.sqlite"
    store = Store(path, ServerClock("America/New_York"))
    seed(store)
    yield Service(store, Office(DEVELOPER_KEY, CUSTOMER_KEY, parse_version("25.3.36")))
    store.close()


@st.composite
def requests(draw: st.DrawFn) -> tuple[Operation, Request]:
    operation = draw(st.sampled_from(operations()))
    key = draw(st.integers(0, 60))
    path = operation.path.replace("{id}", str(key))
    names = [each.name for each in operation.parameters] + ["Limit", "Offset", "NoSuchField"]
    given_values = draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=8))
    for each in operation.parameters:
        if each.need != "optional":
            given_values.setdefault(each.name, draw(VALUES))
    query = {name: str(value) for name, value in given_values.items()}
    body = b"" if operation.method == "GET" else json.dumps(given_values).encode()
    return operation, Request(operation.method, path, query, HEADERS, body)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def test_every_input_is_answered(service, case):
    operation, request = case
    answer: Answer = service.answer(request)
    # A query that is not read-only is answered 401, as the manual says.
    refusals = (400, 401, 404) if operation.resource == "queries" else (400, 404)
    assert answer.status in (200, 201, *refusals), (operation.name, answer)
    json.dumps(answer.body)
    if answer.status >= 400:
        assert isinstance(answer.body, str)
        assert answer.body
    elif operation.row and operation.method != "GET":
        assert isinstance(answer.body, dict)
        assert list(answer.body) == list(operation.row)


def test_a_list_where_one_word_is_asked_for_is_refused(service):
    body = json.dumps({"VerifyType": [], "FKey": 0}).encode()
    answer = service.answer(Request("PUT", "/insverifies", {}, HEADERS, body))
    assert (answer.status, answer.body) == (400, "VerifyType is invalid.")


@pytest.mark.parametrize("offset", ["9" * 30, "-1", "²", "one"])
def test_an_offset_that_is_no_count_is_refused(service, offset):
    answer = service.answer(Request("GET", "/patients", {"Offset": offset}, HEADERS, b""))
    assert (answer.status, answer.body) == (400, "Offset is invalid.")
