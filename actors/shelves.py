"""The shelf of each worker: what the runner loads for it before it handles a batch, and stores after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from actors.shopper_watcher import orders_of
from messaging.contracts import (
    AnomalyClosed,
    AnomalyHandled,
    AnomalyOpened,
    AnomalyUpdated,
    AttemptReported,
    AttemptsRecorded,
    FailureCodeCorrected,
    FailuresClassified,
    Message,
    RecordedAttempt,
    identity_of,
)
from messaging.line import Outgoing
from ml.behaviour.orders import OrderStory
from ml.failures.codes import code_key
from storage.anomalies import find_anomalies, record_anomalies
from storage.attempts import AttemptChange, find_attempts, record_changes
from storage.database import Database
from storage.failure_codes import CodeChange, find_code_rows, key_of
from storage.failures import (
    FailuresKnown,
    concerns_failures,
    find_failures,
    find_failures_of_code,
    record_failures,
)
from storage.outbox import consumed_ids
from storage.shoppers import customer_key, find_tries, write_orders


class Shelf(Protocol):
    """Where a worker's facts are kept. ``store`` is all or nothing, and may be called again with the same."""

    async def fresh(self, messages: Sequence[Message]) -> list[bool]:
        """Tell which messages this stage has not stored the effect of yet."""

    async def load(self, messages: Sequence[Message]) -> Any:
        """Load what the worker has to know about these messages."""

    async def store(
        self, messages: Sequence[Message], facts: Sequence[Any], outgoing: Sequence[Outgoing], known: Any, now: datetime
    ) -> bool:
        """Store what the worker said. Returns: whether ``outgoing`` lies in the outbox now."""


class AttemptShelf:
    """The ingestor's: attempts, sums, outbox. Reports are recognised by their event ids, so all of them are fresh."""

    def __init__(self, database: Database, *, slot: int) -> None:
        self._database = database
        self._slot = slot

    async def fresh(self, messages: Sequence[Message]) -> list[bool]:
        """Every report goes to the worker."""
        return [True] * len(messages)

    async def load(self, messages: Sequence[Message]) -> Any:
        """The attempts that are stored already."""
        ids = [message.attempt_id for message in messages if isinstance(message, AttemptReported)]
        return await find_attempts(self._database, ids)

    async def store(
        self, messages: Sequence[Message], facts: Sequence[Any], outgoing: Sequence[Outgoing], known: Any, now: datetime
    ) -> bool:
        """Changes, sums and outbox in one transaction."""
        changes = [fact for fact in facts if isinstance(fact, AttemptChange)]
        if changes:
            await record_changes(self._database, changes, outgoing, now=now, slot=self._slot)
        return bool(changes)


class FailureShelf:
    """The failure classifier's: verdicts, sums, the operators' code table, marks of what was consumed, outbox.

    Args:
        database: the store.
        slot: which copy of the sums to add to.
        refresh: called before each batch, to see to it that the model in force is the one that serves.
    """

    def __init__(self, database: Database, *, slot: int, refresh: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._slot = slot
        self._refresh = refresh

    async def fresh(self, messages: Sequence[Message]) -> list[bool]:
        """A batch that was stored is known by its mark."""
        return await not_consumed(self._database, "failure_classifier", messages)

    async def load(self, messages: Sequence[Message]) -> FailuresKnown:
        """What is kept of the attempts of these batches that failed, now or before, and of the codes they are about."""
        await self._refresh()
        concerned = [attempt for attempt in attempts_of(messages) if concerns_failures(attempt)]
        corrected = [key_of(message) for message in messages if isinstance(message, FailureCodeCorrected)]
        keys = {code_key(attempt.gateway, attempt.failure_code, attempt.failure_message) for attempt in concerned}
        states = await find_failures(self._database, [attempt.attempt_id for attempt in concerned])
        for key in corrected:
            states = await find_failures_of_code(self._database, key) | states
        return FailuresKnown(states=states, rows=await find_code_rows(self._database, keys.union(corrected)))

    async def store(
        self, messages: Sequence[Message], facts: Sequence[Any], outgoing: Sequence[Outgoing], known: Any, now: datetime
    ) -> bool:
        """Verdicts, sums, table, marks and outbox in one transaction."""
        classified = [fact for fact in facts if isinstance(fact, FailuresClassified)]
        changes = [fact for fact in facts if isinstance(fact, CodeChange)]
        consumed = [identity_of(message) for message in messages]
        await record_failures(
            self._database,
            consumed,
            attempts_of(messages),
            classified,
            changes,
            outgoing,
            known,
            now=now,
            slot=self._slot,
        )
        return bool(outgoing)


class AnomalyShelf:
    """The anomaly watcher's: anomalies as they stand. What it remembers otherwise, it reads from the sums at start.

    Args:
        database: the store.
        refresh: called before each batch, to see to it that the model in force is the one that serves.
    """

    def __init__(self, database: Database, *, refresh: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._refresh = refresh

    async def fresh(self, messages: Sequence[Message]) -> list[bool]:
        """The worker itself knows the batches it has seen."""
        return [True] * len(messages)

    async def load(self, messages: Sequence[Message]) -> Any:
        """The anomalies that operators speak of."""
        await self._refresh()
        ids = [message.anomaly_id for message in messages if isinstance(message, AnomalyHandled)]
        return await find_anomalies(self._database, ids) if ids else {}

    async def store(
        self, messages: Sequence[Message], facts: Sequence[Any], outgoing: Sequence[Outgoing], known: Any, now: datetime
    ) -> bool:
        """Anomalies and outbox in one transaction."""
        said = [fact.anomaly for fact in facts if isinstance(fact, AnomalyOpened | AnomalyUpdated | AnomalyClosed)]
        if said:
            await record_anomalies(self._database, said, outgoing, now=now)
        return bool(said)


class ShopperShelf:
    """The shopper watcher's: orders, each replaced as a whole, so that nothing is marked as consumed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key: bytes | None = None

    async def fresh(self, messages: Sequence[Message]) -> list[bool]:
        """Putting an order together again does no harm."""
        return [True] * len(messages)

    async def load(self, messages: Sequence[Message]) -> Any:
        """Every attempt of the orders that these messages say something about."""
        if self._key is None:
            self._key = await customer_key(self._database)
        told = [message for message in messages if isinstance(message, AttemptsRecorded | FailuresClassified)]
        return await find_tries(self._database, orders_of(told), self._key)

    async def store(
        self, messages: Sequence[Message], facts: Sequence[Any], outgoing: Sequence[Outgoing], known: Any, now: datetime
    ) -> bool:
        """Orders; there is nothing to tell anybody."""
        await write_orders(self._database, [fact for fact in facts if isinstance(fact, OrderStory)], now)
        return False


def attempts_of(messages: Sequence[Message]) -> list[RecordedAttempt]:
    """Every attempt that these messages tell of, in their order."""
    return [attempt for message in messages if isinstance(message, AttemptsRecorded) for attempt in message.attempts]


async def not_consumed(database: Database, stage: str, messages: Sequence[Message]) -> list[bool]:
    """Tell of each message whether a stage has not stored its effect yet, nor will with an earlier one of these."""
    ids = [identity_of(message) for message in messages]
    consumed = await consumed_ids(database, stage, ids) if ids else set()
    fresh = []
    for message_id in ids:  # a message that was published twice may stand twice in one batch
        fresh.append(message_id not in consumed)
        consumed.add(message_id)
    return fresh
