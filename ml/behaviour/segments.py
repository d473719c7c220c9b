"""Kinds of shoppers: clusters of how they behave, each described in plain words, the same whatever the seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from ml.behaviour.orders import OrderStory
from ml.lack import TooFewData

CUSTOMERS_MIN: Final = 60
CUSTOMERS_MAX: Final = 20_000
"""Shoppers that clusters are learned from at most; every further one is only assigned."""

SEGMENTS_MAX: Final = 6
SEGMENT_SHARE_MIN: Final = 0.03
STABLE_FROM: Final = 0.9
"""Two clusterings with other seeds must agree so well (adjusted Rand index) for a number of segments to be used."""

SEEDS: Final = (1, 2, 3)
STARTS: Final = 20
SILHOUETTE_SAMPLE_MAX: Final = 2_000
TELLING_FROM: Final = 0.4
"""A trait is worth telling when a segment's mean lies so many standard deviations from that of all shoppers."""

FEATURES: Final[tuple[tuple[str, str, str], ...]] = (
    ("orders_log", "buys often", "buys seldom"),
    ("paid_share", "nearly always pays in the end", "often ends unpaid"),
    ("failed_share", "often meets failures", "seldom meets failures"),
    ("retried_share", "tries again after a failure", "gives up after the first failure"),
    ("haste", "tries again within a minute", "takes long to try again"),
    ("method_switch_share", "changes the payment method", "stays with the payment method"),
    ("gateway_switch_share", "comes back over another gateway", "comes back over the same gateway"),
    ("amount_log", "buys expensive things", "buys cheap things"),
    ("night_share", "buys at night (22 to 6 UTC)", "buys by day"),
)
"""Each trait with the words for much of it and for little of it."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of shoppers. ``centre`` is in standardised traits, in the order of FEATURES."""

    name: str
    description: str
    customers: int
    share: float
    centre: tuple[float, ...]


