"""Parts of the traffic: where an arm does harm although the whole looks well, and what may be believed of each part.

Two different questions. *Harm in a part* is watched all the time and may stop an experiment, so it is one-sided, holds
at any look, and pays for the number of parts. *What each part shows* is for readers: differences are drawn together as
far as they look like chance, and findings are kept by their false discovery rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from scipy.stats import norm

from ml.experiments.arms import DIMENSIONS, ArmTally, moments_of, parts_of, share_metric
from ml.experiments.design import Experiment
from ml.experiments.evidence import enough_units
from ml.experiments.metrics import METRICS
from ml.experiments.moments import Contrast, contrast
from ml.experiments.multiplicity import false_discoveries_kept
from ml.experiments.sequences import reach_below

PARTS_MAX: Final = 20
"""Parts of one dimension that are watched, the largest; alpha is shared out among so many, however few there are."""

MARGIN_OF_SHARES: Final = 0.01
"""Harm in a part that is told where the experiment names no margin, for metrics that are shares."""

FALSE_SHARE: Final = 0.1
"""Share of false ones among the parts that are marked as different from the whole."""


class SegmentFound(msgspec.Struct, frozen=True, kw_only=True):
    """What one part shows of one challenger: the difference to the control as seen, and drawn towards the whole.

    ``low`` and ``high`` are a 95 % interval of the shrunken difference, for one look. ``differs``: it is unlike the
    whole by more than chance, at a false discovery rate of 10 % over all parts.
    """

    dimension: str
    value: str
    arm: str
    units: int
    difference: float
    shrunken: float
    low: float
    high: float
    differs: bool


class SegmentHarm(msgspec.Struct, frozen=True, kw_only=True):
    """A part in which a challenger is surely worse than the control by more than the margin."""

    dimension: str
    value: str
    arm: str
    harm: float
    harm_low: float
    words: str


def harm_in_parts(
    experiment: Experiment, arms: Mapping[str, ArmTally], *, alpha: float, tuned: float
) -> SegmentHarm | None:
    """The part with the surest harm by the primary metric; None: no harm beyond the margin is sure in any.

    Args:
        experiment: names the dimensions that are watched, and the margin.
        arms: by name.
        alpha: probability that harm is ever seen in any part without there being any.
        tuned: see ``sequences.precision``.
    """
    metric = METRICS[experiment.primary]
    margin = experiment.watched_margin if experiment.watched_margin is not None else MARGIN_OF_SHARES
    if experiment.watched_margin is None and not metric.is_share:
        return None
    challengers = [name for name in arms if name != experiment.control.name]
    level = alpha / max(1, len(experiment.watched) * PARTS_MAX * len(challengers))
    worst: SegmentHarm | None = None
    for dimension in experiment.watched:
        for value, arm, compared in _contrasts(experiment, arms, dimension):
            harm = float(compared.difference) * (-1 if metric.higher_is_better else 1)
            reach = reach_below(float(compared.standard_error), float(compared.units), alpha=level, tuned=tuned)
            low = harm - float(reach)
            if low > margin and (worst is None or low > worst.harm_low):
                words = (
                    f"harm in one part: for {dimension} {value!r}, {metric.title} of {arm!r} is worse by "
                    f"{metric.shown(harm, signed=True)} (surely by {metric.shown(low, signed=True)} or more, "
                    f"n {int(compared.units):,} mature), whatever the whole shows"
                )
                worst = SegmentHarm(dimension=dimension, value=value, arm=arm, harm=harm, harm_low=low, words=words)
    return worst


def segments_of(experiment: Experiment, arms: Mapping[str, ArmTally]) -> list[SegmentFound]:
    """Every part of every dimension with enough units, most units first within its dimension.

    Source: the spread of true differences after DerSimonian and Laird (1986), Controlled Clinical Trials 7(3); each
        part is drawn towards the mean by how much of its distance is chance (empirical Bayes).
    """
    found: list[SegmentFound] = []
    for dimension in DIMENSIONS:
        for arm in arms:
            parts = [(value, each) for value, name, each in _contrasts(experiment, arms, dimension) if name == arm]
            found += _drawn_together(dimension, arm, parts)
    return found


def _contrasts(experiment: Experiment, arms: Mapping[str, ArmTally], dimension: str) -> list[tuple[str, str, Contrast]]:
    """(value, challenger, contrast) of the largest parts in which both arms have enough units."""
    control, is_share = experiment.control.name, share_metric(experiment.primary)
    if experiment.unit == "time_block":
        return []
    parts = sorted(
        parts_of(arms, dimension).items(), key=lambda part: (-sum(arm.mature for arm in part[1].values()), part[0])
    )
    found = []
    for value, of_part in parts[:PARTS_MAX]:
        moments = moments_of(of_part, experiment.primary)
        for arm in arms:
            sides = (moments[control], moments[arm])
            if arm == control or not all(bool(enough_units(side, is_share=is_share)) for side in sides):
                continue
            compared = contrast(*sides)
            if float(compared.standard_error) > 0:
                found.append((value, arm, compared))
    return found


def _drawn_together(dimension: str, arm: str, parts: list[tuple[str, Contrast]]) -> list[SegmentFound]:
    if not parts:
        return []
    seen = np.array([float(each.difference) for _, each in parts])
    errors = np.array([float(each.standard_error) for _, each in parts])
    precise = 1 / errors**2
    mean = float((precise * seen).sum() / precise.sum())
    unlike = float((precise * (seen - mean) ** 2).sum()) - (len(parts) - 1)
    spread = max(0.0, unlike / float(precise.sum() - (precise**2).sum() / precise.sum())) if len(parts) > 1 else 0.0
    weights = 1 / (errors**2 + spread)
    mean = float((weights * seen).sum() / weights.sum())
    kept = spread / (spread + errors**2)
    shrunken = mean + kept * (seen - mean)
    doubt = np.sqrt(kept * errors**2 + (1 - kept) ** 2 / weights.sum())
    p_values = [float(2 * norm.sf(abs(one - mean) / error)) for one, error in zip(seen, errors, strict=True)]
    differs = false_discoveries_kept(p_values, share=FALSE_SHARE) if len(parts) > 1 else [False]
    reach = float(norm.ppf(0.975))
    return [
        SegmentFound(
            dimension=dimension,
            value=value,
            arm=arm,
            units=int(each.units),
            difference=float(seen[at]),
            shrunken=float(shrunken[at]),
            low=float(shrunken[at] - reach * doubt[at]),
            high=float(shrunken[at] + reach * doubt[at]),
            differs=differs[at] and not math.isclose(seen[at], mean),
        )
        for at, (value, each) in enumerate(parts)
    ]
