"""Which MongoDB belongs to the system that a command speaks to, when that is known; a server nobody named never is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from cli.target import STATE, running_place, target_settings
from config.errors import ConfigError
from config.settings import Settings, StoreSettings, load_settings
from storage.database import Database, close, connect, declare

CONNECT_S_MAX = 5.0
T = TypeVar("T")

NAMES = ("IPA_MONGO_URL", "IPA_STORE__URL", "IPA_MONGO_URL_FILE", "IPA_STORE__URL_FILE")


def known_store(environment: Mapping[str, str] | None = None, state: Path = STATE) -> StoreSettings | None:
    """The store of the system to speak to: the one that the settings name, else that of the demo which runs here.

    None: the settings name a broker and no store, and the broker is not that of the demo.

    Raises: ConfigError: there is no system to speak to, see ``cli.target.target_settings``.
    """
    known = dict(os.environ if environment is None else environment)
    settings = target_settings(known, state)
    is_named = any(name in known for name in NAMES) or settings.store.url != load_settings({}).store.url
    if not is_named:
        place = running_place(state)
        if place is None or place.amqp_url != settings.broker.url:
            return None
        return _patient(msgspec.structs.replace(settings.store, url=place.mongo_url))
    return _patient(settings.store)


@asynccontextmanager
async def opened(store: StoreSettings) -> AsyncIterator[Database]:
    """A connection to the store for the length of a block.

    Raises: StoreUnavailable, StoreRefused: there is none.
    """
    database = await connect(store)
    try:
        yield database
    finally:
        await close(database)


def with_store(work: Callable[[Database, Settings], Awaitable[T]]) -> T:
    """Do something with the store of the system to speak to.

    Raises: ConfigError: no store is known. StoreUnavailable, StoreRefused: it does not answer, or refuses.
    """

    async def go() -> T:
        store = known_store()
        if store is None:
            raise ConfigError("IPA_MONGO_URL", "names no MongoDB; set it beside IPA_AMQP_URL")
        async with opened(store) as database:
            await declare(database, store)
            return await work(database, target_settings())

    return asyncio.run(go())


def _patient(store: StoreSettings) -> StoreSettings:
    """A command waits seconds for the store, not as long as a worker."""
    return msgspec.structs.replace(store, connect_wait_s_max=min(store.connect_wait_s_max, CONNECT_S_MAX))
