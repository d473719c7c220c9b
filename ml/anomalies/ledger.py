"""What was counted and what is normal: everything that the detector's judgement reads."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from ml.anomalies.baseline import ATTEMPTS_LEARNT_MIN, LEARNT_S_MIN, Baseline
from ml.anomalies.blocks import Block, Blocks
from ml.anomalies.channels import (
    CHANNELS,
    COUNTED,
    FAILED,
    LATENCY,
    RETRIES,
    REVERSALS,
    SILENCE,
    VOLUME,
    SignalName,
)
from ml.anomalies.counting import (
    FAILED_HITS,
    HITS,
    LATENCY_N,
    ORDERS,
    RETRIED,
    REVERSED,
    SETTLED,
    SUCCEEDED,
    Normal,
)
from ml.anomalies.evidence import NETWORK, Context
from ml.anomalies.localise import Excess, excess_of
from ml.anomalies.money import Amounts
from ml.anomalies.segments import ALL_FAMILY, GATEWAY_FAMILY, Flags, Floats, SegmentKey, SegmentTable
from ml.anomalies.volume import Clock
from ml.anomalies.watched import Watched

DOUBTS: Final = 2.0
"""Normal is taken as worse by so many standard deviations of doubt about it; this keeps a cold start quiet."""
MARGIN: Final = 0.08
"""So much more (in the logarithm) is nobody's incident, however sure it is: days, paydays and customers differ."""
EARLY_MARGIN: Final = 0.5
EARLY_MARGIN_S: Final = 45.0
EARLY_MARGIN_SLOW: Final = 2.0
"""In the first minute what is slow to answer has not been heard yet, so what is normal is learnt too rosy; most of all
of the failures that are slow by their nature, those of the network."""
DISPERSION_START: Final = {RETRIES: 1.5, REVERSALS: 1.5, VOLUME: 1.5}
DISPERSION_MAX: Final = 4.0
DISPERSION_MEMORY: Final = 0.02
LAG_DOUBT_HITS: Final = 2.0
LAG_DOUBT: Final = 1.5
LAG_DOUBT_S: Final = 1200.0
"""In the first minutes the retries of what failed have not come yet, so how many there are is not known."""
TAUGHT: Final = np.isin(np.arange(len(CHANNELS)), (FAILED, LATENCY, VOLUME, SILENCE))
"""Channels of which stored sums say what is normal; the others wait after a start until enough was heard."""
LEARN_AFTER_S: Final = 600.0
"""What is counted is learnt from so much later, when trouble in it would have been noticed; at first, sooner."""
ROOM: Final = 0.9
"""From this share of the table on, the quieter half of the cells is forgotten."""


class Spoilt(NamedTuple):
    """A segment and the ticks that are not learnt from: something was wrong. ``last`` None: it still is.

    ``signal`` None: planned maintenance. ``joined``: it closed because it was found to be a part of a wider anomaly.
    """

    segment: SegmentKey
    first: int
    last: int | None
    signal: SignalName | None = None
    joined: bool = False

    @property
    def orders_only(self) -> bool:
        """Whether only the number of orders was wrong."""
        return self.signal == "volume"


