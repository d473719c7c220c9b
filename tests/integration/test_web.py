"""The web process on a real mongod: login, pages, REST, hostile input, and a store that goes away."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from cli.services.mongodb import PrivateMongoDB
from config.settings import load_settings
from messaging.contracts import Anomaly, Segment
from storage.anomalies import record_anomalies
from storage.database import Database, declare
from storage.read_models.experiments import POINTS_SHOWN
from storage.rollups import minute_of
from tests.conftest import eventually
from tests.web_documents import HOSTILE, STORY, fill
from web.app import make_app
from web.keys import DATABASE
from web.routes import API, PAGES

PASSWORD = "correct horse"
Web = TestClient[Any, Any]


async def open_web(mongo_url: str) -> Web:
    """Start the web application on a database of its own."""
    environment = {
        "IPA_MONGO_URL": mongo_url,
        "IPA_STORE__DATABASE": f"test_{secrets.token_hex(6)}",
        "IPA_WEB__ADMIN_PASSWORD": PASSWORD,
        "IPA_DASHBOARD__PORT": "1",
        "IPA_DASHBOARD__SECRET": "s" * 32,
    }
    settings = load_settings(environment)
    client: Web = TestClient(TestServer(make_app(settings)))
    await client.start_server()
    await declare(database_of(client), settings.store)
    return client


def database_of(client: Web) -> Database:
    """The database of a started application."""
    app = client.app
    assert app is not None
    return app[DATABASE]


@pytest.fixture
async def stranger(mongo_url: str) -> AsyncIterator[Web]:
    """A browser that nobody has logged in with."""
    client = await open_web(mongo_url)
    yield client
    database = database_of(client)
    await database.client.drop_database(database.name)
    await client.close()


@pytest.fixture
async def operator(stranger: Web) -> Web:
    """A browser that the operator is logged in with."""
    answer = await log_in(stranger)
    assert answer.status == 303
    return stranger


async def log_in(client: Web, name: str = "operator", password: str = PASSWORD, **more: str) -> ClientResponse:
    """Send the login form as a browser does."""
    form = await (await client.get("/login")).text()
    fields = {"csrf": token_in(form), "name": name, "password": password} | more
    return await client.post("/login", data=fields, allow_redirects=False)


def token_in(page: str) -> str:
    """The form token of a page."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found, page
    return found[1]


async def test_strangers_see_the_login_only(stranger: Web) -> None:
    """Without a cookie pages lead to the login, programs and live views get 401, and unknown addresses tell nothing."""
    pages = [await stranger.get(path, allow_redirects=False) for path in (*PAGES, "/payments/att_1", "/no/such")]
    assert {(page.status, page.headers["Location"].split("?")[0]) for page in pages} == {(303, "/login")}
    others = [
        await stranger.get(path) for path in (*API, "/api/v1/payments/x", "/api/no", "/live/overview", "/live/ws")
    ]
    assert {answer.status for answer in others} == {401}
    assert {answer.content_type for answer in others} == {"application/problem+json"}


