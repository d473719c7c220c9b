"""Shoppers for tests, of two kinds that differ in what they do after a failure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from ml.behaviour.orders import OrderStory, Step

FIRST_DAY = datetime(2026, 3, 2, 12, tzinfo=UTC)


def shopper(kind: str, number: int, draw: np.random.Generator) -> list[OrderStory]:
    """The orders of one shopper: "patient" tries again at once another way and pays, any other kind leaves."""
    stories = []
    for n in range(int(draw.integers(3, 7))):
        at = FIRST_DAY + timedelta(hours=float(draw.uniform(0, 6)), days=n)
        steps = [Step(at=at, gateway="alpha", method="card", status="failed", category="do_not_honor")]
        if kind == "patient":
            again = at + timedelta(seconds=float(draw.uniform(10, 40)))
            steps.append(Step(at=again, gateway="bravo", method="upi", status="succeeded"))
        elif draw.random() < 0.5:
            steps = [Step(at=at, gateway="alpha", method="card", status="succeeded")]
        stories.append(
            OrderStory(
                order_id=f"ord_{kind}_{number}_{n}",
                customer=f"cus_{kind}_{number}",
                amount_minor=int(draw.integers(5_000, 9_000)),
                currency="INR",
                tries=len(steps),
                steps=tuple(steps),
            )
        )
    return stories
