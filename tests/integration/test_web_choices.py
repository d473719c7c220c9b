"""What is chosen on pages and over REST has the figures of a recount of single attempts and failures."""

from __future__ import annotations

import csv
import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storage.database import Database
from storage.read_models import gateways, single_failures
from tests.integration.test_web import Web, database_of, operator, stranger  # noqa: F401  fixtures
from tests.web_documents import fill

ARM = "routing-policy/control"


async def in_arm(database: Database, attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose decision fell in the arm."""
    arms = {decision["_id"]: decision["advice"]["arm"] async for decision in database["decisions"].find()}
    return [attempt for attempt in attempts if arms[attempt["decision_id"]] == "control"]


async def test_the_overview_of_a_choice_is_a_recount(operator: Web) -> None:  # noqa: F811
    """Country, amount and arm together: attempts, rate, money, first attempts, and the time before."""
    database = database_of(operator)
    await fill(database, datetime.now(UTC), attempts=900)
    query = {"country": "IN", "amount": "200-1000", "arm": ARM, "currency": "INR"}
    answer = await (await operator.get("/api/v1/overview", params=query)).json()
    since = datetime.fromisoformat(answer["since"])
    fitting: dict[str, Any] = {"country": "IN", "currency": "INR", "amount_minor": {"$gte": 20_000, "$lt": 100_000}}
    fitting["attempted_at"] = {"$gte": since - timedelta(minutes=answer["window_minutes"])}
    everything = await in_arm(database, await database["attempts"].find(fitting).to_list())
    wanted = [attempt for attempt in everything if attempt["attempted_at"] >= since]
    settled = [one for one in wanted if one["status"] in ("succeeded", "failed", "reversed")]
    first = [one for one in settled if one["attempt_number"] == 1]
    traffic = answer["traffic"]
    assert traffic["attempts"] == len(wanted) > 20
    assert answer["before"]["attempts"] == len(everything) - len(wanted) > 20
    assert traffic["authorization"]["settled"] == len(settled)
    assert traffic["authorization"]["succeeded"] == sum(one["status"] == "succeeded" for one in settled)
    assert answer["first_attempts"]["settled"] == len(first)
    assert answer["first_attempts"]["succeeded"] == sum(one["status"] == "succeeded" for one in first)
    assert traffic["volume"] == [{"currency": "INR", "amount_minor": sum(one["amount_minor"] for one in wanted)}]
    assert {row["gateway"]: row["traffic"]["attempts"] for row in answer["gateways"]} == Counter(
        one["gateway"] for one in wanted
    )
    page = await (await operator.get("/", params=query)).text()
    assert f'<p class="big">{len(wanted)}</p>' in page
    assert page.count('class="unseen">take out') == 4


@pytest.mark.parametrize("chosen", ["country=IN", "amount=1000-up", f"arm={ARM}"])
async def test_first_attempts_of_a_narrow_choice_are_of_the_whole_time(
    operator: Web,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    chosen: str,
) -> None:
    """However few of the newest attempts would be looked at: each of the window has been read, and counts."""
    database = database_of(operator)
    await fill(database, datetime.now(UTC), attempts=600)
    monkeypatch.setattr(gateways, "FIRST_ATTEMPTS_MAX", 20)
    answer = await (await operator.get(f"/api/v1/overview?{chosen}")).json()
    query: dict[str, Any] = {"attempted_at": {"$gte": datetime.fromisoformat(answer["since"])}, "attempt_number": 1}
    query |= {"country=IN": {"country": "IN"}, "amount=1000-up": {"amount_minor": {"$gte": 100_000}}}.get(chosen, {})
    query["status"] = {"$in": ["succeeded", "failed", "reversed"]}
    wanted = await database["attempts"].find(query).to_list()
    if chosen.startswith("arm"):
        wanted = await in_arm(database, wanted)
    assert answer["first_attempts"]["settled"] == len(wanted) > 20
    assert answer["first_attempts"]["succeeded"] == sum(one["status"] == "succeeded" for one in wanted)
    assert answer["first_attempts_since"] == answer["since"]
    assert "attempts of all" not in await (await operator.get(f"/?{chosen}")).text()


async def test_since_when_first_attempts_are_counted_is_said(
    operator: Web,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a busy system the newest attempts are counted; the figure says since when these are, and keeps its word."""
    database = database_of(operator)
    await fill(database, datetime.now(UTC), attempts=600)
    whole = await (await operator.get("/api/v1/overview")).json()
    assert whole["first_attempts_since"] == whole["since"]
    monkeypatch.setattr(gateways, "FIRST_ATTEMPTS_MAX", 100)
    answer = await (await operator.get("/api/v1/overview?gateway=alpha")).json()
    since = datetime.fromisoformat(answer["first_attempts_since"])
    newest = await database["attempts"].find().sort("attempted_at", -1).limit(100).to_list()
    assert datetime.fromisoformat(answer["since"]) < since <= newest[-1]["attempted_at"]
    wanted = [one for one in newest if one["gateway"] == "alpha" and one["attempt_number"] == 1]
    settled = [one for one in wanted if one["status"] in ("succeeded", "failed", "reversed")]
    assert answer["first_attempts"]["settled"] == len(settled) > 10
    page = await (await operator.get("/?gateway=alpha")).text()
    assert "attempts of all" in page
    assert since.isoformat(timespec="milliseconds").replace("+00:00", "") in page


async def test_failures_of_a_choice_are_a_recount(operator: Web) -> None:  # noqa: F811
    """Country and amount of failures; withdrawn ones do not count; the raw codes are of the same ones."""
    database = database_of(operator)
    await fill(database, datetime.now(UTC), attempts=900)
    await database["failures"].update_many({"country": "IN", "gateway": "alpha"}, {"$set": {"withdrawn": True}})
    query = [("country", "IN"), ("amount", "1000-up")]
    answer = await (await operator.get("/api/v1/failures", params=query)).json()
    fitting = {"country": "IN", "amount_minor": {"$gte": 100_000}, "withdrawn": False}
    since = datetime.fromisoformat(answer["since"])
    wanted = [one async for one in database["failures"].find(fitting) if one["attempted_at"] >= since]
    assert answer["failures"] == answer["codes_from"] == len(wanted) > 4
    assert {row["category"]: row["failures"] for row in answer["categories"]} == Counter(
        one["category"] for one in wanted
    )
    assert "alpha" not in {gateway for row in answer["categories"] for gateway in row["gateways"]}
    page = await (await operator.get("/failures", params=[*query, ("arm", ARM)])).text()
    assert page.count('class="unseen">take out') == 2
    assert "method, issuer and arm do not apply" in page


async def test_too_many_failures_are_told(
    operator: Web,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the bound the page says so and keeps the filters; no table pretends to be whole."""
    await fill(database_of(operator), datetime.now(UTC), attempts=200)
    monkeypatch.setattr(single_failures, "ATTEMPTS_MAX", 5)
    answer = await operator.get("/failures?country=IN")
    text = await answer.text()
    assert (answer.status, "more than 5 attempts" in text, "take out" in text) == (400, True, True)
    assert 'id="categories-title"' not in text
    assert (await operator.get("/failures?gateway=alpha")).status == 200


async def test_trends_over_rest_are_those_of_the_page(operator: Web) -> None:  # noqa: F811
    """The same address gives the same figures as the CSV; several names of a kind count together."""
    database = database_of(operator)
    await fill(database, datetime.now(UTC), attempts=400)
    query = [("from", "now-2h"), ("to", "now"), ("by", "method"), ("country", "IN"), ("country", "DE"), ("arm", ARM)]
    answer = await operator.get("/api/v1/trends", params=query)
    assert answer.status == 200
    history = await answer.json()
    everything = await in_arm(database, await database["attempts"].find({"country": {"$in": ["IN", "DE"]}}).to_list())
    assert history["total"]["attempts"] == len(everything) > 80
    text = await (await operator.get("/trends.csv", params=query)).text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sum(int(row["attempts"]) for row in rows if row["method"] == "total") == len(everything)
    assert {line["name"]: line["total"]["attempts"] for line in history["lines"]} == Counter(
        one["method"] for one in everything
    )
    for bad in ("country=in", "range=2y", "from=yesterday", "from=now-30d", "by=country", "range=1h&range=6h"):
        assert (await operator.get(f"/api/v1/trends?{bad}")).status == 400, bad
    for path in ("/payments?country=india", "/payments?country=IN&amount_min=200&currency=INR"):
        shown = await operator.get(path)
        assert (shown.status, "two capital letters" in await shown.text()) == (
            (400, True) if "india" in path else (200, False)
        )


@pytest.mark.parametrize("bad", ["country=in", "country=%24ne", "amount=7", "amount=1000+", "arm=control", "arm=%00"])
async def test_what_does_not_fit_is_no_failure_of_ours(operator: Web, bad: str) -> None:  # noqa: F811
    """The interface answers 400 with a problem document, pages say what is wrong."""
    answer = await operator.get(f"/api/v1/overview?{bad}")
    assert (answer.status, answer.content_type) == (400, "application/problem+json")
    page = await operator.get(f"/?{bad}")
    assert (page.status, "Everything of the last hour is shown" in await page.text()) == (400, True)