async def test_login_leads_back_and_logout_ends_it(stranger: Web) -> None:
    """After the login one is where one wanted to go; after the logout the old cookie opens nothing any more."""
    answer = await log_in(stranger, next="/failures")
    assert (answer.status, answer.headers["Location"]) == (303, "/failures")
    cookie = answer.cookies["ipa_session"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    page = await stranger.get("/settings")
    assert page.status == 200
    refused = await stranger.post("/logout", data={"csrf": "0" * 64}, allow_redirects=False)
    assert refused.status == 403
    left = await stranger.post("/logout", data={"csrf": token_in(await page.text())}, allow_redirects=False)
    assert left.headers["Location"] == "/login"
    stranger.session.cookie_jar.update_cookies({"ipa_session": cookie.value}, URL(str(stranger.make_url("/"))))
    again = await stranger.get("/", allow_redirects=False)
    assert again.status == 303


async def test_wrong_name_and_wrong_password_look_the_same(stranger: Web) -> None:
    """An unknown name and a wrong password get the same page, apart from what was typed."""
    pages = []
    for name in ("operator", "somebody"):
        answer = await log_in(stranger, name=name, password="wrong")
        assert answer.status == 401
        text = (await answer.text()).replace(name, "NAME")
        pages.append(re.sub(r"<time.*?</time>", "", text))
    assert pages[0] == pages[1]


async def test_login_needs_its_form_token(stranger: Web) -> None:
    """The right password without the form's token opens nothing."""
    await stranger.get("/login")
    answer = await stranger.post("/login", data={"name": "operator", "password": PASSWORD}, allow_redirects=False)
    assert (answer.status, "ipa_session" in answer.cookies) == (403, False)


async def test_guessing_is_slowed_down(stranger: Web) -> None:
    """After five wrong passwords even the right one waits, and is told for how long; another name does not."""
    statuses = [(await log_in(stranger, password=f"wrong {number}")).status for number in range(5)]
    assert statuses == [401] * 5
    answer = await log_in(stranger)
    assert answer.status == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert (await log_in(stranger, name="somebody")).status == 401


async def test_token_is_not_stored(operator: Web) -> None:
    """The store knows a digest of the session's token, never the token, and deletes the session when it expires."""
    cookie = operator.session.cookie_jar.filter_cookies(operator.make_url("/"))["ipa_session"].value
    database = database_of(operator)
    stored = await database["web_sessions"].find().to_list()
    assert len(stored) == 1
    assert cookie not in str(stored)
    indexes = await database["web_sessions"].index_information()
    assert [index["expireAfterSeconds"] for index in indexes.values() if "expireAfterSeconds" in index] == [0]


async def test_every_page_answers_on_an_empty_store(operator: Web) -> None:
    """Before the first payment every page and every REST resource answers 200."""
    answers = {path: (await operator.get(path)).status for path in (*PAGES, *API)}
    assert answers == dict.fromkeys((*PAGES, *API), 200)


async def test_every_page_answers_on_a_full_store(operator: Web) -> None:
    """With payments every page and every REST resource answers 200, with the headers that keep a browser safe."""
    await fill(database_of(operator), datetime.now(UTC), attempts=400)
    for path in (*PAGES, *API, f"/payments/{STORY}", "/payments?status=failed", "/payments?q=ord_000001"):
        answer = await operator.get(path)
        assert answer.status == 200, path
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == ("private, no-cache" if path in API else "no-store")


async def test_figures_of_page_and_rest_are_those_stored(operator: Web) -> None:
    """The overview's counts are those of the attempts that lie in the store, gateway by gateway."""
    database = database_of(operator)
    await fill(database, datetime.now(UTC), attempts=400)
    overview = await (await operator.get("/api/v1/overview")).json()
    since = datetime.fromisoformat(overview["since"])
    counted = {
        row["_id"]: row["n"]
        async for row in await database["attempts"].aggregate(
            [{"$match": {"attempted_at": {"$gte": since}}}, {"$group": {"_id": "$gateway", "n": {"$sum": 1}}}]
        )
    }
    assert {row["gateway"]: row["traffic"]["attempts"] for row in overview["gateways"]} == counted
    assert overview["traffic"]["attempts"] == sum(counted.values())
    gateway = max(counted, key=lambda name: counted[name])
    part = await (await operator.get("/api/v1/overview", params={"gateway": gateway})).json()
    assert part["traffic"]["attempts"] == counted[gateway] < overview["traffic"]["attempts"]
    assert [row["gateway"] for row in part["gateways"]] == [gateway]
    shown = await (await operator.get("/", params={"gateway": gateway, "range": "15m"})).text()
    assert f'data-query="range=15m&amp;gateway={gateway}"' in shown
    assert f'href="/trends?range=7d&amp;gateway={gateway}"' in shown
    assert "take out" in shown
    every = await (await operator.get("/api/v1/failures")).json()
    some = await (await operator.get("/api/v1/failures", params={"gateway": gateway})).json()
    of_gateway = {row["category"]: row["gateways"].get(gateway, 0) for row in every["categories"]}
    assert {row["category"]: row["failures"] for row in some["categories"]} == {
        category: count for category, count in of_gateway.items() if count
    }
    assert 0 < some["failures"] < every["failures"]
    page = await (await operator.get("/failures", params={"gateway": gateway, "method": "card"})).text()
    assert f'data-query="range=1h&amp;gateway={gateway}"' in page, "methods of failures are not told apart"
    refused = await operator.get("/", params={"range": "2y"})
    assert (refused.status, "Live views look back 15m or 1h" in await refused.text()) == (400, True)
    page = await (await operator.get("/")).text()
    assert all(f'<th scope="row">{name}</th>' in page for name in counted)


async def test_money_at_risk_is_told_with_its_interval(operator: Web) -> None:
    """On the overview of all that is open, and at each anomaly."""
    await fill(database_of(operator), datetime.now(UTC), attempts=5)
    overview = await (await operator.get("/")).text()
    assert "<strong>INR 18,345</strong> a minute at risk, INR 12,000 to INR 25,000" in overview
    for address in ("/anomalies", "/anomalies/ano_1"):
        text = await (await operator.get(address)).text()
        assert '<span class="interval">INR 12,000 to INR 25,000</span>' in text
    answer = await (await operator.get("/api/v1/overview")).json()
    risk = {"currency": "INR", "per_minute_minor": 1_834_500.0, "low": 1_200_000.0, "high": 2_500_000.0, "anomalies": 1}
    assert answer["at_risk"] == [risk]


async def test_search_finds_attempts_and_orders(operator: Web) -> None:
    """An attempt's id leads to its story, an order's id to its attempts, anything else to a kind 404."""
    await fill(database_of(operator), datetime.now(UTC), attempts=20)
    found = await operator.get("/payments", params={"q": f" {STORY} "}, allow_redirects=False)
    assert (found.status, found.headers["Location"]) == (303, f"/payments/{STORY}")
    order = await (await operator.get("/payments", params={"q": "ord_000001"})).text()
    assert all(name in order for name in ("att_000002", "att_000003", STORY))
    unknown = await operator.get("/payments", params={"q": "att_nope"})
    assert (unknown.status, "No such attempt or order" in await unknown.text()) == (404, True)


async def test_the_failure_map_is_a_recount(operator: Web) -> None:
    """Every cell of the map holds what a count of single attempts gives, and the page shows it."""
    database = database_of(operator)
    await fill(database, datetime.now(UTC), attempts=400)
    shown = await (await operator.get("/api/v1/failures/map")).json()
    since = datetime.fromisoformat(shown["since"])
    settled = {"$in": ["succeeded", "failed", "reversed"]}
    counted = {
        (row["_id"]["gateway"], row["_id"]["issuer"]): (row["succeeded"], row["n"])
        async for row in await database["attempts"].aggregate(
            [
                {"$match": {"attempted_at": {"$gte": since}, "status": settled}},
                {
                    "$group": {
                        "_id": {"gateway": "$gateway", "issuer": "$issuer"},
                        "n": {"$sum": 1},
                        "succeeded": {"$sum": {"$cond": [{"$eq": ["$status", "succeeded"]}, 1, 0]}},
                    }
                },
            ]
        )
    }
    told = {(one["gateway"], one["issuer"]): (one["now"]["succeeded"], one["now"]["settled"]) for one in shown["cells"]}
    assert told == counted
    page = await (await operator.get("/failures")).text()
    assert "Authorization by issuer and gateway" in page
    assert 'class="n heat-' in page


async def test_an_anomaly_names_earlier_ones_like_it(operator: Web) -> None:
    """The same segment first, then what shares a part of it; never another signal, a later one, or itself."""
    database, now = database_of(operator), datetime.now(UTC)

    def told(number: int, minutes_ago: int, segment: Segment, signal: str = "success_rate") -> Anomaly:
        at = now - timedelta(minutes=minutes_ago)
        return Anomaly(
            anomaly_id=f"anm_{number}", segment=segment, signal=signal, severity="major",  # type: ignore[arg-type]
            started_at=at, detected_at=at, updated_at=at, closed_at=at + timedelta(minutes=9), observed=0.4,
            expected=0.9, expected_low=0.88, expected_high=0.92, attempts_seen=90, score=30.0,
            closed_because="well again",
        )  # fmt: skip

    bank = Segment(gateway="bravo", issuer="harbour_bank")
    stored = [
        told(1, 500, bank), told(2, 400, Segment(gateway="bravo")), told(3, 300, Segment(issuer="harbour_bank")),
        told(4, 200, Segment(gateway="delta")), told(5, 150, bank, "latency"), told(6, 100, bank), told(7, 50, bank),
    ]  # fmt: skip
    await record_anomalies(database, stored, [], now=now)
    answer = await operator.get("/api/v1/anomalies/anm_6/similar")
    assert [one["anomaly"]["anomaly_id"] for one in (await answer.json())["items"]] == ["anm_1", "anm_3", "anm_2"]
    page = await (await operator.get("/anomalies/anm_6")).text()
    assert "Earlier ones like this" in page
    assert "well again" in page
    assert "None is stored" in await (await operator.get("/anomalies/anm_1")).text()
    assert (await operator.get("/api/v1/anomalies/nobody/similar")).status == 404


async def test_an_anomaly_says_what_routing_around_it_brought(operator: Web) -> None:
    """The REST interface and the page tell the same, from the stored sums; where there is no answer, they say why."""
    database, now = database_of(operator), datetime.now(UTC)
    start = minute_of(now) - timedelta(minutes=10)

    def told(name: str, segment: Segment) -> Anomaly:
        return Anomaly(
            anomaly_id=name, segment=segment, signal="success_rate", severity="major", started_at=start,
            detected_at=start, updated_at=start, observed=0.1, expected=0.9, expected_low=0.88, expected_high=0.92,
            attempts_seen=90, score=30.0,
        )  # fmt: skip

    def minute(at: datetime, gateway: str, made: int, succeeded: int) -> dict[str, Any]:
        key = {"minute": at, "gateway": gateway, "method": "card", "issuer": "kite_bank", "currency": "INR", "slot": 1}
        return {"_id": key, **key, "attempts": made, "first_attempts": made, "first_succeeded": succeeded,
                "succeeded": succeeded, "failed": made - succeeded, "amount_minor": 100 * made}  # fmt: skip

    before = start - timedelta(minutes=30)
    rows = [minute(before, "alpha", 300, 270), minute(before, "bravo", 700, 630)]
    rows += [minute(start + timedelta(minutes=1), *row) for row in (("alpha", 20, 2), ("bravo", 980, 882))]
    rows.append(minute(start, "alpha", 5_000, 5_000))  # the minute in which it began is on neither side
    await database["attempt_rollups"].insert_many(rows)
    stored = [told("anm_1", Segment(gateway="alpha")), told("anm_2", Segment(issuer="kite_bank")),
              told("anm_3", Segment(gateway="alpha", network="visa"))]  # fmt: skip
    await record_anomalies(database, stored, [], now=now)
    answer = await (await operator.get("/api/v1/anomalies/anm_1/saved")).json()
    assert (answer["moved"], answer["currency"], answer["why_not"]) == (280, "INR", None)
    assert answer["payments"]["estimate"] == pytest.approx(280 * 0.8)
    page = await (await operator.get("/anomalies/anm_1")).text()
    assert "What routing around it brought" in page
    assert "224</span> payments saved" in page
    assert "nowhere else to go" in await (await operator.get("/anomalies/anm_2")).text()
    assert "not kept by network" in await (await operator.get("/anomalies/anm_3")).text()
    assert (await operator.get("/api/v1/anomalies/nobody/saved")).status == 404


async def test_payments_are_filtered_and_paged(operator: Web) -> None:
    """Page and REST show what fits every filter, all of it over the pages, and say what they cannot read."""
    database = database_of(operator)
    await fill(database, datetime.now(UTC), attempts=400)
    wanted = {"gateway": "bravo", "status": "failed", "amount_minor": {"$gte": 10_000}}
    stored = {found["_id"] async for found in database["attempts"].find(wanted, {"_id": True})}
    assert stored
    asked = {"gateway": "bravo", "status": "failed", "amount_minor_min": "10000", "limit": "7"}
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        part = await (await operator.get("/api/v1/payments", params=asked | cursor)).json()
        seen += [one["_id"] for one in part["items"]]
        if part["next_cursor"] is None:
            break
        cursor = {"cursor": part["next_cursor"]}
    assert (len(seen), set(seen)) == (len(stored), stored)
    filters = {"gateway": "bravo", "status": "failed", "amount_min": "100.00", "currency": "INR", "since": "now-1d"}
    page = await (await operator.get("/payments", params=filters)).text()
    shown = set(re.findall(r'title="(att_[^"]+)"', page))
    assert shown
    assert shown <= stored
    assert "Filters in force" in page
    everything = await (await operator.get("/payments")).text()
    older = re.search(r'href="(/payments\?[^"]+)" rel="next"', everything)
    assert older is not None
    next_page = await (await operator.get(older[1].replace("&amp;", "&"))).text()
    assert not set(re.findall(r'title="(att_[^"]+)"', everything)) & set(re.findall(r'title="(att_[^"]+)"', next_page))
    odd = [{"amount_min": text} for text in ("ten", "NaN", "sNaN", "1e999999999", "Infinity", "-1")]
    odd += [{"since": "yesterday"}, {"since": "0001-01-01T00:00:00+14:00"}, {"until": "soon"}]
    far = await operator.get("/api/v1/payments", params={"since": "0001-01-01T00:00:00+14:00"})
    assert far.status == 422
    crafted = await operator.get("/payments?before=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwiYSJd")
    assert crafted.status == 200
    for wrong in odd:
        words = "Amount from" if "amount_min" in wrong else "Since" if "since" in wrong else "Until"
        answer = await operator.get("/payments", params=wrong)
        assert answer.status == 400
        assert words in await answer.text()
    nothing = await (await operator.get("/payments", params={"issuer": '{"$ne": null}', "before": "x"})).text()
    assert "No attempt fits these filters" in nothing


async def test_story_tells_everything(operator: Web) -> None:
    """The story holds the request, the decision with all its reasons, each report, the failure and the anomaly."""
    await fill(database_of(operator), datetime.now(UTC), attempts=20)
    page = await (await operator.get(f"/payments/{STORY}")).text()
    wanted = [
        "Route requested", "Route advised: bravo", "routing-policy", "82.0 %", "failed for this order already",
        "Expired",
        "Sent to bravo", "Failure classified: issuer unavailable", "other gateway", "97 %", "Your bank did not answer",
        "Anomaly detected", "known when this attempt was made", "Authorization fell at once for all issuers",
    ]  # fmt: skip
    assert [words for words in wanted if words not in page] == []
    story = await (await operator.get(f"/api/v1/payments/{STORY}")).json()
    assert [report["status"] for report in story["attempt"]["history"]] == ["pending", "failed"]
    assert story["failure"]["category"] == "issuer_unavailable"


async def test_hostile_strings_stay_strings(operator: Web) -> None:
    """A script in every string that a checkout can send stands on the pages as text only."""
    await fill(database_of(operator), datetime.now(UTC), attempts=300, text=HOSTILE)
    seen = 0
    for path in (*PAGES, f"/payments/{STORY}", "/payments?status=failed"):
        page = await (await operator.get(path)).text()
        assert "<script>" not in page
        assert "<img src=x" not in page
        assert "49" not in re.findall(r"onerror=window\.hacked=1&gt;&#34;&#39;(\S{2})", page)
        seen += page.count("&lt;script&gt;window.hacked=1")
    assert seen > 50


@pytest.mark.parametrize(
    "wanted",
    ['{"$ne": null}', '{"$gt": ""}', "[$ne]", "' || '1'=='1", "$where", "\x00", "a" * 5_000, HOSTILE, "../../etc"],
)
async def test_operators_in_ids_are_just_ids(operator: Web, wanted: str) -> None:
    """A database operator, a path or a script in place of an id finds nothing and breaks nothing."""
    await fill(database_of(operator), datetime.now(UTC), attempts=5)
    searched = await operator.get("/payments", params={"q": wanted})
    assert searched.status == 404
    assert "<script>window" not in await searched.text()
    odd = await operator.get("/payments", params={"q[$ne]": "", "status[$ne]": "x", "status": '{"$ne":1}'})
    assert odd.status == 200
    path = URL(str(operator.make_url("/api/v1/payments/"))).joinpath(wanted.replace("/", "|")[:2_000])
    answer = await operator.session.get(path)
    status = 400 if len(wanted) > 80 else 404
    assert (answer.status, answer.content_type) == (status, "application/problem+json")


async def test_errors_are_problem_documents_for_programs_and_pages_for_people(operator: Web) -> None:
    """404, 405 and 413 come as problem+json under /api and as a designed page elsewhere; HTML for whoever wants it."""
    missing = await operator.get("/api/v1/nothing")
    assert (missing.status, missing.content_type) == (404, "application/problem+json")
    problem = await missing.json()
    assert (problem["status"], problem["instance"], problem["type"]) == (404, "/api/v1/nothing", "about:blank")
    method = await operator.post("/api/v1/overview", data={})
    assert (method.status, method.content_type, "GET" in method.headers["Allow"]) == (
        405,
        "application/problem+json",
        True,
    )
    page = await operator.get("/nothing", headers={"Accept": "text/html"})
    assert (page.status, page.content_type, "Nothing here" in await page.text()) == (404, "text/html", True)
    large = await operator.post("/logout", data={"csrf": "x" * 70_000})
    assert large.status == 413


async def test_theme_cookie_cannot_break_out(operator: Web) -> None:
    """The theme comes from a cookie, and only known themes reach the page."""
    for sent, shown in (("dark", "dark"), ('"><script>', "auto")):
        page = await (await operator.get("/settings", headers={"Cookie": await cookie_header(operator, sent)})).text()
        assert f'<html lang="en" data-theme="{shown}">' in page


async def cookie_header(client: Web, theme: str) -> str:
    """A cookie header with the login and any theme."""
    token = client.session.cookie_jar.filter_cookies(client.make_url("/"))["ipa_session"].value
    client.session.cookie_jar.clear()
    client.session.cookie_jar.update_cookies({"ipa_session": token}, URL(str(client.make_url("/"))))
    return f"ipa_session={token}; ipa_theme={theme}"


async def test_live_view_says_that_it_is_restarting(operator: Web) -> None:
    """Without the dashboard process a live view is a page that waits for it; strange origins get no socket."""
    view = await operator.get("/live/overview?theme=dark")
    assert (view.status, view.headers["Retry-After"]) == (503, "2")
    text = await view.text()
    assert "The live view is restarting" in text
    assert 'data-theme="dark"' in text
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "https://evil.example"}
    assert (await operator.get("/live/overview/ws", headers=headers)).status == 403


