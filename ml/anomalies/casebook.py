"""The open anomalies: what is opened, made wider or narrower, told anew, and closed."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np

from ml.anomalies.channels import (
    CHANNEL_OF_SIGNAL,
    CHANNELS,
    COUNTED,
    ROWS,
    SILENCE,
    UNUSUAL,
    VOLUME,
    SignalName,
)
from ml.anomalies.counting import SETTLED
from ml.anomalies.findings import Change, Finding, Measurement, is_worse, opened, reason_of, remeasured
from ml.anomalies.incident import MASKS, RANK, Incident
from ml.anomalies.joining import is_part_of, lies_in, rest_suffers, smallest_holding
from ml.anomalies.ledger import Ledger, Spoilt
from ml.anomalies.localise import Excess, best_segment, signal_of
from ml.anomalies.scales import Scales
from ml.anomalies.segments import ALL, Flags, Floats, SegmentKey, contains, overlap

MIX_HITS_MIN: Final = 20.0
"""From so many failures of one kind too many on, a loss of success that is none is told as a change of their mix."""
UNNAMED_AFTER_S: Final = 1800.0
"""So long after trouble with a name, unusual minutes of the same traffic are taken for what is left of it."""
DOUBT_NATS: Final = 5.0
DOUBTED_MAX: Final = 500
"""So much more evidence is asked for where an operator said that there was nothing."""
OPEN_MAX: Final = 200
SPOILT_KEPT: Final = 500
CLOSED_MAX: Final = 20
"""So many of the anomalies that closed last are taken away from what is seen of one that is open."""
JOINED_S: Final = 900.0
"""Trouble that began within so many seconds of an open anomaly may be the same, seen wider."""
JOINED_SHARE: Final = 0.8
JOINED_SHARE_NEAR: Final = 0.6
"""Two anomalies are one wider one when it explains so much of what the two explain; less will do when they began
together, or one is a part of the other, and they share a gateway, method, issuer, network or country."""
REVIEWS_S: Final = (6.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0)
"""So long after opening, a segment that explains the trouble clearly better replaces the first one."""
REVIEW_GAIN: Final = 4.0
UPDATE_S: Final = 60.0
"""Seconds since an anomaly was last told before it may be told to be worse, or to cost less than half as much."""


class Alarm(NamedTuple):
    """Enough evidence of one channel, from the first tick to the last; ``nats`` of the segment that explains it best.

    ``upwards``: for means, whether larger is worse.
    """

    channel: int
    upwards: bool
    start: int
    tick: int
    nats: float


class Casebook:
    """Open anomalies and what is known of them.

    Args:
        ledger: what was counted and what is normal.
        attempts_min: fewest attempts an anomaly is opened on.
    """

    def __init__(self, ledger: Ledger, *, attempts_min: int) -> None:
        self._ledger, self._scales = ledger, Scales(ledger)
        self._attempts_min = attempts_min
        self.incidents: list[Incident] = []
        self.spoilt: list[Spoilt] = []
        self.planned: tuple[SegmentKey, ...] = ()
        self.doubted: dict[tuple[SignalName, SegmentKey], float] = {}

    # --- masks --------------------------------------------------------------------------------------------------------

    def unmasked(self, *, but: Incident | None = None) -> Flags:
        """Which cells no open anomaly (other than ``but``) and no maintenance explains. Shape (channels, cells)."""
        table = self._ledger.table
        free = np.ones((len(CHANNELS), len(table.cells)), dtype=np.bool_)
        for segment in self.planned:
            free[:, table.covered(segment)] = False
        for incident in self.incidents:
            if incident is not but:
                inside = table.covered(incident.segment)
                for channel in MASKS[incident.finding.signal]:
                    free[channel, inside] = False
        return free

    def _since(self, incident: Incident, channel: int, first: int) -> Floats:
        """Sums since a tick of what no other anomaly explains, open or closed meanwhile. Shape (cells, STATISTICS).

        One that closed explains only the ticks in which it was ill, and nothing of how many orders there were.
        """
        ledger, table = self._ledger, self._ledger.table
        free = self.unmasked(but=incident)[channel]
        over = [one for one in self.spoilt if self._explained(one, incident, channel, first)][-CLOSED_MAX:]
        if not over:
            return ledger.since(first, free)
        own = table.covered(incident.segment)
        edges = {first} | {max(one.first, first) for one in over} | {(one.last or first) + 1 for one in over}
        total: Floats = np.zeros(0)
        after: Floats = np.zeros(0)
        for edge in sorted(edges, reverse=True):  # each stretch is what came since its beginning less what came later
            since = ledger.since(edge, free)
            part = since - after if after.size else since.copy()
            for one in over:
                if one.first <= edge <= (one.last or first):
                    inside = table.covered(one.segment)
                    part[inside if contains(incident.segment, one.segment) else inside & ~own] = 0.0
            total = total + part if total.size else part
            after = since
        return total

    @staticmethod
    def _explained(one: Spoilt, incident: Incident, channel: int, first: int) -> bool:
        """Whether a closed anomaly may explain what is seen on a channel since a tick, beside an open one.

        Not one of the same segment, which would be a relapse; nor one that closed as a part of a wider one.
        """
        if one.last is None or one.last < first or one.joined or one.signal is None or channel >= COUNTED + 2:
            return False
        return channel in MASKS[one.signal] and one.segment != incident.segment

    # --- opening ------------------------------------------------------------------------------------------------------

    def alarm(self, row: int, segment: int, start: int, tick: int, nats: float) -> list[Change]:
        """Name what is behind an alarm, and open an anomaly for it, or widen one; nothing if it does not hold."""
        channel, size = ROWS[row]
        channel = VOLUME if channel == SILENCE else channel
        ledger, table = self._ledger, self._ledger.table
        start = max(start, ledger.blocks.oldest() or start)
        sums = ledger.since(start, self.unmasked()[channel])
        excess = self._scales.excess(channel, sums, start, tick, upwards=size > 1)
        among = table.overlapping(table.covered(table.segments[segment])) & self._scales.allowed(channel)
        if channel < COUNTED:
            among &= excess.trials >= self._attempts_min
        if not among.any():
            return []
        best, _ = best_segment(table, excess.nats, among)
        measured = self._scales.measured(channel, sums, excess)
        signal = signal_of(channel, best, measured)
        key = table.segments[best]
        if nats < self.doubted.get((signal, key), 0.0):
            return []
        known = self._same(key, signal, Alarm(channel, size > 1, start, tick, float(excess.nats[best])))
        if known is not None:
            return known
        if len(self.incidents) >= OPEN_MAX:
            return []
        return self._opened(key, best, signal, measured, channel, start, tick, nats)

    def _opened(  # the whole of what an alarm has found out
        self,
        key: SegmentKey,
        number: int,
        signal: SignalName,
        measured: dict[int, Excess],
        channel: int,
        start: int,
        tick: int,
        nats: float,
    ) -> list[Change]:
        ledger = self._ledger
        channel = self._scales.told_channel(signal, channel, number, measured)
        measurement = self._scales.measure(key, number, signal, channel, measured, tick - start + 1)
        now = (tick + 1) * ledger.tick_s
        finding = opened(key, signal, measurement, started_at=start * ledger.tick_s, now=now)
        finding = msgspec.structs.replace(finding, score=round(nats, 2))
        ratio = measured[channel].ratio(number)
        changes = []
        for other in [
            one for one in self.incidents if contains(key, one.segment) and self._explains(signal, one, start)
        ]:
            changes.append(self.close(other, tick, "part of a wider one", joined=True))
        self.incidents.append(Incident(finding, channel=channel, first=start, opened=tick, ratio=ratio))
        return [*changes, Change("opened", finding)]

    def unnamed(self, segment: int, start: int, tick: int, nats: float) -> list[Change]:
        """Open an anomaly for unusual minutes of a segment, unless trouble with a name is or was near."""
        ledger = self._ledger
        key, late = ledger.table.segments[segment], int(UNNAMED_AFTER_S / ledger.tick_s)
        known = [(one.segment, tick) for one in self.incidents] + [
            (one.segment, one.last or tick) for one in self.spoilt
        ]
        if any(overlap(key, other) and tick - last <= late for other, last in known) or len(self.incidents) >= OPEN_MAX:
            return []
        if nats < self.doubted.get(("unnamed", key), 0.0):
            return []
        sums = ledger.since(start)
        attempts = round(float(sums[ledger.table.covered(key), SETTLED].sum()))
        values = (1.0, 0.0, 0.0, 0.5)
        measured = Measurement(
            observed=values[0],
            expected=values[1],
            expected_low=values[2],
            expected_high=values[3],
            attempts=attempts,
            severity="minor",
            reason=reason_of("unnamed", key, (values[0], values[2], values[3], attempts)),
        )
        now = (tick + 1) * ledger.tick_s
        finding = opened(key, "unnamed", measured, started_at=start * ledger.tick_s, now=now)
        finding = msgspec.structs.replace(finding, score=round(nats, 2))
        self.incidents.append(Incident(finding, channel=UNUSUAL, first=start, opened=tick, ratio=1.0))
        return [Change("opened", finding)]

    def _explains(self, signal: SignalName, other: Incident, start: int) -> bool:
        near = abs(other.first - start) * self._ledger.tick_s <= JOINED_S
        return near and RANK[signal] > RANK[other.finding.signal]

    def _same(self, key: SegmentKey, signal: SignalName, alarm: Alarm) -> list[Change] | None:
        """If it is the trouble of an open anomaly: that one, widened or renamed; None if it is another.

        One trouble may be told by two channels, and seen in parts.
        """
        ledger = self._ledger
        for incident in self.incidents:
            late = max(alarm.tick - incident.opened, abs(alarm.start - incident.first))
            near = late * ledger.tick_s <= JOINED_S
            if not near or not overlap(key, incident.segment):
                continue
            nested = contains(key, incident.segment) or contains(incident.segment, key)
            if nested and RANK[signal] > RANK[incident.finding.signal]:
                return self._renamed(incident, key, signal, alarm.channel, alarm.tick)
        for incident in self.incidents:
            if (incident.finding.signal == signal or is_part_of(incident, key, alarm.channel)) and not incident.well:
                wider = self._wider(incident, key, alarm)
                if wider is not None:
                    return self._renamed(incident, wider, signal, alarm.channel, alarm.tick)
        return None

    def _wider(self, incident: Incident, key: SegmentKey, alarm: Alarm) -> SegmentKey | None:
        """The segment that explains nearly all that an alarm and an open anomaly do, if there is one.

        It is the smallest one that holds both, or that of the alarm, where nearly all that the anomaly has too many of
        lies in it.
        """
        ledger, table, channel = self._ledger, self._ledger.table, alarm.channel
        both = smallest_holding(key, incident.segment)
        own = table.segment(incident.segment)
        if own is None:
            return None
        first = max(min(incident.first, alarm.start), ledger.blocks.oldest() or 0)
        sums = self._since(incident, channel, first)
        excess = self._scales.excess(channel, sums, first, alarm.tick, upwards=alarm.upwards)
        near = abs(alarm.start - incident.first) * ledger.tick_s <= JOINED_S
        if near and both != key and channel < COUNTED and lies_in(ledger, key, incident.segment, channel, sums):
            return key
        number = table.segment(both)
        if number is None or not self._scales.allowed(channel)[number]:
            return None
        share = JOINED_SHARE_NEAR if (near or both == key) and both != ALL else JOINED_SHARE
        if excess.nats[number] < share * (excess.nats[own] + alarm.nats):
            return None
        parts = [own] if table.segment(key) in (None, own) else [own, int(table.segment(key) or 0)]
        return both if rest_suffers(excess, number, parts, ledger.usual) else None

    def _renamed(
        self, incident: Incident, key: SegmentKey, signal: SignalName, channel: int, tick: int
    ) -> list[Change]:
        """Tell an open anomaly as another segment or another kind of trouble."""
        ledger = self._ledger
        first = max(incident.first, ledger.blocks.oldest() or 0)
        incident.finding = msgspec.structs.replace(incident.finding, segment=key, signal=signal)
        sums = self._since(incident, channel, first)
        number = ledger.table.segment(key)
        assert number is not None
        measured = self._scales.measured(channel, sums, self._scales.excess(channel, sums, first, tick))
        told = self._scales.told_channel(signal, channel, number, measured)
        return [self._tell(incident, key, number, told, measured, first, tick)]

    def take_up(self, finding: Finding, tick: int) -> None:
        """Go on with an anomaly that another watcher opened."""
        tick_s = self._ledger.tick_s
        ratio = (finding.observed + 1e-3) / (finding.expected + 1e-3)
        if finding.signal == "success_rate":
            ratio = (1.001 - finding.observed) / (1.001 - finding.expected)
        incident = Incident(
            finding,
            channel=CHANNEL_OF_SIGNAL[finding.signal],
            first=int(finding.started_at / tick_s),
            opened=int(finding.detected_at / tick_s),
            ratio=ratio,
        )
        incident.renew(channel=incident.channel, ratio=ratio, tick=tick)
        incident.told_tick = tick
        self.incidents.append(incident)

    def doubt(self, finding: Finding) -> None:
        """Ask for more evidence of the like than there was of this."""
        like = finding.signal, finding.segment
        self.doubted[like] = max(self.doubted.get(like, 0.0), finding.score) + DOUBT_NATS
        while len(self.doubted) > DOUBTED_MAX:
            self.doubted.pop(next(iter(self.doubted)))

    # --- telling anew -------------------------------------------------------------------------------------------------

    def review(self, tick: int) -> list[Change]:
        """Look again at every open anomaly that is due: is it wider, narrower, another, or worse?"""
        changes = []
        for incident in self.incidents:
            age_s = (tick - incident.opened) * self._ledger.tick_s
            due = incident.reviews < len(REVIEWS_S) and age_s >= REVIEWS_S[incident.reviews]
            if due:
                incident.reviews = sum(age_s >= each for each in REVIEWS_S)
                changes += self._reviewed(incident, tick)
            elif (tick - incident.told_tick) * self._ledger.tick_s >= UPDATE_S:
                changes += self._worsened(incident, tick)
        return changes

    def _reviewed(self, incident: Incident, tick: int) -> list[Change]:
        ledger, table, channel = self._ledger, self._ledger.table, incident.channel
        own = table.segment(incident.segment)
        if own is None or incident.well or channel >= UNUSUAL:
            return []
        first = max(incident.first, ledger.blocks.oldest() or 0)
        sums = self._since(incident, channel, first)
        excess = self._scales.excess(channel, sums, first, tick, upwards=incident.ratio >= 1)
        if excess.trials[own] <= 0:  # all of it is part of another one
            return []
        among = table.overlapping(table.covered(incident.segment)) & self._scales.allowed(channel)
        best, net = best_segment(table, excess.nats, among)
        if not incident.recovering:
            incident.temper(excess.ratio(own))
        measured = self._scales.measured(channel, sums, excess)
        signal = incident.finding.signal
        if channel < COUNTED:
            found = signal_of(channel, best, measured)
            mixed = found == "failure_mix" and excess.seen[best] - excess.expected[best] >= MIX_HITS_MIN
            signal = found if RANK[found] > RANK[signal] or mixed else signal
        better = best != own and net[best] - net[own] >= REVIEW_GAIN + 0.03 * net[own]
        if better and contains(table.segments[best], incident.segment) and channel < COUNTED:
            better = rest_suffers(excess, best, [own], ledger.usual)
        key = table.segments[best] if better else incident.segment
        taken = any(
            one is not incident and one.segment == key and one.finding.signal == signal for one in self.incidents
        )
        if (key == incident.segment and signal == incident.finding.signal) or taken:
            return []
        incident.finding = msgspec.structs.replace(incident.finding, segment=key, signal=signal)
        number = best if better else own
        told = self._scales.told_channel(signal, channel, number, measured)
        return [self._tell(incident, key, number, told, measured, first, tick)]

    def _worsened(self, incident: Incident, tick: int) -> list[Change]:
        """What it costs now, if it is clearly worse or costs less than half of what was told."""
        ledger, table = self._ledger, self._ledger.table
        number = table.segment(incident.segment)
        if number is None or incident.channel >= UNUSUAL or incident.recovering:
            return []
        first = tick - int(UPDATE_S / ledger.tick_s) + 1
        sums = ledger.since(first)
        excess = self._scales.excess(incident.channel, sums, first, tick)
        measured = self._scales.measured(incident.channel, sums, excess)
        finding = incident.finding
        measurement = self._scales.measure(
            incident.segment, number, finding.signal, incident.channel, measured, tick - first + 1
        )
        if measurement.attempts >= self._attempts_min and is_worse(finding, measurement):
            incident.ratio = max(measured[incident.channel].ratio(number), incident.ratio)
        elif finding.loss_minor_per_minute is None or (measurement.loss_minor_per_minute or 0.0) >= 0.5 * (
            finding.loss_minor_per_minute
        ):
            return []
        incident.told_tick = tick
        incident.finding = remeasured(finding, measurement, (tick + 1) * ledger.tick_s, segment=incident.segment)
        return [Change("updated", incident.finding)]

    def _tell(  # an update carries all of its numbers anew
        self,
        incident: Incident,
        key: SegmentKey,
        number: int,
        channel: int,
        measured: dict[int, Excess],
        first: int,
        tick: int,
    ) -> Change:
        measurement = self._scales.measure(key, number, incident.finding.signal, channel, measured, tick - first + 1)
        incident.finding = remeasured(incident.finding, measurement, (tick + 1) * self._ledger.tick_s, segment=key)
        incident.renew(channel=channel, ratio=measured[channel].ratio(number), tick=tick + 1)
        incident.told_tick = tick
        return Change("updated", incident.finding)

    # --- closing ------------------------------------------------------------------------------------------------------

    def close(self, incident: Incident, tick: int, because: str, *, joined: bool = False) -> Change:
        """Close an anomaly; its time is not learnt from. ``joined``: what it told goes on as a part of another one."""
        ledger = self._ledger
        self.incidents.remove(incident)
        since = max(incident.well_since, incident.first) if incident.well else tick
        finding = incident.finding
        self.spoilt.append(Spoilt(finding.segment, incident.first, since, finding.signal, joined))
        del self.spoilt[:-SPOILT_KEPT]
        now = (tick + 1) * ledger.tick_s
        closed_at = min(max(since * ledger.tick_s, finding.started_at), now)
        return Change(
            "closed", msgspec.structs.replace(finding, closed_at=closed_at, updated_at=now, closed_because=because)
        )

    def not_learnt(self) -> list[Spoilt]:
        """Segments and times that nothing is learnt from."""
        now = [Spoilt(one.segment, one.first, None, one.finding.signal) for one in self.incidents]
        return self.spoilt + now + [Spoilt(segment, 0, None) for segment in self.planned]
