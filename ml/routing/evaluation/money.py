"""What payments were worth in money, and what they would have been worth with a candidate; by currency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import numpy as np
from scipy.stats import norm

from ml.experiments.intervals import CONFIDENCE_ALPHA, Interval
from ml.routing.evaluation.estimators import (
    Refused,
    effective_payments,
    effective_size,
    normal_interval,
    self_normalised,
    why_not,
)
from ml.routing.evaluation.logged import LoggedDecision, unit_of
from ml.routing.units import sums_of_units, units
from ml.routing.worth import FREE, Fees, Worth, worth_of

CURRENCIES_MAX: Final = 5
"""Currencies that are looked at, the most frequent ones."""


EVEN_MIN: Final = 75.0
"""Below so many payments of one size there is no answer: a few large ones carry the mean, and the next would change it.

Of 1,500 logs of 6,000 payments with lognormal amounts, a fifth of them at the candidate's gateway, all are answered at
sigma 1.0 (6 % of the intervals miss), 92 % at 1.5 (8 %), 2 % at 2.0, where without this 15 % would miss."""


class Pricing(msgspec.Struct, frozen=True, kw_only=True):
    """What money is counted with.

    Attributes:
        margin_share: of the amount that a success earns before fees, above 0 to 1.
        fees: by gateway; one that is not named is free.
    """

    margin_share: float
    fees: Mapping[str, Fees]

    def worth(self, decision: LoggedDecision, gateway: str) -> Worth:
        """What the payment of a decision is worth at a gateway, minor units of its currency."""
        return worth_of(decision.context.amount_minor, self.margin_share, self.fees.get(gateway, FREE))


class ValueEstimates(msgspec.Struct, frozen=True, kw_only=True, tag="estimated"):
    """Value of one payment, margin less fees, in minor units; all intervals 95 %.

    Attributes:
        decisions: with a known outcome.
        effective: effective sample size.
        candidate: what the candidate would have had (self-normalised inverse propensity score).
        observed: what there was.
        gain: of the candidate.
    """

    decisions: int
    effective: float
    candidate: Interval
    observed: Interval
    gain: Interval


class CurrencyValue(msgspec.Struct, frozen=True, kw_only=True):
    """The payments of one currency."""

    currency: str
    result: ValueEstimates | Refused


class Valued:
    """Collects what decisions were worth, one after the other."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing
        self._rows: list[tuple[float, float, float, float, float, float]] = []
        self._units: list[str] = []
        self._currencies: list[str] = []

    def add(self, decision: LoggedDecision, weight: float, unsupported: float) -> None:
        """Take in a decision; one whose outcome or amount is not known has no value.

        Args:
            decision: with the gateway that was used.
            weight: candidate's probability of it, divided by its propensity.
            unsupported: the candidate's probability of gateways whose propensity was 0.
        """
        if decision.succeeded is None or decision.context.amount_minor <= 0:
            return
        every = [self._pricing.worth(decision, name) for name in decision.eligible]
        used = self._pricing.worth(decision, decision.gateway)
        most, least = max(each.won for each in every), min(each.lost for each in every)
        value, amount = used.at(float(decision.succeeded)), float(decision.context.amount_minor)
        self._rows.append((weight, value, unsupported, most, least, amount))
        self._units.append(unit_of(decision, len(self._units)))
        self._currencies.append(decision.context.currency or "")

    def by_currency(self) -> list[CurrencyValue]:
        """What payments of the most frequent currencies were worth, and would have been."""
        rows, names = np.array(self._rows).reshape(-1, 6), np.array(self._currencies, dtype=str)
        unit = units(self._units)
        found = []
        for name, _ in Counter(self._currencies).most_common(CURRENCIES_MAX):
            weights, values, unsupported, most, least, amounts = rows[names == name].T
            paid = _Payments(weights, values, unsupported, most, least, amounts, unit[names == name])
            found.append(CurrencyValue(currency=name, result=_estimate(paid)))
        return found

    @property
    def left_out(self) -> int:
        """Currencies beyond those, about which nothing is said."""
        return max(0, len(set(self._currencies)) - CURRENCIES_MAX)


class _Payments(NamedTuple):
    """The payments of one currency, as arrays of one length.

    Attributes:
        weights: candidate's probability of the gateway that was used, divided by its propensity.
        values: what there was.
        unsupported: the candidate's probability of gateways whose propensity was 0.
        most: what the payment would have been worth at best.
        least: and at worst.
        amounts: what was to be paid.
        unit: number of the customer, or of what else varies together.
    """

    weights: np.ndarray
    values: np.ndarray
    unsupported: np.ndarray
    most: np.ndarray
    least: np.ndarray
    amounts: np.ndarray
    unit: np.ndarray

    def hidden(self, value: float) -> float:
        """How far a self-normalised mean may be off, because part of what the candidate chose could not be done.

        It stands for that part too, which was worth anything between the least and the most.
        """
        off = np.maximum(np.abs(self.most - value), np.abs(self.least - value))
        return float((self.unsupported * off).mean())


def _estimate(paid: _Payments) -> ValueEstimates | Refused:
    weights, values, unit = paid.weights, paid.values, paid.unit
    refused = why_not(weights, values, paid.unsupported, unit) or _too_uneven(paid)
    if refused is not None:
        return refused
    quantile = float(norm.ppf(1 - CONFIDENCE_ALPHA / 2))
    value, pull = self_normalised(weights, values)
    observed, reach = float(values.mean()), paid.hidden(value)
    gain = normal_interval(pull - (values - observed), unit, quantile, centre=value - observed)
    return ValueEstimates(
        decisions=len(values),
        effective=effective_payments(weights, values, unit),
        candidate=_wider(normal_interval(pull, unit, quantile, centre=value), reach),
        observed=normal_interval(values, unit, quantile),
        gain=_wider(gain, reach),
    )


def _too_uneven(paid: _Payments) -> Refused | None:
    """Say that amounts differ too much for an interval to hold; None: they do not.

    Both what went the candidate's way counts and all there was: where by chance no large payment went that way, the
    first would look even, and would be the farthest off. What one customer paid is one amount: it may all end alike.
    """
    went = effective_size(paid.weights) / len(paid.amounts)
    even = min(
        effective_size(sums_of_units(paid.weights * paid.amounts, paid.unit)),
        effective_size(sums_of_units(paid.amounts, paid.unit)) * went,
    )
    if even >= EVEN_MIN:
        return None
    why = (
        f"a few large payments carry the value: amounts differ so much that they say as much as {even:,.0f} payments "
        f"of one size, at least {EVEN_MIN:,.0f} are needed; look further back"
    )
    return Refused(
        why=why,
        decisions=len(paid.amounts),
        effective=effective_payments(paid.weights, paid.values, paid.unit),
        unsupported=float(paid.unsupported.mean()),
    )


def _wider(interval: Interval, by: float) -> Interval:
    return Interval(interval.estimate, interval.low - by, interval.high + by)