async def test_settings_show_no_secret(operator: Web) -> None:
    """The settings page hides passwords and secrets."""
    page = await (await operator.get("/settings")).text()
    assert PASSWORD not in page
    assert "s" * 32 not in page
    assert page.count("***") >= 2


async def test_store_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """Without MongoDB pages and REST say so with 503 and no stack trace; when it is back they work by themselves."""
    async with PrivateMongoDB(tmp_path, cache_gb=0.25) as node:
        client = await open_web(node.url)
        try:
            await log_in(client)
            assert [(await client.get(path)).status for path in ("/readyz", "/")] == [200, 200]
            await node.stop()
            page, program, ready, alive = await asyncio.gather(
                *(client.get(path) for path in ("/", "/api/v1/overview", "/readyz", "/livez"))
            )
            assert [answer.status for answer in (page, program, ready, alive)] == [503, 503, 503, 200]
            text = await page.text()
            assert "The store does not answer" in text
            assert "Traceback" not in text
            assert program.content_type == "application/problem+json"
            await node.start()

            async def works() -> bool:
                return (await client.get("/")).status == 200

            await eventually(works, within_s=20)
        finally:
            await client.close()


async def test_the_difference_names_its_arms_right_whatever_their_order(operator: Web) -> None:
    """Challenger minus control, as the report says; the order of the arms in the file says nothing."""
    await fill(database_of(operator), datetime.now(UTC), attempts=5)
    text = await (await operator.get("/experiments")).text()
    assert 'adaptive \u2212 control: <span class="figure">+3.80 points</span>' in text


