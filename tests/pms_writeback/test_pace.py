"""The token bucket of one key, on a clock of the test's own."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pms_writeback.pace import TokenBucket
from pms_writeback.pms import OfficeAway


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.lock = threading.Lock()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds


def bucket(interval_s: float, burst: int = 1) -> tuple[TokenBucket, Time]:
    time = Time()
    return TokenBucket(interval_s, burst, time.clock, time.sleep), time


@given(
    rests=st.lists(st.floats(0, 20), max_size=40),
    interval_s=st.sampled_from([0.5, 1.0, 5.0]),
    burst=st.integers(1, 5),
)
def test_no_window_ever_holds_more_than_the_throttle_allows(rests, interval_s, burst):
    pace, time = bucket(interval_s, burst)
    taken = []
    for rest in rests:
        time.sleep(rest)
        pace.take()
        taken.append(time.now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            allowed = burst + (taken[last] - taken[first]) / interval_s
            assert last - first + 1 <= allowed + 1e-6


def test_a_rest_saves_up_a_burst_and_no_more():
    pace, time = bucket(1.0, 3)
    time.sleep(100)
    for _ in range(3):
        pace.take()
    assert time.now == 100
    pace.take()
    assert time.now == pytest.approx(101)


def test_no_interval_is_no_limit():
    pace, time = bucket(0.0)
    for _ in range(100):
        pace.take()
    assert time.now == 0


def test_a_held_bucket_gives_nothing_until_its_time():
    pace, time = bucket(1.0)
    pace.take()
    pace.hold(60)
    pace.hold(5)  # never shortens
    with pytest.raises(OfficeAway) as refused:
        pace.take()
    assert refused.value.retry_after_s == 60
    time.sleep(60)
    pace.take()


def test_threads_share_the_tokens():
    pace, time = bucket(1.0)
    threads = [threading.Thread(target=pace.take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pace.take()
    assert time.now >= 8
