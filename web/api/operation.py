"""What one operation of the REST interface is: a row that serves, checks and describes itself.

A topic is one file in this folder with ``OPERATIONS``, a tuple of rows, and it is named once, in ``web/api/topics.py``.
A row's types are its contract: parameters and bodies are checked against them before the handler runs, and the same
types make ``/openapi.json``::

    class AnomalyParams(Params, frozen=True, kw_only=True):
        anomaly_id: Id

    async def read_one(call: Call, params: AnomalyParams) -> Anomaly:
        found = await find_anomaly(call.database, params.anomaly_id)
        if found is None:
            raise Problem(404, "Unknown anomaly", "No anomaly with this id is stored.")
        return found

    OPERATIONS = (
        Operation("GET", "/api/v1/anomalies/{anomaly_id}", read_one, params=AnomalyParams, answer=Anomaly),
    )

A handler with a ``body`` type takes it as third argument. Fields that the path names come from the path, all others
from the query. A list is answered as ``Page`` with a cursor from ``web/api/pages.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import msgspec
from aiohttp import web

from storage.database import Database
from web.identity import Identity
from web.keys import DATABASE, IDENTITY
from web.permissions import Permission

PREFIX: Final = "/api/v1"

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of an operation; one that it does not have is an error, never ignored."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a write; a field that it does not have is an error, never ignored."""


class Problem(Exception):
    """An answer that is an error: a problem document (RFC 9457).

    Args:
        status: 4xx or 5xx.
        title: a short name of the problem.
        detail: what to do about it; nothing of what was sent.
    """

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(title)
        self.status, self.title, self.detail = status, title, detail


class Call:
    """One request as a handler sees it."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self.app = request.app

    @property
    def database(self) -> Database:
        """The store."""
        return self.app[DATABASE]

    @property
    def identity(self) -> Identity:
        """Who asks."""
        return self.request[IDENTITY]


class Operation(msgspec.Struct, frozen=True):
    """One row.

    Args:
        handler: takes the call, the parameters when there are ``params``, and the body when there is a ``body``; its
            docstring describes the operation.
        answer: type of what the handler returns; None: it returns nothing, and the answer is 204.
        permission: what the caller must be allowed.
        status: of a good answer.
        problems: statuses that the handler itself may answer, apart from those that every operation may.
        media_type: of the answer; other than JSON the handler returns bytes.
        shared: a read that costs much and is the same for everybody: its answer is given to all for some seconds.
    """

    method: Method
    path: str
    handler: Callable[..., Awaitable[Any]]
    params: type[Params] | None = None
    body: type[Body] | None = None
    answer: Any = None
    permission: Permission = "read"
    status: int = 200
    problems: tuple[int, ...] = ()
    media_type: str = "application/json"
    shared: bool = False

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.method != "GET"

    @property
    def tag(self) -> str:
        """The topic: the first part of the path behind the version."""
        return self.path.removeprefix(PREFIX).strip("/").split("/")[0]

    @property
    def name(self) -> str:
        """A name for generated clients."""
        parts = [part.strip("{}").replace("-", "_") for part in self.path.removeprefix(PREFIX).split("/") if part]
        return "_".join([self.method.lower(), *parts])
