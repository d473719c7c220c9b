from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.failures.retry import PastTry, RetryQuestion, advise_retry
from ml.failures.taxonomy import CATEGORIES, NEVER_AGAIN, category_of

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
GATEWAYS = ["alpha", "bravo", "charlie"]


def tried(category: str, gateway: str = "alpha", ago_s: float = 1, **changed: object) -> PastTry:
    """A try that failed for this reason, with the reason's own policy unless said otherwise."""
    known = category_of(category)
    fields = {"retry": known.retry, "delay_s": known.delay_s_min}
    return PastTry(gateway=gateway, at=NOW - timedelta(seconds=ago_s), category=category, **(fields | changed))


def asked(*tries: PastTry, **changed: object) -> RetryQuestion:
    """A question about a card payment that three gateways take."""
    fields = {"now": NOW, "method": "card", "tries": tries, "gateways": GATEWAYS}
    return RetryQuestion(**(fields | changed))


@pytest.mark.parametrize(
    ("category", "action", "gateway", "rule"),
    [
        ("processing_error", "now", "bravo", "other_gateway"),
        ("do_not_honor", "now", "bravo", "other_gateway"),
        ("issuer_unavailable", "now", "bravo", "other_gateway"),
        ("merchant_configuration_error", "now", "bravo", "other_gateway"),
        ("authentication_required", "now", "alpha", "authenticate"),
        ("insufficient_funds", "later", "bravo", "wait"),
        ("network_timeout", "check_status", "alpha", "status_unknown"),
        ("expired_card", "ask_customer", None, "needs_shopper"),
        ("lost_or_stolen_card", "never", None, "never_category"),
        ("invalid_request", "never", None, "never_category"),
        ("duplicate_transaction", "never", None, "never_category"),
    ],
)
def test_the_first_failure_of_a_card_payment(category: str, action: str, gateway: str | None, rule: str):
    """Each reason has its way on, and says by which rule."""
    answer = advise_retry(asked(tried(category)))

    assert (answer.action, answer.gateway, answer.rule) == (action, gateway, rule)
    assert answer.shopper_message == category_of(category).shopper_message


def test_a_scheme_s_delay_is_kept():
    """After Mastercard's "try again after 4 days" nothing is sent for four days, and then it may be."""
    failed = tried("insufficient_funds", delay_s=4 * 86_400, advice="mastercard advice 27: try again after 4 days")

    early = advise_retry(asked(failed))
    late = advise_retry(asked(failed, now=NOW + timedelta(days=5)))

    assert (early.action, early.rule, early.not_before) == ("later", "scheme_advice", failed.at + timedelta(days=4))
    assert (late.action, late.rule) == ("now", "waited_enough")


def test_an_issuer_that_stays_away_is_asked_less_and_less():
    """At once elsewhere, then after 10 and 20 minutes, then not by a machine."""
    one, two, three = (tried("issuer_unavailable", gateway) for gateway in GATEWAYS)

    waits = [advise_retry(asked(*tries)) for tries in ((one, two), (one, two, three))]

    assert [answer.action for answer in waits] == ["later", "later"]
    assert [answer.not_before - NOW + timedelta(seconds=1) for answer in waits] == [
        timedelta(minutes=10),
        timedelta(minutes=20),
    ]
    assert advise_retry(asked(one, two, three, one)).rule == "retries_used_up"


@pytest.mark.parametrize(("count", "action"), [(14, "now"), (15, "later"), (40, "later")])
def test_visa_allows_fifteen_tries_in_thirty_days(count: int, action: str):
    """With 15 declines in 30 days nothing is sent until the oldest of the 15 is 30 days old."""
    declines = [NOW - timedelta(days=1, hours=n) for n in range(count)]
    answer = advise_retry(asked(tried("processing_error"), network="Visa", declines_at=declines))

    assert answer.action == action
    if action == "later":
        assert answer.rule == "visa_limit"
        assert answer.not_before == sorted(declines)[-15] + timedelta(days=30)


def test_old_declines_and_other_networks_do_not_count():
    """The window is 30 days, and each scheme counts for its own cards."""
    old = [NOW - timedelta(days=31)] * 40
    new = [NOW - timedelta(days=2)] * 20

    assert advise_retry(asked(tried("processing_error"), network="visa", declines_at=old)).action == "now"
    assert advise_retry(asked(tried("processing_error"), network="rupay", declines_at=new)).action == "now"
    assert advise_retry(asked(tried("processing_error"), network="mastercard", declines_at=new)).action == "now"
    assert advise_retry(asked(tried("processing_error"), network="mastercard", declines_at=new * 2)).action == "later"


def test_upi_needs_the_payer():
    """No machine tries UPI again alone; a mandate's debit may be tried three times more."""
    failed = tried("processing_error")

    assert advise_retry(asked(failed, method="upi")).rule == "upi_needs_pin"
    assert advise_retry(asked(failed, method="upi_autopay")).action == "now"
    four = [tried("insufficient_funds")] * 4
    assert advise_retry(asked(*four, method="upi_autopay")).rule == "upi_mandate_limit"


def test_a_gateway_that_was_tried_is_not_named_for_now():
    """What failed at two gateways goes to the third; with none left it waits."""
    two = [tried("processing_error", "alpha"), tried("processing_error", "bravo")]

    assert advise_retry(asked(*two)).gateway == "charlie"
    assert advise_retry(asked(*two, gateways=["alpha", "bravo"])).action == "later"


reasons = st.sampled_from([category.name for category in CATEGORIES])


@given(
    tries=st.lists(st.tuples(reasons, st.sampled_from(GATEWAYS)), min_size=1, max_size=6),
    method=st.sampled_from(["card", "upi", "upi_autopay", "wallet"]),
    network=st.sampled_from([None, "visa", "mastercard", "rupay"]),
    declines=st.integers(0, 50),
    gateways=st.lists(st.sampled_from(GATEWAYS), unique=True),
)
def test_whatever_happened_nothing_forbidden_is_advised(
    tries: list[tuple[str, str]], method: str, network: str | None, declines: int, gateways: list[str]
):
    """No try that is never allowed, none beyond a scheme's limit, and none without saying when or why."""
    question = asked(
        *(tried(category, gateway) for category, gateway in tries),
        method=method,
        network=network,
        declines_at=[NOW - timedelta(hours=1)] * declines,
        gateways=gateways,
    )

    answer = advise_retry(question)

    if any(category_of(category).retry in NEVER_AGAIN for category, _ in tries):
        assert answer.action == "never"
    if answer.action == "now":
        assert not (network == "visa" and declines >= 15)
        assert not (network == "mastercard" and declines >= 10)
        assert method != "upi"
        assert answer.gateway is not None or not gateways
    assert (answer.action == "later") == (answer.not_before is not None)
    assert answer.not_before is None or answer.not_before > NOW
    assert answer.reason
    assert answer.rule
