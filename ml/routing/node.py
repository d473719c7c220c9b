"""One link in the chain of an estimate: what one part of one gateway's traffic does, steadily and just now."""

from __future__ import annotations

import math
from typing import Final, Literal

FALL: Final = 0.15
"""A fall worth noticing: success lower by this much, or halved if that is less (Page's test needs one alternative)."""

RISE: Final = 0.1
"""A rise worth noticing: success higher by this much, or half of what is missing to certainty, or as high as the best
gateway, whichever is most: nobody would be sent there for less."""

RATE_MIN: Final = 0.01
"""Predictions are kept this far from 0 and 1 for the detector: one surprise cannot be infinite evidence."""

SHARE_MIN: Final = 1e-3
SHARE_MAX: Final = 1 - SHARE_MIN
"""Shares are kept this far from 0 and 1 on the log-odds scale: one surprise must not weigh without bound."""

Change = Literal["fell", "rose"]


def _within(value: float, least: float, most: float) -> float:
    """Bound a value; a comparison costs a fraction of ``min`` and ``max``, and every outcome needs dozens."""
    return least if value < least else most if value > most else value


def logit(share: float) -> float:
    """Log odds of a share, kept finite."""
    if share < SHARE_MIN:
        share = SHARE_MIN
    elif share > SHARE_MAX:
        share = SHARE_MAX
    return math.log(share / (1 - share))


def chance(log_odds: float) -> float:
    """The share with these log odds."""
    return 1.0 / (1.0 + math.exp(-log_odds)) if log_odds > -30 else math.exp(-30)


def shift_of(payments: float, succeeded: float, expected: float, strength: float) -> float:
    """Log odds by which payments went beside what was expected, when the expectation is worth ``strength`` payments."""
    mean = expected / payments
    rate = (succeeded + strength * mean) / (payments + strength)
    # The difference of two logits, written out: a router does this for every gateway of every payment.
    mean = SHARE_MIN if mean < SHARE_MIN else SHARE_MAX if mean > SHARE_MAX else mean
    rate = SHARE_MIN if rate < SHARE_MIN else SHARE_MAX if rate > SHARE_MAX else rate
    return math.log(rate * (1 - mean) / ((1 - rate) * mean))


