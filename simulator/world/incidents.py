"""What goes wrong, when, and for which part of the traffic. Some of it only looks wrong.

An incident can only turn a success into a failure, never the other way, and only inside its segment; so the same order
without the incident fares the same or better.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0, le=366 * 86_400)]
Positive = Annotated[float, Meta(gt=0, le=366 * 86_400)]
Share = Annotated[float, Meta(ge=0, le=1)]
Factor = Annotated[float, Meta(gt=0, le=100)]
Signal = Literal["success_rate", "latency", "volume", "failure_mix", "reversals"]

OCCURRENCES_MAX: Final = 10_000
"""Times that one repeating incident is written out at most."""


class Incident(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """When and where something happens. Times count from the start of the run, in the world's seconds.

    ``repeats_every_s`` makes it happen again and again. A part of the segment left out means all.
    """

    signal: ClassVar[Signal] = "success_rate"
    anomaly: ClassVar[bool] = True

    starts_s: Seconds
    lasts_s: Positive
    repeats_every_s: Positive | None = None
    gateway: str | None = None
    method: str | None = None
    issuer: str | None = None
    network: str | None = None
    note: Annotated[str, Meta(max_length=300)] = ""

    def occurrence(self, elapsed_s: float) -> int | None:
        """Which time of its repetition is under way, counted from 0; None when it is not happening."""
        since = elapsed_s - self.starts_s
        if since < 0:
            return None
        if self.repeats_every_s is None:
            return 0 if since < self.lasts_s else None
        count, within = divmod(since, self.repeats_every_s)
        return int(count) if within < self.lasts_s else None

    def happens_between(self, since_s: float, until_s: float) -> bool:
        """Tell whether any of it falls between two moments, counted from the start of the run."""
        if self.repeats_every_s is None:
            return self.starts_s <= until_s and self.starts_s + self.lasts_s >= since_s
        first = max(0.0, (since_s - self.starts_s) // self.repeats_every_s)
        starts = (self.starts_s + (first + place) * self.repeats_every_s for place in (0, 1))
        return any(start <= until_s and start + self.lasts_s >= since_s for start in starts)

    def progress(self, elapsed_s: float) -> float:
        """How much of it has passed, 0 to 1, while it is happening."""
        since = elapsed_s - self.starts_s
        if self.repeats_every_s is not None:
            since %= self.repeats_every_s
        return since / self.lasts_s

    def occurrences(self, until_s: float) -> list[tuple[float, float]]:
        """All (start, end) that start before ``until_s``, at most OCCURRENCES_MAX."""
        if self.starts_s >= until_s:
            return []
        if self.repeats_every_s is None:
            return [(self.starts_s, self.starts_s + self.lasts_s)]
        count = min(OCCURRENCES_MAX, math.ceil((until_s - self.starts_s) / self.repeats_every_s))
        starts = [self.starts_s + place * self.repeats_every_s for place in range(count)]
        return [(start, start + self.lasts_s) for start in starts]


class Outage(Incident, frozen=True, kw_only=True, tag="outage"):
    """A gateway, a method, an issuer or a part of them works for hardly anyone: success falls to ``success``."""

    success: Share = 0.04
    categories: dict[str, float] = {}


class Degradation(Incident, frozen=True, kw_only=True, tag="degradation"):
    """Success falls by so many percentage points."""

    points: Annotated[float, Meta(gt=0, le=100)]
    categories: dict[str, float] = {}


class Drift(Incident, frozen=True, kw_only=True, tag="drift"):
    """Success falls slowly, to ``points`` percentage points less at the end."""

    points: Annotated[float, Meta(gt=0, le=100)]
    categories: dict[str, float] = {}


class LatencyBrownout(Incident, frozen=True, kw_only=True, tag="latency"):
    """Answers take ``factor`` times as long; success is unchanged."""

    signal: ClassVar[Signal] = "latency"
    factor: Factor


class VolumeDrop(Incident, frozen=True, kw_only=True, tag="volume_drop"):
    """Orders stop coming: ``factor`` of the usual volume arrives. Not by gateway: orders do not know theirs yet."""

    signal: ClassVar[Signal] = "volume"
    factor: Share


class FailureMixChange(Incident, frozen=True, kw_only=True, tag="failure_mix"):
    """As many payments fail as before, but for other reasons."""

    signal: ClassVar[Signal] = "failure_mix"
    categories: Annotated[dict[str, float], Meta(min_length=1)]


class CardTesting(Incident, frozen=True, kw_only=True, tag="card_testing"):
    """Thieves try stolen cards with tiny amounts: ``orders_factor`` times the usual volume comes on top."""

    signal: ClassVar[Signal] = "volume"
    orders_factor: Factor = 1.0


class ReversalWave(Incident, frozen=True, kw_only=True, tag="reversals"):
    """A share of the successes is taken back."""

    signal: ClassVar[Signal] = "reversals"
    share: Share


class FlashSale(Incident, frozen=True, kw_only=True, tag="flash_sale"):
    """Many more orders than usual. No anomaly."""

    signal: ClassVar[Signal] = "volume"
    anomaly: ClassVar[bool] = False
    factor: Factor = 4.0


class MarketingPush(Incident, frozen=True, kw_only=True, tag="marketing_push"):
    """Somewhat more orders than usual for a while. No anomaly."""

    signal: ClassVar[Signal] = "volume"
    anomaly: ClassVar[bool] = False
    factor: Factor = 1.6


class QuietNight(Incident, frozen=True, kw_only=True, tag="quiet_night"):
    """Hardly anybody is awake. No anomaly."""

    signal: ClassVar[Signal] = "volume"
    anomaly: ClassVar[bool] = False
    factor: Share = 0.08


class Maintenance(Incident, frozen=True, kw_only=True, tag="maintenance"):
    """A gateway is closed as announced; checkouts know and send it nothing. No anomaly."""

    anomaly: ClassVar[bool] = False
    success: Share = 0.0


AnyIncident = (
    Outage
    | Degradation
    | Drift
    | LatencyBrownout
    | VolumeDrop
    | FailureMixChange
    | CardTesting
    | ReversalWave
    | FlashSale
    | MarketingPush
    | QuietNight
    | Maintenance
)

VolumeKinds = VolumeDrop | FlashSale | MarketingPush | QuietNight
SuccessKinds = Outage | Degradation | Drift | Maintenance


def success_under(incident: SuccessKinds, chance: float, progress: float) -> float:
    """The chance of success while an incident happens; never above ``chance``.

    >>> round(success_under(Degradation(starts_s=0, lasts_s=60, points=10), 0.9, 0.5), 6)
    0.8
    """
    if isinstance(incident, Outage | Maintenance):
        return min(chance, incident.success)
    lost = incident.points / 100 * (progress if isinstance(incident, Drift) else 1.0)
    return max(0.0, chance - lost)


def default_categories(incident: Incident) -> dict[str, float]:
    """What payments fail with because of an incident, when the scenario does not say."""
    if incident.issuer is not None:
        return {"issuer_unavailable": 80, "network_timeout": 20}
    if incident.method is not None and incident.gateway is None:
        return {"issuer_unavailable": 45, "network_timeout": 35, "processing_error": 20}
    return {"processing_error": 55, "network_timeout": 35, "merchant_configuration_error": 10}
