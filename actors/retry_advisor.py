"""Retry advisor: answers what to do with a payment that failed. Asked over RPC, like the router, and as fleeting."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from messaging.contracts import RetryAdvised, RetryRefused, RetryRequested
from ml.failures.classifier import Evidence, FailureModel, FailureText, Verdict
from ml.failures.retry import PastTry, RetryQuestion, advise_retry
from storage.read_models.retry_facts import RetryFacts, past_try, question_of


class RetryAdvisor:
    """Decides from what the store knows of an order, and from the failure that the request tells of.

    Args:
        model: makes the model that reads a failure which is not stored yet; made when it is first needed.
    """

    def __init__(self, model: Callable[[], FailureModel]) -> None:
        self._make = model
        self._model: FailureModel | None = None

    def advise(
        self, request: RetryRequested, facts: RetryFacts, rows: dict[str, str], now: datetime
    ) -> RetryAdvised | RetryRefused:
        """Answer one request.

        Args:
            request: what is asked.
            facts: what the store knows of the order.
            rows: what operators say the told code means, by ``code_key``.
            now: the present.
        """
        tries = [past_try(failure) for failure in facts.failures]
        basis: tuple[str, float, Evidence] | None = None
        if facts.failures:
            last = facts.failures[-1]
            basis = last.category, last.confidence, last.evidence
        told = request.failed
        if told is not None and not any(
            failure.gateway == told.gateway
            and (failure.failure_code, failure.failure_message) == (told.failure_code, told.failure_message)
            for failure in facts.failures[-1:]
        ):
            text = FailureText(
                told.gateway, told.failure_code, told.failure_message, facts.kind.network, told.advice_code
            )
            verdict = self._judge(text, rows)
            tries.append(_try_of(told.gateway, verdict, now))
            basis = verdict.category, verdict.confidence, verdict.evidence
        if basis is None:
            reason = "no failed attempt of this order is known; report it first, or tell of it in `failed`"
            return RetryRefused(reason=reason, request_id=request.request_id)
        question = question_of(facts, tries, now, candidates=request.candidates)
        return _advised(request, question, basis)

    def _judge(self, text: FailureText, rows: dict[str, str]) -> Verdict:
        if self._model is None:
            self._model = self._make()
        (verdict,) = self._model.classify_many([text], rows)
        return verdict


def _try_of(gateway: str, verdict: Verdict, now: datetime) -> PastTry:
    return PastTry(
        gateway=gateway,
        at=now,
        category=verdict.category,
        retry=verdict.retry,
        delay_s=verdict.delay_s,
        advice=verdict.advice,
    )


def _advised(request: RetryRequested, question: RetryQuestion, basis: tuple[str, float, Evidence]) -> RetryAdvised:
    answer = advise_retry(question)
    category, confidence, evidence = basis
    return RetryAdvised(
        request_id=request.request_id,
        order_id=request.order_id,
        advised_at=question.now,
        action=answer.action,
        rule=answer.rule,
        reason=answer.reason[:500],
        shopper_message=answer.shopper_message,
        category=category,
        confidence=confidence,
        evidence=evidence,
        gateway=answer.gateway,
        not_before=answer.not_before,
        with_authentication=answer.with_authentication,
        retries_left=answer.retries_left,
    )
