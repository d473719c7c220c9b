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
    """What stands around a body."""

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

    def properties(self) -> pika.BasicProperties:
        """As pika wants it."""
        return pika.BasicProperties(
            type=self.type,
            message_id=self.message_id,
            timestamp=int(self.timestamp.timestamp()) if self.timestamp else None,
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            expiration=str(self.expiration_ms) if self.expiration_ms is not None else None,
            delivery_mode=PERSISTENT if self.persistent else TRANSIENT,
            content_type=self.content_type,
            headers=self.headers or None,
        )

    @classmethod
    def of(cls, properties: pika.BasicProperties) -> Envelope:
        """Read what came; a checkout may leave anything out or put anything in."""
        return cls.read(
            kind=properties.type,
            message_id=properties.message_id,
            stamp=properties.timestamp,
            correlation_id=properties.correlation_id,
            reply_to=properties.reply_to,
            expiration=properties.expiration,
            mode=properties.delivery_mode,
            content_type=properties.content_type,
            headers=properties.headers,
            others=(properties.app_id, properties.user_id, properties.cluster_id, properties.content_encoding),
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


def _instant(stamp: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(stamp, UTC)
    except (OverflowError, OSError, ValueError):
        return None
