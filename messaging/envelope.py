"""The envelope of a message: AMQP's own properties, no invention of ours."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pika

CONTENT_TYPE = "application/json"
PERSISTENT = 2
TRANSIENT = 1


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What stands around a body. Texts are as ``text_of`` reads them: ``shown`` before they are stored or shown."""

    type: str = ""
    message_id: str = msgspec.field(default_factory=lambda: f"msg_{uuid.uuid4().hex}")
    timestamp: datetime | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration_ms: int | None = None
    persistent: bool = True
    content_type: str | None = CONTENT_TYPE
    headers: dict[str, Any] = {}
    others: tuple[Any, ...] = ()
    """What else came and means nothing here: application, user, cluster, encoding. A dead letter keeps it."""

    def texts(self) -> list[str]:
        """Every text but the headers, to be searched for card data."""
        found = (self.type, self.message_id, self.correlation_id, self.reply_to, self.content_type, *self.others)
        return [str(text) for text in found if text]

    @classmethod
    def of(cls, properties: pika.BasicProperties) -> Envelope:
        """Read what came; a checkout may leave anything out or put anything in."""
        others = (properties.app_id, properties.user_id, properties.cluster_id, properties.content_encoding)
        return cls.read(
            kind=_text(properties.type),
            message_id=_text(properties.message_id),
            stamp=properties.timestamp,
            correlation_id=_text(properties.correlation_id),
            reply_to=_text(properties.reply_to),
            expiration=_text(properties.expiration),
            mode=properties.delivery_mode,
            content_type=_text(properties.content_type),
            headers=properties.headers,
            others=tuple(_text(other) for other in others),
        )

    @classmethod
    def read(
        cls,
        *,
        kind: str | None = None,
        message_id: str | None = None,
        stamp: int | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        expiration: str | None = None,
        mode: int | None = None,
        content_type: str | None = None,
        headers: dict[str, Any] | None = None,
        others: tuple[Any, ...] = (),
    ) -> Envelope:
        """Make one of the properties as they are on the wire; None: it is not there."""
        return cls(
            type=kind or "",
            message_id=message_id or "",
            timestamp=_instant(stamp) if stamp else None,
            correlation_id=correlation_id,
            reply_to=reply_to,
            expiration_ms=int(expiration) if expiration and expiration.isdigit() else None,
            persistent=mode == PERSISTENT,
            content_type=content_type,
            headers=headers or {},
            others=others,
        )


def text_of(said: bytes) -> str:
    """Bytes from outside as text, also when they are none: ``bytes_of`` gives back the very same."""
    return said.decode(errors="surrogateescape")


def bytes_of(text: str) -> bytes:
    """What ``text_of`` was given.

    >>> bytes_of(text_of(bytes([0xC3, 0xBC, 0xFF]))) == bytes([0xC3, 0xBC, 0xFF])
    True
    """
    return text.encode(errors="surrogateescape")


def shown(text: str) -> str:
    """A text of an envelope to be stored or shown, with a mark where something in it is no text.

    >>> shown(text_of(b"id " + bytes([0xFF]))) == "id " + chr(0xFFFD)
    True
    """
    return bytes_of(text).decode(errors="replace")


def _text(said: str | bytes | None) -> str | None:
    """pika gives text as text, and as bytes what is none."""
    return text_of(said) if isinstance(said, bytes) else said


def _instant(stamp: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(stamp, UTC)
    except (OverflowError, OSError, ValueError):
        return None
