"""Fits the reliability model to history, and judges it on what came later.

Payments are ordered by time: the first three fifths teach rates and trees, the next fifth weighs the trees and chooses
how many there are (none, one decision tree, or a boosted sum), the last fifth judges. So a model never saw, nor was
chosen on, the payments that it is judged by; and the model in force, which was trained earlier, saw none of them.

What serves is the *shift* of the trees alone, on top of rates that the router learns within seconds. So shifts are
compared, each on the same rates, and these are fitted to the payments in question (one level a gateway, one slope): a
level that moved since is nobody's merit.

Source: Friedman (2001), Annals of Statistics 29(5), 1189-1232.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import TargetEncoder

from ml.lack import TooFewData
from ml.routing.reliability import (
    Cell,
    PooledRates,
    Reliability,
    ReliabilityModel,
    Traits,
    Trees,
    bounded_shifts,
    columns_of,
    sums_of,
)

ROWS_MIN: Final = 2_000
"""Payments that a training needs: below, the last fifth cannot tell a good model from a lucky one."""

NAMED_MIN: Final = 50
"""A name that occurs less often is one of the others."""

DEPTH: Final = 3
TREES: Final = (20, 40, 80, 160)
RATE: Final = 0.08
SUBSAMPLE: Final = 0.5
LEAF_MIN: Final = 50
TREE_DEPTH: Final = 6
"""Of the one decision tree that the boosted sum is compared with."""

BLOCKS: Final = 50
"""Stretches of time whose mean losses are compared: payments close in time are kin, so single ones would flatter."""

SURE: Final = 1.645
"""Standard errors for "better": one side, 5 %."""

DRIFT_BANDS: Final = 10
STRETCHES: Final = 20
WEIGHT_MAX: Final = 1.5
NEWTON_STEPS: Final = 8
RIDGE: Final = 1.0
"""Rates are moved only as far as payments say: one payment's worth of doubt."""


class Payment(NamedTuple):
    """One payment of history: when (seconds since the epoch), where, what it was like, and whether it succeeded."""

    at: float
    gateway: str
    traits: Traits
    succeeded: bool


class Judged(NamedTuple):
    """A model and how it did on the last fifth.

    Attributes:
        model: the data to store.
        metrics: by name; losses are mean log losses in nats.
        better: whether it should take the place of what is in force.
        note: why, in words.
        taught_until: time of the last payment that taught, seconds since the epoch.
    """

    model: ReliabilityModel
    metrics: dict[str, float]
    better: bool
    note: str
    taught_until: float

    def body(self) -> bytes:
        """The model as JSON."""
        return msgspec.json.encode(self.model)


class Sample(NamedTuple):
    """Payments as the fitting sees them; the last feature is what the pooled rates expect, in log odds."""

    asked: list[tuple[str, Traits]]
    features: np.ndarray
    truth: np.ndarray

    def recalibrated(self, shifts: np.ndarray) -> np.ndarray:
        """Log odds of success: rates fitted to these payments, one level a gateway and one slope, plus shifts.

        Whatever is compared gets the same few numbers fitted, so none gains by them.
        """
        names = sorted({gateway for gateway, _ in self.asked})
        levels = np.array([[gateway == name for name in names] for gateway, _ in self.asked], float)
        given = np.column_stack([levels, self.features[:, -1].astype(float)])
        weights = np.zeros(given.shape[1])
        weights[-1] = 1.0
        prior = weights.copy()
        for _ in range(NEWTON_STEPS):
            expected = _chance(given @ weights + shifts)
            spread = expected * (1 - expected)
            slope = given.T @ (self.truth - expected) - RIDGE * (weights - prior)
            weights = weights + np.linalg.solve(
                (given * spread[:, None]).T @ given + RIDGE * np.eye(len(weights)), slope
            )
        return np.asarray(given @ weights + shifts)

    def losses(self, shifts: np.ndarray) -> np.ndarray:
        """The log loss of each payment, nats."""
        return _losses(self.recalibrated(shifts), self.truth)

    def quality(self, shifts: np.ndarray) -> dict[str, float]:
        """Area under the ROC curve, mean distance from observed success in tenths, and the loss of a constant."""
        said, truth = _chance(self.recalibrated(shifts)), self.truth
        tenths = np.array_split(np.argsort(said, kind="stable"), 10)
        apart = [abs(said[tenth].mean() - truth[tenth].mean()) * len(tenth) for tenth in tenths if len(tenth)]
        return {
            "auc": float(roc_auc_score(truth, said)),
            "calibration_error": float(sum(apart) / len(said)),
            "log_loss_constant": float(log_loss(truth, np.full(len(truth), truth.mean()))),
        }


