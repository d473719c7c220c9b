"""Verdicts: plain words, and the right ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from ml.experiments.arms import ArmTally, parts_of
from ml.experiments.design import Arm, Experiment, Guardrail
from ml.experiments.goals import Judging
from ml.experiments.segments import segments_of
from ml.experiments.units import COUNT_NAMES, SUM_NAMES
from ml.experiments.verdict import Verdict, judge

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
JUDGING = Judging(alpha=0.05, units_expected=5000, now=NOW, since=NOW - timedelta(days=10))


def experiment(*names: str, **other: Any) -> Experiment:
    """An experiment with equal arms."""
    arms = [Arm(name=name, policy="p", weight=1 / len(names)) for name in names]
    return Experiment(name="e", seed="s", arms=arms, **other)


def tally(units: int, succeeded: int, stratum: str = "card|bank|IN|1", **counts: int) -> ArmTally:
    """An arm in which every unit has one attempt, all of them mature."""
    sums = dict.fromkeys(SUM_NAMES, 0.0) | {"units": float(units)}
    for metric in ("authorization_rate", "first_attempt_rate", "order_success_rate"):
        top, bottom = float(succeeded), float(units)
        sums |= {f"{metric}.top": top, f"{metric}.bottom": bottom, f"{metric}.top_top": top,
                 f"{metric}.top_bottom": top, f"{metric}.bottom_bottom": bottom}  # fmt: skip
    counted = {"units": units, "orders": units, "attempts": units, "settled": units, "succeeded": succeeded} | counts
    return ArmTally(tuple(counted.get(name, 0) for name in COUNT_NAMES), {stratum: tuple(sums.values())})


def verdict(a: ArmTally, b: ArmTally, judging: Judging = JUDGING, **other: Any) -> Verdict:
    """Judge learner (a) against control (b)."""
    return judge(experiment("learner", "control", **other), {"learner": a, "control": b}, judging)


@pytest.mark.parametrize(
    ("learner", "control", "standing", "words"),
    [
        (tally(2000, 1800), tally(2000, 1640), "better",
         "better: authorization rate of 'learner' +8.00 points against 'control' ("),
        (tally(2000, 1640), tally(2000, 1800), "worse",
         "worse: authorization rate of 'learner' -8.00 points against 'control' ("),
        (tally(2000, 1650), tally(2000, 1640), "collecting", "collecting: needs about "),
        (tally(500_000, 450_500), tally(500_000, 450_000), "no difference",
         "no difference of 0.50 points or more: authorization rate of 'learner' +0.10 points against 'control' ("),
        (tally(40, 30), tally(60, 45), "collecting",
         "collecting: arm 'learner' needs about 60 more mature orders / 15.0 days before it is compared"),
        (tally(1200, 1000), tally(900, 800), "broken",
         "broken: sample ratio mismatch, units arrived 1,200 : 900 where 1,050 : 1,050 were split off (p below"),
        (tally(1000, 900), tally(1000, 900, disagreed=30), "broken",
         "broken: 30 of 2,000 units were decided in another arm than their own; "),
        (tally(1000, 900, crossed=25), tally(1000, 900), "broken", "broken: 25 of 2,000 units were in two arms; "),
        (tally(1000, 900), ArmTally(), "broken",
         "broken: missing exposures: not one of 1,000 units was routed by arm 'control'; "),
        (tally(10, 11), tally(10, 5), "broken",
         "broken: the counts of arm 'learner' contradict themselves; rebuild them from the recorded attempts"),
        (tally(45, 2), tally(45, 43), "worse", "worse: authorization rate of 'learner' -91.11 points against "),
    ],
)  # fmt: skip
def test_verdict_says_it_in_words(learner: ArmTally, control: ArmTally, standing: str, words: str) -> None:
    """Every standing has a sentence that names arms, size, bounds and what to do; a disaster is seen at 45 orders."""
    judged = verdict(learner, control)
    assert judged.words.startswith(words), judged.words
    assert judged.standing == standing


def test_a_difference_says_how_many_of_what_it_rests_on() -> None:
    """The number that bounds and p-value rest on is told as mature orders, not as a bare n."""
    assert ", n 4,000 mature orders)" in verdict(tally(2000, 1800), tally(2000, 1640)).words


def test_nothing_is_claimed_before_anything_was_seen() -> None:
    """An experiment without a single count is collecting, and gives no number."""
    judged = judge(experiment("a", "b"), {}, JUDGING)
    assert (judged.standing, judged.primary, judged.units) == ("collecting", None, 0)


def test_better_waits_for_the_minimum_run_time_and_worse_does_not() -> None:
    """A win on the first day may be the day's; harm is said at once."""
    early = msgspec.structs.replace(JUDGING, since=NOW - timedelta(days=1))
    won = verdict(tally(2000, 1800), tally(2000, 1640), early)
    assert won.standing == "collecting"
    assert won.words.startswith("collecting: better so far (")
    assert won.words.endswith("but it runs until 2026-04-06 at least")
    assert won.days_needed == pytest.approx(6)
    assert verdict(tally(2000, 1640), tally(2000, 1800), early).standing == "worse"