async def test_every_number_of_an_experiment_names_what_it_rests_on(operator: Web) -> None:
    """The difference is of mature orders, also in its course; rates of the arms are of settled attempts."""
    await fill(database_of(operator), datetime.now(UTC), attempts=5)
    text = " ".join((await (await operator.get("/experiments")).text()).split())
    card = text.split('id="experiment-1"')[1].split("</section>")[0]
    assert "n = 3,871 mature orders of these two arms" in card
    assert "4,647" not in card, "settled attempts of both arms are not what the difference rests on"
    assert ">n, mature orders</th>" in card
    assert ">Settled attempts n</th>" in card
    assert "the difference is of mature orders, those at least 30 minutes old" in card


async def test_an_experiment_shows_how_its_difference_moved(operator: Web) -> None:
    """The newest points stand in a table of their own, newest first; the resource that it links to has all of them."""
    database = database_of(operator)
    await fill(database, datetime.now(UTC), attempts=5)
    text = await (await operator.get("/experiments")).text()
    table = text.split('<details id="course-routing-policy">')[1].split("</details>")[0]
    assert table.count("<tr>") == 1 + POINTS_SHOWN
    story = await (await operator.get("/api/v1/experiments/routing-policy")).json()
    assert '<a href="/api/v1/experiments/routing-policy">' in table
    assert len(story["points"]) == await database["experiment_points"].count_documents({"phase": "routing-policy:1"})
    newest = story["points"][-1]
    assert f"{newest['compared']:,}" in table.split("<tbody>")[1].split("</tr>")[0]
    assert f"{newest['units']:,}" not in table
    standings = (await (await operator.get("/api/v1/experiments")).json())["standings"]
    assert standings[0]["newest_points"] == story["points"][: -POINTS_SHOWN - 1 : -1]
    await database["experiment_points"].delete_many({})
    await asyncio.sleep(1.1)
    assert "Not enough data yet" in await (await operator.get("/experiments")).text()


