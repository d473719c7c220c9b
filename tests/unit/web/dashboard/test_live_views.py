"""Every view builds, draws, and follows the figures without a browser."""

from __future__ import annotations

import gc
import weakref
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from bokeh.document import Document
from bokeh.models import ColumnDataSource, Plot
from bokeh.models.annotations import Label
from bokeh.models.widgets.markups import Div

from messaging.contracts import ArmCount, Segment
from storage.read_models.annotations import Annotation
from storage.read_models.chosen import Chosen
from storage.read_models.live import LiveSnapshot
from storage.read_models.live_arrivals import ArrivalRing
from storage.read_models.live_courses import ExperimentCourse
from storage.read_models.live_facts import AdviceCount, AnomalySpan, ExperimentStanding, Worker, WorkerBeat
from storage.read_models.live_series import WINDOW_MINUTES, MinuteGrid, ReadingRing
from storage.read_models.live_traffic import COUNTS
from storage.read_models.measures import LATENCY_BUCKETS
from web.choosing import BEFORE, LIVE_RANGES
from web.dashboard.appearance import DARK, LIGHT, LOOKS, WHOLES, Look
from web.dashboard.asked import Asked, asked_of
from web.dashboard.courses import STEPS_DRAWN_MAX, difference_range, thinned
from web.dashboard.live_page import Audience, LivePage, SharedMarks, Window, status_words
from web.dashboard.moments import DRAWN_MAX, LISTED_MAX, NOTHING, action_list, moments
from web.dashboard.sessions import THEMES, VIEWS
from web.dashboard.views import BUILDERS

NOW = 1_700_000_030.0
MINUTE = NOW // 60 * 60
NASTY = "<script>alert(1)</script>"


def row(attempts: int, succeeded: int) -> list[int]:
    """Counts of one cell, with all latencies in bucket 12."""
    histogram = [0] * LATENCY_BUCKETS
    histogram[12] = attempts
    return [attempts, 0, succeeded, attempts - succeeded, 0, 0, *histogram]


def empty_snapshot() -> LiveSnapshot:
    """What is known before the first poll."""
    attempts, failures = MinuteGrid(len(COUNTS) + LATENCY_BUCKETS), MinuteGrid(1)
    return LiveSnapshot(
        polled_at=None,
        attempts=attempts.counts(NOW),
        attempts_before=attempts.counts(NOW),
        failures=failures.counts(NOW),
        arrivals=ArrivalRing(len(COUNTS) + LATENCY_BUCKETS).arrivals(),
        failure_arrivals=ArrivalRing(1).arrivals(),
        lag=ReadingRing(),
        pace=ReadingRing(),
    )


