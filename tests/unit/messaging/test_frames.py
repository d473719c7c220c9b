"""Messages are read and written in one go exactly as pika reads and writes them in pieces."""

from __future__ import annotations

import contextlib
import inspect

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import connection as pika_connection
from pika import frame, spec
from pika.adapters.base_connection import BaseConnection
from pika.exceptions import ShortStringTooLong

from messaging.card_data import refuse_card_data
from messaging.consumer import Consumer, Delivery
from messaging.envelope import Envelope, bytes_of, shown, text_of
from messaging.errors import CardDataRefused
from messaging.frames import END_MARK, HEAD, METHOD, frame_end, is_delivery, publication, read_delivery

CHANNEL = 7
TAG = "ctag7.abc"
TEXTS = st.text(max_size=60)
SOME_TEXT = st.none() | TEXTS
SAID = SOME_TEXT | st.binary(max_size=40)
"""What a checkout may send where a text belongs; identifiers of sixteen raw bytes are not rare."""

ENVELOPE_TEXTS = TEXTS | st.binary(max_size=40).map(text_of)
HEADER_VALUES = st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | TEXTS | st.lists(TEXTS, max_size=3)
PROPERTIES = st.builds(
    pika.BasicProperties,
    content_type=SAID,
    content_encoding=SAID,
    headers=st.none() | st.dictionaries(TEXTS, HEADER_VALUES, max_size=4),
    delivery_mode=st.sampled_from([None, 1, 2]),
    priority=st.none() | st.integers(0, 255),
    correlation_id=SAID,
    reply_to=SAID,
    expiration=st.none() | st.integers(0, 10**9).map(str) | st.sampled_from(["soon", ""]),
    message_id=SAID,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    type=SAID,
    user_id=SAID,
    app_id=SAID,
    cluster_id=SAID,
)
ENVELOPES = st.builds(
    Envelope,
    type=ENVELOPE_TEXTS,
    message_id=ENVELOPE_TEXTS,
    timestamp=st.none() | st.datetimes(timezones=st.just(None)).filter(lambda moment: 1971 < moment.year < 2900),
    correlation_id=st.none() | ENVELOPE_TEXTS,
    reply_to=st.none() | ENVELOPE_TEXTS,
    expiration_ms=st.none() | st.integers(0, 10**9),
    persistent=st.booleans(),
    content_type=st.none() | ENVELOPE_TEXTS,
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
    assert read is not None
    expected = Delivery(12, redelivered, Envelope.of(decoded.properties), body, arrived=read[2].arrived)
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
    ],
    ids=["no body", "body in pieces", "other consumer", "no end mark"],
)
def test_what_is_out_of_the_ordinary_is_left_to_pika(said: bytes, taken_here: bool) -> None:
    """An empty body, one in pieces, another's message, and a broken frame."""
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


def properties_of(envelope: Envelope) -> pika.BasicProperties:
    """As pika wants it."""
    texts = (envelope.type, envelope.message_id, envelope.correlation_id, envelope.reply_to, envelope.content_type)
    kind, message_id, correlation_id, reply_to, content_type = (
        None if text is None else bytes_of(text) for text in texts
    )
    return pika.BasicProperties(
        type=kind,
        message_id=message_id,
        timestamp=int(envelope.timestamp.timestamp()) if envelope.timestamp else None,
        correlation_id=correlation_id,
        reply_to=reply_to,
        expiration=str(envelope.expiration_ms) if envelope.expiration_ms is not None else None,
        delivery_mode=2 if envelope.persistent else 1,
        content_type=content_type,
        headers=envelope.headers or None,
    )


@given(ENVELOPES, st.binary(max_size=200), st.booleans(), st.integers(1, 300))
def test_a_publication_is_written_as_pika_writes_it(
    envelope: Envelope, body: bytes, mandatory: bool, piece_max: int
) -> None:
    """Byte for byte, in as many frames."""
    method = spec.Basic.Publish(exchange="replies", routing_key="ключ", mandatory=mandatory)
    pieces = [body[at : at + piece_max] for at in range(0, len(body), piece_max)]
    frames = [
        frame.Method(CHANNEL, method),
        frame.Header(CHANNEL, len(body), properties_of(envelope)),
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


@given(PROPERTIES)
def test_what_is_no_text_comes_back_as_it_was_and_can_be_shown(properties: pika.BasicProperties) -> None:
    """An answer repeats the very bytes; a store or a page gets text."""
    said = delivered(properties, b"body")
    read = read_delivery(said, 0, len(said), taker()[1])
    assert isinstance(read, tuple)
    envelope = read[2].envelope
    for text, raw in ((envelope.correlation_id, properties.correlation_id), (envelope.reply_to, properties.reply_to)):
        assert (text is None and raw is None) or bytes_of(text or "") == (raw.encode() if isinstance(raw, str) else raw)
    for text in envelope.texts():
        assert shown(text).encode()
    with contextlib.suppress(CardDataRefused):
        refuse_card_data(b"{}", envelope.headers, envelope.texts())


def test_what_stands_in_place_of_pikas_own_is_there() -> None:
    """Another pika that calls these otherwise would quietly go its own way."""
    for name in ("_on_data_available", "_output_marshaled_frames", "_proto_connection_made", "_adapter_emit_data"):
        assert name in vars(pika_connection.Connection) or name in vars(BaseConnection), name
    source = inspect.getsource(pika_connection)
    assert source.count("_adapter_emit_data(") == 2, "pika sends somewhere else, past what is collected here"
