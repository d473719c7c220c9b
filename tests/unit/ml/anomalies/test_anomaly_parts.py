"""The parts of the detector one by one, against brute force and simulation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.anomalies.attempts import Observation, Reason, joined, reasons_of, rows_of
from ml.anomalies.baseline import HOUR_DOUBT_S, Baseline
from ml.anomalies.channels import CHANNELS, COUNTED, FAILED, FAULT_FIRST, LATENCY, ROWS, TECHNICAL_HITS
from ml.anomalies.counting import (
    FAILED_HITS,
    HITS,
    LATENCY_N,
    LATENCY_SUM,
    RETRIED,
    SETTLED,
    STATISTICS,
    SUCCEEDED,
    Evidence,
    per_cell,
    statistics_of,
)
from ml.anomalies.evidence import NETWORK, Context, Cusum, Ebb, _losses, eased, ebbing, evidence_needed, log_ratios
from ml.anomalies.findings import (
    ID_LENGTH_MAX,
    Finding,
    identifier,
    rate_range,
    ratio_severity,
    success_severity,
)
from ml.anomalies.history import HistoryCell, replay
from ml.anomalies.incident import TEMPERED_MIN, Incident
from ml.anomalies.ledger import Ledger
from ml.anomalies.localise import Excess
from ml.anomalies.money import Amounts
from ml.anomalies.scales import Scales
from ml.anomalies.segments import FAMILIES, SegmentTable, contains
from ml.anomalies.volume import Clock

NOW = 1_700_000_000.0
STATUSES = ("pending", "succeeded", "failed", "abandoned", "reversed")


def observation(status="succeeded", was=None, *, gateway="alpha", issuer="bank_a", latency_ms=500.0):
    """One first attempt by card."""
    return Observation(NOW, gateway, "card", issuer, status, was, latency_ms, 10_000, "INR")


def finding(**changes):
    """A loss of success at bravo."""
    fields = {
        "anomaly_id": "anm_1",
        "segment": ("bravo", None, None, None, None),
        "signal": "success_rate",
        "severity": "critical",
        "started_at": NOW,
        "detected_at": NOW,
        "updated_at": NOW,
        "observed": 0.05,
        "expected": 0.92,
        "expected_low": 0.9,
        "expected_high": 0.94,
        "attempts_seen": 100,
        "score": 30.0,
    }
    return Finding(**fields | changes)


def ledger_of(segments_max=200):
    """A ledger that knows nothing."""
    return Ledger(tick_s=1.0, memory_s=3600.0, segments_max=segments_max, watched_max=100)


# --- segments and counting -------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(*(st.sampled_from("xyz"),) * 5, st.booleans()), min_size=1, max_size=30))
def test_rolling_up_equals_counting_by_hand(keys):
    """Every segment holds the sum of the cells that carry its values."""
    table = SegmentTable(segments_max=2000)
    numbers = [table.cell(key) for key in keys]
    rolled = table.roll_up(per_cell(np.ones((len(keys), 1)), np.array(numbers), len(table.cells)))[:, 0]
    for number, segment in enumerate(table.segments):
        assert rolled[number] == sum(contains(segment, key[:5]) for key in keys)
    segments, part = table.roll_up_to((0, 2), per_cell(np.ones((len(keys), 1)), np.array(numbers), len(table.cells)))
    assert [table.segments[number] for number in segments] == [
        segment for segment, family in zip(table.segments, table.family, strict=True) if family in (0, 2)
    ]
    assert part[:, 0].tolist() == rolled[segments].tolist()


def test_a_full_table_keeps_its_bound_and_tells_less_apart():
    """What finds no room loses country, network and issuer, and is refused only when that does not help."""
    table = SegmentTable(segments_max=len(FAMILIES) + 8)
    table.cell(("alpha", "card", "bank_a", "visa", "IN", False))
    for number in range(50):
        table.cell(("alpha", "card", "bank_a", "visa", f"C{number}", False))
        table.cell((f"gateway_{number}", "card", "bank_a", "visa", "IN", False))
    assert len(table.segments) <= table.segments_max
    assert table.refused > 0
    with pytest.raises(ValueError, match="16"):
        SegmentTable(segments_max=15)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(STATUSES)), max_size=40))
def test_corrections_leave_what_the_last_statuses_say(reports):
    """However often attempts are corrected, what is counted is what they are now; reversed ones count as not there."""
    table, last, rows = SegmentTable(segments_max=100), {}, []
    for attempt, status in reports:
        rows.append(observation(status, last.get(attempt)))
        last[attempt] = status
    settled = [status for status in last.values() if status in ("succeeded", "failed")]
    attempts = rows_of(rows, table)
    reversals = attempts.reversed.sum()
    assert attempts.failed.sum() == settled.count("failed")
    assert attempts.succeeded.sum() - reversals == settled.count("succeeded")


def test_a_reason_counts_for_its_side_and_its_kind():
    """A failure of the gateway's is a technical one too; a withdrawn reason takes both back."""
    ledger = ledger_of()
    reasons = [Reason(NOW, "alpha", "card", "bank_a", "gateway", sign=sign) for sign in (1, 1, -1)]
    attempts = joined([rows_of([observation("failed")] * 2, ledger.table), reasons_of(reasons, ledger.table)])
    ledger.grown(NOW)
    sums = statistics_of(attempts, ledger.normal).sum(axis=0)
    assert sums[[SETTLED, SUCCEEDED, FAILED_HITS, HITS + FAULT_FIRST + 2, HITS + TECHNICAL_HITS]].tolist() == [
        2, 0, 2, 1, 1,
    ]  # fmt: skip
    assert not reasons_of([Reason(NOW, "alpha", "card", "bank_a", "nobody")], ledger.table)


