"""The live charts against a real mongod: who gets in, what is known, and what happens when the store goes away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import msgspec
import numpy as np
import pytest
from pymongo import AsyncMongoClient

from ml.routing.rules import RuleSet
from storage.database import Database
from storage.errors import StoreUnavailable
from storage.read_models import single_attempts
from storage.read_models.amount_bands import AMOUNT_BANDS
from storage.read_models.chosen import Chosen
from storage.read_models.live import ACTIONS_EVERY_S, CHOICES_MAX, COURSES_EVERY_S, LiveFigures
from storage.read_models.live_chosen import NarrowFigures
from storage.read_models.live_courses import COURSE_POINTS_MAX
from storage.routing_rules import keep_rules
from tests.conftest import eventually
from tests.web_documents import fill
from web.dashboard.sessions import SESSION_HEADER, VIEWS, embed_path, signed_session_id

ROOT = Path(__file__).parents[2]
SECRET = "a-secret-of-the-test-with-enough-characters"
NOW = datetime.now(UTC).replace(second=30, microsecond=0)
MINUTE = NOW.replace(second=0)


def rollup(minute: datetime, gateway: str, attempts: int, succeeded: int, *, slot: int = 0) -> dict[str, Any]:
    """Sums of one minute as the ingestor writes them."""
    return {
        "minute": minute,
        "gateway": gateway,
        "method": "card",
        "issuer": "harbour_bank",
        "currency": "INR",
        "slot": slot,
        "attempts": attempts,
        "succeeded": succeeded,
        "failed": attempts - succeeded,
        "latency": {"12": attempts},
    }


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Dashboard:
    """A running ``python -m web.dashboard``."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, web_port: int) -> None:
        self.process, self.address = process, f"http://127.0.0.1:{port}"
        self.web_origin = f"http://127.0.0.1:{web_port}"

    async def livez(self, http: aiohttp.ClientSession) -> dict[str, Any]:
        """What the process says about itself; empty while it does not answer."""
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(f"{self.address}/live/livez") as answer:
                said: dict[str, Any] = await answer.json()
                return said
        return {}

    async def known(self, http: aiohttp.ClientSession, points: int) -> dict[str, Any]:
        """Wait until it knows so many sums."""
        end = time.monotonic() + 20
        while (said := await self.livez(http)).get("points", -1) < points:
            assert time.monotonic() < end, f"the dashboard knows {said}, not {points} points"
            assert self.process.returncode is None, f"the dashboard ended with {self.process.returncode}"
            await asyncio.sleep(0.1)
        return said


def environment(mongo_url: str, database: str, **more: str) -> dict[str, str]:
    """The variables of the process; nothing of the caller's own settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IPA_")}
    return inherited | {"IPA_MONGO_URL": mongo_url, "IPA_STORE__DATABASE": database, "PYTHONPATH": str(ROOT)} | more


async def started(variables: dict[str, str]) -> asyncio.subprocess.Process:
    """Start the process with its log in a pipe."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web.dashboard", cwd=ROOT, env=variables, stderr=asyncio.subprocess.PIPE
    )


@pytest.fixture
async def dashboard(database: Database, mongo_url: str) -> AsyncIterator[Dashboard]:
    """The process on a port of its own, polling ten times a second."""
    port, web_port = free_port(), free_port()
    variables = environment(
        mongo_url,
        database.name,
        IPA_DASHBOARD__SECRET=SECRET,
        IPA_DASHBOARD__PORT=str(port),
        IPA_DASHBOARD__POLL_MS="100",
        IPA_WEB__PORT=str(web_port),
    )
    process = await started(variables)
    yield Dashboard(process, port, web_port)
    if process.returncode is None:
        process.terminate()
    await process.communicate()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


async def status_of(http: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None) -> int:
    """The status of one GET."""
    async with http.get(url, headers=headers) as answer:
        return answer.status


