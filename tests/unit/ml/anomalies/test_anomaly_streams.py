"""The detector against streams: what it finds, how soon, what it names, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

BRAVO = ("bravo", None, None, None, None)
ALL = (None, None, None, None, None)
EQUAL = np.full(5, 0.2)
AWAY = np.array([0.2475, 0.01, 0.2475, 0.2475, 0.2475])  # 0.6 attempts a second are left at bravo


def outage(gateway, method, issuer, rate):
    """Bravo fails 95 of 100."""
    return np.where(gateway == 1, 0.95, rate)


def opened(changes):
    """What was opened: segment and signal."""
    return [(change.finding.segment, change.finding.signal) for change in changes if change.kind == "opened"]


def kinds(changes):
    """Only what kind of change each is."""
    return [change.kind for change in changes]


def test_clean_streams_raise_nothing_from_a_cold_start(stream):
    """Four seeds of four minutes from a cold start raise no alert; one a week would allow 0.002."""
    assert [opened(stream(seed).run(240)) for seed in range(4)] == [[]] * 4


def test_busy_traffic_is_not_judged_before_its_slow_answers_can_have_been_heard(stream):
    """At 1,000 attempts a second 600 are learnt at once; still nothing is told for 16 s, then the outage is."""
    world = stream(3, per_second=1000)
    assert opened(world.run(8) + world.run(8, failing=outage)) == []
    assert opened(world.run(30, failing=outage)) == [(BRAVO, "success_rate")]


def test_false_alerts_stay_within_a_generous_budget(stream):
    """With 10,000 false alerts a week allowed (12 in these 12 minutes), no more than that are raised."""
    raised = sum(len(opened(stream(seed, false_alerts_per_week=10_000).run(240))) for seed in range(100, 103))
    assert raised <= 12


@pytest.mark.parametrize("seed", range(4))
def test_an_outage_is_one_anomaly_found_in_seconds_and_closed_after_recovery(stream, seed):
    """After 60 s of history, bravo's outage is opened once within 10 s, as bravo's, and closed 20 to 30 s after it."""
    world = stream(seed)
    assert world.run(60) == []
    begin = world.now
    during = world.run(60, failing=outage)
    assert opened(during) == [(BRAVO, "success_rate")]
    found = during[0].finding
    assert found.detected_at - begin <= 10
    assert begin - 2 <= found.started_at <= begin + 2
    assert found.severity == "critical"
    assert found.expected_low <= found.expected <= found.expected_high
    assert found.observed < found.expected_low
    assert kinds(during).count("updated") <= 2
    end = world.now
    (closed,) = [change.finding for change in world.run(40) if change.kind != "updated"]
    assert closed.anomaly_id == found.anomaly_id
    assert 20 <= closed.updated_at - end <= 32
    assert end - 2 <= closed.closed_at <= end + 10
    assert world.detector.open_findings == []


@pytest.mark.parametrize("seed", range(3))
def test_an_outage_whose_traffic_is_routed_away_stays_open_until_canaries_succeed(stream, seed):
    """With 1 % of the traffic left at bravo it stays open for three minutes, and closes once on healthy canaries."""
    world = stream(seed)
    world.run(60)
    first = world.run(6, failing=outage)
    away = world.run(200, failing=outage, share=AWAY)
    assert opened(first + away) == [(BRAVO, "success_rate")]
    assert "closed" not in kinds(first + away)
    assert kinds(away).count("updated") <= 5
    assert kinds(world.run(120, share=AWAY)).count("closed") == 1
    assert opened(world.run(60)) == []


def test_without_any_traffic_an_anomaly_neither_closes_nor_changes(stream):
    """A gateway nobody uses any more is not known to be well."""
    world = stream(1)
    world.run(60)
    world.run(10, failing=outage)
    world.run(60, share=np.array([0.25, 0.0, 0.25, 0.25, 0.25]))
    assert [finding.segment for finding in world.detector.open_findings] == [BRAVO]


@pytest.mark.parametrize("seed", range(3))
def test_a_loss_of_twenty_points_is_found_within_a_minute(stream, seed):
    """Bravo loses 20 points of success: opened within 60 s, as bravo's, and more than minor."""
    world = stream(seed)
    world.run(120)
    changes = world.run(60, failing=lambda g, m, i, rate: np.where(g == 1, rate + 0.2, rate))
    assert opened(changes) == [(BRAVO, "success_rate")]
    assert changes[0].finding.severity in ("major", "critical")


