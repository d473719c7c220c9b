"""The frontier of success against cost: what the cheapest, the surest and everything between would achieve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from ml.routing.worth import BPS, FREE, Fees

MARGINS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of the amount that a success might earn: each asks for another balance of success and fees."""


class Offered(NamedTuple):
    """One decision: amount in minor units, the success expected at each gateway, and the one that was put first."""

    amount_minor: int
    success: Mapping[str, float]
    chosen: str


class FrontierPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What one way to choose would achieve, as the router expected it at the time.

    Attributes:
        name: "as it was", "success alone" or "margin".
        margin_share: of the amount, that a success earns before fees; None: not asked.
        success: mean expected success.
        cost_minor: mean expected fees of a payment, minor units.
        best: whether no other point has both more success and less cost.
    """

    name: str
    margin_share: float | None
    success: float
    cost_minor: float
    best: bool = True


def frontier(decisions: Sequence[Offered], fees: Mapping[str, Fees]) -> list[FrontierPoint]:
    """Choose anew for every decision, by every margin.

    Args:
        decisions: of one currency; none: no points.
        fees: by gateway; one that is not named is free.
    Returns: what was done, then by rising margin, then by success alone.
    """
    if not decisions:
        return []
    names = sorted({name for decision in decisions for name in decision.success})
    shape = len(decisions), len(names)
    success, able = np.zeros(shape), np.zeros(shape, bool)
    for row, decision in enumerate(decisions):
        for name, expected in decision.success.items():
            place = names.index(name)
            success[row, place], able[row, place] = expected, True
    amount = np.array([decision.amount_minor for decision in decisions], float)[:, None]
    known = [fees.get(name, FREE) for name in names]
    when_won = (
        np.array([fee.fixed_success for fee in known]) + amount * np.array([fee.bps_success for fee in known]) / BPS
    )
    when_lost = np.array([fee.fixed_failure for fee in known])
    cost = success * when_won + (1 - success) * when_lost
    every = np.arange(len(decisions))

    def point(name: str, margin: float | None, chosen: np.ndarray) -> FrontierPoint:
        return FrontierPoint(name=name, margin_share=margin, success=float(success[every, chosen].mean()),
                             cost_minor=float(cost[every, chosen].mean()))  # fmt: skip

    points = [point("as it was", None, np.array([names.index(decision.chosen) for decision in decisions]))]
    for margin in MARGINS:
        value = np.where(able, success * margin * amount - cost, -np.inf)
        points.append(point("margin", margin, value.argmax(axis=1)))
    points.append(point("success alone", None, np.where(able, success, -np.inf).argmax(axis=1)))
    return [msgspec.structs.replace(each, best=not _is_beaten(each, points)) for each in points]


def _is_beaten(one: FrontierPoint, points: Sequence[FrontierPoint]) -> bool:
    return any(
        other.success >= one.success and other.cost_minor <= one.cost_minor
        and (other.success > one.success + 1e-9 or other.cost_minor < one.cost_minor - 1e-9)
        for other in points
    )  # fmt: skip
