"""The pace of requests and the length of bodies."""

from __future__ import annotations

import pytest

from node.web.limits import BODY_BYTES, STOW_BYTES, Pace, TooMany, body_limit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_evenly():
    clock = Clock()
    pace = Pace(60, "too many", clock)
    for _ in range(60):
        pace.take("a")
    with pytest.raises(TooMany) as refused:
        pace.take("a")
    assert refused.value.retry_after_s == 1.0
    pace.take("b")  # somebody else has a bucket of their own
    clock.now += 2.0
    pace.take("a")
    pace.take("a")
    with pytest.raises(TooMany):
        pace.take("a")


def test_a_full_bucket_does_not_overflow():
    clock = Clock()
    pace = Pace(3, "too many", clock)
    clock.now += 3600
    for _ in range(3):
        pace.take("a")
    with pytest.raises(TooMany):
        pace.take("a")


def test_no_limit_and_many_keys():
    none = Pace(0, "")
    for _ in range(1000):
        none.take("a")
    few = Pace(1, "", Clock(), most_keys=10)
    for number in range(1000):
        few.take(str(number))
    assert len(few._buckets) == 10


def test_only_images_may_be_large():
    assert body_limit("/dicomweb/studies") == STOW_BYTES
    assert body_limit("/api/studies/x/ops") == BODY_BYTES
    assert body_limit("/api/login") < 10_000
