"""What the supervised reliability model adds to the rates that the router learns anyway, and to its success.

``python -m benchmarks.reliability [--seeds N] [--psp FILE] [--quick]``. Worlds in which country and amount decide which
gateway is good, by a strength that is drawn; history comes from an even split. Judged are (1) log loss on later
payments against the rates alone and against scikit-learn's HistGradientBoostingClassifier on the same names, as a user
would fit it, and (2) the share of the way from the adaptive policy without the model to the oracle that it goes with
the model, over other payments. ``--psp`` adds a log of real payments. The last line is one flat JSON object.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from ml.lack import TooFewData
from ml.routing.context import Outcome, RoutingContext
from ml.routing.policies import AdaptivePolicy, PolicySettings
from ml.routing.reliability import Reliability, Traits, band_of, traits_of
from ml.routing.reliability_training import Judged, Payment, Sample, fitted

RESULTS: Final = Path(__file__).resolve().parent / "results" / "reliability.json"
GATEWAYS: Final = ("alpha", "bravo", "charlie")
COUNTRIES: Final = ("DE", "FR", "IN", "US")
ISSUERS: Final = ("one", "two", "three")


class World:
    """Three gateways, alike on the whole; country and amount decide which one is good, as strongly as asked.

    Args:
        seed: of everything that is drawn.
        strength: deviation of what country and amount do at a gateway, log odds; 0: nothing.
    """

    def __init__(self, seed: int, strength: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.by_issuer = self.rng.normal(0, 0.3, (3, 3))
        self.by_country = strength * self.rng.normal(0, 1, (3, 4))
        self.by_amount = strength * self.rng.normal(0, 1, 3)

    def payment(self) -> tuple[RoutingContext, np.ndarray]:
        """A payment, and its true success at each gateway, shape (gateways,)."""
        issuer, country = self.rng.integers(3), self.rng.integers(4)
        amount = float(np.exp(self.rng.normal(8, 1.2)))
        z = 1.5 + self.by_issuer[:, issuer] + self.by_country[:, country] + self.by_amount * (np.log(amount) - 8) / 1.2
        context = RoutingContext(method="card", issuer=ISSUERS[issuer], country=COUNTRIES[country], currency="EUR",
                                 amount_minor=round(amount))  # fmt: skip
        return context, 1 / (1 + np.exp(-z))

    def history(self, count: int, start: float = 0.0) -> list[Payment]:
        """Payments at gateways drawn evenly, one a second."""
        made = []
        for step in range(count):
            context, rates = self.payment()
            chosen = int(self.rng.integers(3))
            good = bool(self.rng.random() < rates[chosen])
            made.append(Payment(start + step, GATEWAYS[chosen], traits_of(context), good))
        return made


def success_of(world: World, model: Reliability | None, payments: int, seed: int) -> tuple[float, float, float]:
    """Route payments with the adaptive policy. Returns: mean true success, the oracle's, microseconds a decision."""
    policy, luck = AdaptivePolicy(PolicySettings(), np.random.default_rng(seed)), np.random.default_rng([seed, 1])
    got, best, spent = 0.0, 0.0, 0
    for step in range(payments):
        context, rates = world.payment()
        began = time.perf_counter_ns()
        if model is not None:
            shifts = dict(zip(GATEWAYS, model.shifts(context, GATEWAYS), strict=True))
            context = RoutingContext(method=context.method, issuer=context.issuer, country=context.country,
                                     currency=context.currency, amount_minor=context.amount_minor,
                                     shifts=shifts)  # fmt: skip
        first = policy.rank(context, GATEWAYS, float(step)).candidates[0].gateway
        spent += time.perf_counter_ns() - began
        rate = float(rates[GATEWAYS.index(first)])
        got, best = got + rate, best + float(rates.max())
        good = bool(luck.random() < rate)
        policy.learn(Outcome(gateway=first, method="card", issuer=context.issuer, at=float(step),
                             succeeded=good, failed=not good), float(step))  # fmt: skip
    return got / payments, best / payments, spent / payments / 1e3


