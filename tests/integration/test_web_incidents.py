"""The demo's page for breaking something, on a real mongod and at a real control door."""

from __future__ import annotations

import asyncio
import html
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from cli.services.ports import free_ports
from config.settings import load_settings
from messaging.contracts import Anomaly, Segment
from simulator.control import Control
from simulator.tally import TrafficSummary, TrafficTally
from simulator.world.incidents import Incident
from simulator.world.plan import IncidentPlan, Label
from storage.anomalies import record_anomalies
from storage.database import Database, declare
from web.app import make_app
from web.keys import DATABASE

PASSWORD = "correct horse"
Web = TestClient[Any, Any]


class Standing:
    """Traffic that keeps its plan and makes no payment, at twice the wall's pace."""

    speed = 2.0

    def __init__(self) -> None:
        self.began = datetime.now(UTC).timestamp()
        self.plan = IncidentPlan([], self.began)
        about = {"scenario": "calm", "seed": 7, "rate": 1.0, "speed": self.speed, "run_id": "7.1"}
        self._tally = TrafficTally(self.began, about)

    def trigger(self, incident: Incident) -> str:
        """As live traffic does."""
        elapsed = (datetime.now(UTC).timestamp() - self.began) * self.speed
        changed = {name: getattr(incident, name) for name in incident.__struct_fields__} | {"starts_s": elapsed}
        return self.plan.add(type(incident)(**changed))

    def labels(self) -> list[Label]:
        """As live traffic does."""
        elapsed = (datetime.now(UTC).timestamp() - self.began) * self.speed
        return self.plan.labels(self.began + elapsed + 1, speed=self.speed)

    def account(self, *, final: bool) -> TrafficSummary:
        """As live traffic does."""
        return self._tally.summary(datetime.now(UTC).timestamp(), self.labels(), final=final)


@asynccontextmanager
async def site(mongo_url: str, control_url: str | None) -> AsyncIterator[Web]:
    """The web, with the operator logged in and traffic in the store."""
    environment = {
        "IPA_MONGO_URL": mongo_url,
        "IPA_STORE__DATABASE": f"test_{secrets.token_hex(6)}",
        "IPA_WEB__ADMIN_PASSWORD": PASSWORD,
        "IPA_DASHBOARD__PORT": "1",
        "IPA_DASHBOARD__SECRET": "s" * 32,
        "IPA_WEB__DEMO_CONTROL_URL": control_url or "",
    }
    settings = load_settings(environment)
    client: Web = TestClient(TestServer(make_app(settings)))
    await client.start_server()
    database = store_of(client)
    await declare(database, settings.store)
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    sums = [{"minute": minute, "gateway": name, "method": "upi", "issuer": "kite_bank"} for name in ("alpha", "bravo")]
    await database["attempt_rollups"].insert_many(sums)
    form = {"csrf": token_in(await text_of(client, "/login")), "name": "operator", "password": PASSWORD}
    answer = await client.post("/login", data=form, allow_redirects=False)
    assert answer.status == 303
    yield client
    await database.client.drop_database(database.name)
    await client.close()


