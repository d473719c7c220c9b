"""Statistics of experiments: published numbers, false alarms over many looks, and no numbers without data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from benchmarks.experiment_simulation import World, looks_of, watch
from benchmarks.experiment_vectors import checks, same_as_by_hand
from ml.experiments.evidence import EXACT_SHARE, evidence, units_lacking
from ml.experiments.group_sequential import bounds, crossing
from ml.experiments.intervals import Interval, Proportion, wilson_interval
from ml.experiments.moments import Moments, contrast, merge_thin, ratio_of
from ml.experiments.multiplicity import holm, holm_levels
from ml.experiments.planning import plan_rates, units_any_time
from ml.experiments.sample_ratio import SampleRatio, log_evidence_of_leak, sample_ratio
from ml.experiments.sequences import (
    confidence_sequence,
    exact_difference,
    exact_rate,
    half_width,
    log_e_of_rate,
    log_e_value,
    p_value_above,
    p_value_any_time,
    precision,
    reach_below,
)
from ml.lack import TooFewData


def test_every_published_example_that_applies_is_met(shared_data: Path) -> None:
    """Hashes, intervals, sequences, planned looks, power and multiplicity: what others published comes out here."""
    compared = checks(shared_data / "experiments/vectors.json")
    assert len(compared) >= 45
    assert [check.name for check in compared if not check.matched] == []


def test_confidence_sequence_costs_the_stated_width() -> None:
    """1.55 times a single look's width at the expected size, 1.72 times at a fifth of it, 1.60 at four times."""
    tuned = precision(0.05, 5000)
    widths = half_width(1 / 1.959964, [1000, 5000, 20_000], alpha=0.05, tuned=tuned)
    assert widths == pytest.approx([1.72, 1.55, 1.60], abs=0.005)


@given(
    estimate=st.floats(0.001, 0.5), error=st.floats(0.001, 0.2), units=st.integers(1, 10**6),
    alpha=st.floats(0.001, 0.4), expected=st.integers(10, 10**6), tuned_alpha=st.floats(0.001, 0.4),
)  # fmt: skip
def test_bounds_and_evidence_agree(
    estimate: float, error: float, units: int, alpha: float, expected: int, tuned_alpha: float
) -> None:
    """Zero is left out exactly when the evidence reaches 1 / alpha, also at an alpha that was not tuned for."""
    tuned = precision(tuned_alpha, expected)
    interval = confidence_sequence(estimate, error, units, alpha=alpha, tuned=tuned)
    if abs(interval.low) > 1e-9:
        assert (interval.low > 0) == (float(log_e_value(estimate, error, units, tuned=tuned)) > -math.log(alpha))
    below = estimate - float(reach_below(error, units, alpha=alpha, tuned=tuned))
    if abs(below) > 1e-9:
        assert (below > 0) == (float(p_value_above(estimate, error, units, tuned=tuned)) < alpha)


def test_one_sided_bounds_are_narrower_than_two_sided() -> None:
    """Who only fears harm needs less evidence for it."""
    tuned = precision(0.05, 5000)
    assert float(reach_below(1, 5000, alpha=0.05, tuned=tuned)) < float(half_width(1, 5000, alpha=0.05, tuned=tuned))
    assert float(p_value_above(-0.1, 0.01, 100, tuned=tuned)) == 1.0


@pytest.mark.parametrize("strata", [1, 8])
def test_many_looks_give_few_false_alarms(strata: int) -> None:
    """Over 200 looks at 400 experiments without a difference, at most alpha are ever called different.

    The same looks with the fixed 1.96 bound call more than a quarter of them different, so the check can fail.
    """
    generator = np.random.default_rng(20261123 + strata)
    world = World.drawn(generator, strata=strata, mean=0.9, retries=0.4)
    units = looks_of(20_000, 200, 0.5)
    a, b = (watch(generator, world, units=units, effect=0.0, runs=400) for _ in range(2))
    judged = evidence(a.per_attempt, b.per_attempt, alpha=0.05, tuned=precision(0.05, 5000), is_share=True)
    false = float((judged.p_value <= 0.05).any(axis=1).mean())
    off = np.abs(judged.contrast.difference) > 1.96 * judged.contrast.standard_error
    assert false <= 0.05
    assert float((off & judged.enough).any(axis=1).mean()) > 0.25


