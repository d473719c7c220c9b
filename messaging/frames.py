"""The frames of messages, read and written at once: what a busy consumer does for every message.

pika reads a message as three frames with some twenty calls each, and sends it as three packets. A message that lies
whole in the buffer is read here in one go, and written as one piece; everything else stays pika's.

Source: AMQP 0-9-1, 4.2.3 (general frame format) and 4.2.6 (content framing); checked against pika's own frames.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from pika import data
from pika.exceptions import AMQPError, ShortStringTooLong

from messaging.consumer import Consumer, Delivery
from messaging.envelope import PERSISTENT, TRANSIENT, Envelope, bytes_of, text_of

Takers = Mapping[tuple[int, bytes], Consumer]
"""Consumers by the number of their channel and their tag."""

HEAD: Final = struct.Struct(">BHI")
"""Of a frame: type, channel, size of what follows up to the end mark."""

DELIVERED: Final = struct.Struct(">QB")
"""Delivery tag, whether it was delivered before."""

CONTENT: Final = struct.Struct(">HHQH")
"""Class, weight, size of the body, which properties there are."""

METHOD, HEADER, BODY = 1, 2, 3
BASIC: Final = 60
DELIVER: Final = struct.pack(">HH", BASIC, 60)
PUBLISH: Final = struct.pack(">HHH", BASIC, 40, 0)
END: Final = 0xCE
END_MARK: Final = bytes([END])
AROUND: Final = HEAD.size + len(END_MARK)
SHORT_MAX: Final = 255

ADDRESSES_MAX: Final = 1_000
"""Frames with an address that are kept, since few differ."""

CONTENT_TYPE, ENCODING, HEADERS, MODE, PRIORITY, CORRELATION_ID, REPLY_TO, EXPIRATION = (
    1 << place for place in range(15, 7, -1)
)
MESSAGE_ID, TIMESTAMP, TYPE, USER_ID, APP_ID, CLUSTER_ID, _UNUSED, MORE_FLAGS = (
    1 << place for place in range(7, -1, -1)
)
"""Which properties there are, in the order in which they stand."""

MODES: Final = (bytes([TRANSIENT]), bytes([PERSISTENT]))

UNREADABLE: Final = (struct.error, IndexError, ValueError, AMQPError)


def frame_end(buffer: bytes, at: int, end: int) -> int:
    """Where the frame that begins at ``at`` ends; 0: not all of it is there.

    Args:
        buffer: what came.
        at: where the frame begins.
        end: where what came ends.
    """
    if end - at < AROUND:
        return 0
    after = at + AROUND + HEAD.unpack_from(buffer, at)[2]
    return after if after <= end else 0


def is_delivery(buffer: bytes, at: int) -> bool:
    """Whether the frame that begins at ``at``, and is all there, begins a delivered message."""
    return buffer[at] == METHOD and buffer[at + HEAD.size : at + HEAD.size + len(DELIVER)] == DELIVER


def read_delivery(buffer: bytes, at: int, end: int, takers: Takers) -> tuple[int, Consumer, Delivery] | int:
    """Read the delivered message that begins at ``at``.

    Args:
        buffer: what came.
        at: where the frame with the delivery begins; it is all there.
        end: where what came ends.
        takers: whom messages are for.
    Returns: where the message ends, whom it is for, and the message; 0 when not all of it is there; -1 when somebody
        else must read it: nobody takes it here, its body comes in pieces, or something in it cannot be read.
    """
    _, channel, size = HEAD.unpack_from(buffer, at)
    tag_at = at + HEAD.size + len(DELIVER) + 1
    tag_end = tag_at + buffer[tag_at - 1]
    consumer = takers.get((channel, buffer[tag_at:tag_end]))
    if consumer is None:
        return -1
    header_at = at + AROUND + size
    properties_end = frame_end(buffer, header_at, end)
    if not properties_end:
        return 0
    kind, header_channel, _ = HEAD.unpack_from(buffer, header_at)
    _, _, length, flags = CONTENT.unpack_from(buffer, header_at + HEAD.size)
    if kind != HEADER or header_channel != channel or not length or flags & MORE_FLAGS:
        return -1
    body_at = properties_end
    after = frame_end(buffer, body_at, end)
    if not after:
        # Of a body in pieces no piece is as long as all of it.
        return -1 if end - body_at >= AROUND and HEAD.unpack_from(buffer, body_at)[2] != length else 0
    if HEAD.unpack_from(buffer, body_at) != (BODY, channel, length):
        return -1
    if not buffer[header_at - 1] == buffer[body_at - 1] == buffer[after - 1] == END:
        return -1
    try:
        number, redelivered = DELIVERED.unpack_from(buffer, tag_end)
        envelope, read_to = _read_envelope(buffer, header_at + HEAD.size + CONTENT.size, flags)
    except UNREADABLE:
        return -1
    if read_to != properties_end - len(END_MARK):
        return -1
    body = buffer[body_at + HEAD.size : after - len(END_MARK)]
    return after, consumer, Delivery(number, bool(redelivered & 1), envelope, body)


def _read_envelope(buffer: bytes, at: int, flags: int) -> tuple[Envelope, int]:
    """Read the properties, which come in this order. Returns: them, and where they end."""
    content_type = encoding = correlation_id = reply_to = expiration = message_id = kind = user = app = cluster = None
    headers = mode = stamp = None
    if flags & CONTENT_TYPE:
        content_type, at = _read_short(buffer, at)
    if flags & ENCODING:
        encoding, at = _read_short(buffer, at)
    if flags & HEADERS:
        headers, at = data.decode_table(buffer, at)
    if flags & MODE:
        mode, at = buffer[at], at + 1
    if flags & PRIORITY:
        at += 1
    if flags & CORRELATION_ID:
        correlation_id, at = _read_short(buffer, at)
    if flags & REPLY_TO:
        reply_to, at = _read_short(buffer, at)
    if flags & EXPIRATION:
        expiration, at = _read_short(buffer, at)
    if flags & MESSAGE_ID:
        message_id, at = _read_short(buffer, at)
    if flags & TIMESTAMP:
        stamp, at = int.from_bytes(buffer[at : at + 8]), at + 8
    if flags & TYPE:
        kind, at = _read_short(buffer, at)
    if flags & USER_ID:
        user, at = _read_short(buffer, at)
    if flags & APP_ID:
        app, at = _read_short(buffer, at)
    if flags & CLUSTER_ID:
        cluster, at = _read_short(buffer, at)
    envelope = Envelope.read(
        kind=kind,
        message_id=message_id,
        stamp=stamp,
        correlation_id=correlation_id,
        reply_to=reply_to,
        expiration=expiration,
        mode=mode,
        content_type=content_type,
        headers=headers,
        others=(app, user, cluster, encoding),
    )
    return envelope, at


def _read_short(buffer: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + buffer[at]
    return text_of(buffer[at + 1 : end]), end


def publication(
    body: bytes, envelope: Envelope, *, channel: int, exchange: str, routing_key: str, mandatory: bool, piece_max: int
) -> bytes:
    """Write a message as it goes to the broker.

    Args:
        body: of any length.
        envelope: its properties.
        channel: the number of the channel.
        exchange: where it goes.
        routing_key: and for whom.
        mandatory: the broker gives it back if no queue hears it.
        piece_max: how much of a body fits into a frame, bytes, > 0.
    Returns: its frames, one after the other.
    Raises: pika.exceptions.ShortStringTooLong: a property is longer than 255 bytes.
    """
    pieces = [_address(channel, exchange, routing_key, mandatory), _header(channel, len(body), envelope)]
    for begin in range(0, len(body), piece_max):
        pieces.append(_frame(BODY, channel, body[begin : begin + piece_max]))
    return b"".join(pieces)


@lru_cache(ADDRESSES_MAX)
def _address(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    return _frame(
        METHOD, channel, PUBLISH + _short(exchange) + _short(routing_key) + (b"\x01" if mandatory else b"\x00")
    )


def _header(channel: int, length: int, envelope: Envelope) -> bytes:
    flags, pieces = MODE | MESSAGE_ID | TYPE, [b""]
    if envelope.content_type is not None:
        flags |= CONTENT_TYPE
        pieces.append(_short(envelope.content_type))
    if envelope.headers:
        flags |= HEADERS
        data.encode_table(pieces, envelope.headers)
    pieces.append(MODES[envelope.persistent])
    if envelope.correlation_id is not None:
        flags |= CORRELATION_ID
        pieces.append(_short(envelope.correlation_id))
    if envelope.reply_to is not None:
        flags |= REPLY_TO
        pieces.append(_short(envelope.reply_to))
    if envelope.expiration_ms is not None:
        flags |= EXPIRATION
        pieces.append(_short(str(envelope.expiration_ms)))
    pieces.append(_short(envelope.message_id))
    if envelope.timestamp:
        flags |= TIMESTAMP
        pieces.append(int(envelope.timestamp.timestamp()).to_bytes(8))
    pieces.append(_short(envelope.type))
    pieces[0] = CONTENT.pack(BASIC, 0, length, flags)
    return _frame(HEADER, channel, b"".join(pieces))


def _short(text: str) -> bytes:
    said = bytes_of(text)
    if len(said) > SHORT_MAX:
        raise ShortStringTooLong(said)
    return bytes((len(said),)) + said


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return HEAD.pack(kind, channel, len(payload)) + payload + END_MARK
