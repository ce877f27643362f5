"""Words of laboratories move a case forward only; dates and tracking count by their time."""

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import Forbidden, InvalidInput
from orchestration.labs.callbacks import read_callback, update_to_json
from orchestration.labs.partner import LabUpdate
from orchestration.labs.states import PATIENT_WORDS, LabState, Standing, Step, hear, may_follow
from orchestration.signatures import sign

NOW = datetime(2026, 11, 2, 15, tzinfo=UTC)
SENT = Standing(LabState.SENT, NOW)


def told(status: str, hours: float = 0, **news: object) -> LabUpdate:
    at = NOW + timedelta(hours=hours)
    return LabUpdate(f"d-{status}-{hours}", "BW-1001", status, at, **news)  # type: ignore[arg-type]


def test_the_usual_way_is_walked_step_by_step() -> None:
    standing = SENT
    for hours, status in enumerate(("acknowledged", "in_production", "shipped"), start=1):
        standing, step = hear(standing, told(status, hours))
        assert step is Step.APPLIED
        assert standing.state.value == status


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_order_of_telling_ends_in_the_same_state(order: tuple[int, ...]) -> None:
    words = [
        told("acknowledged", 1),
        told("in_production", 2, eta=NOW + timedelta(days=9)),
        told("shipped", 3, tracking="1Z", eta=NOW + timedelta(days=7)),
    ]
    standing = SENT
    for index in order:
        standing, step = hear(standing, words[index])
        assert step in (Step.APPLIED, Step.LATE)
    assert standing.state is LabState.SHIPPED
    assert standing.tracking == "1Z"
    assert standing.eta == NOW + timedelta(days=7)


def test_telling_twice_changes_nothing() -> None:
    once, _ = hear(SENT, told("shipped", 3, tracking="1Z", note="boxed"))
    twice, step = hear(once, told("shipped", 3, tracking="1Z", note="boxed"))
    assert step is Step.REPEATED
    assert twice == once


def test_a_newer_word_backwards_is_for_a_person() -> None:
    shipped, _ = hear(SENT, told("shipped", 3))
    same, step = hear(shipped, told("in_production", 9))
    assert step is Step.BACKWARDS
    assert same.state is LabState.SHIPPED


@pytest.mark.parametrize("status", ["received", "quality_checked", "seated", "remake", "draft"])
def test_a_laboratory_cannot_say_what_happens_here(status: str) -> None:
    assert hear(SENT, told(status, 1)) == (SENT, Step.REFUSED)


def test_nothing_follows_the_end() -> None:
    for state in (LabState.SEATED, LabState.REMAKE, LabState.CANCELLED):
        ended = Standing(state, NOW)
        assert hear(ended, told("shipped", 5)) == (ended, Step.REFUSED)
        assert not any(may_follow(state, following) for following in LabState)


def test_a_word_without_a_status_may_bring_a_date() -> None:
    standing, step = hear(SENT, told("", 1, eta=NOW + timedelta(days=8)))
    assert step is Step.REPEATED
    assert standing.eta == NOW + timedelta(days=8)
    stale, _ = hear(standing, told("", 0, eta=NOW + timedelta(days=3)))
    assert stale.eta == NOW + timedelta(days=8)


def test_work_is_made_again_only_once_it_is_here() -> None:
    assert not may_follow(LabState.SHIPPED, LabState.REMAKE)
    assert not may_follow(LabState.RECEIVED, LabState.SEATED)
    for state in (LabState.RECEIVED, LabState.CHECKED):
        assert may_follow(state, LabState.REMAKE)


def test_patients_hear_nothing_clinical() -> None:
    for words in PATIENT_WORDS.values():
        for clinical in ("crown", "bridge", "denture", "tooth", "implant", "remake"):
            assert clinical not in words.lower()


@given(st.lists(st.sampled_from([s.value for s in LabState] + ["", "unheard of"]), max_size=12))
def test_a_case_never_goes_back_by_itself(words: list[str]) -> None:
    standing = SENT
    order = list(LabState)
    for hours, word in enumerate(words):
        before = standing.state
        standing, _ = hear(standing, told(word, hours))
        assert order.index(standing.state) >= order.index(before)


# --- calls back ---

BODY = json.dumps(update_to_json(told("shipped", 1, tracking="1Z", eta=NOW))).encode()


def test_a_signed_call_is_read() -> None:
    update = read_callback("s3cret", BODY, sign("s3cret", BODY, NOW), NOW)
    assert update == told("shipped", 1, tracking="1Z", eta=NOW)


@pytest.mark.parametrize(
    ("secret", "at", "body"),
    [("other", NOW, BODY), ("s3cret", NOW - timedelta(minutes=11), BODY), ("s3cret", NOW, b"{}")],
)
def test_a_call_signed_wrongly_or_long_ago_is_refused(
    secret: str, at: datetime, body: bytes
) -> None:
    with pytest.raises(Forbidden):
        read_callback("s3cret", body, sign(secret, BODY, at), NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": 7},
        {"case": "../x"},
        {"at": ""},
        {"at": "yesterday"},
        {"at": "2026-11-02T10:00:00"},
        {"eta": "2026-11-02"},
        {"note": "x" * 501},
        {"note": "a\x00b"},
    ],
)
def test_a_call_that_says_nothing_sensible_is_refused(change: dict[str, object]) -> None:
    body = json.dumps({**json.loads(BODY), **change}).encode()
    with pytest.raises(InvalidInput):
        read_callback("s", body, sign("s", body, NOW), NOW)


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"[" * 50_000, b"x" * 70_000])
def test_what_is_no_call_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_callback("s", body, sign("s", body, NOW), NOW)
