"""The routing rules that are and were in force, in the store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from ml.routing.rules import Rule, RuleSet
from storage.audit import AuditQuery, read_audit
from storage.database import Database
from storage.routing_rules import keep_rules, last_rules, rules_of
from tests.integration.test_commands import ipa

FIRST = RuleSet(rules=[Rule(name="to_alpha", order=["alpha"])])
SECOND = RuleSet(rules=[Rule(name="never_bravo", never=["bravo"])])


async def test_every_change_is_audited_and_every_version_can_be_read(
    database: Database, amqp_url: str, mongo_url: str
) -> None:
    """The same rules again are no change; who asks by which rules a payment was routed is told by the command."""
    began = datetime.now(UTC).replace(microsecond=0)
    for minute, rules in enumerate((FIRST, FIRST, SECOND, FIRST)):
        await keep_rules(database, rules, began + timedelta(minutes=minute))
    told = await read_audit(database, AuditQuery(what="routing.rules_changed"))
    changes = [(each.details["before"], each.details["version"]) for each in reversed(told)]
    assert changes == [(None, FIRST.version), (FIRST.version, SECOND.version), (SECOND.version, FIRST.version)]
    assert await last_rules(database) == FIRST
    assert await rules_of(database, SECOND.version) == (began + timedelta(minutes=2), SECOND)
    assert await rules_of(database, "rules-unknown") is None
    here = {"IPA_MONGO_URL": mongo_url, "IPA_STORE__DATABASE": database.name}
    shown = ipa(amqp_url, "rules", "show", SECOND.version, **here)
    assert shown.returncode == 0, shown.stderr
    assert "never:\n  - bravo\n" in shown.stdout
    unknown = ipa(amqp_url, "rules", "show", "rules-unknown", **here)
    assert unknown.returncode == 78
    assert "the audit log names them" in unknown.stderr


async def test_replicas_that_find_new_rules_at_the_same_moment_write_them_once(database: Database) -> None:
    """None of them fails, and the audit log tells one change."""
    for rules in (FIRST, SECOND):
        await asyncio.gather(*(keep_rules(database, rules, datetime.now(UTC)) for _ in range(6)))
    told = await read_audit(database, AuditQuery(what="routing.rules_changed"))
    assert [each.details["version"] for each in reversed(told)] == [FIRST.version, SECOND.version]
