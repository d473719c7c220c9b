"""Whether experiments can be trusted: false verdicts, coverage, power, detected leaks, and published examples.

Thousands of simulated experiments, each looked at 200 times, are judged by the functions that judge the real ones. The
shares on the last line are the worst over all settings that were tried, not the best.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import norm

from benchmarks.experiment_simulation import Watched, World, looks_of, watch
from benchmarks.experiment_vectors import NOT_APPLICABLE, VECTORS, checks
from ml.experiments.evidence import EXACT_SHARE, Evidence, evidence
from ml.experiments.group_sequential import bounds
from ml.experiments.moments import contrast
from ml.experiments.planning import PLANNED_LOOKS, plan_rates, units_any_time
from ml.experiments.sample_ratio import ALPHA as SPLIT_ALPHA
from ml.experiments.sample_ratio import log_evidence_of_leak
from ml.experiments.sequences import EXACT_TRIALS_EXPECTED, log_e_of_rate, p_value_above, precision

RESULTS: Final = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "experiments.json"
SEED: Final = 20261126
ALPHA: Final = 0.05
ALPHA_ASYMPTOTIC: Final = ALPHA * (1 - EXACT_SHARE)
POWER: Final = 0.8
LOOKS: Final = 200
UNITS: Final = 20_000
LEAK: Final = 0.01
LEAK_UNITS: Final = 2_000_000
RUNS_AT_ONCE: Final = 250
"""Simulated experiments in memory at once: 24 strata and 200 looks of these are about 200 MB."""


class Setting(NamedTuple):
    """One kind of experiment without a difference."""

    name: str
    strata: int
    mean: float
    retries: float
    share_b: float
    units: int = UNITS
    units_expected: int = UNITS // 2


SETTINGS: Final = (
    Setting("halves, one kind of order", 1, 0.90, 0.0, 0.5),
    Setting("halves, 24 strata, retries", 24, 0.85, 0.5, 0.5),
    Setting("a tenth against the rest, 24 strata, retries", 24, 0.85, 0.5, 0.1),
    Setting("hardly any failure", 6, 0.985, 0.3, 0.5),
    Setting("few orders", 1, 0.90, 0.3, 0.5, units=2_000, units_expected=2_000),
    Setting("ten times longer than planned", 6, 0.90, 0.3, 0.5, units_expected=UNITS // 10),
)


def main() -> None:
    """Measure, print the tables, write the results file, and print one line of JSON last."""
    parser = argparse.ArgumentParser(description="whether the verdicts of experiments can be trusted")
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulated experiments")
    parser.add_argument("--runs", type=int, default=None, help="simulated experiments for each setting")
    parser.add_argument("--seed", type=int, default=SEED, help="of everything random")
    asked = parser.parse_args()
    runs = asked.runs or (200 if asked.quick else 2000)
    generator = np.random.default_rng(asked.seed)
    console = Console(width=120)
    false_positive_share = measure_false_positives(generator, runs, console)
    coverage = measure_coverage(generator, runs, console)
    power = measure_power(generator, runs, console)
    srm_detected_share = measure_leaks(generator, runs, console)
    matched, total = measure_vectors(console)
    result = {
        "false_positive_share": round(false_positive_share, 4),
        "coverage": round(coverage, 4),
        "power": round(power, 4),
        "srm_detected_share": round(srm_detected_share, 4),
        "vectors_matched": matched,
        "vectors_total": total,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


# --- no difference ---------------------------------------------------------------------------------------------------


def measure_false_positives(generator: np.random.Generator, runs: int, console: Console) -> float:
    """The worst share of experiments without a difference that are ever called different, over all settings."""
    table = Table(
        "no difference, 200 looks", "runs", "always valid", "exact, early", "guardrail", "z-test at each look"
    )
    shares = []
    for setting in SETTINGS:
        world = World.drawn(generator, strata=setting.strata, mean=setting.mean, retries=setting.retries)
        found = _in_parts(runs, lambda part: _false_alarms(generator, world, setting, part))  # noqa: B023
        shares += found[:3].mean(axis=1).tolist()[::2]
        table.add_row(setting.name, str(runs), *(_shown(each.mean()) for each in found))
    shares.append(_many_questions(generator, runs, table))
    console.print(table)
    return max(shares)


def _false_alarms(generator: np.random.Generator, world: World, setting: Setting, runs: int) -> NDArray[np.bool_]:
    """Which experiments ever give a false alarm: (always valid, its exact early part, guardrail, naive) x runs."""
    a, b = _arms(generator, setting, world, effect=0.0, runs=runs)
    judged = _judged(a, b, setting)
    ever = _ever(judged.p_value <= ALPHA_ASYMPTOTIC)
    early = _exact_misses(a, b, world.first_rate(0.0))
    naive = _ever(judged.enough & (np.abs(_score(judged)) > norm.ppf(1 - ALPHA / 2)))
    return np.stack([ever | early, early, _guardrail_breaches(judged, setting), naive])


def _many_questions(generator: np.random.Generator, runs: int, table: Table) -> float:
    """Three challengers and two goals: one false answer among six questions is a false experiment (Holm)."""
    world = World.drawn(generator, strata=6, mean=0.88, retries=0.4)
    units = looks_of(UNITS, LOOKS, 0.25)
    control, *others = (watch(generator, world, units=units, effect=0.0, runs=runs) for _ in range(4))
    tuned = precision(ALPHA, UNITS / 2)
    p_values = [
        evidence(a, b, alpha=ALPHA, tuned=tuned, is_share=True).p_value
        for other in others
        for a, b in ((control.per_attempt, other.per_attempt), (control.per_order, other.per_order))
    ]
    smallest = np.minimum.reduce(p_values)  # Holm answers nothing unless the smallest is below alpha over their number
    ever = _ever(smallest <= ALPHA / len(p_values))
    uncorrected = _ever(smallest <= ALPHA)
    table.add_row("three challengers, two goals, Holm", str(runs), _shown(ever.mean()), "", "", "")
    table.add_row("the same without Holm", str(runs), _shown(uncorrected.mean()), "", "", "")
    return float(ever.mean())


def _guardrail_breaches(judged: Evidence, setting: Setting) -> NDArray[np.bool_]:
    """Harm that is not there, ever proven by a one-sided bound."""
    error = np.where(judged.enough, judged.contrast.standard_error, 1.0)
    harm = np.where(judged.enough, -judged.contrast.difference, 0.0)
    tuned = precision(ALPHA, setting.units_expected)
    return _ever(p_value_above(harm, error, np.maximum(judged.contrast.units, 1), tuned=tuned) <= ALPHA)


def _exact_misses(a: Watched, b: Watched, rate: float) -> NDArray[np.bool_]:
    """Exact bounds of either arm that ever miss the truth: before that no difference can be called."""
    limit = -math.log(EXACT_SHARE * ALPHA / 2)
    missed = np.zeros(a.per_order.units.shape[0], dtype=bool)
    for arm in (a.per_order, b.per_order):
        won, tried = arm.top.sum(-1), arm.units.sum(-1)
        missed |= _ever(log_e_of_rate(rate, won, tried, trials_expected=EXACT_TRIALS_EXPECTED) > limit)
    return missed


# --- a difference ----------------------------------------------------------------------------------------------------


def measure_coverage(generator: np.random.Generator, runs: int, console: Console) -> float:
    """The worst share of experiments whose bounds hold the true difference at all 200 looks."""
    table = Table("bounds at all looks", "true difference", "hold it", "a 95 % interval at each look")
    shares = []
    for setting in SETTINGS:
        for effect in (0.01, -0.02):
            world = World.drawn(generator, strata=setting.strata, mean=setting.mean, retries=setting.retries)
            truth = world.authorization_rate(effect) - world.authorization_rate(0.0)
            missed, naive = _in_parts(runs, lambda part: _misses(generator, world, setting, effect, part))  # noqa: B023
            shares.append(1 - float(missed.mean()))
            table.add_row(setting.name, f"{100 * truth:+.2f} points", _shown(shares[-1]), _shown(1 - naive.mean()))
    console.print(table)
    return min(shares)


def _misses(
    generator: np.random.Generator, world: World, setting: Setting, effect: float, runs: int
) -> NDArray[np.bool_]:
    """Whose bounds ever leave out the truth: (always valid, 95 % at each look) x runs."""
    a, b = _arms(generator, setting, world, effect=effect, runs=runs)
    judged = _judged(a, b, setting)
    off = np.abs(judged.contrast.difference - world.authorization_rate(effect) + world.authorization_rate(0.0))
    one_look = norm.ppf(1 - ALPHA / 2) * judged.contrast.standard_error
    return np.stack([_ever(judged.enough & (off > reach)) for reach in (judged.half_width, one_look)])


def measure_power(generator: np.random.Generator, runs: int, console: Console) -> float:
    """The share of experiments with the planned effect that are decided, rightly, within the planned units."""
    table = Table("90 % to 91 %, planned for 80 %", "orders at most", "decided rightly", "orders on average", "median")
    world = World(np.array([0.90]), np.ones(1), 0.0)
    plan = plan_rates(0.90, 0.01, alpha=ALPHA, power=POWER)
    judged = _rates(generator, world, plan.units_any_time, runs)
    power = _decided(table, "always valid, 200 looks", judged, judged.p_value <= ALPHA_ASYMPTOTIC)
    one = _rates(generator, world, plan.units_one_look, runs, looks=1)
    _decided(table, "one look at the end", one, np.abs(_score(one)) > norm.ppf(1 - ALPHA / 2))
    looks = PLANNED_LOOKS
    five = _rates(generator, world, plan.units_planned_looks, runs, looks=looks)
    limits = np.array(bounds("lan_demets_obrien_fleming", looks, alpha=ALPHA))
    _decided(table, "five planned looks (Lan-DeMets)", five, np.abs(_score(five)) > limits)
    console.print(table)
    _gain_of_strata(generator, runs, console)
    return power


def _gain_of_strata(generator: np.random.Generator, runs: int, console: Console) -> None:
    """What post-stratification saves in a world of many strata."""
    setting = SETTINGS[1]
    world = World.drawn(generator, strata=24, mean=0.85, retries=0.5)
    a, b = _arms(generator, setting, world, effect=0.01, runs=min(runs, 200))
    last = [Watched(*(type(m)(*(part[:, -1] for part in m)) for m in arm)) for arm in (a, b)]
    errors = [
        float(contrast(last[0].per_attempt, last[1].per_attempt, adjusted=adjusted).standard_error.mean())
        for adjusted in (False, True)
    ]
    saved = 1 - (errors[1] / errors[0]) ** 2
    units = units_any_time(0.01, errors[0] ** 2 * UNITS)
    console.print(f"post-stratification over 24 strata saves {_shown(saved)} of {units:,} orders for one point")


def _decided(table: Table, name: str, judged: Evidence, reject: NDArray[np.bool_]) -> float:
    right = reject & (judged.contrast.difference > 0) & judged.enough
    ever = _ever(right)
    units = judged.contrast.units
    first = np.where(ever, right.argmax(axis=1), right.shape[1] - 1)
    used = np.take_along_axis(units, first[:, None], axis=1)[:, 0]
    cells = (f"{int(units.max()):,}", _shown(ever.mean()), f"{int(used.mean()):,}", f"{int(np.median(used)):,}")
    table.add_row(name, *cells)
    return float(ever.mean())


def _rates(generator: np.random.Generator, world: World, units: int, runs: int, looks: int = LOOKS) -> Evidence:
    per_look = looks_of(units, looks, 0.5)
    a, b = (watch(generator, world, units=per_look, effect=effect, runs=runs) for effect in (0.0, 0.01))
    tuned = precision(ALPHA, units)
    return evidence(a.per_order, b.per_order, alpha=ALPHA, tuned=tuned, is_share=True)


# --- leaks -----------------------------------------------------------------------------------------------------------


def measure_leaks(generator: np.random.Generator, runs: int, console: Console) -> float:
    """The share of experiments that lose 1 % of one arm's orders and are called broken."""
    table = Table("200 looks at the split", "called broken", "orders until then, median", "sound splits called broken")
    shares = []
    for share_b in (0.5, 0.1):
        weights = np.array([1 - share_b, share_b])
        limit = -math.log(SPLIT_ALPHA)
        lossless = _split(generator, weights, leak=0.0, runs=runs)
        leaking = _split(generator, weights, leak=LEAK, runs=runs)
        broken = log_evidence_of_leak(leaking, weights) > limit
        false = _ever(log_evidence_of_leak(lossless, weights) > limit)
        ever = _ever(broken)
        first = leaking.sum(-1)[np.arange(runs), broken.argmax(axis=1)]
        until = f"{int(np.median(first[ever])):,}" if ever.any() else "never"
        of = f"of {LEAK_UNITS:,}" if share_b == 0.5 else f"of {int(LEAK_UNITS / 0.36):,}"
        table.add_row(
            f"1 % of an arm that gets {_shown(share_b)} is lost, {of} orders", _shown(ever.mean()), until,
            _shown(false.mean()),
        )  # fmt: skip
        shares.append(float(ever.mean()))
    console.print(table)
    return min(shares)


