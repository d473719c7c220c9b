from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from actors.failure_classifier import FailureClassifier
from actors.ingestor import Refusal
from messaging.contracts import (
    AttemptsRecorded,
    FailureClassified,
    FailureCodeCorrected,
    FailuresClassified,
    RecordedAttempt,
)
from ml.failures.classifier import FailureModel
from storage.failure_codes import CodeChange, CodeRow
from storage.failures import FailuresKnown, FailureState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def actor() -> FailureClassifier:
    """The worker with the shipped model; it keeps nothing between calls."""
    return FailureClassifier(FailureModel.shipped())


def attempt(number: int, status: str, **fields: object) -> RecordedAttempt:
    """An attempt at alpha; a failed one says "51" unless told otherwise."""
    plain = {
        "attempt_id": f"att_{number}",
        "order_id": f"ord_{number}",
        "gateway": "alpha",
        "method": "card",
        "issuer": "harbour_bank",
        "status": status,
        "amount_minor": 125_000,
        "currency": "INR",
        "attempted_at": NOW - timedelta(minutes=1),
        "occurred_at": NOW - timedelta(seconds=5),
        "failure_code": "51" if status == "failed" else None,
    }
    return RecordedAttempt(**(plain | fields))


def batch(number: int, *attempts: RecordedAttempt) -> AttemptsRecorded:
    """A recorded batch."""
    return AttemptsRecorded(batch_id=f"bat_{number}", recorded_at=NOW, attempts=list(attempts))


def verdict_on(failed: RecordedAttempt, actor: FailureClassifier) -> FailureClassified:
    """What the worker says of one failed attempt."""
    (message,) = actor.handle([batch(0, failed)], NOW, FailuresKnown())
    return message.failures[0]


def kept(verdict: FailureClassified) -> FailureState:
    """What the store keeps of a failed attempt of the helper above."""
    return FailureState(failure=verdict, occurred_at=NOW - timedelta(seconds=5), status="failed")


def test_a_failed_attempt_is_classified_with_everything_a_reader_needs(actor: FailureClassifier):
    """The answer repeats what the attempt was, says why it failed, and names the batch that it answers."""
    failed = attempt(1, "failed", failure_code="91", failure_message="ISSUER OR SWITCH NOT OPERATING")

    (message,) = actor.handle([batch(7, failed)], NOW, FailuresKnown())

    assert (message.batch_id, message.classified_at, message.withdrawn) == ("bat_7.failures", NOW, [])
    assert message.failures == [
        FailureClassified(
            attempt_id="att_1",
            order_id="ord_1",
            gateway="alpha",
            method="card",
            issuer="harbour_bank",
            attempted_at=NOW - timedelta(minutes=1),
            amount_minor=125_000,
            currency="INR",
            category="issuer_unavailable",
            hardness="soft",
            fault="issuer",
            retry="other_gateway_then_later",
            confidence=1.0,
            evidence="code_table",
            shopper_message=message.failures[0].shopper_message,
            guesses=[],
            failure_code="91",
            failure_message="ISSUER OR SWITCH NOT OPERATING",
            delay_s=0,
        )
    ]
    assert "bank" in message.failures[0].shopper_message


def test_batches_without_failures_get_no_answer(actor: FailureClassifier):
    """Success, waiting, giving up and reversal are no failures, and say nothing."""
    quiet = [attempt(at, status) for at, status in enumerate(("succeeded", "pending", "abandoned", "reversed"))]

    assert list(actor.handle([batch(1, *quiet), batch(2)], NOW, FailuresKnown())) == []


def test_a_late_success_withdraws_what_was_stored(actor: FailureClassifier):
    """An attempt that was failed and is no more gives back the very verdict that stands in the store."""
    before = verdict_on(attempt(1, "failed"), actor)
    late = attempt(1, "succeeded", status_previous="failed")

    (message,) = actor.handle([batch(2, late)], NOW, FailuresKnown(states={"att_1": kept(before)}))

    assert (message.failures, message.withdrawn) == ([], [before])


def test_what_was_never_classified_is_not_withdrawn(actor: FailureClassifier):
    """Without a standing verdict there is nothing to take back."""
    assert list(actor.handle([batch(2, attempt(1, "succeeded", status_previous="failed"))], NOW, FailuresKnown())) == []


