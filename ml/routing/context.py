"""What a routing policy is told, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Final

import msgspec

from ml.routing.belief import Belief

SHIFT_WORTH_SAYING: Final = 0.02
"""Log odds: less than half a point, at any rate."""

NO_SHIFTS: Final[Mapping[str, float]] = MappingProxyType({})

OF_MODEL: Final = "its country, amount and card range"
OF_FAILURES: Final = "its earlier failures"
"""Where shifts come from, in words."""

OVERRIDE: Final = "override"
"""Names what decides while an operator's order stands above the policies."""

RULES: Final = "rules"
"""Names what decides where a routing rule does."""

ABOVE_POLICIES: Final = frozenset({OVERRIDE, RULES})
"""What decides in place of a policy: such payments are in no experiment."""


class RoutingContext(msgspec.Struct, frozen=True, kw_only=True):
    """One payment that needs a gateway.

    Attributes:
        bin: first digits of the card number.
        three_ds: whether it goes through 3-D Secure; None: the checkout does not say.
        previous_failures: the gateways that failed for its order already.
        shifts: what the reliability model and earlier failures add to the log odds of success, by gateway.
        shifted_by: where the shifts come from, in words.
    """

    method: str
    issuer: str = "unknown"
    network: str | None = None
    country: str | None = None
    currency: str = ""
    amount_minor: int = 0
    attempt_number: int = 1
    bin: str | None = None
    three_ds: bool | None = None
    previous_failures: tuple[str, ...] = ()
    shifts: Mapping[str, float] = NO_SHIFTS
    shifted_by: str = OF_MODEL


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of payments of one gateway, method, issuer and card network.

    One payment is ``succeeded=1`` or ``failed=1``; a minute of a rollup carries many. A correction takes back with a
    negative number: a failure that turned out a success is ``succeeded=1, failed=-1``.

    Attributes:
        at: when the payments were attempted (not when the outcome became known), seconds since the epoch.
        succeeded: payments that succeeded.
        failed: payments that failed.
        shift: what the reliability model adds to the log odds of such payments, on the mean.
    """

    gateway: str
    method: str
    issuer: str
    at: float
    succeeded: float = 0.0
    failed: float = 0.0
    network: str | None = None
    shift: float = 0.0


class RankedCandidate(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One gateway of a ranking.

    Attributes:
        belief: what is believed of its success with this payment.
        propensity: probability that this policy puts this gateway first, given what it knew.
        shifted_by: what the shift of the belief comes from, in words.
        value: what the payment is worth at this gateway, minor units; None: only success counts.
        failed_before: whether it failed for this order already.
        unwell: why it is avoided; None: it is not.
    """

    gateway: str
    belief: Belief
    propensity: float
    shifted_by: str = ""
    value: float | None = None
    failed_before: bool = False
    unwell: str | None = None

    @property
    def expected_success(self) -> float:
        """Posterior mean of the probability that this payment succeeds, 0 to 1."""
        return self.belief.mean

    @property
    def payments(self) -> float:
        """Effective number of payments the estimate rests on (old ones count less)."""
        return self.belief.own + self.belief.borrowed

    @cached_property
    def reason(self) -> str:
        """What the estimate rests on, in words; made when it is first read, because most are never read."""
        belief = self.belief
        if belief.own < 0.5:
            basis = f"none of its recent payments is like this one, its others count as {belief.borrowed:.0f}"
        else:
            basis = f"from about {belief.own:.0f} recent payments like this, its others count as {belief.borrowed:.0f}"
        text = f"{belief.mean:.1%} expected (90 % interval {belief.low:.1%} to {belief.high:.1%}), {basis}"
        if abs(belief.shift) > SHIFT_WORTH_SAYING:
            without = 1.0 / (1.0 + math.exp(belief.shift) * (1.0 / belief.mean - 1.0))
            text += f"; {self.shifted_by} make {100 * (belief.mean - without):+.1f} points of it"
        if self.value is not None:
            text += f"; worth {self.value:.0f} minor units"
        if self.failed_before:
            text += "; failed for this order already"
        return f"{text}; unwell: {self.unwell}" if self.unwell else text


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """Gateways in the order to try them. Empty only when no gateway may take the payment.

    Attributes:
        candidates: best first, except that an exploring one stands before the best.
        best: the gateway that would be first if nothing were explored.
        exploring: whether another one is first, by chance.
        why_first: why another one is first that is not there to learn; empty where the policy says so.
        runner_up: who would be first if ``best`` were not there.
        runner_up_needs: expected success from which the runner-up would be ``best``; None: no success is enough,
            because it is unwell, failed for this order, or is too dear.
    """

    candidates: tuple[RankedCandidate, ...]
    best: str | None = None
    exploring: bool = False
    why_first: str = ""
    runner_up: str | None = None
    runner_up_needs: float | None = None

    @property
    def reason(self) -> str:
        """Why the first gateway is the first, in words."""
        if not self.candidates:
            return "no gateway may take this payment"
        first = self.candidates[0]
        claim = f"{first.gateway}: {first.expected_success:.1%} expected success"
        if len(self.candidates) == 1:
            return f"{claim}; it is the only gateway for this payment"
        if first.gateway != self.best:
            better = next(candidate for candidate in self.candidates if candidate.gateway == self.best)
            if not self.exploring:
                promised = f"{self.best} promises {better.expected_success:.1%}"
                return f"{claim}; {self.why_first or 'it is first in a fixed order'}, although {promised}"
            why = "to see whether it has recovered" if first.unwell else "to keep learning"
            return (
                f"{claim}; chosen {why} (probability {first.propensity:.1%}), "
                f"although {self.best} promises {better.expected_success:.1%}"
            )
        second = self.candidates[1]
        text = f"{claim}, next is {second.gateway} with {second.expected_success:.1%}"
        if first.value is not None and second.value is not None:
            text += f" (worth {first.value:.0f} and {second.value:.0f} minor units)"
        if self.runner_up == second.gateway and self.runner_up_needs is not None:
            text += f"; {second.gateway} would be first from {self.runner_up_needs:.1%} on"
        avoided = [f"avoids {each.gateway}: {each.unwell}" for each in self.candidates if each.unwell]
        return "; ".join([text, *avoided])