@pytest.mark.parametrize("seed", range(4))
def test_an_issuer_that_is_down_everywhere_is_one_issuer_anomaly(stream, seed):
    """A bank that fails at every gateway is named, and no gateway is blamed."""
    world = stream(seed)
    world.run(120)
    changes = world.run(60, failing=lambda g, m, i, rate: np.where(i == 3, 0.95, rate))
    assert opened(changes) == [((None, None, "bank_d", None, None), "success_rate")]


def test_one_method_of_one_gateway_is_named_as_such(stream):
    """Cards fail at bravo only: neither bravo nor cards as a whole are blamed."""
    world = stream(5)
    world.run(120)
    world.run(40, failing=lambda g, m, i, rate: np.where((g == 1) & (m == 0), 0.95, rate))
    assert [finding.segment for finding in world.detector.open_findings] == [("bravo", "card", None, None, None)]


def test_two_troubles_at_once_are_two_anomalies(stream):
    """A gateway and an issuer that fail together are told apart."""
    world = stream(6)
    world.run(120)
    changes = world.run(60, failing=lambda g, m, i, rate: np.where((g == 1) | (i == 3), 0.95, rate))
    assert set(opened(changes)) == {((None, None, "bank_d", None, None), "success_rate"), (BRAVO, "success_rate")}
    assert len(opened(changes)) == 2


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_trouble_that_is_over_is_not_taken_for_what_goes_on(stream, seed):
    """While charlie is down bravo begins to lose 15 points; charlie recovers, and bravo's anomaly stays bravo's."""
    world = stream(seed)
    world.run(150)
    told = world.run(30, failing=lambda g, m, i, rate: np.where(g == 2, 0.95, rate))
    told += world.run(30, failing=lambda g, m, i, rate: np.where(g == 2, 0.95, np.where(g == 1, rate + 0.15, rate)))
    told += world.run(320, failing=lambda g, m, i, rate: np.where(g == 1, rate + 0.15, rate))
    charlie = ("charlie", None, None, None, None)
    assert opened(told) == [(charlie, "success_rate"), (BRAVO, "success_rate")]
    names = {change.finding.segment for change in told if change.finding.anomaly_id != told[0].finding.anomaly_id}
    assert names == {BRAVO}
    assert [finding.segment for finding in world.detector.open_findings] == [BRAVO]


def names_of(told):
    """The names that each anomaly ever had, in the order in which they were opened."""
    names = {}
    for change in told:
        names.setdefault(change.finding.anomaly_id, []).append(change.finding.segment)
    return [list(dict.fromkeys(each)) for each in names.values()]


def test_a_part_that_recovers_does_not_give_its_name_to_the_whole(stream):
    """Bravo's cards are down, then all of bravo is mildly ill; cards recover, and bravo's anomaly stays bravo's."""
    world = stream(2)
    world.run(180)
    cards = ("bravo", "card", None, None, None)

    def mild(g, m, i, rate):
        return np.where(g == 1, rate + 0.12, rate)

    def both(g, m, i, rate):
        return np.where((g == 1) & (m == 0), 0.95, mild(g, m, i, rate))

    told = world.run(200, failing=lambda g, m, i, rate: np.where((g == 1) & (m == 0), 0.95, rate))
    told += world.run(300, failing=both)
    told += world.run(250, failing=mild)
    assert names_of(told) == [[cards], [BRAVO]]
    assert [finding.segment for finding in world.detector.open_findings] == [BRAVO]


