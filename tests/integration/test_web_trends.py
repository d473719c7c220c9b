"""Trends: any time range and filter gives the figures of a recount, in the page, in the CSV, and in memory."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import msgspec
import pytest

from storage.database import Database
from storage.read_models import single_attempts
from storage.read_models.amount_bands import AMOUNT_BANDS
from storage.read_models.choices_seen import ChoicesSeen
from storage.read_models.history import HistoryQuery, read_history
from storage.read_models.history_cube import HistoryCube, read_steps, step_of
from storage.read_models.replay import read_moment
from tests.integration.test_web import Web, database_of, operator, stranger  # noqa: F401  fixtures
from tests.web_documents import HOSTILE, fill

SHOWN_TIMES = r'minutes-title">Minute by minute.*?datetime="([^"]+)".*?datetime="([^"]+)"'


async def test_figures_of_any_range_are_those_of_a_recount(operator: Web) -> None:  # noqa: F811
    """Short ranges come by the minute, long ones from memory; both equal what the attempts say, filters included."""
    now = datetime.now(UTC)
    database = database_of(operator)
    await fill(database, now, attempts=400)
    cube = HistoryCube(database, lambda: now)
    await cube._read_all()
    until = step_of(now) + timedelta(minutes=10)
    for length, only in (
        (timedelta(hours=1), ()),
        (timedelta(hours=24), ()),
        (timedelta(hours=24), ("alpha", "bravo")),
    ):
        history = await read_history(
            database, cube, HistoryQuery(since=until - length, until=until, by="method", gateway=only)
        )
        wanted = {"attempted_at": {"$gte": until - length, "$lt": until}}
        if only:
            wanted["gateway"] = {"$in": list(only)}  # type: ignore[assignment]
        attempts = await database["attempts"].find(wanted).to_list()
        settled = [one for one in attempts if one["status"] in ("succeeded", "failed", "reversed")]
        assert history.total.attempts == len(attempts) > 0
        assert history.total.authorization.settled == len(settled)
        assert history.total.authorization.succeeded == sum(one["status"] == "succeeded" for one in settled)
        assert history.total.amount_minor == sum(one["amount_minor"] for one in attempts)
        assert {line.name: line.total.attempts for line in history.lines} == {
            name: sum(one["method"] == name for one in attempts) for name in {one["method"] for one in attempts}
        }
        assert sum(point.figures.attempts for point in history.total_points) == len(attempts)
        assert all(history.since <= point.at < history.until for point in history.total_points)


async def test_the_time_before_is_compared(operator: Web) -> None:  # noqa: F811
    """The range of the same length before is counted apart, and laid over the range."""
    now = datetime.now(UTC)
    database = database_of(operator)
    await fill(database, now, attempts=400)
    middle = now.replace(second=0, microsecond=0) - timedelta(minutes=15)
    query = HistoryQuery(since=middle, until=middle + timedelta(minutes=16), by="all")
    history = await read_history(database, HistoryCube(database), query)
    minutes = await read_steps(database, middle - timedelta(minutes=16), middle, 60)
    assert history.before.attempts == sum(int(sums[0]) for _, _, sums in minutes) > 0
    assert all(query.since <= point.at < query.until for point in history.before_points)


async def recounted(database: Database, since: datetime, until: datetime, arm: str, **fields: Any) -> list[Any]:
    """The attempts of an arm with such fields, looked up one by one."""
    found = []
    async for attempt in database["attempts"].find({"attempted_at": {"$gte": since, "$lt": until}}):
        decision = await database["decisions"].find_one({"_id": attempt["decision_id"]})
        assert decision is not None
        is_there = f"{decision['advice']['experiment']}/{decision['advice']['arm']}" == arm
        if is_there and all(attempt.get(name) == value for name, value in fields.items()):
            found.append(attempt)
    return found


async def test_country_and_arm_give_the_figures_of_a_recount(operator: Web) -> None:  # noqa: F811
    """What only single attempts tell has the same figures, lines and time before as what the sums tell."""
    now = datetime.now(UTC)
    database = database_of(operator)
    await fill(database, now, attempts=500)
    arm = "routing-policy/adaptive"
    middle = now.replace(second=0, microsecond=0) - timedelta(minutes=14)
    query = HistoryQuery(
        since=middle, until=middle + timedelta(minutes=16), by="gateway", country=("IN",), currency=("INR",), arm=(arm,)
    )
    history = await read_history(database, HistoryCube(database), query)
    wanted = await recounted(database, query.since, query.until, arm, country="IN", currency="INR")
    settled = [one for one in wanted if one["status"] in ("succeeded", "failed", "reversed")]
    total = history.total
    assert total.attempts == len(wanted) > 30
    assert (total.authorization.settled, total.authorization.succeeded) == (
        len(settled),
        sum(one["status"] == "succeeded" for one in settled),
    )
    assert total.amount_minor == sum(one["amount_minor"] for one in wanted)
    assert {line.name: line.total.attempts for line in history.lines} == Counter(one["gateway"] for one in wanted)
    assert {point.at: point.figures.attempts for point in history.total_points} == Counter(
        one["attempted_at"].replace(second=0, microsecond=0) for one in wanted
    )
    before = await recounted(
        database, query.since - timedelta(minutes=16), query.since, arm, country="IN", currency="INR"
    )
    assert history.before.attempts == len(before) > 10
    alone = await read_history(database, HistoryCube(database), msgspec.structs.replace(query, compare=False))
    assert (alone.total, alone.before.attempts) == (total, 0)


async def test_all_amounts_together_are_what_the_sums_hold(operator: Web) -> None:  # noqa: F811
    """Over minutes, and over steps that begin anywhere, every figure but the names is that of the sums."""
    now = datetime.now(UTC)
    database = database_of(operator)
    await fill(database, now, attempts=300)
    until = step_of(now) + timedelta(minutes=10)
    cube = HistoryCube(database, lambda: now)
    await cube._read_all()
    for length in (timedelta(hours=1), timedelta(hours=24)):
        query = HistoryQuery(since=until - length, until=until, by="currency")
        summed = await read_history(database, cube, query)
        single = await read_history(database, cube, msgspec.structs.replace(query, amount=tuple(AMOUNT_BANDS)))
        apart = {"names": {}, "known_from": None}
        assert msgspec.structs.replace(single, **apart) == msgspec.structs.replace(summed, **apart)
        assert single.total.attempts > 0
    days = HistoryQuery(since=until - timedelta(days=3, minutes=20), until=until, by="all", country=("IN",))
    history = await read_history(database, cube, days)
    assert history.step_s == 3_600
    assert history.total.attempts == await database["attempts"].count_documents({"country": "IN"})
    assert all(days.since <= point.at < days.until for point in history.total_points)


async def test_too_many_attempts_are_told_and_not_counted(
    operator: Web,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the bounds page, CSV and interface say what to do, and show no figure; without the filter they do."""
    now = datetime.now(UTC)
    database = database_of(operator)
    await fill(database, now, attempts=120)
    monkeypatch.setattr(single_attempts, "ATTEMPTS_MAX", 100)
    for path in ("/trends?country=IN", "/trends.csv?country=IN", "/?country=IN", "/api/v1/overview?country=IN"):
        answer = await operator.get(path)
        text = await answer.text()
        assert (answer.status, "more than 100 attempts in this range" in text) == (400, True), path
        assert 'class="big' not in text, path
    assert "take out" in await (await operator.get("/trends?country=IN")).text()
    assert (await operator.get("/trends?range=1h")).status == 200
    monkeypatch.setattr(single_attempts, "ATTEMPTS_MAX", 300)
    monkeypatch.setattr(single_attempts, "WORK_MAX", 121 + 3 * 40)
    for address, fits in (("country=DE", True), ("country=IN", True), ("country=IN&arm=routing-policy/control", False)):
        text = await (await operator.get(f"/trends?compare=0&{address}")).text()
        assert ("attempts in this range that may fit" not in text) is fits, address


