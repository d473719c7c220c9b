"""Single attempts, added up, and what of them is chosen."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.currencies import minor_digits
from messaging.contracts import AttemptStatus, RecordedAttempt
from storage.attempts import AttemptState, ReportEntry, attempt_document
from storage.read_models.amount_bands import AMOUNT_BANDS, amounts_within
from storage.read_models.chosen import DIMENSIONS, Chosen
from storage.read_models.history_cube import COUNTS
from storage.read_models.measures import LATENCY_BUCKETS
from storage.read_models.single_attempts import Added, add_up
from storage.rollups import minute_of
from tests.factories import NOON, recorded
from tests.recount import attempt_adds, without_zeros

FIELDS = (*COUNTS, *(f"latency.{bucket}" for bucket in range(LATENCY_BUCKETS)))

ATTEMPTS = st.builds(
    recorded,
    gateway=st.sampled_from(["alpha", "bravo"]),
    issuer=st.sampled_from(["unknown", "harbour_bank"]),
    currency=st.sampled_from(["INR", "JPY"]),
    status=st.sampled_from(get_args(AttemptStatus)),
    amount_minor=st.integers(0, 10**12),
    attempt_number=st.integers(1, 3),
    latency_ms=st.none() | st.floats(0, 1e7),
    attempted_at=st.integers(0, 300).map(lambda seconds: NOON + timedelta(seconds=seconds)),
)


def as_stored(attempt: RecordedAttempt) -> dict[str, Any]:
    """An attempt as it lies in the store."""
    entry = ReportEntry(event_id="e", status=attempt.status, occurred_at=NOON, received_at=NOON)
    return attempt_document(AttemptState(attempt=attempt, history=(entry,), revision=1))


@given(st.lists(ATTEMPTS, max_size=30))
def test_single_attempts_add_up_to_what_the_sums_per_minute_hold(attempts: list[RecordedAttempt]) -> None:
    """Every count, amount and latency bucket of every minute and segment is that of a recount."""
    added: Added = {}
    for some in (attempts[:7], attempts[7:]):
        add_up(map(as_stored, some), COUNTS, DIMENSIONS, minute_of, added)
    found = Counter(
        {
            ((minute, *names), field): int(sum_)
            for (minute, names), sums in added.items()
            for field, sum_ in zip(FIELDS, sums, strict=True)
        }
    )
    wanted: Counter[Any] = Counter()
    for attempt in attempts:
        wanted.update(attempt_adds(attempt))
    assert without_zeros(found) == without_zeros(wanted)


def test_fields_that_are_not_asked_for_are_left_out() -> None:
    """The sums have the fields in the order asked for, then the latency buckets; steps are those of the caller."""

    def noon(moment: datetime) -> datetime:
        return NOON

    documents = [as_stored(recorded(number, attempted_at=NOON + timedelta(hours=number))) for number in range(3)]
    added: Added = {}
    add_up(documents, ("amount_succeeded_minor", "failed"), ("currency", "issuer"), noon, added)
    ((key, sums),) = added.items()
    assert key == (NOON, ("INR", "harbour_bank"))
    assert sums[:2].tolist() == [3_000, 0]
    assert sums[2:].sum() == 3


def fits(query: dict[str, Any], document: dict[str, Any]) -> bool:
    """What MongoDB says of a query and a document, for the operators that are used."""
    tests = {
        "$in": lambda value, names: value in names,
        "$nin": lambda value, names: value not in names,
        "$gte": lambda value, low: value >= low,
        "$lt": lambda value, high: value < high,
    }
    return all(
        any(fits(option, document) for option in wanted)
        if name == "$or"
        else all(tests[operator](document[name], operand) for operator, operand in wanted.items())
        for name, wanted in query.items()
    )


@given(st.integers(0, 10**7), st.sampled_from(["INR", "EUR", "JPY", "KRW", "KWD"]))
def test_every_amount_lies_in_one_band_whatever_the_minor_unit(amount_minor: int, currency: str) -> None:
    """Ten yen, ten rupees and ten dinars begin the same band."""
    major = amount_minor / 10 ** minor_digits(currency)
    document = {"amount_minor": amount_minor, "currency": currency}
    found = [band for band in AMOUNT_BANDS if fits(amounts_within([band]), document)]
    assert len(found) == 1
    low, high = AMOUNT_BANDS[found[0]]
    assert low <= major
    assert high is None or major < high
    others = [band for band in AMOUNT_BANDS if band not in found]
    assert fits(amounts_within(found + others[:2]), document)
    assert not fits(amounts_within(others), document)


@pytest.mark.parametrize(
    ("chosen", "is_narrow"),
    [
        (Chosen(), False),
        (Chosen(gateway=("a",), currency=("INR",)), False),
        (Chosen(country=("IN",)), True),
        (Chosen(amount=("0-10",)), True),
        (Chosen(arm=("e/a",)), True),
    ],
)
def test_sums_tell_all_but_country_amount_and_arm(chosen: Chosen, is_narrow: bool) -> None:
    """What is in the sums is read from them; nothing of the rest is ever asked of them."""
    assert chosen.is_narrow is is_narrow
    assert chosen.match().keys() <= {"gateway", "method", "issuer", "currency"}


def test_bands_and_countries_narrow_together() -> None:
    """A query by country, currency and amount keeps what fits all of them."""
    query = Chosen(country=("IN", "DE"), currency=("INR",), amount=("10-50", "1000-up")).match_single()
    base = {"country": "IN", "currency": "INR", "amount_minor": 1_000}
    assert fits(query, base)
    for changed in ({"country": "US"}, {"currency": "EUR"}, {"amount_minor": 999}, {"amount_minor": 5_000}):
        assert not fits(query, base | changed), changed
    assert fits(query, base | {"amount_minor": 100_000})