def test_a_short_trouble_of_everything_does_not_widen_what_goes_on_in_a_part(stream):
    """One bank fails at bravo; everything dips for 40 s and is well again: the bank's anomaly keeps its name."""
    world = stream(2)
    world.run(180)

    def part(g, m, i, rate):
        return np.where((g == 1) & (i == 3), 0.95, rate)

    told = world.run(60, failing=part)
    told += world.run(40, failing=lambda g, m, i, rate: np.where((g == 1) & (i == 3), 0.95, 0.6))
    told += world.run(200, failing=part)
    assert names_of(told) == [[("bravo", None, "bank_d", None, None)], [ALL]]
    assert [finding.segment for finding in world.detector.open_findings] == [("bravo", None, "bank_d", None, None)]


def test_orders_that_come_again_do_not_widen_what_is_still_missing(stream):
    """UPI stays away, then cards as well; UPI comes again, and what is told of cards stays cards until they come."""
    world = stream(1)
    world.run(180)
    world.run(200, methods=np.array([1.0, 0.1, 1.0, 1.0]))
    world.run(200, methods=np.array([0.2, 0.1, 1.0, 1.0]))
    told = world.run(500, methods=np.array([0.2, 1.0, 1.0, 1.0]))
    last = [finding.segment for finding in world.detector.open_findings]
    assert last == [(None, "card", None, None, None)]
    assert opened(told) == []


@pytest.mark.parametrize("seed", range(3))
def test_traffic_that_a_router_shifts_is_no_anomaly(stream, seed):
    """The gateways' shares change threefold, back and forth, and nothing is told."""
    world = stream(seed)
    world.run(60)
    told = []
    for share in ([0.05, 0.05, 0.2, 0.1, 0.6], [0.6, 0.1, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2]):
        told += world.run(60, share=np.array(share))
    assert told == []


@pytest.mark.parametrize(("per_second", "timeouts", "factor"), [(2_000, 0.6, 2), (800, 0.3, 5), (800, 0.3, 1.4)])
def test_time_outs_that_outlast_a_sale_are_no_anomaly(stream, per_second, timeouts, factor):
    """When it ends, mostly the time-outs of its payments are heard for twelve seconds."""
    world = stream(0, per_second=per_second, timeouts=timeouts)
    assert opened(world.run(150) + world.run(60, busy=factor) + world.run(60)) == []


@pytest.mark.parametrize(
    ("per_second", "failing", "left", "within_s"), [(200, 1.0, 0.02, 10), (200, 0.4, 0.05, 30), (800, 0.5, 0.01, 20)]
)
def test_a_gateway_that_payments_are_led_away_from_at_once_is_found_all_the_same(
    stream, per_second, failing, left, within_s
):
    """Bravo fails, and nearly all its payments go elsewhere in the same second: few are left to tell it by."""
    rest = (1 - left) / 4
    for seed in range(2):
        world = stream(seed, per_second=per_second)
        world.run(150)
        began = world.now
        share = np.array([rest, left, rest, rest, rest])
        told = world.run(within_s, failing=lambda g, m, i, rate: np.where(g == 1, failing, rate), share=share)
        assert opened(told) == [(BRAVO, "success_rate")]
        assert told[0].finding.detected_at - began <= within_s


@pytest.mark.parametrize("left", [0.0, 0.005])
def test_a_gateway_that_is_paused_is_no_anomaly(stream, left):
    """What is heard of it for twelve seconds more are its time-outs."""
    for seed in range(3):
        world = stream(seed, per_second=1_000, timeouts=0.15)
        calm = world.run(100)
        rest = (1 - left) / 4
        share = np.array([rest, left, rest, rest, rest])
        assert opened(calm + world.run(40, share=share)) == []


