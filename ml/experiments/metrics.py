"""What an experiment can be judged by: every metric is a sum over attempts or orders, divided by another one.

Sums are collected by randomised unit, see ``units``; ``moments`` compares them.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

MetricName = Literal[
    "authorization_rate",
    "first_attempt_rate",
    "order_success_rate",
    "attempts_per_order",
    "latency_ms",
    "revenue_minor_per_order",
    "cost_minor_per_order",
]

QUANTITIES: Final = (
    "orders",
    "paid",
    "attempts",
    "settled",
    "succeeded",
    "first_settled",
    "first_succeeded",
    "revenue_minor",
    "cost_minor",
    "latency_ms",
    "latencies",
)
"""What is added up for each unit. ``paid`` orders hold a success; ``latencies`` are attempts of known latency."""


class Metric(NamedTuple):
    """One metric: what stands above and below the line, which way is better, and how it is shown."""

    name: str
    top: str
    bottom: str
    higher_is_better: bool
    is_share: bool
    title: str
    unit: str

    def shown(self, value: float, *, signed: bool = False) -> str:
        """A value, or with ``signed`` a difference of two, as people read it.

        >>> METRICS["authorization_rate"].shown(0.0123, signed=True)
        '+1.23 points'
        """
        sign = "+" if signed else ""
        if self.is_share:
            return f"{100 * value:{sign}.2f} {'points' if signed else '%'}"
        if self.unit == "minor":
            return f"{value / 100:{sign},.2f}"
        return f"{value:{sign}.1f} ms" if self.unit == "ms" else f"{value:{sign}.3f}"


METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("authorization_rate", "succeeded", "settled", True, True, "authorization rate", "share"),
        Metric("first_attempt_rate", "first_succeeded", "first_settled", True, True, "first-attempt rate", "share"),
        Metric("order_success_rate", "paid", "orders", True, True, "orders paid", "share"),
        Metric("attempts_per_order", "attempts", "orders", False, False, "attempts per order", "count"),
        Metric("latency_ms", "latency_ms", "latencies", False, False, "latency of an attempt", "ms"),
        Metric("revenue_minor_per_order", "revenue_minor", "orders", True, False, "revenue per order", "minor"),
        Metric("cost_minor_per_order", "cost_minor", "orders", False, False, "gateway fees per order", "minor"),
    )
}
"""Every metric; an order that is abandoned or still waits when it is mature counts as not paid."""

MONEY_METRICS: Final = frozenset({"revenue_minor_per_order", "cost_minor_per_order"})
"""They add up amounts, so all of them must be in one currency."""