class Ledger:
    """Counts, and what is normal now.

    Args:
        tick_s: length of a tick, seconds.
        memory_s: mean age of the history that normal is learnt from, seconds.
        segments_max: bound on segments.
        watched_max: bound on segments with tests of their own.
    """

    def __init__(self, *, tick_s: float, memory_s: float, segments_max: int, watched_max: int) -> None:
        self.tick_s = tick_s
        self._watched_max = watched_max
        self.table = SegmentTable(segments_max=segments_max)
        self.amounts = Amounts(leaves_max=self.table.cells_max)
        self.baseline = Baseline(memory_s=memory_s, segments_max=segments_max, cells_max=self.table.cells_max)
        self.clock = Clock()
        self.blocks = Blocks()
        self.dispersion = np.array([DISPERSION_START.get(place, 1.0) for place in range(len(CHANNELS))])
        self._learnt_to: int | None = None
        self._doubles: Flags = np.zeros(0, dtype=np.bool_)
        self.doubt: Floats = np.zeros((0, COUNTED + 2))
        self.refresh(0.0)

    # --- what is normal -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether enough was learnt to judge anything."""
        return self.baseline.attempts_learnt >= ATTEMPTS_LEARNT_MIN and self.baseline.seconds >= LEARNT_S_MIN

    def refresh(self, at: float, *, thoroughly: bool = True) -> None:
        """Work out what is normal at a moment; ``thoroughly``: and how well that is known, which moves slowly."""
        self.normal: Normal = self.baseline.normal(self.table, at)
        if thoroughly or len(self.doubt) != len(self.table.segments):
            self.doubt = self.baseline.doubt(self.table, at)
        self.lagged = tuple(
            self.baseline.lagged(self.table, *pair) for pair in ((RETRIED, FAILED_HITS), (REVERSED, SUCCEEDED))
        )

    def grown(self, at: float) -> bool:
        """Follow cells that are new since; tells whether there were any."""
        if len(self.normal.usual) == len(self.table.cells):
            return False
        self.refresh(at)
        return True

    def choose(self) -> Watched:
        """The segments worth watching now."""
        watched = Watched(self.table, self.usual, watched_max=self._watched_max)
        self._doubles = watched.doubles
        return watched

    @property
    def usual(self) -> Floats:
        """Attempts a second of each segment in usual times. Shape (segments,)."""
        return self.table.roll_up(self.baseline.settled_per_s(self.table)[:, None])[:, 0]

    @property
    def named(self) -> Flags:
        """Segments that have a name of their own: not nearly all of a wider one. Shape (segments,)."""
        named = np.ones(len(self.table.segments), dtype=np.bool_)
        named[: len(self._doubles)] = ~self._doubles
        return named

    def context(self, watched: Watched, at: float, *, stride: int) -> Context:
        """What a block of ticks is weighed with."""
        segments = watched.segments
        doubt = self.doubt[segments].T
        lagged = []
        for ratio, (hits, _) in zip(self.lagged, ((RETRIED, FAILED_HITS), (REVERSED, SUCCEEDED)), strict=True):
            seen = self.table.roll_up(self.baseline.column(self.table, hits)[:, None])[segments, 0]
            unheard = LAG_DOUBT * float(np.exp(-self.baseline.seconds / LAG_DOUBT_S))
            lagged.append(ratio[segments] * np.exp(DOUBTS / np.sqrt(seen + LAG_DOUBT_HITS) + MARGIN + unheard))
        early = float(np.exp(-self.baseline.seconds / EARLY_MARGIN_S))
        margin = MARGIN + EARLY_MARGIN * early
        slow = np.where(np.arange(COUNTED) == NETWORK, (EARLY_MARGIN_SLOW - EARLY_MARGIN) * early, 0.0)[:, None]
        return Context(
            scale=np.exp(DOUBTS * doubt[:COUNTED] + margin + slow),
            margin=DOUBTS * doubt[COUNTED:] + margin,
            lagged=np.stack(lagged),
            watched=watched.channels if self.baseline.has_lived else watched.channels & TAUGHT[:, None],
            dispersion=self.dispersion,
            orders_per_s=self.clock.expected(at),
            least_per_s=self.clock.least(at),
            recent_per_s=self.clock.recent(),
            usual=float(self.normal.usual.sum()),
            all_column=watched.all_column,
            step_s=self.tick_s * stride,
        )

    # --- what was seen ------------------------------------------------------------------------------------------------

    def since(self, tick: int, unmasked: Flags | None = None) -> Floats:
        """Sums per cell since a tick, without the cells that something else explains. Shape (cells, STATISTICS)."""
        sums = self.blocks.since(tick, len(self.table.cells))
        return sums if unmasked is None else sums * unmasked[:, None]

    def excess(self, channel: int, sums: Floats, *, orders: float = 0.0, upwards: bool = True) -> Excess:
        """Measure every segment on one channel."""
        lagged = (self.lagged[0], self.lagged[1])
        return excess_of(
            self.table, sums, self.normal, channel, doubt=self.doubt, lagged=lagged, orders=orders, upwards=upwards
        )

    def orders_expected(self, first: int, last: int, per_s: float) -> float:
        """Orders of all payments that were expected in ticks first..last."""
        return per_s * (last - first + 1) * self.tick_s

    # --- learning and forgetting --------------------------------------------------------------------------------------

    def learn(self, now_tick: int, began_tick: int, spoilt: list[Spoilt]) -> bool:
        """Learn from blocks that are old enough. Returns whether what is normal was fitted anew."""
        age_s = (now_tick - began_tick) * self.tick_s
        until = now_tick - int(min(LEARN_AFTER_S, 0.4 * age_s) / self.tick_s)
        for block in self.blocks.learnable(until):
            if self._learnt_to is None or block.first > self._learnt_to:
                self._learn(block, spoilt)
                self._learnt_to = block.last
        at = now_tick * self.tick_s
        if self.baseline.due(at):
            self.baseline.refit(self.table, at)
            return True
        return False

    def _learn(self, block: Block, spoilt: list[Spoilt]) -> None:
        seconds = (block.last - block.first + 1) * self.tick_s
        at = (block.first + block.last + 1) / 2 * self.tick_s
        size = len(block.sums)
        exposed = np.ones(size)
        for one in spoilt:
            if one.first <= block.last and (one.last is None or one.last >= block.first) and not one.orders_only:
                exposed[self.table.covered(one.segment)[:size]] = 0.0
        sums = block.sums.astype(np.float64)
        self._judge_dispersion(sums, exposed)
        self.baseline.learn(self.table, sums, at=at, seconds=seconds, exposed=exposed)
        if not any(
            one.orders_only and one.first <= block.last and (one.last or block.last) >= block.first for one in spoilt
        ):
            self.clock.learn(
                at, seconds, float((sums[:, ORDERS] * exposed).sum() / max(_part(self.normal, exposed), 0.05))
            )

    def _judge_dispersion(self, sums: Floats, exposed: Floats) -> None:
        """How much more minutes vary than independent attempts would, 1 = not at all."""
        size = min(len(sums), len(self.normal.usual))
        sums = sums[:size] * exposed[:size, None]
        rate = self.normal.rate[:size]
        expected = sums[:, SETTLED, None] * rate
        excess = sums[:, HITS : HITS + COUNTED] - expected
        variance = expected * (1 - rate)
        count, spread = sums[:, LATENCY_N], self.normal.latency_deviation[:size]
        slow = (sums[:, LATENCY_N + 1] - count * self.normal.latency[:size]) / spread
        both = np.zeros((len(self.table.cells), 2 * COUNTED + 2))
        both[:size] = np.column_stack((excess, variance, slow, count))
        _, rolled = self.table.roll_up_to((ALL_FAMILY, GATEWAY_FAMILY), both)
        pairs = [(place, place, COUNTED + place) for place in range(COUNTED)] + [
            (LATENCY, 2 * COUNTED, 2 * COUNTED + 1)
        ]
        for channel, above, below in pairs:
            seen = rolled[:, below] >= (1.0 if channel != FAILED else 0.5)
            if seen.any():
                ratio = float(np.minimum(rolled[seen, above] ** 2 / rolled[seen, below], 12.0).mean())
                moved = self.dispersion[channel] + DISPERSION_MEMORY * (ratio - self.dispersion[channel])
                self.dispersion[channel] = min(max(moved, 1.0), DISPERSION_MAX)

    def make_room(self, protected: list[SegmentKey]) -> tuple[np.ndarray, np.ndarray] | None:
        """When the table is nearly full, forget the quieter half of the cells, but no cell of an open anomaly.

        Returns: old numbers of the cells and segments that are left, in their new order; None: nothing was forgotten.
        """
        if self.table.full < ROOM:
            return None
        size = len(self.table.cells)
        usual = self.baseline.settled_per_s(self.table).copy()
        for segment in protected:
            usual[self.table.covered(segment)] += 1e6
        busiest = np.sort(np.argsort(-usual, kind="stable")[: max(size // 2, 1)])
        cells, segments = self.table.keep(busiest)
        self.amounts.keep(cells)
        self.baseline.keep(cells, segments)
        self.blocks.keep(cells, size)
        return cells, segments


def _part(normal: Normal, exposed: Floats) -> float:
    """The usual share of the orders that were learnt from."""
    size = min(len(normal.usual), len(exposed))
    total = float(normal.usual.sum())
    return float((normal.usual[:size] * exposed[:size]).sum()) / total if total > 0 else 1.0
