"""Failure classifier: says why each attempt failed, and takes it back when the attempt turns out not to have failed.

It also hears operators who say what a code means. That goes into their table, and failures with the code that came
before are classified anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from actors.ingestor import Refusal
from messaging.contracts import (
    AttemptsRecorded,
    FailureClassified,
    FailureCodeCorrected,
    FailuresClassified,
    RecordedAttempt,
)
from ml.failures.classifier import FailureModel, FailureText, Verdict
from ml.failures.codes import code_key
from ml.failures.taxonomy import UNKNOWN, category_of
from storage.failure_codes import CodeChange, CodeRow, key_of
from storage.failures import FailuresKnown, FailureState, concerns_failures


class FailureClassifier:
    """Turns each failed attempt into one FailureClassified; lets the others pass.

    Args:
        model: what to ask; it may be replaced by a newer one at any time between batches.
    """

    def __init__(self, model: FailureModel) -> None:
        self.model = model

    def handle(
        self, messages: Sequence[AttemptsRecorded | FailureCodeCorrected], now: datetime, known: FailuresKnown
    ) -> Iterator[FailuresClassified | CodeChange | Refusal]:
        """Answer each message that says something new about failures with one message.

        Args:
            messages: batches of recorded attempts and corrections, in the order in which they came.
            now: the moment that the answers carry.
            known: what the store keeps of these attempts and codes. What is older than that is passed over: a
                correction may come before the report that it corrects.
        Yields: FailuresClassified; a CodeChange per correction; a Refusal per correction that cannot be taken.
        """
        states = known.states
        standing = {attempt_id: state.failure for attempt_id, state in states.items() if state.failure is not None}
        rows = dict(known.rows)
        told = dict(states)
        for index, message in enumerate(messages):
            if isinstance(message, FailureCodeCorrected):
                yield from self._correct(index, message, now, rows, standing)
                continue
            news = [attempt for attempt in message.attempts if _is_news(attempt, told)]
            failures, withdrawn = self._effects(news, standing, _categories(rows))
            if failures or withdrawn:
                yield FailuresClassified(
                    batch_id=f"{message.batch_id}.failures",
                    classified_at=now,
                    failures=failures,
                    withdrawn=withdrawn,
                )

    def _correct(
        self,
        index: int,
        correction: FailureCodeCorrected,
        now: datetime,
        rows: dict[str, CodeRow],
        standing: dict[str, FailureClassified],
    ) -> Iterator[FailuresClassified | CodeChange | Refusal]:
        """Change one row of the table, and what was said of earlier failures with its code."""
        problem = _problem(correction)
        if problem is not None:
            yield Refusal(index=index, reason=problem)
            return
        key = key_of(correction)
        before = rows.get(key)
        rows[key] = row = _changed(before, correction, key)
        concerned = [failure for failure in standing.values() if _key(failure) == key]
        texts = [_text(failure) for failure in concerned]
        verdicts = self.model.classify_many(texts, _categories(rows))
        renewed = [_renewed(failure, verdict) for failure, verdict in zip(concerned, verdicts, strict=True)]
        changed = [after for failure, after in zip(concerned, renewed, strict=True) if after != failure]
        standing.update({failure.attempt_id: failure for failure in changed})
        yield CodeChange(
            event_id=correction.event_id,
            row=row,
            category_before=before.category if before else None,
            reclassified=len(changed),
        )
        if changed:
            yield FailuresClassified(batch_id=f"{correction.event_id}.failures", classified_at=now, failures=changed)

    def _effects(
        self,
        attempts: Sequence[RecordedAttempt],
        standing: dict[str, FailureClassified],
        categories: Mapping[str, str],
    ) -> tuple[list[FailureClassified], list[FailureClassified]]:
        """Go through the attempts in their order; bring ``standing`` up to date, and say what was added and taken back.

        Whoever reads the answer takes failures first and withdrawals after, so an attempt that fails again within the
        batch is not withdrawn: its newer verdict replaces the older one.
        """
        failed = [attempt for attempt in attempts if attempt.status == "failed"]
        verdicts = iter(self.model.classify_many([_text(attempt) for attempt in failed], categories))
        failures: dict[str, FailureClassified] = {}
        withdrawn: dict[str, FailureClassified] = {}
        for attempt in attempts:
            attempt_id = attempt.attempt_id
            if attempt.status == "failed":
                failures[attempt_id] = standing[attempt_id] = _classified(attempt, next(verdicts))
                withdrawn.pop(attempt_id, None)
            elif attempt.status_previous == "failed" and attempt_id in standing:
                withdrawn[attempt_id] = standing.pop(attempt_id)
        return list(failures.values()), list(withdrawn.values())


def _is_news(attempt: RecordedAttempt, told: dict[str, FailureState]) -> bool:
    """Tell whether nothing newer about the failure of this attempt came before, and note it."""
    state = told.get(attempt.attempt_id)
    if not concerns_failures(attempt) or (state is not None and not state.is_older_than(attempt)):
        return False
    told[attempt.attempt_id] = FailureState(failure=None, occurred_at=attempt.occurred_at, status=attempt.status)
    return True


def _text(failed: RecordedAttempt | FailureClassified) -> FailureText:
    return FailureText(failed.gateway, failed.failure_code, failed.failure_message, failed.network, failed.advice_code)


def _key(failure: FailureClassified) -> str:
    return code_key(failure.gateway, failure.failure_code, failure.failure_message)


def _categories(rows: Mapping[str, CodeRow]) -> dict[str, str]:
    return {key: row.category for key, row in rows.items() if row.category is not None}


def _problem(correction: FailureCodeCorrected) -> str | None:
    """Say why a correction cannot be taken; None: it can."""
    if not (correction.failure_code or "").strip() and not (correction.failure_message or "").strip():
        return "$.failure_code: a code or a message must say what is meant"
    if correction.category is None:
        return None
    if correction.category == UNKNOWN:
        return "$.category: leave it out (null) to take a row out of the table again"
    try:
        category_of(correction.category)
    except ValueError as error:
        return f"$.category: {error}"
    return None


def _changed(before: CodeRow | None, correction: FailureCodeCorrected, key: str) -> CodeRow:
    return CodeRow(
        code_key=key,
        gateway=correction.gateway,
        failure_code=correction.failure_code,
        failure_message=correction.failure_message or (before.failure_message if before else None),
        category=correction.category,
        version=before.version + 1 if before else 1,
        changed_at=correction.corrected_at.replace(microsecond=correction.corrected_at.microsecond // 1000 * 1000),
        changed_by=correction.corrected_by,
        reason=correction.reason,
    )


def _classified(attempt: RecordedAttempt, verdict: Verdict) -> FailureClassified:
    """Write down the verdict on one attempt."""
    return FailureClassified(
        attempt_id=attempt.attempt_id,
        order_id=attempt.order_id,
        gateway=attempt.gateway,
        method=attempt.method,
        issuer=attempt.issuer,
        attempted_at=attempt.attempted_at,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        failure_code=attempt.failure_code,
        failure_message=attempt.failure_message,
        network=attempt.network,
        advice_code=attempt.advice_code,
        country=attempt.country,
        attempt_number=attempt.attempt_number,
        **_said(verdict),
    )


def _renewed(failure: FailureClassified, verdict: Verdict) -> FailureClassified:
    """The same failure with another verdict."""
    return msgspec.structs.replace(failure, **_said(verdict))


def _said(verdict: Verdict) -> dict[str, Any]:
    return {
        "category": verdict.category,
        "hardness": verdict.hardness,
        "fault": verdict.fault,
        "retry": verdict.retry,
        "confidence": verdict.confidence,
        "evidence": verdict.evidence,
        "shopper_message": verdict.shopper_message,
        "guesses": list(verdict.guesses),
        "delay_s": verdict.delay_s,
        "advice": verdict.advice,
    }
