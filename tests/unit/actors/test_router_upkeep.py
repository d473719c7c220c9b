"""What keeps a router up to its rules file, while the store is away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import actors.router_upkeep
from actors.pulse import Pulse
from actors.router_upkeep import RouterUpkeep
from actors.routing_rules import RulesFile, read_rules
from config.errors import ConfigError
from config.settings import load_settings
from ml.routing.rules import Commitment, Rule, RuleSet
from storage.errors import StoreUnavailable
from tests.unit.actors.test_router_advisor import GATEWAYS, advisor, request

if TYPE_CHECKING:
    from pathlib import Path

    from actors.router_advisor import RouterAdvisor

pytestmark = pytest.mark.enable_socket  # an event loop wakes itself through a socket pair


def keeping(path: Path) -> tuple[RouterUpkeep, RouterAdvisor]:
    """A router with this rules file and no store."""
    worker, pulse = advisor(), Pulse("router_advisor", None)  # type: ignore[arg-type]
    return RouterUpkeep(worker, None, load_settings(), RulesFile(path, GATEWAYS), pulse), worker  # type: ignore[arg-type]


async def test_rules_hold_from_the_first_answer_on_without_a_store(tmp_path: Path) -> None:
    """Who may take a payment is in the file; only what was promised waits, because it cannot be counted."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules:\n  - {name: never_alpha, never: [alpha]}\ncommitments:\n  - {gateway: bravo, payments: 9, per: day}\n"
    )
    upkeep, worker = keeping(rules)
    await upkeep.prepare()
    advised = worker.advise(request(1), datetime.now(UTC))
    assert [each.gateway for each in advised.ranking] == ["bravo"]
    assert "never_alpha" in {each.gateway: each.reason for each in advised.excluded}["alpha"]
    assert worker._guidance.rules.commitments == []


async def test_a_store_that_stands_still_holds_up_no_new_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither counts what was promised nor refuses; who may take a payment holds all the same, and is named."""

    async def stands_still(*_: object) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(actors.router_upkeep, "RULES_S_MAX", 0.05)
    for asked in ("count_first_attempts", "keep_rules", "last_rules"):
        monkeypatch.setattr(actors.router_upkeep, asked, stands_still)
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: []\n")
    upkeep, worker = keeping(rules)
    await upkeep.prepare()
    rules.write_text(
        "rules:\n  - {name: never_alpha, never: [alpha]}\ncommitments:\n  - {gateway: bravo, payments: 9, per: day}\n"
    )
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await upkeep.refresh()
    assert [each.gateway for each in worker.advise(request(1), datetime.now(UTC)).ranking] == ["bravo"]
    assert worker._guidance.version == read_rules(rules, GATEWAYS).version
    assert "commitments" in (upkeep._pulse.beat.last_error or "")
    rules.write_text("rules:\n  - {name: to_nobody, order: [nobody]}\n")
    with pytest.raises(StoreUnavailable):
        await keeping(rules)[0].prepare()


async def test_nothing_is_answered_while_the_rules_have_a_mistake_and_those_before_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router without its rules might pay where nobody may; so it asks the store until it says what was in force."""
    before = RuleSet(rules=[Rule(name="never_bravo", never=["bravo"])],
                     commitments=[Commitment(gateway="alpha", payments=9, per="day")])  # fmt: skip
    said: list[RuleSet | None] = [before]
    away = [True]

    async def last(_: object) -> RuleSet | None:
        if away[0]:
            raise StoreUnavailable("MongoDB does not answer")
        return said[0]

    monkeypatch.setattr(actors.router_upkeep, "last_rules", last)
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: to_nobody, order: [nobody]}\n")
    upkeep, worker = keeping(rules)
    for _ in range(3):  # the file tells of its mistake once
        with pytest.raises(StoreUnavailable):
            await upkeep.prepare()
    away[0] = False
    await upkeep.prepare()
    assert [each.gateway for each in worker.advise(request(1), datetime.now(UTC)).ranking] == ["alpha"]
    said[0] = None
    with pytest.raises(ConfigError, match="nobody"):
        await keeping(rules)[0].prepare()
