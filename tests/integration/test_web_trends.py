"""Trends: any time range and filter gives the figures of a recount, in the page, in the CSV, and in memory."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

from storage.read_models.history import HistoryQuery, read_history
from storage.read_models.history_cube import HistoryCube, read_steps, step_of
from storage.read_models.replay import read_moment
from tests.integration.test_web import Web, database_of, operator, stranger  # noqa: F401  fixtures
from tests.web_documents import HOSTILE, fill

NOW = datetime.now(UTC)


async def test_figures_of_any_range_are_those_of_a_recount(operator: Web) -> None:  # noqa: F811
    """Short ranges come by the minute, long ones from memory; both equal what the attempts say, filters included."""
    database = database_of(operator)
    await fill(database, NOW, attempts=400)
    cube = HistoryCube(database, lambda: NOW)
    await cube._read_all()
    until = step_of(NOW) + timedelta(minutes=10)
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
    database = database_of(operator)
    await fill(database, NOW, attempts=400)
    middle = NOW.replace(second=0, microsecond=0) - timedelta(minutes=15)
    query = HistoryQuery(since=middle, until=middle + timedelta(minutes=16), by="all")
    history = await read_history(database, HistoryCube(database), query)
    minutes = await read_steps(database, middle - timedelta(minutes=16), middle, 60)
    assert history.before.attempts == sum(int(sums[0]) for _, _, sums in minutes) > 0
    assert all(query.since <= point.at < query.until for point in history.before_points)


async def test_page_and_csv_follow_the_address(operator: Web) -> None:  # noqa: F811
    """Filters become chips, times in the address are kept, the CSV holds the same sums, bad ones are told."""
    await fill(database_of(operator), NOW, attempts=300, text=HOSTILE)
    shown = await (await operator.get("/trends?from=now-2h&to=now&by=method&gateway=alpha&compare=0")).text()
    assert 'value="now-2h"' in shown
    assert "take out" in shown
    assert "the time before" not in shown
    assert "<script>window" not in await (await operator.get("/trends?range=1h&by=issuer")).text()
    text = await (await operator.get("/trends.csv?range=1h&by=gateway")).text()
    rows = list(csv.DictReader(io.StringIO(text)))
    total = sum(int(row["attempts"]) for row in rows if row["gateway"] == "total")
    assert total == sum(int(row["attempts"]) for row in rows if row["gateway"] != "total") > 0
    for bad in ("range=2y", "from=yesterday", "from=now-30d", "by=colour", "from=now&to=now-1h", f"gateway={'x' * 61}"):
        answer = await operator.get(f"/trends?{bad}")
        assert (answer.status, "The last hour is shown" in await answer.text()) == (400, True), bad
        assert (await operator.get(f"/trends.csv?{bad}")).status == 400


async def test_metrics_are_there_for_a_local_agent(stranger: Web) -> None:  # noqa: F811
    """Without a login from this machine; not through a proxy; the figures are those of the overview."""
    await fill(database_of(stranger), NOW, attempts=200)
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
    database = database_of(operator)
    await fill(database, NOW, attempts=400)
    at = NOW - timedelta(minutes=5)
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
    early = await read_moment(database, NOW - timedelta(days=2))
    assert (early.attempts, early.anomalies, early.authorization.rate) == (0, [], None)
    for path, status in (("/replay?at=now-5m", 200), ("/replay?minutes_ago=7", 200), ("/replay?at=never", 400)):
        assert (await operator.get(path)).status == status, path
    for bad in ("", "?at=now-5m", "?at=2999-01-01T00:00:00Z", "?at=1969-01-01T00:00:00Z"):
        assert (await operator.get(f"/api/v1/replay{bad}")).status == 400, bad
    shown = await operator.get("/api/v1/replay", params={"at": at.isoformat()})
    assert (await shown.json())["attempts"] == len(known)