def fitted(history: Sequence[Payment], in_force: Reliability | None = None) -> Judged | TooFewData:
    """Fit a model to history and judge it.

    Args:
        history: payments, in any order.
        in_force: the model that serves; None: none does.
    """
    ordered = sorted(history, key=lambda payment: payment.at)
    first, second = len(ordered) * 3 // 5, len(ordered) * 4 // 5
    parts = ordered[:first], ordered[first:second], ordered[second:]
    if len(ordered) < ROWS_MIN or any(len({payment.succeeded for payment in part}) < 2 for part in parts):
        return TooFewData(seen=len(ordered), needed=ROWS_MIN)
    plain = _without_trees(parts[0])
    chosen, by_name = _chosen(plain, *(_part(plain, part) for part in parts[:2]))
    judged = _part(plain, parts[2])
    model = Reliability(chosen)
    losses = {
        "rates": judged.losses(np.zeros(len(judged.truth))),
        "chosen": judged.losses(model.shifts_of(judged.asked)),
    }
    if in_force is not None:
        losses["in_force"] = judged.losses(in_force.shifts_of(judged.asked))
    metrics = {
        "payments": float(len(ordered)),
        "trees": float(len(chosen.trees.roots)),
        **{f"log_loss_{name}": float(lost.mean()) for name, lost in losses.items()},
        **by_name,
        **judged.quality(model.shifts_of(judged.asked)),
        "drift_psi": _stability(model, parts[0], parts[2]),
    }
    return _judged(chosen, metrics, losses, parts[1][-1].at)


def _judged(
    chosen: ReliabilityModel, metrics: dict[str, float], losses: dict[str, np.ndarray], taught_until: float
) -> Judged:
    """Compare losses, and say it in words.

    A model with trees must be surely better than the rates alone, and than the model in force. Without trees it is the
    rates alone, which take over only from a model that does surely worse than they do.
    """
    has_trees = bool(chosen.trees.roots)
    over_rates, doubt = _gain(losses["rates"], losses["chosen"])
    metrics |= {"gain": over_rates, "gain_error": doubt}
    what = {0: "rates alone", 1: "a decision tree"}.get(len(chosen.trees.roots), "boosted trees")
    note = f"{what}: on the latest fifth {_told(over_rates, doubt)} better than the rates alone"
    better = has_trees and over_rates > SURE * doubt
    if "in_force" in losses:
        over_old, doubt_old = _gain(losses["in_force"], losses["chosen"])
        lost, doubt_lost = _gain(losses["in_force"], losses["rates"])
        metrics["gain_over_in_force"] = over_old
        metrics["drift_loss"] = lost
        note += f", {_told(over_old, doubt_old)} better than the model in force"
        better = over_old > SURE * doubt_old and (better or not has_trees)
        if lost > SURE * doubt_lost:
            note += "; that one has drifted: the rates alone do better than it by now"
    return Judged(chosen, metrics, better, note, taught_until)


def _told(gain: float, error: float) -> str:
    return f"{1000 * gain:+.2f} ± {1000 * SURE * error:.2f} thousandths of log loss"


