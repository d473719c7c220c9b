"""Which gateways are unwell now, as the anomaly watcher says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from actors.recent import Recent
from messaging.contracts import Anomaly, Segment
from ml.routing.context import RoutingContext

ANOMALIES_MAX: Final = 1_000
"""Open anomalies heeded at most, and closed ones remembered against updates that come late."""


class UnwellGateways:
    """The open anomalies in the success rate of a gateway, or of some of its traffic.

    An anomaly of an issuer or a method alone hits all gateways alike, so it changes no ranking; neither does one in
    latency or volume.
    """

    def __init__(self) -> None:
        self._open: Recent[str, Anomaly] = Recent(ANOMALIES_MAX)
        self._closed: Recent[str, None] = Recent(ANOMALIES_MAX)
        self._by_gateway: dict[str, list[Anomaly]] = {}

    def heed(self, anomaly: Anomaly) -> None:
        """Take in an anomaly that was opened or updated; news that are older than what is known have no effect."""
        if anomaly.anomaly_id in self._closed or anomaly.closed_at is not None:
            return
        held = self._open.get(anomaly.anomaly_id)
        if anomaly.signal != "success_rate" or (held is not None and held.updated_at > anomaly.updated_at):
            return
        self._open.put(anomaly.anomaly_id, anomaly)
        self._sort()

    def close(self, anomaly: Anomaly) -> Segment | None:
        """Take an anomaly back. Returns: the segment that was avoided for it, or None."""
        self._closed.put(anomaly.anomaly_id, None)
        held = self._open.pop(anomaly.anomaly_id)
        self._sort()
        return held.segment if held is not None else None

    def among(self, gateways: Sequence[str], context: RoutingContext) -> dict[str, str]:
        """Find the gateways with an open anomaly that covers a payment, each with the anomaly in words."""
        unwell = {}
        for gateway in gateways:
            for anomaly in self._by_gateway.get(gateway, ()):
                if _covers(anomaly.segment, context):
                    unwell[gateway] = _in_words(anomaly)
                    break
        return unwell

    def _sort(self) -> None:
        by_gateway = defaultdict(list)
        for anomaly in self._open.values():
            if anomaly.segment.gateway is not None:
                by_gateway[anomaly.segment.gateway].append(anomaly)
        self._by_gateway = dict(by_gateway)


def _covers(segment: Segment, context: RoutingContext) -> bool:
    """Whether a payment lies in a segment, whatever its gateway; "none" is what has no network or country."""
    return (
        segment.method in (None, context.method)
        and segment.issuer in (None, context.issuer)
        and segment.network in (None, context.network or "none")
        and segment.country in (None, context.country or "none")
    )


def _in_words(anomaly: Anomaly) -> str:
    return (
        f"success {anomaly.observed:.0%} of {anomaly.attempts_seen} attempts since {anomaly.started_at:%H:%M} UTC, "
        f"expected {anomaly.expected:.0%}, anomaly {anomaly.anomaly_id}"
    )
