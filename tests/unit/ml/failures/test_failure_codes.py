from __future__ import annotations

from collections import Counter

from ml.failures.codes import load_codes, load_phrases
from ml.failures.taxonomy import CATEGORIES

GATEWAYS = {"alpha", "bravo", "charlie", "delta", "echo"}


def test_each_demo_gateway_speaks_its_own_codes():
    """Five gateways have 18 to 25 codes each, and no two of them share a code."""
    codes = load_codes()

    assert {known.system for known in codes} == GATEWAYS
    assert all(18 <= count <= 25 for count in Counter(known.system for known in codes).values())
    assert len({known.code for known in codes}) == len(codes)


def test_each_gateway_can_express_every_category():
    """Whatever goes wrong, each demo gateway has a code for it; only UPI, at delta, has no card to verify."""
    names = {category.name for category in CATEGORIES}

    missing = {
        gateway: names - {known.category for known in load_codes() if known.system == gateway} for gateway in GATEWAYS
    }

    assert missing == {gateway: set() for gateway in GATEWAYS} | {"delta": {"cvv_avs_mismatch"}}


def test_each_category_has_forty_different_phrases():
    """The text model learns from at least forty phrasings per category, none of which stands for two categories."""
    phrases = load_phrases()
    counts = Counter(phrase.category for phrase in phrases)

    assert set(counts) == {category.name for category in CATEGORIES}
    assert min(counts.values()) >= 40
    assert len({phrase.message.lower() for phrase in phrases if not phrase.code}) == sum(
        1 for phrase in phrases if not phrase.code
    )


def test_no_phrase_could_be_a_card_number():
    """Nothing that ships holds a run of digits as long as a card number."""
    texts = [known.message + known.code for known in (*load_codes(), *load_phrases())]

    assert [text for text in texts if sum(character.isdigit() for character in text) >= 12] == []
