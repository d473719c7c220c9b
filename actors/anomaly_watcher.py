"""Anomaly watcher: says what is unwell, since when, how badly, whose fault it looks like, and when it is well again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from actors.anomaly_words import anomaly_of, finding_of, observation_of, reason_of
from actors.recent import Recent
from config.maintenance import MaintenanceWindow
from messaging.contracts import (
    Anomaly,
    AnomalyClosed,
    AnomalyHandled,
    AnomalyOpened,
    AnomalyUpdated,
    AttemptsRecorded,
    FailuresClassified,
    GatewayPause,
    GatewayPaused,
    GatewayResumed,
    Handling,
    Message,
)
from ml.anomalies.attempts import Observation, Reason
from ml.anomalies.detector import AnomalyDetector
from ml.anomalies.findings import Change
from ml.anomalies.forest import Forest
from ml.anomalies.history import HistoryCell
from ml.anomalies.segments import Floats, Integers, SegmentKey

AnomalyTold = AnomalyOpened | AnomalyUpdated | AnomalyClosed
Heard = AttemptsRecorded | FailuresClassified | AnomalyHandled | GatewayPaused | GatewayResumed

TOLD: Final[dict[str, type[AnomalyTold]]] = {
    "opened": AnomalyOpened,
    "updated": AnomalyUpdated,
    "closed": AnomalyClosed,
}
BATCHES_REMEMBERED: Final = 10_000
"""Batch ids kept to refuse repeats: some 80 minutes of batches every half second; a redelivery comes within seconds."""
FAILURES_REMEMBERED: Final = 50_000
"""Failed attempts whose reason may still come; it comes within a second."""
REASON_LATE_S: Final = 10.0
"""A reason that comes later than this is not counted: a crowd of late ones would look like trouble."""
REASONS_SUFFIX: Final = ".failures"
"""The classifier names its answer after the batch of attempts that it answers."""
BEHIND_S: Final = 5.0
PAUSE_S: Final = 2.0
"""Batches recorded so long before they are heard, and one heard so lately, mean: this worker is catching up."""
HANDLINGS_MAX: Final = 1_000
PAUSES_MAX: Final = 1_000


class AnomalyWatcher:
    """Counts what was recorded, and tells at each tick which anomalies were opened, updated or closed.

    Args: as :class:`ml.anomalies.detector.AnomalyDetector`; the keys of the settings section ``anomalies``.
        minute_ended: told of every minute that ended: when, the busy segments (also those that an anomaly touches), and
            their features.
    """

    def __init__(
        self,
        *,
        window_s: float,
        grace_s: float,
        baseline_minutes: float,
        attempts_min: int,
        false_alerts_per_week: float,
        close_after_s: float,
        segments_max: int,
        watched_max: int,
        contamination: float,
        retrain_s: float,
        maintenance: Sequence[MaintenanceWindow] = (),
        seed: int = 0,
        minute_ended: Callable[[float, Sequence[SegmentKey], Floats], None] | None = None,
    ) -> None:
        def named(at: float, segments: Integers, rows: Floats) -> None:
            assert minute_ended is not None
            names = self._detector.ledger.table.segments
            minute_ended(at, [names[number] for number in segments.tolist()], rows)

        self._detector = AnomalyDetector(
            window_s=window_s,
            grace_s=grace_s,
            baseline_minutes=baseline_minutes,
            attempts_min=attempts_min,
            false_alerts_per_week=false_alerts_per_week,
            close_after_s=close_after_s,
            segments_max=segments_max,
            watched_max=watched_max,
            contamination=contamination,
            retrain_s=retrain_s,
            seed=seed,
            minute_ended=None if minute_ended is None else named,
        )
        self._maintenance = tuple(maintenance)
        self._batches: OrderedDict[str, float] = OrderedDict()
        self._failed: Recent[str, Observation] = Recent(FAILURES_REMEMBERED)
        self._handling: Recent[str, Handling] = Recent(HANDLINGS_MAX)
        self._pauses: Recent[str, GatewayPause] = Recent(PAUSES_MAX)
        self._recorded_at = self._heard_at = 0.0

    @property
    def open_anomalies(self) -> list[Anomaly]:
        """The anomalies that are open, oldest first."""
        return [self._handled(anomaly_of(finding)) for finding in self._detector.open_findings]

    def handle(
        self, messages: Sequence[Heard], now: datetime, known: Mapping[str, Anomaly] | None = None
    ) -> Iterator[Message]:
        """Count attempts and the reasons of failures, each batch once, and do what operators say.

        Args:
            messages: what was heard.
            now: the time.
            known: anomalies that operators speak of, as stored.
        """
        told: list[Message] = []
        for message in messages:
            match message:
                case AttemptsRecorded():
                    self._count(message, now)
                case FailuresClassified():
                    self._learn_reasons(message)
                case AnomalyHandled():
                    told += self._obey(message, (known or {}).get(message.anomaly_id))
                case GatewayPaused():
                    self._pauses.put(message.pause.pause_id, message.pause)
                case GatewayResumed():
                    self._pauses.pop(message.pause_id)
        return iter(told)

    def tick(self, now: datetime) -> Iterator[AnomalyTold]:
        """Judge what ended, and tell what changed. To be called about once a second, also without traffic."""
        at = now.timestamp()
        paused: list[SegmentKey] = [
            (pause.gateway, None, None, None, None)
            for pause in self._pauses.values()
            if pause.starts_at <= now and (pause.ends_at is None or now < pause.ends_at)
        ]
        planned = [window.segment for window in self._maintenance if window.starts_at <= now < window.ends_at]
        self._detector.plan(paused + planned)
        catching_up = at - self._heard_at < PAUSE_S and self._heard_at - self._recorded_at > BEHIND_S
        return iter([self._told(change) for change in self._detector.tick(self._recorded_at if catching_up else at)])

    def warm_start(
        self,
        cells: Iterable[HistoryCell],
        anomalies: Iterable[Anomaly],
        now: datetime,
        *,
        pauses: Iterable[GatewayPause] = (),
    ) -> None:
        """Learn what was normal before a restart, and take up the anomalies that were open. Call once, before
        ``handle``.

        Args:
            cells: stored sums per gateway, method and issuer.
            anomalies: open ones, and those closed within the same history (their time is not learnt from).
            now: the time.
            pauses: of gateways, that hold now or later.
        """
        known = list(anomalies)
        for anomaly in known:
            self._handling.put(anomaly.anomaly_id, anomaly.handling)
        for pause in pauses:
            self._pauses.put(pause.pause_id, pause)
        self._detector.warm_start(cells, [finding_of(anomaly) for anomaly in known], now.timestamp())

    def take_forest(self, forest: Forest | None) -> None:
        """Use a forest that was fitted to stored history from now on; None: fit one to what is heard."""
        self._detector.take_forest(forest)

    # --- counting -----------------------------------------------------------------------------------------------------

    def _count(self, batch: AttemptsRecorded, now: datetime) -> None:
        recorded_at = batch.recorded_at.timestamp()
        self._recorded_at, self._heard_at = max(self._recorded_at, recorded_at), now.timestamp()
        if batch.batch_id in self._batches:
            self._batches.move_to_end(batch.batch_id)
            return
        self._batches[batch.batch_id] = recorded_at
        if len(self._batches) > BATCHES_REMEMBERED:
            self._batches.popitem(last=False)
        observations = [observation_of(attempt, recorded_at) for attempt in batch.attempts]
        for attempt, observation in zip(batch.attempts, observations, strict=True):
            if attempt.status == "failed":
                self._failed.put(attempt.attempt_id, observation)
        self._detector.observe(observations)

    def _learn_reasons(self, message: FailuresClassified) -> None:
        """Count whose fault failures were, each while it is news."""
        heard_at = self._batches.get(message.batch_id.removesuffix(REASONS_SUFFIX))
        classified_at = message.classified_at.timestamp()
        if heard_at is None or classified_at - heard_at > REASON_LATE_S:
            return
        reasons: list[Reason] = []
        for failure in message.failures:
            attempt = self._failed.pop(failure.attempt_id)
            if attempt is not None:
                reasons.append(reason_of(failure, attempt, classified_at))
        self._detector.observe_reasons(reasons)

    # --- operators ----------------------------------------------------------------------------------------------------

    def _obey(self, said: AnomalyHandled, stored: Anomaly | None) -> list[AnomalyTold]:
        """Do what an operator says of an anomaly, open or closed; of an unknown one, nothing."""
        opened = {anomaly.anomaly_id: anomaly for anomaly in self.open_anomalies}
        anomaly = opened.get(said.anomaly_id, stored)
        if anomaly is None:
            return []
        handling = msgspec.structs.replace(anomaly.handling, note=said.note or anomaly.handling.note)
        match said.action:
            case "acknowledge":
                handling = msgspec.structs.replace(
                    handling, acknowledged_by=said.who, acknowledged_at=said.handled_at, snoozed_until=None
                )
            case "snooze":
                handling = msgspec.structs.replace(handling, snoozed_until=said.until)
            case "assign":
                handling = msgspec.structs.replace(handling, assigned_to=said.assignee or said.who)
            case "mark_false":
                handling = msgspec.structs.replace(handling, false_by=said.who, false_since=said.handled_at)
        if handling == anomaly.handling:
            return []
        self._handling.put(said.anomaly_id, handling)
        anomaly = msgspec.structs.replace(anomaly, handling=handling)
        if said.action == "mark_false":
            change = self._detector.dismiss(finding_of(anomaly))
            if change is not None:
                return [self._told(change)]
        if anomaly.closed_at is not None:
            return [AnomalyClosed(anomaly=anomaly)]
        updated_at = max(anomaly.updated_at, said.handled_at)
        return [AnomalyUpdated(anomaly=msgspec.structs.replace(anomaly, updated_at=updated_at))]

    def _told(self, change: Change) -> AnomalyTold:
        return TOLD[change.kind](anomaly=self._handled(anomaly_of(change.finding)))

    def _handled(self, anomaly: Anomaly) -> Anomaly:
        handling = self._handling.get(anomaly.anomaly_id)
        return anomaly if handling is None else msgspec.structs.replace(anomaly, handling=handling)
