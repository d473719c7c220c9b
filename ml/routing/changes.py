"""Sudden changes: when a node's detector calls one, what is kept, what is forgotten, and when it counts as lasting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from ml.routing.node import Change, Node, surprises
from ml.routing.table import ISSUER, METHOD

ALARM: Final = (10.0, 9.5, 9.2, 9.0, 9.0)
"""Change evidence (log likelihood ratio) that is an alarm, by place from the gateway down. The narrower node alarms
first, so that an outage of one issuer is not taken for one of the gateway. At 9 a gateway that fails outright is caught
after 5 to 7 payments."""

KEPT: Final = 0.3
"""How much of the evidence since a change is kept. An alarm picks the worst stretch there was, so this is too harsh; at
1, false alarms banish a good gateway for hours."""

ARMED_FROM: Final = 20.0
"""Payments that a prediction must rest on before a surprise can be a fall."""

ARMED_RISE_FROM: Final = 4.0
"""The same for a rise: taken too early it only costs some exploration, and a gateway that failed is seldom tried."""

BACK_WITHIN: Final = 0.12
"""A node that changed again, to within this of what it did before, is back: what was known then is known again."""

BACK_PAYMENTS: Final = 100.0
BACK_SURELY: Final = 0.02
"""The same without an alarm: when so many payments differ by no more than by chance, or by no more than this."""

LASTING_S: Final = 24 * 3600.0
"""A change that holds for so long is no trouble of an hour; what came since is the steady state from then on."""

LASTING_PAYMENTS: Final = 20.0
"""Recent payments that a steady state must rest on."""


def watch(  # everything that is known of an outcome
    nodes: Sequence[Node],
    recent: Sequence[float],
    expected: tuple[float, float],
    counts: tuple[float, float],
    at: float,
    armed: float,
) -> tuple[int, Change] | None:
    """Let the detectors of the finest node first, then of those above, judge an outcome; one alarm is enough.

    Args:
        nodes: from the gateway down.
        recent: what each node expected, before its own recent difference.
        expected: success that was expected in the end, and that of the best gateway with such payments.
        counts: payments that succeeded and failed.
        at: when they were made.
        armed: payments that the expectation rests on.
    Returns: place of the node that changed, and how; None: none did.
    """
    fall, rise = surprises(expected[0], *counts, best=expected[1])
    fall = fall if armed >= ARMED_FROM else 0.0
    rise = rise if armed >= ARMED_RISE_FROM else 0.0
    payments = counts[0] + counts[1]
    for place in range(len(nodes) - 1, -1, -1):
        node = nodes[place]
        if place == ISSUER and nodes[METHOD].apart:  # what has happened to the method explains it
            continue
        since = (payments, counts[0], payments * recent[place])
        if node.fall.feed(fall, since, at) > ALARM[place]:
            node.rise.feed(rise, since, at)
            return place, "fell"
        if node.rise.feed(rise, since, at) > ALARM[place]:
            return place, "rose"
        if node.apart:
            return None
    return None


def part(nodes: Sequence[Node], place: int, change: Change, base: float, at: float) -> float:
    """Keep of a changed node what came since the change, and take the same out of the nodes above.

    Args:
        nodes: from the gateway down.
        place: the node that changed.
        change: how.
        base: what the whole chain expects without any recent difference.
        at: when the alarm came.
    Returns: since when the change holds; what lies below the node must forget what it thought different until then.
    """
    node = nodes[place]
    run = node.fall if change == "fell" else node.rise
    was_apart = node.apart
    if not was_apart:
        above_it = nodes[: 1 if place == ISSUER else place]
        for above in above_it:  # a change of this node alone is nothing that the nodes above should believe
            above.add_recent(-run.payments, -run.succeeded, -run.expected)
            above.fall.evidence = max(0.0, above.fall.evidence - run.evidence)
        node.base = base
        node.apart_since = at
    mean, expected = run.succeeded / run.payments, run.expected / run.payments
    kept = (KEPT * run.payments, KEPT * run.succeeded, KEPT * run.expected)
    since = run.since
    node.renew(since)
    node.add_recent(*kept)
    node.apart = not (was_apart and abs(mean - expected) < BACK_WITHIN)
    return since


def is_back(node: Node) -> bool:
    """Whether a node that is apart does what it did before after all: the alarm was false, or nobody saw it end."""
    payments, expected = node.recent_payments, node.recent_expected
    if payments < BACK_PAYMENTS:
        return False
    chance = 2.0 * math.sqrt(max(expected * (1 - expected / payments), 0.0))
    return abs(node.recent_succeeded - expected) <= max(chance, BACK_SURELY * payments)


def is_lasting(node: Node, at: float) -> bool:
    """Whether a change has held for long enough to be no trouble of an hour."""
    return at - node.apart_since > LASTING_S and node.recent_payments > LASTING_PAYMENTS