def filled_snapshot(gateways: tuple[str, ...] = ("alpha", "bravo", NASTY), polls: int = 60) -> LiveSnapshot:
    """An hour of figures of every kind."""
    attempts, failures = MinuteGrid(len(COUNTS) + LATENCY_BUCKETS), MinuteGrid(1)
    attempts.put(
        (MINUTE - 60 * ago, gateway, method, row(50, 45))
        for ago in range(60)
        for gateway in gateways
        for method in ("card", "upi")
    )
    failures.put((MINUTE - 60 * ago, gateway, "timeout", [3]) for ago in range(60) for gateway in gateways)
    arrivals, failure_arrivals = ArrivalRing(len(COUNTS) + LATENCY_BUCKETS), ArrivalRing(1)
    lag, pace = ReadingRing(), ReadingRing()
    for second in range(-polls, 0):
        arrivals.add(NOW + second, {gateway: np.array(row(5, 4)) for gateway in gateways})
        failure_arrivals.add(NOW + second, {"timeout": np.array([1])})
        lag.append(NOW + second, {"ingestor": 4.0, NASTY: 1.0})
        pace.append(NOW + second, {"ingestor": 4.0})
    shape = {"observed": 0.5, "expected": 0.9, "expected_low": 0.85, "expected_high": 0.93, "attempts_seen": 120}
    beat = WorkerBeat(
        stage="ingestor", host="h", pid=1, started_at=NOW - 500, at=NOW - 60, instance="i", last_error=NASTY
    )
    return LiveSnapshot(
        polled_at=NOW,
        attempts=attempts.counts(NOW),
        attempts_before=attempts.counts(NOW, 120).before(60),
        failures=failures.counts(NOW),
        arrivals=arrivals.arrivals(),
        failure_arrivals=failure_arrivals.arrivals(),
        lag=lag,
        pace=pace,
        anomalies=(
            AnomalySpan(
                anomaly_id="an_1",
                segment=Segment(gateway=gateways[0]),
                signal="success_rate",
                severity="major",
                started_at=NOW - 600,
                detected_at=NOW - 580,
                reason=NASTY,
                **shape,
            ),
        ),
        experiments=(
            ExperimentStanding(
                experiment="adaptive",
                reported_at=NOW,
                verdict=NASTY,
                arms=[
                    ArmCount(
                        arm="a",
                        policy="p",
                        weight=0.5,
                        attempts=9,
                        orders=9,
                        settled=9,
                        succeeded=6,
                        rate=0.66,
                        rate_low=0.4,
                        rate_high=0.9,
                    ),
                    ArmCount(arm="b", policy="q", weight=0.5, attempts=0, orders=0, settled=0, succeeded=0),
                ],
            ),
        ),
        workers=(Worker(beat=beat, batches_per_s=1.5, messages_per_s=20.0),),
        advice=(advice(gateways[0]),),
        courses=(course("adaptive"), course(NASTY, 0.01)),
        actions=(action(-40, "bravo paused", who=NASTY), action(-20, NASTY)),
    )


def advice(gateway: str, method: str = "card", decisions: int = 7) -> AdviceCount:
    """Decisions that put a gateway first."""
    return AdviceCount(
        gateway=gateway,
        method=method,
        issuer="harbour_bank",
        currency="INR",
        policy="p",
        exploring=True,
        decisions=decisions,
    )


def action(
    at: float, words: str, who: str = "operator", link: str = "/audit?subject=gateway%3Aa%26b&who=dana"
) -> Annotation:
    """Something that somebody did so many seconds after ``NOW``."""
    moment = datetime.fromtimestamp(NOW + at, UTC)
    return Annotation(kind="action", at=moment, until=None, words=words, who=who, link=link)


def course(name: str, settles_at: float = 0.02, points: int = 30) -> ExperimentCourse:
    """A difference whose interval narrows, a point a minute."""
    half = 0.2 / np.sqrt(np.arange(1.0, points + 1))
    return ExperimentCourse(
        experiment=name,
        challenger="b",
        control="a",
        times=NOW - 60.0 * np.arange(points)[::-1],
        difference=np.full(points, settles_at),
        low=settles_at - half,
        high=settles_at + half,
        compared=100.0 * np.arange(1, points + 1),
    )


def figures(snapshot: LiveSnapshot) -> Any:
    """What stands in for the poller: a snapshot, and since when it is stale."""
    return SimpleNamespace(snapshot=snapshot, stale_since=lambda now: None, is_narrow=False, reach=WINDOW_MINUTES)


def page_of(view: str, look: Look, live: Any) -> tuple[Document, LivePage]:
    """Build a view into a document of its own."""
    document = Document()
    marks = SharedMarks(("alpha", "bravo"), ("ingestor",))
    page = LivePage(document, BUILDERS[view][1](marks.palette(look)), live, look)
    page.update(NOW)
    return document, page


def texts(document: Document) -> list[str]:
    """Every piece of HTML in a document."""
    return [root.text for root in document.roots if isinstance(root, Div)]


def points(document: Document) -> int:
    """How many values the charts of a document hold."""
    sources = document.select({"type": ColumnDataSource})
    return sum(len(column) for source in sources for column in source.data.values())


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=lambda look: look.name)
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_builds_and_follows(view: str, look: Look) -> None:
    """A view that began empty draws what comes, serializes, and sends nothing when nothing changed."""
    live = figures(empty_snapshot())
    document, page = page_of(view, look, live)
    before = points(document)
    live.snapshot = filled_snapshot()
    page.update(NOW)
    assert points(document) > before
    document.to_json()
    sent: list[Any] = []
    document.on_change(sent.append)
    page.update(NOW)
    assert sent == []


