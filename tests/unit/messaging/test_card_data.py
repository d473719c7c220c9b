"""Card data is found wherever it stands, and ids are not taken for it."""

from __future__ import annotations

import contextlib
import random
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.card_data import is_card_number, refuse_card_data
from messaging.errors import CardDataRefused
from tests.factories import report

PUBLISHED_TEST_NUMBERS = (
    "4111111111111111", "4012888888881881", "4222222222222", "5555555555554444", "5105105105105100", "2223003122003222",
    "378282246310005", "371449635398431", "30569309025904", "38520000023237", "6011111111111117", "6011000990139424",
    "3530111333300000", "3566002020360505", "6200000000000005", "6759649826438453",
)  # fmt: skip


def refused(value: Any, headers: dict[str, Any] | None = None) -> str | None:
    """Where card data was found; None: nowhere."""
    try:
        refuse_card_data(msgspec.json.encode(value), headers)
    except CardDataRefused as error:
        return error.place
    return None


@pytest.mark.parametrize("number", PUBLISHED_TEST_NUMBERS)
def test_published_test_numbers_are_found(number: str) -> None:
    """The numbers that payment providers publish for tests are card numbers in every dress."""
    assert is_card_number(number)
    spaced = " ".join(number[i : i + 4] for i in range(0, len(number), 4))
    for dress in (number, int(number), f"card {spaced}.", f"pan={number};", spaced.replace(" ", "-")):
        assert refused({"failure_message": dress}) == "$.failure_message"


def test_card_data_is_found_in_keys_headers_lists_and_depth() -> None:
    """No place is left out."""
    number = "4111111111111111"
    assert refused({number: 1}) is not None
    assert refused({"a": [{"b": [number]}]}) == "$.a[0].b[0]"
    assert refused({}, {"x-note": number}) == "headers.x-note"
    assert refused({"order_id": number}) == "$.order_id"
    assert refused({"note": "\u0034111111111111111"}) == "$.note"


def test_an_escaped_digit_does_not_hide_a_number() -> None:
    """JSON may write a digit as an escape."""
    with pytest.raises(CardDataRefused):
        refuse_card_data(b'{"note": "\\u0034111111111111111"}')


def test_a_body_that_is_no_json_is_searched_as_text() -> None:
    """A broken body must not carry a number into the dead letters."""
    with pytest.raises(CardDataRefused):
        refuse_card_data(b'{"note": "4111111111111111"')


@pytest.mark.parametrize("name", ["cvv", "CVV2", "card_cvc", "security-code", "cardSecurityCode", "pin", "track2"])
def test_security_codes_are_found_by_the_name_of_their_field(name: str) -> None:
    """Three digits say nothing; the field's name does."""
    assert refused({"payment": {name: "123"}}) == f"$.payment.{name}"
    assert refused({"payment": {name: None}}) is None


def test_the_refusal_never_repeats_the_value() -> None:
    """The text of a refusal is logged and stored."""
    for value in ({"note": "4111111111111111"}, {"4111111111111111": {"cvv": "123"}}):
        with pytest.raises(CardDataRefused) as caught:
            refuse_card_data(msgspec.json.encode(value))
        assert "1111" not in str(caught.value)


def test_reports_with_prefixed_ids_are_not_refused() -> None:
    """False refusals stay below 1 in 1,000 for ids with a letter prefix, of whatever random making."""
    draw = random.Random(11)
    found = 0
    for _ in range(3_000):
        digits = str(draw.randrange(10**15, 10**16))
        message = report(
            event_id=f"evt_{uuid.UUID(int=draw.getrandbits(128))}",
            attempt_id=f"att_{digits}",
            order_id=draw.choice(["ord_", "ord-", "O:", "shop.eu."]) + str(draw.randrange(10**15, 10**16)),
            customer_id=f"cus_{draw.getrandbits(128):032x}",
            amount_minor=draw.randrange(10**9),
        )
        found += refused(msgspec.to_builtins(message)) is not None
    assert found <= 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("customer_id", "c_4111-1111-1111-1111"),
        ("customer_id", "c4111-1111-1111-1111"),
        ("issuer", "my card 4111_1111_1111_1111"),
        ("network", "4111/1111/1111/1111"),
        ("order_id", "ord_2026-4111.1111.1111.1111-12"),
        ("order_id", "ord_3782_822463_10005"),
        ("order_id", "ord_3056 930902 5904"),
        ("order_id", "ord_6759-6498-2643-8453"),
        ("note", "card\u20134111\u20131111\u20131111\u20131111"),
        ("order_id", "card4111\u00a01111\u00a01111\u00a01111"),
    ],
)
def test_the_groups_of_a_card_are_found_behind_letters_too(field: str, value: str) -> None:
    """Whatever stands between them, in every field, in a key, and in an envelope's id."""
    assert refused({field: value}) == f"$.{field}"
    assert refused({f"x_{value}": 1}) is not None
    with pytest.raises(CardDataRefused):
        refuse_card_data(b"{}", texts=[value])


