"""What the door says about a message that it does not take, and what it takes for granted."""

from __future__ import annotations

import pytest

from messaging.codec import Decoder, encode
from messaging.consumer import Delivery
from messaging.contracts import AttemptReported
from messaging.envelope import Envelope
from messaging.errors import CardDataRefused, MessageMalformed
from tests.factories import report

NUMBER = "4111111111111111"


def decode(body: bytes, envelope: Envelope) -> None:
    """Take one message from outside."""
    Decoder([AttemptReported], from_outside=True).decode(Delivery(1, False, envelope, body))


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope(type=NUMBER),
        Envelope(message_id=NUMBER),
        Envelope(correlation_id=NUMBER),
        Envelope(reply_to=f"for {NUMBER}"),
        Envelope(content_type=NUMBER),
        Envelope(others=(None, NUMBER)),
        Envelope(headers={"x-data": NUMBER}),
    ],
)
def test_a_card_number_in_the_envelope_is_refused(envelope: Envelope) -> None:
    """A dead letter keeps its envelope, so that is searched too."""
    with pytest.raises(CardDataRefused):
        decode(encode(report()), envelope)


@pytest.mark.parametrize("field", ["status", "type"])
def test_a_value_that_does_not_fit_is_not_repeated(field: str) -> None:
    """The reason names the place; the value may be anything, also what nobody may keep."""
    body = encode(report()).replace(b'"succeeded"' if field == "status" else b'"attempt.reported"', b'"Jo at home"')
    with pytest.raises(MessageMalformed) as caught:
        decode(body, Envelope())
    assert field in caught.value.problem
    assert "Jo at home" not in caught.value.problem


def test_the_count_of_deliveries_is_the_brokers() -> None:
    """A first delivery carries the headers of whoever sent it; what they claim about deliveries counts for nothing."""
    claimed = Envelope(headers={"x-delivery-count": "many"})
    assert Delivery(1, False, claimed, b"").deliveries_before == 0
    assert Delivery(1, False, Envelope(headers={"x-delivery-count": 7}), b"").deliveries_before == 0
    assert Delivery(1, True, Envelope(headers={"x-delivery-count": 3}), b"").deliveries_before == 3
    assert Delivery(1, True, Envelope(), b"").deliveries_before == 1
