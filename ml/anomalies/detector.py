"""The anomaly detector: attempts in; anomalies opened, updated and closed out.

How the parts work together:

- Reports are counted per tick when they come (:mod:`ml.anomalies.counting`); a correction takes back what it replaces.
- What is normal (:mod:`ml.anomalies.baseline`) is learnt per cell of the traffic, shared between cells by additive
  effects, and follows the hour of the day; what is unwell is not learnt.
- A CUSUM per segment, channel and size of trouble (:mod:`ml.anomalies.evidence`) adds up evidence; how much is enough
  follows from one budget of false alerts for all of them.
- The segment that explains the excess best is named (:mod:`ml.anomalies.localise`); what it explains is masked, and
  what is left is judged on. So one incident is one anomaly (:mod:`ml.anomalies.casebook`).
- An open anomaly closes on evidence of health (:mod:`ml.anomalies.incident`), never for want of traffic.

Any number of ticks may be worked off at once, as arrays; that is what makes it cheap. (Longer than other modules,
because the order in which ticks, alarms, recoveries and learning follow each other is read in one place.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from ml.anomalies.attempts import Attempts, Observation, Reason, joined, nothing, reasons_of, rows_of
from ml.anomalies.casebook import Casebook
from ml.anomalies.channels import COUNTED, ROW_CHANNEL, UNUSUAL, VOLUME
from ml.anomalies.counting import Evidence, evidence_of, statistics_of
from ml.anomalies.evidence import (
    Context,
    Cusum,
    Ebb,
    Lags,
    eased,
    ebbing,
    evidence_needed,
    expected_orders,
    information,
    log_ratios,
    most_of,
)
from ml.anomalies.findings import Change, Finding
from ml.anomalies.forest import Forest, Minute
from ml.anomalies.history import HistoryCell, replay
from ml.anomalies.incident import MASKS, Incident, trail_of
from ml.anomalies.ledger import Ledger
from ml.anomalies.patrol import SETTLED_MIN, Patrol
from ml.anomalies.segments import Flags, Floats, Integers, SegmentKey

BLOCK_S: Final = 60.0
BLOCK_EARLY_S: Final = 4.0
EARLY_S: Final = 300.0
"""What is normal is looked at anew after every minute; in the first five, after every ten seconds."""
AHEAD_S_MAX: Final = 60.0
"""Reports from further ahead than this come from a wrong clock, and count now."""
PAUSE_S_MAX: Final = 6 * 3600.0
"""After a longer silence of the clock the time between is skipped."""
OPENED_MAX: Final = 8
"""Alarms looked into at one tick, at most; the rest waits for the next."""
STRIDE_2_BELOW: Final = 10.0
STRIDE_4_BELOW: Final = 2.5
"""With fewer orders per tick, two or four ticks are judged at once."""
CHOOSE_S: Final = 600.0
"""The segments to watch are chosen anew so often."""
NEEDED_START: Final = 22.0
"""Nats that an alert needs before it is known how much traffic shares the budget."""
UNNAMED_NATS: Final = 6.0
"""What has no name needs so much more evidence: unusual minutes come in company."""
INFORMATION_MEMORY: Final = 0.2
INFORMATION_BLOCKS: Final = 5
"""How much traffic shares the budget is looked at in every fifth block."""
ADOPT_S: Final = 8 * 3600.0
ADOPT_VOLUME_S: Final = 3600.0
"""An anomaly that has lasted so long is the new normal."""


class AnomalyDetector:
    """Watches all segments. Give it attempts with ``observe``, and the time with :meth:`tick` about once a second.

    Args:
        window_s: length of a tick, seconds, > 0.
        baseline_minutes: mean age of the history that normal is learnt from, > 0.
        attempts_min: fewest attempts an anomaly is opened on, >= 1.
        false_alerts_per_week: the budget for the whole system, > 0.
        close_after_s: how long a segment has to be well, seconds, > 0.
        segments_max: bound on segments, >= 16; the busiest are kept.
        watched_max: bound on segments with tests of their own.
        grace_s: how long after its end a tick waits for late reports, seconds, >= 0.
        contamination: share of ordinary minutes that the Isolation Forest takes for unusual, 0 to 0.5.
        retrain_s: seconds between fits of the forest, > 0.
        seed: of the forest.
        minute_ended: told of every minute that ended: when, the numbers of the segments that are busy enough (also
            those that an anomaly touches), and their features. For tuning and training.
    """

    def __init__(
        self,
        *,
        window_s: float = 1.0,
        baseline_minutes: float = 1440.0,
        attempts_min: int = 6,
        false_alerts_per_week: float = 1.0,
        close_after_s: float = 20.0,
        segments_max: int = 2000,
        watched_max: int = 1000,
        grace_s: float = 0.5,
        contamination: float = 0.0005,
        retrain_s: float = 21_600.0,
        seed: int = 0,
        minute_ended: Callable[[float, Integers, Floats], None] | None = None,
    ) -> None:
        self._tick_s, self._grace_s = window_s, grace_s
        self._budget, self._close_after_s = false_alerts_per_week, close_after_s
        self.ledger = Ledger(
            tick_s=window_s, memory_s=60.0 * baseline_minutes, segments_max=segments_max, watched_max=watched_max
        )
        self.casebook = Casebook(self.ledger, attempts_min=attempts_min)
        self._pending: list[Attempts] = []
        self._done = self._began = self._block_first = 0
        self._begun = False
        self._stride = 1
        self._chosen_tick = 0
        self._information: float | None = None
        self._blocks = 0
        self._needed = NEEDED_START
        self._watched = self.ledger.choose()
        self._cusum, self._lags = Cusum(0), Lags(0)
        self._context: Context = self.ledger.context(self._watched, 0.0, stride=1)
        self._remask()
        self._patrol = Patrol(contamination=contamination, retrain_s=retrain_s, seed=seed)
        self._minute, self._ebb = Minute(0), Ebb(len(self._watched.ebbed))
        self._minute_ended = minute_ended

    @property
    def unnamed_nats_needed(self) -> float:
        """Evidence that an alert of the forest takes now, nats."""
        return self._needed + UNNAMED_NATS

    @property
    def open_findings(self) -> list[Finding]:
        """The anomalies that are open, oldest first."""
        return [incident.finding for incident in self.casebook.incidents]

    def observe(self, observations: Sequence[Observation]) -> None:
        """Take in reports of attempts."""
        ledger = self.ledger
        self.observe_columns(rows_of(observations, ledger.table))
        worth = [(ledger.table.cell(seen.key), seen) for seen in observations if seen.was is None and seen.currency]
        known = [(cell, ledger.amounts.currency(seen.currency), seen.amount_minor) for cell, seen in worth if cell >= 0]
        if known:
            cells, currencies, amounts = zip(*known, strict=True)
            ledger.amounts.add(np.array(cells), np.array(currencies), np.array(amounts, dtype=np.float64))

    def observe_reasons(self, reasons: Sequence[Reason]) -> None:
        """Take in whose fault failures were."""
        self.observe_columns(reasons_of(reasons, self.ledger.table))

    def observe_columns(self, attempts: Attempts) -> None:
        """Take in attempts that are in arrays already; ``cell`` as numbered by ``ledger.table``."""
        if attempts:
            self._pending.append(attempts)

    def tick(self, now: float) -> list[Change]:
        """Judge the ticks that ended. ``now``: seconds. Returns what changed, in order."""
        last = math.floor((now - self._grace_s) / self._tick_s) - 1
        self._pending = [
            part if part.at.max() <= now + AHEAD_S_MAX else part._replace(at=np.minimum(part.at, now))
            for part in self._pending
        ]
        if not self._begun:
            earliest = min((float(part.at.min()) for part in self._pending), default=now)
            first = min(math.floor(earliest / self._tick_s), last + 1)
            self._begun, self._done, self._began, self._block_first = True, first - 1, first, first
        if (last - self._done) * self._tick_s > PAUSE_S_MAX:
            self._done = self._block_first = last - 1
        changes: list[Change] = []
        while self._done < last:
            end = self._block_first + self._block_ticks() - 1
            upto = min(last, end)
            upto -= (upto - self._done) % self._stride
            if upto == self._done:
                break
            changes += self._advance(self._done + 1, upto)
            self._done = upto
            if upto == end:
                changes += self._look_around(upto)
                self._finish(upto)
        return changes

    def warm_start(self, cells: Iterable[HistoryCell], findings: Iterable[Finding], now: float) -> None:
        """Learn from stored sums and take up the anomalies that were open, before the first attempt is observed.

        Args:
            cells: sums of some time of each gateway, method and issuer, in any order.
            findings: anomalies, open ones and (so that their time is not learnt from) recently closed ones; one that is
                given twice counts once.
            now: seconds.
        """
        known = list({finding.anomaly_id: finding for finding in findings}.values())
        replay(self.ledger, cells, known, now=now)
        for finding in sorted(known, key=lambda finding: finding.detected_at):
            if finding.closed_at is None:
                self.casebook.take_up(finding, math.floor(now / self._tick_s))
        self._choose(math.floor(now / self._tick_s))

    # --- ticks --------------------------------------------------------------------------------------------------------

    def _block_ticks(self) -> int:
        early = (self._block_first - self._began) * self._tick_s < EARLY_S
        return max(round((BLOCK_EARLY_S if early else BLOCK_S) / self._tick_s), 1)

    def _take(self, first: int, last: int) -> tuple[Attempts, Integers]:
        """The rows that came up to the end of a tick, and the tick of each; late ones count in the first."""
        rows = joined(self._pending)
        if not rows:
            self._pending = []
            return nothing(), np.zeros(0, dtype=np.int64)
        tick = np.floor(rows.at / self._tick_s).astype(np.int64)
        due = tick <= last
        if due.all():
            self._pending = []
        else:
            self._pending = [rows.take(~due)]
            rows, tick = rows.take(due), tick[due]
        tick = np.maximum(tick, first)
        order = np.argsort(tick, kind="stable")
        return rows.take(order), tick[order]

    def _advance(self, first: int, last: int) -> list[Change]:
        ledger = self.ledger
        rows, tick = self._take(first, last)
        if ledger.grown(first * self._tick_s):
            self._watched.extended(ledger.table)
            self._remask()
            self._context = ledger.context(self._watched, first * self._tick_s, stride=self._stride)
        statistics = statistics_of(rows, ledger.normal)
        if not len(self._watched.segments):
            ledger.blocks.add(statistics, rows.cell, tick)
            return []
        changes: list[Change] = []
        while first <= last:
            begin = int(tick.searchsorted(first))
            step = (tick[begin:] - first) // self._stride
            part = statistics[begin:], rows.cell[begin:], step
            shape = ((last - first + 1) // self._stride, len(self._watched.segments))
            evidence = evidence_of(*part, ledger.normal, self._unmasked, self._watched.columns, shape)
            step_s = self._tick_s * self._stride
            ebbed = self._watched.ebbed
            smooth = self._ebb.run(evidence.failed[:, ebbed] + evidence.succeeded[:, ebbed], step_s)
            evidence = eased(evidence, ebbing(smooth, step_s), self._watched.gateway_of)
            before = self._lags.run(evidence, step_s)
            bases = most_of(before)
            needed = self._needed if ledger.ready else math.inf
            steps = self._cusum.run(log_ratios(evidence, bases, self._context), needed, stride=self._stride)
            self._lags.commit(before, steps, step_s)
            self._ebb.commit(smooth, steps, step_s)
            changes += self._settle(evidence, bases, part, (first, steps))
            first += steps * self._stride
            if ledger.ready:
                changes += self._alarms(first - 1)
            else:  # against a normal that nobody knows yet, nothing is evidence
                self._cusum.total[:] = 0.0
        return changes + self._reviewed(last)

    def _settle(
        self, evidence: Evidence, bases: Floats, part: tuple[Floats, Integers, Integers], span: tuple[int, int]
    ) -> list[Change]:
        """Make some ticks final: count them, and see who has recovered."""
        first, steps = span
        statistics, cell, step = part
        end = int(step.searchsorted(steps))
        self.ledger.blocks.add(statistics[:end], cell[:end], step[:end] * self._stride + first)
        if self.ledger.ready:
            orders = expected_orders(evidence, self._context) * self._watched.channels[VOLUME]
            self._minute.add(evidence, orders, steps)
        if self.ledger.ready and (self._information is None or self._blocks % INFORMATION_BLOCKS == 0):
            seen = information(evidence, bases, self._context)
            before = seen if self._information is None else self._information
            self._information = before + INFORMATION_MEMORY * (seen - before)
        return self._recover(statistics[:end], cell[:end], step[:end], span)

    def _alarms(self, tick: int) -> list[Change]:
        """Look into every alarm of a tick, the strongest first."""
        changes: list[Change] = []
        total = self._cusum.total[:-1]  # minutes are looked into when they end
        for _ in range(OPENED_MAX):
            row, column = np.unravel_index(int(total.argmax()), total.shape)
            nats = float(total[row, column])
            if nats < self._needed:
                break
            segment = int(self._watched.segments[column])
            start = tick - int(self._cusum.age[row, column]) + 1
            told = self.casebook.alarm(int(row), segment, start, tick, nats)
            changes += told
            if told:
                self._remask()
                for change in told:
                    self._forget(change.finding)
            total[row, column] = 0.0
        return changes

    def _forget(self, finding: Finding) -> None:
        """Start the evidence of every segment that shares traffic with this one anew, where it explains it."""
        table = self.ledger.table
        segments = np.flatnonzero(table.overlapping(table.covered(finding.segment)))
        place = self._watched.place_of(segments)
        columns = np.zeros(len(self._watched.segments), dtype=np.bool_)
        columns[place[place >= 0]] = True
        self._cusum.forget(np.isin(ROW_CHANNEL, MASKS[finding.signal]), columns)

    # --- open anomalies -----------------------------------------------------------------------------------------------

    def _recover(self, statistics: Floats, cell: Integers, step: Integers, span: tuple[int, int]) -> list[Change]:
        """Close the anomalies that have been over for long enough, or have become the new normal."""
        first, steps = span
        changes, last = [], first + steps * self._stride - 1
        for incident in list(self.casebook.incidents):
            number = self.ledger.table.segment(incident.segment)
            if number is None:
                continue
            lasted = (last - incident.first) * self._tick_s
            volume = incident.finding.signal == "volume"
            if lasted > (ADOPT_VOLUME_S if volume else ADOPT_S):
                changes.append(self._adopted(incident, last))
            elif self._weighed(incident, number, statistics, cell, step, span):
                changes.append(self._closed(incident, last, "well again"))
        return changes

    def _weighed(  # one incident against the rows of some ticks
        self,
        incident: Incident,
        number: int,
        statistics: Floats,
        cell: Integers,
        step: Integers,
        span: tuple[int, int],
    ) -> bool:
        """Whether the anomaly has been over for long enough."""
        first, steps = span
        ledger = self.ledger
        inside = ledger.table.covered(incident.segment)
        chosen = inside[cell]
        lagged = float(ledger.lagged[0][number]), float(ledger.lagged[1][number])
        channel = incident.channel
        seen, expected, trials = trail_of(
            channel, statistics[chosen], cell[chosen], step[chosen], steps, ledger.normal, lagged
        )
        if channel == VOLUME:
            per_s = self._context.orders_per_s or self._context.recent_per_s or 0.0
            usual = ledger.normal.usual
            share = float(usual[inside].sum() / max(usual.sum(), 1e-12))
            expected = np.full(steps, share * per_s * self._tick_s * self._stride)
        if channel != UNUSUAL:
            incident.weigh(incident.health(seen, expected, trials), first, stride=self._stride)
        after = (first + steps * self._stride - incident.well_since) * self._tick_s
        return incident.well and after >= self._close_after_s

    def _reviewed(self, tick: int) -> list[Change]:
        changes = self.casebook.review(tick)
        if changes:
            self._remask()
        for change in changes:
            self._forget(change.finding)
        return changes

    def _closed(self, incident: Incident, tick: int, because: str) -> Change:
        change = self.casebook.close(incident, tick, because)
        self._remask()
        self._forget(change.finding)
        return change

    def _adopted(self, incident: Incident, tick: int, because: str = "taken for the new normal") -> Change:
        table = self.ledger.table
        number = table.segment(incident.segment)
        if number is not None and incident.channel < COUNTED + 2:
            cells = np.flatnonzero(table.covered(incident.segment))
            self.ledger.baseline.adopt(number, cells, incident.channel, incident.ratio)
        return self._closed(incident, tick, because)

    def dismiss(self, finding: Finding) -> Change | None:
        """An operator says that this is no anomaly: close it if it is open, and ask for more evidence of the like."""
        self.casebook.doubt(finding)
        for incident in self.casebook.incidents:
            if incident.finding.anomaly_id == finding.anomaly_id:
                return self._adopted(incident, self._done, "marked as false")
        return None

    def take_forest(self, forest: Forest | None) -> None:
        """Use a forest that was fitted to stored history from now on; None: fit one to what is heard."""
        self._patrol.take(forest)

    def plan(self, segments: Iterable[SegmentKey]) -> None:
        """Say which segments are under planned maintenance now: what they do is expected."""
        planned = tuple(segments)
        if planned != self.casebook.planned:
            self.casebook.planned = planned
            self._remask()

    def _remask(self) -> None:
        self._unmasked: Flags = self.casebook.unmasked()

    # --- every minute -------------------------------------------------------------------------------------------------

    def _look_around(self, tick: int) -> list[Change]:
        """Ask the forest about the minute that ended."""
        if not self.ledger.ready or self._block_ticks() * self._tick_s < BLOCK_S:
            self._minute = Minute(len(self._watched.segments))
            return []
        free = self._unmasked[0] & self._unmasked[UNUSUAL]
        table = self.ledger.table
        touched = self._watched.place_of(np.flatnonzero(table.overlapping(~free)))
        clean = self._watched.channels[UNUSUAL].copy()
        clean[touched[touched >= 0]] = False
        at = (tick + 1) * self._tick_s
        if self._minute_ended is not None:
            busy = self._watched.channels[UNUSUAL] & (self._minute.settled >= SETTLED_MIN)
            self._minute_ended(at, self._watched.segments[busy], self._minute.features()[busy])
        nats = self._patrol.look(self._minute, clean, at)
        self._minute = Minute(len(self._watched.segments))
        total, age = self._cusum.total[-1], self._cusum.age[-1]
        total += nats.astype(np.float32)
        np.maximum(total, 0.0, out=total)
        age += self._block_ticks()
        age *= total > 0
        changes: list[Change] = []
        while len(changes) < OPENED_MAX and float(total.max(initial=0.0)) >= self.unnamed_nats_needed:
            column = int(total.argmax())
            segment, start = int(self._watched.segments[column]), tick - int(age[column]) + 1
            told = self.casebook.unnamed(segment, start, tick, float(total[column]))
            total[column] = 0.0
            changes += told
            for change in told:
                self._remask()
                self._forget(change.finding)
        for incident in self.casebook.incidents:
            number = table.segment(incident.segment)
            place = self._watched.place_of(np.array([-1 if number is None else number]))[0]
            if incident.channel == UNUSUAL and place >= 0:
                ordinary = self._patrol.ordinary(place)
                incident.weigh(np.array([ordinary]), tick - self._block_ticks() + 1, stride=self._block_ticks())
        return changes

    def _finish(self, tick: int) -> None:
        """End a block: learn, tell open anomalies anew, and work out what is normal and how much evidence is enough."""
        ledger = self.ledger
        ledger.blocks.finish(self._block_first, tick, len(ledger.table.cells))
        self._block_first = tick + 1
        self._blocks += 1
        self._stride = self._best_stride()
        at = (tick + 1) * self._tick_s
        fitted = ledger.learn(tick, self._began, self.casebook.not_learnt())
        left = ledger.make_room([incident.segment for incident in self.casebook.incidents])
        if left is not None:
            self._renumber(left[0])
        if fitted or left is not None or (tick - self._chosen_tick) * self._tick_s >= CHOOSE_S:
            self._choose(tick + 1, left)
        else:
            ledger.refresh(at, thoroughly=False)
            self._context = ledger.context(self._watched, at, stride=self._stride)
        self._remask()
        if ledger.ready and self._information is not None:
            self._needed = evidence_needed(
                false_alerts_per_week=self._budget,
                information_per_tick=self._information,
                tick_s=self._tick_s * self._stride,
            )

    def _renumber(self, cells: Integers) -> None:
        """Follow a table that forgot cells."""
        place = np.full(int(max((part.cell.max() for part in self._pending), default=0)) + 1 + int(cells.max()), -1)
        place[cells] = np.arange(len(cells))
        parts = [part._replace(cell=place[part.cell]) for part in self._pending]
        self._pending = [part.take(part.cell >= 0) for part in parts if (part.cell >= 0).any()]

    def _best_stride(self) -> int:
        """Ticks judged together: slow traffic has nothing to say every second."""
        rate = float(self.ledger.normal.usual.sum()) * self._tick_s
        early = self._block_ticks() % 4 != 0
        return 1 if rate >= STRIDE_2_BELOW else 2 if rate >= STRIDE_4_BELOW or early else 4

    def _choose(self, tick: int, left: tuple[Integers, Integers] | None = None) -> None:
        """Choose the segments to watch, and carry their evidence over."""
        ledger = self.ledger
        before = self._watched
        ledger.refresh(tick * self._tick_s)
        self._watched = ledger.choose()
        former = self._watched.segments if left is None else left[1][self._watched.segments]
        old = before.place_of(former)
        self._cusum.moved(old)
        self._lags.moved(old)
        ebbed = {column: place for place, column in enumerate(before.ebbed.tolist())}
        self._ebb.moved(np.array([ebbed.get(int(old[column]), -1) for column in self._watched.ebbed], dtype=np.int64))
        self._chosen_tick = tick
        self._minute = Minute(len(self._watched.segments))
        self._context = ledger.context(self._watched, tick * self._tick_s, stride=self._stride)
        self._remask()