def test_exact_bounds_hold_from_the_first_payment() -> None:
    """Of 500 rates of 3 %, each looked at after every one of 150 payments, at most 5 % are ever left out."""
    generator = np.random.default_rng(3)
    won = (generator.random((500, 150)) < 0.03).cumsum(axis=1)
    against = log_e_of_rate(0.03, won, np.arange(1, 151), trials_expected=50)
    assert 0 < float((against > math.log(20)).any(axis=1).mean()) <= 0.05
    bounds_ = exact_rate(2, 60, alpha=0.05, trials_expected=50)
    at_bounds = [float(log_e_of_rate(rate, 2, 60, trials_expected=50)) for rate in (bounds_.low, bounds_.high)]
    assert at_bounds == pytest.approx([math.log(20)] * 2, abs=1e-6)


def test_exact_difference_sees_a_disaster_early() -> None:
    """1 of 30 against 27 of 30 is a difference although neither arm has enough for the other bounds."""
    worse = exact_difference((27, 30), (1, 30), alpha=0.005)
    none = exact_difference((27, 30), (25, 30), alpha=0.005)
    assert worse.high < 0 < none.high
    assert exact_rate(0, 0, alpha=0.05, trials_expected=10) == Interval(0.5, 0.0, 1.0)


def test_ratio_counts_randomised_units_not_attempts() -> None:
    """The error of successes per attempt is that of the delta method by order, written out by hand."""
    assert same_as_by_hand(np.random.default_rng(5))
    generator = np.random.default_rng(6)
    of_customer = generator.binomial(1, 0.8, 400)
    _, error = ratio_of(Moments.of_units(of_customer * 10, np.full(400, 10)))
    assert float(error) == pytest.approx(math.sqrt(of_customer.var(ddof=1) / 400), rel=1e-9)
    naive = math.sqrt(of_customer.mean() * (1 - of_customer.mean()) / 4000)
    assert float(error) > 3 * naive


def test_strata_take_out_what_both_arms_meet_alike() -> None:
    """With strata that differ, the adjusted difference is nearer to the truth, and its error says so honestly."""
    generator = np.random.default_rng(8)
    world = World(np.array([0.3, 0.95]), np.array([0.5, 0.5]), 0.0)
    arms = [watch(generator, world, units=np.array([2000]), effect=0.0, runs=2000).per_order for _ in range(2)]
    plain, adjusted = (contrast(*arms, adjusted=choice) for choice in (False, True))
    for each in (plain, adjusted):
        scores = each.difference[:, 0] / each.standard_error[:, 0]
        assert float(scores.std()) == pytest.approx(1, abs=0.06)
    assert float(adjusted.difference.std()) < 0.8 * float(plain.difference.std())


def test_thin_strata_are_judged_together() -> None:
    """A stratum with too few units in one arm joins the rest, and a rest too thin joins the largest; none is lost."""
    a, b = Moments.of_counts([[50, 3, 40]], [[60, 4, 50]]), Moments.of_counts([[50, 90, 40]], [[60, 99, 50]])
    merged = merge_thin(a, b)
    assert merged[0].units.tolist() == [[64, 0, 50, 0]]
    assert merged[1].top.tolist() == [[140, 0, 40, 0]]
    whole = contrast(a, b, adjusted=True)
    assert math.isfinite(float(whole.standard_error[0]))


@pytest.mark.parametrize(
    ("won", "units", "lacking"), [(0, 0, 100), (45, 99, 1), (50, 100, 0), (91, 100, 12), (9, 100, 12), (200, 200, 1800)]
)
def test_arm_is_compared_from_a_hundred_with_ten_of_each_outcome(won: int, units: int, lacking: int) -> None:
    """Below the gates there is no number, only about what is needed."""
    assert units_lacking(Moments.of_counts([won], [units]), is_share=True) == lacking


