"""What is believed of every gateway's success for a payment: a chain of corrections, each shrunk towards none.

The chain starts at what the gateway does over all its payments. In log odds it goes on with what the method, the
issuer, both together and the network do to all gateways alike, what they do at this gateway, what this time of day does
there, and at last with what is different now: at the gateway, and at the gateway for this method and issuer. Each link
compares what happened with what the links before it had expected, so thin parts borrow from wide ones, and a gateway
that worsens is known to worsen in all its parts at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from ml.routing.belief import Belief
from ml.routing.context import Outcome
from ml.routing.lessons import DAY_S, HOUR_BINS, STRENGTH_APART, WHOLE_WORTH, Lessons, keys_of
from ml.routing.node import Node, chance, logit
from ml.routing.table import ISSUER, LEAF, WHOLE, Row, is_of_one

UNKNOWN: Final = Node(0.0)
UNKNOWN_ROW: Final = Row()
"""What nothing was heard of yet: it differs in nothing from what is above it."""


class Estimates(Lessons):
    """Estimates of success that forget with time and notice sudden changes."""

    _noted: Sequence[tuple[Node, float]] = ()
    """Where the latest trial was noted, and what stood there before."""

    def beliefs(
        self, method: str, issuer: str, gateways: tuple[str, ...], now: float, network: str | None = None
    ) -> list[Belief]:
        """What is believed of each gateway for one kind of payment, in the order given."""
        whole = self._whole()
        rows = [self._table.use(key) or UNKNOWN_ROW for key in keys_of(method, issuer, network)]
        common = 0.0
        for row in rows:
            common += row.common.shift
        prior, tops = WHOLE_WORTH * whole, self._table.tops
        hour = int(now % DAY_S * HOUR_BINS / DAY_S)
        believed = []
        for gateway in gateways:
            top = tops.get(gateway)
            if top is None:
                believed.append(self._of_unknown(logit(whole) + self._level + common))
                continue
            z = logit((top.succeeded + prior) / (top.payments + WHOLE_WORTH)) + top.shift + common
            nodes, is_apart = [], top.apart
            for row in rows:
                node = row.cells.get(gateway, UNKNOWN)
                nodes.append(node)
                z += node.shift
                is_apart |= node.apart
            z += self._hours.get((gateway, hour), UNKNOWN).shift
            believe = self._apart_belief if is_apart else self._belief
            believed.append(believe(z, top, nodes, now))
        return believed

    def overall(self, gateways: tuple[str, ...], now: float) -> list[Belief]:
        """What is believed of each gateway over all its payments, in the order given."""
        whole = self._whole()
        believed = []
        for gateway in gateways:
            top = self._table.tops.get(gateway)
            keep = math.exp((top.at - now) * self._long) if top is not None and now > top.at else 1.0
            payments, succeeded = (top.payments * keep, top.succeeded * keep) if top is not None else (0.0, 0.0)
            rate = (succeeded + WHOLE_WORTH * whole) / (payments + WHOLE_WORTH)
            deviation = 1.0 / math.sqrt((payments + WHOLE_WORTH) * max(rate * (1 - rate), 1e-3))
            believed.append(Belief(logit(rate), deviation, payments, WHOLE_WORTH, rate))
        return believed

    def note_probe(self, method: str, issuer: str, gateway: str, now: float, network: str | None = None) -> None:
        """Remember that a gateway was just put first for such a payment, so that the next trial of it can wait."""
        noted = []
        for key in [WHOLE, *keys_of(method, issuer, network)]:
            row = self._table.row(key)
            node = row.cells.get(gateway) if row is not None else None
            if node is not None:
                noted.append((node, node.probed))
                node.probed = now
        self._noted = noted

    def take_back_probe(self) -> None:
        """Forget the latest note: another gateway was put first after all."""
        for node, probed in self._noted:
            node.probed = probed
        self.learned += 1
        self._noted = ()

    def _of_unknown(self, z: float) -> Belief:
        """Of a gateway that was never heard of: what all the others do, in doubt."""
        rate = chance(z)
        return Belief(z, 1.0 / math.sqrt(WHOLE_WORTH * max(rate * (1 - rate), 1e-3)), 0.0, WHOLE_WORTH, rate)

    def _belief(self, z: float, top: Node, nodes: list[Node], now: float) -> Belief:
        """What is different now at the gateway, and there for the method and issuer, goes on top of what is steady."""
        of_top, of_leaf = self._recent_pools[0].strength, self._recent_pools[1].strength
        leaf = nodes[LEAF - 1]
        shift, wide = top.recent_shift(now, self._recent, of_top)
        z += shift
        shift, narrow = leaf.recent_shift(now, self._recent, of_leaf)
        z += shift
        rate = chance(z)
        noise = rate * (1 - rate)
        noise = 1.0 / noise if noise > 1e-3 else 1e3
        variance = self._variance(top, nodes) + 1.0 / (of_top + wide) + 1.0 / of_leaf
        variance *= noise / (1.0 + narrow * variance)
        most, others = self._steady_pools[LEAF - 1].strength, top.payments - leaf.payments
        borrowed = WHOLE_WORTH + others if others > 0.0 else WHOLE_WORTH
        own = leaf.payments * (math.exp((leaf.at - now) * self._long) if now > leaf.at else 1.0)
        belief = Belief(z, math.sqrt(variance), own, borrowed if borrowed < most else most, rate)
        self._note_unseen(belief, top, top, nodes, now)
        return belief

    def _apart_belief(self, z: float, top: Node, nodes: list[Node], now: float) -> Belief:
        """Where something has suddenly changed, only what came since says how it stands."""
        leaf, held = nodes[LEAF - 1], 0.0
        for node in (top, *nodes):
            if not node.apart and node is not top and node is not leaf:
                continue
            strength = STRENGTH_APART if node.apart else self._recent_pools[int(node is leaf)].strength
            shift, payments = node.recent_shift(now, self._recent, strength)
            z += shift
            if node.apart or node is leaf:
                held = max(held, payments)
        rate = chance(z)
        noise = 1.0 / max(rate * (1 - rate), 1e-3)
        belief = Belief(z, math.sqrt(noise / (STRENGTH_APART + held)), held, STRENGTH_APART, rate)
        apart = next(node for node in (top, *nodes) if node.apart)
        belief.base, belief.is_whole = apart.base, top.apart
        self._note_unseen(belief, apart, top, nodes, now)
        return belief

    def _variance(self, top: Node, nodes: list[Node]) -> float:
        """Variance of the steady part in that of one outcome: each node by itself hears what those below it did not."""
        first, beside, both, last = self._steady_pools
        at_method, at_issuer, leaf, *narrower = nodes
        own = leaf.payments
        heard, of_issuer = at_method.payments or own, at_issuer.payments or own
        alone = top.payments - heard
        variance = 1.0 / (WHOLE_WORTH + (alone if alone > 0.0 else 0.0)) + 1.0 / first.strength
        if heard > own:
            variance /= 1.0 + (heard - own) * variance
        if is_of_one(of_issuer, own):
            variance += 1.0 / beside.strength
        else:
            variance += 1.0 / (beside.strength + of_issuer - own) + 1.0 / both.strength
        for node in narrower:
            if own > node.payments:
                variance /= 1.0 + (own - node.payments) * variance
            variance, own = variance + 1.0 / last.strength, node.payments
        return variance / (1.0 + own * variance)

    def _note_unseen(self, belief: Belief, node: Node, top: Node, nodes: list[Node], now: float) -> None:
        """Note since when nothing was seen, and whether what was seen last looks like a rise."""
        seen = node.at if node.at > node.probed else node.probed
        if now > seen:
            belief.unseen_s = now - seen
        run = node.rise
        if node is top:
            for below in (nodes[ISSUER - 1], nodes[LEAF - 1]):
                if below.rise.evidence > run.evidence:
                    run = below.rise
        if run.evidence > 0:
            belief.rising = run.evidence
            if run is node.rise and node.at >= node.probed and now > run.since:  # late news must not pile up trials
                belief.rising_s = now - run.since
            belief.risen = (run.succeeded + 1.0) / (run.payments + 2.0)
            belief.risen_payments = run.payments

    def forget(self, gateway: str, method: str | None = None, issuer: str | None = None, *, since: float) -> None:
        """Forget what was different lately in a segment (None: all): it is expected to be as it was before."""
        self.learned += 1
        self._table.renew(gateway, (method, issuer), since=since)

    def evidence(self, now: float) -> Iterator[Outcome]:
        """Everything that is known, as one outcome per gateway, method and issuer, for a learner that starts later."""
        for key, row in self._table.items():
            method, issuer, *narrower = key
            if method is None or issuer is None or narrower:
                continue
            for gateway, node in row.cells.items():
                keep = math.exp(min(0.0, node.at - now) * (self._recent if node.apart else self._long))
                payments = (node.recent_payments if node.apart else node.payments) * keep
                succeeded = (node.recent_succeeded if node.apart else node.succeeded) * keep
                if payments > 0:
                    yield Outcome(gateway=gateway, method=method, issuer=issuer, at=now,
                                  succeeded=succeeded, failed=payments - succeeded)  # fmt: skip