@pytest.mark.parametrize("view", VIEWS)
def test_names_from_outside_stay_words(view: str) -> None:
    """What others wrote is escaped wherever it is shown as HTML."""
    document, _ = page_of(view, LIGHT, figures(filled_snapshot()))
    assert not [text for text in texts(document) if NASTY in text]


def test_an_empty_store_says_so() -> None:
    """Without data every chart of the overview shows the words for it, and the page says that it waits."""
    document, _ = page_of("overview", LIGHT, figures(empty_snapshot()))
    plots = list(document.select({"type": Plot}))
    assert len(plots) == 8
    for plot in plots:
        (words,) = [model for model in plot.center if isinstance(model, Label)]
        assert words.visible
        assert plot.x_range.start <= words.x <= plot.x_range.end
    assert "waiting for the first figures" in " ".join(texts(document))


@pytest.mark.parametrize("view", VIEWS)
def test_views_hold_charts_only(view: str) -> None:
    """The page around a view carries key figures and tables; the view has none of its own."""
    document, _ = page_of(view, LIGHT, figures(filled_snapshot()))
    assert list(document.select({"type": Plot}))
    assert not [text for text in texts(document) if "<table" in text or "tile" in text]


def test_a_gateway_that_appears_later_is_drawn() -> None:
    """A new gateway gets lines of its own, and the old ones keep theirs."""
    live = figures(filled_snapshot(("alpha",)))
    document, page = page_of("overview", LIGHT, live)
    live.snapshot = filled_snapshot(("alpha", "zulu"), polls=61)
    page.update(NOW)
    (rate,) = [root for root in document.roots if root.name == "rate"]
    columns = set(rate.renderers[-1].data_source.data)
    assert {"value_0", "value_1", "low_1", "high_1", "n_1"} <= columns


def test_what_is_streamed_is_what_a_new_viewer_sees() -> None:
    """A page that followed poll by poll holds the same points as one that was opened last."""
    live = figures(extended_snapshot(30))
    followed, page = page_of("overview", LIGHT, live)
    for polls in (31, 35, 90):
        live.snapshot = extended_snapshot(polls)
        page.update(NOW)
    fresh, _ = page_of("overview", LIGHT, live)
    shown, wanted = (
        next(root for root in document.roots if root.name == "rate").renderers[-1].data_source.data
        for document in (followed, fresh)
    )
    assert set(shown) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(shown[name], wanted[name], err_msg=name)


def extended_snapshot(polls: int) -> LiveSnapshot:
    """As ``filled_snapshot``, with the first poll where that of 30 polls has it: later snapshots only add rows."""
    ring = ArrivalRing(len(COUNTS) + LATENCY_BUCKETS)
    for second in range(polls):
        # The third gateway has a pause that is longer than the window: a gap.
        counted = row(5, 4) if not 3 < second < 80 else row(0, 0)
        changes = {"alpha": row(5, 4), "bravo": row(5, 3), NASTY: counted}
        ring.add(NOW - 30 + second, {name: np.array(change) for name, change in changes.items()})
    return msgspec.structs.replace(filled_snapshot(polls=30), arrivals=ring.arrivals())


def test_what_was_done_stands_in_every_chart_over_time_and_in_a_list() -> None:
    """Lines within a chart's time, with words for the mouse; the list has all, escaped; links leave the frame."""
    live = figures(filled_snapshot())
    document, page = page_of("overview", LIGHT, live)
    names = ("rate", "activity", "split", "p50", "p95", "minutes", "volume", "latency")
    plots = [root for root in document.roots if root.name in names]
    assert len(plots) == len(names)

    def words_of(plot: Any) -> list[str]:
        (source,) = {r.data_source for r in plot.renderers if "words" in r.data_source.data}
        return list(source.data["words"])

    assert words_of(plots[0]) == [f"bravo paused ({NASTY})", f"{NASTY} (operator)"]
    (listed,) = [text for text in texts(document) if 'class="actions"' in text]
    assert listed.index("&lt;script&gt;") < listed.index("bravo paused"), "the newest first"
    assert 'href="/audit?subject=gateway%3Aa%26b&amp;who=dana" target="_top"' in listed
    live.snapshot = msgspec.structs.replace(live.snapshot, actions=())
    page.update(NOW)
    assert all(words_of(plot) == [] for plot in plots)
    assert NOTHING in " ".join(texts(document))


