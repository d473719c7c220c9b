"""Requests and attempts as the payments that policies, rules and models see."""

from __future__ import annotations

from messaging.contracts import RecordedAttempt, RouteRequested
from ml.routing.context import RoutingContext


def context_asked(request: RouteRequested) -> RoutingContext:
    """The payment that a request is about."""
    return RoutingContext(
        method=request.method,
        issuer=request.issuer,
        network=request.network,
        country=request.country,
        currency=request.currency,
        amount_minor=request.amount_minor,
        attempt_number=request.attempt_number,
        bin=request.bin,
        three_ds=request.three_ds,
        previous_failures=tuple(failure.gateway for failure in request.previous_failures),
    )


def context_of(attempt: RecordedAttempt) -> RoutingContext:
    """An attempt as the payment that it was when it was routed."""
    return RoutingContext(
        method=attempt.method,
        issuer=attempt.issuer,
        network=attempt.network,
        country=attempt.country,
        currency=attempt.currency,
        amount_minor=attempt.amount_minor,
        attempt_number=attempt.attempt_number,
        bin=attempt.bin,
        three_ds=attempt.three_ds,
    )
