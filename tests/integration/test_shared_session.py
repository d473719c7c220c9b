"""A session that many look at: whoever leaves is forgotten, and disturbs nobody."""

from __future__ import annotations

from typing import Any

from bokeh.document import Document
from bokeh.server.connection import ServerConnection
from tornado.ioloop import IOLoop
from tornado.locks import Lock
from tornado.websocket import WebSocketClosedError

from web.dashboard.shared_session import SharedSession


class ClosedSocket:
    """The socket of a browser that has just gone."""

    def __init__(self) -> None:
        self.write_lock = Lock()
        self.closed = False

    async def write_message(self, _part: str, *, locked: bool) -> None:
        """Nobody is there."""
        raise WebSocketClosedError

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


async def test_who_leaves_while_a_change_is_sent_is_forgotten() -> None:
    """The connection knows no session by then; that is no error, and later changes are not sent to it."""
    session = SharedSession("a", Document(), io_loop=IOLoop.current(), secret=b"s" * 32, token_life_s=60)
    socket: Any = ClosedSocket()
    context: Any = None
    connection = ServerConnection(context, socket, context, session)
    session._informed.add(connection)
    connection.detach_session()
    session._informed.add(connection)  # as when it leaves while it is sent the whole document
    await session._send(connection, "{}", "{}")
    assert session._informed == set()
    assert socket.closed
