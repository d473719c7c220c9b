"""Bodies to messages and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from messaging.card_data import Ordinary, refuse_card_data
from messaging.consumer import Delivery
from messaging.contracts import Id, Message
from messaging.errors import MessageMalformed

OUTSIDE_BYTES_MAX: Final = 65_536
"""A body from outside is a few hundred bytes; one larger than this is no message of ours."""

_VALUE = re.compile(r"(?s)^(Invalid (?:enum )?value) .*")
"""Where msgspec repeats the value that does not fit; it may be anything, so it is left out."""

_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """Write a message as JSON."""
    return _encoder.encode(message)


class Decoder:
    """Reads the messages that one queue hears.

    Args:
        kinds: the message types; anything else is malformed.
        from_outside: also refuse card data and bodies that are too large.
    """

    def __init__(self, kinds: Sequence[type[Message]], *, from_outside: bool) -> None:
        union: Any = kinds[0]
        for kind in kinds[1:]:
            union = union | kind
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(union)
        self._from_outside = from_outside
        self._ordinary = Ordinary(["type", *(name for kind in kinds for name in kind.__struct_encode_fields__)])

    def decode(self, delivery: Delivery) -> Message:
        """Read one delivery.

        Raises:
            MessageMalformed: it is no message that this queue hears; says what and where.
            CardDataRefused: it holds card data; nothing of it may be kept.
        """
        if self._from_outside:
            envelope = delivery.envelope
            refuse_card_data(delivery.body, envelope.headers, envelope.texts(), ordinary=self._ordinary)
            if len(delivery.body) > OUTSIDE_BYTES_MAX:
                raise MessageMalformed(
                    f"the body has {len(delivery.body)} bytes, at most {OUTSIDE_BYTES_MAX} are taken"
                )
        return self.decode_body(delivery.body)

    def decode_body(self, body: bytes) -> Message:
        """Read one body.

        Raises: MessageMalformed: it is no message that this queue hears; says what and where.
        """
        try:
            message: Message = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            problem, _, place = str(error).partition(" - at `")
            problem = _VALUE.sub(r"\1", problem)
            raise MessageMalformed(f"{place.rstrip('`') or '$'}: {problem[0].lower()}{problem[1:]}") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise MessageMalformed("$: the body is no JSON object in UTF-8") from None
        except RecursionError:
            raise MessageMalformed("$: the body nests too deeply") from None
        return message


class _Named(msgspec.Struct, frozen=True):
    """As much of a request as tells which one it is."""

    request_id: Id


_named = msgspec.json.Decoder(_Named)


def request_id_in(body: bytes) -> str | None:
    """The id of a request that is malformed otherwise, so that who asked can tell which one; None: it cannot be read.

    Not for a body with card data, of which nothing may be repeated.
    """
    if len(body) > OUTSIDE_BYTES_MAX:
        return None
    try:
        return _named.decode(body).request_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
