"""Housekeeping: what is done to the store now and then, by whichever process has the time for it."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from actors.pulse import utc_now
from config.settings import StoreSettings
from storage.compaction import compact
from storage.database import Database
from storage.errors import StoreError

log = structlog.get_logger(__name__)

EVERY_S: Final = 600.0
"""Sums become old by the hour, so a few looks an hour are enough; one that fails is made up for by the next."""


async def keep_house(database: Database, settings: StoreSettings) -> None:
    """Make old sums coarser, for ever. Several processes may do it at once: each sum is moved once."""
    while True:
        try:
            if moved := await compact(database, settings, utc_now()):
                log.info("compacted", documents=moved)
        except StoreError as error:
            log.warning("not_compacted", reason=str(error))
        await asyncio.sleep(EVERY_S)
