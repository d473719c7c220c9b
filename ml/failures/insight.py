"""What failures cost and what became of them: orders paid in the end, money lost, tries that helped, rules broken."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from ml.experiments.intervals import CONFIDENCE_ALPHA, Interval, score_interval
from ml.failures.retry import SCHEME_LIMITS
from ml.failures.taxonomy import NEVER_AGAIN, RETRIES_BLINDLY, UNKNOWN, RetryPolicy
from ml.lack import TooFewData

DELAY_BANDS: Final[tuple[tuple[str, float], ...]] = (
    ("under 1 min", 60),
    ("1 to 10 min", 600),
    ("10 min to 1 h", 3_600),
    ("1 h to 1 day", 86_400),
    ("over 1 day", float("inf")),
)
"""Names of delays, and below how many seconds each holds."""

STRETCHES_MIN: Final = 30
"""Stretches of like size that a rate needs; of fewer, 95 % intervals missed the truth up to 20 % of the time."""

SETTLED: Final = frozenset({"succeeded", "failed", "reversed"})


class SeenAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, with the verdict on it where it failed."""

    attempt_id: str
    order_id: str
    at: datetime
    gateway: str
    status: str
    amount_minor: int
    currency: str
    network: str | None = None
    customer_id: str | None = None
    category: str = UNKNOWN
    hardness: str = "soft"
    retry: RetryPolicy = "ask_customer"


class Share(msgspec.Struct, frozen=True):
    """So many of so many."""

    part: int
    whole: int


class Authorization(msgspec.Struct, frozen=True, kw_only=True):
    """Three ways to count success; they differ by how failed attempts that were tried again count."""

    attempts: Share
    first_attempts: Share
    orders: Share


class MoneyOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Orders of one currency with a failed attempt: paid in the end, or lost.

    ``recoverable``: of the lost ones, those whose last failure may be tried again without a person.
    """

    currency: str
    orders: int
    recovered_orders: int
    recovered_minor: int
    lost_orders: int
    lost_minor: int
    recoverable_orders: int
    recoverable_minor: int


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What trying again after a failure achieved, by reason, delay and pair of gateways."""

    category: str
    delay: str
    gateway: str
    gateway_next: str
    tried: int
    succeeded: int


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that should not have been sent, and the rule that it broke."""

    rule: str
    attempt_id: str
    order_id: str
    at: datetime
    gateway: str
    amount_minor: int
    currency: str
    after: str


def authorization(attempts: Iterable[SeenAttempt]) -> Authorization:
    """Count success by attempt, by first attempt of an order, and by order; only what settled counts."""
    orders = _orders(attempts)
    settled = [[each for each in order if each.status in SETTLED] for order in orders]
    settled = [order for order in settled if order]
    every = [each for order in settled for each in order]
    return Authorization(
        attempts=Share(sum(each.status == "succeeded" for each in every), len(every)),
        first_attempts=Share(sum(order[0].status == "succeeded" for order in settled), len(settled)),
        orders=Share(sum(any(each.status == "succeeded" for each in order) for order in settled), len(settled)),
    )


def money_outcomes(attempts: Iterable[SeenAttempt]) -> list[MoneyOutcome]:
    """Say by currency what became of orders that had a failure; an order that still waits is counted nowhere."""
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for order in _orders(attempts):
        failed = [each for each in order if each.status == "failed"]
        if not failed or order[-1].status == "pending":
            continue
        amount, money = order[-1].amount_minor, sums[order[-1].currency]
        money["orders"] += 1
        kinds = ["recovered"] if any(each.status == "succeeded" for each in order) else ["lost"]
        if kinds == ["lost"] and failed[-1].retry in RETRIES_BLINDLY:
            kinds.append("recoverable")
        for kind in kinds:
            money[f"{kind}_orders"] += 1
            money[f"{kind}_minor"] += amount
    names = [name for name in MoneyOutcome.__struct_fields__ if name != "currency"]
    return [
        MoneyOutcome(currency=currency, **{name: money[name] for name in names})
        for currency, money in sorted(sums.items(), key=lambda item: -item[1]["orders"])
    ]


def recoveries(attempts: Iterable[SeenAttempt]) -> list[Recovery]:
    """Count, for each failed attempt that was followed by another of its order, whether that one succeeded."""
    tried: Counter[tuple[str, str, str, str]] = Counter()
    succeeded: Counter[tuple[str, str, str, str]] = Counter()
    for order in _orders(attempts):
        for before, after in pairwise(order):
            if before.status != "failed" or after.status not in SETTLED:
                continue
            key = before.category, delay_band((after.at - before.at).total_seconds()), before.gateway, after.gateway
            tried[key] += 1
            succeeded[key] += after.status == "succeeded"
    return [
        Recovery(
            category=key[0], delay=key[1], gateway=key[2], gateway_next=key[3], tried=count, succeeded=succeeded[key]
        )
        for key, count in sorted(tried.items(), key=lambda item: (-item[1], item[0]))
    ]


def delay_band(delay_s: float) -> str:
    """Name a delay.

    >>> delay_band(59), delay_band(60), delay_band(90_000)
    ('under 1 min', '1 to 10 min', 'over 1 day')
    """
    return next(name for name, below_s in DELAY_BANDS if delay_s < below_s)


def breaches(attempts: Iterable[SeenAttempt]) -> list[Breach]:
    """Find attempts that broke a rule, in time order: tried again what is never to be, or more often than allowed."""
    known = list(attempts)
    found = []
    for order in _orders(known):
        barred: SeenAttempt | None = None
        for each in order:
            if barred is not None:
                found.append(_breach("never_category", each, barred.category))
            if each.status == "failed" and each.retry in NEVER_AGAIN:
                barred = each
    by_card: defaultdict[tuple[str, str], list[SeenAttempt]] = defaultdict(list)
    for each in known:
        if each.customer_id and each.network and each.status == "failed":
            by_card[each.customer_id, each.network.casefold()].append(each)
    for (_, network), declines in by_card.items():
        declines.sort(key=lambda each: (each.at, each.attempt_id))
        for limit in SCHEME_LIMITS:
            if limit.network == network:
                found += _over_limit(declines, limit.attempts, limit.days, f"{network}_limit_{limit.days:g}d")
    return sorted(found, key=lambda breach: (breach.at, breach.attempt_id, breach.rule))


def _over_limit(declines: Sequence[SeenAttempt], most: int, days: float, rule: str) -> list[Breach]:
    """Every decline that has as many as are allowed within the window before it."""
    return [
        _breach(rule, each, f"{most} declines in {days:g} days")
        for place, each in enumerate(declines)
        if place >= most and declines[place - most].at > each.at - timedelta(days=days)
    ]


def _breach(rule: str, attempt: SeenAttempt, after: str) -> Breach:
    return Breach(
        rule=rule,
        attempt_id=attempt.attempt_id,
        order_id=attempt.order_id,
        at=attempt.at,
        gateway=attempt.gateway,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        after=after,
    )


def _orders(attempts: Iterable[SeenAttempt]) -> list[list[SeenAttempt]]:
    """The attempts of each order in the order of time."""
    by_order: defaultdict[str, list[SeenAttempt]] = defaultdict(list)
    for each in attempts:
        by_order[each.order_id].append(each)
    return [sorted(order, key=lambda each: (each.at, each.attempt_id)) for order in by_order.values()]


def cumulative(counts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """Order by count, with the share that each and all before it make up.

    >>> cumulative({"b": 1, "a": 3})
    [('a', 3, 0.75), ('b', 1, 1.0)]
    """
    total, so_far, rows = sum(counts.values()), 0, []
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        so_far += count
        rows.append((name, count, so_far / total if total else 0.0))
    return rows


def sampled_interval(
    parts: npt.NDArray[np.float64], wholes: npt.NDArray[np.float64], *, alpha: float = CONFIDENCE_ALPHA
) -> Interval | TooFewData:
    """A share with its interval, from trials in stretches of time.

    Args:
        parts: successes of each stretch, 0 <= parts <= wholes. Shape (stretches,).
        wholes: trials of each stretch. The same shape.
        alpha: share of intervals that may miss the true share, 0..1.
    Returns: the share with bounds in 0..1, or TooFewData where the trials lie in too few stretches to see how these
    differ. Stretches count as many as of like size say as much (Kish): of a large and 50 tiny ones about 1.
    Source: Wilson's interval of trials divided by the design effect, with a t quantile in place of the normal one,
    after Korn and Graubard (1998), Survey Methodology 24(2), 193-201. Checked by how often it holds the truth, in
    tests/unit/ml/failures.

    >>> sampled_interval(np.array([1.0, 2.0, 0.0]), np.array([10.0, 10.0, 0.0]))
    TooFewData(seen=2, needed=30)
    >>> found = sampled_interval(np.tile([1.0, 3.0], 20), np.full(40, 10.0))
    >>> found.estimate, round(found.low, 3), round(found.high, 3)
    (0.2, 0.163, 0.243)
    """
    squares = float((wholes**2).sum())
    like = float(wholes.sum()) ** 2 / squares if squares else 0.0
    if like < STRETCHES_MIN:
        return TooFewData(seen=int(like), needed=STRETCHES_MIN)
    quantile = float(stdtrit(like - 1, 1 - alpha / 2))
    trials = float(wholes.sum())
    return score_interval(float(parts.sum()) / trials, trials / design_effect(parts, wholes), quantile)


def design_effect(parts: npt.NDArray[np.float64], wholes: npt.NDArray[np.float64]) -> float:
    """How many times larger the variance of a share is than if its trials had been drawn one by one.

    Trials that came in the same stretch of time are alike: an outage fails many of them. What that costs is seen in how
    the stretches differ. Stretches without trials say nothing, and do not count.

    Args:
        parts: successes of each stretch, 0 <= parts <= wholes. Shape (stretches,).
        wholes: trials of each stretch. The same shape.
    Returns: at least 1; 1 where all trials ended alike, or lie in one stretch, which says nothing of how they differ.
    Source: the ratio estimator of cluster samples, Cochran (1977), Sampling Techniques, section 9A.1, with the variance
    of the jackknife, which holds for stretches of unlike size; the design effect is that of Kish (1965). Checked by how
    often intervals hold the truth, in tests/unit/ml/failures.

    >>> design_effect(np.array([5.0, 5.0]), np.array([10.0, 10.0]))
    1.0
    >>> round(design_effect(np.array([10.0, 0.0, 0.0]), np.array([10.0, 10.0, 0.0])), 6)
    20.0
    """
    parts, wholes = parts[wholes > 0], wholes[wholes > 0]
    trials, stretches = wholes.sum(), len(wholes)
    share = parts.sum() / trials if trials else 0.0
    if not 0 < share < 1 or stretches < 2:
        return 1.0
    left_out = (parts - share * wholes) / (1 - wholes / trials)
    variance = (stretches - 1) / stretches * (left_out**2).sum() / trials**2
    return max(1.0, float(variance / (share * (1 - share) / trials)))
