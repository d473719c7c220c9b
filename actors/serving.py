"""The model of one kind that a worker uses: the version that is in force in the model store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import structlog

from storage.database import Database
from storage.errors import StoreRefused
from storage.models import StoredModel, model_in_force, version_in_force

log = structlog.get_logger(__name__)

FAILURE_TEXT: Final = "failure_text"
RELIABILITY: Final = "reliability"
ANOMALY_FOREST: Final = "anomaly_forest"
"""Under these names the model store keeps the versions."""

LOOK_S: Final = 30.0
"""How often a worker asks whether another version is in force."""

M = TypeVar("M")


class Serving(Generic[M]):
    """The model in force, read again when another version is.

    Args:
        database: where versions are kept.
        kind: which.
        load: makes the model of what is stored. Raises ValueError: it cannot.
        look_s: how often to ask, seconds; 0: each time.
    """

    def __init__(
        self, database: Database, kind: str, load: Callable[[StoredModel], M], *, look_s: float = LOOK_S
    ) -> None:
        self._database, self._kind, self._load, self._look_s = database, kind, load, look_s
        self._version: int | None = None
        self._looked_at = float("-inf")
        self.model: M | None = None

    async def refresh(self) -> bool:
        """Look, now and then, whether another version is in force. Returns: whether ``model`` is another one now.

        A version that cannot be read is left alone, loudly: the worker goes on with what it has.
        Raises: StoreUnavailable: the store does not answer.
        """
        if time.monotonic() - self._looked_at < self._look_s:
            return False
        version = await version_in_force(self._database, self._kind)
        is_another = version != self._version
        if is_another:
            try:
                stored = await model_in_force(self._database, self._kind)
                self.model = None if stored is None else await asyncio.to_thread(self._load, stored)
            except (ValueError, StoreRefused) as error:
                log.error("model_unusable", kind=self._kind, version=version, reason=str(error))
                is_another = False
            else:
                log.info("model_in_force", kind=self._kind, version=version)
        self._version, self._looked_at = version, time.monotonic()
        return is_another


def loaded_or_none(stored: StoredModel | None, load: Callable[[StoredModel], M]) -> M | None:
    """The model in force for a trainer to compare with; None: there is none, or it cannot be read, which is logged."""
    if stored is None:
        return None
    try:
        return load(stored)
    except ValueError as error:
        log.warning("model_unusable", kind=stored.about.kind, version=stored.about.version, reason=str(error))
        return None
