"""How much to explore: chances of being best, trials of what may have changed, and a floor with a price limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from ml.routing.belief import Belief
from ml.routing.worth import Worth

RECOVERY_S: Final = 6 * 3600.0
"""Mean time after which a gateway that suddenly fell is thought to be back: incidents last hours."""

CHANGE_S: Final = 1.75 * 86_400.0
"""Mean time after which a gateway that was not looked at is thought to have changed for any other reason."""

CHANGE_DECISIONS: Final = 30_000.0
"""The same counted in decisions, so that a slow clock or a torrent of payments cannot stop all trials."""

RISING_MAX: Final = 8.0
"""Evidence for a rise that is heeded at most: it multiplies the odds of one up to e^8-fold."""

TRIALS_MAX: Final = 0.3
"""Share of payments that trials may take together, however much may have changed."""

HALF_ROOT: Final = math.sqrt(0.5)

FLOOR_LEAST: Final = 0.1
"""However dear exploring is, so much of the floor stays: without propensities no other policy can be evaluated."""


@lru_cache(maxsize=64)
def normal_points(gateways: int, draws: int) -> np.ndarray:
    """Points that fill the standard normal evenly (a scrambled Sobol sequence). Shape (draws, gateways)."""
    points = qmc.Sobol(gateways, seed=7).random_base2((draws - 1).bit_length())[:draws]
    return np.ascontiguousarray(ndtri(np.clip(points, 1e-6, 1 - 1e-6)))


def chances_of_being_best(
    beliefs: Sequence[Belief], worth: Sequence[Worth] | None, *, boldness: float, draws: int
) -> list[float]:
    """Share of posterior points in which each gateway is the best: Thompson sampling's propensities, without noise.

    Args:
        beliefs: of each gateway.
        worth: what the payment is worth at each; None: success alone counts.
        boldness: factor on the posterior deviation, > 0; 1 is Thompson sampling, less explores less.
        draws: posterior points.
    """
    count = len(beliefs)
    points = normal_points(count, draws)
    scores = points * [belief.deviation * boldness for belief in beliefs]
    scores += [belief.log_odds for belief in beliefs]
    if worth is not None:
        won, lost = np.array([(each.won, each.lost) for each in worth]).T
        scores = lost + (won - lost) / (1.0 + np.exp(-scores))
    wins = np.bincount(scores.argmax(axis=1), minlength=count)
    return [win / draws for win in wins.tolist()]


def trial_shares(beliefs: Sequence[Belief]) -> list[float]:
    """Share of payments with which each gateway is tried because it may have changed since it was last looked at.

    The longer ago that is, the likelier a change; it is worth a trial in proportion to what it would bring over what a
    trial costs. A gateway that fell suddenly may be back where it was; of any other nothing better is known than that
    it may be anywhere. One whose latest payments went too well for what it was thought to do is tried as often as it is
    likely to be better than the best by now, as in Thompson sampling over whether it has changed.
    """
    best = max([belief.mean for belief in beliefs])
    anywhere = (1 - best) ** 2 / 2
    shares = []
    for belief in beliefs:
        cost = best - belief.mean
        if cost <= 0:
            shares.append(0.0)
            continue
        gain, after_s, better = anywhere, CHANGE_S, 1 - best
        if belief.base is not None and belief.base > belief.mean:
            after_s, better = RECOVERY_S, 1.0
            gain = max(belief.base - best, gain if belief.is_whole else 0.0)
        changed = belief.unseen_s / after_s + 1 / CHANGE_DECISIONS
        share = changed if changed < TRIALS_MAX else TRIALS_MAX
        if gain < cost:
            share *= gain / cost
        if belief.rising > 0:
            odds = _odds_of_rise(belief, after_s, better)
            if odds > share * (1 + odds):  # or else it cannot be likelier than that to have risen above the best
                risen = odds / (1 + odds) * _chance_above(belief, best)
                share = risen if risen > share else share
        shares.append(share)
    total = sum(shares)
    return shares if total <= TRIALS_MAX else [share * TRIALS_MAX / total for share in shares]


def _odds_of_rise(belief: Belief, after_s: float, better: float) -> float:
    """Odds that a gateway has changed for the better since its latest payments began to go well.

    The odds that it changed in that time are multiplied by what the payments say.

    Args:
        belief: of the gateway, with ``rising`` > 0.
        after_s: mean time after which it changes, seconds.
        better: how often a change leaves it above the best, before the payments are known: always, for one that fell
            and is expected back; the share of rates above the best, for one that may be anywhere.
    """
    since_s = belief.rising_s if belief.rising_s > belief.unseen_s else belief.unseen_s
    odds = better * (since_s / after_s + 1 / CHANGE_DECISIONS)
    return odds * math.exp(belief.rising if belief.rising < RISING_MAX else RISING_MAX)


def _chance_above(belief: Belief, best: float) -> float:
    """How likely it is that a gateway is above ``best``, if its latest payments show what it does now."""
    mean = belief.risen
    distance = (mean - best) / math.sqrt(mean * (1 - mean) / (belief.risen_payments + 3.0))
    return (1 + math.erf(distance * HALF_ROOT)) / 2


def within_spend(shares: Sequence[float], values: Sequence[float], spend_max: float) -> list[float]:
    """First-choice shares, drawn towards the best gateway until exploring one payment costs no more than it may.

    Every share but that of the best shrinks alike, so none is lost unless nothing may be spent.

    Args:
        shares: of each gateway, adding up to 1.
        values: what the payment is expected to bring at each.
        spend_max: what not sending it to the best may cost on average, in the unit of ``values``, >= 0.

    >>> within_spend([0.8, 0.2], [900.0, 850.0], 5.0)
    [0.9, 0.1]
    """
    best = max(range(len(values)), key=values.__getitem__)
    cost = sum(share * (values[best] - value) for share, value in zip(shares, values, strict=True))
    if cost <= spend_max:
        return list(shares)
    part = spend_max / cost
    kept = [share * part for share in shares]
    kept[best] += 1.0 - part
    return kept


def floor_in_force(beliefs: Sequence[Belief], *, floor: float, cost_max: float) -> float:
    """The exploration floor, made smaller where it would cost more success than it may.

    Args:
        beliefs: of each gateway.
        floor: share of payments that is dealt out evenly, 0 to 1.
        cost_max: what that may cost, in shares of success, >= 0.
    """
    means = [belief.mean for belief in beliefs]
    price = floor * (max(means) - sum(means) / len(means))
    return floor if price <= cost_max else floor * max(FLOOR_LEAST, cost_max / price)
