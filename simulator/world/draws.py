"""Random numbers that are looked up, not drawn: each is a hash of (seed, purpose, index, slot).

The same question always has the same answer, whatever was asked before it. So the fate of order 17 at gateway bravo
does not depend on which policy sent order 16 where, two policies can be compared on the same fates, and one order can
be computed alone or a million at once with the same bytes on any machine.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]

MASK: Final = (1 << 64) - 1
GOLDEN: Final = 0x9E3779B97F4A7C15
_FIRST: Final = 0xBF58476D1CE4E5B9
_SECOND: Final = 0x94D049BB133111EB
_HALF: Final = 2.0**-32


def mix(word: int) -> int:
    """Scramble 64 bits.

    >>> hex(mix(0x9E3779B97F4A7C15))
    '0xe220a8397b1dcdaf'

    Source: Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators, OOPSLA: the SplitMix64 output
    function; the example is the generator's published first output for seed 0.
    """
    word = ((word ^ (word >> 30)) * _FIRST) & MASK
    word = ((word ^ (word >> 27)) * _SECOND) & MASK
    return word ^ (word >> 31)


def mix_many(words: Words) -> Words:
    """Scramble many words at once; the same function as :func:`mix`. Shape (n,), returns a new array."""
    mixed = words >> np.uint64(30)
    mixed ^= words
    mixed *= np.uint64(_FIRST)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(_SECOND)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def stream_key(seed: int, purpose: str) -> int:
    """The key of one random stream. Streams of different purposes share nothing."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def word_at(key: int, index: int) -> int:
    """The random word at one place of a stream."""
    return mix((key + index * GOLDEN) & MASK)


def words_at(key: int, indices: Words) -> Words:
    """The random words at many places of a stream. Shape (n,)."""
    places = indices * np.uint64(GOLDEN)
    places += np.uint64(key)
    return mix_many(places)


def slot_word(word: int, slot: int) -> int:
    """One of many further words that belong to a word."""
    return mix((word + slot * GOLDEN) & MASK)


def slot_words(words: Words, slot: int) -> Words:
    """The same slot of many words. Shape (n,)."""
    return mix_many(words + np.uint64((slot * GOLDEN) & MASK))


def halves(word: int) -> tuple[float, float]:
    """Two independent numbers in (0, 1) from one word; never 0 and never 1, so that logarithms are safe."""
    return ((word >> 32) + 0.5) * _HALF, ((word & 0xFFFFFFFF) + 0.5) * _HALF


def halves_many(words: Words) -> tuple[Floats, Floats]:
    """Two independent numbers in (0, 1) from each word. Two arrays of shape (n,)."""
    high = (words >> np.uint64(32)).astype(np.float64)
    low = (words & np.uint64(0xFFFFFFFF)).astype(np.float64)
    high += 0.5
    low += 0.5
    high *= _HALF
    low *= _HALF
    return high, low


def policy_generator(seed: int) -> np.random.Generator:
    """A random stream for a policy under test. It shares nothing with the world, even at the same seed."""
    return np.random.Generator(np.random.PCG64(stream_key(seed, "policy")))
