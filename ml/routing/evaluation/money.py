"""What payments were worth in money, and what they would have been worth with a candidate; by currency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from scipy.stats import norm

from ml.experiments.intervals import CONFIDENCE_ALPHA, Interval
from ml.routing.evaluation.estimators import Refused, effective_size, normal_interval, self_normalised, why_not
from ml.routing.evaluation.logged import LoggedDecision
from ml.routing.worth import FREE, Fees, Worth, worth_of

CURRENCIES_MAX: Final = 5
"""Currencies that are looked at, the most frequent ones."""


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
        self._rows: list[tuple[float, float, float, float]] = []
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
        swing = max(each.won for each in every) - min(each.lost for each in every)
        self._rows.append((weight, used.at(float(decision.succeeded)), unsupported, unsupported * swing))
        self._currencies.append(decision.context.currency or "")

    def by_currency(self) -> list[CurrencyValue]:
        """What payments of the most frequent currencies were worth, and would have been."""
        rows, names = np.array(self._rows).reshape(-1, 4), np.array(self._currencies, dtype=str)
        return [
            CurrencyValue(currency=name, result=_estimate(*rows[names == name].T))
            for name, _ in Counter(self._currencies).most_common(CURRENCIES_MAX)
        ]


def _estimate(
    weights: np.ndarray, values: np.ndarray, unsupported: np.ndarray, hidden: np.ndarray
) -> ValueEstimates | Refused:
    """``hidden``: what each decision may be off by, because part of the candidate's choice could not be made."""
    refused = why_not(weights, unsupported)
    if refused is not None:
        return refused
    quantile, reach = float(norm.ppf(1 - CONFIDENCE_ALPHA / 2)), float(hidden.mean())
    value, pull = self_normalised(weights, values)
    observed = float(values.mean())
    gain = normal_interval(pull - (values - observed), quantile, centre=value - observed)
    return ValueEstimates(
        decisions=len(values),
        effective=effective_size(weights),
        candidate=_wider(normal_interval(pull, quantile, centre=value), reach),
        observed=normal_interval(values, quantile),
        gain=_wider(gain, reach),
    )


def _wider(interval: Interval, by: float) -> Interval:
    return Interval(interval.estimate, interval.low - by, interval.high + by)