def test_control_is_the_arm_of_that_name_or_the_last() -> None:
    """Without an arm named control, the last of the file is what the others are compared with."""
    assert experiment("control", "b").control.name == "control"
    assert experiment("a", "b").control.name == "b"


def test_lower_is_better_where_the_metric_says_so() -> None:
    """An arm with more attempts per order is worse, although its number is higher."""
    arms = {}
    for name, attempts in (("learner", 3), ("control", 2)):
        sums = dict.fromkeys(SUM_NAMES, 0.0) | {"units": 1000.0}
        many = {"top": 1000.0 * attempts, "bottom": 1000.0, "top_top": 1000.0 * (attempts**2 + 1),
                "top_bottom": 1000.0 * attempts, "bottom_bottom": 1000.0}  # fmt: skip
        sums |= {f"attempts_per_order.{part}": value for part, value in many.items()}
        arms[name] = ArmTally(tally(1000, 900).counts, {"card|bank|IN|1": tuple(sums.values())})
    judged = judge(experiment("learner", "control", primary="attempts_per_order"), arms, JUDGING)
    assert judged.standing == "worse"
    assert judged.primary is not None
    assert judged.primary.interval.low > 0 > judged.primary.gain.high


def test_many_challengers_and_goals_pay_for_each_other() -> None:
    """With three challengers and two goals each interval is wider than alone, and agrees with Holm's answer."""
    arms = {"a": tally(2000, 1700), "b": tally(2000, 1640), "c": tally(2000, 1600), "control": tally(2000, 1640)}
    many = judge(experiment(*arms, goals=["order_success_rate"]), arms, JUDGING)
    alone = verdict(tally(2000, 1700), tally(2000, 1640)).goals[0].interval
    assert len(many.goals) == 6
    mine = next(goal for goal in many.goals if goal.arm == "a" and goal.metric == "authorization_rate")
    assert mine.interval.estimate == pytest.approx(alone.estimate)
    assert mine.interval.high - mine.interval.low > alone.high - alone.low
    for goal in many.goals:
        assert goal.p_value is not None
        assert (goal.interval.low > 0 or goal.interval.high < 0) == (goal.p_value <= goal.alpha)


@pytest.mark.parametrize(
    ("learner", "margin", "state"),
    [(1500, 0.01, "breached"), (1640, 0.01, "holding"), (1640, 0.2, "safe"), (1800, 0.01, "safe")],
)
def test_guardrails_have_a_margin(learner: int, margin: float, state: str) -> None:
    """Breached only when harm beyond the margin is sure; safe only when harm within it is."""
    judged = verdict(
        tally(2000, learner), tally(2000, 1640), primary="order_success_rate",
        guardrails=[Guardrail(metric="authorization_rate", margin=margin)],
    )  # fmt: skip
    assert judged.guardrails[0].state == state
    assert (judged.standing == "guardrail breached") == (state == "breached")


def test_immature_units_are_shown() -> None:
    """How many outcomes are still to come stands in the words."""
    arms = [tally(2000, won) for won in (1650, 1640)]
    more = [ArmTally((arm.counts[0] + 500, *arm.counts[1:]), arm.sums) for arm in arms]
    judged = verdict(more[0], more[1])
    assert judged.immature_share == pytest.approx(0.2)
    assert "20 % of 5,000 units still wait for their outcome" in judged.words