def test_a_success_withdraws_a_failure_of_an_earlier_message_of_the_same_call(actor: FailureClassifier):
    """Messages are taken in order: the second takes back what the first one said."""
    failed = attempt(1, "failed")
    late = attempt(1, "succeeded", status_previous="failed")

    first, second = actor.handle([batch(1, failed), batch(2, late)], NOW, FailuresKnown())

    assert (first.withdrawn, second.failures) == ([], [])
    assert second.withdrawn == first.failures == [verdict_on(failed, actor)]


def test_a_failure_is_withdrawn_only_once(actor: FailureClassifier):
    """Success and then reversal of one attempt take its failure back once."""
    before = verdict_on(attempt(1, "failed"), actor)
    messages = [
        batch(1, attempt(1, "succeeded", status_previous="failed")),
        batch(2, attempt(1, "reversed", status_previous="failed")),
    ]

    answers = list(actor.handle(messages, NOW, FailuresKnown(states={"att_1": kept(before)})))

    assert [answer.batch_id for answer in answers] == ["bat_1.failures"]


def test_within_one_message_the_order_of_the_attempts_counts(actor: FailureClassifier):
    """Failed and then succeeded is withdrawn; succeeded and then failed again stands with its newer verdict."""
    old = verdict_on(attempt(1, "failed"), actor)
    succeeded = attempt(1, "succeeded", status_previous="failed")
    again = attempt(1, "failed", failure_code="54", status_previous="succeeded", occurred_at=NOW)

    (taken_back,) = actor.handle([batch(1, attempt(1, "failed"), succeeded)], NOW, FailuresKnown())
    (stands,) = actor.handle([batch(2, succeeded, again)], NOW, FailuresKnown(states={"att_1": kept(old)}))

    assert taken_back.withdrawn == taken_back.failures == [old]
    assert ([failure.category for failure in stands.failures], stands.withdrawn) == (["expired_card"], [])


def test_a_correction_replaces_and_its_success_withdraws_the_correction(actor: FailureClassifier):
    """A failure reported again with another code is classified again, and that is what a success takes back."""
    old = verdict_on(attempt(1, "failed"), actor)
    corrected = attempt(1, "failed", failure_code="54", status_previous="failed", occurred_at=NOW)
    late = attempt(1, "succeeded", status_previous="failed", occurred_at=NOW)

    first, second = actor.handle([batch(1, corrected), batch(2, late)], NOW, FailuresKnown(states={"att_1": kept(old)}))

    assert [failure.category for failure in first.failures] == ["expired_card"]
    assert second.withdrawn == first.failures


def test_the_store_s_view_is_not_changed(actor: FailureClassifier):
    """The worker keeps its hands off what it was handed, so the runner may hand it again after a crash."""
    before = verdict_on(attempt(1, "failed"), actor)
    known = {"att_1": kept(before)}
    messages = [batch(1, attempt(1, "succeeded", status_previous="failed"), attempt(2, "failed"))]

    answers = list(actor.handle(messages, NOW, FailuresKnown(states=known)))

    assert known == {"att_1": kept(before)}
    assert list(actor.handle(messages, NOW, FailuresKnown(states=known))) == answers


def test_answers_pass_the_wire(actor: FailureClassifier):
    """What the worker says is valid by the contract, also where nothing is known about the failure."""
    failures = [attempt(1, "failed"), attempt(2, "failed", gateway="goldcard", failure_code=None)]

    (message,) = actor.handle([batch(1, *failures)], NOW, FailuresKnown())

    assert msgspec.json.decode(msgspec.json.encode(message), type=FailuresClassified) == message
    assert [failure.evidence for failure in message.failures] == ["code_table", "none"]


def test_a_correction_that_comes_first_makes_the_failure_void(actor: FailureClassifier):
    """Batches may come in another order than they were recorded in; the later report wins, in one call and over two."""
    failed = attempt(1, "failed")
    late = attempt(1, "succeeded", status_previous="failed", occurred_at=NOW)
    corrected = FailureState(failure=None, occurred_at=NOW, status="succeeded")

    assert list(actor.handle([batch(2, late), batch(1, failed)], NOW, FailuresKnown())) == []
    assert list(actor.handle([batch(1, failed)], NOW, FailuresKnown(states={"att_1": corrected}))) == []