@pytest.mark.parametrize(
    ("guesses", "category", "chosen"),
    [
        (["limit_exceeded", "do_not_honor"], "unknown", "limit_exceeded"),
        ([], "do_not_honor", "do_not_honor"),
        ([], "unknown", ""),
    ],
)
async def test_a_code_is_confirmed_as_what_is_shown(
    operator: Web, guesses: list[str], category: str, chosen: str
) -> None:
    """The meaning that a confirmation would say is the guess beside it; where there is none, one has to be chosen."""
    now = datetime.now(UTC)
    failure = {
        "gateway": "alpha", "failure_code": "X-9", "code_key": "alpha|X-9", "attempted_at": now, "withdrawn": False,
        "evidence": "text_model", "category": category, "confidence": 0.4, "guesses": guesses,
    }  # fmt: skip
    await database_of(operator)["failures"].insert_one({"_id": "att_new"} | failure)
    page = await (await operator.get("/codes")).text()
    choice = page.split('<select name="category"')[1].split("</select>")[0]
    assert " required" in choice.split(">")[0]
    marked = re.findall(r'<option value="([^"]*)" selected>', choice)
    first = re.findall(r'<option value="([^"]*)"', choice)[0]
    assert (marked or [first]) == [chosen]


async def test_the_shoppers_page_draws_every_order_once(operator: Web) -> None:
    """The picture's flows, the table and the resource behind them tell the same numbers."""
    await fill(database_of(operator), datetime.now(UTC), attempts=5)
    text = await (await operator.get("/shoppers")).text()
    picture = text.split('<svg class="sankey"')[1].split("</svg>")[0]
    flows = [int(n.replace(",", "")) for n in re.findall(r'<path class="flow[^>]*><title>[^<]*: n ([\d,]+), ', picture)]
    behaviour = await (await operator.get("/api/v1/shoppers/behaviour")).json()
    orders = behaviour["funnel"]["started"]
    assert orders == 600
    assert sum(flows) == 2 * orders == 2 * sum(path["orders"] for path in behaviour["paths"])
    assert f"n = {orders} orders" in text