async def test_only_signed_sessions_get_in(dashboard: Dashboard, http: aiohttp.ClientSession) -> None:
    """No id, an unsigned one, and one of another secret are refused; a signed one sees every view."""
    await dashboard.known(http, 0)
    foreign = signed_session_id("another-secret-with-enough-characters")
    for view in VIEWS:
        refused = [
            await status_of(http, dashboard.address + path)
            for path in (f"/live/{view}", f"/live/{view}?bokeh-session-id=made-up", embed_path(view, "dark", foreign))
        ]
        assert refused == [403, 403, 403]
        address = dashboard.address + embed_path(view, "dark", signed_session_id(SECRET))
        assert await status_of(http, address) == 200
        assert (
            await status_of(http, f"{dashboard.address}/live/{view}", {SESSION_HEADER: signed_session_id(SECRET)})
            == 200
        )


async def test_sockets_open_only_for_the_web_address(dashboard: Dashboard, http: aiohttp.ClientSession) -> None:
    """The WebSocket takes the page's token from the web address, and refuses other origins and made-up tokens."""
    await dashboard.known(http, 0)
    async with http.get(
        f"{dashboard.address}/live/overview", headers={SESSION_HEADER: signed_session_id(SECRET)}
    ) as answer:
        page = await answer.text()
    assert "//cdn." not in page
    (token,) = set(re.findall(r'"token":"([^"]+)"', page))
    url = f"{dashboard.address}/live/overview/ws"
    async with http.ws_connect(url, protocols=("bokeh", token), origin=dashboard.web_origin) as socket_:
        first = await socket_.receive(timeout=10)
        assert msgspec.json.decode(first.data)["msgtype"] == "ACK"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await http.ws_connect(url, protocols=("bokeh", token), origin="http://elsewhere.example")
    assert refusal.value.status == 403
    async with http.ws_connect(url, protocols=("bokeh", "made.up"), origin=dashboard.web_origin) as socket_:
        assert (await socket_.receive(timeout=10)).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}


async def test_too_many_choices_are_refused_and_shown_when_there_is_room(
    dashboard: Dashboard, http: aiohttp.ClientSession
) -> None:
    """One choice more than are followed gets a sentence and asks again; it is drawn when nobody looks at the others."""
    await dashboard.known(http, 0)
    headers = {f"g{number}": {SESSION_HEADER: signed_session_id(SECRET)} for number in range(CHOICES_MAX + 1)}

    async def page_of(name: str) -> str:
        url = f"{dashboard.address}/live/overview"
        async with http.get(url, params={"gateway": name}, headers=headers[name]) as answer:
            assert answer.status == 200
            return await answer.text()

    pages = [await page_of(name) for name in headers]
    assert all("not shown" not in page for page in pages[:-1])
    assert f"{CHOICES_MAX} different choices are looked at already" in pages[-1]
    assert 'http-equiv="refresh"' in pages[-1]
    assert "docs_json" not in pages[-1], "it opens no connection"

    async def is_drawn() -> bool:
        return "not shown" not in await page_of(f"g{CHOICES_MAX}")

    await eventually(is_drawn, within_s=60, every_s=2)


async def test_what_is_stored_is_soon_known(
    dashboard: Dashboard, http: aiohttp.ClientSession, database: Database
) -> None:
    """An empty store has no points; new sums are there at the next poll."""
    assert (await dashboard.known(http, 0))["status"] == "ok"
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    await database["attempt_rollups"].insert_many([rollup(minute, "alpha", 5, 4), rollup(minute, "bravo", 3, 3)])
    said = await dashboard.known(http, 2)
    assert said["points"] == 2
    assert time.time() - said["polled_at"] < 5


async def test_it_ends_in_order(dashboard: Dashboard, http: aiohttp.ClientSession) -> None:
    """SIGTERM ends it with 0; its log says where it listened, and no secret."""
    await dashboard.known(http, 0)
    dashboard.process.send_signal(signal.SIGTERM)
    _, log = await asyncio.wait_for(dashboard.process.communicate(), timeout=10)
    assert dashboard.process.returncode == 0
    lines = [msgspec.json.decode(line) for line in log.splitlines() if line.startswith(b"{")]
    assert [line["event"] for line in lines] == ["dashboard started", "dashboard stopped"]
    assert SECRET.encode() not in log


async def test_it_does_not_start_without_a_secret(database: Database, mongo_url: str) -> None:
    """A missing secret ends the process at once, and the log names the variable."""
    process = await started(environment(mongo_url, database.name))
    _, log = await asyncio.wait_for(process.communicate(), timeout=30)
    assert process.returncode == 78
    assert b"IPA_DASHBOARD__SECRET" in log


