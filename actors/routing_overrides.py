"""The fixed order that an operator put above every policy: the switch for when nobody trusts the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec
import numpy as np

from messaging.contracts import RoutingOverride
from ml.routing.context import OVERRIDE, Ranking, RoutingContext
from ml.routing.policies import NONE_UNWELL, NOTHING_ELIGIBLE, FixedOrderPolicy, Policy, PolicySettings
from ml.routing.ranking import Shares
from ml.routing.standings import Standing
from ml.routing.worth import NO_FEES, Fees


class OverridePolicy(FixedOrderPolicy):
    """The operator's order and nothing else: no chance, no exploring, no heed of anomalies.

    Gateways that failed for the order already stand behind the others; those that the operator did not name stand
    behind those that they did, by expected success.
    """

    name = OVERRIDE

    def rank(
        self,
        context: RoutingContext,
        candidates: tuple[str, ...],
        now: float,
        unwell: Mapping[str, str] = NONE_UNWELL,
        fees: Mapping[str, Fees] = NO_FEES,
    ) -> Ranking:
        """Rank eligible gateways; see Policy."""
        if not candidates:
            return NOTHING_ELIGIBLE
        beliefs = self._estimates.beliefs(context.method, context.issuer, candidates, now, context.network)
        order = self._settings.order
        places = [
            float(order.index(name)) if name in order else len(order) + 1.0 - belief.mean
            for name, belief in zip(candidates, beliefs, strict=True)
        ]
        tier = [int(name in context.previous_failures) for name in candidates]
        first = min(range(len(candidates)), key=lambda index: (tier[index], places[index]))
        shares = Shares([float(index == first) for index in range(len(candidates))], tier)
        standing = Standing(candidates, beliefs, shares, NONE_UNWELL, places=places)
        return standing.ranking(standing.draw(self._generator))


class RoutingOverrides:
    """At most one override; while it holds it decides every payment, and nothing is explored.

    Args:
        settings: of the router.
        generator: as every policy has; nothing is drawn from it.
    """

    def __init__(self, settings: PolicySettings, generator: np.random.Generator) -> None:
        self._settings = settings
        self._generator = generator
        self._held: tuple[RoutingOverride, Policy] | None = None

    def put(self, override: RoutingOverride, known: Policy, now: datetime) -> None:
        """Let an override hold; it expects of each gateway what ``known`` does. Of two, the later one holds."""
        if self._held is not None and self._held[0].starts_at > override.starts_at:
            return
        self._held = override, self._policy(override, known, now)

    def renew(self, known: Policy, now: datetime) -> None:
        """Let what holds expect of each gateway what ``known`` does, from now on."""
        if self._held is not None:
            self._held = self._held[0], self._policy(self._held[0], known, now)

    def _policy(self, override: RoutingOverride, known: Policy, now: datetime) -> Policy:
        settings = msgspec.structs.replace(self._settings, order=tuple(override.order))
        policy = OverridePolicy(settings, self._generator)
        policy.inherit(known.evidence(now.timestamp()), now.timestamp())
        return policy

    def release(self, override_id: str) -> None:
        """Take an override back; one that does not hold has no effect."""
        if self._held is not None and self._held[0].override_id == override_id:
            self._held = None

    def at(self, now: datetime) -> tuple[RoutingOverride, Policy] | None:
        """What holds now; from when it is known, because clocks differ."""
        if self._held is None or self._held[0].ends_at is None or now < self._held[0].ends_at:
            return self._held
        return None

    def decided(self, moment: datetime) -> bool:
        """Whether it decided a payment that was made then."""
        held = self.at(moment)
        return held is not None and held[0].starts_at <= moment

    def learners(self) -> Iterator[Policy]:
        """Who goes on learning beside the arms."""
        if self._held is not None:
            yield self._held[1]


def in_words(override: RoutingOverride) -> str:
    """Say who overrides the routing, until when, and why."""
    until = "until it is released" if override.ends_at is None else f"until {override.ends_at:%Y-%m-%d %H:%M} UTC"
    return f"routing is overridden by {override.who} {until}: {override.reason}"
