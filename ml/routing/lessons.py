"""How a chain of corrections learns: what each link expected, what happened, and whether that is a sudden change."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from ml.routing.changes import is_back, is_lasting, part, watch
from ml.routing.context import Outcome
from ml.routing.node import Node, chance, logit
from ml.routing.pooling import POOLING_FIRST, Pooling
from ml.routing.refit import Strengths, refit
from ml.routing.table import ISSUER, LEAF, METHOD, WHOLE, CellTable, Key, is_of_one

STRENGTH_APART: Final = 2.0
"""What was before is worth so many payments to a node that has suddenly changed."""

WHOLE_WORTH: Final = 2.0
"""How many payments the mean of all gateways is worth to one: little, so that a new gateway is tried at once."""

COMMON_STRENGTH: Final = 30.0
"""Payments that the belief "this issuer does nothing special" is worth; also what bounds the say of one gateway until
all links are fitted to each other."""

FIRM_FROM: Final = 20.0
"""Payments of a gateway from which its parts may be found to differ from it; before, its own rate is guesswork."""

RECENT_FIRST: Final = 100.0
HOURS_FIRST: Final = 300.0
RECENT_MAX: Final = 20_000.0
"""What the steady estimate is worth to the recent one, and to the time of day, before the data say; and at most."""

SURPRISE_MAX: Final = 2.0
"""Successes by which payments that are learned at once may differ from what their gateway usually does."""

SHARED_FIRST: Final = 2 * POOLING_FIRST
"""What the links above are worth to the issuer's and to that of method and issuer at first: two that share a doubt."""

FIT_AFTER: Final = 200.0
FIT_AFTER_PART: Final = 0.05
"""All links are fitted to each other after so many payments, so large a part of all that are remembered, and as many
as there are nodes, so that a large memory costs no more a payment than a small one."""

HOUR_BINS: Final = 12
"""Parts of the day. Two hours each: a daily rhythm is smooth, and each part needs payments of its own."""

DAY_S: Final = 86_400
LN2: Final = math.log(2.0)


class Seen(NamedTuple):
    """What each link of the chain had expected of an outcome, before it was known.

    ``alike``: what such payments do to all gateways, log odds.
    """

    common: list[float]
    alike: float
    steady: list[float]
    hour: float
    recent: list[float]
    base: float
    final: float


class Lesson(NamedTuple):
    """What became of payments, and the nodes that hear it. ``counts`` are payments and successes.

    ``shift`` is what the reliability model says of them, in log odds. What it brought is left out of what is steady,
    and the other links expect that much more, so that what they learn is what such payments would do without it,
    whichever of them were sent there.
    """

    gateway: str
    keys: list[Key]
    nodes: list[Node]
    timed: Node
    counts: tuple[float, float]
    at: float
    shift: float = 0.0

    @property
    def is_first(self) -> bool:
        """Whether the gateway as a whole is hardly known, so that its parts cannot be told from it yet."""
        return self.nodes[0].payments < FIRM_FROM

    @property
    def is_of_one_method(self) -> bool:
        """Whether the gateway has the issuer's payments by (nearly) one method only.

        Then issuer and method with issuer are the same payments, and only the issuer learns what is steady: both would
        answer each surprise, which is too much.
        """
        return is_of_one(self.nodes[ISSUER].payments, self.nodes[LEAF].payments)

    def expected(self, mean: float) -> float:
        """Successes that a link expected which had foreseen this rate."""
        return self.counts[1] if self.is_first else self.counts[0] * mean

    def measure(
        self, pool: Pooling, earlier_payments: float, difference: float, mean: float, brought: float = 0.0
    ) -> None:
        """Let a pool learn how much nodes of a kind differ from what is expected of them.

        Args:
            pool: of this kind.
            earlier_payments: effective payments that the node knew.
            difference: successes that it had beside what was expected.
            mean: success expected now.
            brought: successes that are not counted, because the shift brought them.
        """
        payments, succeeded = self.counts[0], self.counts[1] - brought
        if earlier_payments > 1 and payments > 0 and not self.is_first:
            pool.measure(earlier=difference / earlier_payments, earlier_payments=earlier_payments,
                         counts=(succeeded, payments - succeeded), mean=mean)  # fmt: skip


