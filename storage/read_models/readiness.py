"""Whether the store can be read at all."""

from __future__ import annotations

import asyncio
from typing import Final

from storage.database import Database
from storage.errors import StoreUnavailable, translated

ANSWER_S_MAX: Final = 3.0


async def ping(database: Database) -> None:
    """Ask MongoDB for a sign of life.

    Raises: StoreUnavailable: it gave none in time.
    """
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            with translated():
                await database.command("ping")
    except TimeoutError:
        raise StoreUnavailable(f"MongoDB gave no sign of life within {ANSWER_S_MAX:.0f} s") from None