def test_nothing_is_claimed_of_an_arm_without_units() -> None:
    """The p-value is 1 and the bounds are infinite; no warning, no NaN in a decision."""
    empty, full = Moments.of_counts([0], [0]), Moments.of_counts([900], [1000])
    judged = evidence(empty, full, alpha=0.05, tuned=precision(0.05, 5000), is_share=True)
    assert (float(judged.p_value), float(judged.half_width), bool(judged.enough)) == (1.0, math.inf, False)


def test_holm_levels_are_those_of_its_answers() -> None:
    """Each question is answered yes exactly when its p-value is at most the level at which Holm tests it."""
    generator = np.random.default_rng(4)
    for _ in range(100):
        p_values = generator.uniform(0, 0.05, 6).tolist()
        levels = holm_levels(p_values, alpha=0.05)
        assert [p <= level for p, level in zip(p_values, levels, strict=True)] == holm(p_values, alpha=0.05)


def test_planned_looks_keep_alpha_by_simulation() -> None:
    """The bounds of five looks are crossed as often as computed: 5 % without a difference."""
    generator = np.random.default_rng(2)
    limits = np.array(bounds("lan_demets_obrien_fleming", 5))
    sums = generator.normal(size=(40_000, 5)).cumsum(axis=1) / np.sqrt(np.arange(1, 6))
    assert float((np.abs(sums) > limits).any(axis=1).mean()) == pytest.approx(0.05, abs=0.004)
    assert sum(crossing(limits.tolist())) == pytest.approx(0.05, abs=1e-4)


def test_plan_is_kept_by_simulation() -> None:
    """Looking once, at the planned size for any look, shows the planned effect in 80 % of 4,000 experiments."""
    plan = plan_rates(0.90, 0.02, shares=(0.8, 0.2), units_per_day=1000)
    generator = np.random.default_rng(12)
    n_a, n_b = round(plan.units_any_time * 0.8), round(plan.units_any_time * 0.2)
    arms = [Moments.of_counts(generator.binomial(n, rate, (4000, 1)), np.full((4000, 1), n))
            for n, rate in ((n_a, 0.90), (n_b, 0.92))]  # fmt: skip
    tuned = precision(0.05, plan.units_any_time)
    judged = evidence(*arms, alpha=0.05, tuned=tuned, is_share=True)
    assert float((judged.p_value <= 0.05 * (1 - EXACT_SHARE)).mean()) == pytest.approx(0.8, abs=0.03)
    assert plan.units_any_time_median < plan.units_any_time
    assert plan.days(plan.units_any_time) == pytest.approx(plan.units_any_time / 1000)
    assert plan.units_one_look < plan.units_planned_looks < plan.units_any_time
    assert units_any_time(0.01, 0.18) > units_any_time(0.02, 0.18)


@pytest.mark.parametrize(("effect", "variance", "units"), [(400.0, 1e-9, 1), (1e-9, 1e6, 10**12)])
def test_plan_has_an_answer_for_any_effect(effect: float, variance: float, units: int) -> None:
    """An effect that one unit shows, and one that nobody will ever see, end a worker no less than they end a plan."""
    assert units_any_time(effect, variance) == units


def test_any_time_p_value_is_one_over_the_evidence() -> None:
    """And never above one."""
    tuned = precision(0.05, 5000)
    assert float(p_value_any_time(0.0, 0.01, 100, tuned=tuned)) == 1.0
    log_e = float(log_e_value(0.05, 0.01, 2000, tuned=tuned))
    assert float(p_value_any_time(0.05, 0.01, 2000, tuned=tuned)) == pytest.approx(math.exp(-log_e))


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5)])
def test_impossible_proportion_is_refused(successes: int, trials: int) -> None:
    """More successes than trials is a mistake in counting, and said at once."""
    with pytest.raises(ValueError, match="cannot be"):
        Proportion(successes, trials)


