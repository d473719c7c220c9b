"""What a segment did over some time, against what was expected of it, in the numbers and words of a finding."""

from __future__ import annotations

from typing import Final

import numpy as np

from ml.anomalies.channels import FAILED, FAULT_FIRST, FAULTS, SignalName
from ml.anomalies.findings import (
    INTERVAL,
    Fault,
    Measurement,
    Severity,
    rate_range,
    ratio_severity,
    reason_of,
    success_severity,
)
from ml.anomalies.localise import Excess
from ml.anomalies.money import Amounts
from ml.anomalies.segments import Flags, SegmentKey

FAULT_EXCESS_MIN: Final = 2.0
"""Failures more than expected before a side is named."""
SPREAD_LOG_MAX: Final = 50.0
"""An interval this wide already says that nothing is known."""


class Ruler:
    """Measures one segment.

    Args:
        key: the segment.
        number: its number.
        inside: its cells. Shape (cells,).
        traffic_share: its part of the usual traffic, 0 to 1.
        minutes: how long it was looked at, > 0.
        amounts: what attempts are worth.
    """

    def __init__(  # everything that a number shown to people has to say
        self, key: SegmentKey, number: int, inside: Flags, *, traffic_share: float, minutes: float, amounts: Amounts
    ) -> None:
        self._key, self._number = key, number
        self._minutes = max(minutes, 1 / 60)
        self._share = traffic_share
        self._typical = amounts.typical(inside)

    def measure(
        self, signal: SignalName, channel: int, measured: dict[int, Excess], *, doubt: float, level: float
    ) -> Measurement:
        """Say what was seen.

        Args:
            signal: what it is told as.
            channel: whose numbers are told.
            measured: by channel.
            doubt: standard deviation of the logarithm of what is expected.
            level: the usual latency or amount, for these two signals.
        """
        number, excess = self._number, measured[channel]
        seen, expected = float(excess.seen[number]), float(excess.expected[number])
        trials = max(float(excess.trials[number]), 1e-9)
        if signal == "success_rate":
            failed = measured[FAILED]
            trials = max(float(failed.trials[number]), 1e-9)
            return self._success(float(failed.seen[number]), float(failed.expected[number]), trials, doubt, measured)
        if signal in ("latency", "amount_mix"):
            away = seen / max(expected, 1e-9)
            return self._told(
                signal, (level * float(np.exp(away)), level), trials, doubt + 1 / np.sqrt(max(expected, 1e-9)), measured
            )
        if signal == "volume":
            noise = 1 / np.sqrt(max(expected, 1.0)) + doubt
            value = (seen / self._minutes, expected / self._minutes)
            return self._told(signal, value, seen, noise, measured)
        noise = doubt + 1 / np.sqrt(max(expected, 1.0))
        return self._told(signal, (seen / trials, expected / trials), trials, noise, measured)

    def _success(
        self, failed: float, expected: float, attempts: float, doubt: float, measured: dict[int, Excess]
    ) -> Measurement:
        observed, normal = 1 - failed / attempts, 1 - min(expected / attempts, 1.0)
        low, high = rate_range(normal, doubt, attempts)
        severity = success_severity(expected=normal, observed=observed, traffic_share=self._share)
        noise = float(np.sqrt(max(failed, 1.0) + (expected * doubt) ** 2))
        return self._measurement(
            "success_rate", (observed, normal, low, high), attempts, severity, measured, (failed - expected, noise)
        )

    def _told(
        self, signal: SignalName, value: tuple[float, float], count: float, noise: float, measured: dict[int, Excess]
    ) -> Measurement:
        observed, expected = value
        spread = float(np.exp(min(INTERVAL * noise, SPREAD_LOG_MAX)))
        low, high = expected / spread, expected * spread
        severity = ratio_severity((observed + 1e-9) / (expected + 1e-9))
        lost = None
        if signal == "volume":
            orders = (expected - observed) * self._minutes
            lost = orders, float(np.sqrt(max(expected * self._minutes, 1.0)) + noise * expected * self._minutes)
        elif signal == "reversals":
            lost = (observed - expected) * count, float(np.sqrt(max(observed * count, 1.0)))
        return self._measurement(signal, (observed, expected, low, high), count, severity, measured, lost)

    def _measurement(  # the fields of a finding, gathered once
        self,
        signal: SignalName,
        values: tuple[float, float, float, float],
        count: float,
        severity: Severity,
        measured: dict[int, Excess],
        lost: tuple[float, float] | None,
    ) -> Measurement:
        observed, expected, low, high = values
        money: tuple[float | None, float | None, float | None] = (None, None, None)
        if lost is not None and self._typical is not None:
            _, mean, share = self._typical
            each = mean * share / self._minutes
            low_lost, high_lost = lost[0] - INTERVAL * lost[1], lost[0] + INTERVAL * lost[1]
            money = tuple(round(max(number, 0.0) * each, 1) for number in (lost[0], low_lost, high_lost))  # type: ignore[assignment]
        return Measurement(
            observed=observed,
            expected=expected,
            expected_low=low,
            expected_high=high,
            attempts=round(count),
            reason=reason_of(signal, self._key, (observed, low, high, round(count))),
            severity=severity,
            fault=self._fault(measured),
            currency=self._typical[0] if money[0] is not None and self._typical else None,
            loss_minor_per_minute=money[0],
            loss_low=money[1],
            loss_high=money[2],
        )

    def _fault(self, measured: dict[int, Excess]) -> Fault:
        """The side with the largest excess of failures, where their reasons are known."""
        more: dict[Fault, float] = {
            fault: float(measured[place].seen[self._number] - measured[place].expected[self._number])
            for place, fault in enumerate(FAULTS, FAULT_FIRST)
            if place in measured
        }
        worst = max(more, key=lambda fault: more[fault], default=None)
        return worst if worst is not None and more[worst] >= FAULT_EXCESS_MIN else "unknown"
