"""The routing problems: the true success of every gateway for every payment, and what a router may see of it.

Published ones: ``pb1``, ``pb2`` (Besson et al., arXiv 1902.01575), the payment week and the issuer outage. Own ones,
each with a stream of random numbers of its own: what changes is drawn anew for each seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

DAY_S: Final = 86_400.0
PB1: Final = ((0.9, 0.5, 0.3), (0.9, 0.2, 0.3), (0.1, 0.2, 0.3), (0.1, 0.7, 0.3), (0.1, 0.7, 0.5))
PB2: Final = ((0.9, 0.5, 0.4), (0.7, 0.4, 0.5), (0.5, 0.3, 0.6), (0.3, 0.2, 0.7), (0.1, 0.1, 0.8))
WEEK: Final = ((0.92, 0.01, 0.0), (0.94, 0.01, 0.0), (0.90, 0.08, -np.pi / 2), (0.86, 0.02, 0.0), (0.96, 0.01, 0.0))
ISSUER: Final = (
    (0.915, 0.01, 0.0), (0.920, 0.01, 0.0), (0.905, 0.02, -np.pi / 2), (0.945, 0.01, 0.0), (0.925, 0.01, 0.0),
)  # fmt: skip
ISSUER_SHARES: Final = (0.31, 0.26, 0.20, 0.14, 0.09)
BEST_FOR_ISSUERS: Final = 3
METHODS: Final = ("card", "upi", "wallet")
GATEWAYS: Final = 5
ISSUERS: Final = 8
DAYS: Final = 14.0


class World(NamedTuple):
    """One problem.

    Attributes:
        rates: true success of each gateway, shape (payments, gateways).
        at_s: when each payment is made.
        method: of each payment, position in METHODS.
        issuer: of each payment.
        late: payments that go by before an outcome is known.
        lost: share of outcomes that never become known.
        there: whether each gateway may be used, shape (payments, gateways); None: always all.
        incident: payments inside an incident; None: nothing is measured inside one.
    """

    rates: np.ndarray
    at_s: np.ndarray
    method: np.ndarray
    issuer: np.ndarray
    late: int = 0
    lost: float = 0.0
    there: np.ndarray | None = None
    incident: np.ndarray | None = None


def phases(table: tuple[tuple[float, ...], ...]) -> World:
    """Abrupt phases of equal length, 20,000 payments in a week."""
    count = 20_000
    return _plain(np.repeat(np.array(table), count // len(table), axis=0), np.arange(count) * (7 * DAY_S / count))


def week(count: int, late: int = 0) -> World:
    """Seven days with an echo that starts slowly, an outage of bravo and a brownout of delta."""
    minute = np.arange(count) * (7 * 1440 / count)
    rates = _rhythm(WEEK, minute)
    day = minute / 1440
    rates[(day >= 1.9) & (day < 2.3), 1] *= 0.05
    rates[(day >= 3.4) & (day < 3.7), 3] *= 0.55
    rates[day < 1, 4] *= 0.72
    return _plain(np.clip(rates, 0.001, 0.999), minute * 60)._replace(late=late)


def issuer_outage(count: int, seed: int) -> World:
    """Two days; from the second on, for eight hours, the best gateway nearly fails for the largest issuer."""
    minute = np.arange(count) * (2 * 1440 / count)
    rates = _rhythm(ISSUER, minute)
    issuer = np.random.default_rng([seed, 3]).choice(len(ISSUER_SHARES), count, p=ISSUER_SHARES)
    incident = (minute >= 1440) & (minute < 1440 + 480)
    rates[incident & (issuer == 0), BEST_FOR_ISSUERS] *= 0.08
    return _plain(rates, minute * 60)._replace(issuer=issuer, incident=incident)


def _plain(rates: np.ndarray, at_s: np.ndarray) -> World:
    return World(rates, at_s, np.zeros(len(rates), int), np.zeros(len(rates), int))


def _rhythm(table: tuple[tuple[float, float, float], ...], minute: np.ndarray) -> np.ndarray:
    columns = [base * (1 + size * np.sin(2 * np.pi * minute / 1440 + phase)) for base, size, phase in table]
    return np.stack(columns, axis=1)


# --- own scenarios ---------------------------------------------------------------------------------------------------


class _Base(NamedTuple):
    log_odds: np.ndarray
    at_s: np.ndarray
    method: np.ndarray
    issuer: np.ndarray
    issuer_shares: np.ndarray

    def world(self, change: np.ndarray | float = 0.0, factor: np.ndarray | float = 1.0) -> World:
        rates = factor / (1.0 + np.exp(-self.log_odds - change))
        return World(np.clip(rates, 0.001, 0.999), self.at_s, self.method, self.issuer)


def _base(rng: np.random.Generator, count: int, *, by_part: float, spread: tuple[float, float] = (0.88, 0.93)) -> _Base:
    """Gateways that differ by ``by_part`` (log odds) in each method and in each issuer."""
    method_shares, issuer_shares = rng.dirichlet(np.full(len(METHODS), 2.0)), rng.dirichlet(np.full(ISSUERS, 1.5))
    method = rng.choice(len(METHODS), count, p=method_shares)
    issuer = rng.choice(ISSUERS, count, p=issuer_shares)
    share = rng.uniform(*spread, GATEWAYS)
    table = (
        np.log(share / (1 - share))[:, None, None]
        + rng.normal(0, 0.3, len(METHODS))[None, :, None]
        + rng.normal(0, 0.3, ISSUERS)[None, None, :]
        + rng.normal(0, by_part, (GATEWAYS, len(METHODS)))[:, :, None]
        + rng.normal(0, by_part, (GATEWAYS, ISSUERS))[:, None, :]
    )
    return _Base(table[:, method, issuer].T.copy(), np.arange(count) * (DAYS * DAY_S / count), method, issuer,
                 issuer_shares)  # fmt: skip


def _bad_times(
    rng: np.random.Generator, at_s: np.ndarray, number: int, depth: tuple[float, float], hours: tuple[float, float]
) -> np.ndarray:
    factor = np.ones((len(at_s), GATEWAYS))
    for _ in range(number):
        gateway, begin, lasts = rng.integers(GATEWAYS), rng.uniform(0.05, 0.95) * at_s[-1], rng.uniform(*hours) * 3600
        factor[(at_s >= begin) & (at_s < begin + lasts), gateway] *= rng.uniform(*depth)
    return factor


def _context(rng: np.random.Generator, count: int) -> World:
    return _base(rng, count, by_part=0.5).world()


def _outages(rng: np.random.Generator, count: int) -> World:
    base = _base(rng, count, by_part=0.2)
    return base.world(factor=_bad_times(rng, base.at_s, 10, (0.03, 0.4), (2, 14)))


def _drift(rng: np.random.Generator, count: int) -> World:
    base = _base(rng, count, by_part=0.2)
    hours = int(DAYS * 24)
    walk = np.zeros((hours + 1, GATEWAYS))
    for hour in range(1, hours + 1):
        walk[hour] = walk[hour - 1] * (1 - 1 / 72) + rng.normal(0, 0.6 * np.sqrt(2 / 72), GATEWAYS)
    place = base.at_s / 3600
    low = place.astype(int).clip(0, hours - 1)
    part = (place - low)[:, None]
    return base.world(change=walk[low] * (1 - part) + walk[low + 1] * part)


def _season(rng: np.random.Generator, count: int) -> World:
    base = _base(rng, count, by_part=0.2)
    phase, size = rng.uniform(0, 2 * np.pi, GATEWAYS), rng.uniform(0.2, 0.8, GATEWAYS)
    return base.world(change=size * np.sin(2 * np.pi * base.at_s[:, None] / DAY_S + phase))


def _issuer_only(rng: np.random.Generator, count: int) -> World:
    base = _base(rng, count, by_part=0.2)
    factor, busiest = np.ones((count, GATEWAYS)), np.argsort(-base.issuer_shares)[:5]
    for _ in range(12):
        begin, lasts = rng.uniform(0.05, 0.9) * base.at_s[-1], rng.uniform(6, 30) * 3600
        hit = (base.at_s >= begin) & (base.at_s < begin + lasts) & (base.issuer == rng.choice(busiest))
        factor[hit, rng.integers(GATEWAYS)] *= rng.uniform(0.05, 0.7)
    return base.world(factor=factor)


def _come_and_go(rng: np.random.Generator, count: int) -> World:
    base = _base(rng, count, by_part=0.3)
    there, day = np.ones((count, GATEWAYS), bool), base.at_s / DAY_S
    for gateway in range(1, GATEWAYS):
        begin = rng.uniform(0, DAYS * 0.6) if rng.random() < 0.6 else 0.0
        there[:, gateway] = (day >= begin) & (day < begin + rng.uniform(DAYS * 0.3, DAYS))
    return base.world()._replace(there=there)


def _late(rng: np.random.Generator, count: int) -> World:
    base = _base(rng, count, by_part=0.3)
    factor = _bad_times(rng, base.at_s, 6, (0.03, 0.5), (4, 14))
    return base.world(factor=factor)._replace(late=500, lost=0.05)


def _brownout(rng: np.random.Generator, count: int) -> World:
    base = _base(rng, count, by_part=0.2)
    return base.world(factor=_bad_times(rng, base.at_s, 14, (0.7, 0.92), (4, 24)))


def near_equal(seed: int, count: int) -> World:
    """Five gateways within three tenths of a percentage point, the same for all payments, and nothing changes."""
    rng = np.random.default_rng([seed, 78])
    base = _base(rng, count, by_part=0.0, spread=(0.9, 0.9))
    return base.world(change=rng.uniform(0, 0.03, GATEWAYS))


SCENARIOS: Final[dict[str, Callable[[np.random.Generator, int], World]]] = {
    "context": _context,
    "outages": _outages,
    "drift": _drift,
    "season": _season,
    "issuer_only": _issuer_only,
    "come_and_go": _come_and_go,
    "late": _late,
    "brownout": _brownout,
}


def scenario(name: str, seed: int, count: int) -> World:
    """An own scenario of one seed."""
    return SCENARIOS[name](np.random.default_rng([seed, 77, list(SCENARIOS).index(name)]), count)