class Clock:
    """A clock that is moved by hand; tells seconds since epoch."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> float:
        """Seconds since epoch."""
        return self.at.timestamp()


async def test_slots_are_added_up_and_corrections_followed(database: Database) -> None:
    """Sums of all slots count; what came in between polls is their difference, corrections included."""
    clock = Clock(NOW)
    live = LiveFigures(database, gateways=("alpha", "bravo"), poll_ms=1000, heartbeat_s=2, clock=clock)
    rollups = database["attempt_rollups"]
    await rollups.insert_many([rollup(MINUTE, "bravo", 5, 4, slot=1), rollup(MINUTE, "bravo", 7, 7, slot=2)])
    await live.poll()
    counts = live.snapshot.attempts
    assert (counts.first, counts.values[-1, 1, 0, :4].tolist()) == (("alpha", "bravo"), [12, 0, 11, 1])
    assert counts.values[-1, 1, 0].sum() == 12 + 11 + 1 + 12
    assert live.snapshot.arrivals.times.tolist() == [MINUTE.timestamp(), NOW.timestamp()]
    assert live.snapshot.arrivals.sums[:, 1, :4].tolist() == [[0, 0, 0, 0], [12, 0, 11, 1]]

    clock.at += timedelta(seconds=2)
    await rollups.update_one({"slot": 1}, {"$inc": {"attempts": 10, "succeeded": 10}})
    await live.poll()
    assert live.snapshot.arrivals.sums[-1, 1, :4].tolist() == [22, 0, 21, 1]

    clock.at += timedelta(seconds=1)
    await rollups.update_one({"slot": 1}, {"$inc": {"attempts": -2, "failed": -1}})
    await live.poll()
    assert live.snapshot.arrivals.sums[-1, 1, :4].tolist() == [20, 0, 21, 0]
    assert live.snapshot.arrivals.rolling(2.0)[-1, 1, :4].tolist() == [8, 0, 10, -1]
    before = live.snapshot.attempts
    assert before.values[-1, 1, 0, :4].tolist() == [20, 0, 21, 0]

    clock.at += timedelta(seconds=1)
    await live.poll()
    assert live.snapshot.attempts is before


async def test_the_hour_before_is_read_once_and_then_made_of_what_leaves_the_window(database: Database) -> None:
    """It stands at the times of the hour it is compared with; minute by minute it follows without being read again."""
    clock = Clock(NOW)
    rollups = database["attempt_rollups"]
    ago = {
        minutes: rollup(MINUTE - timedelta(minutes=minutes), "alpha", 10 + minutes, 10) for minutes in (0, 59, 60, 120)
    }
    await rollups.insert_many([*ago.values(), rollup(MINUTE - timedelta(minutes=60), "bravo", 1, 1)])
    live = LiveFigures(database, gateways=("alpha", "bravo"), poll_ms=1000, heartbeat_s=2, clock=clock)
    chosen = live.of(Chosen(gateway=("bravo",)))
    await live.poll()

    def before(figures: Any) -> dict[tuple[int, str], int]:
        counts = figures.snapshot.attempts_before
        np.testing.assert_array_equal(counts.minutes, figures.snapshot.attempts.minutes)
        values = counts.values[..., 0].sum(axis=2)
        return {(int(row) - 59, counts.first[column]): int(values[row, column]) for row, column in np.argwhere(values)}

    assert before(live) == {(0, "alpha"): 70, (0, "bravo"): 1}, "120 minutes ago is before the hour before"
    assert before(chosen) == {(0, "bravo"): 1}
    known = live.snapshot.attempts_before
    await rollups.update_many({"minute": MINUTE - timedelta(minutes=60)}, {"$inc": {"attempts": 500}})
    clock.at += timedelta(seconds=29)
    await live.poll()
    assert live.snapshot.attempts_before is known
    clock.at += timedelta(seconds=1)
    await live.poll()
    assert before(live) == {(-1, "alpha"): 70, (-1, "bravo"): 1, (0, "alpha"): 69}
    await rollups.insert_one(rollup(MINUTE + timedelta(minutes=5), "alpha", 7, 7))
    clock.at += timedelta(minutes=90)
    await live.poll()
    assert before(live) == {(-31, "alpha"): 10, (-26, "alpha"): 7}, "polls were missed for longer than the window"


async def test_what_is_chosen_is_followed_apart(database: Database) -> None:
    """A choice has its own traffic and everybody's facts, is shared, let go with its last viewer, and bounded."""
    clock = Clock(NOW)
    live = LiveFigures(database, gateways=("alpha", "bravo"), poll_ms=1000, heartbeat_s=2, clock=clock)
    await database["attempt_rollups"].insert_many(
        [rollup(MINUTE, "bravo", 5, 4, slot=1), rollup(MINUTE, "alpha", 7, 7, slot=2)]
    )
    beat = {"stage": "ingestor", "host": "h", "pid": 1, "started_at": NOW, "at": NOW, "batches": 0, "lag": 3}
    await database["heartbeats"].insert_one({"_id": "i", **beat})
    chosen = live.of(Chosen(gateway=("bravo",)))
    assert live.of(Chosen()) is live
    assert live.of(Chosen(gateway=("bravo",))) is chosen
    assert chosen.snapshot.polled_at is None
    await live.poll()
    assert live.snapshot.attempts.values[..., 0].sum() == 12
    assert chosen.snapshot.attempts.values[..., 0].sum() == 5
    assert chosen.snapshot.polled_at == live.snapshot.polled_at
    assert chosen.snapshot.workers == live.snapshot.workers
    assert len(live.snapshot.workers) == 1
    none = live.of(Chosen(method=("no_such",), currency=("INR",)))
    clock.at += timedelta(seconds=1)
    await database["attempt_rollups"].update_one({"slot": 1}, {"$inc": {"attempts": 10, "succeeded": 10}})
    await live.poll()
    assert chosen.snapshot.arrivals.sums[-1, 1, :4].tolist() == [15, 0, 14, 1]
    assert not none.snapshot.attempts.values.any()
    held = [live.of(Chosen(issuer=(f"bank_{number}",))) for number in range(CHOICES_MAX - 2)]
    with pytest.raises(ValueError, match=f"{CHOICES_MAX} different choices"):
        live.of(Chosen(issuer=("one_more",)))
    held.clear()
    assert live.of(Chosen(issuer=("one_more",))) is not live


