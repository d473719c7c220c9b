"""How gateways stand for one kind of payment, from which many rankings are drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Final

import numpy as np

from ml.routing.belief import Belief
from ml.routing.context import RankedCandidate, Ranking
from ml.routing.ranking import Shares
from ml.routing.worth import Worth

STANDING_S: Final = 0.25
"""How long gateways may stand as they do for one kind of payment while nothing is learned: shares move in minutes."""

KINDS_MAX: Final = 2_000
"""Kinds of payments whose standings are kept at most."""


class Standing:
    """How the gateways stand for one kind of payment, as long as nothing new is known: all but the draw of the first.

    Args:
        gateways: the eligible ones.
        beliefs: what is believed of each.
        shares: of each to be the first.
        unwell: gateways with an open anomaly, and its reason.
        worth: what the payment is worth at each; None: success alone counts.
        places: the order somebody asked for, lower is better; then neither success nor worth decide.
        on_trial: gateways that have part of their share because they may have changed since they were looked at.
    """

    def __init__(
        self,
        gateways: Sequence[str],
        beliefs: Sequence[Belief],
        shares: Shares,
        unwell: Mapping[str, str],
        worth: Sequence[Worth] | None = None,
        places: Sequence[float] | None = None,
        on_trial: Collection[str] = (),
    ) -> None:
        self.on_trial = on_trial
        self._first = shares.first
        self._total = sum(shares.first)
        means = [belief.mean for belief in beliefs]
        values = means if worth is None else [each.at(mean) for each, mean in zip(worth, means, strict=True)]
        if places is not None:
            values = [-place for place in places]
        self._order = sorted(range(len(gateways)), key=lambda index: (shares.tier[index], -values[index]))
        best, *others = self._order
        self._candidates = [
            RankedCandidate(
                gateway=gateways[index],
                expected_success=beliefs[index].mean,
                success_low=beliefs[index].low,
                success_high=beliefs[index].high,
                propensity=shares.first[index] / self._total,
                payments=beliefs[index].own + beliefs[index].borrowed,
                own=beliefs[index].own,
                shift=beliefs[index].shift,
                value=None if worth is None else values[index],
                failed_before=bool(shares.tier[index] & 1),
                unwell=unwell.get(gateways[index]),
            )
            for index in range(len(gateways))
        ]
        self._runner_up = gateways[others[0]] if others else None
        self._needs = None
        if others and shares.tier[others[0]] == shares.tier[best] and places is None:
            self._needs = values[best] if worth is None else worth[others[0]].needs(values[best])
        self._rankings: dict[int, Ranking] = {}

    def ranking(self, generator: np.random.Generator) -> Ranking:
        """Draw the first gateway from its shares, put the others behind it by class and value, and say why."""
        left = generator.random() * self._total
        chosen = -1
        for index, share in enumerate(self._first):
            left -= share
            if left < 0:
                chosen = index
                break
        if chosen < 0:  # of what rounding left over
            chosen = max(range(len(self._first)), key=self._first.__getitem__)
        ranking = self._rankings.get(chosen)
        if ranking is None:
            ranking = self._rankings[chosen] = self._with_first(chosen)
        return ranking

    def _with_first(self, chosen: int) -> Ranking:
        best, order = self._order[0], [chosen, *(index for index in self._order if index != chosen)]
        return Ranking(
            candidates=tuple(self._candidates[index] for index in order),
            best=self._candidates[best].gateway,
            exploring=chosen != best and self._first[chosen] < self._total,
            runner_up=self._runner_up,
            runner_up_needs=self._needs,
        )


class Standings:
    """The standings of the last moment, for payments alike that come in a burst."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Standing] = {}
        self._learned, self._since = -1, 0.0

    def of(self, kind: Hashable, learned: int, now: float, make: Callable[[], Standing]) -> Standing:
        """Look up how gateways stand, or find out.

        Args:
            kind: all that tells payments apart.
            learned: another number whenever something was learned or forgotten.
            now: seconds since the epoch.
            make: finds out.
        """
        if learned != self._learned or not 0 <= now - self._since < STANDING_S or len(self._kept) >= KINDS_MAX:
            self._kept.clear()
            self._learned, self._since = learned, now
        standing = self._kept.get(kind)
        if standing is None:
            standing = self._kept[kind] = make()
        return standing

    def clear(self) -> None:
        """Find out anew from now on."""
        self._kept.clear()
