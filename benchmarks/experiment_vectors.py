"""Published numeric examples, each compared with what comes out here; those that do not apply, with the reason."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ml.experiments.assignment import BUCKETS, arm_ranges, bucket_of
from ml.experiments.design import Arm, Experiment
from ml.experiments.group_sequential import bounds, crossing
from ml.experiments.intervals import (
    Proportion,
    Sample,
    SecondOpinion,
    difference_variances,
    lift_variances,
    newcombe_interval,
    relative_lift,
    second_opinion,
    welch,
    wilson_interval,
)
from ml.experiments.moments import Moments, contrast
from ml.experiments.multiplicity import false_discoveries_kept, holm
from ml.experiments.planning import power_of_lift, units_per_arm_arcsine, units_per_arm_of_rates
from ml.experiments.sample_ratio import SampleRatio, exact_p_value, sample_ratio
from ml.experiments.sequences import (
    confidence_sequence,
    exact_rate,
    log_e_value,
    mixture_bound,
    p_value_any_time,
    precision,
)

VECTORS: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "experiments" / "vectors.json"

NOT_APPLICABLE: Final = {
    "hash: GrowthBook version 1": "biased between parallel experiments; version 2 is what assigns here",
    "hash: PlanOut, Unleash, Eppo": "the assignment of other products",
    "bucket range: weights 0.4 and 0.1": "weights that do not add up are refused here, not replaced by equal ones",
    "spotify: alpha beyond the planned size": "a correction of planned looks; here no size is planned",
}


class Check(NamedTuple):
    """One published example: what was published, and what comes out here."""

    name: str
    published: list[float]
    computed: list[float]
    tolerance: float

    @property
    def matched(self) -> bool:
        """Whether every number is met."""
        pairs = zip(self.published, self.computed, strict=True)
        return all(abs(a - b) <= self.tolerance * max(1.0, abs(a)) for a, b in pairs)


def checks(path: Path = VECTORS) -> list[Check]:
    """Every applicable example of the collection."""
    vectors = json.loads(path.read_text(encoding="utf-8"))
    found: list[Check] = []
    for part in (_hashes, _sample_ratios, _two_samples, _sequences, _group_sequential, _bayes, _power, _multiplicity):
        found += part(vectors)
    return found


def _hashes(vectors: Any) -> Iterator[Check]:
    for seed, unit, version, share in vectors["hash"]["growthbook"]["cases"]:
        if version == 2:
            yield Check(f"hash of {seed!r} and {unit!r}", [share], [bucket_of(seed, unit) / BUCKETS], 0.0)
    for count, coverage, weights, ranges in vectors["hash"]["growthbook_bucket_ranges"]["cases"]:
        shares = weights or [1 / count] * count
        if math.fsum(shares) < 0.99:
            continue
        arms = [Arm(name=f"a{at}", policy="p", weight=share) for at, share in enumerate(shares)]
        computed = arm_ranges(Experiment(name="e", seed="s", arms=arms, coverage=coverage))
        flat = [edge / BUCKETS for pair in computed for edge in pair]
        yield Check(f"ranges of {shares} at {coverage}", [edge for pair in ranges for edge in pair], flat, 1e-9)


def _sample_ratios(vectors: Any) -> Iterator[Check]:
    for vector in vectors["srm"]:
        tested = sample_ratio(vector["counts"], vector["weights"])
        assert isinstance(tested, SampleRatio)
        if "chi2" in vector:
            computed = [tested.chi_square, tested.p_value_one_look * 1e6]
            yield Check("sample ratio, chi-square", [vector["chi2"], vector["p"] * 1e6], computed, 1e-5)
        else:
            exact = exact_p_value(tuple(vector["counts"]), vector["weights"][0])
            published = [vector["p_chi2"], vector["p_binom"]]
            yield Check("sample ratio, exact", published, [tested.p_value_one_look, exact], 1e-5)


def _sample(sums: Any) -> Sample:
    return Sample.of_sums(sums["n"], sums["sum"], sums["ss"])


def _two_samples(vectors: Any) -> Iterator[Check]:
    relative, absolute, binomial, newcombe, wilson = vectors["two_sample"]
    a, b = _sample(relative["a"]), _sample(relative["b"])
    for name, vector, of in (("lift", relative, relative_lift), ("diff", absolute, welch)):
        compared = of(a, b)
        yield Check(
            f"Welch, {vector['source']}",
            [vector[name], vector["se"], *vector["ci"], vector["p"]],
            [compared.interval.estimate, compared.standard_error, compared.interval.low, compared.interval.high,
             compared.p_value],
            1e-5,
        )  # fmt: skip
    compared = relative_lift(Sample.of_proportion(Proportion(14, 28)), Sample.of_proportion(Proportion(16, 30)))
    yield Check(
        f"Welch, {binomial['source']}",
        [binomial["lift"], binomial["se"], *binomial["ci"], binomial["p"]],
        [compared.interval.estimate, compared.standard_error, compared.interval.low, compared.interval.high,
         compared.p_value],
        1e-5,
    )  # fmt: skip
    interval = newcombe_interval(Proportion(48, 80), Proportion(56, 70))
    yield Check(newcombe["source"], newcombe["ci"], [interval.low, interval.high], 1e-4)
    rate = wilson_interval(Proportion(81, 263))
    yield Check(wilson["source"], wilson["ci"], [getattr(rate, "low", 0), getattr(rate, "high", 0)], 1e-4)


def _sequences(vectors: Any) -> Iterator[Check]:
    proportions, means, mixture, exact, *_ = vectors["sequential"]
    for vector in (proportions, means):
        if isinstance(vector["a"], list):
            a, b = (Sample.of_proportion(Proportion(*vector[arm])) for arm in "ab")
        else:
            a, b = _sample(vector["a"]), _sample(vector["b"])
        estimate, error = (b.mean - a.mean) / a.mean, math.sqrt(sum(lift_variances(a, b)))
        tuned, units = precision(0.05, vector["N_star"]), a.count + b.count
        bounded = confidence_sequence(estimate, error, units, alpha=0.05, tuned=tuned)
        p_value = float(p_value_any_time(estimate, error, units, tuned=tuned))
        yield Check(
            f"always valid, {vector['source']}",
            [vector["lift"], vector["se"], *vector["ci"], vector["p"]],
            [estimate, error, bounded.low, bounded.high, p_value],
            1e-5,
        )
    tuned = precision(mixture["alpha"], mixture["v_opt"])
    evidence = float(log_e_value(0.1, 0.1, 100, tuned=tuned))  # a sum of 10 at a variance of 100
    bound = mixture_bound(mixture["v"], alpha=mixture["alpha"], variance_expected=mixture["v_opt"])
    published = [mixture["best_rho"], mixture["log_mixture_s10"], mixture["bound"]]
    yield Check(mixture["source"], published, [1 / tuned, evidence, bound], 1e-5)
    for successes, trials, alpha, expected, low, high in exact["cases"]:
        rate = exact_rate(successes, trials, alpha=alpha, trials_expected=expected)
        yield Check(f"exact, {successes} of {trials}", [low, high], [rate.low, rate.high], max(1.1e-6, _digits(high)))


def _digits(published: float) -> float:
    """Half a unit of the last digit that was published."""
    return 0.5 * 10.0 ** -len(repr(published).partition(".")[2])


def _group_sequential(vectors: Any) -> Iterator[Check]:
    looks, classical = vectors["sequential"][4], vectors["sequential"][5]
    for count, share in looks["looks"].items():
        yield Check(f"{count} looks at nominal 5 %", [share], [sum(crossing([1.959964] * int(count)))], 2e-3)
    yield Check("Pocock", [classical["pocock_c"]], bounds("pocock", 5)[:1], 1e-3)
    yield Check("O'Brien-Fleming", classical["obf_z"], bounds("obrien_fleming", 5), 1e-3)
    yield Check("O'Brien-Fleming, last look", [classical["obf_c"]], bounds("obrien_fleming", 5)[-1:], 1e-3)
    yield Check("Lan-DeMets", classical["lan_demets_obf_z"], bounds("lan_demets_obrien_fleming", 5), 1e-3)


def _bayes(vectors: Any) -> Iterator[Check]:
    for vector in vectors["bayes"]:
        a, b = (Sample.of_proportion(Proportion(won, 100)) for won in (49, 51))
        believed: SecondOpinion = second_opinion(a, b)
        yield Check(
            vector["source"],
            [vector["lift"], vector["sd"], *vector["ci"], vector["chance_to_win"], *vector["risk"]],
            [believed.lift.estimate, believed.spread, believed.lift.low, believed.lift.high, believed.chance_b_wins,
             believed.risk_a, believed.risk_b],
            1e-5,
        )  # fmt: skip


def _power(vectors: Any) -> Iterator[Check]:
    miller, arcsine, lift, variances, own = vectors["power"]
    yield Check(miller["source"], [miller["n_per_arm"]], [units_per_arm_of_rates(0.20, 0.05)], 0.0)
    yield Check(arcsine["source"], [arcsine["n_per_arm"]], [units_per_arm_arcsine(0.25, 0.20)], 1e-4)
    power = power_of_lift(0.05, mean=10, variance=3909.9997749994377, units_per_arm=400_000 / 3)
    yield Check(lift["source"], [lift["power"]], [power], 1e-5)
    a, b = Sample(4, 7, 2), Sample(15, 5, 0.5)
    computed = [sum(difference_variances(a, b)), sum(lift_variances(a, b))]
    yield Check(variances["source"], [variances["abs"], variances["rel"]], computed, 1e-5)
    ninety, ninety_two = units_per_arm_of_rates(0.90, 0.01), units_per_arm_of_rates(0.92, 0.005)
    published = [own["auth_rate_90_to_91_n_per_arm"], own["auth_rate_92_to_92_5_n_per_arm"]]
    yield Check(own["source"], published, [ninety, ninety_two], 0.0)


def _multiplicity(vectors: Any) -> Iterator[Check]:
    for vector in vectors["multiplicity"]:
        p_values, share = vector["p"], vector["q"]
        kept = [sum(false_discoveries_kept(p_values, share=share)), sum(holm(p_values, alpha=share))]
        kept.append(sum(p <= share / len(p_values) for p in p_values))
        yield Check(vector["source"], [vector["bh_rejects"], vector["holm_rejects"], vector["bonferroni_rejects"]],
                    [float(each) for each in kept], 0.0)  # fmt: skip


def ratio_by_hand(top: list[float], bottom: list[float]) -> tuple[float, float]:
    """The delta method written out, for the check that the sums by unit give the same."""
    above, below = np.array(top), np.array(bottom)
    ratio = above.sum() / below.sum()
    left = above - ratio * below
    return float(ratio), float(math.sqrt(left.var(ddof=1) / len(left)) / below.mean())


def same_as_by_hand(generator: np.random.Generator) -> bool:
    """Whether a contrast of sums is the difference of two ratios by hand."""
    arms = [(generator.poisson(2, 500) + 1.0, generator.poisson(3, 500) + 1.0) for _ in range(2)]
    (ratio_a, error_a), (ratio_b, error_b) = (ratio_by_hand(list(top), list(bottom)) for top, bottom in arms)
    compared = contrast(*(Moments.of_units(*arm) for arm in arms))
    return math.isclose(float(compared.difference), ratio_b - ratio_a) and math.isclose(
        float(compared.standard_error), math.hypot(error_a, error_b)
    )
