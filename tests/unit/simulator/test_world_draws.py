"""Random numbers by look-up."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulator.world.draws import (
    MASK,
    halves,
    halves_many,
    mix,
    mix_many,
    policy_generator,
    slot_word,
    slot_words,
    stream_key,
    word_at,
    words_at,
)

WORDS = st.integers(0, MASK)


def test_the_first_outputs_of_splitmix64_for_seed_0_are_the_published_ones() -> None:
    """Three consecutive outputs agree with the published reference implementation."""
    golden = 0x9E3779B97F4A7C15
    outputs = [mix(golden * place & MASK) for place in (1, 2, 3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@given(st.lists(WORDS, min_size=1, max_size=20), WORDS, st.integers(0, 50))
def test_one_and_many_give_the_same_numbers(indices: list[int], key: int, slot: int) -> None:
    """Look-ups of single places and of arrays agree bit by bit."""
    array = np.array(indices, dtype=np.uint64)
    words = words_at(key, array)
    assert [word_at(key, index) for index in indices] == words.tolist()
    assert [mix(index) for index in indices] == mix_many(array).tolist()
    assert [slot_word(word, slot) for word in words.tolist()] == slot_words(words, slot).tolist()
    high, low = halves_many(words)
    assert [halves(word) for word in words.tolist()] == list(zip(high.tolist(), low.tolist(), strict=True))


@given(WORDS)
def test_numbers_lie_strictly_between_0_and_1(word: int) -> None:
    """Neither logarithm of a number or of its complement can fail."""
    for number in halves(word):
        assert 0 < number < 1


def test_numbers_are_uniform_and_halves_are_independent() -> None:
    """Means, variances and correlation of 200,000 pairs are within five standard errors of a uniform's."""
    high, low = halves_many(words_at(stream_key(1, "test"), np.arange(200_000, dtype=np.uint64)))
    for numbers in (high, low):
        assert abs(numbers.mean() - 0.5) < 5 * (1 / 12 / 200_000) ** 0.5
        assert abs(numbers.var() - 1 / 12) < 5 * (1 / 180 / 200_000) ** 0.5
    assert abs(np.corrcoef(high, low)[0, 1]) < 5 / 200_000**0.5


def test_streams_of_other_purposes_and_seeds_are_unrelated() -> None:
    """The same places of different streams do not correlate, and a policy draws from a stream of its own."""
    places = np.arange(50_000, dtype=np.uint64)
    one, _ = halves_many(words_at(stream_key(7, "orders"), places))
    others = [halves_many(words_at(key, places))[0] for key in (stream_key(7, "attempts"), stream_key(8, "orders"))]
    others.append(policy_generator(7).random(50_000))
    for other in others:
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / 50_000**0.5