async def test_new_choices_are_offered_and_kept_in_the_address(operator: Web) -> None:  # noqa: F811
    """Countries and arms that there are can be chosen, a link shows them chosen, and bad ones are told."""
    now = datetime.now(UTC)
    database = database_of(operator)
    await fill(database, now, attempts=100)
    seen = ChoicesSeen(database)
    await seen.look(now)
    assert seen.names["country"] == ["DE", "IN", "US"]
    assert {"routing-policy/control", "routing-policy/adaptive"} <= set(seen.names["arm"])
    await seen.look(now + timedelta(hours=23))
    await database["attempts"].delete_many({"country": "US"})
    await seen.look(now + timedelta(hours=47))
    assert seen.names["country"] == ["DE", "IN"]
    address = "range=1h&country=IN&amount=200-1000&amount=1000-up&arm=routing-policy%2Fcontrol"
    shown = await (await operator.get(f"/trends?{address}")).text()
    assert shown.count('class="unseen">take out') == 4
    for name, value in (("country", "IN"), ("amount", "1000-up"), ("arm", "routing-policy/control")):
        assert f'<input type="hidden" name="{name}" value="{value}">' in shown
    assert "arm=routing-policy%2Fcontrol" in shown
    for bad in ("country=india", "country=%24ne", "amount=5-6", "arm=control"):
        answer = await operator.get(f"/trends?{bad}")
        assert (answer.status, "The last hour is shown" in await answer.text()) == (400, True), bad