def _split(generator: np.random.Generator, weights: Any, *, leak: float, runs: int) -> NDArray[np.int64]:
    """Orders by arm so far. The same information at every split: rarer arms are watched for longer."""
    total = LEAK_UNITS * 0.25 / float(weights[0] * weights[1])
    per_look = np.full((runs, LOOKS), int(total / LOOKS))
    came = generator.multinomial(per_look, weights)
    came[..., 1] = generator.binomial(came[..., 1], 1 - leak)
    return np.asarray(came.cumsum(axis=1))


# --- published examples ----------------------------------------------------------------------------------------------


def measure_vectors(console: Console) -> tuple[int, int]:
    """How many published examples are met; (0, 0) where the collection is not beside the checkout."""
    if not VECTORS.exists():
        console.print("the published examples are not beside the checkout: none compared")
        return 0, 0
    compared = checks()
    for check in compared:
        if not check.matched:
            console.print(f"[bold]not met[/]: {check.name}: published {check.published}, computed {check.computed}")
    for name, why in NOT_APPLICABLE.items():
        console.print(f"not compared: {name}: {why}")
    return sum(check.matched for check in compared), len(compared)


def _arms(
    generator: np.random.Generator, setting: Setting, world: World, *, effect: float, runs: int
) -> tuple[Watched, Watched]:
    shares = (1 - setting.share_b, setting.share_b)
    arms = [
        watch(generator, world, units=looks_of(setting.units, LOOKS, share), effect=added, runs=runs)
        for share, added in zip(shares, (0.0, effect), strict=True)
    ]
    return arms[0], arms[1]


def _judged(a: Watched, b: Watched, setting: Setting) -> Evidence:
    tuned = precision(ALPHA, setting.units_expected)
    return evidence(a.per_attempt, b.per_attempt, alpha=ALPHA_ASYMPTOTIC, tuned=tuned, is_share=True)


def _in_parts(runs: int, act: Callable[[int], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Simulate part after part, runs on the last axis."""
    parts = [min(RUNS_AT_ONCE, runs - done) for done in range(0, runs, RUNS_AT_ONCE)]
    return np.concatenate([act(part) for part in parts], axis=-1)


def _score(judged: Evidence) -> Any:
    error = judged.contrast.standard_error
    return np.where(judged.enough, judged.contrast.difference / np.where(error > 0, error, 1.0), 0.0)


def _ever(happened: Any) -> NDArray[np.bool_]:
    return np.asarray(happened).any(axis=1)


def _shown(share: Any) -> str:
    return f"{100 * float(share):.1f} %"


if __name__ == "__main__":
    main()
