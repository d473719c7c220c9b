"""Messages are read and written in one go exactly as pika reads and writes them in pieces."""

from __future__ import annotations

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec
from pika.exceptions import ShortStringTooLong

from messaging.consumer import Consumer, Delivery
from messaging.envelope import Envelope
from messaging.frames import END_MARK, HEAD, METHOD, frame_end, is_delivery, publication, read_delivery

CHANNEL = 7
TAG = "ctag7.abc"
TEXTS = st.text(max_size=60)
SOME_TEXT = st.none() | TEXTS
HEADER_VALUES = st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | TEXTS | st.lists(TEXTS, max_size=3)
PROPERTIES = st.builds(
    pika.BasicProperties,
    content_type=SOME_TEXT,
    content_encoding=SOME_TEXT,
    headers=st.none() | st.dictionaries(TEXTS, HEADER_VALUES, max_size=4),
    delivery_mode=st.sampled_from([None, 1, 2]),
    priority=st.none() | st.integers(0, 255),
    correlation_id=SOME_TEXT,
    reply_to=SOME_TEXT,
    expiration=st.none() | st.integers(0, 10**9).map(str) | st.sampled_from(["soon", ""]),
    message_id=SOME_TEXT,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    type=SOME_TEXT,
    user_id=SOME_TEXT,
    app_id=SOME_TEXT,
    cluster_id=SOME_TEXT,
)
ENVELOPES = st.builds(
    Envelope,
    type=TEXTS,
    message_id=TEXTS,
    timestamp=st.none() | st.datetimes(timezones=st.just(None)).filter(lambda moment: 1971 < moment.year < 2900),
    correlation_id=SOME_TEXT,
    reply_to=SOME_TEXT,
    expiration_ms=st.none() | st.integers(0, 10**9),
    persistent=st.booleans(),
    content_type=SOME_TEXT,
    headers=st.dictionaries(TEXTS, HEADER_VALUES, max_size=4),
)


def delivered(properties: pika.BasicProperties, body: bytes, *, redelivered: bool = False, piece: int = 10**6) -> bytes:
    """A delivery as the broker writes it."""
    method = spec.Basic.Deliver(TAG, 12, redelivered, exchange="reports", routing_key="attempt.reported")
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
    frames = [frame.Method(CHANNEL, method), frame.Header(CHANNEL, len(body), properties)]
    return b"".join(each.marshal() for each in [*frames, *(frame.Body(CHANNEL, piece) for piece in pieces)])


def taker() -> tuple[Consumer, dict[tuple[int, bytes], Consumer]]:
    """A consumer, and where to find it."""
    consumer = Consumer("reports")
    return consumer, {(CHANNEL, TAG.encode()): consumer}


@given(PROPERTIES, st.binary(min_size=1, max_size=300), st.booleans(), st.binary(max_size=9), st.binary(max_size=9))
def test_a_delivery_is_read_as_pika_reads_it(
    properties: pika.BasicProperties, body: bytes, redelivered: bool, before: bytes, behind: bytes
) -> None:
    """Whatever a checkout sets, and wherever in the buffer the message lies."""
    said = delivered(properties, body, redelivered=redelivered)
    consumer, takers = taker()
    buffer = before + said + behind
    assert is_delivery(buffer, len(before))
    read = read_delivery(buffer, len(before), len(buffer), takers)
    decoded = frame.decode_frame(said[frame_end(said, 0, len(said)) :])[1]
    expected = Delivery(12, redelivered, Envelope.of(decoded.properties), body)
    assert read == (len(before) + len(said), consumer, expected)


@given(PROPERTIES, st.binary(min_size=1, max_size=60))
def test_a_delivery_in_part_is_waited_for(properties: pika.BasicProperties, body: bytes) -> None:
    """However much of it is there, nothing is read before all is."""
    said = delivered(properties, body)
    _, takers = taker()
    for end in range(frame_end(said, 0, len(said)), len(said)):
        assert read_delivery(said, 0, end, takers) == 0


@pytest.mark.parametrize(
    ("said", "taken_here"),
    [
        (delivered(pika.BasicProperties(), b""), True),
        (delivered(pika.BasicProperties(), b"in pieces", piece=4), True),
        (delivered(pika.BasicProperties(), b"somebody else's"), False),
        (delivered(pika.BasicProperties(), b"broken")[:-1] + b"\x00", True),
        (delivered(pika.BasicProperties(type="x"), b"no text").replace(b"\x01x", b"\x01\xff"), True),
    ],
    ids=["no body", "body in pieces", "other consumer", "no end mark", "no UTF-8"],
)
def test_what_is_out_of_the_ordinary_is_left_to_pika(said: bytes, taken_here: bool) -> None:
    """An empty body, one in pieces, another's message, a broken frame, and text that is none."""
    assert read_delivery(said, 0, len(said), taker()[1] if taken_here else {}) == -1


def test_another_channels_frame_between_is_left_to_pika() -> None:
    """The protocol lets frames of other channels stand between those of a message."""
    said = delivered(pika.BasicProperties(), b"body")
    begin = frame_end(said, 0, len(said))
    header_end = frame_end(said, begin, len(said))
    heartbeat = HEAD.pack(8, 0, 0) + END_MARK
    for at in (begin, header_end):
        between = said[:at] + heartbeat + said[at:]
        assert read_delivery(between, 0, len(between), taker()[1]) == -1


def test_only_a_delivery_is_one() -> None:
    """Confirms and answers are methods too."""
    for method in (spec.Basic.Ack(3), spec.Queue.DeclareOk("q", 1, 1)):
        said = frame.Method(CHANNEL, method).marshal()
        assert said[0] == METHOD
        assert not is_delivery(said, 0)


@given(ENVELOPES, st.binary(max_size=200), st.booleans(), st.integers(1, 300))
def test_a_publication_is_written_as_pika_writes_it(
    envelope: Envelope, body: bytes, mandatory: bool, piece_max: int
) -> None:
    """Byte for byte, in as many frames."""
    method = spec.Basic.Publish(exchange="replies", routing_key="ключ", mandatory=mandatory)
    pieces = [body[at : at + piece_max] for at in range(0, len(body), piece_max)]
    frames = [
        frame.Method(CHANNEL, method),
        frame.Header(CHANNEL, len(body), envelope.properties()),
        *(frame.Body(CHANNEL, piece) for piece in pieces),
    ]
    said = publication(
        body,
        envelope,
        channel=CHANNEL,
        exchange="replies",
        routing_key="ключ",
        mandatory=mandatory,
        piece_max=piece_max,
    )
    assert said == b"".join(each.marshal() for each in frames)


def test_a_property_that_does_not_fit_is_refused() -> None:
    """As pika does, before anything is sent."""
    with pytest.raises(ShortStringTooLong):
        publication(b"", Envelope(correlation_id="x" * 256), channel=1, exchange="", routing_key="q",
                    mandatory=False, piece_max=10)  # fmt: skip
