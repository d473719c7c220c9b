"""What segments did against what is normal, channel by channel, and what a person is told of one of them."""

from __future__ import annotations

import numpy as np

from ml.anomalies.channels import (
    AMOUNT,
    COUNTED,
    FAILED,
    FAULT_FIRST,
    LATENCY,
    RETRIES,
    REVERSALS,
    SMALL_DECLINED,
    UNUSUAL,
    VOLUME,
    SignalName,
)
from ml.anomalies.counting import AMOUNT_N, FAILED_HITS, LATENCY_N, SUCCEEDED
from ml.anomalies.evidence import LAG_S
from ml.anomalies.findings import Measurement
from ml.anomalies.ledger import Ledger
from ml.anomalies.localise import Excess
from ml.anomalies.measure import Ruler
from ml.anomalies.segments import NAMES_GATEWAY, Flags, Floats, SegmentKey


class Scales:
    """Measures segments.

    Args:
        ledger: what was counted and what is normal.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def allowed(self, channel: int) -> Flags:
        """The segments that a channel is told of."""
        named = self._ledger.named
        if channel in (AMOUNT, RETRIES, VOLUME, UNUSUAL):
            named &= ~NAMES_GATEWAY[self._ledger.table.family]
        if channel == VOLUME:
            named &= ~self._ledger.table.vague
        return named

    def excess(self, channel: int, sums: Floats, first: int, tick: int, *, upwards: bool = True) -> Excess:
        """What every segment did on one channel from one tick to another.

        Args:
            channel: which.
            sums: what was counted then, without what something else explains. Shape (cells, STATISTICS).
            first: the first tick.
            tick: the last tick.
            upwards: for means, whether larger is worse.
        """
        ledger = self._ledger
        orders = 0.0
        if channel == VOLUME:
            at = (tick + 1) * ledger.tick_s
            per_s = ledger.clock.expected(at) or ledger.clock.recent() or 0.0
            orders = ledger.orders_expected(first, tick, per_s)
        elif channel in (RETRIES, REVERSALS):
            column, lag = (FAILED_HITS, LAG_S[0]) if channel == RETRIES else (SUCCEEDED, LAG_S[1])
            earlier = int(lag / ledger.tick_s)
            sums[:, column] = (
                ledger.since(first - earlier)[:, column] * (tick - first + 1) / (tick - first + 1 + earlier)
            )
        return ledger.excess(channel, sums, orders=orders, upwards=upwards)

    def measured(self, channel: int, sums: Floats, excess: Excess) -> dict[int, Excess]:
        """The same on every channel that is needed to say what it is, by channel; ``excess``: on the first one."""
        measured = {channel: excess}
        if channel < COUNTED or channel == AMOUNT:
            for place in (FAILED, *range(FAULT_FIRST, SMALL_DECLINED + 1)):
                measured.setdefault(place, self._ledger.excess(place, sums))
        return measured

    def told_channel(self, signal: SignalName, channel: int, number: int, measured: dict[int, Excess]) -> int:
        """The channel that shows the trouble, and its end, most clearly."""
        if signal == "card_testing":
            return SMALL_DECLINED
        if signal == "success_rate":
            shown = max(range(SMALL_DECLINED), key=lambda place: float(measured[place].nats[number]))
            return FAILED if measured[FAILED].nats[number] >= 0.7 * measured[shown].nats[number] else shown
        return channel

    def measure(  # what a person is told of one segment
        self, key: SegmentKey, number: int, signal: SignalName, channel: int, measured: dict[int, Excess], ticks: int
    ) -> Measurement:
        """What is told of a segment (its key and number) that was measured over so many ticks."""
        ledger = self._ledger
        inside = ledger.table.covered(key)
        usual = ledger.baseline.settled_per_s(ledger.table)
        ruler = Ruler(
            key,
            number,
            inside,
            traffic_share=float(usual[inside].sum() / max(usual.sum(), 1e-12)),
            minutes=ticks * ledger.tick_s / 60,
            amounts=ledger.amounts,
        )
        shown = FAILED if signal == "success_rate" else channel
        doubt = float(ledger.doubt[number, shown]) if shown < COUNTED + 2 else 0.1
        return ruler.measure(signal, shown, measured, doubt=doubt, level=self._level(shown, inside))

    def _level(self, channel: int, inside: Flags) -> float:
        """The usual latency (ms) or amount (minor units) of these cells."""
        if channel not in (LATENCY, AMOUNT):
            return 0.0
        ledger = self._ledger
        mean = ledger.normal.latency if channel == LATENCY else ledger.normal.amount
        weight = ledger.baseline.column(ledger.table, LATENCY_N if channel == LATENCY else AMOUNT_N) * inside
        if weight.sum() < 1.0:  # all that is known of them comes from what they are alike
            weight = inside.astype(float)
        return float(np.exp((mean * weight).sum() / max(weight.sum(), 1e-12)))
