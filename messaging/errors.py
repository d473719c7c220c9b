"""The errors of messaging. No pika exception leaves this folder.

::

    MessagingError
    ├── BrokerUnavailable   nobody answers at the broker's address
    ├── BrokerRefused       the broker answers and refuses: user, virtual host, or a queue declared otherwise
    ├── ConnectionLost      the connection ended; what was not confirmed may or may not have arrived: send it again
    ├── PublishRefused      the broker did not take a message, because a queue is full
    ├── Unroutable          no queue hears this message
    ├── MessageMalformed    a body is no message of ours; says where and why
    └── CardDataRefused     a body holds what looks like a card number or a card's security code
"""

from __future__ import annotations


class MessagingError(Exception):
    """The root of all errors of messaging."""


class BrokerUnavailable(MessagingError):
    """Nobody answers at the broker's address."""


class BrokerRefused(MessagingError):
    """The broker answers, and refuses for good."""


class ConnectionLost(MessagingError):
    """The connection ended while something was under way."""


class PublishRefused(MessagingError):
    """The broker refused a message: a queue that hears it is full."""


class Unroutable(MessagingError):
    """No queue hears this message."""


class MessageMalformed(MessagingError):
    """A body is no message of ours.

    Args:
        problem: what is wrong, and where, for example ``$.amount_minor: expected `int`, got `str```; never the value.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class CardDataRefused(MessagingError):
    """A body holds card data. Neither the value nor the body may be kept anywhere.

    Args:
        place: where it stands, for example ``$.failure_message`` or ``header x-note``.
        kind: ``card number`` or ``security code``.
    """

    def __init__(self, place: str, kind: str) -> None:
        self.place = place
        self.kind = kind
        super().__init__(f"{place}: looks like a {kind}; send a token of your payment provider instead")
