"""Connecting to MongoDB, and declaring its collections."""

from __future__ import annotations

import msgspec
import pytest

from config.settings import Settings
from storage.database import close, connect, declare, indexes
from storage.errors import StoreRefused


async def test_declaring_twice_changes_nothing_and_keeps_every_index(settings: Settings) -> None:
    """Every worker declares at start; all indexes are there afterwards."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    await declare(database, settings.store)
    for name, models in indexes(settings.store).items():
        found = await database[name].index_information()
        assert {model.document["name"] for model in models} <= set(found)
    await close(database)


async def test_a_changed_retention_is_taken_over(settings: Settings) -> None:
    """An operator may change how long things are kept without touching the database."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    longer = msgspec.structs.replace(settings.store, attempts_keep_days=400)
    await declare(database, longer)
    found = await database["attempts"].index_information()
    assert found["kept_since_1"]["expireAfterSeconds"] == 400 * 86_400
    await close(database)


async def test_a_url_of_another_kind_is_refused(settings: Settings) -> None:
    """A URL that is no MongoDB URL is said so, before anything is written."""
    wrong = msgspec.structs.replace(settings.store, url="http://127.0.0.1/")
    with pytest.raises(StoreRefused, match="IPA_MONGO_URL"):
        await connect(wrong)