class Lessons:
    """The memory of a chain, and how outcomes change it; see ``ml.routing.estimates``.

    Args:
        half_life_s: a payment this long ago counts half in the long memory, seconds, > 0; infinite: nothing is
            forgotten.
        recent_half_life_s: the same for the recent memory.
        cells_max: nodes remembered at most; the least recently used (method, issuer) is forgotten first.
        alert: whether sudden changes, recent differences and the time of day are heeded.
    """

    def __init__(
        self, *, half_life_s: float, cells_max: int, alert: bool = True, recent_half_life_s: float = 10_800.0
    ) -> None:
        if not (half_life_s > 0 and recent_half_life_s > 0) or cells_max < 1:
            raise ValueError(f"half-lives must be > 0 and cells_max >= 1, got {half_life_s} and {cells_max}")
        self._long = LN2 / half_life_s
        self._recent = LN2 / recent_half_life_s
        self._alert = alert
        self.learned = 0
        """Counts what was learned or forgotten; while it stays, so does what is believed, but for time."""
        self._table = CellTable(cells_max)
        self._hours: dict[tuple[str, int], Node] = {}
        self._steady_pools = [Pooling(), Pooling(SHARED_FIRST), Pooling(SHARED_FIRST), Pooling()]
        self._recent_pools = [Pooling(RECENT_FIRST if alert else math.inf, most=RECENT_MAX) for _ in range(2)]
        self._hour_pool = Pooling(HOURS_FIRST, most=RECENT_MAX)
        self._unfitted, self._fit_after = 0.0, FIT_AFTER
        self._level = 0.0
        """Mean shift of the gateways: what a new one begins with, so that it stands beside them."""

    @property
    def cells(self) -> int:
        """Nodes held now."""
        return len(self._table)

    def _top_rate(self, top: Node, whole: float) -> float:
        """Success of a gateway over all its payments."""
        return (top.succeeded + WHOLE_WORTH * whole) / (top.payments + WHOLE_WORTH)

    def _own(self, top: Node, whole: float) -> float:
        """What a gateway does to payments like any other, log odds."""
        return logit(self._top_rate(top, whole)) + top.shift

    def _whole(self) -> float:
        """Mean success of all gateways together."""
        succeeded, payments = 1.0, 2.0
        for top in self._table.tops.values():
            succeeded += top.succeeded
            payments += top.payments
        return succeeded / payments

    def learn(self, outcome: Outcome, now: float, *, inherited: bool = False) -> None:
        """Take in what became of payments; late ones and corrections weigh by the time of the payment.

        Args:
            outcome: what became of them.
            now: the present, seconds since the epoch.
            inherited: this is another learner's sum over a long time, so nothing in it can be a sudden change.
        """
        self.learned += 1
        at = min(outcome.at, now)
        keys = keys_of(outcome.method, outcome.issuer, outcome.network)
        self._fit_if_due(outcome.succeeded + outcome.failed, at)
        nodes = [self._table.made(WHOLE, outcome.gateway, at)]
        if nodes[0].payments <= 0.0:
            nodes[0].shift = self._level
        nodes += [self._table.made(key, outcome.gateway, at, keys) for key in keys]
        hour_key = (outcome.gateway, int(at % DAY_S * HOUR_BINS / DAY_S))
        timed = self._hours.get(hour_key)
        if timed is None:
            timed = self._hours[hour_key] = Node(at)
        won, total = float(outcome.succeeded), float(outcome.succeeded) + float(outcome.failed)
        left = total
        while True:  # many payments at once are learned in parts, so that each link hears what those before it learned
            payments = min(left, self._part_of(won, total, nodes, wary=self._alert and not inherited))
            counts = (payments, won * (payments / total) if total > 0 else won)
            lesson = Lesson(outcome.gateway, keys, nodes, timed, counts, at, outcome.shift)
            self._learn_part(lesson, inherited=inherited)
            left -= payments
            if left <= 0:
                return

    def _fit_if_due(self, payments: float, at: float) -> None:
        """Fit all links to each other when enough payments were learned since."""
        self._unfitted += payments
        if self._unfitted < self._fit_after:
            return
        known, whole = sum(top.payments for top in self._table.tops.values()), self._whole()
        strengths = Strengths([pool.strength for pool in self._steady_pools], COMMON_STRENGTH)
        level = refit(
            self._table, lambda top: logit(self._top_rate(top, whole)), strengths, (self._long, self._recent), at
        )
        if level is not None:
            self._level = level
        self._unfitted, self._fit_after = 0.0, max(FIT_AFTER, FIT_AFTER_PART * known, len(self._table))

    def _part_of(self, won: float, total: float, nodes: list[Node], *, wary: bool) -> float:
        """How many of many payments to learn at once: the fewer, the less is known and the more they surprise.

        A surprise is taken in by steps, so that a change is noticed before it has spoilt the steady estimate.
        """
        known = nodes[-1].payments / 10
        if total <= 1.0 or known <= 1.0:
            return 1.0
        if not wary:
            return known
        surprise = abs(won - total * self._top_rate(nodes[0], self._whole())) / total
        return max(1.0, min(known, SURPRISE_MAX / surprise if surprise > 0 else known))

    def _learn_part(self, lesson: Lesson, *, inherited: bool) -> None:
        nodes, at = lesson.nodes, lesson.at
        seen = self._foresee(lesson)
        apart = next((place for place, node in enumerate(nodes) if node.apart), None)
        is_known = at >= max(node.since for node in nodes)
        self._teach(lesson, seen, apart)
        if apart is None and is_known:
            self._teach_common(lesson, seen)
            if self._alert and not inherited:
                self._teach_hour(lesson, seen.hour)
        if not self._alert or inherited or not is_known:
            return
        if apart is not None:
            self._settle(lesson, apart)
        if 0 <= lesson.counts[1] <= lesson.counts[0] > 0:
            self._watch(lesson, seen)

    def _settle(self, lesson: Lesson, place: int) -> None:
        """Take a change that has held for long for the steady state, also in what the parts below did before it.

        What fell together in several parts is not taken for it: most trouble passes, and then all parts are as they
        were. It stays apart, but is not expected back any sooner than anything else is to change.
        """
        top, node, whole = lesson.nodes[0], lesson.nodes[place], self._whole()
        if is_back(node):
            node.apart = False
            return
        fell = node.recent_succeeded < node.recent_expected
        if not is_lasting(node, lesson.at) or (fell and node.base == 0.0):  # the parts are looked up once only
            return
        key = lesson.keys[place - 1] if place else WHOLE
        below = self._table.leaves(lesson.gateway, key) if place < LEAF else []
        if len(below) > 1 and fell:
            node.base = 0.0
            return
        before = node.shift if place else logit(self._top_rate(top, whole))
        node.settle()
        if place:
            node.correct(self._steady_pools[place - 1].strength)
        moved = (node.shift if place else logit(self._top_rate(top, whole))) - before
        for leaf in below:
            leaf.move_by(moved)

    def _foresee(self, lesson: Lesson) -> Seen:
        """Walk the chain for an outcome's payment, and note what was expected at each link."""
        nodes, keys, at = lesson.nodes, lesson.keys, lesson.at
        common, steady, recent = [], [], []
        own = self._own(nodes[0], self._whole())
        z = own + lesson.shift
        for key in keys:
            row = self._table.row(key)
            assert row is not None
            common.append(chance(z))
            z += row.common.shift
        alike = z - own
        for node in nodes[1:]:
            steady.append(chance(z - lesson.shift))
            z += node.shift
        hour = chance(z)
        if not self._alert:
            return Seen(common, alike, steady, hour, [hour] * len(nodes), hour, hour)
        z += lesson.timed.shift
        base = chance(z)
        for place, node in enumerate(nodes):
            recent.append(chance(z))
            if place in (0, LEAF) or node.apart:
                strength = STRENGTH_APART if node.apart else self._recent_pools[min(place, 1)].strength
                z += node.recent_shift(at, self._recent, strength)[0]
        return Seen(common, alike, steady, hour, recent, base, chance(z))

    def _teach(self, lesson: Lesson, seen: Seen, apart: int | None) -> None:
        """Teach each node what happened beside what it expected; above a node that is apart, nobody hears of it."""
        payments, succeeded = lesson.counts
        brought = self._brought(lesson, seen)
        without = succeeded - brought
        deepest = max((place for place, node in enumerate(lesson.nodes) if node.apart), default=0)
        for place, node in enumerate(lesson.nodes):
            weight, weight_recent = node.move_to(lesson.at, self._long, self._recent)
            if lesson.at < node.since:
                continue
            if apart is None:
                expected = 0.0
                if place and (lesson.is_first or (place == LEAF and lesson.is_of_one_method)):
                    expected = without
                elif place:
                    mean = seen.steady[place - 1]
                    expected = payments * mean
                    difference = node.succeeded - node.expected
                    lesson.measure(self._steady_pools[place - 1], node.payments, difference, mean, brought)
                node.add_long(weight * payments, weight * without, weight * expected)
                if place:
                    node.correct(self._steady_pools[place - 1].strength)
            is_beside = place == ISSUER and apart == METHOD  # the issuer's other methods are not down
            if self._alert and place >= deepest and not is_beside:
                if apart is None and place in (0, LEAF):
                    difference = node.recent_succeeded - node.recent_expected
                    lesson.measure(self._recent_pools[min(place, 1)], node.recent_payments, difference,
                                   seen.recent[place])  # fmt: skip
                expected = weight_recent * lesson.expected(seen.recent[place])
                node.add_recent(weight_recent * payments, weight_recent * succeeded, expected)

    @staticmethod
    def _brought(lesson: Lesson, seen: Seen) -> float:
        """Successes that the shift brought."""
        if not lesson.shift:
            return 0.0
        return lesson.counts[0] * (seen.final - chance(logit(seen.final) - lesson.shift))

    def _teach_common(self, lesson: Lesson, seen: Seen) -> None:
        """Teach what an issuer does to all gateways; the more one of them has said, the less it is heard."""
        voice = COMMON_STRENGTH / (COMMON_STRENGTH + lesson.nodes[LEAF].payments)
        payments, succeeded = lesson.counts
        for place, (key, mean) in enumerate(zip(lesson.keys, seen.common, strict=True), 1):
            row = self._table.row(key)
            assert row is not None
            if place == LEAF and lesson.is_of_one_method:
                continue
            weight = voice * row.common.move_to(lesson.at, self._long, self._recent)[0]
            row.common.add_long(weight * payments, weight * succeeded, weight * lesson.expected(mean))
            row.common.correct(COMMON_STRENGTH)

    def _teach_hour(self, lesson: Lesson, mean: float) -> None:
        """Teach what this time of day does; a day counts when it is over, so that its own trouble is no rhythm."""
        timed = lesson.timed
        day = lesson.at // DAY_S
        if day > timed.since:
            if timed.recent_payments:
                timed.move_to(lesson.at, self._long, 0.0)
                timed.add_long(timed.recent_payments, timed.recent_succeeded, timed.recent_expected)
                timed.recent_payments = timed.recent_succeeded = timed.recent_expected = 0.0
                timed.correct(self._hour_pool.strength)
            timed.since = day
        lesson.measure(self._hour_pool, timed.payments, timed.succeeded - timed.expected, mean)
        timed.add_recent(*lesson.counts, lesson.expected(mean))

    def _best(self, alike: float) -> float:
        """Success of the best gateway with payments that do so much to all gateways; 0 when none is known."""
        best = max(
            [
                logit(top.succeeded / top.payments) + top.shift
                for top in self._table.tops.values()
                if top.payments >= FIRM_FROM
            ],
            default=None,
        )
        return 0.0 if best is None else chance(best + alike)

    def _watch(self, lesson: Lesson, seen: Seen) -> None:
        """Feed the change detectors, and follow an alarm."""
        nodes, (payments, succeeded) = lesson.nodes, lesson.counts
        armed = math.inf if any(node.apart for node in nodes) else nodes[0].payments
        expected = seen.final, self._best(seen.alike)
        found = watch(nodes, seen.recent, expected, (succeeded, payments - succeeded), lesson.at, armed)
        if found is not None:
            place, change = found
            since = part(nodes, place, change, seen.base, lesson.at)
            self._table.calm_across(lesson.gateway, place)
            key = lesson.keys[place - 1] if place else WHOLE
            self._table.renew(lesson.gateway, key, since=since, below=True)


def keys_of(method: str, issuer: str, network: str | None) -> list[Key]:
    """The rows of a kind of payment, from the method down."""
    keys: list[Key] = [(method, None), (None, issuer), (method, issuer)]
    if network is not None:
        keys.append((method, issuer, network))
    return keys
