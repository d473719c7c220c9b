"""Counts what a text model looks at: words and pairs of them, pieces of words, what they are about, and code shapes.

Counting is our own because it decides the speed: what a word contributes is remembered, so that a message nobody has
seen before costs little more than looking up its words. The weights are scikit-learn's.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfTransformer

from ml.failures.concepts import concepts_of, named
from ml.failures.wording import code_tokens, code_wording, message_wording

BLOCKS: Final = ("words", "pieces", "concepts", "codes")
"""The four views of a text; each is scaled to length one by itself, then weighted."""

WEIGHTS: Final = {"words": 1.0, "pieces": 1.0, "concepts": 0.25, "codes": 0.7}
"""How much each view counts.

A code says something by itself only where it follows a custom (ISO 8583, UPI); systems reuse the same numbers, so the
message outweighs it. Concepts support the words, they do not replace them.
"""

PIECE_LENGTHS: Final = (2, 3, 4)
OCCURRENCES_MIN: Final = {"words": 1, "pieces": 2, "concepts": 2, "codes": 1}
"""What occurs in fewer of the texts learned from is left out."""

WORDS_KEPT_MAX: Final = 50_000
"""Words whose contributions are remembered; when full, all are forgotten. A few tens of megabytes at most."""


class Vocabulary:
    """What was counted when learning, with the weight of each part: plain data, so it can be stored.

    Args:
        names: for each of BLOCKS, its parts in the order of their columns.
        rarity: for each of BLOCKS, the weight of each part; the same lengths.

    ``width`` is the number of all parts, the columns of ``features``; ``columns`` says which belong to which block.
    """

    def __init__(self, names: dict[str, list[str]], rarity: dict[str, np.ndarray]) -> None:
        self.names = names
        self.rarity = rarity
        self._at = {block: {name: place for place, name in enumerate(names[block])} for block in BLOCKS}
        ends = [0, *accumulate(len(names[block]) for block in BLOCKS)]
        self.columns = {block: slice(start, end) for block, (start, end) in zip(BLOCKS, pairwise(ends), strict=True)}
        self.width = ends[-1]
        self._words: dict[str, tuple[array[int], int]] = {}
        self._concepts: dict[int, array[int]] = {}
        self._weighting = {block: _weighting(rarity[block]) for block in BLOCKS if names[block]}

    @classmethod
    def learned(cls, said: Sequence[tuple[str, str]]) -> Vocabulary:
        """Collect what occurs in codes and messages.

        Args:
            said: code and message of each text to learn from.
        """
        texts = [wording_of(code, message) for code, message in said]
        parts: dict[str, list[Iterable[str]]] = {
            "words": [_words(text) for text in texts],
            "pieces": [[piece for word in text.split() for piece in pieces_of(word)] for text in texts],
            "concepts": [named(_concepts(text)) for text in texts],
            "codes": [code_tokens(code) for code, _ in said],
        }
        names: dict[str, list[str]] = {}
        rarity: dict[str, np.ndarray] = {}
        for block in BLOCKS:
            seen = Counter(name for text in parts[block] for name in set(text))
            names[block] = sorted(name for name, count in seen.items() if count >= OCCURRENCES_MIN[block])
            counts = np.array([seen[name] for name in names[block]], dtype=float)
            # The smoothed inverse document frequency of scikit-learn; codes are too few for it.
            rarity[block] = np.ones(len(counts)) if block == "codes" else np.log((1 + len(said)) / (1 + counts)) + 1
        return cls(names, rarity)

    def features(self, said: Sequence[tuple[str, str]]) -> csr_matrix:
        """Turn codes and messages into one row of numbers each; a row is empty where no part was learned."""
        return hstack(list(self.blocks(said).values())).tocsr()

    def blocks(self, said: Sequence[tuple[str, str]]) -> dict[str, csr_matrix]:
        """The same, one matrix for each of BLOCKS that has parts; their columns side by side are ``features``."""
        counts = {block: _Counts() for block in BLOCKS}
        for code, message in said:
            words = wording_of(code, message).split()
            counts["words"].add(self._known("words", [*words, *map(" ".join, pairwise(words))]))
            pieces, concepts = self._parts_of(words)
            counts["pieces"].add(pieces)
            counts["concepts"].add(self._columns_of(concepts))
            counts["codes"].add(self._known("codes", code_tokens(code)))
        return {
            block: weighting.transform(counts[block].matrix(len(self.names[block])), copy=False) * WEIGHTS[block]
            for block, weighting in self._weighting.items()
        }

    def _known(self, block: str, parts: Iterable[str]) -> array[int]:
        at = self._at[block]
        return array("i", [at[part] for part in parts if part in at])

    def _parts_of(self, words: Sequence[str]) -> tuple[array[int], int]:
        """The columns of all pieces of some words, and what the words are about."""
        columns = array("i")
        concepts = 0
        for word in words:
            found = self._words.get(word)
            if found is None:
                if len(self._words) >= WORDS_KEPT_MAX:
                    self._words.clear()
                found = self._words[word] = (self._known("pieces", pieces_of(word)), concepts_of(word))
            columns += found[0]
            concepts |= found[1]
        return columns, concepts

    def _columns_of(self, concepts: int) -> array[int]:
        found = self._concepts.get(concepts)
        if found is None:
            if len(self._concepts) >= WORDS_KEPT_MAX:
                self._concepts.clear()
            found = self._concepts[concepts] = self._known("concepts", named(concepts))
        return found


class _Counts:
    """Gathers the columns that occur in each row."""

    def __init__(self) -> None:
        self._columns = array("i")
        self._ends = [0]

    def add(self, columns: array[int]) -> None:
        self._columns += columns
        self._ends.append(len(self._columns))

    def matrix(self, width: int) -> csr_matrix:
        ones = np.ones(len(self._columns))
        columns = np.array(self._columns, dtype=np.int32)  # copied: scipy sorts it in place
        counted = csr_matrix((ones, columns, np.array(self._ends, dtype=np.int32)), shape=(len(self._ends) - 1, width))
        counted.sum_duplicates()
        return counted


def wording_of(code: str, message: str) -> str:
    """Join the words of a code with those of its message."""
    return f"{code_wording(code)} {message_wording(message)}".strip()


def pieces_of(word: str) -> list[str]:
    """Cut a word, with a blank on each side, into pieces of two to four characters.

    >>> pieces_of("pin")
    [' p', 'pi', 'in', 'n ', ' pi', 'pin', 'in ', ' pin', 'pin ']
    """
    padded = f" {word} "
    return [padded[at : at + length] for length in PIECE_LENGTHS for at in range(len(padded) - length + 1)]


def _words(text: str) -> list[str]:
    """The words of a text, and each two that follow each other."""
    words = text.split()
    return [*words, *map(" ".join, pairwise(words))]


def _concepts(text: str) -> int:
    concepts = 0
    for word in text.split():
        concepts |= concepts_of(word)
    return concepts


def _weighting(rarity: np.ndarray) -> TfidfTransformer:
    transformer = TfidfTransformer(sublinear_tf=True)
    transformer.idf_ = rarity
    return transformer