def test_lines_that_would_cover_one_another_are_one() -> None:
    """What is closer than a label is wide shares a line that tells all; the newest are drawn, the list is bounded."""
    actions = [action(at, f"a{at}") for at in (-3_700, -3_000, -2_995, -100)]
    shown = moments(actions, NOW - 3_600, NOW)
    assert [(moment.at - NOW, moment.label) for moment in shown] == [(-3_000, "a-3000 + 1"), (-100, "a-100")]
    assert shown[0].words == "a-3000 (operator); a-2995 (operator)"
    many = tuple(action(-200 * n, f"a{n}") for n in range(LISTED_MAX + 5, 0, -1))
    assert [moment.words for moment in moments(many, NOW - 9_000, NOW)][-1] == "a1 (operator)"
    assert len(moments(many, NOW - 9_000, NOW)) == DRAWN_MAX
    listed = action_list(msgspec.structs.replace(empty_snapshot(), actions=many))
    assert listed.count("<li>") == LISTED_MAX
    assert "and 5 before" in listed


def test_a_page_is_drawn_once_however_often_it_is_told() -> None:
    """What waits to be drawn is not asked for again; when it was drawn, the next news is."""
    document, page = page_of("overview", LIGHT, figures(empty_snapshot()))
    audience = Audience()
    audience.add(page)
    audience.tell()
    audience.tell()
    assert len(document.session_callbacks) == 1
    page.update(NOW)
    audience.tell()
    assert len(document.session_callbacks) == 2


def test_a_page_that_was_left_is_let_go() -> None:
    """After its session ended nothing keeps a page's panels alive."""
    document, page = page_of("overview", LIGHT, figures(filled_snapshot()))
    seen = weakref.ref(document.roots[-1])
    page.close(None)
    document.clear()
    del document, page
    gc.collect()
    assert seen() is None


def test_a_course_is_drawn_in_points_around_zero() -> None:
    """Each experiment has a line of its own with interval and n; one that is gone is drawn no more, the others stay."""
    live = figures(empty_snapshot())
    document, page = page_of("experiments", LIGHT, live)
    (plot,) = [root for root in document.roots if root.name == "courses"]
    (words,) = [model for model in plot.center if isinstance(model, Label)]
    assert (words.visible, words.text) == (True, "not enough data yet")
    both = msgspec.structs.replace(filled_snapshot(), courses=(course("first", 0.03), course("second", -0.01)))
    live.snapshot = both
    page.update(NOW)
    assert not words.visible
    first, second = drawn_sources(plot)
    assert (first["value_0"][-1], first["n_0"][-1]) == (pytest.approx(3.0), 3_000)
    assert first["bottom_0"][-1] < 3.0 < first["top_0"][-1]
    assert second["value_0"][-1] == pytest.approx(-1.0)
    assert plot.y_range.start < -1.0
    assert plot.y_range.end > 3.0
    assert (plot.x_range.start, plot.x_range.end) == ((NOW - 29 * 60) * 1000, NOW * 1000)
    (legend,) = [text for text in texts(document) if "second" in text]
    assert "first: b − a" in legend
    live.snapshot = msgspec.structs.replace(both, courses=both.courses[1:])
    page.update(NOW)
    assert [len(source["time"]) > 0 for source in drawn_sources(plot)] == [False, True]
    live.snapshot = msgspec.structs.replace(both, courses=())
    page.update(NOW)
    assert words.visible


def drawn_sources(plot: Any) -> list[dict[str, Any]]:
    """The columns of each course, in the order in which they were added."""
    sources = {renderer.data_source.id: renderer.data_source.data for renderer in plot.renderers}
    return [*sources.values()]