# --- fitting ---------------------------------------------------------------------------------------------------------


def _without_trees(payments: Sequence[Payment]) -> ReliabilityModel:
    """Rates of every part that occurs often enough, and codes for every name."""
    cells = _cells(payments)
    rates = PooledRates(cells)
    names = np.array([columns_of(payment.gateway, payment.traits) for payment in payments], object)
    for column in names.T:
        counts = Counter(column)
        column[[counts[name] < NAMED_MIN for name in column]] = None
    expected = np.array([rates.log_odds(payment.gateway, payment.traits) for payment in payments])
    left = np.array([payment.succeeded for payment in payments], float) - _chance(expected)
    encoder = TargetEncoder(target_type="continuous", smooth=100.0, random_state=0).fit(names, left)
    codes = [
        {str(name): float(code) for name, code in zip(known, values, strict=True) if name is not None}
        for known, values in zip(encoder.categories_, encoder.encodings_, strict=True)
    ]
    return ReliabilityModel(
        cells=cells,
        codes=codes,
        others=[0.0] * len(codes),
        trees=Trees([], [], [], [], [], [], 0),
    )


def _cells(payments: Sequence[Payment]) -> list[Cell]:
    seen: Counter[tuple[str | None, str | None, str | None, str | None]] = Counter()
    succeeded: Counter[tuple[str | None, str | None, str | None, str | None]] = Counter()
    for payment in payments:
        method, issuer, network = payment.traits[:3]
        for part in ((None, None, None), (method, None, None), (method, issuer, None), (method, issuer, network)):
            for gateway in (None, payment.gateway):
                seen[gateway, *part] += 1
                succeeded[gateway, *part] += payment.succeeded
    kept = {key: count for key, count in seen.items() if count >= NAMED_MIN or key[1:] == (None, None, None)}
    return [
        Cell(gateway, method, issuer, network, float(count), float(succeeded[gateway, method, issuer, network]))
        for (gateway, method, issuer, network), count in kept.items()
    ]


def _part(plain: ReliabilityModel, payments: Sequence[Payment]) -> Sample:
    asked = [(payment.gateway, payment.traits) for payment in payments]
    return Sample(
        asked, Reliability(plain).features(asked), np.array([payment.succeeded for payment in payments], float)
    )


def _chosen(plain: ReliabilityModel, taught: Sample, later: Sample) -> tuple[ReliabilityModel, dict[str, float]]:
    """Choose how many trees, on later payments; none unless that is surely worse than the best.

    The weight of the trees is fitted to every other stretch of time, and the choice made on those between.

    Returns: the model, and the log loss on those of the decision tree and of the boosted sum.
    """
    weighing, choosing = _in_turn(later)
    none = choosing.losses(np.zeros(len(choosing.truth)))
    found: list[tuple[float, ReliabilityModel]] = []
    by_name: dict[str, float] = {}
    tree = _boosted(taught, trees=1, depth=TREE_DEPTH, rate=1.0, subsample=1.0)
    boosted = _boosted(taught, trees=max(TREES), depth=DEPTH, rate=RATE, subsample=SUBSAMPLE)
    for name, fit, count in [("tree", tree, 1), *(("boosted", boosted, count) for count in TREES)]:
        trees = _as_trees(fit, count)
        weight = _weight(weighing, sums_of(trees, weighing.features))
        losses = choosing.losses(bounded_shifts(weight, sums_of(trees, choosing.features)))
        gain, error = _gain(none, losses)
        key = f"log_loss_{name}_chosen_on"
        by_name[key] = min(by_name.get(key, np.inf), float(losses.mean()))
        if weight > 0 and gain > SURE * error:
            weight = _weight(later, sums_of(trees, later.features))
            found.append((float(losses.mean()), msgspec.structs.replace(plain, trees=trees, weight=weight)))
    if not found:
        return plain, by_name
    return min(found, key=lambda each: each[0])[1], by_name


