"""Says at the head of the line what a person decided and the store holds already."""

from __future__ import annotations

from messaging.contracts import Message
from messaging.errors import MessagingError
from web.api.operation import Call, Problem
from web.keys import HEAD


async def tell_routers(call: Call, message: Message) -> None:
    """Tell the routers; the decision is stored, so one that is not reached reads it when it is connected again.

    Raises: Problem: 503, the broker does not answer.
    """
    try:
        await call.app[HEAD].say(message)
    except MessagingError:
        raise Problem(
            503, "Stored, not yet told", "The broker does not answer; routers learn it when they are connected again."
        ) from None