@pytest.mark.parametrize("seed", range(2))
def test_an_outage_of_nothing_but_time_outs_is_found_when_they_come(stream, seed):
    """Bravo's answers stay out for twelve seconds and then are failures: found within four seconds of the first."""
    world = stream(seed, per_second=200, timeouts=1.0)
    world.run(120)
    began = world.now
    (found, *_) = world.run(30, failing=outage)
    assert (found.finding.segment, found.finding.signal) == (BRAVO, "success_rate")
    assert found.finding.detected_at - began <= 16


def test_what_is_normal_goes_on_being_learnt_however_busy_it_is(stream):
    """At 1,500 attempts a second the first minutes are not all that is known of a gateway and a bank for long."""
    world = stream(4, per_second=1_500)
    doubts = []
    for _ in range(2):
        assert opened(world.run(240)) == []
        segment = world.detector.ledger.table.segment(("bravo", None, "bank_d", None, None))
        doubts.append(world.detector.ledger.doubt[segment, 0])
    assert doubts[1] < 0.85 * doubts[0]


def test_a_sale_and_a_quiet_hour_are_no_anomaly(stream):
    """Five times more traffic, then a tenth of it, and nothing is told: no day was seen yet that says otherwise."""
    world = stream(7)
    told = world.run(60)
    for busy in (5.0, 0.1, 1.0):
        told += world.run(30, busy=busy)
    assert told == []


def test_a_brownout_is_a_latency_anomaly(stream):
    """Charlie becomes 2.5 times as slow while payments succeed: latency, charlie, observed above the expected range."""
    world = stream(8)
    world.run(120)
    changes = world.run(40, slow=lambda g, m, i, latency: np.where(g == 2, 2.5 * latency, latency))
    assert opened(changes) == [(("charlie", None, None, None, None), "latency")]
    found = changes[0].finding
    assert found.observed > found.expected_high
    assert found.loss_minor_per_minute is None
    assert kinds(world.run(60)) == ["closed"]


def test_a_restart_neither_forgets_nor_repeats_an_open_anomaly(stream):
    """A new detector that is given the open anomaly tells nothing new about it, and closes it when bravo is well."""
    old = stream(9)
    old.run(120)
    old.run(10, failing=outage)
    open_before = old.detector.open_findings
    world = stream(9)
    world.now = old.now
    world.detector.warm_start([], open_before, world.now)
    assert opened(world.run(120, failing=outage)) == []
    assert [finding.anomaly_id for finding in world.detector.open_findings] == [open_before[0].anomaly_id]
    assert [change.finding.anomaly_id for change in world.run(60) if change.kind == "closed"] == [
        open_before[0].anomaly_id
    ]


def test_the_outage_is_not_learnt_as_normal(stream):
    """After three bad minutes bravo is still expected to succeed as before."""
    world = stream(10)
    world.run(60)
    ledger = world.detector.ledger

    def expected() -> float:
        return float(ledger.normal.rate[ledger.table.covered(BRAVO), 0].mean())

    before = expected()
    world.run(180, failing=outage)
    assert abs(expected() - before) < 0.04


def test_silence_is_told_by_the_clock(stream):
    """All payments stop: no event says so, but the volume does, within seconds."""
    world = stream(11)
    world.run(120)
    changes = world.run(20, busy=0.0)
    assert opened(changes) == [(ALL, "volume")]
    assert kinds(world.run(60)) == ["closed"]


def test_missing_cards_are_told_from_the_rest(stream):
    """Cards stop while everything else goes on: the method is named, not the whole shop."""
    world = stream(12)
    world.run(120)
    changes = []
    for _ in range(30):
        rows = world._second(None, None, np.full(5, 0.2), 1.0, None, 1.0)
        cards = np.isin(rows.cell, [cell for (g, m, i), cell in world._cells.items() if m == 0])
        world.detector.observe_columns(rows.take(~cards))
        world.now += 1
        changes += world.detector.tick(world.now)
    assert opened(changes) == [((None, "card", None, None, None), "volume")]