class Run:
    """One side of a change detector: evidence for a change, and what happened since that evidence was last zero."""

    __slots__ = ("evidence", "expected", "payments", "since", "succeeded")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start anew."""
        self.evidence = self.payments = self.succeeded = self.expected = 0.0
        self.since = -math.inf

    def feed(self, surprise: float, counts: tuple[float, float, float], at: float) -> float:
        """Add the log likelihood ratio of an outcome (payments, succeeded, expected). Returns: the evidence so far."""
        if self.evidence <= 0.0:
            self.payments = self.succeeded = self.expected = 0.0
            self.since = at
        evidence = self.evidence + surprise
        self.evidence = evidence if evidence > 0.0 else 0.0
        self.payments += counts[0]
        self.succeeded += counts[1]
        self.expected += counts[2]
        return self.evidence


class Node:
    """Payments of one part of one gateway's traffic: how many succeeded, and how many were expected to.

    There are two memories of the same payments: a long one, from which the steady rate comes, and a recent one for what
    is different now. A node is ``apart`` while a sudden change holds: then only what came since the change
    counts, and ``base`` remembers what the node did before, because most trouble passes.

    The detector is a two-sided CUSUM of Bernoulli log likelihood ratios against the prediction before each outcome.
    Source: Page (1954), Biometrika 41(1/2), 100-115.
    """

    __slots__ = (
        "apart",
        "apart_since",
        "at",
        "base",
        "expected",
        "fall",
        "payments",
        "probed",
        "recent_expected",
        "recent_payments",
        "recent_succeeded",
        "rise",
        "shift",
        "since",
        "succeeded",
    )

    def __init__(self, at: float) -> None:
        self.at = self.probed = at
        self.since = self.apart_since = -math.inf
        self.payments = self.succeeded = self.expected = self.shift = 0.0
        self.recent_payments = self.recent_succeeded = self.recent_expected = 0.0
        self.apart = False
        self.base = 0.0
        self.fall = Run()
        self.rise = Run()

    def move_to(self, at: float, long_decay: float, recent_decay: float) -> tuple[float, float]:
        """Let both memories fade until ``at``. Returns: what a payment made at ``at`` weighs in each.

        Args:
            at: seconds since the epoch; a payment before the node's time weighs less, and nothing fades.
            long_decay: fading of the long memory, 1/s.
            recent_decay: fading of the recent memory, 1/s.
        """
        age = at - self.at
        if age <= 0:
            return math.exp(age * long_decay), math.exp(age * recent_decay)
        keep = math.exp(-age * long_decay)
        self.payments *= keep
        self.succeeded *= keep
        self.expected *= keep
        keep = math.exp(-age * recent_decay)
        self.recent_payments *= keep
        self.recent_succeeded *= keep
        self.recent_expected *= keep
        self.at = at
        return 1.0, 1.0

    def add_long(self, payments: float, succeeded: float, expected: float) -> None:
        """Add to the long memory; negative amounts take back, and what has faded stays at zero."""
        self.payments = most = _within(self.payments + payments, 0.0, math.inf)
        self.succeeded = _within(self.succeeded + succeeded, 0.0, most)
        self.expected = _within(self.expected + expected, 0.0, most)

    def add_recent(self, payments: float, succeeded: float, expected: float) -> None:
        """Add to the recent memory in the same way."""
        self.recent_payments = most = _within(self.recent_payments + payments, 0.0, math.inf)
        self.recent_succeeded = _within(self.recent_succeeded + succeeded, 0.0, most)
        self.recent_expected = _within(self.recent_expected + expected, 0.0, most)

    def correct(self, strength: float) -> None:
        """Estimate from the long memory by how much payments go beside what was expected."""
        if self.payments > 0:
            self.shift = shift_of(self.payments, self.succeeded, self.expected, strength)

    def recent_shift(self, now: float, decay: float, strength: float) -> tuple[float, float]:
        """What is different now, in log odds, and the payments that this rests on."""
        keep = math.exp((self.at - now) * decay) if now > self.at else 1.0
        payments = self.recent_payments * keep
        if payments < 0.01:
            return 0.0, payments
        return shift_of(payments, self.recent_succeeded * keep, self.recent_expected * keep, strength), payments

    def renew(self, since: float) -> None:
        """Forget what was different lately; payments made before ``since`` are not heard any more."""
        self.recent_payments = self.recent_succeeded = self.recent_expected = 0.0
        self.apart = False
        self.since = since
        self.calm()

    def settle(self) -> None:
        """Take what came since the change for the steady state from now on."""
        self.payments, self.succeeded = self.recent_payments, self.recent_succeeded
        self.expected = self.recent_expected
        self.recent_payments = self.recent_succeeded = self.recent_expected = 0.0
        self.apart = False

    def move_by(self, log_odds: float) -> None:
        """Remember the payments as they would have gone, and been expected to go, with other odds."""
        if self.payments > 0:
            more = self.payments * chance(logit(self.succeeded / self.payments) + log_odds) - self.succeeded
            self.add_long(0.0, more, more)

    def calm(self) -> None:
        """Start the change detector anew."""
        self.fall.clear()
        self.rise.clear()


def surprises(rate: float, succeeded: float, failed: float, best: float = 0.0) -> tuple[float, float]:
    """Log likelihood ratios with which outcomes speak for a fall and for a rise from a predicted rate.

    Args:
        rate: predicted success.
        succeeded: payments that did.
        failed: payments that did not.
        best: success of the best gateway with such payments; 0: not known.
    """
    rate = min(max(rate, RATE_MIN), 1 - RATE_MIN)
    fallen = max(rate - FALL, rate / 2)
    risen = max(rate + RISE, (1 + rate) / 2, min(best, 1 - RATE_MIN))
    fall = succeeded * math.log(fallen / rate) + failed * math.log((1 - fallen) / (1 - rate))
    if risen >= 1:  # a rate so high cannot rise by as much, and what is good already needs no discovery
        return fall, 0.0
    return fall, succeeded * math.log(risen / rate) + failed * math.log((1 - risen) / (1 - rate))