@pytest.mark.parametrize(
    "value",
    ["ord_3530111333300000", "ord_2026/11/28/123456", "ord_4111-1111-1111-1112",
     "c-12345678-4111-1111-8111-111111111111", "2026-11-28T17:40:00.123456Z", "2026_11_28_17_40_00",
     "ord_411111/1111111111"],
)  # fmt: skip
def test_what_passes_for_an_id_or_a_time(value: str) -> None:
    """Undivided digits behind letters cannot be told from an id; documented so."""
    assert refused({"order_id": value}) is None


def test_uuids_and_times_are_hardly_ever_refused() -> None:
    """With letters before them never, whatever their groups."""
    draw = random.Random(12)
    for _ in range(3_000):
        name = uuid.UUID(int=draw.getrandbits(128), version=4)
        at = datetime.fromtimestamp(draw.randrange(2**31), UTC)
        assert refused({"order_id": f"ord_{name}", "customer_id": f"{at:cus_%Y_%m_%d_%H_%M_%S}"}) is None
        assert refused({"note": f"{at:%Y/%m/%d/%H/%M/%S} {at.isoformat()}"}) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_judged_without_a_crash(body: bytes) -> None:
    """Whatever comes, the answer is yes or no."""
    with contextlib.suppress(CardDataRefused):
        assert refuse_card_data(body) is None


@given(st.integers(0, 10**12 - 1))
def test_every_generated_visa_number_is_found(account: int) -> None:
    """Any account number with its Luhn digit is found, bare and inside a sentence."""
    body = f"424{account:012d}"
    total = sum((d if i % 2 else (2 * d - 9 if d > 4 else 2 * d)) for i, d in enumerate(map(int, reversed(body))))
    number = f"{body}{-total % 10}"
    assert is_card_number(number)
    assert refused({"failure_message": f"declined for {number} today"}) == "$.failure_message"


def test_a_long_fraction_is_no_card_number() -> None:
    """A latency with all the digits of a float is let through; the same digits in a text are not."""
    assert refused({"latency_ms": 4111.111111111111}) is None
    assert refused({"note": "4111.1111.1111.1111"}) == "$.note"


def test_a_number_beside_a_date_is_found() -> None:
    """An expiry date next to the number does not hide it."""
    assert refused({"note": "4111 1111 1111 1111 12 28"}) == "$.note"


@pytest.mark.parametrize(
    "body",
    [
        b'{"x": ' + b"[" * 25 + b'"4111111111111111"' + b"]" * 25 + b"}",
        b'{"note": "1234567890 1234567890 1234567890 4111111111111111"}',
        b'{"note": "4111111111111111", "note": "nothing"}',
        b'{"cvv": "123", "cvv": null}',
        '{"note": "4111111111111111"}'.encode("utf-16"),
        b"pan unknown, cvv=123",
    ],
    ids=["deep", "after other numbers", "name twice", "code twice", "utf-16", "no json"],
)
def test_no_way_of_writing_hides_card_data(body: bytes) -> None:
    """A message that is malformed besides becomes a dead letter, which keeps every byte of it."""
    with pytest.raises(CardDataRefused):
        refuse_card_data(body)


def test_a_text_of_endless_digit_groups_is_refused_unread() -> None:
    """Searching it would hold up every message behind it."""
    with pytest.raises(CardDataRefused):
        refuse_card_data(b'{"x": "' + b"1 " * 30_000 + b'"}')