def test_blocks_of_time_are_the_units_of_a_switchback() -> None:
    """Thousands of payments in few blocks are few units: no verdict before there are twenty blocks an arm."""
    generator = np.random.default_rng(3)

    def arm(blocks: int, rate: float, first: int) -> ArmTally:
        strata = {}
        for block in range(first, first + blocks):
            won = int(generator.binomial(1000, np.clip(generator.normal(rate, 0.02), 0, 1)))
            strata |= tally(1000, won, f"block:{block}").sums
        return ArmTally(tally(1000 * blocks, 0).counts, strata)

    def stand(blocks: int, rate: float) -> Verdict:
        arms = {"a": arm(blocks, rate, 0), "control": arm(blocks, 0.85, 10_000)}
        return judge(experiment("a", "control", unit="time_block"), arms, JUDGING)

    few = stand(10, 0.95)
    assert (few.standing, few.units_needed) == ("collecting", 10)
    assert "more blocks of time" in few.words
    assert stand(60, 0.95).standing == "better"
    assert sum(stand(60, 0.85).standing in ("better", "worse") for _ in range(40)) <= 2


def test_strata_are_divided_by_dimension() -> None:
    """Parts by method, issuer, country or amount band add up to the whole."""
    card, upi = tally(100, 90, "card|a|IN|0"), tally(50, 40, "upi|b|IN|3")
    arm = ArmTally(card.counts, dict(card.sums) | dict(upi.sums))
    parts = parts_of({"a": arm}, "method")
    assert {value: arms["a"].mature for value, arms in parts.items()} == {"card": 100, "upi": 50}
    assert set(parts_of({"a": arm}, "amount")) == {"small", "very large"}


def test_looking_all_the_time_seldom_finds_what_is_not_there() -> None:
    """Of 40 experiments without a difference, each judged 25 times, at most two ever say better or worse."""
    generator = np.random.default_rng(11)
    wrong = 0
    for _ in range(40):
        succeeded = generator.binomial(150, 0.85, size=(25, 2)).cumsum(axis=0).tolist()
        standings = {
            verdict(tally(150 * look, a), tally(150 * look, b)).standing
            for look, (a, b) in enumerate(succeeded, start=1)
        }
        wrong += bool(standings & {"better", "worse"})
    assert wrong <= 2


def parted(rates: dict[str, tuple[float, float]], units: int = 4000) -> dict[str, ArmTally]:
    """Two arms whose rates are given by method: (learner, control)."""
    arms = {}
    for at, name in enumerate(("learner", "control")):
        sums: dict[str, tuple[float, ...]] = {}
        for method, rate in rates.items():
            sums |= tally(units, round(units * rate[at]), f"{method}|bank|IN|1").sums
        arms[name] = ArmTally(tally(units * len(rates), 0).counts, sums)
    return arms


def test_harm_in_one_part_is_told_although_the_whole_looks_well() -> None:
    """Ten points worse for wallets, better for everybody else: the arm goes through the guardrail of its parts."""
    rates = {"card": (0.95, 0.90), "upi": (0.95, 0.90), "wallet": (0.80, 0.90)}
    judged = judge(experiment("learner", "control"), parted(rates), JUDGING)
    assert judged.standing == "guardrail breached"
    assert judged.words.startswith(
        "harm in one part: for method 'wallet', authorization rate of 'learner' is worse by +10"
    )
    unwatched = judge(experiment("learner", "control", watched=[]), parted(rates), JUDGING)
    assert unwatched.standing != "guardrail breached"


def test_parts_that_differ_by_chance_are_drawn_together() -> None:
    """Equal effects end near their mean and none is marked; an unlike one stays where it is and is marked."""
    alike = segments_of(
        experiment("learner", "control"), parted({"card": (0.92, 0.9), "upi": (0.91, 0.9), "net": (0.93, 0.9)})
    )
    by_method = {each.value: each for each in alike if each.dimension == "method"}
    assert not any(each.differs for each in alike)
    assert abs(by_method["net"].shrunken - 0.02) < abs(by_method["net"].difference - 0.02)
    unlike = segments_of(
        experiment("learner", "control"), parted({"card": (0.92, 0.9), "upi": (0.92, 0.9), "net": (0.7, 0.9)})
    )
    marked = {each.value: each for each in unlike if each.differs}
    assert marked["net"].shrunken == pytest.approx(-0.2, abs=0.02)
    assert marked["net"].high < 0
