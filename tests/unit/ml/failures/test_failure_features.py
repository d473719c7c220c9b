from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from ml.failures import features
from ml.failures.codes import load_phrases
from ml.failures.concepts import CONCEPTS, concepts_of, named
from ml.failures.features import BLOCKS, Vocabulary, wording_of

SAID = [(phrase.code, phrase.message) for phrase in load_phrases()][::7]


def test_words_are_weighted_as_scikit_learn_does():
    """Our own counting gives word features equal to those of scikit-learn's vectorizer."""
    vocabulary = Vocabulary.learned(SAID)
    texts = [wording_of(code, message) for code, message in SAID]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")

    expected = vectorizer.fit_transform(texts)

    assert vocabulary.names["words"] == vectorizer.get_feature_names_out().tolist()
    assert vocabulary.blocks(SAID)["words"].toarray() == pytest.approx(expected.toarray())


def test_pieces_are_weighted_as_scikit_learn_does():
    """Our own pieces of words are scikit-learn's character n-grams within word boundaries."""
    vocabulary = Vocabulary.learned(SAID)
    texts = [wording_of(code, message) for code, message in SAID]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=2)

    expected = vectorizer.fit_transform(texts)

    assert vocabulary.names["pieces"] == vectorizer.get_feature_names_out().tolist()
    assert vocabulary.blocks(SAID)["pieces"].toarray() == pytest.approx(expected.toarray())


def test_blocks_side_by_side_are_the_features():
    """The columns that the vocabulary names for each block hold that block."""
    vocabulary = Vocabulary.learned(SAID)
    whole, blocks = vocabulary.features(SAID[:20]), vocabulary.blocks(SAID[:20])

    assert whole.shape == (20, vocabulary.width)
    for block in BLOCKS:
        assert np.array_equal(whole[:, vocabulary.columns[block]].toarray(), blocks[block].toarray())


def test_what_is_remembered_of_words_stays_within_its_bound(monkeypatch: pytest.MonkeyPatch):
    """However many different words come, no more than the bound are kept, and the features stay the same."""
    vocabulary = Vocabulary.learned(SAID)
    expected = vocabulary.features(SAID).toarray()
    monkeypatch.setattr(features, "WORDS_KEPT_MAX", 5)
    bounded = Vocabulary.learned(SAID)

    assert bounded.features(SAID).toarray() == pytest.approx(expected)
    assert len(bounded._words) <= 5


@pytest.mark.parametrize(
    ("word", "concepts"),
    [
        ("expired", {"expired"}),
        ("mandate", {"revoked"}),
        ("closed", {"cancelled", "blocked"}),
        ("pin", {"authentication"}),
        ("zebra", set()),
    ],
)
def test_words_speak_of_concepts(word: str, concepts: set[str]):
    """A word stands for what it is about, a word of no meaning to payments for nothing."""
    assert {name for name in named(concepts_of(word)) if "+" not in name} == concepts


@given(st.sets(st.integers(0, len(CONCEPTS) - 1), max_size=6))
def test_concepts_are_named_alone_and_in_pairs(places: set[int]):
    """n concepts have n names and n (n - 1) / 2 pairs, each once."""
    names = named(sum(1 << place for place in places))

    assert len(names) == len(set(names)) == len(places) * (len(places) + 1) // 2