@asynccontextmanager
async def door(traffic: Standing) -> AsyncIterator[str]:
    """The control door of this traffic."""
    control = Control(traffic)
    port = await control.open(0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await control.close()


def store_of(client: Web) -> Database:
    """The database of a started application."""
    assert client.app is not None
    return client.app[DATABASE]


def token_in(page: str) -> str:
    """The form token of a page."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found, page
    return found[1]


async def text_of(client: Web, path: str) -> str:
    """A page as a person reads it: entities resolved."""
    return html.unescape(await (await client.get(path)).text())


async def wish(client: Web, **fields: str) -> tuple[int, str]:
    """Send the form as a browser does. Returns: status, and the page."""
    token = {"csrf": token_in(await text_of(client, "/incidents"))}
    answer = await client.post("/incidents", data=token | fields, allow_redirects=False)
    return answer.status, html.unescape(await answer.text())


async def test_without_the_setting_there_is_no_such_page(mongo_url: str) -> None:
    """Not to be seen, not to be posted to, not in the navigation."""
    async with site(mongo_url, None) as client:
        answers = [await client.get("/incidents"), await client.post("/incidents", data={"kind": "outage"})]
        assert [answer.status for answer in answers] == [404, 404]
        assert "/incidents" not in await text_of(client, "/")


async def test_an_incident_is_triggered_and_its_answer_stands_beside_it(mongo_url: str) -> None:
    """The form breaks bravo for three minutes of the wall; the page shows the truth and what the system said."""
    traffic = Standing()
    async with door(traffic) as url, site(mongo_url, url) as client:
        before = await text_of(client, "/incidents")
        assert "Nothing has happened in this world yet." in before
        assert '<a href="/incidents" aria-current="page">Incidents</a>' in before
        status, _ = await wish(client, kind="outage", gateway="bravo", minutes="3")
        assert status == 303
        (label,) = traffic.labels()
        assert (label.kind, label.gateway, label.ends_at - label.starts_at) == ("outage", "bravo", timedelta(minutes=3))
        await asyncio.sleep(1.1)  # answers of the door are shared for a second
        assert "nothing yet" in await text_of(client, "/incidents")
        await record_anomalies(
            store_of(client), [said(label.starts_at + timedelta(seconds=4.5))], [], now=label.starts_at
        )
        await asyncio.sleep(1.1)
        page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", await text_of(client, "/incidents")))
        assert "outage gateway bravo" in page
        assert re.search(r"critical after 4 s success rate gateway bravo", page), page


async def test_a_form_without_its_token_breaks_nothing(mongo_url: str) -> None:
    """Another site cannot break the demo through the operator's browser."""
    traffic = Standing()
    async with door(traffic) as url, site(mongo_url, url) as client:
        for token in ({}, {"csrf": "0" * 64}):
            answer = await client.post("/incidents", data={"kind": "outage", "minutes": "3"} | token)
            assert answer.status == 403
        assert traffic.plan.planned == []


async def test_what_does_not_fit_is_said_in_words(mongo_url: str) -> None:
    """The page's own checks, and the refusal of the door, stand above the form; what was chosen stays chosen."""
    traffic = Standing()
    async with door(traffic) as url, site(mongo_url, url) as client:
        status, page = await wish(client, kind="maintenance", minutes="7")
        assert (status, "needs one gateway: choose it." in page, 'value="7"' in page) == (422, True, True)
        assert '<option value="maintenance" selected>' in page
        status, page = await wish(client, kind="outage", gateway="goldcard", minutes="3")
        assert (status, "there is no gateway 'goldcard'; there are: alpha," in page) == (422, True)
        status, page = await wish(client, kind="outage", issuer="<script>alert(1)", minutes="3")
        assert (status, traffic.plan.planned) == (422, [])
    assert 'role="alert"' in page


@pytest.mark.parametrize("answers", ["nothing", "other"])
async def test_a_door_that_does_not_answer_is_a_state_of_the_page(mongo_url: str, answers: str) -> None:
    """Without the traffic the page still shows what the system says; pressing the button says that nothing happened."""
    async with site(mongo_url, None) as other:
        port = free_ports(1)[0] if answers == "nothing" else other.port
        async with site(mongo_url, f"http://127.0.0.1:{port}") as client:
            answer = await client.get("/incidents")
            page = html.unescape(await answer.text())
            assert answer.status == 200
            assert "The simulated traffic does not answer at its control port." in page
            assert "Open anomalies" in page
            status, page = await wish(client, kind="outage", gateway="bravo", minutes="3")
            assert (status, "so nothing was broken" in page) == (503, True)


async def test_strangers_do_not_see_it(mongo_url: str) -> None:
    """Without a login the page leads there, and a post is not heard."""
    traffic = Standing()
    async with door(traffic) as url, site(mongo_url, url) as client:
        client.session.cookie_jar.clear()
        answers = [
            await client.get("/incidents", allow_redirects=False),
            await client.post("/incidents", data={"kind": "outage"}, allow_redirects=False),
        ]
        assert {(answer.status, answer.headers["Location"].split("?")[0]) for answer in answers} == {(303, "/login")}
        assert traffic.plan.planned == []


def said(detected_at: datetime) -> Anomaly:
    """Bravo was called unwell."""
    return Anomaly(
        anomaly_id="ano_triggered",
        segment=Segment(gateway="bravo"),
        signal="success_rate",
        severity="critical",
        started_at=detected_at,
        detected_at=detected_at,
        updated_at=detected_at,
        observed=0.04,
        expected=0.91,
        expected_low=0.85,
        expected_high=0.95,
        attempts_seen=60,
        score=9.0,
    )