# --- what is normal --------------------------------------------------------------------------------------------------


def learnt(cells, *, memory_s=3600.0):
    """A baseline that has learnt (key, settled, failed) for ten minutes."""
    table = SegmentTable(segments_max=500)
    numbers = [table.cell(key) for key, _, _ in cells]
    baseline = Baseline(memory_s=memory_s, segments_max=500, cells_max=2000)
    sums = np.zeros((len(table.cells), STATISTICS))
    for number, (_, settled, failed) in zip(numbers, cells, strict=True):
        sums[number, SETTLED], sums[number, FAILED_HITS] = settled, failed
    baseline.learn(table, sums, at=NOW, seconds=600, exposed=np.ones(len(sums)))
    baseline.refit(table, NOW)
    return table, baseline


def test_a_busy_cell_speaks_for_itself_and_a_thin_one_borrows_from_its_gateway():
    """A bank with 10,000 attempts keeps its 30 %; one with two attempts looks like its gateway."""
    cells = [(("alpha", "card", f"bank_{number}", "", "IN", False), 5000, 400) for number in range(6)]
    cells += [
        (("alpha", "card", "odd", "", "IN", False), 10_000, 3000),
        (("alpha", "card", "thin", "", "IN", False), 2, 1),
    ]
    table, baseline = learnt(cells)
    rate = baseline.normal(table, NOW).rate[:, FAILED]
    assert rate[6] == pytest.approx(0.3, abs=0.01)
    assert rate[7] < 0.2


