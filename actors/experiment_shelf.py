"""The experiment allocator's shelf; on its own, because what it stores brings the libraries of statistics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from actors.shelves import attempts_of, not_consumed
from messaging.contracts import ExperimentsDefined, Message, identity_of
from messaging.line import Outgoing
from ml.experiments.counting import unit_keys
from storage.database import Database
from storage.decisions import find_decided
from storage.experiments import find_units, record_experiments


class ExperimentShelf:
    """The allocator's: all that it says, marks of what was consumed, outbox.

    ``revision`` is that of the ledger when the worker's memory was read; set it at every start. What is stored on top
    of another revision is a conflict. None: it is not asked for.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.revision: int | None = None

    async def fresh(self, messages: Sequence[Message]) -> list[bool]:
        """What was stored is known by its mark."""
        return await not_consumed(self._database, "experiment_allocator", messages)

    async def load(self, messages: Sequence[Message]) -> Any:
        """The units of these attempts, and the decisions that they used."""
        attempts = attempts_of(messages)
        if not attempts:
            return {}, {}
        keys = [key for attempt in attempts for key in unit_keys(attempt)]
        decisions = [attempt.decision_id for attempt in attempts if attempt.decision_id is not None]
        return await asyncio.gather(find_units(self._database, keys), find_decided(self._database, decisions))

    async def store(
        self, messages: Sequence[Message], facts: Sequence[Any], outgoing: Sequence[Outgoing], known: Any, now: datetime
    ) -> bool:
        """Definitions, allocations, units, counts, reports, actions, marks and outbox in one transaction."""
        # A definition may come back (a change that is taken back), so it is no message that counts once.
        consumed = [identity_of(message) for message in messages if not isinstance(message, ExperimentsDefined)]
        if not facts and not consumed:
            return False
        await record_experiments(self._database, consumed, facts, outgoing, now=now, revision=self.revision)
        if self.revision is not None:
            self.revision += 1
        return True
