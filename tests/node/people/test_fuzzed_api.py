"""Requests made from our own OpenAPI schema, fitting it and not, from strangers and from people."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.core import NOT_SET

from node.domain.rights import Role

#: Streams do not end by themselves.
_ENDLESS = ("/api/events",)
_WHO = ["stranger", Role.DENTIST.value, Role.ADMIN.value]


def _operations(app) -> Iterator:
    schema = schemathesis.openapi.from_dict(app.openapi())
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path not in _ENDLESS:
            yield operation


def _ask(caller, case):
    """Send a generated request as it is, JSON or not."""
    body = {} if case.body is NOT_SET else {"json": case.body}
    if isinstance(case.body, bytes | str):
        body = {"content": case.body}
    try:
        path, query = case.formatted_path, _sendable(case.query)
        headers = {**caller.headers, **_sendable(case.headers)}
        return caller.http.request(
            case.method, path, params=query, headers=headers, follow_redirects=False, **body
        )
    except (UnicodeEncodeError, ValueError):  # no client could send it
        return None


def _sendable(values) -> dict[str, str]:
    return {str(name): value for name, value in dict(values or {}).items()}


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("who", _WHO)
def test_no_request_breaks_the_server_or_gets_more_than_an_answer(house, who, mode, caplog):
    caplog.set_level(logging.ERROR)
    caller = house.stranger() if who == "stranger" else house.person(who)
    count = 0
    for operation in _operations(house.app):

        @settings(
            max_examples=3,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            deadline=None,
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            nonlocal count
            answer = _ask(caller, case)
            if answer is None:
                return
            count += 1
            where = f"{case.method} {case.operation.path}"
            assert answer.status_code < 500 or answer.status_code == 503, (where, answer.text)
            assert answer.headers["x-content-type-options"] == "nosniff", where
            if answer.status_code >= 400 and "json" in answer.headers.get("content-type", ""):
                assert set(json.loads(answer.text)) >= {"title"}, where
            assert "Traceback" not in answer.text

        try:
            ask()
        except schemathesis.errors.InvalidSchema:
            continue
        except Exception as error:
            if type(error).__name__ in ("Unsatisfiable", "SkipTest"):
                continue  # nothing can fail to fit an operation without parameters
            raise
    assert count > 50
    assert [each.getMessage() for each in caplog.records if "a bug" in each.getMessage()] == []
