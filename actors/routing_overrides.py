"""The fixed order that an operator put above every policy: the switch for when nobody trusts the machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec
import numpy as np

from messaging.contracts import RoutingOverride
from ml.routing.policies import FixedOrderPolicy, Policy, PolicySettings


class OverridePolicy(FixedOrderPolicy):
    """A fixed order under a name of its own, so that nobody takes its decisions for those of an experiment's arm."""

    name = "override"


class RoutingOverrides:
    """At most one override; while it holds it decides every payment, and nothing is explored.

    Args:
        settings: of the router.
        generator: source of randomness, where the order names no eligible gateway.
    """

    def __init__(self, settings: PolicySettings, generator: np.random.Generator) -> None:
        self._settings = settings
        self._generator = generator
        self._held: tuple[RoutingOverride, Policy] | None = None

    def put(self, override: RoutingOverride, known: Policy, now: datetime) -> None:
        """Let an override hold; it expects of each gateway what ``known`` does. An earlier one gives way."""
        settings = msgspec.structs.replace(self._settings, order=tuple(override.order))
        policy = OverridePolicy(settings, self._generator)
        policy.inherit(known.evidence(now.timestamp()), now.timestamp())
        self._held = override, policy

    def release(self, override_id: str) -> None:
        """Take an override back; one that does not hold has no effect."""
        if self._held is not None and self._held[0].override_id == override_id:
            self._held = None

    def at(self, now: datetime) -> tuple[RoutingOverride, Policy] | None:
        """What holds at a moment."""
        if self._held is None:
            return None
        ends_at = self._held[0].ends_at
        return self._held if ends_at is None or now < ends_at else None

    def learners(self) -> Iterator[Policy]:
        """Who goes on learning beside the arms."""
        if self._held is not None:
            yield self._held[1]


def in_words(override: RoutingOverride) -> str:
    """Say who overrides the routing, until when, and why."""
    until = "until it is released" if override.ends_at is None else f"until {override.ends_at:%Y-%m-%d %H:%M} UTC"
    return f"routing is overridden by {override.who} {until}: {override.reason}"
