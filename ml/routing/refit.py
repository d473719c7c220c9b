"""Fitting all links of the steady estimates to each other anew, from what every part of the traffic did.

A chain learns each link against what the links before it expected at the time. Those were guesses when it began, and a
gateway's own rate is that of the payments it was given: one that got the difficult issuers looks worse than it is. So
now and then everything is fitted together: each effect anew against what all the others say now, in turns.

Source: backfitting of an additive model, Hastie and Tibshirani (1986), Statistical Science 1(3), 297-310.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from ml.routing.node import SHARE_MAX, SHARE_MIN, Node
from ml.routing.table import ISSUER, LEAF, METHOD, CellTable, is_of_one

SWEEPS: Final = 4
"""Turns that each effect has; the next fit goes on from where this one ended."""

LEVEL_STEP_MAX: Final = 0.5
"""A gateway's level moves by so much in one turn at most, log odds: Newton's step is too long far from the optimum."""

FADED: Final = 1e-6
"""Payments that have faded to less are forgotten."""

LEVEL_WORTH: Final = 1.0
"""Information that the belief "its level is that of the others" is worth, so that chance with a few payments passes."""


class Strengths(NamedTuple):
    """Payments that the belief "no difference" is worth, of a link at one gateway, and of what all gateways share."""

    at_gateway: Sequence[float]
    common: float


class _Link:
    """One link of the chain: the nodes that it is made of, the shift of each, and whose shift each leaf has.

    Args:
        column: the link's node of each leaf.
        strength: payments that no difference is worth; 0: the link is the gateways' own level, which is doubted little.
    """

    def __init__(self, column: Sequence[Node], strength: float) -> None:
        self.nodes = list({id(node): node for node in column}.values())
        number = {id(node): place for place, node in enumerate(self.nodes)}
        self._place = np.array([number[id(node)] for node in column])
        self._strength = strength
        self._shifts = np.array([node.shift for node in self.nodes])
        self.fitted = np.zeros((4, len(self.nodes)))

    @property
    def shifts(self) -> np.ndarray:
        """Of each leaf. Shape (leaves,)."""
        shifts: np.ndarray = self._shifts[self._place]
        return shifts

    def fit(self, payments: np.ndarray, succeeded: np.ndarray, log_odds: np.ndarray, certain: np.ndarray) -> None:
        """Fit this link to what all others say; arrays of shape (leaves,), ``certain`` where nothing differs."""
        share = 1.0 / (1.0 + np.exp(-log_odds))
        counts, won, expected = (self._summed(each) for each in (payments, succeeded, payments * share))
        if self._strength:
            expected = np.where(self._summed(certain) > 0, won, expected)
            self._shifts = _shifts(counts, won, expected, self._strength)
        else:
            share = 1.0 / (1.0 + np.exp(-log_odds - self.shifts))
            away = self._shifts - np.average(self._shifts, weights=counts)
            missing = won - self._summed(payments * share) - LEVEL_WORTH * away
            step = missing / (LEVEL_WORTH + self._summed(payments * share * (1 - share)))
            self._shifts = self._shifts + step.clip(-LEVEL_STEP_MAX, LEVEL_STEP_MAX)
        self.fitted = np.stack((counts, won, expected, self._shifts))

    def per_leaf(self, payments: np.ndarray) -> np.ndarray:
        """Payments of the node that each leaf has. Shape (leaves,)."""
        found: np.ndarray = self._summed(payments)[self._place]
        return found

    def _summed(self, values: np.ndarray) -> np.ndarray:
        summed: np.ndarray = np.bincount(self._place, values, len(self.nodes))
        return summed


def refit(
    table: CellTable, own: Callable[[Node], float], strengths: Strengths, decays: tuple[float, float], now: float
) -> float | None:
    """Fit the steady shifts of all parts of all gateways, and what such payments do to all of them, to each other.

    A gateway's own rate is left as it was seen; its shift makes up for the payments that it was given.

    Args:
        table: of all nodes.
        own: what a gateway did over all its payments, log odds.
        strengths: how much no difference is worth.
        decays: fading of the long and the recent memory, 1/s.
        now: seconds since the epoch.
    Returns: the mean shift of gateways, log odds; None when no gateway has more than one part, so that there is nothing
        to fit, or rows were forgotten, so that only what is above them knows of their payments.
    """
    chains = list(_chains(table))
    if len(chains) <= len(table.tops) or table.has_forgotten:
        return None
    for chain in chains:
        for node in chain:
            node.move_to(now, *decays)
    chains = [chain for chain in chains if chain[LEAF].payments > FADED]
    if not chains:
        return None
    columns = list(zip(*chains, strict=True))
    payments = np.array([leaf.payments for leaf in columns[LEAF]])
    succeeded = np.array([leaf.succeeded for leaf in columns[LEAF]])
    each = (0.0, *strengths.at_gateway[:LEAF], *[strengths.common] * (len(columns) - LEAF - 1))
    links = [_Link(column, strength) for column, strength in zip(columns, each, strict=True)]
    certain = [np.zeros(len(chains))] * len(columns)
    for place, above in ((METHOD, 0), (LEAF, ISSUER)):  # the same payments twice: only the first learns of them
        both = zip(links[above].per_leaf(payments), links[place].per_leaf(payments), strict=True)
        certain[place] = np.array([float(is_of_one(*each)) for each in both])
    log_odds = np.array([own(top) for top in columns[0]]) + sum(link.shifts for link in links)
    for _ in range(SWEEPS):
        for place, link in enumerate(links):
            log_odds -= link.shifts
            link.fit(payments, succeeded, log_odds, certain[place])
            log_odds += link.shifts
    for place, link in enumerate(links):
        for node, (counts, won, expected, shift) in zip(link.nodes, link.fitted.T.tolist(), strict=True):
            node.shift = shift
            if place:
                node.payments, node.succeeded, node.expected = counts, won, expected
    return float(np.average(links[0].shifts, weights=payments))


def _chains(table: CellTable) -> Iterator[tuple[Node, ...]]:
    """Of each leaf: its gateway, method and issuer there, itself, and what each does everywhere."""
    for key, row in table.items():
        if len(key) != LEAF - 1 or None in key:
            continue
        method, issuer = table.row((key[0], None)), table.row((None, key[1]))
        if method is None or issuer is None:
            continue
        for gateway, leaf in row.cells.items():
            if gateway in method.cells and gateway in issuer.cells:
                yield (table.tops[gateway], method.cells[gateway], issuer.cells[gateway], leaf,
                       method.common, issuer.common, row.common)  # fmt: skip


def _shifts(payments: np.ndarray, succeeded: np.ndarray, expected: np.ndarray, strength: float) -> np.ndarray:
    """``node.shift_of`` of many."""
    mean = expected / payments
    rate = ((succeeded + strength * mean) / (payments + strength)).clip(SHARE_MIN, SHARE_MAX)
    mean = mean.clip(SHARE_MIN, SHARE_MAX)
    shifts: np.ndarray = np.log(rate * (1 - mean) / ((1 - rate) * mean))
    return shifts
