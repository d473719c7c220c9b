"""How gateways stand for one kind of payment, from which many rankings are drawn."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Final

import numpy as np

from ml.routing.belief import Belief
from ml.routing.context import RankedCandidate, Ranking
from ml.routing.ranking import Shares
from ml.routing.worth import Worth

STANDING_S: Final = 0.25
"""How long gateways may stand as they do for one kind of payment while nothing is learned: shares move in minutes."""

TRIAL_NOTED: Final = 0.002
"""Share of payments from which a trial changes how gateways stand at once; smaller ones cost little if they repeat."""

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
        trials: part of each one's share that it has because it may have changed since it was looked at.
        shifted_by: what the shifts of the beliefs come from, in words.
    """

    def __init__(
        self,
        gateways: Sequence[str],
        beliefs: Sequence[Belief],
        shares: Shares,
        unwell: Mapping[str, str],
        worth: Sequence[Worth] | None = None,
        places: Sequence[float] | None = None,
        trials: Sequence[float] | None = None,
        shifted_by: str = "",
    ) -> None:
        self._trials = trials
        self._first = shares.first
        self._total = sum(shares.first)
        if places is not None:
            values = [-place for place in places]
        elif worth is not None:
            values = [each.at(belief.mean) for each, belief in zip(worth, beliefs, strict=True)]
        else:
            values = [belief.mean for belief in beliefs]
        self._order = sorted(range(len(gateways)), key=values.__getitem__, reverse=True)
        if any(shares.tier):
            self._order.sort(key=shares.tier.__getitem__)
        best, *others = self._order
        self._candidates = [
            RankedCandidate(
                gateway=gateway,
                belief=belief,
                propensity=first / self._total,
                shifted_by=shifted_by,
                value=None if worth is None else value,
                failed_before=bool(tier & 1),
                unwell=unwell.get(gateway),
            )
            for gateway, belief, first, tier, value in zip(
                gateways, beliefs, shares.first, shares.tier, values, strict=True
            )
        ]
        self._runner_up = gateways[others[0]] if others else None
        self._needs = None
        if others and shares.tier[others[0]] == shares.tier[best] and places is None:
            self._needs = values[best] if worth is None else worth[others[0]].needs(values[best])
        self._rankings: dict[int, Ranking] = {}

    def draw(self, generator: np.random.Generator) -> int:
        """Draw the first gateway from the shares. Returns: its position among the gateways."""
        left = generator.random() * self._total
        for index, share in enumerate(self._first):
            left -= share
            if left < 0:
                return index
        return max(range(len(self._first)), key=self._first.__getitem__)  # rounding left something over

    def ranking(self, chosen: int) -> Ranking:
        """Put a gateway first, and the others behind it by class and value."""
        ranking = self._rankings.get(chosen)
        if ranking is None:
            ranking = self._rankings[chosen] = self._with_first(chosen)
        return ranking

    def is_trial(self, chosen: int) -> bool:
        """Whether putting a gateway first is a trial after which the next one can wait."""
        return self._trials is not None and self._trials[chosen] > TRIAL_NOTED

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
        self._learned, self._since, self._asked = -1, 0.0, 0

    def get(self, kind: Hashable, learned: int, now: float) -> Standing | None:
        """Look up how gateways stand.

        Args:
            kind: all that tells payments apart.
            learned: another number whenever something was learned or forgotten.
            now: seconds since the epoch.
        """
        if learned != self._learned or not 0 <= now - self._since < STANDING_S or len(self._kept) >= KINDS_MAX:
            self._kept.clear()
            self._learned, self._since, self._asked = learned, now, 0
        self._asked += 1
        return self._kept.get(kind)

    def put(self, kind: Hashable, standing: Standing) -> None:
        """Keep what was found out after ``get`` had nothing, unless each payment so far had news before it."""
        if self._asked > 1:
            self._kept[kind] = standing

    def clear(self) -> None:
        """Find out anew from now on."""
        self._kept.clear()
