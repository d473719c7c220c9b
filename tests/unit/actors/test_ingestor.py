"""The ingestor folds reports into attempts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ingestor import HISTORY_MAX, Ingestor, Refusal
from messaging.contracts import STATUS_FINALITY, AttemptReported, AttemptsRecorded
from storage.attempts import AttemptChange, AttemptState
from tests.factories import NOON, report
from tests.recount import attempt_adds

NOW = NOON + timedelta(minutes=1)


class Store:
    """What the store would hold after each batch."""

    def __init__(self) -> None:
        self.attempts: dict[str, AttemptState] = {}
        self.sums: dict[Any, int] = {}
        self.ingestor = Ingestor(["alpha", "bravo"])

    def take(self, *reports: AttemptReported) -> list[Any]:
        """Handle one batch and keep what it says."""
        facts = list(self.ingestor.handle(reports, NOW, dict(self.attempts), batch_id="bat_1"))
        for fact in facts:
            if isinstance(fact, AttemptChange):
                for sign, state in ((-1, fact.before), (1, fact.after)):
                    for key, amount in attempt_adds(state.attempt).items() if state else ():
                        self.sums[key] = self.sums.get(key, 0) + sign * amount
                self.attempts[fact.after.attempt.attempt_id] = fact.after
        return facts


def recorded_in(facts: Sequence[Any]) -> list[tuple[str, str, str | None]]:
    """(attempt, status, status it replaces) of everything announced."""
    return [
        (attempt.attempt_id, attempt.status, attempt.status_previous)
        for fact in facts
        if isinstance(fact, AttemptsRecorded)
        for attempt in fact.attempts
    ]


def test_a_new_attempt_is_recorded() -> None:
    """The first report of an attempt makes it, with no status to take back."""
    assert recorded_in(Store().take(report())) == [("att_1", "succeeded", None)]


def test_a_repeated_event_says_nothing() -> None:
    """Sending twice is sending once, within a batch and across batches."""
    store = Store()
    assert recorded_in(store.take(report(), report())) == [("att_1", "succeeded", None)]
    assert store.take(report()) == []


def test_a_later_report_corrects_and_names_what_it_replaces() -> None:
    """A late success takes back the failure."""
    store = Store()
    store.take(report(status="failed", failure_code="51"))
    facts = store.take(report(event_id="evt_2", status="succeeded", occurred_at=NOON + timedelta(seconds=9)))
    assert recorded_in(facts) == [("att_1", "succeeded", "failed")]
    assert store.attempts["att_1"].attempt.failure_code is None


def test_an_earlier_report_that_comes_late_changes_only_the_history() -> None:
    """Reordered reports end as if they had come in order."""
    store = Store()
    store.take(report())
    facts = store.take(report(event_id="evt_0", status="pending", occurred_at=NOON))
    assert recorded_in(facts) == []
    assert [entry.status for entry in store.attempts["att_1"].history] == ["succeeded", "pending"]


def test_a_correction_within_one_batch_is_one_change() -> None:
    """Pending and succeeded in the same batch is a new, succeeded attempt."""
    facts = Store().take(report(status="pending", occurred_at=NOON), report(event_id="evt_2"))
    assert recorded_in(facts) == [("att_1", "succeeded", None)]
    assert sum(isinstance(fact, AttemptChange) for fact in facts) == 1


def test_an_unknown_gateway_is_refused_alone() -> None:
    """A spelling mistake is refused with the way to mend it; its neighbours are recorded."""
    facts = Store().take(report(1), report(2, gateway="alhpa"), report(3))
    refusals = [fact for fact in facts if isinstance(fact, Refusal)]
    assert [refusal.index for refusal in refusals] == [1]
    assert refusals[0].reason == (
        "$.gateway: 'alhpa' is no gateway in config/gateways.yaml (known: alpha, bravo); "
        "add it there or mend the report"
    )
    assert [name for name, _, _ in recorded_in(facts)] == ["att_1", "att_3"]


def test_a_refusal_never_repeats_digits() -> None:
    """What stands in the wrong field could be anything; long numbers are not repeated."""
    refusal = Store().take(report(gateway="4111111111111111"))[0]
    assert "4111" not in refusal.reason


def test_a_correction_cannot_move_an_attempt() -> None:
    """Another amount under the same attempt id is a mistake of the checkout, not a correction."""
    store = Store()
    store.take(report())
    facts = store.take(report(event_id="evt_2", amount_minor=999_999))
    assert facts[0].reason.startswith("$.amount_minor: differs from the first report of att_1")


def test_a_report_from_the_future_is_refused() -> None:
    """A checkout with a wrong clock is told so."""
    facts = Store().take(report(attempted_at=NOW + timedelta(hours=1)))
    assert facts[0].reason.startswith("$.attempted_at: lies more than")


def test_what_was_unknown_is_filled_and_never_overwritten() -> None:
    """A later report may add the network; a still later one cannot change it."""
    store = Store()
    store.take(report(status="pending"))
    store.take(report(event_id="evt_2", network="visa"))
    store.take(report(event_id="evt_3", network="rupay", occurred_at=NOON + timedelta(seconds=9)))
    assert store.attempts["att_1"].attempt.network == "visa"


def test_history_is_bounded() -> None:
    """An attempt that is reported without end does not grow without end; its first report is kept."""
    store = Store()
    for number in range(50):
        store.take(report(event_id=f"evt_{number}", occurred_at=NOON + timedelta(seconds=number)))
    history = store.attempts["att_1"].history
    assert len(history) == HISTORY_MAX
    assert (history[0].event_id, history[-1].event_id) == ("evt_0", "evt_49")


reports = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.sampled_from(sorted(STATUS_FINALITY)),
        st.integers(0, 20),
        st.sampled_from(["alpha", "bravo"]),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(reports, st.integers(0, 2**32))
def test_sums_equal_a_recount_in_any_order_and_any_batches(drawn: list[Any], seed: int) -> None:
    """However reports are cut into batches, repeated and mixed, the sums are those of the attempts as they stand."""
    made = [
        report(number, event_id=f"evt_{place}", status=status, occurred_at=NOON + timedelta(seconds=second))
        for place, (number, status, second, _) in enumerate(drawn)
    ]
    order = random.Random(seed)
    sent = [*made, *order.sample(made, len(made) // 2)]
    order.shuffle(sent)
    store = Store()
    while sent:
        size = order.randint(1, len(sent))
        store.take(*sent[:size])
        sent = sent[size:]
    recount: dict[Any, int] = {}
    for state in store.attempts.values():
        for key, amount in attempt_adds(state.attempt).items():
            recount[key] = recount.get(key, 0) + amount
    assert {key: amount for key, amount in store.sums.items() if amount} == recount
    for number in {number for number, *_ in drawn}:
        last = max(
            (made[place] for place, row in enumerate(drawn) if row[0] == number),
            key=lambda item: (item.occurred_at, STATUS_FINALITY[item.status]),
        )
        assert store.attempts[f"att_{number}"].attempt.status == last.status


def test_handling_again_says_the_same() -> None:
    """After a conflict the same batch is handled once more; nothing is remembered in between."""
    ingestor = Ingestor(["alpha"])
    batch = [report(1), report(2)]
    assert list(ingestor.handle(batch, NOW, {}, batch_id="b_1")) == list(
        ingestor.handle(batch, NOW, {}, batch_id="b_1")
    )


def test_times_are_cut_to_what_the_store_keeps() -> None:
    """A microsecond that MongoDB drops must not make the next report look like another attempt."""
    store = Store()
    sharp = NOON + timedelta(microseconds=123_456)
    store.take(report(status="pending", attempted_at=sharp, occurred_at=sharp))
    facts = store.take(report(event_id="evt_2", attempted_at=sharp))
    assert recorded_in(facts) == [("att_1", "succeeded", "pending")]
    assert msgspec.json.encode(store.attempts["att_1"].attempt.attempted_at) == b'"2026-03-02T12:00:00.123000Z"'