def test_a_long_course_is_thinned_and_keeps_its_newest_point() -> None:
    """However many points there are, so many are drawn at most, and the last of them always."""
    times = np.geomspace(1.0, 1e7, 2_000)
    kept = thinned(times)
    assert len(kept) <= STEPS_DRAWN_MAX + 1
    assert kept[-1] == len(times) - 1
    assert thinned(np.array([5.0, 5.0])).tolist() == [1]


def test_the_vertical_range_holds_zero_and_the_newest_intervals() -> None:
    """The wide bands of the first units do not squeeze what is known now."""
    certain = course("certain", 0.05, points=2_000)
    low, high = difference_range([certain])
    assert low < 0
    assert 100 * certain.high[-1] < high < 100 * certain.high[0]
    assert difference_range([]) == (-1.0, 1.0)


def test_status_says_live_or_stale() -> None:
    """The status line tells since when the store has been silent."""
    live = figures(filled_snapshot())
    assert "live" in status_words(live, NOW)
    live.stale_since = lambda now: 0.0
    assert "stale since 00:00:00 UTC" in status_words(live, NOW)


def test_status_says_how_far_a_narrow_choice_reaches() -> None:
    """Single attempts are looked up less often, and not always as far back as the page shows; not at all is told."""
    live = figures(filled_snapshot())
    assert "one by one" not in status_words(live, NOW)
    live.is_narrow, live.reach = True, 23
    assert "every 5 s" in status_words(live, NOW, 15)
    assert "newest" not in status_words(live, NOW, 15)
    assert "the newest 23 minutes only" in status_words(live, NOW, 60)
    live.reach = 0
    assert "nothing is shown" in status_words(live, NOW)
    assert "live" not in status_words(live, NOW)


def test_fewer_minutes_than_asked_for_are_drawn() -> None:
    """Every view draws the minutes that are known; none before them."""
    snapshot = filled_snapshot()
    few = msgspec.structs.replace(snapshot, attempts=snapshot.attempts.last(3), failures=snapshot.failures.last(3))
    for view in ("overview", "failures"):
        document, _ = page_of(view, LIGHT, figures(few))
        minutes = next(root for root in document.roots if root.name == "minutes")
        assert minutes.x_range.start >= 1000 * (MINUTE - 120)


def test_ranges_follow_the_data() -> None:
    """The charts of a young system are three minutes wide and begin with its first arrival."""
    document, _ = page_of("overview", LIGHT, figures(filled_snapshot()))
    ranges = {
        root.name: (root.x_range.start / 1000, root.x_range.end / 1000)
        for root in document.roots
        if isinstance(root, Plot)
    }
    assert ranges["rate"] == ranges["p50"] == ranges["p95"] == (NOW - 60, NOW + 120)
    assert ranges["activity"][1] - ranges["activity"][0] == 180
    assert NOW - 60 <= ranges["activity"][0] <= NOW - 55
    assert ranges["minutes"] == (MINUTE - 59 * 60, MINUTE)


def test_a_request_says_how_a_view_is_wanted() -> None:
    """Theme, range and choice; what there is not is left at its default, and too much is refused."""
    said = {"theme": [b"dark"], "range": [b"15m"], "compare": [b"1"], "issuer": [b"a", b"b", b"a"], "method": [b""]}
    asked = asked_of(said)
    assert (asked.look, asked.minutes, asked.chosen, asked.compare) == (DARK, 15, Chosen(issuer=("a", "b")), True)
    assert asked_of({}) == asked_of({"theme": [b"pink"], "range": [b"2y"]}) == Asked()
    with pytest.raises(ValueError, match="Up to 20 names"):
        asked_of({"gateway": [f"g{number}".encode() for number in range(21)]})


