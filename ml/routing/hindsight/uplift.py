"""What routing earns over the permanent control slice: orders paid, and money per order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from scipy.stats import norm

from ml.experiments.intervals import CONFIDENCE_ALPHA, Interval
from ml.routing.evaluation.estimators import effective_size
from ml.routing.hindsight.decided import DecidedPayment
from ml.routing.units import UNITS_MIN, units

SLICE_MIN: Final = 300
"""Orders with a known end that each side needs: with one in ten unpaid, its rate is then known to 3.4 points. For money
as many that weigh alike: few large orders among many small ones say less."""

ALLOCATION_MIN: Final = 30
"""The same within one allocation; those with fewer are left out, as are all orders from before there was a slice."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One side of the comparison.

    Attributes:
        orders: with a known end.
        customers: who made them; an order whose customer is not known counts as one.
        paid: of these orders.
        amount_minor: of those paid; None: in several currencies.
    """

    orders: int
    customers: int
    paid: int
    amount_minor: int | None = None


class UpliftMoney(msgspec.Struct, frozen=True, kw_only=True):
    """Money per order in one currency.

    Attributes:
        routed, control: the two sides, in this currency.
        per_order: money paid per order of the routed side less that of the control, minor units; None: no answer.
        amount_minor: the same over all routed orders.
        why_not: what is missing; None: there is an answer.
    """

    currency: str
    routed: Side
    control: Side
    per_order: Interval | None = None
    amount_minor: Interval | None = None
    why_not: str | None = None


class Uplift(msgspec.Struct, frozen=True, kw_only=True):
    """All that policies routed, against the control slice.

    Attributes:
        routed, control: the two sides.
        unknown: orders left out, because their end is not known yet.
        not_dealt: orders left out, because they lack the id by which the slice is dealt.
        success: share of orders paid of the routed side less that of the control; None: no answer.
        money: by currency.
        why_not: what is missing; None: there is an answer.
    """

    routed: Side
    control: Side
    unknown: int
    not_dealt: int = 0
    success: Interval | None = None
    money: list[UpliftMoney] = []
    why_not: str | None = None


def uplift(decisions: Sequence[DecidedPayment]) -> Uplift:
    """Compare the two sides, by the way they were dealt and not by what became of it.

    An order counts once, with the decision on its first attempt, and is paid if any attempt of it was. Rules and an
    operator's override treat both sides alike, so their orders are in neither. Sides are compared within each
    allocation, because the share of the slice may have changed between two of them; a customer's orders vary together.

    Args:
        decisions: oldest first.
    """
    routed_orders = {each.order_id: each for each in reversed(decisions) if each.decider == "policy"}
    orders = {name: each for name, each in routed_orders.items() if each.dealt}
    not_dealt = len(routed_orders) - len(orders)
    known = [each for each in orders.values() if each.paid is not None]
    comparable = _comparable(known)
    routed, control = (_side([each for each in comparable if each.control is side]) for side in (False, True))
    if not any(each.control for each in known):
        why = "no control slice: the holdout of config/experiments.yaml sets one aside" if known else "no decisions yet"
        return Uplift(
            routed=_side(known),
            control=_side([]),
            unknown=len(orders) - len(known),
            not_dealt=not_dealt,
            why_not=why,
        )
    why_not = _lacking(routed, control)
    found = Uplift(
        routed=routed,
        control=control,
        unknown=len(orders) - len(known),
        not_dealt=not_dealt,
        success=None if why_not else _difference(comparable, np.ones(len(comparable))),
        why_not=why_not,
    )
    currencies = sorted({each.currency for each in comparable})
    money = [_money(currency, [each for each in comparable if each.currency == currency]) for currency in currencies]
    return msgspec.structs.replace(found, money=money)


def _money(currency: str, orders: Sequence[DecidedPayment]) -> UpliftMoney:
    comparable = _comparable(orders)
    routed, control = (_side([each for each in comparable if each.control is side]) for side in (False, True))
    found = UpliftMoney(currency=currency, routed=routed, control=control, why_not=_lacking(routed, control))
    if found.why_not:
        return found
    amounts = np.array([float(each.amount_minor) for each in comparable])
    is_control = np.array([each.control for each in comparable])
    effective = min(effective_size(amounts[is_control]), effective_size(amounts[~is_control]))
    if effective < SLICE_MIN:
        why = f"amounts differ so much that they say as much as {effective:,.0f} orders, {SLICE_MIN:,.0f} are needed"
        return msgspec.structs.replace(found, why_not=why)
    per_order = _difference(comparable, amounts)
    total = Interval(*(value * routed.orders for value in msgspec.structs.astuple(per_order)))
    return msgspec.structs.replace(found, per_order=per_order, amount_minor=total)


def _comparable(orders: Sequence[DecidedPayment]) -> list[DecidedPayment]:
    """Orders of allocations under which both sides had enough."""
    counts: dict[str | None, list[int]] = {}
    for each in orders:
        counts.setdefault(each.allocation, [0, 0])[each.control] += 1
    return [each for each in orders if min(counts[each.allocation]) >= ALLOCATION_MIN]


def _side(orders: Sequence[DecidedPayment]) -> Side:
    paid = [each for each in orders if each.paid]
    is_one_currency = len({each.currency for each in orders}) == 1
    amount = sum(each.amount_minor for each in paid) if is_one_currency else None
    customers = len({each.customer_id or each.order_id for each in orders})
    return Side(orders=len(orders), customers=customers, paid=len(paid), amount_minor=amount)


def _lacking(routed: Side, control: Side) -> str | None:
    if min(routed.orders, control.orders) >= SLICE_MIN:
        customers = min(routed.customers, control.customers)
        if customers >= UNITS_MIN:
            return None
        return f"one side rests on {customers} customers, {UNITS_MIN} are needed: a customer's orders are alike"
    return (
        f"{routed.orders:,} routed orders and {control.orders:,} of the control slice can be compared, "
        f"{SLICE_MIN:,} of each are needed"
    )


def _difference(orders: Sequence[DecidedPayment], size: np.ndarray) -> Interval:
    """Mean size paid of the routed side less that of the control, within allocations, weighted by their orders."""
    value = size * np.array([float(bool(each.paid)) for each in orders])
    allocation = units([each.allocation or "" for each in orders])
    control = np.array([each.control for each in orders], dtype=int)
    side = 2 * allocation + control
    counts = np.bincount(side, minlength=2 * (allocation.max() + 1))
    means = np.bincount(side, value, minlength=len(counts)) / counts
    share = np.bincount(allocation) / len(orders)
    estimate = float(share @ (means[0::2] - means[1::2]))
    pull = (share[allocation] / counts[side]) * (value - means[side])
    unit = units([f"{each.control}{each.customer_id or each.order_id}" for each in orders])
    variance = float(np.square(np.bincount(unit, pull)).sum())
    reach = float(norm.ppf(1 - CONFIDENCE_ALPHA / 2)) * math.sqrt(variance)
    return Interval(estimate, estimate - reach, estimate + reach)
