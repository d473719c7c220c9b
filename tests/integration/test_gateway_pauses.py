"""What operators do on the pages reaches the routers: a paused gateway, an overridden routing, and the ways back."""

from __future__ import annotations

from typing import Any

from aiohttp import FormData
from aiohttp.test_utils import TestClient, TestServer

from config.settings import Settings, load_settings
from tests.conftest import eventually
from tests.integration.test_router_line import fresh, routed
from tests.integration.test_web import PASSWORD, log_in, token_in
from web.app import make_app


def web_on(settings: Settings) -> TestClient[Any, Any]:
    """The web on the same broker and store as the workers."""
    environment = {
        "IPA_MONGO_URL": settings.store.url,
        "IPA_AMQP_URL": settings.broker.url,
        "IPA_STORE__DATABASE": settings.store.database,
        "IPA_WEB__ADMIN_PASSWORD": PASSWORD,
    }
    return TestClient(TestServer(make_app(load_settings(environment))))


async def test_an_overridden_routing_follows_the_operator_until_it_is_released(settings: Settings) -> None:
    """The form, the message, the decision, a router that starts later, the page, the way back, and the audit log."""
    client = web_on(settings)
    numbers = iter(range(10_000))
    async with routed(settings, "router_advisor") as (checkout, _), client:
        assert (await log_in(client)).status == 303

        async def decided() -> tuple[str, str]:
            decision = (await checkout.route(fresh(next(numbers)), timeout_ms=1_000)).decision
            assert decision is not None
            return decision.policy, decision.ranking[0].gateway

        async def act(name: str, **fields: Any) -> int:
            csrf = token_in(await (await client.get("/routing")).text())
            data = {"csrf": csrf, "next": "/routing"} | fields
            return (await client.post(f"/act/{name}", data=data, allow_redirects=False)).status

        assert (await decided())[0] == "adaptive"
        form = FormData([("csrf", token_in(await (await client.get("/routing")).text())), ("next", "/routing"),
                         ("order", "delta"), ("order", "bravo"), ("order", ""), ("reason", "incident 7"),
                         ("minutes", "30")])  # fmt: skip
        answer = await client.post("/act/post_routing_override", data=form, allow_redirects=False)
        assert answer.status == 303

        async def follows() -> bool:
            return await decided() == ("override", "delta")

        await eventually(follows)
        assert "in the hands of operator" in await (await client.get("/routing")).text()
        held = (await (await client.get("/api/v1/routing/override")).json())["override"]
        assert (held["order"], held["reason"]) == (["delta", "bravo"], "incident 7")
        async with routed(settings, "router_advisor"):  # a second replica reads it from the store
            for _ in range(20):
                assert await decided() == ("override", "delta")
        assert await act("post_routing_override", order="nobody", reason="x") == 422
        assert await act("post_routing_override_release", reason="well again") == 303

        async def back() -> bool:
            return (await decided())[0] == "adaptive"

        await eventually(back)
        assert await act("post_routing_override_release", reason="again") == 404
        entries = (await (await client.get("/api/v1/audit?subject=routing:override")).json())["items"]
        assert [entry["what"] for entry in entries] == ["routing.released", "routing.overridden"]
        assert entries[1]["details"]["order"] == "delta, bravo"


async def test_a_paused_gateway_gets_no_payment_until_it_is_resumed(settings: Settings) -> None:
    """The form, the message, the router's reason, a router that starts later, the way back, and the audit log."""
    client = web_on(settings)
    numbers = iter(range(10_000))
    async with routed(settings, "router_advisor") as (checkout, _), client:
        assert (await log_in(client)).status == 303

        async def decided() -> tuple[set[str], dict[str, str]]:
            decision = (await checkout.route(fresh(next(numbers)), timeout_ms=1_000)).decision
            assert decision is not None
            return {ranked.gateway for ranked in decision.ranking}, {e.gateway: e.reason for e in decision.excluded}

        async def act(name: str, **fields: str) -> int:
            csrf = token_in(await (await client.get("/gateways")).text())
            data = {"csrf": csrf, "next": "/gateways"} | fields
            return (await client.post(f"/act/{name}", data=data, allow_redirects=False)).status

        assert "bravo" in (await decided())[0]
        await act("post_gateways_gateway_pauses", gateway="bravo", reason="too many timeouts", minutes="30")

        async def gone() -> bool:
            ranked, excluded = await decided()
            return "bravo" not in ranked and "too many timeouts" in excluded.get("bravo", "")

        await eventually(gone)
        shown = await (await client.get("/gateways")).text()
        assert "paused" in shown
        standing = await (await client.get("/api/v1/gateways")).json()
        pauses = {row["gateway"]["name"]: row["pauses"] for row in standing}
        pause_id = pauses["bravo"][0]["pause_id"]
        assert [name for name, held in pauses.items() if held] == ["bravo"]
        async with routed(settings, "router_advisor"):  # a second replica reads the pause from the store
            for _ in range(20):
                assert "bravo" not in (await decided())[0]
        name = "post_gateways_gateway_pauses_pause_id_resume"
        assert await act(name, gateway="bravo", pause_id=pause_id, reason="well again") == 303

        async def back() -> bool:
            return "bravo" in (await decided())[0]

        await eventually(back)
        entries = (await (await client.get("/api/v1/audit?subject=gateway:bravo")).json())["items"]
        assert [(entry["what"], entry["who"]) for entry in entries] == [
            ("gateway.resumed", "operator"),
            ("gateway.paused", "operator"),
        ]
        assert await act("post_gateways_gateway_pauses", gateway="nobody", reason="x") == 404
        assert await act("post_gateways_gateway_pauses", gateway="bravo", reason="x", ends_at="2020-01-01T00:00") == 422
