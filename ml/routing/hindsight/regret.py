"""What the best gateway of each group of payments would have had in hindsight, less what was had.

The best of several noisy rates looks better than it is. So there are two estimates. The gateway is chosen by the
payments of some blocks and valued on the next block, block after block: that can only be too low, because the choice
may be wrong, and it adds up as a fair game does, so its error is known. And it is chosen and valued on the same
payments: that is too high on the mean, because the choice follows the noise. The first is the figure; the interval
goes from below the first to above the second, so it holds the truth whichever way the choice errs.

Rates are doubly robust: what the router expected at the time, corrected by the mean error that it made at the gateway,
weighted by the propensities. Where a decision could only go one way, the error is that of the others of its group.

Source: Dudík et al. (2011), ICML (doubly robust); Luedtke and van der Laan (2016), Annals of Statistics 44(2), 713-742
(choosing on what came before gives an interval where the best choice is not unique). Coverage against a known truth
is measured in tests/unit/ml/routing/test_hindsight.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import norm

from ml.experiments.intervals import CONFIDENCE_ALPHA, Interval
from ml.routing.evaluation.estimators import effective_size
from ml.routing.hindsight.best import AS_IT_WAS, BLOCKS, Choice, best_before, best_of_all, ratio
from ml.routing.hindsight.cells import Level
from ml.routing.hindsight.decided import DecisionTable
from ml.routing.units import deviation_of_sum

SEED: Final = 20_011


@dataclass(frozen=True, slots=True)
class Missed:
    """What each decision adds to a sum, in payments or in money.

    Attributes:
        parts: what it adds when it is valued on other payments than were chosen by. Shape (decisions,).
        high_parts: the same, chosen and valued on all payments. Shape (decisions,).
        size: what it counts as: 1, or its amount; 0 where it is not among those asked for. Shape (decisions,).
        weights: of its outcome in the estimate. Shape (decisions,), >= 0.
        group: finest group. Shape (decisions,), int.
        unit: decisions of one unit vary together. Shape (decisions,), int.
    """

    parts: np.ndarray
    high_parts: np.ndarray
    size: np.ndarray
    weights: np.ndarray
    group: np.ndarray
    unit: np.ndarray

    def sum_of(self, chosen: np.ndarray) -> Interval:
        """The sum over some decisions, with a 95 % interval.

        Args:
            chosen: which. Shape (decisions,), bool.
        """
        estimate, high = float(self.parts[chosen].sum()), float(self.high_parts[chosen].sum())
        quantile = float(norm.ppf(1 - CONFIDENCE_ALPHA / 2))
        reach, high_reach = (quantile * self._deviation(parts, chosen) for parts in (self.parts, self.high_parts))
        return Interval(estimate, estimate - reach, max(high + high_reach, estimate + reach))

    def effective(self, chosen: np.ndarray) -> float:
        """How many payments at the best gateways say as much as these."""
        return effective_size(self.weights[chosen])

    def _deviation(self, parts: np.ndarray, chosen: np.ndarray) -> float:
        """Standard deviation of the sum: of what units add beyond the mean of their groups."""
        parts, size = parts[chosen], self.size[chosen]
        _, group = np.unique(self.group[chosen], return_inverse=True)
        group = group.reshape(-1)
        mean = ratio(np.bincount(group, parts), np.bincount(group, size))[group]
        return deviation_of_sum(parts - mean * size, self.unit[chosen])


def missed(table: DecisionTable, levels: Sequence[Level], size: np.ndarray) -> tuple[Missed, Missed]:
    """Hindsight regret of every decision, and the part of it that was spent to learn.

    What the best gateway would have had of the decisions that explored is told by the payments that it did get, each
    weighted with the probability that its decision would have explored.

    Args:
        table: the decisions.
        levels: their groups.
        size: 1 each, or the amounts. Shape (decisions,).
    Returns: of all decisions, and of those that explored.
    """
    dealt = np.random.default_rng(SEED).integers(BLOCKS, size=int(table.unit.max(initial=0)) + 1)
    choices = best_before(table, levels, size, dealt[table.unit]), best_of_all(table, levels, size)
    explored, every = size * table.explored, np.ones_like(size)
    return (
        _missed(table, levels, choices, size, size, every),
        _missed(table, levels, choices, size, explored, table.exploring_chance),
    )


def _missed(
    table: DecisionTable,
    levels: Sequence[Level],
    choices: tuple[Choice, Choice],
    size: np.ndarray,
    counted: np.ndarray,
    chance: np.ndarray,
) -> Missed:
    (parts, weights), (high, _) = (_parts(table, levels, each, size, counted, chance) for each in choices)
    return Missed(parts, high, counted, weights, levels[-1].group, table.unit)


def _parts(
    table: DecisionTable,
    levels: Sequence[Level],
    choice: Choice,
    size: np.ndarray,
    counted: np.ndarray,
    chance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What each decision adds, and the weight of its outcome in that."""
    parts, weights = np.zeros(len(size)), np.zeros(len(size))
    for depth, level in enumerate(levels):
        here = (choice.level == depth) & (choice.gateway != AS_IT_WAS)
        expected = table.expected_of(np.where(here, choice.gateway, 0))
        weight = (here & (table.used == choice.gateway)) * chance * size / table.propensity
        error = table.succeeded - expected
        total = np.bincount(level.group, weight)
        mean = ratio(np.bincount(level.group, weight * error), total)[level.group]
        scaled = ratio(np.bincount(level.group, counted * here), total)[level.group] * weight
        would = counted * (expected + mean) + scaled * (error - mean)
        parts += np.where(here, would - counted * table.succeeded, 0.0)
        weights += scaled
    return parts, weights