def test_card_testing_is_one_anomaly_of_its_own_kind(stream):
    """Small declined cards on top of the usual traffic: card testing on cards, and no loss of success beside it."""
    world = stream(13)
    world.run(120)
    changes = world.run(40, probes=20)
    assert opened(changes)[-1:] != []
    assert [(finding.segment[1], finding.signal) for finding in world.detector.open_findings] == [
        ("card", "card_testing")
    ]


@pytest.mark.parametrize("seed", range(2))
def test_card_testing_stays_card_testing_when_everything_fails_as_well(stream, seed):
    """Cards are tried out, then all payments lose 30 points: two anomalies."""
    world = stream(seed)
    world.run(150)
    told = world.run(60, probes=15)
    told += world.run(60, probes=15, failing=lambda g, m, i, rate: np.minimum(rate + 0.3, 0.99))
    cards = (None, "card", None, None, None)
    assert opened(told) == [(cards, "card_testing"), (ALL, "success_rate")]
    assert len(world.detector.open_findings) == 2


def test_other_reasons_at_the_same_rate_are_a_change_of_mix(stream):
    """As many payments fail, but by fraud rules: the mix is told, not the success rate."""
    world = stream(14)
    world.run(300)
    changes = world.run(60, faults=np.array([0.2, 0.1, 0.1, 0.05, 0.05, 0.5]))
    assert [finding.signal for finding in world.detector.open_findings] == ["failure_mix"]
    assert changes[0].finding.fault == "fraud_rules"


def test_amounts_ten_times_too_large_are_told(stream):
    """A wrong currency factor: the amounts are told."""
    world = stream(15)
    world.run(120)
    assert opened(world.run(30, amount=10.0)) == [(ALL, "amount_mix")]


def test_planned_maintenance_hides_what_it_explains_and_nothing_else(stream):
    """Bravo is down as planned and nothing is told of it; alpha, down at the same time, is told."""
    world = stream(16)
    world.run(120)
    world.detector.plan([BRAVO])
    assert world.run(30, failing=outage) == []
    both = world.run(30, failing=lambda g, m, i, rate: np.where(g <= 1, 0.95, rate))
    assert opened(both) == [(("alpha", None, None, None, None), "success_rate")]


def test_ticks_in_one_go_find_what_ticks_one_by_one_find(stream):
    """Whether time comes in seconds or in half minutes, the same trouble is found with the same start."""
    found = []
    for step in (1, 30):
        world = stream(17, step=step)
        world.run(120)
        found.append([change.finding for change in world.run(60, failing=outage) if change.kind == "opened"])
    assert [finding.segment for finding in found[0]] == [finding.segment for finding in found[1]] == [BRAVO]
    assert found[0][0].started_at == found[1][0].started_at
    assert found[0][0].detected_at == found[1][0].detected_at


def test_what_an_operator_calls_false_is_closed_and_needs_more_evidence_next_time(stream):
    """A dismissed anomaly closes at once; the like of it is asked for more evidence than there was."""
    world = stream(18)
    world.run(120)
    world.run(20, failing=outage)
    (finding,) = world.detector.open_findings
    change = world.detector.dismiss(finding)
    assert change is not None
    assert change.kind == "closed"
    assert change.finding.closed_because == "marked as false"
    assert world.detector.casebook.doubted["success_rate", BRAVO] > finding.score


def test_reports_from_a_wrong_clock_count_now(stream):
    """A report dated a year ahead is not kept waiting for a year."""
    world = stream(19)
    world.run(5)
    rows = world._second(None, None, EQUAL, 1.0, None, 1.0)
    world.detector.observe_columns(rows._replace(at=rows.at + 3e7))
    world.run(3)
    assert all(part.at.max() <= world.now for part in world.detector._pending)