async def test_the_routing_page_tells_who_decided_and_what_learning_costs(operator: Web) -> None:
    """Counts by policy and rule, and what was given up where another gateway than the best was tried."""
    database, now = database_of(operator), datetime.now(UTC)

    def decision(number: int, policy: str, rule: str | None, *, exploring: bool) -> dict[str, Any]:
        tried = {"gateway": "bravo", "expected_success": 0.7, "success_low": 0.6, "success_high": 0.8, "reason": "r",
                 "propensity": 0.1}  # fmt: skip
        best = tried | {"gateway": "alpha", "expected_success": 0.9, "propensity": 0.9}
        advice = {"advised_at": now, "ranking": [tried, best] if exploring else [best, tried], "policy": policy,
                  "reason": "r", "exploring": exploring} | ({"rule": rule} if rule else {})  # fmt: skip
        asked = {"request_id": f"r{number}", "order_id": f"o{number}", "method": "card", "amount_minor": 10_000,
                 "currency": "INR", "requested_at": now}  # fmt: skip
        return {"_id": f"dec_{number}", "decided_at": now, "request": asked, "advice": advice}

    rows = [decision(n, "adaptive", None, exploring=n < 5) for n in range(15)]
    rows += [decision(n, "rules", "large_cards", exploring=False) for n in range(15, 20)]
    await database["decisions"].insert_many(rows)
    shown = await (await operator.get("/api/v1/routing")).json()
    assert [(one["policy"], one["rule"], one["decisions"]) for one in shown["deciders"]] == [
        ("adaptive", None, 15), ("rules", "large_cards", 5),
    ]  # fmt: skip
    (spend,) = shown["spend"]
    assert (spend["currency"], spend["decisions"], spend["explored"]) == ("INR", 20, 5)
    assert spend["payments"] == pytest.approx(5 * 0.2)
    assert spend["amount_minor"] == 10_000
    page = await (await operator.get("/routing")).text()
    assert "large_cards" in page
    assert "What learning costs" in page
