"""From beliefs and first-choice shares to a ranking with its reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from ml.routing.context import RankedCandidate, Ranking, RoutingContext
from ml.routing.fallbacks import Fallbacks
from ml.routing.rules import with_floors

Preference = Callable[[list[int]], list[float]]
"""Given the positions of the gateways in question, the probability of each to be the first choice among them."""


class Shares(msgspec.Struct, frozen=True):
    """Who stands where: the probability of each gateway to come first, and the class in which it stands otherwise."""

    first: list[float]
    tier: list[int]


def first_choice_shares(
    preference: Preference,
    context: RoutingContext,
    gateways: Sequence[str],
    unwell: Mapping[str, str],
    canary_share: float,
) -> Shares:
    """Turn a policy's preference into the probability of each gateway to be put first.

    Gateways stand in four classes: well and untried, well but failed for this order, unwell, unwell and failed. The
    policy chooses within the best class that has a gateway. An unwell gateway that was not tried yet is put first for
    ``canary_share`` of the payments, so that its recovery is noticed; all of them together get half at most.

    Returns: shares over ``gateways``, adding up to 1, and each one's class, 0 is best.
    """
    count = len(gateways)
    if not unwell and not context.previous_failures:
        return Shares(preference(list(range(count))), [0] * count)
    tier = [2 * (gateway in unwell) + (gateway in context.previous_failures) for gateway in gateways]
    best = min(tier)
    inside = [index for index, its in enumerate(tier) if its == best]
    canaries = [index for index, its in enumerate(tier) if its == 2 and best < 2]
    first = [0.0] * count
    each = min(canary_share, 0.5 / len(canaries)) if canaries else 0.0
    for index in canaries:
        first[index] = each
    for index, share in zip(inside, preference(inside), strict=True):
        first[index] = share * (1.0 - each * len(canaries))
    return Shares(first, tier)


def redrawn(ranked: Ranking, likely: Mapping[str, float], generator: np.random.Generator) -> Ranking:
    """Draw the first gateway anew from other probabilities; the others follow as they stood.

    Args:
        ranked: with at least one candidate.
        likely: probability of each candidate to be first, adding up to 1.
        generator: source of the draw.
    """
    standing = sorted(
        ranked.candidates, key=lambda each: (bool(each.unwell), each.failed_before, -_merit(each), each.gateway)
    )
    left, chosen = generator.random(), standing[0].gateway
    for candidate in standing:
        left -= likely[candidate.gateway]
        if left < 0:
            chosen = candidate.gateway
            break
    standing.sort(key=lambda each: each.gateway != chosen)
    candidates = tuple(msgspec.structs.replace(each, propensity=likely[each.gateway]) for each in standing)
    exploring = chosen != ranked.best and likely[chosen] < 1.0
    return msgspec.structs.replace(ranked, candidates=candidates, exploring=exploring)


def with_owed(ranked: Ranking, owed: Mapping[str, float], generator: np.random.Generator) -> Ranking:
    """Put a gateway first that is owed a share, as often as it is; otherwise all stand as they stood.

    Args:
        ranked: with at least one candidate.
        owed: shares of some candidates, adding up to less than 1.
        generator: source of the draw.
    """
    if not owed:
        return ranked
    likely = with_floors({each.gateway: each.propensity for each in ranked.candidates}, owed)
    candidates = [msgspec.structs.replace(each, propensity=likely[each.gateway]) for each in ranked.candidates]
    left, why, exploring = generator.random(), ranked.why_first, ranked.exploring
    for name, share in owed.items():
        left -= share
        if left < 0:
            candidates.sort(key=lambda each: each.gateway != name)
            why, exploring = "it is owed a share of the payments", False
            break
    return msgspec.structs.replace(ranked, candidates=tuple(candidates), exploring=exploring, why_first=why)


def with_fallbacks(ranked: Ranking, fallbacks: Fallbacks, now: float) -> Ranking:
    """Put those behind the first in the order to try them if the first one fails, which says something of them."""
    if len(ranked.candidates) < 3:
        return ranked
    first, *rest = ranked.candidates

    def place(candidate: RankedCandidate) -> tuple[bool, bool, float]:
        expected = fallbacks.expected(first.gateway, candidate.gateway, candidate.expected_success, now)
        merit = expected
        if candidate.value is not None:  # what is worth nothing is worth no more for a better chance
            part = min(1.0, expected / max(candidate.expected_success, 1e-6))
            merit = candidate.value * part if candidate.value > 0 else candidate.value / max(part, 1e-6)
        return bool(candidate.unwell), candidate.failed_before, -merit

    return msgspec.structs.replace(ranked, candidates=(first, *sorted(rest, key=place)))


def _merit(candidate: RankedCandidate) -> float:
    return candidate.expected_success if candidate.value is None else candidate.value