def test_a_window_keeps_the_newest_minutes() -> None:
    """Parts that did not change stay the same objects, so nothing is drawn twice."""
    snapshot = filled_snapshot()
    window = Window(15)
    kept = window.of(snapshot)
    np.testing.assert_array_equal(kept.attempts.minutes, snapshot.attempts.minutes[-15:])
    np.testing.assert_array_equal(kept.failures.values, snapshot.failures.values[-15:])
    np.testing.assert_array_equal(kept.attempts_before.minutes, kept.attempts.minutes)
    np.testing.assert_array_equal(kept.attempts_before.values, snapshot.attempts.values[-30:-15])
    assert kept.arrivals is snapshot.arrivals
    later = window.of(msgspec.structs.replace(snapshot, polled_at=NOW + 1))
    assert (later.attempts, later.failures) == (kept.attempts, kept.failures)
    assert Window(60).of(snapshot) is snapshot


def test_charts_of_whole_minutes_are_compared_when_that_is_wanted() -> None:
    """Rate, attempts and latency get a line of all together and one of the period before, each with its n and name."""
    snapshot = filled_snapshot(("alpha", "bravo"))
    attempts = MinuteGrid(len(COUNTS) + LATENCY_BUCKETS)
    attempts.put((MINUTE - 60 * ago, name, "card", row(20, 10)) for ago in range(60) for name in ("alpha", "bravo"))
    snapshot = msgspec.structs.replace(snapshot, attempts_before=attempts.counts(NOW))
    drawn = {}
    for compare in (False, True):
        document = Document()
        palette = SharedMarks(("alpha", "bravo"), ()).palette(LIGHT, compare=compare)
        LivePage(document, BUILDERS["overview"][1](palette), figures(snapshot), LIGHT).update(NOW)
        for name in ("minutes", "volume", "latency"):
            (plot,) = [root for root in document.roots if root.name == name]
            drawn[name, compare] = plot, plot.renderers[-1].data_source.data
        drawn["words", compare] = " ".join(texts(document))
    assert "value_2" not in drawn["minutes", False][1]
    assert "the hour before" not in drawn["words", False]
    for name, together, before in (("minutes", 90.0, 50.0), ("volume", 200.0, 40.0)):
        _, columns = drawn[name, True]
        assert (columns["value_2"][-1], columns["value_3"][-1]) == (together, before)
        assert (columns["n_2"][-1], columns["n_3"][-1]) == (200.0, 40.0)
    plot, columns = drawn["minutes", True]
    assert columns["bottom_3"][-1] < 50.0 < columns["top_3"][-1]
    assert {tool.tooltips[0][0] for tool in plot.tools if tool.tooltips} >= {"all together", "the hour before"}
    assert drawn["latency", True][1]["n_3"][-1] == 40.0
    assert "the hour before" in drawn["words", True]
    assert "all together" in drawn["words", True]


def test_with_one_gateway_all_together_is_it() -> None:
    """The line of all together is left out where it would cover the only other one."""
    document = Document()
    palette = SharedMarks(("alpha",), ()).palette(LIGHT, 15, compare=True)
    live = figures(filled_snapshot(("alpha",)))
    LivePage(document, BUILDERS["overview"][1](palette), live, LIGHT, 15).update(NOW)
    (plot,) = [root for root in document.roots if root.name == "volume"]
    names = [tool.tooltips[0][0] for tool in plot.tools]
    assert names == ["done", "alpha", "the 15 minutes before"]
    assert "all together" not in " ".join(texts(document))


def test_every_range_has_words_for_what_is_before_it() -> None:
    """What can be looked at can be compared."""
    assert set(BEFORE) == set(LIVE_RANGES.values())
    assert set(BEFORE.values()) < set(WHOLES)


def test_every_view_draws_fifteen_minutes() -> None:
    """Charts of whole minutes are as wide as was asked, and say so."""
    document = Document()
    panels = BUILDERS["failures"][1](SharedMarks(("alpha",), ()).palette(LIGHT, 15))
    LivePage(document, panels, figures(filled_snapshot()), LIGHT, 15).update(NOW)
    minutes = next(root for root in document.roots if root.name == "minutes")
    assert minutes.x_range.end - minutes.x_range.start == 14 * 60_000
    assert {panel.note for panel in panels} >= {"last 15 minutes"}


def test_there_is_a_view_and_a_theme_for_each_name() -> None:
    """What can be embedded is what is built."""
    assert set(THEMES) == set(LOOKS)
    assert set(VIEWS) == set(BUILDERS)
