"""Ingestor: the door of the house. Refuses what cannot be, drops what it has, corrects what turned out otherwise."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from messaging.contracts import STATUS_FINALITY, AttemptReported, AttemptsRecorded, RecordedAttempt
from storage.attempts import AttemptChange, AttemptState, ReportEntry

HISTORY_MAX: Final = 20
"""Reports kept per attempt; the first one and the latest ones."""

AHEAD_MAX: Final = timedelta(minutes=10)
"""A checkout whose clock is ahead by more than this would open minutes that nobody looks at."""

SAME_FOREVER: Final = (
    "order_id", "gateway", "method", "issuer", "amount_minor", "currency", "attempted_at", "attempt_number",
)  # fmt: skip
"""What the first report of an attempt says for good: a correction may change how it ended, not what it was."""

FILLED_LATER: Final = ("network", "country", "bin", "customer_id", "three_ds", "decision_id")
"""What a later report may add where an earlier one did not know it."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A report that cannot be taken; it becomes a dead letter with this reason."""

    index: int
    reason: str


class Ingestor:
    """Folds reports into attempts. It keeps no state of its own, so a batch may be handled again after a conflict.

    Args:
        gateways: the names of the gateways that exist.
        source: where they are listed, for the text of a refusal.
    """

    def __init__(self, gateways: Collection[str], *, source: str = "config/gateways.yaml") -> None:
        self._gateways = frozenset(gateways)
        self._source = source

    def handle(
        self, messages: Sequence[AttemptReported], now: datetime, known: Mapping[str, AttemptState], *, batch_id: str
    ) -> Iterator[Refusal | AttemptChange | AttemptsRecorded]:
        """Fold one batch of reports into the attempts as they stand.

        Args:
            messages: reports in the order they came.
            now: when they came.
            known: the attempts of these reports that are stored already, by id.
            batch_id: names the batch; consumers down the line count it once.
        Yields: a Refusal per report that cannot be; an AttemptChange per attempt that changed; and last, where any
            attempt is new or ended otherwise than before, one AttemptsRecorded that tells of them.
        """
        folded: dict[str, AttemptState] = {}
        ahead = now + AHEAD_MAX
        for index, report in enumerate(messages):
            before = known.get(report.attempt_id)
            standing = folded.get(report.attempt_id, before)
            said = _recorded(report)
            problem = self._problem(report, said, standing, ahead)
            if problem is not None:
                yield Refusal(index=index, reason=problem)
                continue
            after = _fold(standing, said, report.event_id, now, revision=before.revision + 1 if before else 1)
            if after is not None:
                folded[report.attempt_id] = after
        recorded: list[RecordedAttempt] = []
        for attempt_id, after in folded.items():
            before = known.get(attempt_id)
            yield AttemptChange(before=before, after=after)
            if before is None:
                recorded.append(after.attempt)
            elif after.attempt != before.attempt:
                recorded.append(msgspec.structs.replace(after.attempt, status_previous=before.attempt.status))
        if recorded:
            yield AttemptsRecorded(batch_id=batch_id, recorded_at=now, attempts=recorded)

    def _problem(
        self, report: AttemptReported, said: RecordedAttempt, standing: AttemptState | None, ahead: datetime
    ) -> str | None:
        """Say why a report cannot be taken, and how to mend it; None: it can."""
        if report.gateway not in self._gateways:
            return (
                f"$.gateway: {_shown(report.gateway)} is no gateway in {self._source} "
                f"(known: {', '.join(sorted(self._gateways))}); add it there or mend the report"
            )
        if report.attempted_at > ahead or report.occurred_at > ahead:
            field = "attempted_at" if report.attempted_at > ahead else "occurred_at"
            return f"$.{field}: lies more than {AHEAD_MAX} ahead of this system's clock; mend the checkout's clock"
        if standing is not None:
            for field in SAME_FOREVER:
                if getattr(said, field) != getattr(standing.attempt, field):
                    return (
                        f"$.{field}: differs from the first report of {report.attempt_id}; a correction changes how an "
                        "attempt ended, not what it was: send a new attempt_id"
                    )
        return None


def _fold(
    standing: AttemptState | None, said: RecordedAttempt, event_id: str, now: datetime, *, revision: int
) -> AttemptState | None:
    """Add what one report said to an attempt; None when it says nothing new."""
    entry = ReportEntry(event_id=event_id, status=said.status, occurred_at=said.occurred_at, received_at=now)
    if standing is None:
        return AttemptState(attempt=said, history=(entry,), revision=revision)
    if any(earlier.event_id == event_id for earlier in standing.history):
        return None
    attempt = standing.attempt
    filled = {
        field: getattr(said, field)
        for field in FILLED_LATER
        if getattr(attempt, field) is None and getattr(said, field) is not None
    }
    if _rank(said) > _rank(attempt):
        for field in ("status", "occurred_at", "failure_code", "failure_message", "advice_code"):
            filled[field] = getattr(said, field)
        if said.latency_ms is not None:
            filled["latency_ms"] = said.latency_ms
    history = (*standing.history, entry)
    if len(history) > HISTORY_MAX:
        history = (history[0], *history[-(HISTORY_MAX - 1) :])
    return AttemptState(
        attempt=msgspec.structs.replace(attempt, **filled) if filled else attempt,
        history=history,
        revision=revision,
    )


def _rank(attempt: RecordedAttempt) -> tuple[datetime, int]:
    """The report of the later moment wins; of the same moment, the more final one."""
    return attempt.occurred_at, STATUS_FINALITY[attempt.status]


def _recorded(report: AttemptReported) -> RecordedAttempt:
    return RecordedAttempt(
        attempt_id=report.attempt_id,
        order_id=report.order_id,
        gateway=report.gateway,
        method=report.method,
        status=report.status,
        amount_minor=report.amount_minor,
        currency=report.currency,
        attempted_at=_milliseconds(report.attempted_at),
        occurred_at=_milliseconds(report.occurred_at),
        issuer=report.issuer,
        network=report.network,
        country=report.country,
        bin=report.bin,
        customer_id=report.customer_id,
        attempt_number=report.attempt_number,
        three_ds=report.three_ds,
        latency_ms=report.latency_ms,
        failure_code=report.failure_code,
        failure_message=report.failure_message,
        advice_code=report.advice_code,
        decision_id=report.decision_id,
    )


def _milliseconds(moment: datetime) -> datetime:
    """Cut a moment to what MongoDB keeps, so that what is read again compares equal."""
    if moment.tzinfo is UTC and not moment.microsecond % 1000:
        return moment
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


def _shown(name: str) -> str:
    """A name from outside, safe to show: short, printable, and without long numbers."""
    return repr("".join(char if char.isprintable() and not char.isdigit() else "…" for char in name[:40]))