class Segmentation(msgspec.Struct, frozen=True, kw_only=True):
    """All kinds, the largest first; ``stability`` is how well other seeds agree with it, up to 1."""

    segments: tuple[Segment, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    customers: int
    silhouette: float
    stability: float


def traits_of(stories: Iterable[OrderStory]) -> dict[str, np.ndarray]:
    """Say of each shopper with a hash how they behave.

    Returns: by customer, shape (features,), in the order of FEATURES.
    """
    by_customer: defaultdict[str, list[OrderStory]] = defaultdict(list)
    for story in stories:
        if story.customer is not None:
            by_customer[story.customer].append(story)
    return {customer: _traits(mine) for customer, mine in sorted(by_customer.items())}


def segmented(traits: Mapping[str, np.ndarray], *, seed: int = 0) -> Segmentation | TooFewData:
    """Find the kinds of shoppers; the number of kinds is the best separated of those that other seeds agree on.

    Args:
        traits: by customer, as ``traits_of`` gives them.
        seed: of the clustering; another one gives the same segments where they are real.
    """
    if len(traits) < CUSTOMERS_MIN:
        return TooFewData(seen=len(traits), needed=CUSTOMERS_MIN)
    values = np.array([traits[customer] for customer in sorted(traits)])
    if len(values) > CUSTOMERS_MAX:
        values = values[np.linspace(0, len(values) - 1, CUSTOMERS_MAX).astype(int)]
    means, scales = values.mean(axis=0), values.std(axis=0)
    scales = np.where(scales > 1e-9, scales, 1.0)
    standard = np.clip((values - means) / scales, -4, 4)
    best: tuple[float, float, np.ndarray, np.ndarray] | None = None
    for count in range(2, min(SEGMENTS_MAX, len(np.unique(standard, axis=0))) + 1):
        found = _clustered(standard, count, seed)
        if found is None:
            continue
        labels, centres, stability = found
        silhouette = _silhouette(standard, labels)
        if best is None or silhouette > best[0]:
            best = silhouette, stability, labels, centres
    if best is None:  # nothing but one kind
        labels, centres = np.zeros(len(standard), dtype=int), standard.mean(axis=0, keepdims=True)
        best = 0.0, 1.0, labels, centres
    silhouette, stability, labels, centres = best
    sizes = np.bincount(labels, minlength=len(centres))
    order = sorted(range(len(centres)), key=lambda place: (-sizes[place], *centres[place].tolist()))
    segments = [
        Segment(
            name=f"segment {rank}",
            description=described(centres[place]),
            customers=int(sizes[place]),
            share=float(sizes[place] / len(labels)),
            centre=tuple(float(value) for value in centres[place]),
        )
        for rank, place in enumerate(order, start=1)
    ]
    return Segmentation(
        segments=tuple(segments),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        customers=len(labels),
        silhouette=float(silhouette),
        stability=float(stability),
    )


def assigned(segmentation: Segmentation, traits: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Name the segment of each shopper: the one whose centre is nearest."""
    if not traits:
        return {}
    customers = sorted(traits)
    values = np.array([traits[customer] for customer in customers])
    standard = np.clip((values - np.array(segmentation.means)) / np.array(segmentation.scales), -4, 4)
    centres = np.array([segment.centre for segment in segmentation.segments])
    nearest = ((standard[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2).argmin(axis=1)
    return {customer: segmentation.segments[place].name for customer, place in zip(customers, nearest, strict=True)}


def described(centre: Sequence[float] | np.ndarray) -> str:
    """Describe a segment by what sets it apart most, at most three traits; else it is like everybody.

    >>> described([0, 0, 0, 2.0, 0, 0, 0, -1.0, 0])
    'tries again after a failure, buys cheap things'
    """
    telling = sorted(enumerate(centre), key=lambda item: -abs(item[1]))[:3]
    words = [FEATURES[place][1 if value > 0 else 2] for place, value in telling if abs(value) >= TELLING_FROM]
    return ", ".join(words) or "like most shoppers"


def _clustered(standard: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Cluster into so many; None: other seeds do not agree, or a cluster is tiny."""
    model = KMeans(n_clusters=count, n_init=STARTS, random_state=seed).fit(standard)
    labels = model.labels_
    if np.bincount(labels, minlength=count).min() < SEGMENT_SHARE_MIN * len(labels):
        return None
    others = [KMeans(n_clusters=count, n_init=STARTS, random_state=seed + 100 * other).fit(standard) for other in SEEDS]
    stability = float(np.mean([adjusted_rand_score(labels, other.labels_) for other in others]))
    return None if stability < STABLE_FROM else (labels, model.cluster_centers_, stability)


def _silhouette(standard: np.ndarray, labels: np.ndarray) -> float:
    places = np.linspace(0, len(labels) - 1, min(len(labels), SILHOUETTE_SAMPLE_MAX)).astype(int)
    if len(set(labels[places].tolist())) < 2:
        return -1.0
    return float(silhouette_score(standard[places], labels[places]))


def _traits(stories: Sequence[OrderStory]) -> np.ndarray:
    failed = [story for story in stories if story.failures]
    after = [(one, two) for story in stories for one, two in pairwise(story.steps) if one.status == "failed"]
    waits = [(two.at - one.at).total_seconds() for one, two in after]
    # Without a retry there is neither haste nor a switch to speak of: the middle, so that it sets nobody apart.
    haste = -float(np.median(np.log10(np.maximum(waits, 1)))) if waits else -2.0
    return np.array(
        [
            np.log2(len(stories)),
            np.mean([story.paid for story in stories]),
            len(failed) / len(stories),
            np.mean([story.tries > 1 for story in failed]) if failed else 0.5,
            haste,
            np.mean([one.method != two.method for one, two in after]) if after else 0.0,
            np.mean([one.gateway != two.gateway for one, two in after]) if after else 0.5,
            np.median([np.log10(max(story.amount_minor, 1)) for story in stories]),
            np.mean([story.first_at.hour >= 22 or story.first_at.hour < 6 for story in stories]),
        ],
        dtype=float,
    )