def _in_turn(part: Sample) -> tuple[Sample, Sample]:
    """Every other of some stretches of time, and those between."""
    stretch = np.arange(len(part.truth)) * STRETCHES // len(part.truth) % 2
    halves = []
    for which in (0, 1):
        rows = np.flatnonzero(stretch == which)
        halves.append(Sample([part.asked[row] for row in rows], part.features[rows], part.truth[rows]))
    return halves[0], halves[1]


def _weight(part: Sample, sums: np.ndarray) -> float:
    """How much of what the trees say is true of these payments, 0 to 1.5, beside rates that fit them."""
    tried = np.linspace(0.0, WEIGHT_MAX, 16)
    losses = [float(part.losses(bounded_shifts(weight, sums)).mean()) for weight in tried]
    return float(tried[int(np.argmin(losses))])


class _FromRates:
    """Lets the boosting begin at the pooled rates, which are the last column."""

    def fit(self, features: Any, truth: Any, sample_weight: Any = None) -> _FromRates:
        """Nothing to fit."""
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Failure and success, shape (payments, 2)."""
        success = _chance(features[:, -1].astype(float))
        return np.stack([1 - success, success], axis=1)


def _boosted(taught: Sample, *, trees: int, depth: int, rate: float, subsample: float) -> GradientBoostingClassifier:
    leaf_min = max(LEAF_MIN, len(taught.truth) // 200)
    return GradientBoostingClassifier(
        n_estimators=trees, max_depth=depth, learning_rate=rate, subsample=subsample, min_samples_leaf=leaf_min,
        init=_FromRates(), random_state=0,
    ).fit(taught.features, taught.truth)  # fmt: skip


def _as_trees(fit: GradientBoostingClassifier, count: int) -> Trees:
    """The first so many trees of a fit as lists, their values times the learning rate."""
    found = Trees([], [], [], [], [], [], 0)
    depth = 0
    for each in fit.estimators_[:count, 0]:
        tree, start = each.tree_, len(found.feature)
        found.roots.append(start)
        leaf = tree.children_left < 0
        found.feature.extend(np.where(leaf, -1, tree.feature).tolist())
        found.threshold.extend(np.where(leaf, 0.0, tree.threshold).tolist())
        found.left.extend(np.where(leaf, start, tree.children_left + start).tolist())
        found.right.extend(np.where(leaf, start, tree.children_right + start).tolist())
        found.value.extend((fit.learning_rate * tree.value[:, 0, 0]).tolist())
        depth = max(depth, int(tree.max_depth))
    return msgspec.structs.replace(found, depth=depth)


# --- judging ---------------------------------------------------------------------------------------------------------


def _chance(log_odds: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-log_odds)))


def _losses(log_odds: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The log loss of each payment, nats."""
    return np.asarray(np.logaddexp(0.0, np.where(truth > 0, -log_odds, log_odds)))


def _gain(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Mean loss saved, and its standard error over stretches of time."""
    saved = before - after
    means = [block.mean() for block in np.array_split(saved, min(BLOCKS, len(saved)))]
    return float(saved.mean()), float(np.std(means, ddof=1) / np.sqrt(len(means)))


def _stability(model: Reliability, taught: Sequence[Payment], later: Sequence[Payment]) -> float:
    """Population stability index of the expected success: how far later payments are from those that taught.

    Below 0.1 they are alike; above 0.25 the model is asked about payments of another kind than it knows.
    """
    before, after = (
        model.expected([(payment.gateway, payment.traits) for payment in part]) for part in (taught, later)
    )
    edges = np.unique(np.quantile(before, np.linspace(0, 1, DRIFT_BANDS + 1)[1:-1]))
    shares = [
        np.bincount(np.searchsorted(edges, part, side="right"), minlength=len(edges) + 1) / len(part) + 1e-4
        for part in (before, after)
    ]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