async def test_a_narrow_choice_is_looked_up_attempt_by_attempt(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its minutes are those of a recount, less often; what is corrected goes; three at a time; the bound is kept."""
    await fill(database, NOW, attempts=600)
    clock = Clock(NOW)
    live = LiveFigures(database, gateways=("alpha", "bravo"), poll_ms=1000, heartbeat_s=2, clock=clock)
    chosen = live.of(Chosen(country=("IN",), arm=("routing-policy/control",)))
    assert isinstance(chosen, NarrowFigures)
    await live.poll_narrow()
    assert chosen.snapshot.polled_at is None
    await live.poll()
    assert chosen.snapshot.polled_at is None
    await live.poll_narrow()
    arms = {one["_id"]: one["advice"]["arm"] async for one in database["decisions"].find()}
    in_country = await database["attempts"].find({"country": "IN"}).to_list()
    wanted = [one for one in in_country if arms[one["decision_id"]] == "control"]
    counts = chosen.snapshot.attempts
    assert counts.values[..., 0].sum() == len(wanted) > 50
    assert counts.values[..., 2].sum() == sum(one["status"] == "succeeded" for one in wanted)
    per_minute = {
        minute: int(n) for minute, n in zip(counts.minutes, counts.values[..., 0].sum(axis=(1, 2)), strict=True) if n
    }
    assert per_minute == Counter(one["attempted_at"].replace(second=0, microsecond=0).timestamp() for one in wanted)
    failures = await database["failures"].count_documents({"country": "IN"})
    assert chosen.snapshot.failures.values.sum() == failures > 10
    assert live.snapshot.attempts.values[..., 0].sum() > len(wanted)

    newest = await database["failures"].find_one({"country": "IN"}, sort=[("attempted_at", -1)])
    assert newest is not None
    clock.at = max(clock.at, newest["attempted_at"])
    await database["failures"].update_one({"_id": newest["_id"]}, {"$set": {"withdrawn": True}})
    clock.at += timedelta(seconds=3)
    await live.poll_narrow()
    assert chosen.snapshot.failures.values.sum() == failures
    clock.at += timedelta(seconds=60)
    await live.poll()
    await live.poll_narrow()
    assert chosen.snapshot.failures.values.sum() == failures - 1
    assert chosen.stale_since(clock()) is None
    assert chosen.stale_since(clock() + 30) == clock()

    busiest = sorted(live.snapshot.attempts.values[..., 0].sum(axis=(1, 2)))[-1]
    monkeypatch.setattr(single_attempts, "WORK_MAX", int(busiest) * 8 * 11)
    held = [live.of(Chosen(country=(country,))) for country in ("DE", "US")]
    with pytest.raises(ValueError, match="3 different choices by country"):
        live.of(Chosen(amount=("0-10",)))
    assert live.of(Chosen(gateway=("alpha",))) is not live
    held.clear()
    amounts = live.of(Chosen(amount=tuple(AMOUNT_BANDS), arm=("routing-policy/control", "routing-policy/adaptive")))
    await live.poll_narrow()
    assert 2 <= amounts.reach < 60
    np.testing.assert_array_equal(
        amounts.snapshot.attempts.values.sum(axis=(1, 2)),
        live.snapshot.attempts.last(amounts.reach).values.sum(axis=(1, 2)),
    )
    clock.at += timedelta(seconds=5)
    monkeypatch.setattr(single_attempts, "WORK_MAX", 1)
    too_many = live.of(Chosen(amount=("0-10",)))
    await live.poll_narrow()
    assert (too_many.reach, too_many.snapshot.polled_at) == (0, None)


def decision(gateway: str, method: str, issuer: str | None = "harbour_bank") -> dict[str, Any]:
    """A decision that put a gateway first."""
    return {
        "_id": f"dec_{gateway}_{method}_{issuer}",
        "decided_at": NOW,
        "request": {"method": method, "currency": "INR"} | ({"issuer": issuer} if issuer else {}),
        "advice": {"ranking": [{"gateway": gateway}, {"gateway": "alpha"}], "policy": "adaptive", "exploring": True},
    }


async def test_advice_follows_the_choice(database: Database) -> None:
    """Decisions are told apart by their payment and by the gateway put first, from one query for everybody."""
    clock = Clock(NOW)
    await database["decisions"].insert_many(
        [decision("bravo", "card"), decision("bravo", "upi"), decision("charlie", "card", None)]
    )
    live = LiveFigures(database, gateways=("alpha", "bravo"), poll_ms=1000, heartbeat_s=2, clock=clock)
    chosen = [
        live.of(Chosen(gateway=("bravo",), method=("card",))),
        live.of(Chosen(issuer=("unknown",))),
        live.of(Chosen(currency=("EUR",))),
    ]
    await live.poll()
    assert sum(count.decisions for count in live.snapshot.advice) == 3
    seen = [[(count.gateway, count.method) for count in figures.snapshot.advice] for figures in chosen]
    assert seen == [[("bravo", "card")], [("charlie", "card")], []]
    known = chosen[0].snapshot.advice
    clock.at += timedelta(seconds=10)
    await live.poll()
    assert chosen[0].snapshot.advice is known, "nothing is drawn again when nothing changed"


async def test_facts_are_read(database: Database) -> None:
    """Open and recent anomalies, failures, advice, and heartbeats come along; old anomalies do not."""
    shape = {"signal": "success_rate", "severity": "major", "observed": 0.5, "expected": 0.9}
    shape |= {"expected_low": 0.8, "expected_high": 0.95, "attempts_seen": 50, "detected_at": NOW}
    segment = {"gateway": "alpha", "method": None, "issuer": None}

    def anomaly(name: str, closed_minutes_ago: int | None) -> dict[str, Any]:
        closed = None if closed_minutes_ago is None else NOW - timedelta(minutes=closed_minutes_ago)
        return {"_id": name, "segment": segment, "started_at": NOW - timedelta(hours=5), "closed_at": closed, **shape}

    await database["anomalies"].insert_many([anomaly("open", None), anomaly("recent", 5), anomaly("old", 100)])
    failure = {"minute": MINUTE, "gateway": "alpha", "category": "network_timeout", "currency": "INR", "slot": 0}
    await database["failure_rollups"].insert_one(failure | {"failures": 4})
    await database["decisions"].insert_many([decision("bravo", "card"), decision("bravo", "upi")])
    beat = {"stage": "ingestor", "host": "h", "pid": 1, "started_at": NOW, "at": NOW, "batches": 0, "lag": 3}
    await database["heartbeats"].insert_one({"_id": "i", **beat})
    clock = Clock(NOW)
    live = LiveFigures(database, gateways=("alpha",), poll_ms=1000, heartbeat_s=2, clock=clock)
    await live.poll()
    assert sorted(anomaly.anomaly_id for anomaly in live.snapshot.anomalies) == ["open", "recent"]
    assert live.snapshot.failures.second == ("network_timeout",)
    assert live.snapshot.failures.values[-1, 0, 0, 0] == 4
    assert [(a.gateway, a.method, a.exploring, a.decisions) for a in live.snapshot.advice] == [
        ("bravo", "card", True, 1),
        ("bravo", "upi", True, 1),
    ]
    assert live.snapshot.failure_arrivals.names == ("network_timeout",)
    assert live.snapshot.failure_arrivals.sums[-1].tolist() == [[4]]
    assert live.snapshot.lag.rows()[1].tolist() == [[3.0]]

    clock.at += timedelta(seconds=5)
    await database["heartbeats"].update_one({"_id": "i"}, {"$set": {"at": clock.at, "batches": 10}})
    await live.poll()
    assert [worker.batches_per_s for worker in live.snapshot.workers] == [2.0]

    clock.at += timedelta(seconds=15 * 2 + 1)
    await database["heartbeats"].insert_one({"_id": "j", **beat, "stage": "router_advisor", "at": clock.at})
    await live.poll()
    np.testing.assert_array_equal(live.snapshot.lag.rows()[1][-1], [np.nan, 3.0], "a stopped worker tells nothing")


async def test_what_was_done_is_read_every_few_seconds(database: Database) -> None:
    """Pauses, maintenance, models, overrides, experiments and rules, by people and by themselves; nothing twice."""

    def ago(minutes: float) -> datetime:
        return NOW - timedelta(minutes=minutes)

    def entry(minutes: float, what: str, subject: str, **details: Any) -> dict[str, Any]:
        return {"_id": what, "at": ago(minutes), "who": "dana", "what": what, "subject": subject, "details": details}

    await database["audit"].insert_many(
        [
            entry(50, "gateway.paused", "gateway:alpha"),
            entry(45, "gateway.resumed", "gateway:alpha"),
            entry(40, "routing.overridden", "routing:override"),
            entry(35, "model.promoted", "model:failures", version=3),
            entry(30, "experiment.stop", "experiment:first"),
            entry(3, "model.rolled_back", "model:reliability", version=4),
            entry(70, "routing.released", "routing:override"),
            entry(20, "failure_code.corrected", "failure_code:51"),
        ]
    )
    model = {"status": "in_force", "body": b"large"}
    await database["models"].insert_many(
        [
            {"_id": "failures:3", "kind": "failures", "version": 3, "in_force_since": ago(35), **model},
            {"_id": "forest:2", "kind": "forest", "version": 2, "in_force_since": ago(25), **model},
            {
                "_id": "reliability:4",
                "kind": "reliability",
                "version": 4,
                "in_force_since": ago(3),
                **model,
                "served": [
                    {"since": ago(33), "until": ago(27)},
                    {"since": ago(3), "until": None},
                ],
            },
        ]
    )
    pause = {"gateway": "bravo", "who": "dana", "resumed_at": None, "reason": ""}
    await database["gateway_pauses"].insert_many(
        [
            {"_id": "p1", "kind": "maintenance", "starts_at": ago(15), "ends_at": ago(-15), **pause},
            {"_id": "p2", "kind": "maintenance", "starts_at": ago(5), "ends_at": None, **pause, "resumed_at": ago(6)},
            {"_id": "p3", "kind": "pause", "starts_at": ago(5), "ends_at": None, **pause},
        ]
    )
    await keep_rules(database, RuleSet(), ago(12))
    await keep_rules(database, RuleSet(), ago(2))
    allocation = {"_id": "alc", "published_at": ago(10), "experiments": [{"name": "first"}, {"name": "second"}]}
    await database["allocations"].insert_one(allocation)
    clock = Clock(NOW)
    live = LiveFigures(database, gateways=("alpha",), poll_ms=1000, heartbeat_s=2, clock=clock)
    await live.poll()
    told = [(round((NOW - one.at).total_seconds() / 60), one.words, one.who) for one in live.snapshot.actions]
    assert told == [
        (50, "alpha paused", "dana"),
        (45, "alpha resumed", "dana"),
        (40, "routing overridden", "dana"),
        (35, "failures model promoted", "dana"),
        (33, "reliability model in force, version 4", "trainer"),
        (30, "first experiment stop", "dana"),
        (25, "forest model in force, version 2", "trainer"),
        (15, "bravo maintenance begins", "dana"),
        (12, "routing rules changed", "router"),
        (10, "experiments: first, second", "experiment allocator"),
        (3, "reliability model rolled back", "dana"),
    ]
    known = live.snapshot.actions
    await database["audit"].insert_one(entry(-0.01, "gateway.maintenance_planned", "gateway:echo"))
    clock.at += timedelta(seconds=ACTIONS_EVERY_S - 0.5)
    await live.poll()
    assert live.snapshot.actions is known
    clock.at += timedelta(seconds=0.5)
    await live.poll()
    assert live.snapshot.actions[-1].words == "echo maintenance planned"
    await database["audit"].insert_one(entry(-0.02, "gateway.paused", "gateway:a&b=c #1") | {"_id": "nasty"})
    clock.at += timedelta(seconds=ACTIONS_EVERY_S)
    await live.poll()
    assert live.snapshot.actions[-1].words == "a&b=c #1 paused"
    link = urlsplit(live.snapshot.actions[-1].link)
    assert (link.path, parse_qs(link.query)) == ("/audit", {"subject": ["gateway:a&b=c #1"]})
    known = live.snapshot.actions
    clock.at += timedelta(seconds=ACTIONS_EVERY_S)
    await live.poll()
    assert live.snapshot.actions is known


async def test_courses_of_experiments_are_read_bit_by_bit(database: Database) -> None:
    """Every few seconds what is new is added, a broken point is passed over, and what did not change stays the same."""
    told = {"difference": 0.01, "difference_low": -0.02, "difference_high": 0.04, "challenger": "b", "control": "a"}
    report = {"arms": [], "verdict": "", "phase": "first:1", "metric": "authorization_rate", "units": 900, **told}
    goal = {
        "metric": "authorization_rate",
        "arm": "b",
        "value_control": 0.9,
        "value_arm": 0.91,
        "alpha": 0.05,
        "units": 500,
    }
    report["goals"] = [goal | {name: each for name, each in told.items() if name.startswith("difference")}]
    await database["experiment_reports"].insert_one({"_id": "first", "reported_at": NOW, **report})
    bounds = {"challenger": "b", "difference": 0.02, "low": -0.1, "high": 0.2}

    def stored(seconds: float, **fields: Any) -> dict[str, Any]:
        return {"phase": "first:1", "at": NOW + timedelta(seconds=seconds), "units": 100, **bounds} | fields

    points = [stored(-COURSE_POINTS_MAX - 9 + n) for n in range(COURSE_POINTS_MAX + 9)]
    await database["experiment_points"].insert_many([*points, stored(-0.5, low="low")])
    clock = Clock(NOW)
    live = LiveFigures(database, gateways=("alpha",), poll_ms=1000, heartbeat_s=2, clock=clock)
    await live.poll()
    (first,) = live.snapshot.courses
    assert (first.experiment, first.challenger, first.control) == ("first", "b", "a")
    assert len(first.times) == COURSE_POINTS_MAX, "the newest points less the broken one, and the report"
    assert (first.times[-1], first.compared[-1]) == (NOW.timestamp(), 500)

    await database["experiment_points"].insert_one(stored(4.0, compared=600))
    clock.at += timedelta(seconds=COURSES_EVERY_S - 0.5)
    await live.poll()
    assert live.snapshot.courses[0] is first
    clock.at += timedelta(seconds=0.5)
    await live.poll()
    (second,) = live.snapshot.courses
    assert (second.times[-1], second.compared[-1]) == ((NOW + timedelta(seconds=4)).timestamp(), 600)
    before = live.snapshot.courses
    clock.at += timedelta(seconds=COURSES_EVERY_S)
    await live.poll()
    assert live.snapshot.courses is before
    await database["experiment_reports"].delete_many({})
    clock.at += timedelta(seconds=COURSES_EVERY_S)
    await live.poll()
    assert live.snapshot.courses == ()


async def test_a_store_that_is_away_leaves_the_last_figures(database: Database) -> None:
    """While MongoDB does not answer the poller goes on, and the figures are called stale after a while."""
    clock = Clock(NOW)
    live = LiveFigures(database, gateways=("alpha",), poll_ms=100, heartbeat_s=2, clock=clock)
    await live.poll()
    polled_at = live.snapshot.polled_at
    away: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        f"mongodb://127.0.0.1:{free_port()}", serverSelectionTimeoutMS=100
    )
    live._database = live._traffic._database = away["ipa"]
    with pytest.raises(StoreUnavailable):
        await live.poll()
    polling = asyncio.create_task(live.run())
    await asyncio.sleep(0.6)
    assert not polling.done()
    assert live.snapshot.polled_at == polled_at
    assert live.stale_since(clock()) is None
    assert live.stale_since(clock() + 60) == polled_at
    live._database = live._traffic._database = database
    clock.at += timedelta(seconds=60)
    for _ in range(100):
        if live.snapshot.polled_at != polled_at:
            break
        await asyncio.sleep(0.05)
    assert live.stale_since(clock()) is None
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    await away.close()


async def joined(http: aiohttp.ClientSession, dashboard: Dashboard, page: str) -> aiohttp.ClientWebSocketResponse:
    """A browser that has opened a view and taken its document over."""
    (token,) = set(re.findall(r'"token":"([^"]+)"', page))
    socket_ = await http.ws_connect(
        f"{dashboard.address}/live/overview/ws", protocols=["bokeh", token], origin=dashboard.web_origin
    )
    assert "ACK" in (await read(socket_))[0]
    for part in ('{"msgid":"1","msgtype":"PULL-DOC-REQ"}', "{}", "{}"):
        await socket_.send_str(part)
    header, content = await read(socket_)
    assert ("PULL-DOC-REPLY" in header, "num_buffers" in header) == (True, False)
    assert '"name":"status"' in content
    return socket_


async def read(socket_: aiohttp.ClientWebSocketResponse) -> tuple[str, str]:
    """One message: its header and its content."""
    async with asyncio.timeout(20):
        header, _, content = [await socket_.receive_str() for _ in range(3)]
        return header, content


async def test_viewers_share_what_is_drawn_and_cannot_change_it(
    dashboard: Dashboard, http: aiohttp.ClientSession
) -> None:
    """Two browsers get the very same update; what one of them sends is answered and changes nothing for the other."""
    await dashboard.known(http, 0)
    headers = {SESSION_HEADER: signed_session_id(SECRET)}
    pages = []
    for _ in range(2):
        async with http.get(f"{dashboard.address}/live/overview", headers=headers) as answer:
            pages.append(await answer.text())
    first, second = [await joined(http, dashboard, page) for page in pages]
    event = {"kind": "TitleChanged", "title": "mine now"}
    for part in ({"msgid": "2", "msgtype": "PATCH-DOC"}, {}, {"events": [event]}):
        await first.send_json(part)
    seen: list[dict[str, str]] = [{}, {}]
    answered = False
    for _ in range(40):
        for place, socket_ in enumerate((first, second)):
            header, content = await read(socket_)
            if "PATCH-DOC" in header:
                seen[place][json.loads(header)["msgid"]] = content
            answered |= '"OK"' in header
        both = seen[0].keys() & seen[1].keys()
        if answered and both:
            break
    assert both
    assert all(seen[0][message] == seen[1][message] for message in both)
    async with http.get(f"{dashboard.address}/live/overview", headers=headers) as answer:
        assert "mine now" not in await answer.text()
    await asyncio.gather(first.close(), second.close())
