"""Counts what the traffic did, and what would have been best: the only place where live traffic and truth meet."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from simulator.world import facts
from simulator.world.plan import Label

BINS_MAX: Final = 7_200
"""Seconds of history kept per gateway."""

LABELS_MAX: Final = 1_000
"""Incidents listed in a summary at most, the latest."""

BUCKET_GROWTH: Final = 1.02
"""Quantiles of times are right to two per cent."""

BUCKETS: Final = 900
"""From 0.01 ms to about ten minutes."""

BUCKET_FIRST_MS: Final = 0.01


REPORT_COUNTS: Final = (
    "made",
    "confirmed",
    "attempts_confirmed",
    "corrections_confirmed",
    "duplicates_confirmed",
    "unconfirmed",
)


class Durations:
    """Milliseconds in buckets that grow by two per cent, for quantiles in bounded memory."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets = [0] * BUCKETS

    def add(self, milliseconds: float) -> None:
        """Count one duration."""
        place = int(math.log(max(milliseconds, BUCKET_FIRST_MS) / BUCKET_FIRST_MS) / math.log(BUCKET_GROWTH))
        self._buckets[min(place, BUCKETS - 1)] += 1
        self.count += 1

    def quantile(self, share: float) -> float | None:
        """The duration below which ``share`` of all lie, milliseconds; None when nothing was counted."""
        if not self.count:
            return None
        below = share * self.count
        seen = 0
        for place, count in enumerate(self._buckets):
            seen += count
            if seen >= below and count:
                return float(f"{BUCKET_FIRST_MS * BUCKET_GROWTH ** (place + 0.5):.4g}")
        return None

    def summary(self) -> Quantiles:
        """Median, 99th percentile and how many."""
        return Quantiles(n=self.count, p50_ms=self.quantile(0.5), p99_ms=self.quantile(0.99))


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of a duration, milliseconds; None when there was none."""

    n: int
    p50_ms: float | None
    p99_ms: float | None


class GatewayTotals(msgspec.Struct, kw_only=True):
    """What happened at one gateway, counted when the gateway answered."""

    attempts: int = 0
    succeeded: int = 0
    failed: int = 0
    pending: int = 0


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What first attempts could expect on the same orders: mean chances of success; None when there were none.

    ``oracle`` always takes the truly best gateway; ``best_fixed`` the one gateway that is best over the whole run,
    known only afterwards; ``uniform`` any; ``routed`` is what the routing chose.
    """

    orders: int
    routed: float | None
    oracle: float | None
    best_fixed: float | None
    best_fixed_gateway: str | None
    uniform: float | None
    by_gateway: dict[str, float]
    succeeded: float | None
    regret_attempts: float
    regret_minor: float
    fees_minor: float


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts by the second in which they were sent, by gateway, and how many of them succeeded in the end."""

    starts_at: datetime
    bin_s: int
    attempts: dict[str, list[int]]
    succeeded: dict[str, list[int]]


class TrafficSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run of traffic knows about itself. ``final`` is true once it has ended."""

    scenario: str
    seed: int
    rate: float
    speed: float
    run_id: str
    started_at: datetime
    updated_at: datetime
    elapsed_s: float
    final: bool
    orders: dict[str, int]
    arrival_lag: Quantiles
    attempts: int
    gateways: dict[str, GatewayTotals]
    reports: dict[str, int]
    routes: dict[str, int]
    route_round_trip: Quantiles
    truth: Truth
    truth_in_incidents: Truth
    timeline: Timeline
    incidents: list[Label]

    def write(self, path: Path) -> None:
        """Put it into a file as JSON; a reader sees the old one or the new one, never a part."""
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(self))
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


