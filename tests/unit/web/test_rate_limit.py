"""The limiter that slows down guessing of passwords."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from web.rate_limit import FailureLimiter


def test_sixth_try_within_a_minute_waits() -> None:
    """Five failures are free; then one waits until the first of them is a minute old."""
    limiter = FailureLimiter(failures_max=5, window_s=60)
    waits = []
    for second in range(6):
        waits.append(limiter.wait_s("key", second))
        limiter.failed("key", second)
    assert waits == [0, 0, 0, 0, 0, 55]


def test_success_forgets_failures() -> None:
    """Whoever gets in starts with a clean slate."""
    limiter = FailureLimiter(failures_max=1, window_s=60)
    limiter.failed("key", 0.0)
    limiter.succeeded("key")
    assert (limiter.wait_s("key", 1.0), len(limiter)) == (0, 0)


def test_memory_is_bounded() -> None:
    """A flood of names keeps the newest keys only."""
    limiter = FailureLimiter(failures_max=1, window_s=60, keys_max=100)
    for number in range(1_000):
        limiter.failed(number, 0.0)
    assert len(limiter) == 100
    assert [limiter.wait_s(number, 1.0) for number in (0, 999)] == [0, 59]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), max_size=40), st.integers(1, 4))
def test_never_more_failures_in_a_window_than_allowed(tries: list[tuple[str, int]], failures_max: int) -> None:
    """However tries arrive, those let through never exceed the limit in any window (checked by brute force)."""
    limiter = FailureLimiter(failures_max=failures_max, window_s=10)
    let_through = defaultdict(list)
    now = 0
    for key, pause in tries:
        now += pause
        if limiter.wait_s(key, now) == 0:
            limiter.failed(key, now)
            let_through[key].append(now)
    for moments in let_through.values():
        for moment in moments:
            assert sum(moment - 10 < other <= moment for other in moments) <= failures_max
