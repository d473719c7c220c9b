"""One experiment over REST: its story, and an operator's word that reaches the routers and the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from config.settings import Settings, load_settings
from storage.database import close, connect, declare
from storage.experiments import last_allocation
from tests.conftest import eventually
from tests.integration.line import running
from tests.integration.test_line import EXPERIMENTS, with_experiments
from tests.integration.test_web import PASSWORD, log_in, token_in
from web.app import make_app


async def test_an_operator_ends_an_experiment_and_lets_it_go_on(settings: Settings, tmp_path: Path) -> None:
    """The story says what is missing; stop and resume become allocations, with who and why."""
    (tmp_path / "experiments.yaml").write_text(EXPERIMENTS)
    settings = with_experiments(settings, tmp_path / "experiments.yaml")
    environment = {
        "IPA_MONGO_URL": settings.store.url,
        "IPA_AMQP_URL": settings.broker.url,
        "IPA_STORE__DATABASE": settings.store.database,
        "IPA_WEB__ADMIN_PASSWORD": PASSWORD,
    }
    client: TestClient[Any, Any] = TestClient(TestServer(make_app(load_settings(environment))))
    database = await connect(settings.store)
    await declare(database, settings.store)
    async with running(settings, "experiment_allocator"), client:
        assert (await log_in(client)).status == 303

        async def story() -> Any:
            answer = await client.get("/api/v1/experiments/first")
            return await answer.json() if answer.status == 200 else None

        told = await eventually(story, within_s=20)
        assert isinstance(told, dict)
        assert told["report"]["standing"] == "collecting"
        assert (told["definition"]["name"], told["points"], told["toll"]) == ("first", [], None)
        assert (await client.get("/api/v1/experiments/nobody")).status == 404

        async def act(word: str, reason: str) -> int:
            csrf = token_in(await (await client.get("/gateways")).text())
            data = {"csrf": csrf, "next": "/experiments", "name": "first", "reason": reason}
            return (await client.post(f"/act/post_experiments_name_{word}", data=data, allow_redirects=False)).status

        assert await act("stop", "card 4111 1111 1111 1111 fails") == 422
        for word, reason, enabled in (("stop", "month's end", False), ("resume", "one more week", True)):
            assert await act(word, reason) == 303

            async def obeyed(enabled: bool = enabled) -> bool:
                allocation = await last_allocation(database)
                return allocation is not None and allocation.experiments[0].enabled is enabled

            await eventually(obeyed)
        allocation = await last_allocation(database)
        assert allocation is not None
        assert (allocation.published_by, allocation.cause) == ("operator", "first resumed: one more week")
        told = await eventually(story)
        assert isinstance(told, dict)
        assert [(action["action"], action["who"], action["automatic"]) for action in told["actions"]] == [
            ("stopped", "operator", False),
            ("resumed", "operator", False),
        ]
        entries = (await (await client.get("/api/v1/audit?subject=experiment:first")).json())["items"]
        assert [(entry["what"], entry["reason"]) for entry in entries] == [
            ("experiment.resumed", "one more week"),
            ("experiment.stopped", "month's end"),
        ]
    await close(database)