@given(st.integers(1, 10**7), st.floats(0, 1), st.sampled_from([0.05, 0.1, 0.01]))
def test_wilson_interval_is_that_of_statsmodels(trials: int, share: float, alpha: float) -> None:
    """For every number of trials and successes, at the ends as well."""
    successes = round(share * trials)
    interval = wilson_interval(Proportion(successes, trials), alpha=alpha)
    assert isinstance(interval, Interval)
    expected = proportion_confint(successes, trials, alpha=alpha, method="wilson")
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-12)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_wilson_interval_is_the_published_one() -> None:
    """81 of 263 gives 0.2553 to 0.3662, and no trial gives no interval."""
    interval = wilson_interval(Proportion(81, 263))
    assert isinstance(interval, Interval)
    assert (interval.low, interval.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(Proportion(0, 0)) == TooFewData(seen=0, needed=1)


def test_sample_ratio_gives_the_textbook_numbers() -> None:
    """821,588 to 815,482 of halves: chi-square 22.774369, p 1.82e-6, an alarm. 2,023 to 1,977: none."""
    alarm = sample_ratio([821_588, 815_482], [0.5, 0.5])
    sound = sample_ratio([2023, 1977], [0.5, 0.5])
    assert isinstance(alarm, SampleRatio)
    assert isinstance(sound, SampleRatio)
    assert (alarm.chi_square, alarm.p_value_one_look) == pytest.approx((22.774369, 1.8217929e-06), rel=1e-6)
    assert sound.p_value_one_look == pytest.approx(0.467028, abs=1e-6)
    assert (alarm.mismatch, sound.mismatch) == (True, False)


def test_sample_ratio_uses_the_weights() -> None:
    """900 to 100 is sound for 9 : 1 and broken for halves."""
    nine_to_one, halves = sample_ratio([900, 100], [9000, 1000]), sample_ratio([900, 100], [1, 1])
    assert isinstance(nine_to_one, SampleRatio)
    assert isinstance(halves, SampleRatio)
    assert (nine_to_one.mismatch, halves.mismatch) == (False, True)


def test_small_shift_of_the_split_is_found_after_thirteen_thousand_units() -> None:
    """52 : 48 where halves were split off is no alarm yet at 8,000 units, and one at 13,000."""
    ratios = [sample_ratio([n * 52 // 100, n * 48 // 100], [0.5, 0.5]) for n in (8000, 13_000)]
    assert [isinstance(ratio, SampleRatio) and ratio.mismatch for ratio in ratios] == [False, True]


def test_sample_ratio_waits_for_enough_units() -> None:
    """With a tenth for the smaller arm, fifty units are needed before anything is said."""
    assert sample_ratio([30, 1], [0.9, 0.1]) == TooFewData(seen=31, needed=50)


def test_many_looks_at_a_sound_split_give_no_alarms() -> None:
    """Looked at 25 times each, fewer than 1 in 100 of 300 sound splits raise the alarm meant for 1 in 1,000."""
    generator = np.random.default_rng(7)
    alarms = 0
    for _ in range(300):
        first = generator.binomial(100, 0.9, size=100).cumsum().tolist()
        looks = range(4, 101, 4)
        ratios = [sample_ratio([first[look - 1], 100 * look - first[look - 1]], [0.9, 0.1]) for look in looks]
        alarms += any(isinstance(ratio, SampleRatio) and ratio.mismatch for ratio in ratios)
    assert alarms < 3


@pytest.mark.parametrize(("counts", "weights"), [([1], [1.0]), ([1, 2], [1.0]), ([1, 2], [0.0, 1.0])])
def test_sample_ratio_refuses_what_is_no_split(counts: list[int], weights: list[float]) -> None:
    """A split has two or more arms, each with a weight."""
    with pytest.raises(ValueError, match="two or more arms"):
        sample_ratio(counts, weights)


def test_a_leak_of_one_percent_is_found() -> None:
    """Of 200 splits that lose 1 % of one arm, looked at all the time, nearly all are called broken."""
    generator = np.random.default_rng(9)
    came = generator.multinomial(np.full((200, 100), 20_000), [0.5, 0.5])
    leaking = came.copy()
    leaking[..., 1] = generator.binomial(came[..., 1], 0.99)
    found = [float((log_evidence_of_leak(each.cumsum(axis=1), [0.5, 0.5]) > math.log(1000)).any(axis=1).mean())
             for each in (came, leaking)]  # fmt: skip
    assert found[0] <= 0.005
    assert found[1] >= 0.9
