"""The figures of the simulator's report, computed from a long offline run: nothing is drawn here."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.offline import Chunk
from simulator.world import facts
from simulator.world.draws import Floats
from simulator.world.failures import CATEGORIES
from simulator.world.outcomes import CAUSES
from simulator.world.outcomes_many import SUCCEEDED

UPI: Final = facts.METHODS.index("upi")
ISSUER, PAYER = CAUSES.index("issuer"), CAUSES.index("payer")
NONE: Final = CAUSES.index("none")
Z: Final = 1.96
"""Intervals are 95 %, by Wilson's score."""


class Rate(msgspec.Struct, frozen=True):
    """A share with its 95 % interval and the count behind it; None when nothing was counted."""

    n: int
    rate: float | None
    low: float | None
    high: float | None


def rate_of(successes: int, n: int) -> Rate:
    """A share with Wilson's score interval.

    >>> rate_of(0, 0).rate is None
    True

    Source: Wilson (1927), JASA 22(158), 209-212.
    """
    if n == 0:
        return Rate(0, None, None, None)
    share = successes / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (share * (1 - share) / n + Z**2 / (4 * n**2)) ** 0.5
    return Rate(n, share, max(0.0, middle - half), min(1.0, middle + half))


class Calibration(msgspec.Struct, frozen=True):
    """One bank over UPI: public and simulated shares of the payments that reached it."""

    issuer: str
    business_public: float
    business: Rate
    technical_public: float
    technical: Rate


def calibration(chunk: Chunk) -> list[Calibration]:
    """Compare first attempts over UPI that reached the bank with the public figures.

    Args:
        chunk: attempts of a run without incidents.
    """
    attempts, cause = chunk.attempts, chunk.truth.cause
    reached = (attempts.method == UPI) & (attempts.number == 1) & np.isin(cause, (NONE, ISSUER, PAYER))
    rows = []
    for place, issuer in enumerate(facts.ISSUERS):
        mine = reached & (attempts.issuer == place)
        business, technical = mine & (cause == PAYER), mine & (cause == ISSUER)
        rows.append(
            Calibration(
                issuer=issuer.name,
                business_public=issuer.business,
                business=rate_of(int(business.sum()), int(mine.sum())),
                technical_public=issuer.technical,
                technical=rate_of(int(technical.sum()), int(mine.sum())),
            )
        )
    return rows


def calibration_overall(rows: list[Calibration]) -> dict[str, tuple[float, float]]:
    """Public and simulated shares over all banks, each weighed by its simulated traffic."""
    weights = np.array([row.business.n for row in rows], dtype=float)
    weights /= weights.sum()

    def both(public: list[float], simulated: list[float | None]) -> tuple[float, float]:
        return float(weights @ np.array(public)), float(weights @ np.array([value or 0.0 for value in simulated]))

    business = both([row.business_public for row in rows], [row.business.rate for row in rows])
    technical = both([row.technical_public for row in rows], [row.technical.rate for row in rows])
    approved = (1 - business[0] - technical[0], 1 - business[1] - technical[1])
    return {"approved": approved, "business decline": business, "technical decline": technical}


def rates_by(chunk: Chunk, groups: NDArray[np.int64], count: int) -> list[list[Rate]]:
    """Success of first attempts by gateway (outer) and group (inner).

    Args:
        chunk: attempts.
        groups: the group of each attempt, 0 to ``count`` - 1, others are left out; shape (n,).
        count: how many groups.
    """
    attempts = chunk.attempts
    first = attempts.number == 1
    succeeded = attempts.status_last == SUCCEEDED
    table = []
    for gateway in range(len(facts.GATEWAYS)):
        mine = first & (attempts.gateway == gateway)
        cells = [mine & (groups == group) for group in range(count)]
        table.append([rate_of(int((cell & succeeded).sum()), int(cell.sum())) for cell in cells])
    return table


def local_hour(at: Floats) -> NDArray[np.int64]:
    """Hour of the day in the world's country. Shape (n,)."""
    return ((at + facts.LOCAL_OFFSET_S) // 3600).astype(np.int64) % 24


def amount_groups(amount_minor: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
    """Six groups of amounts and their names."""
    edges = np.array([20_000, 50_000, 100_000, 250_000, 1_000_000])
    names = ["< 200", "200-500", "500-1,000", "1,000-2,500", "2,500-10,000", "> 10,000"]
    return edges.searchsorted(amount_minor, side="right"), names


def orders_by_hour(chunk: Chunk, days: int) -> Floats:
    """Orders per hour of the run, oldest first. Shape (24 * days,)."""
    first = chunk.attempts.number == 1
    at = chunk.attempts.at[first]
    hour = ((at - at[0]) // 3600).astype(np.int64)
    counts: Floats = np.bincount(hour[hour < 24 * days], minlength=24 * days).astype(float)
    return counts


class Retries(msgspec.Struct, frozen=True):
    """How orders fare with several attempts; lists by attempt number, from 1."""

    success_by_number: list[Rate]
    orders_paid: Rate
    first_attempts_paid: Rate


def retries(chunk: Chunk, attempts_max: int) -> Retries:
    """Success by attempt number, and of orders in the end."""
    attempts = chunk.attempts
    succeeded = attempts.status_last == SUCCEEDED
    by_number = [
        rate_of(int((succeeded & (attempts.number == number)).sum()), int((attempts.number == number).sum()))
        for number in range(1, attempts_max + 1)
    ]
    orders = len(np.unique(attempts.order))
    paid = len(np.unique(attempts.order[succeeded]))
    return Retries(by_number, rate_of(paid, orders), by_number[0])


def failures_by_category(chunk: Chunk) -> list[tuple[str, list[int]]]:
    """Failures of each category by gateway, most frequent category first."""
    rows = []
    for place, category in enumerate(CATEGORIES):
        mine = chunk.truth.category == place
        rows.append((category, [int((mine & (chunk.attempts.gateway == g)).sum()) for g in range(len(facts.GATEWAYS))]))
    return sorted(rows, key=lambda row: -sum(row[1]))


def latency_densities(chunk: Chunk, edges: Floats) -> list[Floats]:
    """Share of attempts by latency, one array by gateway; ``edges`` in milliseconds, shape (k + 1,)."""
    densities = []
    for gateway in range(len(facts.GATEWAYS)):
        mine = chunk.attempts.latency_ms[chunk.attempts.gateway == gateway]
        counts, _ = np.histogram(mine, edges)
        densities.append(counts / max(1, len(mine)))
    return densities


def success_by_time(chunk: Chunk, began_at: float, bin_s: float, bins: int) -> list[list[Rate]]:
    """Success of all attempts by gateway (outer) and time (inner)."""
    attempts = chunk.attempts
    place = ((attempts.at - began_at) // bin_s).astype(np.int64)
    succeeded = attempts.status_last == SUCCEEDED
    table = []
    for gateway in range(len(facts.GATEWAYS)):
        mine = (attempts.gateway == gateway) & (place < bins)
        counts = np.bincount(place[mine], minlength=bins)
        wins = np.bincount(place[mine & succeeded], minlength=bins)
        table.append([rate_of(int(won), int(n)) for won, n in zip(wins, counts, strict=True)])
    return table