def test_doubt_shrinks_with_failures_seen():
    """A hundred times the failures, a tenth of the doubt about the segment itself."""
    key = ("alpha", "card", "bank_a", "visa", "IN", False)
    doubts = []
    for settled in (1000, 100_000):
        table, baseline = learnt([(key, settled, settled // 10)])
        moved = 1 - np.exp(-600 / HOUR_DOUBT_S)
        hour = moved * baseline.seasons.variance(table, NOW)[0, FAILED]
        doubts.append(float(np.sqrt(baseline.doubt(table, NOW)[0, FAILED] ** 2 - hour)))
    assert doubts[0] / doubts[1] == pytest.approx(10, rel=0.1)


def test_the_usual_traffic_of_what_is_left_out_stays_what_it_was():
    """An hour in which one of two banks is left out leaves both at one attempt a second."""
    cells = [(("alpha", "card", bank, "", "IN", False), 600, 60) for bank in ("bank_a", "bank_b")]
    table, baseline = learnt(cells)
    sums = np.zeros((2, STATISTICS))
    sums[1, SETTLED] = 3600
    baseline.learn(table, sums, at=NOW + 2100, seconds=3600, exposed=np.array([0.0, 1.0]))
    assert baseline.settled_per_s(table) == pytest.approx([1.0, 1.0], rel=0.4)
    assert baseline.settled_per_s(table)[0] == pytest.approx(1.0)


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_new_normal_does_not_turn_what_was_read_into_what_was_heard(ratio):
    """Stored sums tell no retries; twice or half of their failures are none that were heard without a retry."""
    table, baseline = learnt([(("alpha", "card", "bank_a", "", "", False), 1_000_000, 100_000)])
    baseline.begin_to_live()
    heard = np.zeros((1, STATISTICS))
    heard[0, [SETTLED, FAILED_HITS, RETRIED]] = 10_000, 1_000, 1_000
    baseline.learn(table, heard, at=NOW + 600, seconds=1, exposed=np.ones(1))
    before = baseline.lagged(table, RETRIED, FAILED_HITS)
    baseline.adopt(0, np.array([0]), FAILED, ratio)
    after = baseline.lagged(table, RETRIED, FAILED_HITS)
    assert before == pytest.approx(1.0, abs=0.01)
    assert after == pytest.approx(3_000 / (2_000 + 1_000 * ratio), rel=0.25)


def test_what_is_left_out_does_not_fade():
    """An hour in which a gateway was unwell leaves what was known of it as it was."""
    table, baseline = learnt([(("alpha", "card", "bank_a", "", "", False), 1000, 100)], memory_s=60.0)
    baseline.learn(table, np.zeros((1, STATISTICS)), at=NOW, seconds=3600, exposed=np.zeros(1))
    assert baseline.column(table, SETTLED)[0] == pytest.approx(1000)


def test_the_clock_knows_a_time_of_day_only_from_an_earlier_day():
    """A day with a quiet night: the first night is unknown, the second is expected quiet, the noon busy."""
    clock, rate = Clock(), (lambda at: 1.0 if at % 86_400 < 20_000 else 10.0)
    at = NOW - NOW % 86_400
    for step in range(2 * 144):
        if step == 100:
            assert clock.expected(at) is None
        clock.learn(at + 300, 600, 600 * rate(at))
        at += 600
    assert clock.expected(at + 10_000) == pytest.approx(1.0, rel=0.2)
    assert clock.expected(at + 50_000) == pytest.approx(10.0, rel=0.2)


def test_on_its_first_day_the_clock_knows_what_comes_at_least():
    """A third of the quietest of two hours; a sale that ends falls back to before it, a night falls step by step."""
    clock, at, seen = Clock(), NOW - NOW % 86_400, []
    for step, per_s in enumerate([9.0] * 12 + [45.0] * 6 + [9.0] * 3 + [8.0, 6.0, 5.0, 4.0]):
        seen.append((clock.least(at + 600 * step), per_s))
        clock.learn(at + 600 * step + 300, 600, 600 * per_s)
    assert [least for least, _ in seen[:10]] == [None] * 10
    assert seen[15][0] == pytest.approx(3.0)  # in the sale
    assert all(per_s > 2 * least for least, per_s in seen[12:])
    assert clock.least(at + 25 * 600) == pytest.approx(4.0 / 3)
    assert clock.expected(at + 25 * 600) is None
    assert clock.least(at + 3 * 86_400) is None  # nothing was heard for days


# --- evidence --------------------------------------------------------------------------------------------------------


@given(st.floats(1e-3, 1e4), st.floats(1e-2, 1e4))
def test_the_bar_solves_its_equation(shared, budget):
    """exp(h) - h - 1 equals the information of a week divided by the budget; more budget never raises the bar."""
    needed = evidence_needed(false_alerts_per_week=budget, information_per_tick=shared, tick_s=2)
    nats = shared * 302_400 / budget
    if needed > 5.0:
        assert np.exp(needed) - needed - 1 == pytest.approx(nats, rel=1e-6)
    assert evidence_needed(false_alerts_per_week=2 * budget, information_per_tick=shared, tick_s=2) <= needed


@pytest.mark.parametrize(("attempts", "rate", "odds"), [(10, 0.08, 4.0), (40, 0.1, 1.6), (3, 0.05, 20.0)])
def test_a_cusum_raises_no_more_false_alerts_than_its_bar_promises(attempts, rate, odds):
    """300 streams of 2,000 ticks cross the bar no oftener than the equation says (within 4 standard deviations)."""
    random = np.random.default_rng(5)
    bar = 4.0
    failed = random.binomial(attempts, rate, (2000, 300))
    ratios = failed * np.log(odds) - attempts * np.log1p(rate * (odds - 1))
    total, alerts = np.zeros(300), 0
    for row in ratios:
        total = np.maximum(total + row, 0)
        crossed = total >= bar
        alerts += int(crossed.sum())
        total[crossed] = 0
    per_tick = min(1.0, attempts * (np.log1p(rate * (odds - 1)) - rate * np.log(odds)))
    promised = 2000 * 300 * per_tick / (np.exp(bar) - bar - 1)
    assert 0 < alerts <= promised + 4 * promised**0.5


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.integers(0, 30))
def test_running_in_parts_equals_running_at_once(ratios, split):
    """The evidence and how long it has added up do not depend on how many ticks come at a time."""
    shaped = np.zeros((len(ratios), len(ROWS), 1), dtype=np.float32)
    shaped[:, 0, 0] = ratios
    once, parts = Cusum(1), Cusum(1)
    for cusum in (once, parts):
        cusum.moved(np.array([-1]))
    once.run(shaped, 1e9)
    for part in (shaped[:split], shaped[split:]):
        parts.run(part, 1e9)
    total = 0.0
    for ratio in ratios:
        total = max(total + ratio, 0.0)
    assert once.total[0, 0] == pytest.approx(total, abs=1e-4)
    assert (once.total == parts.total).all()
    assert (once.age == parts.age).all()


def test_a_run_stops_at_the_tick_that_brings_enough():
    """Ticks behind it are left for when it is known what is behind the alarm."""
    shaped = np.zeros((5, len(ROWS), 1), dtype=np.float32)
    shaped[:, 0, 0] = 1.0
    cusum = Cusum(1)
    assert cusum.run(shaped, 3.0) == 3
    assert (cusum.total[0, 0], cusum.age[0, 0]) == (3.0, 3)


# --- findings, recovery, money, history ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "observed", "share", "severity"),
    [
        (0.9, 0.05, 0.2, "critical"),
        (0.9, 0.05, 0.001, "major"),
        (0.9, 0.8, 0.9, "critical"),
        (0.9, 0.7, 0.02, "major"),
        (0.9, 0.8, 0.01, "minor"),
    ],
)
def test_severity_is_depth_and_traffic(expected, observed, share, severity):
    """Deep losses of real traffic are critical, shallow ones of little traffic minor."""
    assert success_severity(expected=expected, observed=observed, traffic_share=share) == severity


def test_what_loses_no_payment_is_at_most_major():
    """Slowness, or amounts that are a third of the usual, are major at most."""
    assert [ratio_severity(ratio) for ratio in (1.5, 2.99, 3.0, 90, 0.5, 0.3)] == [
        "minor", "minor", "major", "major", "minor", "major",
    ]  # fmt: skip


@given(st.tuples(*(st.none() | st.text(min_size=1, max_size=60),) * 5), st.floats(0, 4e9))
def test_identifiers_fit_the_contract_and_repeat(segment, started_at):
    """Any names give a safe id of at most 80 characters, the same each time."""
    name = identifier(segment, "success_rate", started_at)
    assert len(name) <= ID_LENGTH_MAX
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-")
    assert name == identifier(segment, "success_rate", started_at)


def test_names_that_look_alike_after_cleaning_stay_apart():
    """Two issuers that differ only in a forbidden character do not share an id."""
    first, second = (identifier((None, None, name, None, None), "latency", NOW) for name in ("bank a", "bank/a"))
    assert first != second


def test_the_expected_range_holds_ordinary_windows():
    """About 95 of 100 ordinary windows of 200 attempts lie inside, also when the normal itself is in doubt."""
    random = np.random.default_rng(2)
    true = 1 / (1 + np.exp(-(np.log(9.0) + random.normal(0, 0.2, 20_000))))
    seen = random.binomial(200, true) / 200
    low, high = rate_range(0.9, 0.2, 200)
    assert np.mean((seen >= low) & (seen <= high)) == pytest.approx(0.95, abs=0.02)


def down():
    """Bravo is down; 8 % failures are normal."""
    return Incident(finding(), channel=FAILED, first=0, opened=0, ratio=11.9)


def watch(incident, succeeded, failed, first):
    """One tick of a segment that is unwell."""
    total = succeeded + failed
    columns = (np.array([float(failed)]), np.array([0.08 * total]), np.array([float(total)]))
    incident.weigh(incident.health(*columns), first)
    return incident.well


def test_only_successes_make_a_segment_well_and_silence_says_nothing():
    """Empty ticks change nothing; a dozen successes suffice after an outage; failures undo them."""
    incident = down()
    assert [watch(incident, 0, 0, tick) for tick in range(50)] == [False] * 50
    ticks = iter(range(50, 60))
    assert not watch(incident, 5, 0, next(ticks))
    assert not watch(incident, 0, 5, next(ticks))
    assert not watch(incident, 4, 0, next(ticks))
    assert not watch(incident, 0, 0, next(ticks))
    assert watch(incident, 8, 0, next(ticks))
    assert incident.well_since == 52


def test_a_down_segment_almost_never_looks_well():
    """At 5 % success, 200 outages of 200 attempts: none is taken for well."""
    random = np.random.default_rng(4)
    for _ in range(200):
        incident = down()
        assert not any(watch(incident, good, 2 - good, tick) for tick, good in enumerate(random.binomial(2, 0.05, 100)))


def test_recovery_is_judged_against_how_bad_it_is_and_not_against_the_worst_stretch():
    """Opened as twelve times normal, in truth 2.5 times: once tempered, half an hour of it is never taken for well."""
    random = np.random.default_rng(5)
    for _ in range(20):
        incident = down()
        incident.temper(2.5)
        incident.temper(4.0)
        incident.temper(0.9)
        assert incident.ratio == 2.5  # neither worse again, nor better than normal
        assert not any(watch(incident, good, 5 - good, tick) for tick, good in enumerate(random.binomial(5, 0.8, 400)))
        well = [watch(incident, good, 5 - good, tick) for tick, good in enumerate(random.binomial(5, 0.92, 300))]
        assert any(well)
    incident.temper(1.01)
    assert incident.ratio == TEMPERED_MIN


def test_a_segment_without_its_parts_holds_the_rest():
    """Seen and expected are taken away, and what parts share is not taken below nothing."""
    columns = (np.array([30.0, 20.0, 15.0]), np.array([10.0, 4.0, 3.0]), np.array([100.0, 40.0, 30.0]))
    excess = Excess(FAILED, *columns, np.zeros(3))
    rest = excess.without(0, [1])
    assert [float(column[0]) for column in rest[1:4]] == [10.0, 6.0, 60.0]
    assert rest.ratio(0) == pytest.approx(10.1 / 6.1)
    assert float(excess.without(0, [1, 2]).seen[0]) == 0.0


def test_an_attempt_is_worth_the_mean_of_the_main_currency():
    """The currency with most attempts is taken, with its mean and its share."""
    amounts = Amounts(leaves_max=4)
    inr, eur = amounts.currency("INR"), amounts.currency("EUR")
    assert amounts.typical(np.ones(4, dtype=bool)) is None
    amounts.add(np.array([0, 0, 1, 1]), np.array([inr, inr, inr, eur]), np.array([100.0, 200.0, 300.0, 9.0]))
    assert amounts.typical(np.ones(4, dtype=bool)) == ("INR", 200.0, 0.75)
    assert [amounts.currency(f"X{number:02}") for number in range(20)].count(-1) == 14


def test_history_teaches_rates_and_latency_but_not_the_time_of_known_anomalies():
    """Stored minutes set the normal; those of a past outage of bravo are left out."""
    ledger, cells = ledger_of(), []
    for minute in range(30):
        at, bad = NOW - 60 * (minute + 1), minute < 5
        cells.append(HistoryCell(at, 60.0, "alpha", "card", "bank_a", 90, 10, 100, {20: 100}))
        good, failed = (5, 95) if bad else (90, 10)
        cells.append(HistoryCell(at, 60.0, "bravo", "card", "bank_a", good, failed, 100, {20: 100}))
    known = [finding(started_at=NOW - 300, closed_at=NOW - 1)]
    assert replay(ledger, cells, known, now=NOW) == 55
    assert ledger.normal.rate[:, FAILED] == pytest.approx([0.1, 0.1], abs=0.015)
    assert np.exp(ledger.normal.latency) == pytest.approx(10 * 1.25**20.5, rel=0.05)


def test_a_part_that_was_never_heard_is_told_with_the_latency_of_what_it_is_like():
    """Payments of bravo that say their country are new after a start: 400 ms is usual of them, and not 1 ms."""
    ledger = Ledger(tick_s=1.0, memory_s=3600.0, segments_max=100, watched_max=100)
    bucket = int(np.log(40.0) / np.log(1.25))
    cells = [HistoryCell(60.0 * n, 60.0, "bravo", "card", "bank", 190, 10, 200, {bucket: 190}) for n in range(10)]
    replay(ledger, cells, [], now=600.0)
    cell = ledger.table.cell(("bravo", "card", "bank", "visa", "IN", False))
    assert ledger.grown(600.0)
    sums = np.zeros((len(ledger.table.cells), STATISTICS))
    sums[cell, [SETTLED, SUCCEEDED, LATENCY_N, LATENCY_SUM]] = 50.0, 50.0, 50.0, 50 * np.log(1200.0)
    key = ("bravo", None, None, None, "IN")
    scales = Scales(ledger)
    measured = {LATENCY: scales.excess(LATENCY, sums, 600, 610)}
    told = scales.measure(key, ledger.table.segment(key), "latency", LATENCY, measured, 11)
    assert 350 < told.expected < 450
    assert told.observed == pytest.approx(1200, rel=0.01)


def test_every_test_has_a_channel_and_a_size_that_is_a_change():
    """No size is 1, and each pair stands once."""
    assert all(size != 1.0 for _, size in ROWS)
    assert set(Counter(ROWS).values()) == {1}
    assert len({channel for channel, _ in ROWS}) >= COUNTED


@pytest.mark.parametrize("size", [1.6, 4.0, 20.0])
@pytest.mark.parametrize("scale", [1.0, 3.5, 50.0])
def test_total_failure_is_evidence_however_little_is_known(size: float, scale: float) -> None:
    """What an attempt says against a change is less than what its failure says for it."""
    share = np.array([[0.05, 0.3, 0.9]])
    losses = _losses(share, np.ones((1, 3)), size, np.full(3, scale))
    assert (losses > 0).all()
    assert (losses < np.log(size)).all()
    exact = np.log1p(scale * share / (1 - share + scale * share) * (size - 1))
    assert losses == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("heard", [0.0, 0.02, 0.4, 1.0])
def test_picking_out_who_heard_something_changes_no_evidence(heard: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, also for corrections, which take back as much as they add, and for faults that are told later."""
    generator = np.random.default_rng(5)
    watched = 80
    shape = 12, watched
    hears = generator.random(shape) < heard

    def counts(mean: float, *more: int) -> np.ndarray:
        return (generator.poisson(mean, (*more, *shape)) * hears).astype(np.float32)

    failed, succeeded, hits = counts(0.5), counts(3.0), counts(0.3, COUNTED)
    failed[0, 0], succeeded[0, 0], hits[0, 0, 0], hits[2, 1, 1] = -1, 1, -1, 1
    expected = ((failed + succeeded) * generator.uniform(0, 0.3, (COUNTED, *shape))).astype(np.float32)
    others = [counts(1.0) for _ in range(6)]
    evidence = Evidence(
        hits, expected, np.abs(expected[: len(CHANNELS[0].sizes)]), *others, failed, succeeded, counts(2.0),
        generator.random(watched),
    )  # fmt: skip
    context = Context(
        scale=generator.uniform(1, 1.3, (COUNTED, watched)), margin=generator.random((2, watched)),
        lagged=generator.random((2, watched)), watched=generator.random((len(CHANNELS), watched)) < 0.9,
        dispersion=generator.uniform(1, 2, len(CHANNELS)), orders_per_s=3.0, least_per_s=None,
        recent_per_s=2.0, usual=5.0, all_column=0,
        step_s=2.0,
    )  # fmt: skip
    bases = generator.random((2, *shape))
    found = []
    for below in (0.0, 2.0):
        monkeypatch.setattr("ml.anomalies.evidence.SPARSE_BELOW", below)
        found.append(log_ratios(evidence, bases, context))
    np.testing.assert_array_equal(*found)
    assert found[0].any()


def _ebbed(after: float, of_gateway: float) -> Evidence:
    """A second's counts after traffic of all, and of the gateway of the third of four segments, fell to so much."""
    settled = {"failed": np.full((60, 4), 10.0), "succeeded": np.full((60, 4), 90.0)}
    counts = {"expected": np.full((COUNTED, 60, 4), 2.0), "losses": np.full((3, 60, 4), 2.0)}
    fields = dict.fromkeys(Evidence._fields, np.zeros((60, 4))) | settled | counts
    ebb, before = Ebb(2), np.full((200, 2), 400.0)
    ebb.commit(ebb.run(before, 1.0), 200, 1.0)
    later = np.full((60, 2), 400.0) * (after, after * of_gateway)
    return eased(Evidence(**fields), ebbing(ebb.run(later, 1.0), 1.0), np.array([0, 0, 1, 0]))


def test_more_failures_are_expected_while_all_traffic_ebbs_away():
    """Where it falls by half, the share of failures is raised for some seconds; a rise excuses nothing."""
    half = _ebbed(0.5, 1.0)
    assert (half.losses == half.expected[0]).all()
    raised = half.expected[0, :, 2] / 2
    assert 1.5 < raised[5] < 2.0
    assert raised[12] > 1.3
    assert raised[59] == 1.0
    for rises in (1.0, 3.0):
        assert (_ebbed(rises, 1.0).expected == 2.0).all()


def test_more_slow_failures_are_expected_of_a_gateway_that_payments_are_led_away_from():
    """Those of the network, and as many among all failures; nothing else is excused, and no other segment."""
    left = _ebbed(1.0, 0.25)
    late = left.expected[:, 5, 2] - 2.0
    assert 3.0 < late[NETWORK] < 6.0
    assert (np.flatnonzero(late) == [FAILED, NETWORK, TECHNICAL_HITS]).all()
    assert np.ptp(late[[FAILED, NETWORK, TECHNICAL_HITS]]) == 0
    size = CHANNELS[FAILED].sizes[0]
    share = np.expm1(left.losses[0, 5, 2] / 100) / (size - 1)
    before = np.expm1(2.0 / 100) / (size - 1)
    np.testing.assert_allclose(share - before, late[NETWORK] / 100, rtol=1e-6)
    assert (left.expected[:, :, [0, 1, 3]] == 2.0).all()
    assert (left.losses[:, :, [0, 1, 3]] == 2.0).all()
    everywhere = _ebbed(0.25, 1.0)
    assert (everywhere.expected[:, :, 2] == everywhere.expected[:, :, 0]).all()
