"""The policies that the adaptive one is compared with. Each chooses a position and learns from what became of it."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Protocol

import numpy as np

from ml.routing.context import Outcome, RoutingContext
from ml.routing.policies import AdaptivePolicy, PolicySettings


class Chooser(Protocol):
    """A policy as the benchmark plays it."""

    def choose(self, context: RoutingContext, names: tuple[str, ...], now: float) -> str:
        """Choose a gateway."""

    def learn(self, outcome: Outcome, context: RoutingContext, now: float) -> None:
        """Take in what became of a payment made at ``outcome.at``."""


class Adaptive:
    """Ours, through its public interface and in its one default configuration."""

    def __init__(self, seed: int) -> None:
        self._policy = AdaptivePolicy(PolicySettings(), np.random.default_rng([seed, 2]))

    def choose(self, context: RoutingContext, names: tuple[str, ...], now: float) -> str:
        """The first of the ranking."""
        return self._policy.rank(context, names, now).candidates[0].gateway

    def learn(self, outcome: Outcome, context: RoutingContext, now: float) -> None:
        """Learn."""
        self._policy.learn(outcome, now)


class _Discounted:
    """Successes and failures of each gateway, which fade with each further outcome."""

    def __init__(self, seed: int, keep: float) -> None:
        self._random = np.random.default_rng([seed, 2])
        self._keep = keep
        self._counts: dict[str, list[float]] = {}

    def learn(self, outcome: Outcome, context: RoutingContext, now: float) -> None:
        """Count, and forget."""
        for each in self._counts.values():
            each[0] *= self._keep
            each[1] *= self._keep
        mine = self._counts.setdefault(outcome.gateway, [0.0, 0.0])
        mine[0] += outcome.succeeded
        mine[1] += outcome.failed


class DiscountedThompson(_Discounted):
    """Thompson sampling that forgets a part of everything with each outcome."""

    def __init__(self, seed: int, keep: float = 0.9999) -> None:
        super().__init__(seed, keep)

    def choose(self, context: RoutingContext, names: tuple[str, ...], now: float) -> str:
        """The best of one posterior draw each."""
        counts = [self._counts.setdefault(name, [0.0, 0.0]) for name in names]
        draws = self._random.beta([1 + each[0] for each in counts], [1 + each[1] for each in counts])
        return names[int(draws.argmax())]


class SlidingUcb:
    """The upper confidence bound over the last outcomes of all gateways (SW-UCB; Garivier and Moulines, 2011)."""

    def __init__(self, seed: int, window: int = 1000, width: float = 0.1) -> None:
        self._window, self._width = window, width
        self._last: deque[tuple[str, float]] = deque()
        self._counts: dict[str, list[float]] = {}

    def choose(self, context: RoutingContext, names: tuple[str, ...], now: float) -> str:
        """One that the window does not know, else the highest bound."""
        known = {name: self._counts.get(name, [0.0, 0.0]) for name in names}
        reach = self._width * math.log(max(2, len(self._last)))
        return max(names, key=lambda name: _bound(*known[name], reach))

    def learn(self, outcome: Outcome, context: RoutingContext, now: float) -> None:
        """Push one outcome in, and the oldest out."""
        self._last.append((outcome.gateway, outcome.succeeded))
        self._add(outcome.gateway, outcome.succeeded, 1.0)
        if len(self._last) > self._window:
            name, succeeded = self._last.popleft()
            self._add(name, -succeeded, -1.0)

    def _add(self, name: str, succeeded: float, payments: float) -> None:
        mine = self._counts.setdefault(name, [0.0, 0.0])
        mine[0] += succeeded
        mine[1] += payments


class DiscountedUcb(_Discounted):
    """The same with outcomes that fade with each further one (D-UCB; Kocsis and Szepesvári, 2006)."""

    def __init__(self, seed: int, keep: float = 0.999, width: float = 0.1) -> None:
        super().__init__(seed, keep)
        self._width = width

    def choose(self, context: RoutingContext, names: tuple[str, ...], now: float) -> str:
        """One that is not known, else the highest bound."""
        counts = {name: self._counts.get(name, [0.0, 0.0]) for name in names}
        reach = self._width * math.log(max(2.0, sum(map(sum, counts.values()))))
        return max(names, key=lambda name: _bound(counts[name][0], sum(counts[name]), reach))


def _bound(succeeded: float, payments: float, reach: float) -> float:
    """The upper confidence bound; beyond all of them where next to nothing is known."""
    return succeeded / payments + math.sqrt(reach / payments) if payments > 0.01 else 2.0


class LinUcb:
    """Ridge regression of success on method and issuer for each gateway, with an upper bound (Li et al., 2010)."""

    def __init__(self, seed: int, width: float = 0.3, size: int = 12) -> None:
        self._width, self._size = width, size
        self._places: dict[str, int] = {}
        self._models: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def choose(self, context: RoutingContext, names: tuple[str, ...], now: float) -> str:
        """The highest bound."""
        row = self._row(context)
        return max(names, key=lambda name: self._score(name, row))

    def learn(self, outcome: Outcome, context: RoutingContext, now: float) -> None:
        """Add one outcome to the inverse of the covariance (Sherman and Morrison)."""
        row = self._row(context)
        inverse, sums = self._model(outcome.gateway)
        moved = inverse @ row
        inverse -= np.outer(moved, moved) / (1.0 + row @ moved)
        sums += outcome.succeeded * row

    def _score(self, name: str, row: np.ndarray) -> float:
        inverse, sums = self._model(name)
        moved = inverse @ row
        return float(moved @ sums + self._width * math.sqrt(row @ moved))

    def _model(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self._models.setdefault(name, (np.eye(self._size), np.zeros(self._size)))

    def _row(self, context: RoutingContext) -> np.ndarray:
        row = np.zeros(self._size)
        row[0] = 1.0
        for value in (f"m {context.method}", f"i {context.issuer}"):
            row[self._places.setdefault(value, 1 + len(self._places))] = 1.0
        return row


class WindowedHedge:
    """Success over the last 125 outcomes of each gateway, 5 % of payments dealt out evenly (as in decision-engine)."""

    def __init__(self, seed: int, window: int = 125, hedge: float = 0.05) -> None:
        self._random = np.random.default_rng([seed, 2])
        self._window, self._hedge = window, hedge
        self._cells: dict[tuple[str, str], tuple[list[float], list[float]]] = {}

    def choose(self, context: RoutingContext, names: tuple[str, ...], now: float) -> str:
        """The highest score, or any other one now and then."""
        if self._random.random() < self._hedge:
            return names[int(self._random.integers(len(names)))]
        return max(names, key=lambda name: self._cell(name, context.method)[1][0])

    def learn(self, outcome: Outcome, context: RoutingContext, now: float) -> None:
        """Push one outcome in, and the oldest out."""
        ring, total = self._cell(outcome.gateway, outcome.method)
        place = int(total[1]) % self._window
        total[0] += outcome.succeeded - ring[place]
        ring[place] = outcome.succeeded
        total[1] += 1

    def _cell(self, name: str, method: str) -> tuple[list[float], list[float]]:
        fresh = ([1.0] * self._window, [float(self._window), 0.0])
        return self._cells.setdefault((name, method), fresh)


class VowpalWabbit:
    """SquareCB over method, issuer and gateway with their interactions."""

    ARGUMENTS = "--cb_explore_adf --squarecb --quiet -q CG --interactions CCG"

    def __init__(self, seed: int) -> None:
        import vowpalwabbit  # type: ignore[import-not-found,import-untyped,unused-ignore]

        self._model: Any = vowpalwabbit.Workspace(f"{self.ARGUMENTS} --random_seed {seed + 1}")
        self._random = np.random.default_rng([seed, 2])
        self._chosen: dict[float, tuple[tuple[str, ...], float]] = {}

    def choose(self, context: RoutingContext, names: tuple[str, ...], now: float) -> str:
        """Draw from the shares that the model gives."""
        shares = np.array(self._model.predict(self._example(context, names)) if len(names) > 1 else [1.0])
        place = min(len(names) - 1, int(np.searchsorted(np.cumsum(shares / shares.sum()), self._random.random())))
        self._chosen[now] = names, float(shares[place] / shares.sum())
        return names[place]

    def learn(self, outcome: Outcome, context: RoutingContext, now: float) -> None:
        """Learn from the outcome and the share with which it was chosen."""
        names, share = self._chosen.pop(outcome.at)
        if len(names) > 1:
            self._model.learn(self._example(context, names, outcome, share))

    def _example(
        self, context: RoutingContext, names: tuple[str, ...], outcome: Outcome | None = None, share: float = 1.0
    ) -> list[str]:
        lines = [f"shared |C m={context.method} i={context.issuer}"]
        for name in names:
            label = f"0:{-outcome.succeeded}:{share} " if outcome is not None and outcome.gateway == name else ""
            lines.append(f"{label}|G g={name}")
        return lines
