from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.failures.codes import load_codes, load_phrases
from ml.failures.wording import _SAME, TEXT_LENGTH_MAX, code_tokens, code_wording, message_wording


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CVV2 mismatch", "card verification value mismatch"),
        ("3-D Secure failed", "3DS failed"),
        ("Txn timed out", "transaction time-out"),
        ("Do not honour", "DO NOT HONOR"),
        ("NSF", "not sufficient funds"),
        ("PickUp card", "pick-up card"),
        ("Incorrect M-PIN", "incorrect upi pin"),
        ("Shopper canceled", "cardholder cancelled"),
        ("issuer_not_available", "Issuer unavailable"),
    ],
)
def test_different_words_for_one_thing_become_the_same(one: str, other: str):
    """Two systems that mean the same thing in different words end up with the same wording."""
    assert message_wording(one) == message_wording(other) != ""


def test_advice_to_the_payer_is_left_out():
    """What every message may end with says nothing about the reason."""
    text = "Your card has expired. Please use another card. Any amount deducted will be refunded in 5 days."

    assert message_wording(text) == "your card has expired"


def test_advice_alone_is_kept():
    """Where there is nothing but advice, it is better than nothing."""
    assert message_wording("Please try again later.") == "please try again later"


def test_the_reason_of_a_long_message_is_in_its_beginning():
    """Only the stated length is looked at, so a huge message costs no more than a long one."""
    assert message_wording("expired " * 1_000_000) == message_wording("expired " * (TEXT_LENGTH_MAX // 8))


@pytest.mark.parametrize(
    ("code", "tokens"),
    [("51", ("iso=51",)), ("051", ("iso=51",)), ("U30", ("code=u30",)), ("1A", ("code=1a",)), ("", ()), ("E-1042", ())],
)
def test_code_shapes(code: str, tokens: tuple[str, ...]):
    """Two-digit codes speak ISO 8583 with or without a leading zero; long private codes say nothing to others."""
    assert code_tokens(code) == tokens


def test_words_inside_codes_are_read():
    """Snake case, dots and camel case are words; numbers are not."""
    assert code_wording("card_out_of_date") == "card out of date"
    assert code_wording("ERR.ISSUER.EXPIRED") == "err issuer expired"
    assert code_wording("InsufficientFunds") == "insufficient funds"
    assert code_wording("2001") == ""


def test_looking_for_pieces_first_misses_nothing():
    """No pattern changes any shipped phrase or message without one of the pieces that it is looked for by."""
    texts = [known.message.lower() for known in (*load_phrases(), *load_codes())]
    for pieces, pattern, word in _SAME:
        without = [text for text in texts if not any(piece in text for piece in pieces)]
        assert [text for text in without if pattern.sub(word, text) != text] == []


@given(st.text(max_size=600))
def test_any_text_becomes_plain_lower_case_words(text: str):
    """Whatever comes in, out come lower-case letters, digits and single spaces, the same again when repeated."""
    wording = message_wording(text)

    assert set(wording) <= set("abcdefghijklmnopqrstuvwxyz0123456789 '")
    assert wording == " ".join(wording.split())
