"""Decisions with what became of their payments, one by one and as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from ml.routing.units import units

Decider = Literal["policy", "rule", "operator"]


class DecidedPayment(msgspec.Struct, frozen=True, kw_only=True):
    """A decision on the first attempt of an order, and how that and the order ended.

    Attributes:
        gateways: those that could have been put first; ``propensities`` is the probability of each to be, and
            ``expected`` its success as the router saw it at the time, 0 to 1.
        gateway: the one that was put first.
        exploring: another one was thought better; this was to learn.
        decider: who chose: a policy by its probabilities, one of the routing rules, or an operator's override.
        allocation: the version of the allocation under which the payment was dealt to its side.
        control: it is in the permanent control slice.
        dealt: it had the id by which payments are dealt to the control slice; without, it could never be in it.
        followed: the checkout made an attempt there.
        succeeded: how that attempt ended; None: not known, or not made.
        paid: whether any attempt of the order succeeded, and was not taken back; None: not known yet.
    """

    order_id: str
    customer_id: str | None = None
    method: str
    issuer: str
    currency: str
    amount_minor: int
    gateways: tuple[str, ...]
    propensities: tuple[float, ...]
    expected: tuple[float, ...]
    gateway: str
    exploring: bool = False
    decider: Decider = "policy"
    allocation: str | None = None
    control: bool = False
    dealt: bool = True
    followed: bool = True
    succeeded: bool | None = None
    paid: bool | None = None


@dataclass(frozen=True, slots=True)
class DecisionTable:
    """Decisions of policies whose outcome is known, as arrays of one length, ``decisions``.

    Attributes:
        names: of the gateways. Length ``gateways``.
        parts: currency, method and issuer of each decision. Shape (decisions, 3), str.
        offered: whether a gateway could have been put first. Shape (decisions, gateways), bool.
        expected: success there as the router saw it, 0 to 1; 0 where not offered. Shape (decisions, gateways).
        used: index of the gateway put first. Shape (decisions,), int.
        propensity: of that one, above 0 to 1. Shape (decisions,).
        exploring_chance: probability that the decision would explore, 0 to 1. Shape (decisions,).
        explored: whether it did. Shape (decisions,), bool.
        succeeded: 1 or 0. Shape (decisions,), float.
        amount_minor: of the payment. Shape (decisions,), float.
        unit: decisions of one customer, or of one order where no customer is known, have one number. Shape
            (decisions,), int.
    """

    names: tuple[str, ...]
    parts: np.ndarray
    offered: np.ndarray
    expected: np.ndarray
    used: np.ndarray
    propensity: np.ndarray
    exploring_chance: np.ndarray
    explored: np.ndarray
    succeeded: np.ndarray
    amount_minor: np.ndarray
    unit: np.ndarray

    @classmethod
    def of(cls, decisions: Sequence[DecidedPayment]) -> DecisionTable:
        """Put decisions with a known outcome into arrays."""
        names = tuple(sorted({name for each in decisions for name in each.gateways}))
        place = {name: index for index, name in enumerate(names)}
        count = len(decisions)
        offered, expected = np.zeros((count, len(names)), dtype=bool), np.zeros((count, len(names)))
        for row, each in enumerate(decisions):
            columns = [place[name] for name in each.gateways]
            offered[row, columns] = True
            expected[row, columns] = each.expected
        return cls(
            names=names,
            parts=np.array([(e.currency, e.method, e.issuer) for e in decisions], dtype=str).reshape(count, 3),
            offered=offered,
            expected=expected,
            used=np.array([place[each.gateway] for each in decisions], dtype=int),
            propensity=np.array([each.propensities[each.gateways.index(each.gateway)] for each in decisions]),
            exploring_chance=np.array([_exploring_chance(each) for each in decisions]),
            explored=np.array([each.exploring for each in decisions], dtype=bool),
            succeeded=np.array([float(bool(each.succeeded)) for each in decisions]),
            amount_minor=np.array([float(each.amount_minor) for each in decisions]),
            unit=units([each.customer_id or each.order_id for each in decisions]),
        )

    def expected_of(self, gateway: np.ndarray) -> np.ndarray:
        """What the router expected of each decision at this gateway. Shape (decisions,)."""
        return np.take_along_axis(self.expected, gateway[:, None], axis=1)[:, 0]


def _exploring_chance(decision: DecidedPayment) -> float:
    """One less the probability of what was thought best: what was tried, if most was expected, or the likeliest.

    Another one may be tried to learn, and then it is none of these; or because a rule's floor or the pace gave it this
    payment.
    """
    shares = dict(zip(decision.gateways, decision.propensities, strict=True))
    expected = dict(zip(decision.gateways, decision.expected, strict=True))
    if decision.exploring:
        del shares[decision.gateway]
    elif expected[decision.gateway] >= max(expected.values()):
        return 1.0 - shares[decision.gateway]
    return 1.0 - max(shares.values(), default=0.0)
