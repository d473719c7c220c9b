from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from ml.behaviour.segments import CUSTOMERS_MIN, FEATURES, Segmentation, assigned, described, segmented, traits_of
from ml.lack import TooFewData
from tests.factories_shoppers import shopper


def planted(seed: int, count: int = 80) -> dict[str, np.ndarray]:
    """The traits of shoppers of both kinds."""
    draw = np.random.default_rng(seed)
    return traits_of(
        story for number in range(count) for kind in ("patient", "leaving") for story in shopper(kind, number, draw)
    )


def test_planted_kinds_are_found_and_described():
    """Two kinds of shoppers become two segments, told apart by what they were made to differ in."""
    traits = planted(1)

    found = segmented(traits)

    assert isinstance(found, Segmentation)
    assert len(found.segments) == 2
    belongs = assigned(found, traits)
    pairs = Counter((customer.split("_")[1], name) for customer, name in belongs.items())
    assert sorted(pairs.values()) == [80, 80]
    words = {belongs[f"cus_{kind}_0"]: kind for kind in ("patient", "leaving")}
    by_kind = {words[segment.name]: segment.description for segment in found.segments}
    assert set(by_kind) == {"patient", "leaving"}
    assert by_kind["patient"] != by_kind["leaving"]
    assert sum(segment.share for segment in found.segments) == pytest.approx(1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds_give_the_same_segments(seed: int):
    """Names, sizes and members stay the same under other seeds of the clustering."""
    traits = planted(2)
    one, other = segmented(traits), segmented(traits, seed=seed)

    assert isinstance(one, Segmentation)
    assert isinstance(other, Segmentation)
    assert [segment.description for segment in one.segments] == [segment.description for segment in other.segments]
    members, others = assigned(one, traits), assigned(other, traits)
    customers = sorted(traits)
    agreement = adjusted_rand_score([members[c] for c in customers], [others[c] for c in customers])
    assert agreement >= 0.95


def test_few_shoppers_are_no_segments():
    """Below the least number of shoppers the answer is that there is not enough data yet."""
    traits = dict(list(planted(3, 40).items())[: CUSTOMERS_MIN - 1])

    assert segmented(traits) == TooFewData(seen=CUSTOMERS_MIN - 1, needed=CUSTOMERS_MIN)


def test_shoppers_that_are_all_the_same_are_one_kind():
    """Without any difference there is one segment, like most shoppers."""
    found = segmented({f"cus_{n}": np.zeros(len(FEATURES)) for n in range(CUSTOMERS_MIN)})

    assert isinstance(found, Segmentation)
    assert [(segment.share, segment.description) for segment in found.segments] == [(1.0, "like most shoppers")]


def test_a_description_names_the_most_telling_traits_first():
    """At most three traits, the strongest first, each by its direction."""
    centre = [0.1] * len(FEATURES)
    centre[0], centre[1], centre[8], centre[7] = -0.5, 2.0, 1.0, 0.45

    assert described(centre) == "nearly always pays in the end, buys at night (22 to 6 UTC), buys seldom"