def correction(number: int, category: str | None, **fields: object) -> FailureCodeCorrected:
    """An operator's word on code "Q7" of goldcard."""
    plain = {
        "event_id": f"cor_{number}",
        "corrected_at": NOW,
        "corrected_by": "meera",
        "gateway": "goldcard",
        "category": category,
        "failure_code": "Q7",
    }
    return FailureCodeCorrected(**(plain | fields))


def test_a_correction_becomes_a_row_and_classifies_earlier_failures_anew(actor: FailureClassifier):
    """The table gets a first version of the row; the failure that was unknown has the corrected category."""
    before = verdict_on(attempt(1, "failed", gateway="goldcard", failure_code="Q7"), actor)
    known = FailuresKnown(states={"att_1": kept(before)})

    change, told = actor.handle([correction(1, "insufficient_funds")], NOW, known)

    assert before.category == "unknown"
    assert (change.row.category, change.row.version, change.row.changed_by) == ("insufficient_funds", 1, "meera")
    assert (change.category_before, change.reclassified) == (None, 1)
    assert [(f.category, f.evidence, f.retry) for f in told.failures] == [
        ("insufficient_funds", "code_table", "later_same_or_other")
    ]


def test_a_row_of_the_table_wins_over_the_shipped_table(actor: FailureClassifier):
    """What operators say beats what was shipped, whatever the case of the code."""
    row = CodeRow(
        code_key="alpha|51", gateway="alpha", failure_code="51", failure_message=None, category="do_not_honor",
        version=3, changed_at=NOW, changed_by="meera", reason="",
    )  # fmt: skip
    (message,) = actor.handle([batch(1, attempt(1, "failed"))], NOW, FailuresKnown(rows={"alpha|51": row}))

    assert [(f.category, f.evidence) for f in message.failures] == [("do_not_honor", "code_table")]


def test_a_correction_counts_for_what_follows_it_in_the_same_call(actor: FailureClassifier):
    """Corrections and batches are taken in the order in which they came; taking a row out ends its effect."""
    failed = attempt(1, "failed", gateway="goldcard", failure_code="q7")
    again = attempt(2, "failed", gateway="goldcard", failure_code="Q7")

    said = list(
        actor.handle(
            [correction(1, "expired_card"), batch(1, failed), correction(2, None), batch(2, again)],
            NOW,
            FailuresKnown(),
        )
    )

    changes = [fact for fact in said if isinstance(fact, CodeChange)]
    assert [(change.row.version, change.category_before) for change in changes] == [(1, None), (2, "expired_card")]
    categories = [[f.category for f in fact.failures] for fact in said if isinstance(fact, FailuresClassified)]
    assert categories == [["expired_card"], ["unknown"], ["unknown"]]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"category": "out_of_luck"}, "is no failure category"),
        ({"category": "unknown"}, "leave it out"),
        ({"failure_code": " "}, "a code or a message"),
    ],
)
def test_a_correction_that_makes_no_sense_is_refused(actor: FailureClassifier, fields: dict[str, str], reason: str):
    """It becomes a dead letter that says what to mend, and the others of the call are taken."""
    bad = correction(1, **({"category": "expired_card"} | fields))

    refused, change = actor.handle([bad, correction(2, "expired_card")], NOW, FailuresKnown())

    assert isinstance(refused, Refusal)
    assert refused.index == 0
    assert reason in refused.reason
    assert change.row.version == 1


def test_a_scheme_s_advice_decides_and_narrows(actor: FailureClassifier):
    """Mastercard 21 says the permission is gone; 03 forbids a retry that the category would allow; 27 delays it."""
    failures = [
        attempt(1, "failed", gateway="goldcard", failure_code="zz", network="mastercard", advice_code="21"),
        attempt(2, "failed", failure_code="91", network="mastercard", advice_code="03"),
        attempt(3, "failed", failure_code="51", network="Mastercard", advice_code="27"),
        attempt(4, "failed", failure_code="51", network="rupay", advice_code="03"),
    ]

    (message,) = actor.handle([batch(1, *failures)], NOW, FailuresKnown())

    assert [(f.category, f.evidence, f.retry, f.delay_s) for f in message.failures] == [
        ("authorization_revoked", "advice_code", "never", None),
        ("issuer_unavailable", "code_table", "never", None),
        ("insufficient_funds", "code_table", "later_same_or_other", 4 * 86_400),
        ("insufficient_funds", "code_table", "later_same_or_other", 86_400),
    ]
    assert message.failures[1].advice == "mastercard advice 03: do not try again"
