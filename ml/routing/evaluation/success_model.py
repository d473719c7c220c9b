"""The model of success behind the doubly robust estimate; it knows only what came before."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from ml.routing.evaluation.logged import LoggedDecision

WORTH: Final = 50.0
"""Payments that what is known of the whole counts as for a part of it."""

FIRST: Final = 0.5
"""Success of a gateway before anything is known."""


class SuccessModel:
    """Success per gateway, method and issuer, each drawn to that of the gateway, drawn to that of all.

    It is taught in the order of time and asked about a decision before it hears of its outcome. So its errors are no
    worse for the estimate than noise, also where the logged policy learned from the same outcomes.
    """

    def __init__(self) -> None:
        self._succeeded: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._payments: defaultdict[tuple[str, ...], float] = defaultdict(float)

    def expected(self, decision: LoggedDecision, gateway: str) -> float:
        """Expected success of a decision's payment at a gateway, 0 to 1."""
        rate = FIRST
        for key in self._keys(decision, gateway):
            rate = (self._succeeded.get(key, 0.0) + WORTH * rate) / (self._payments.get(key, 0.0) + WORTH)
        return rate

    def learn(self, decision: LoggedDecision) -> None:
        """Take in an outcome."""
        for key in self._keys(decision, decision.gateway):
            self._payments[key] += 1.0
            self._succeeded[key] += float(bool(decision.succeeded))

    @staticmethod
    def _keys(decision: LoggedDecision, gateway: str) -> tuple[tuple[str, ...], ...]:
        return (), (gateway,), (gateway, decision.context.method, decision.context.issuer)
