"""The Isolation Forest that an anomaly watcher uses: the version that is in force in the model store."""

from __future__ import annotations

import time
from typing import Final

import structlog

from ml.anomalies.forest import Forest
from storage.database import Database
from storage.errors import StoreRefused
from storage.models import model_in_force, version_in_force

log = structlog.get_logger(__name__)

KIND: Final = "anomaly_forest"
"""Under this name the model store keeps the versions."""

LOOK_S: Final = 30.0
"""How often a watcher asks whether another version is in force."""


class ServingForest:
    """The forest in force, read again when another one is.

    Args:
        database: where versions are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version: int | None = None
        self._looked_at = float("-inf")
        self.forest: Forest | None = None

    async def refresh(self) -> bool:
        """Look, now and then, whether another version is in force. Returns: whether ``forest`` is another one now.

        A version that cannot be read is left alone, loudly: the watcher goes on with what it has.
        Raises: StoreUnavailable: the store does not answer.
        """
        if time.monotonic() - self._looked_at < LOOK_S:
            return False
        version = await version_in_force(self._database, KIND)
        if version == self._version:
            self._looked_at = time.monotonic()
            return False
        try:
            stored = await model_in_force(self._database, KIND) if version is not None else None
            self.forest = None if stored is None else Forest.loaded(stored.body)
        except (ValueError, StoreRefused) as error:
            log.error("model_unusable", kind=KIND, version=version, reason=str(error))
            is_another = False
        else:
            log.info("model_in_force", kind=KIND, version=version)
            is_another = True
        self._version, self._looked_at = version, time.monotonic()
        return is_another