async def test_page_and_csv_follow_the_address(operator: Web) -> None:  # noqa: F811
    """Filters become chips, times in the address are kept, the CSV holds the same sums, bad ones are told."""
    now = datetime.now(UTC)
    await fill(database_of(operator), now, attempts=300, text=HOSTILE)
    shown = await (await operator.get("/trends?from=now-2h&to=now&by=method&gateway=alpha&compare=0")).text()
    assert 'value="now-2h"' in shown
    assert "take out" in shown
    assert "the time before" not in shown
    assert "<script>window" not in await (await operator.get("/trends?range=1h&by=issuer")).text()
    text = await (await operator.get("/trends.csv?range=1h&by=gateway")).text()
    rows = list(csv.DictReader(io.StringIO(text)))
    total = sum(int(row["attempts"]) for row in rows if row["gateway"] == "total")
    assert total == sum(int(row["attempts"]) for row in rows if row["gateway"] != "total") > 0
    for bad in (
        "range=2y",
        "from=yesterday",
        "from=now-99999w",
        "from=0001-01-01T00:00%2B14:00",
        "from=now-30d",
        "by=colour",
        "from=now&to=now-1h",
        f"gateway={'x' * 61}",
    ):
        answer = await operator.get(f"/trends?{bad}")
        assert (answer.status, "The last hour is shown" in await answer.text()) == (400, True), bad
        assert (await operator.get(f"/trends.csv?{bad}")).status == 400


