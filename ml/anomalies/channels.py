"""What is watched of every segment, in one table: each channel with the sizes of "worse" it looks for.

A channel counts *hits* against what was expected of them (failures, slow answers, small declined cards), and every
size of "worse" is one sequential test. Sizes are ratios; none of them is fitted to any one stream.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np

FAULTS: Final[tuple[Literal["customer", "issuer", "gateway", "network", "merchant", "fraud_rules"], ...]] = (
    "customer",
    "issuer",
    "gateway",
    "network",
    "merchant",
    "fraud_rules",
)
"""Whose fault a failure was, as the failure classifier says; other answers count for no side."""

TECHNICAL: Final = ("gateway", "network", "merchant")
"""Sides that fail together when a gateway is unwell; their failures are also counted as one kind."""

SignalName = Literal[
    "success_rate", "latency", "volume", "failure_mix", "amount_mix", "retries", "card_testing", "reversals", "unnamed"
]
Kind = Literal["odds", "rate", "lagged", "shift", "clock", "windows"]


class Channel(NamedTuple):
    """One kind of evidence.

    ``kind``: ``odds`` hits of trials, by odds; ``rate`` hits against an expected number; ``lagged`` the same, expected
    from what came some time before; ``shift`` the mean of ln(x); ``clock`` arrivals by the clock; ``windows`` what the
    Isolation Forest calls unusual. ``sizes``: ratios that count as worse.
    """

    name: str
    kind: Kind
    sizes: tuple[float, ...]
    signal: SignalName


CHANNELS: Final[tuple[Channel, ...]] = (
    Channel("failed", "odds", (1.6, 4.0, 20.0), "success_rate"),
    *(Channel(f"fault_{fault}", "rate", (1.8, 5.0), "success_rate") for fault in FAULTS),
    Channel("technical", "rate", (1.5, 3.0, 9.0), "success_rate"),
    Channel("small_declined", "rate", (8.0,), "card_testing"),
    Channel("latency", "shift", (1.4, 2.5), "latency"),
    Channel("amount", "shift", (2.0, 0.5), "amount_mix"),
    Channel("retries", "lagged", (5.0, 15.0), "retries"),
    Channel("reversals", "lagged", (3.0, 12.0), "reversals"),
    Channel("volume", "clock", (0.5, 0.1), "volume"),
    Channel("silence", "clock", (1e-6,), "volume"),
    Channel("unusual", "windows", (0.5,), "unnamed"),
)

PLACE: Final = {channel.name: place for place, channel in enumerate(CHANNELS)}
FAILED: Final = PLACE["failed"]
FAULT_FIRST: Final = FAILED + 1
TECHNICAL_HITS: Final = PLACE["technical"]
SMALL_DECLINED: Final = PLACE["small_declined"]
LATENCY: Final = PLACE["latency"]
AMOUNT: Final = PLACE["amount"]
RETRIES: Final = PLACE["retries"]
REVERSALS: Final = PLACE["reversals"]
VOLUME: Final = PLACE["volume"]
SILENCE: Final = PLACE["silence"]
UNUSUAL: Final = PLACE["unusual"]

COUNTED: Final = 3 + len(FAULTS)
"""The first channels count hits of settled attempts: failed, one per fault, technical, small_declined."""

ROWS: Final[tuple[tuple[int, float], ...]] = tuple(
    (place, size) for place, channel in enumerate(CHANNELS) for size in channel.sizes
)
"""(channel, size) of every sequential test; a segment has one test of each row."""
ROW_CHANNEL: Final = np.array([channel for channel, _ in ROWS])
CHANNEL_OF_SIGNAL: Final[dict[SignalName, int]] = {
    "success_rate": FAILED,
    "latency": LATENCY,
    "volume": VOLUME,
    "failure_mix": FAULT_FIRST,
    "amount_mix": AMOUNT,
    "retries": RETRIES,
    "card_testing": SMALL_DECLINED,
    "reversals": REVERSALS,
    "unnamed": UNUSUAL,
}
