"""What recorded attempts teach the router: how first attempts ended, and how later ones did after a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from actors.recent import Recent
from messaging.contracts import RecordedAttempt
from ml.routing.context import Outcome
from ml.routing.fallbacks import Fallbacks
from ml.routing.learners import Arm

ORDERS_REMEMBERED_MAX: Final = 50_000
"""Orders whose first attempt failed, remembered until their second one comes: minutes at any rate."""

Expecting = Callable[[RecordedAttempt], float]
"""The success that is expected of an attempt as if it were its order's first."""

TOGETHER_S: Final = 2.0
"""Outcomes in one batch of like payments that were made within so long are learned at once: they teach the same, and a
busy minute costs a fraction."""


class Alike(NamedTuple):
    """What payments have in common that teach the same learners the same; ``arm`` None: they teach all."""

    arm: Arm | None
    gateway: str
    method: str
    issuer: str
    network: str | None
    span: float


class Together:
    """Outcomes of like payments."""

    __slots__ = ("at", "failed", "shift", "succeeded")

    def __init__(self) -> None:
        self.succeeded = self.failed = self.at = self.shift = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        self.succeeded += outcome.succeeded
        self.failed += outcome.failed
        self.shift += outcome.shift
        self.at = max(self.at, outcome.at)

    def outcome(self, alike: Alike) -> Outcome:
        """All of them, as of the latest."""
        return Outcome(gateway=alike.gateway, method=alike.method, issuer=alike.issuer, network=alike.network,
                       at=self.at, succeeded=self.succeeded, failed=self.failed,
                       shift=self.shift / max(1.0, self.succeeded + self.failed))  # fmt: skip


class LaterAttempts:
    """Puts the later attempts of orders together with the earlier ones that failed."""

    def __init__(self) -> None:
        self.fallbacks = Fallbacks()
        self._failed_first: Recent[str, str] = Recent(ORDERS_REMEMBERED_MAX)

    def learn(self, attempt: RecordedAttempt, expecting: Expecting) -> None:
        """Learn how attempts do after so many failed, and second ones after the gateway of the first one failed."""
        won, lost = _verdict(attempt.status)
        won_before, lost_before = _verdict(attempt.status_previous)
        is_news, at = (won, lost) != (won_before, lost_before), attempt.attempted_at.timestamp()
        if is_news and attempt.attempt_number > 1:
            self.fallbacks.learn_level(
                attempt.attempt_number - 1,
                expected=expecting(attempt),
                succeeded=won - won_before,
                not_succeeded=lost - lost_before,
                at=at,
            )
        if attempt.attempt_number == 1 and attempt.status == "failed":
            self._failed_first.put(attempt.order_id, attempt.gateway)
        failed = self._failed_first.get(attempt.order_id) if attempt.attempt_number == 2 else None
        if failed is None or failed == attempt.gateway:
            return
        if is_news:
            self.fallbacks.learn(
                failed, attempt.gateway, succeeded=won - won_before, not_succeeded=lost - lost_before, at=at
            )


def _verdict(status: str | None) -> tuple[int, int]:
    """(succeeded, failed) that a status stands for."""
    return (int(status == "succeeded"), int(status in ("failed", "reversed")))


def outcome_of(attempt: RecordedAttempt) -> Outcome | None:
    """What an attempt teaches: its status, less the status that it replaces; None: nothing."""
    if attempt.attempt_number > 1:
        return None
    succeeded, failed = _verdict(attempt.status)
    succeeded_before, failed_before = _verdict(attempt.status_previous)
    if (succeeded, failed) == (succeeded_before, failed_before):
        return None
    return Outcome(
        gateway=attempt.gateway,
        method=attempt.method,
        issuer=attempt.issuer,
        network=attempt.network,
        at=attempt.attempted_at.timestamp(),
        succeeded=succeeded - succeeded_before,
        failed=failed - failed_before,
    )
