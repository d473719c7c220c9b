"""One document for everybody who looks at the same view: a change is computed and encoded once, and sent to all.

Bokeh lets several browsers share a session, but encodes every change anew for each of them, and lets each change the
document for all. Here the changes of one round become one message, encoded once; a newcomer gets an encoded document
that is made at most once a round; and what browsers send is not applied. A viewer more then costs a write to a socket.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from bokeh.core.json_encoder import serialize_json
from bokeh.core.serialization import Serializer
from bokeh.document import Document
from bokeh.document.events import DocumentPatchedEvent
from bokeh.protocol.messages.patch_doc import patch_doc
from bokeh.protocol.messages.pull_doc_reply import pull_doc_reply
from bokeh.server import contexts
from bokeh.server.connection import ServerConnection
from bokeh.server.session import ServerSession
from bokeh.util.token import generate_jwt_token, get_token_payload
from tornado.websocket import WebSocketClosedError

SEND_S_MAX: Final = 3.0
"""A browser that does not take a message for so long would hold up all the others."""

EXPIRY: Final = "session_expiry"
RESERVED: Final = ("session_id", EXPIRY, "__bk__zlib_")


class SharedSession(ServerSession):
    """A session that many browsers look at and none can change.

    Args:
        secret: signs the tokens of those who come later.
        token_life_s: how long such a token opens a connection, seconds.
    """

    def __init__(self, *arguments: Any, secret: bytes, token_life_s: int, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._secret, self._token_life_s = secret, token_life_s
        self._changes: list[DocumentPatchedEvent] = []
        self._informed: set[ServerConnection] = set()
        self._encoded: str | None = None

    @property
    def token(self) -> str:
        """A token for a browser that comes now: the session may be older than a token may become."""
        known = get_token_payload(self._token) if self._token else {}
        payload = {name: value for name, value in known.items() if name not in RESERVED}
        return str(
            generate_jwt_token(
                self.id,
                secret_key=self._secret,
                signed=True,
                extra_payload=payload or None,
                expiration=self._token_life_s,
            )
        )

    def unsubscribe(self, connection: ServerConnection) -> None:
        """Forget a browser that left."""
        self._informed.discard(connection)
        super().unsubscribe(connection)

    def _document_patched(self, event: DocumentPatchedEvent) -> None:
        """Collect a change; the whole round is sent when the document is let go."""
        assert self._pending_writes is not None, "a document changes only while its lock is held"
        if not self._changes:
            self._pending_writes.append(self._send_changes())
        self._changes.append(event)

    async def _send_changes(self) -> None:
        changes, self._changes = self._changes, []
        self._encoded = None
        document: Document = self.document
        serializer = Serializer(references=document.models.synced_references, deferred=False)
        content = serialize_json({"events": serializer.encode(changes)})
        document.models.flush_synced(lambda model: not serializer.has_ref(model))
        header = serialize_json(patch_doc.create_header())
        await asyncio.gather(*(self._send(connection, header, content) for connection in tuple(self._informed)))

    def _handle_pull(self, message: Any, connection: ServerConnection) -> Any:
        return self.with_document_locked(self._whole, message, connection)

    async def _whole(self, message: Any, connection: ServerConnection) -> None:
        """Send the document as it is now; from then on the browser is told of changes."""
        if self._encoded is None:
            self._encoded = serialize_json({"doc": self.document.to_json(deferred=False)})
        header = serialize_json(pull_doc_reply.create_header(request_id=message.header["msgid"]))
        await self._send(connection, header, self._encoded)
        self._informed.add(connection)

    async def _send(self, connection: ServerConnection, header: str, content: str) -> None:
        """Send a message that is encoded already; whoever does not take it in time is let go, and comes back by itself.

        Who left meanwhile knows no session any more.
        """
        socket: Any = connection._socket
        try:
            async with asyncio.timeout(SEND_S_MAX):
                with await socket.write_lock.acquire():
                    for part in (header, "{}", content):
                        await socket.write_message(part, locked=False)
        except (WebSocketClosedError, TimeoutError):
            self.unsubscribe(connection)
            socket.close()

    def _handle_push(self, message: Any, connection: ServerConnection) -> Any:
        return _refused(message, connection)

    def _handle_patch(self, message: Any, connection: ServerConnection) -> Any:
        return _refused(message, connection)

    def notify_connection_lost(self) -> None:
        """A browser that leaves changes nothing for the others."""


def share_sessions(secret: bytes, token_life_s: int) -> None:
    """Let the Bokeh server of this process make shared sessions; it has no setting for their class."""

    def shared(*arguments: Any, **named: Any) -> SharedSession:
        return SharedSession(*arguments, secret=secret, token_life_s=token_life_s, **named)

    contexts.ServerSession = shared  # type: ignore[attr-defined, assignment]


async def _refused(message: Any, connection: ServerConnection) -> Any:
    """Browsers tell the sizes that they drew and more; the protocol wants an answer, the document is not touched."""
    return connection.ok(message)
