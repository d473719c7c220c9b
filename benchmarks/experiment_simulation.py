"""Simulated experiments by the thousand, with a known truth, judged by the code that judges the real ones.

An order makes one to three attempts; those that fail may be tried again. Orders come from strata (method, issuer,
country, amount band) that differ much more from each other than the arms do. Sums over orders are drawn directly from
the multinomial distribution that the orders of one look follow, so that thousands of experiments take seconds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.experiments.moments import Moments

SUCCEEDED = np.array([1, 0, 1, 0, 1, 0])
SETTLED = np.array([1, 1, 2, 2, 3, 3])


class World(NamedTuple):
    """Where orders come from. ``rates``: success of one attempt by stratum; ``shares``: of the orders, by stratum."""

    rates: NDArray[np.float64]
    shares: NDArray[np.float64]
    retries: float

    @classmethod
    def drawn(cls, generator: np.random.Generator, *, strata: int, mean: float, retries: float) -> World:
        """A world whose strata lie around a mean on the log-odds scale, and differ in size."""
        spread = np.log(mean / (1 - mean)) + generator.normal(0, 0.8, strata)
        shares = generator.dirichlet(np.full(strata, 1.0))
        return cls(1 / (1 + np.exp(-spread)), shares, retries)

    def outcomes(self, effect: float) -> NDArray[np.float64]:
        """How an order ends: (settled, succeeded) as in SETTLED and SUCCEEDED. Shape (strata, 6)."""
        rate = np.clip(self.rates + effect, 0.0005, 0.9995)[:, None]
        again = self.retries
        lost = 1 - rate
        ends = [rate, lost * (1 - again), lost * again * rate, lost**2 * again * (1 - again),
                lost**2 * again**2 * rate, lost**3 * again**2]  # fmt: skip
        return np.concatenate(ends, axis=1)

    def authorization_rate(self, effect: float) -> float:
        """The true successes per settled attempt."""
        ends = self.outcomes(effect)
        return float((self.shares @ (ends @ SUCCEEDED)) / (self.shares @ (ends @ SETTLED)))

    def first_rate(self, effect: float) -> float:
        """The true share of orders whose first attempt succeeds."""
        return float(self.shares @ self.outcomes(effect)[:, 0])


class Watched(NamedTuple):
    """Many experiments, each looked at many times: sums of one arm so far. Shapes (runs, looks, strata)."""

    per_attempt: Moments
    per_order: Moments


def watch(
    generator: np.random.Generator, world: World, *, units: NDArray[np.int64], effect: float, runs: int
) -> Watched:
    """Draw one arm of many experiments.

    Args:
        generator: source of randomness.
        world: where orders come from.
        units: orders in this arm between one look and the next. Shape (looks,).
        effect: added to the success of every attempt.
        runs: experiments.
    """
    strata = len(world.shares)
    came = generator.multinomial(units, world.shares, size=(runs, len(units)))
    ends = world.outcomes(effect)
    counts = np.stack([generator.multinomial(came[..., at], ends[at]) for at in range(strata)], axis=2)
    counts = counts.cumsum(axis=1)
    return Watched(_moments(counts, SUCCEEDED, SETTLED), _moments(counts, (SUCCEEDED * (SETTLED == 1)), np.ones(6)))


def _moments(counts: Any, top: Any, bottom: Any) -> Moments:
    sums = (np.ones(6), top, bottom, top * top, top * bottom, bottom * bottom)
    return Moments(*(np.asarray(counts @ each, dtype=float) for each in sums))


def looks_of(total: int, looks: int, share: float) -> NDArray[np.int64]:
    """Orders of one arm between looks at equal distances."""
    ends = np.round(np.linspace(0, total, looks + 1) * share).astype(np.int64)
    return np.diff(ends)
