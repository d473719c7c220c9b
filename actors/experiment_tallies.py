"""The experiment allocator's memory of what was counted: counts and sums by arm, and the units that still mature."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from ml.experiments.arms import ArmTally
from ml.experiments.design import Experiment
from ml.experiments.units import NO_COUNTS, NO_SUMS, Unit, changes
from storage.experiments import ExperimentCounts

MATURED_AT_ONCE_MAX: Final = 5_000
"""Units taken into the sums in one transaction."""

WAITING_MAX: Final = 1_000_000
"""Units in memory that still mature. Beyond it the oldest are taken in before their time, as the report then says."""

STRATA_MAX: Final = 2_000
"""Strata of one arm; what comes beyond is judged together."""

POINT_GROWTH: Final = 1.02
"""A point of the history is kept whenever the units have grown by this factor: hundreds of points for any length."""


class Tallies:
    """Counts and sums by phase and arm.

    Args:
        counts: by (phase, experiment, arm).
        sums: by (phase, arm, stratum).
        waiting: units with an exposure that is not mature.
        points: units at the last point of the history, by phase.
    """

    def __init__(
        self,
        counts: Mapping[tuple[str, str, str], tuple[int, ...]] | None = None,
        sums: Mapping[tuple[str, str, str], tuple[float, ...]] | None = None,
        waiting: Iterable[Unit] = (),
        points: Mapping[str, int] | None = None,
    ) -> None:
        self._counts: dict[tuple[str, str], tuple[int, ...]] = {}
        self._sums: dict[tuple[str, str], dict[str, tuple[float, ...]]] = {}
        self._waiting: dict[str, Unit] = {}
        self._due: list[tuple[int, str]] = []
        self._points = dict(points or {})
        self._changed: set[str] = set()
        for (phase, _, arm), each in (counts or {}).items():
            self._counts[phase, arm] = each
        for (phase, arm, stratum), total in (sums or {}).items():
            self._sums.setdefault((phase, arm), {})[stratum] = total
        for unit in waiting:
            self._wait_for(unit)

    def newest(self, key: str, stored: Mapping[str, Unit]) -> Unit | None:
        """A unit as it is known: in memory while it matures, else in the store."""
        return self._waiting.get(key) or stored.get(key)

    def add(self, before: Mapping[str, Unit | None], after: Mapping[str, Unit]) -> ExperimentCounts:
        """Take units in as they are now. Returns: what that adds, to be stored."""
        added = ExperimentCounts()
        for key, unit in after.items():
            counts, sums = changes(before.get(key), unit)
            for (phase, experiment, arm), change in counts.items():
                added.counts[phase, experiment, arm] = _plus(added.counts.get((phase, experiment, arm)), change)
                self._counts[phase, arm] = _plus(self._counts.get((phase, arm), NO_COUNTS), change)
                self._changed.add(phase)
            for (phase, arm, stratum), gain in sums.items():
                strata = self._sums.setdefault((phase, arm), {})
                place = stratum if stratum in strata or len(strata) < STRATA_MAX else "rest"
                added.sums[phase, arm, place] = _plus_sums(added.sums.get((phase, arm, place)), gain)
                strata[place] = _plus_sums(strata.get(place, NO_SUMS), gain)
                self._changed.add(phase)
            added.units.append(unit)
            self._wait_for(unit)
        return added

    def mature(self, now: datetime) -> ExperimentCounts | None:
        """Take in the units that have become mature; None: there are none."""
        now_ms = round(now.timestamp() * 1000)
        before: dict[str, Unit | None] = {}
        after: dict[str, Unit] = {}
        while self._due and len(after) < MATURED_AT_ONCE_MAX:
            overfull = len(self._waiting) - len(after) > WAITING_MAX
            due_ms, key = self._due[0]
            if due_ms > now_ms and not overfull:
                break
            heapq.heappop(self._due)
            unit = self._waiting.get(key)
            if unit is not None and key not in after and unit.next_ms is not None and unit.next_ms <= due_ms:
                before[key] = unit
                after[key] = unit.matured(max(now_ms, due_ms))
        return self.add(before, after) if after else None

    def touch(self, experiments: Iterable[Experiment]) -> None:
        """Have these experiments reported, whether or not anything was counted."""
        self._changed |= {experiment.phase for experiment in experiments}

    def take_changed(self, phase: str) -> bool:
        """Whether something changed since the last time this was asked."""
        changed = phase in self._changed
        self._changed.discard(phase)
        return changed

    def any(self, phase: str) -> bool:
        """Whether anything was ever counted in a phase."""
        return any(place[0] == phase for place in self._counts)

    def arms(self, experiment: Experiment) -> dict[str, ArmTally]:
        """What each arm has gathered."""
        phase = experiment.phase
        return {
            arm.name: ArmTally(self._counts.get((phase, arm.name), NO_COUNTS), self._sums.get((phase, arm.name), {}))
            for arm in experiment.arms
        }

    def point_is_due(self, phase: str, units: int, told: bool) -> bool:
        """Whether the history wants a point at so many units; it then counts as kept."""
        if not told or units < self._points.get(phase, 0) * POINT_GROWTH:
            return False
        self._points[phase] = units
        return True

    def _wait_for(self, unit: Unit) -> None:
        due = unit.next_ms
        if due is None:
            self._waiting.pop(unit.unit, None)
            return
        known = self._waiting.get(unit.unit)
        self._waiting[unit.unit] = unit
        if known is None or known.next_ms != due:
            heapq.heappush(self._due, (due, unit.unit))


def _plus(known: tuple[int, ...] | None, change: tuple[int, ...]) -> tuple[int, ...]:
    return change if known is None else tuple(a + b for a, b in zip(known, change, strict=True))


def _plus_sums(known: tuple[float, ...] | None, change: tuple[float, ...]) -> tuple[float, ...]:
    return change if known is None else tuple(a + b for a, b in zip(known, change, strict=True))
