"""Messages that are done in any order are acknowledged in the broker's order, and none before it is done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from messaging.settled import Settled


@given(st.permutations(range(1, 13)), st.lists(st.integers(1, 4)))
def test_what_is_acknowledged_is_done_and_in_the_end_all_is(order: list[int], sizes: list[int]) -> None:
    """In whatever order and groups: no tag covers one that is not done, and the last one covers all."""
    said: list[int] = []
    settled, done, left = Settled(said.append), set[int](), list(order)
    for size in [*sizes, len(order)]:
        group, left = left[:size], left[size:]
        done.update(group)
        settled.add(group)
        covered = said[-1] if said else 0
        first_missing = min(set(order) - done, default=len(order) + 1)
        assert covered == first_missing - 1
    assert said == sorted(set(said))
    assert said[-1] == len(order)