@pytest.mark.parametrize(("span", "minutes"), [("15m", 15), ("1h", 60)])
async def test_the_csv_under_the_minutes_has_these_minutes(operator: Web, span: str, minutes: int) -> None:  # noqa: F811
    """Whole minutes and the same shift as in the table above, with the filters; the running minute is in neither."""
    now = datetime.now(UTC)
    database = database_of(operator)
    await fill(database, now, attempts=900)
    shown = await (await operator.get(f"/?range={span}&compare=1&method=card&method=upi")).text()
    (link,) = re.findall(r'href="(/trends\.csv\?[^"]+)"', shown)
    (since, until) = map(datetime.fromisoformat, re.search(SHOWN_TIMES, shown).groups())  # type: ignore[union-attr]
    assert (until - since, until.second) == (timedelta(minutes=minutes), 0)
    rows = [*csv.DictReader(io.StringIO(await (await operator.get(unescape(link))).text()))]
    wanted: dict[str, Counter[datetime]] = {"total": Counter(), "before": Counter()}
    methods = {"method": {"$in": ["card", "upi"]}}
    async for attempt in database["attempts"].find(methods):
        minute = attempt["attempted_at"].replace(second=0, microsecond=0)
        if since <= minute < until:
            wanted["total"][minute] += 1
        elif since - timedelta(minutes=minutes) <= minute < since:
            wanted["before"][minute + timedelta(minutes=minutes)] += 1
    for name, counts in wanted.items():
        found = {datetime.fromisoformat(row["at"]): int(row["attempts"]) for row in rows if row["gateway"] == name}
        assert found == counts, name
    in_table = [int(text) for text in re.findall(r'data-label="Attempts">([0-9]+)<', table_of_sums(shown))]
    assert in_table == [counts.total() for counts in wanted.values()]
    assert wanted["total"].total() > 100


def table_of_sums(shown: str) -> str:
    """The first table of the card with the minutes: both times in sum."""
    return shown.partition('data-part="minutes"')[2].partition("</table>")[0]


async def test_metrics_are_there_for_a_local_agent(stranger: Web) -> None:  # noqa: F811
    """Without a login from this machine; not through a proxy; the figures are those of the overview."""
    now = datetime.now(UTC)
    await fill(database_of(stranger), now, attempts=200)
    answer = await stranger.get("/metrics")
    text = await answer.text()
    assert (answer.status, answer.content_type) == (200, "text/plain")
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['ipa_gateway_paused{gateway="alpha"}'] == "0.0"
    assert float(lines['ipa_anomalies_open{severity="critical"}']) == 1
    assert sum(float(value) for name, value in lines.items() if name.startswith("ipa_attempts_window{")) > 0
    assert 'ipa_rejections_total{kind="card_data",queue="ingestor"}' in lines
    assert (await stranger.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"})).status == 401


async def test_replay_knows_nothing_that_came_later(operator: Web) -> None:  # noqa: F811
    """A moment shows the reports received and anomalies noticed until then; later corrections are counted apart."""
    now = datetime.now(UTC)
    database = database_of(operator)
    await fill(database, now, attempts=400)
    at = now - timedelta(minutes=5)
    moment = await read_moment(database, at)
    known: dict[str, str] = {}
    corrected = 0
    async for attempt in database["attempts"].find({"attempted_at": {"$gte": at - timedelta(minutes=15), "$lte": at}}):
        heard = [report for report in attempt["history"] if report["received_at"] <= at]
        if heard:
            known[attempt["_id"]] = heard[-1]["status"]
            corrected += heard[-1]["status"] != attempt["status"]
    assert moment.attempts == len(known) > 0
    assert sum(row.corrected for row in moment.gateways) == corrected
    assert moment.authorization.succeeded == sum(status == "succeeded" for status in known.values())
    assert {anomaly.anomaly_id for anomaly in moment.anomalies} == {
        found["_id"]
        async for found in database["anomalies"].find({"detected_at": {"$lte": at}})
        if found["closed_at"] is None or found["closed_at"] > at
    }
    assert all(anomaly.closed_at is None for anomaly in moment.anomalies)
    early = await read_moment(database, now - timedelta(days=2))
    assert (early.attempts, early.anomalies, early.authorization.rate) == (0, [], None)
    for path, status in (("/replay?at=now-5m", 200), ("/replay?minutes_ago=7", 200), ("/replay?at=never", 400)):
        assert (await operator.get(path)).status == status, path
    for bad in ("", "?at=now-5m", "?at=2999-01-01T00:00:00Z", "?at=1969-01-01T00:00:00Z"):
        assert (await operator.get(f"/api/v1/replay{bad}")).status == 400, bad
    shown = await operator.get("/api/v1/replay", params={"at": at.isoformat()})
    assert (await shown.json())["attempts"] == len(known)
