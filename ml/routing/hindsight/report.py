"""What routing earned and missed over some decisions, or why nobody can say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from ml.experiments.intervals import Interval
from ml.routing.evaluation.estimators import ESS_MIN
from ml.routing.hindsight.cells import TRIES_MIN, Level, levels_of
from ml.routing.hindsight.decided import DecidedPayment, DecisionTable
from ml.routing.hindsight.regret import Missed, missed
from ml.routing.hindsight.uplift import Uplift, uplift
from ml.routing.units import UNITS_MIN

EXPLORED_MIN: Final = 100
"""Decisions that explored, before what they cost is told."""

NOT_ROUTED: Final = {"rule": "decided by a rule", "operator": "decided by an operator's override"}


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """A sum in payments and, within one currency, in money.

    Attributes:
        currency: None: all together.
        decisions: that it is over.
        effective: how many payments at the best gateways say as much as the ones that were made.
        payments: so many more would have succeeded; None: no answer.
        amount_minor: the same in money; None: no answer, or several currencies.
        why_not: what ``payments`` lacks, ``why_no_amount`` what ``amount_minor`` does; None: nothing.
    """

    currency: str | None
    decisions: int
    effective: float
    payments: Interval | None = None
    amount_minor: Interval | None = None
    why_not: str | None = None
    why_no_amount: str | None = None


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A sum over all currencies, and by each."""

    total: Sum
    by_currency: list[Sum]


class Hindsight(msgspec.Struct, frozen=True, kw_only=True):
    """What routing earned and missed.

    Attributes:
        regret: what the best gateway of each group would have had, less what was had; below 0: choosing anew for each
            payment did better than one gateway for each group could have.
        spend: the part of it on decisions that explored.
        uplift: against the control slice.
        judged: decisions that regret is told of.
        unknown: decisions whose outcome is not known; in no figure, neither as a success nor as a failure.
        left_out: decisions that regret is not told of, by the reason.
        compared: share of gateways, over decisions, that were tried often enough in the finest group to be compared.
    """

    regret: Missing
    spend: Missing
    uplift: Uplift
    judged: int
    unknown: int
    left_out: dict[str, int]
    compared: float | None


def hindsight(decisions: Sequence[DecidedPayment]) -> Hindsight:
    """Tell regret, the price of exploring and uplift.

    Args:
        decisions: on first attempts, oldest first; each with a propensity > 0 of the gateway that was put first.
    """
    left_out: Counter[str] = Counter()
    judged, unknown = [], 0
    for each in decisions:
        if each.decider != "policy":
            left_out[NOT_ROUTED[each.decider]] += 1
        elif each.control:
            left_out["in the control slice"] += 1
        elif not each.followed:
            left_out["not followed by the checkout"] += 1
        elif each.succeeded is None:
            unknown += 1
        else:
            judged.append(each)
    regret, spend, compared = _missed(judged)
    return Hindsight(
        regret=regret,
        spend=spend,
        uplift=uplift(decisions),
        judged=len(judged),
        unknown=unknown,
        left_out=dict(sorted(left_out.items())),
        compared=compared,
    )


def _missed(judged: Sequence[DecidedPayment]) -> tuple[Missing, Missing, float | None]:
    """Regret, what was spent to learn, and the share of gateways that could be compared."""
    if not judged:
        nothing = Sum(currency=None, decisions=0, effective=0.0, why_not="no decision with a known outcome yet")
        return Missing(total=nothing, by_currency=[]), Missing(total=nothing, by_currency=[]), None
    table = DecisionTable.of(judged)
    levels = levels_of(table)
    lacking = _nothing_to_compare(table, levels)
    in_payments = missed(table, levels, np.ones(len(judged)))
    in_money = missed(table, levels, table.amount_minor)
    regret, spend = (
        _missing(table, in_payments[place], in_money[place], lacking, explored_only=place == 1) for place in (0, 1)
    )
    return regret, spend, float((table.offered & levels[-1].compared[levels[-1].group]).sum() / table.offered.sum())


def _missing(
    table: DecisionTable, payments: Missed, money: Missed, lacking: str | None, *, explored_only: bool
) -> Missing:
    currencies = table.parts[:, 0]
    every = np.ones(len(currencies), dtype=bool)
    return Missing(
        total=_sum(payments, None, every, None, lacking, explored_only),
        by_currency=[
            _sum(payments, money, currencies == currency, str(currency), lacking, explored_only)
            for currency in np.unique(currencies)
        ],
    )


def _sum(
    payments: Missed,
    money: Missed | None,
    chosen: np.ndarray,
    currency: str | None,
    lacking: str | None,
    explored_only: bool,
) -> Sum:
    counted = payments.size[chosen] != 0
    count = int(np.count_nonzero(counted))
    effective = payments.effective(chosen)
    customers = len(np.unique(payments.unit[chosen][counted]))
    why_not = lacking or _too_few(count, effective, explored_only)
    if why_not is None and customers < UNITS_MIN:
        why_not = f"the payments are those of {customers} customers, {UNITS_MIN} are needed: a customer's are alike"
    found = Sum(currency=currency, decisions=count, effective=effective, why_not=why_not)
    if why_not is not None:
        return found
    found = msgspec.structs.replace(found, payments=payments.sum_of(chosen))
    if money is None:
        return found
    why_no_amount = _too_few(count, money.effective(chosen), explored_only, weighed=", weighed by amount,")
    if why_no_amount is not None:
        return msgspec.structs.replace(found, why_no_amount=why_no_amount)
    return msgspec.structs.replace(found, amount_minor=money.sum_of(chosen))


def _too_few(count: int, effective: float, explored_only: bool, *, weighed: str = "") -> str | None:
    if explored_only and count < EXPLORED_MIN:
        return f"{count:,} decisions explored, at least {EXPLORED_MIN:,} are needed"
    if effective < ESS_MIN:
        return (
            f"what was paid at the best gateways says{weighed} as much as {effective:,.0f} payments, "
            f"at least {ESS_MIN:,.0f} are needed"
        )
    return None


def _nothing_to_compare(table: DecisionTable, levels: Sequence[Level]) -> str | None:
    """Why there is no best gateway to speak of; None: there is."""
    if int(table.offered.sum(axis=1).max()) < 2:
        return "no payment could have gone to another gateway"
    if max(int(level.compared.sum(axis=1).max()) for level in levels) < 2:
        return f"no two gateways were tried {TRIES_MIN:,.0f} times each on like payments"
    return None
