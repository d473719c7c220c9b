"""Judges a candidate policy on logged decisions: as a whole, and by segment."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec
import numpy as np

from ml.experiments.intervals import Interval
from ml.routing.evaluation.estimators import Estimates, Refused, Weighted, estimate
from ml.routing.evaluation.logged import LoggedDecision, unit_of
from ml.routing.evaluation.money import CurrencyValue, Pricing, Valued
from ml.routing.evaluation.success_model import SuccessModel
from ml.routing.units import units

SEGMENTS: Final = ("method", "issuer", "network", "country")
SEGMENT_VALUES_MAX: Final = 12
"""Values of each kind that are looked at, the most frequent ones."""


class Judged(Protocol):
    """What is judged: it tells its probabilities, and hears outcomes when they become known."""

    def shares(self, decision: LoggedDecision) -> dict[str, float]:
        """The probability with which each gateway would have been put first."""

    def learn(self, decision: LoggedDecision) -> None:
        """Take in an outcome that has become known."""


class SegmentEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the payments."""

    kind: str
    value: str
    result: Estimates | Refused


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate would have achieved.

    Attributes:
        result: over all decisions with a known outcome.
        if_unknown: ``snips`` if all payments whose outcome is not known had failed, and if all had succeeded; None:
            there is no answer.
        unknown: decisions whose outcome is not known.
        taught: decisions before the ones that are judged, from which the candidate only learned.
        refused: decisions for which the candidate's rules left no gateway; they are in none of the figures, neither as
            they were nor as they would have been, so what refusing costs has to be judged by people.
        money: value of a payment by currency, where it is counted.
        currencies_left_out: how many others there were, with fewer payments; they are not told of.
        first_choices: share of payments that the candidate would have put first at each gateway.
        logged_choices: the same, as it was.
    """

    result: Estimates | Refused
    if_unknown: Interval | None
    unknown: int
    taught: int
    refused: int = 0
    segments: list[SegmentEvaluation]
    money: list[CurrencyValue] = []
    currencies_left_out: int = 0
    first_choices: dict[str, float]
    logged_choices: dict[str, float]


def evaluate(
    decisions: Iterable[LoggedDecision],
    candidate: Judged,
    *,
    judge_from: float = 0.0,
    pricing: Pricing | None = None,
) -> Evaluation:
    """Judge a candidate.

    The candidate is asked about each decision in the order of time, and hears each outcome when it became known. So
    what it does at any moment depends on the past alone, as it would have done, and the estimates stay free of bias.

    Args:
        decisions: of first attempts, oldest first; each with a propensity > 0 of the gateway that was put first. Those
            of an operator's override only teach: it would have stood above the candidate too.
        candidate: what is judged.
        judge_from: earlier decisions only teach, seconds since the epoch.
        pricing: what money is counted with; None: it is not.
    """
    log = _Log(pricing)
    model = SuccessModel()
    waiting: list[tuple[float, int, LoggedDecision]] = []
    taught = refused = 0
    for number, decision in enumerate(decisions):
        while waiting and waiting[0][0] <= decision.at:
            _, _, known = heapq.heappop(waiting)
            candidate.learn(known)
            model.learn(known)
        if decision.at < judge_from:
            taught += 1
        elif not decision.by_operator:
            shares = candidate.shares(decision)
            if sum(shares.values()) > 0:
                log.add(decision, shares, model)
            else:
                refused += 1
        if decision.known_at is not None:
            heapq.heappush(waiting, (decision.known_at, number, decision))
    return log.evaluation(taught, refused)


class _Log:
    """Collects what the estimates need, decision by decision."""

    def __init__(self, pricing: Pricing | None) -> None:
        self._valued = None if pricing is None else Valued(pricing)
        self._rows: list[tuple[float, float, float, float, float]] = []
        self._units: list[str] = []
        self._parts: dict[str, list[str]] = {kind: [] for kind in SEGMENTS}
        self._candidate: Counter[str] = Counter()
        self._logged: Counter[str] = Counter()

    def add(self, decision: LoggedDecision, shares: dict[str, float], model: SuccessModel) -> None:
        expected = {name: model.expected(decision, name) for name in decision.eligible}
        possible = dict(zip(decision.eligible, decision.propensities, strict=True))
        weight = shares.get(decision.gateway, 0.0) / decision.propensity
        unsupported = sum(share for name, share in shares.items() if possible[name] <= 0.0)
        self._rows.append(
            (
                weight,
                np.nan if decision.succeeded is None else float(decision.succeeded),
                expected[decision.gateway],
                sum(share * expected[name] for name, share in shares.items()),
                unsupported,
            )
        )
        self._units.append(unit_of(decision, len(self._units)))
        if self._valued is not None:
            self._valued.add(decision, weight, unsupported)
        for kind, values in self._parts.items():
            values.append(getattr(decision.context, kind) or "none")
        self._logged[decision.gateway] += 1
        self._candidate.update(shares)

    def evaluation(self, taught: int, refused: int) -> Evaluation:
        rows = np.array(self._rows).reshape(-1, 5)
        known = ~np.isnan(rows[:, 1])
        weights, rewards, used, wanted, unsupported = rows[known].T
        data = Weighted(weights, rewards, used, wanted, unsupported, units(self._units)[known])
        result = estimate(data)
        return Evaluation(
            result=result,
            if_unknown=_bounds(rows) if isinstance(result, Estimates) else None,
            unknown=int((~known).sum()),
            taught=taught,
            refused=refused,
            segments=list(self._segments(data, known)),
            money=[] if self._valued is None else self._valued.by_currency(),
            currencies_left_out=0 if self._valued is None else self._valued.left_out,
            first_choices=_shares(self._candidate, len(rows)),
            logged_choices=_shares(self._logged, len(rows)),
        )

    def _segments(self, data: Weighted, known: np.ndarray) -> Iterable[SegmentEvaluation]:
        for kind, names in self._parts.items():
            values = np.array(names, dtype=str)[known]
            for value, _ in Counter(values.tolist()).most_common(SEGMENT_VALUES_MAX):
                yield SegmentEvaluation(kind=kind, value=value, result=estimate(data.of(values == value)))


def _bounds(rows: np.ndarray) -> Interval:
    weights, rewards = rows[:, 0], rows[:, 1]
    low, high = (float(weights @ np.nan_to_num(rewards, nan=fill) / weights.sum()) for fill in (0.0, 1.0))
    known = ~np.isnan(rewards)
    return Interval(float(weights[known] @ rewards[known] / weights[known].sum()), low, high)


def _shares(counts: Counter[str], total: int) -> dict[str, float]:
    return {name: count / total for name, count in sorted(counts.items())}
