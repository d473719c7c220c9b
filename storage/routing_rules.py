"""The routing rules that were last in force, for a router that starts while their file has a mistake."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from ml.routing.rules import RuleSet
from storage.database import Database
from storage.errors import translated

COLLECTION: Final = "routing_rules"
LAST: Final = "last"


async def keep_rules(database: Database, rules: RuleSet, now: datetime) -> None:
    """Write the rules over those before; the same ones stay as they are, with the moment at which they came."""
    with translated():
        known = await database[COLLECTION].find_one({"_id": LAST}, {"version": True})
    if known is not None and known["version"] == rules.version:
        return
    document = {"version": rules.version, "at": now, "body": msgspec.json.encode(rules).decode()}
    with translated():
        await database[COLLECTION].replace_one({"_id": LAST}, document, upsert=True)


async def last_rules(database: Database) -> RuleSet | None:
    """Read them; None: there never were any, or this version cannot read them."""
    with translated():
        found = await database[COLLECTION].find_one({"_id": LAST})
    if found is None:
        return None
    try:
        return msgspec.json.decode(found["body"], type=RuleSet)
    except msgspec.MsgspecError:
        return None
