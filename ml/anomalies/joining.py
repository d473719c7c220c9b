"""Are two troubles one? What a segment and another one have in common, and whether one explains the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ml.anomalies.channels import COUNTED
from ml.anomalies.counting import HITS, SETTLED
from ml.anomalies.incident import Incident
from ml.anomalies.ledger import Ledger
from ml.anomalies.localise import Excess
from ml.anomalies.segments import Floats, SegmentKey, contains

REST_MIN: Final = 0.1
REST_SHARE: Final = 0.4
"""A wider segment is named only if what it holds besides, when that is a tenth of it, is nearly half as unwell, by the
logarithms of how many times the expected was seen."""
LIES_IN_SHARE: Final = 0.9
"""An anomaly of another segment is the same trouble when so much of what it has too many of lies in the alarm's."""


def smallest_holding(one: SegmentKey, other: SegmentKey) -> SegmentKey:
    """The smallest segment that holds both.

    >>> smallest_holding(("bravo", "card", None, None, None), ("bravo", "upi", None, None, None))
    ('bravo', None, None, None, None)
    """
    return tuple(a if a == b else None for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


def is_part_of(incident: Incident, key: SegmentKey, channel: int) -> bool:
    """Whether it is a part of a segment with the same failures, whatever they are told as: few may have misled.

    Cards that are being tried out are told apart from all other trouble by what they are.
    """
    alike = max(channel, incident.channel) < COUNTED and incident.finding.signal != "card_testing"
    return alike and contains(key, incident.segment)


def lies_in(ledger: Ledger, key: SegmentKey, other: SegmentKey, channel: int, sums: Floats) -> bool:
    """Whether nearly all hits that another segment has too many of lie in this one."""
    table = ledger.table
    more = sums[:, HITS + channel] - sums[:, SETTLED] * ledger.normal.rate[:, channel]
    inside = table.covered(other)
    whole = float(more[inside].sum())
    return whole > 0 and float(more[inside & table.covered(key)].sum()) >= LIES_IN_SHARE * whole


def rest_suffers(excess: Excess, wide: int, parts: Sequence[int], usual: Floats) -> bool:
    """Whether a segment without some of its parts is unwell as well, if there usually is much of it left.

    ``usual``: traffic of each segment, whatever is explained. Where all of the rest is explained, nothing is known.
    """
    if wide in parts or usual[wide] - sum(usual[part] for part in parts) < REST_MIN * usual[wide]:
        return True
    rest = excess.without(wide, parts)
    least = min((np.log(excess.ratio(part)) for part in parts), key=abs)
    return bool(np.log(rest.ratio(0)) / least >= REST_SHARE) if least else True
