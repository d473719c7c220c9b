"""The requests that were answered: one that is sent again gets the very same decision, and no other one gets it."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from actors.recent import Recent
from messaging.contracts import RouteAdvised, RouteRequested
from messaging.errors import MessageMalformed

DECISIONS_REMEMBERED_MAX: Final = 20_000
"""Decisions kept for requests that are sent again; a request lives for two seconds, so this is some minutes' worth."""

ID_LENGTH_MAX: Final = 80

OF_THE_SENDING: Final = frozenset({"requested_at", "deadline_ms"})
"""What may differ when a request is sent again: it says when and how it is asked, not for which payment."""


class AnsweredRequests:
    """The last requests with their decisions."""

    def __init__(self) -> None:
        self._answers: Recent[str, tuple[RouteRequested, RouteAdvised]] = Recent(DECISIONS_REMEMBERED_MAX)

    def put(self, request: RouteRequested, advised: RouteAdvised) -> None:
        """Remember a decision, also one that another replica made."""
        self._answers.put(request.request_id, (request, advised))

    def answer_to(self, request: RouteRequested) -> RouteAdvised | None:
        """The decision on a request that is sent again; None: none is remembered.

        Raises: MessageMalformed: its id was that of another request, whose gateways may not suit this payment.
        """
        answered = self._answers.get(request.request_id)
        if answered is None:
            return None
        before, advised = answered
        for field in RouteRequested.__struct_fields__:
            if field not in OF_THE_SENDING and _asked(before, field) != _asked(request, field):
                raise MessageMalformed(
                    f"$.request_id: was asked with another {field} before; give each request one of its own, and use "
                    "one again only to send the same request again"
                )
        return advised


def _asked(request: RouteRequested, field: str) -> Any:
    """What a request says in a field, as far as the decision may rest on it."""
    value = getattr(request, field)
    if field == "candidates":
        return frozenset(value)
    if field == "previous_failures":  # a checkout may know more of how they failed the second time
        return [failure.gateway for failure in value]
    return value


def decision_id_of(request_id: str) -> str:
    """Name the decision on a request, so that every replica gives it the same name.

    >>> decision_id_of("req_7")
    'dec_req_7'
    """
    plain = f"dec_{request_id}"
    if len(plain) <= ID_LENGTH_MAX:
        return plain
    return f"dec_{hashlib.sha256(request_id.encode()).hexdigest()[:40]}"
