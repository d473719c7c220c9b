"""pika's asyncio connection with a short way for what is done per message; everything else is pika's own."""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Final

from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils.io_services_utils import _AsyncPlaintextTransport
from pika.exceptions import ConnectionWrongStateError
from pika.frame import decode_frame

from messaging.consumer import Consumer
from messaging.envelope import Envelope
from messaging.frames import frame_end, is_delivery, publication, read_delivery

RECEIVED_MAX: Final = 65_536
"""Bytes asked of the socket at a time. pika asks for 4,096: it copies all that is left for each frame it reads."""

PACKET_MAX: Final = 262_144
"""Bytes given to pika's socket at a time: of one that is sent in parts, it copies the rest for each part."""


class Wire(AsyncioConnection):  # type: ignore[misc]
    """Reads messages for registered consumers, and writes messages, without pika's frame objects.

    What is sent in one turn of the event loop leaves as one packet, in the order in which it was sent.
    """

    _frame_buffer: bytes

    def __init__(self, *args: Any, **options: Any) -> None:
        self._takers: dict[tuple[int, bytes], Consumer] = {}
        self._unsent: list[bytes] = []
        self._socket: socket.socket | None = None
        super().__init__(*args, **options)

    def hand_to(self, consumer: Consumer, channel: int) -> None:
        """From now on, put what comes for a consumer straight into it."""
        self._takers[channel, consumer.tag.encode()] = consumer

    def hand_no_more(self, consumer: Consumer, channel: int) -> None:
        """Leave a consumer to pika again."""
        self._takers.pop((channel, consumer.tag.encode()), None)

    def publish(
        self, body: bytes, envelope: Envelope, *, channel: int, exchange: str, routing_key: str, mandatory: bool
    ) -> None:
        """Send a message.

        Raises: ConnectionWrongStateError: the connection is not open.
        """
        if not self.is_open:
            raise ConnectionWrongStateError("the connection is not open")
        frames = publication(
            body,
            envelope,
            channel=channel,
            exchange=exchange,
            routing_key=routing_key,
            mandatory=mandatory,
            piece_max=self._body_max_length,
        )
        self._output_marshaled_frames([frames])

    # --- in place of pika's ------------------------------------------------------------------------------------------

    def _proto_connection_made(self, transport: Any) -> None:
        # pika has no settings for it, and reads on until it would have to wait; with TLS it has to.
        transport._MAX_RECV_BYTES = RECEIVED_MAX
        if isinstance(transport, _AsyncPlaintextTransport):
            transport._MAX_CONSUME_BYTES = 1
            self._socket = transport._sock
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        if not self.is_open:  # shaking hands, or closing
            super()._on_data_available(data_in)
            return
        buffer = self._frame_buffer + data_in if self._frame_buffer else data_in
        self._frame_buffer = b""
        at, end = 0, len(buffer)
        while after := frame_end(buffer, at, end):
            read = read_delivery(buffer, at, end, self._takers) if is_delivery(buffer, at) else -1
            if read == 0:
                break
            if isinstance(read, tuple):
                after, consumer, delivery = read
                consumer.put(delivery)
            else:
                self._process_frame(decode_frame(buffer[at:after])[1])
            self.bytes_received += after - at
            at = after
        if at < end and not self.is_closed:
            self._frame_buffer = buffer[at:]

    def _output_marshaled_frames(self, marshaled_frames: Any) -> None:
        if not self._unsent:
            self.ioloop.call_soon(self._send)
        self._unsent.extend(marshaled_frames)

    def _send(self) -> None:
        packet = b"".join(self._unsent)
        self._unsent.clear()
        self.bytes_sent += len(packet)
        if self._transport is None:
            return
        if self._socket is not None and not self._transport._tx_buffers:
            with contextlib.suppress(OSError):  # whatever it is, pika meets it again, and knows what to do
                packet = packet[self._socket.send(packet) :]
        for at in range(0, len(packet), PACKET_MAX):
            self._adapter_emit_data(packet[at : at + PACKET_MAX])
