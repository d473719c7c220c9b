"""Group-sequential bounds: a fixed number of planned looks. What the always-valid bounds are compared with.

They need fewer units than a confidence sequence where the number of looks and the last one are known beforehand, and
hold no longer when somebody looks more often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

GRID: Final = 601
"""Points of the integration over the sums that went on; the published constants are met to three decimals."""

TAIL: Final = 9.0
"""Standard deviations beyond which nothing happens."""

Rule = Literal["pocock", "obrien_fleming", "lan_demets_obrien_fleming"]


def bounds(rule: Rule, looks: int, *, alpha: float = 0.05) -> list[float]:
    """How large |z| must be at each of equally spaced looks to stop, two-sided.

    Source: Jennison and Turnbull (2000), Group Sequential Methods; Lan and DeMets (1983) for the spending function.

    >>> [round(bound, 2) for bound in bounds("pocock", 5)]
    [2.41, 2.41, 2.41, 2.41, 2.41]
    """
    if rule == "lan_demets_obrien_fleming":
        return _spending(looks, alpha)
    shape = [1.0 if rule == "pocock" else math.sqrt(looks / look) for look in range(1, looks + 1)]

    def excess(constant: float) -> float:
        return sum(crossing([constant * each for each in shape])) - alpha

    constant = float(brentq(excess, 1.0, 6.0, xtol=1e-6))
    return [constant * each for each in shape]


def crossing(limits: Sequence[float], *, drift: float = 0.0) -> list[float]:
    """Probability to stop at each look, two-sided.

    Args:
        limits: |z| that stops, by look.
        drift: mean of z at the last look; 0: there is no difference.
    """
    looks = len(limits)
    step = drift / math.sqrt(looks)
    stopped: list[float] = []
    grid: NDArray[np.float64] = np.zeros(1)
    mass: Any = np.ones(1)
    for look, limit in enumerate(limits, start=1):
        edge = min(limit * math.sqrt(look), abs(step) * look + TAIL * math.sqrt(look))
        inside = np.linspace(-edge, edge, GRID)
        density = norm.pdf(inside[:, None] - grid[None, :] - step) @ mass
        going_on = norm.cdf(edge - grid - step) - norm.cdf(-edge - grid - step)
        stopped.append(float(mass.sum() - (going_on * mass).sum()))
        weights = np.full(GRID, inside[1] - inside[0])
        weights[1:-1:2] *= 4 / 3
        weights[2:-1:2] *= 2 / 3
        weights[[0, -1]] *= 1 / 3
        grid, mass = inside, density * weights
    return stopped


def size_inflation(rule: Rule, looks: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """How many times the units of a single look are needed at most, for the same power."""
    limits = bounds(rule, looks, alpha=alpha)
    fixed = float(norm.ppf(1 - alpha / 2) + norm.ppf(power))
    drift = float(brentq(lambda mean: sum(crossing(limits, drift=mean)) - power, fixed / 2, 2 * fixed, xtol=1e-4))
    return (drift / fixed) ** 2


def _spending(looks: int, alpha: float) -> list[float]:
    limits: list[float] = []
    spent = 0.0
    for look in range(1, looks + 1):
        one_side = 2 * norm.sf(norm.ppf(1 - alpha / 4) / math.sqrt(look / looks))
        allowed = 2 * float(one_side)
        increment = allowed - spent

        def excess(limit: float, increment: float = increment) -> float:
            return crossing([*limits, limit])[-1] - increment

        limits.append(float(brentq(excess, 1.0, 12.0, xtol=1e-6)))
        spent = allowed
    return limits