class TruthSums:
    """Adds up chances of success over first attempts."""

    def __init__(self) -> None:
        self._orders = self._succeeded = 0
        self._routed = self._oracle = self._uniform = self._regret_minor = self._fees = 0.0
        self._fixed = [0.0] * len(facts.GATEWAYS)

    def add(self, chances: Sequence[float], chosen: int, amount_minor: int) -> None:
        """Count one first attempt.

        Args:
            chances: of success, by gateway.
            chosen: the gateway taken.
            amount_minor: what it would have brought.
        """
        best = max(chances)
        self._orders += 1
        self._routed += chances[chosen]
        self._oracle += best
        self._uniform += sum(chances) / len(chances)
        self._regret_minor += (best - chances[chosen]) * amount_minor
        for place, chance in enumerate(chances):
            self._fixed[place] += chance

    def add_result(self, succeeded: bool, fee_minor: float) -> None:
        """Count how a first attempt ended, and what the gateway took for it."""
        self._succeeded += succeeded
        self._fees += fee_minor

    def truth(self) -> Truth:
        """The sums as shares of the orders."""

        def share(total: float) -> float | None:
            return round(total / self._orders, 6) if self._orders else None

        best = max(range(len(self._fixed)), key=self._fixed.__getitem__)
        return Truth(
            orders=self._orders,
            routed=share(self._routed),
            oracle=share(self._oracle),
            best_fixed=share(self._fixed[best]),
            best_fixed_gateway=facts.GATEWAYS[best] if self._orders else None,
            uniform=share(self._uniform),
            by_gateway={n: share(v) or 0.0 for n, v in zip(facts.GATEWAYS, self._fixed, strict=True)}
            if self._orders
            else {},
            succeeded=share(self._succeeded),
            regret_attempts=round(self._oracle - self._routed, 3),
            regret_minor=round(self._regret_minor, 1),
            fees_minor=round(self._fees, 1),
        )


class TrafficTally:
    """Counts while traffic runs. All bounded, whatever the length of the run.

    Args:
        started_at: seconds since epoch on the wall.
        about: scenario, seed, rate, speed and run_id, as the summary shows them.
    """

    def __init__(self, started_at: float, about: dict[str, Any]) -> None:
        self.started_at = started_at
        self.about = about
        self.orders = dict.fromkeys(("due", "started", "shed", "paid", "given_up", "awaiting"), 0)
        self.reports = dict.fromkeys(REPORT_COUNTS, 0)
        self.routes = dict.fromkeys(("asked", "answered", "in_time", "fallback"), 0)
        self.gateways = {name: GatewayTotals() for name in facts.GATEWAYS}
        self.arrival_lag = Durations()
        self.round_trip = Durations()
        self.truth = TruthSums()
        self.truth_in_incidents = TruthSums()
        self._first_bin = 0
        self._attempts = {name: [0] for name in facts.GATEWAYS}
        self._succeeded = {name: [0] for name in facts.GATEWAYS}

    def attempt_sent(self, gateway: str, at: float) -> None:
        """Count an attempt in the second in which it is sent (``at``: seconds since epoch on the wall)."""
        self._count(self._attempts, gateway, at)
        self.gateways[gateway].attempts += 1

    def attempt_succeeded(self, gateway: str, sent_at: float) -> None:
        """Count a success in the second in which its attempt was sent."""
        self._count(self._succeeded, gateway, sent_at)

    def _count(self, bins: dict[str, list[int]], gateway: str, at: float) -> None:
        place = int(at - self.started_at) - self._first_bin
        if place < 0:
            return  # older than the history kept
        while place >= len(bins[gateway]):
            for counts in (*self._attempts.values(), *self._succeeded.values()):
                counts.append(0)
        if (surplus := len(bins[gateway]) - BINS_MAX) > 0:
            for counts in (*self._attempts.values(), *self._succeeded.values()):
                del counts[:surplus]
            self._first_bin += surplus
            place -= surplus
        bins[gateway][place] += 1

    def summary(self, now: float, labels: Sequence[Label], *, final: bool) -> TrafficSummary:
        """What is known at ``now`` (seconds since epoch on the wall)."""
        return TrafficSummary(
            **self.about,
            started_at=datetime.fromtimestamp(self.started_at, UTC),
            updated_at=datetime.fromtimestamp(now, UTC),
            elapsed_s=round(now - self.started_at, 3),
            final=final,
            orders=dict(self.orders),
            arrival_lag=self.arrival_lag.summary(),
            attempts=sum(totals.attempts for totals in self.gateways.values()),
            gateways=self.gateways,
            reports=dict(self.reports),
            routes=dict(self.routes),
            route_round_trip=self.round_trip.summary(),
            truth=self.truth.truth(),
            truth_in_incidents=self.truth_in_incidents.truth(),
            timeline=Timeline(
                starts_at=datetime.fromtimestamp(self.started_at + self._first_bin, UTC),
                bin_s=1,
                attempts=self._attempts,
                succeeded=self._succeeded,
            ),
            incidents=list(labels[-LABELS_MAX:]),
        )
