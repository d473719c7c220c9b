"""The routing rules that are and were in force: for a router that starts while their file has a mistake, and for who
asks later by which rules a payment was routed."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from ml.routing.rules import RuleSet
from storage.audit import audit_entry, record_audit
from storage.database import Database, Document
from storage.errors import StoreConflict, translated

COLLECTION: Final = "routing_rules"
LAST: Final = "last"
SUBJECT: Final = "routing:rules"
TRIES_MAX: Final = 8
"""Replicas that look at the file at the same moment want to write the same; whoever comes second finds it written."""


async def keep_rules(database: Database, rules: RuleSet, now: datetime) -> None:
    """Write the rules over those before, beside every version there was, with an audit entry; the same ones stay as
    they are, with the moment at which they came.

    Raises: StoreConflict: others go on writing others.
    """
    conflict, pause = retry_if_exception_type(StoreConflict), wait_random(0.01, 0.1)
    async for attempt in AsyncRetrying(retry=conflict, wait=pause, stop=stop_after_attempt(TRIES_MAX), reraise=True):
        with attempt:
            await _keep(database, rules, now)


async def _keep(database: Database, rules: RuleSet, now: datetime) -> None:
    with translated():
        known = await database[COLLECTION].find_one({"_id": LAST}, {"version": True})
    before = None if known is None else known["version"]
    if before == rules.version:
        return
    document = {"version": rules.version, "at": now, "body": msgspec.json.encode(rules).decode()}
    entry = audit_entry(
        now,
        who="router",
        what="routing.rules_changed",
        subject=SUBJECT,
        automatic=True,
        details={"version": rules.version, "before": before, "rules": len(rules.rules)},
    )
    with translated():
        async with database.client.start_session() as session, await session.start_transaction():
            await database[COLLECTION].replace_one({"_id": LAST}, document, upsert=True, session=session)
            await database[COLLECTION].replace_one({"_id": rules.version}, document, upsert=True, session=session)
            await record_audit(database, entry, session=session)


async def last_rules(database: Database) -> RuleSet | None:
    """Read them; None: there never were any, or this version cannot read them."""
    return _read(await _find(database, LAST))


async def rules_of(database: Database, version: str) -> tuple[datetime, RuleSet] | None:
    """Read the rules of a version, as decisions and audit entries name it, and when they came last; None: not known."""
    found = await _find(database, version)
    rules = _read(found)
    return None if found is None or rules is None else (found["at"], rules)


async def _find(database: Database, name: str) -> Document | None:
    with translated():
        return await database[COLLECTION].find_one({"_id": {"$eq": name}})


def _read(found: Document | None) -> RuleSet | None:
    if found is None:
        return None
    try:
        return msgspec.json.decode(found["body"], type=RuleSet)
    except msgspec.MsgspecError:
        return None