def peer_loss(history: Sequence[Payment]) -> float:
    """Mean log loss on the last fifth of gradient boosting on the names as they are, fitted to all before it.

    Level of each gateway and slope are fitted to the last fifth, as they are for the model in question.
    """
    ordered = sorted(history, key=lambda payment: payment.at)
    table = pd.DataFrame([(each.gateway, *each.traits) for each in ordered])
    for column in table.columns[:-1]:
        table[column] = table[column].astype("category")
    truth = np.array([each.succeeded for each in ordered], float)
    split = len(ordered) * 4 // 5
    fit = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    fit.fit(table[:split], truth[:split])
    said = np.clip(fit.predict_proba(table[split:])[:, 1], 1e-6, 1 - 1e-6)
    asked = [(each.gateway, each.traits) for each in ordered[split:]]
    sample = Sample(asked, np.log(said / (1 - said))[:, None], truth[split:])
    return float(sample.losses(np.zeros(len(asked))).mean())


def psp_history(path: Path) -> list[Payment]:
    """First attempts of a log of real payments, compressed CSV; use of 3-D Secure stands for the card range."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["attempt"] == "1"]
    return [
        Payment(
            datetime.fromisoformat(row["tmsp"]).timestamp(),
            row["psp"],
            Traits("card", "unknown", row["card"], row["country"], "EUR", "3ds" if row["three_ds"] == "1" else "",
                   band_of(round(100 * float(row["amount"])))),
            row["success"] == "1",
        )
        for row in rows
    ]  # fmt: skip


def _judged(history: Sequence[Payment]) -> Judged:
    found = fitted(history)
    if isinstance(found, TooFewData):
        raise SystemExit(f"not enough payments: {found.seen} of {found.needed}")
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--payments", type=int, default=20_000)
    parser.add_argument("--psp", type=Path)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    seeds, payments = (2, 4_000) if asked.quick else (asked.seeds, asked.payments)
    to_rates, to_peer, closed, extra, wrong = [], [], [], [], 0
    for seed in range(seeds):
        world = World(1_000 + seed, float(np.random.default_rng(seed).uniform(0.2, 0.8)))
        history = world.history(payments)
        found = _judged(history)
        to_rates.append(found.metrics["log_loss_chosen"] / found.metrics["log_loss_rates"])
        to_peer.append(found.metrics["log_loss_chosen"] / peer_loss(history))
        model = Reliability(found.model, 1)
        state = world.rng.bit_generator.state
        without, best, plain_us = success_of(world, None, payments, seed)
        world.rng.bit_generator.state = state
        with_it, _, us = success_of(world, model, payments, seed)
        closed.append((with_it - without) / (best - without))
        extra.append(us - plain_us)
        nothing = World(2_000 + seed, 0.0)  # nothing to know, but success moves after what taught
        past = nothing.history(3_000)
        nothing.by_issuer = nothing.by_issuer + float(nothing.rng.uniform(-0.8, 0.8))
        wrong += _judged(past + nothing.history(2_000, start=3_000)).better
        print(f"seed {seed:>2}  log loss x {to_rates[-1]:.4f} of the rates', x {to_peer[-1]:.4f} of the peer's;"
              f" {closed[-1]:.1%} of the way to the oracle", flush=True)  # fmt: skip
    half = 1.96 * np.std(closed, ddof=1) / np.sqrt(seeds)
    figures = {
        "log_loss_ratio_to_rates": round(float(np.mean(to_rates)), 4),
        "log_loss_ratio_to_peer": round(float(np.mean(to_peer)), 4),
        "gap_closed": round(float(np.mean(closed)), 3),
        "gap_closed_half_width_95": round(float(half), 3),
        "promoted_without_cause": wrong,
        "extra_us_per_decision": round(float(np.median(extra)), 1),
        "seeds": seeds,
        "payments": payments,
    }
    if asked.psp is not None:
        history = psp_history(asked.psp)
        found = _judged(history)
        print(found.note)
        figures |= {
            "psp_log_loss_ratio_to_rates": round(found.metrics["log_loss_chosen"] / found.metrics["log_loss_rates"], 4),
            "psp_log_loss_ratio_to_peer": round(found.metrics["log_loss_chosen"] / peer_loss(history), 4),
        }
    if not asked.quick:
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
