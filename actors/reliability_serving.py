"""The reliability model that one router uses: the version that is in force in the model store."""

from __future__ import annotations

from typing import Final

import structlog

from ml.routing.reliability import Reliability
from storage.database import Database
from storage.errors import StoreRefused
from storage.models import model_in_force, version_in_force

log = structlog.get_logger(__name__)

KIND: Final = "reliability"
"""Under this name the model store keeps the versions."""


class ServingReliability:
    """The model in force, read again when another one is.

    Args:
        database: where versions are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version: int | None = None
        self.model: Reliability | None = None

    async def refresh(self) -> bool:
        """Look whether another version is in force. Returns: whether ``model`` is another one now.

        A version that cannot be read is left alone, loudly: payments must be routed.
        Raises: StoreUnavailable: the store does not answer.
        """
        version = await version_in_force(self._database, KIND)
        if version == self._version:
            return False
        try:
            stored = await model_in_force(self._database, KIND) if version is not None else None
            self._version = version
            self.model = None if stored is None else Reliability.loaded(stored.body, stored.about.version)
        except (ValueError, StoreRefused) as error:
            self._version = version
            log.error("model_unusable", kind=KIND, version=version, reason=str(error))
            return False
        log.info("model_in_force", kind=KIND, version=version)
        return True
