"""The detector of what has no name: an Isolation Forest over what the minutes of a segment look like.

Every feature is "how many standard deviations from what was expected here and now", so minutes of a busy gateway and
of a small issuer, by day and by night, are points of one cloud, and one forest serves all segments. One unusual minute
says little: the share ``contamination`` of all ordinary ones is unusual. So minutes are added up like every other
evidence, as a CUSUM of "half of the minutes are unusual" against "as ever", under the same budget.

Source: Liu, Ting, Zhou (2008), Isolation Forest, ICDM. Fitted by scikit-learn, kept and asked as plain arrays.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Final

import msgspec
import numpy as np
from sklearn.ensemble import IsolationForest

from ml.anomalies.channels import COUNTED
from ml.anomalies.counting import Evidence
from ml.anomalies.segments import Floats

FEATURES: Final = COUNTED + 3
"""Failures of each kind, latency, amounts, orders."""
ROWS_MAX: Final = 8192
ROWS_MIN: Final = 1024
TREES: Final = 100
LIMIT: Final = 8.0
VOLUME_DOUBT: Final = 0.2
MORE_MAX: Final = 1.0
"""How many orders are expected is only known so well, and that there are more of them is nobody's trouble. (A feature
that is cut where most ordinary minutes lie would make any other value of it look unusual.)"""
REVISION: Final = 2
"""Raised whenever the same features mean something else: a forest that was fitted to others is not used."""
HELD_BACK: Final = 4
"""Every fourth row is not fitted to, but says how high the bar must be."""
SHARE_WHEN_UNWELL: Final = 0.5
EULER: Final = 0.5772156649
UNREADABLE: Final = (
    OSError, KeyError, ValueError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy raises for bytes that are no arrays."""


class Forest(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted forest as arrays of shape (trees, nodes); a leaf points at itself. ``bar``: scores above are unusual;
    ``revision``: of the features that it was fitted to."""

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    length: np.ndarray
    depth: int
    sample: int
    bar: float
    contamination: float
    revision: int = REVISION

    def score(self, rows: Floats) -> Floats:
        """How unusual rows are, 0 to 1. Shape (n, FEATURES) in, (n,) out."""
        trees, nodes = self.feature.shape
        first = np.arange(trees) * nodes  # every node of every tree by one number
        feature, threshold = self.feature.ravel(), self.threshold.ravel()
        left, right = (side + first[:, None] for side in (self.left, self.right))
        children = np.stack((right.ravel(), left.ravel()), axis=1).ravel()
        values = rows.astype(np.float32).ravel()
        of_row = np.arange(len(rows))[:, None] * rows.shape[1]
        node = np.repeat(first[None, :], len(rows), axis=0)
        for _ in range(self.depth):
            goes_left = values.take(of_row + feature.take(node)) <= threshold.take(node)
            node = children.take(2 * node + goes_left)
        lengths: Floats = self.length.ravel().take(node).mean(axis=1)
        return np.asarray(2.0 ** (-lengths / _usual_length(self.sample)))

    def unusual(self, rows: Floats) -> np.ndarray:
        """Which rows are unusual."""
        return np.asarray(self.score(rows) > self.bar) if len(rows) else np.zeros(0, dtype=np.bool_)

    def stored(self) -> bytes:
        """The forest as bytes, which ``loaded`` reads."""
        file = io.BytesIO()
        np.savez_compressed(file, **msgspec.structs.asdict(self))
        return file.getvalue()

    @classmethod
    def loaded(cls, body: bytes) -> Forest:
        """Read what ``stored`` wrote; nothing in it is executed.

        Raises: ValueError: it is no forest.
        """
        try:
            with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
                fields = {name: arrays[name] for name in cls.__struct_fields__}
        except UNREADABLE as error:
            raise ValueError(f"no forest: {type(error).__name__}") from error
        forest = cls(**{name: value if value.ndim else value.item() for name, value in fields.items()})
        if forest.revision != REVISION:
            raise ValueError("no forest: it was fitted to other features")
        shape = forest.feature.shape
        nodes = (forest.feature, forest.threshold, forest.left, forest.right, forest.length)
        if len(shape) != 2 or any(each.shape != shape for each in nodes) or not shape[0]:
            raise ValueError("no forest: its arrays do not fit one another")
        if not 0 <= forest.feature.min() <= forest.feature.max() < FEATURES:
            raise ValueError("no forest: it asks for features that there are not")
        if not all(0 <= each.min() <= each.max() < shape[1] for each in (forest.left, forest.right)):
            raise ValueError("no forest: its branches lead nowhere")
        if not 0 < forest.contamination < 0.5 or not 0 <= forest.depth <= shape[1] or forest.sample < 1:
            raise ValueError("no forest: its numbers are out of bounds")
        return forest


def fitted(rows: Floats, *, contamination: float, seed: int) -> Forest:
    """Fit a forest to ordinary minutes; the bar is set on rows that it has not seen.

    Args:
        rows: shape (n, FEATURES), n >= 8.
        contamination: share of ordinary minutes that is taken for unusual, 0 to 0.5.
        seed: of the forest.
    """
    held = np.arange(len(rows)) % HELD_BACK == 0
    model = IsolationForest(n_estimators=TREES, random_state=seed).fit(rows[~held])
    nodes = max(tree.tree_.node_count for tree in model.estimators_)
    shape = (len(model.estimators_), nodes)
    feature, left, right = (np.zeros(shape, dtype=np.int32) for _ in range(3))
    threshold, length = np.zeros(shape, dtype=np.float32), np.zeros(shape)
    for place, (tree, columns) in enumerate(zip(model.estimators_, model.estimators_features_, strict=True)):
        inner = tree.tree_
        count, own = inner.node_count, np.arange(inner.node_count)
        leaf = inner.children_left < 0
        feature[place, :count] = columns[np.where(leaf, 0, inner.feature)]
        threshold[place, :count] = inner.threshold
        left[place, :count] = np.where(leaf, own, inner.children_left)
        right[place, :count] = np.where(leaf, own, inner.children_right)
        length[place, :count] = _depths(inner) + _usual_lengths(inner.n_node_samples)
    depth = int(np.ceil(np.log2(max(model.max_samples_, 2))))
    forest = Forest(
        feature=feature,
        threshold=threshold,
        left=left,
        right=right,
        length=length,
        depth=depth,
        sample=int(model.max_samples_),
        bar=0.0,
        contamination=contamination,
    )
    return msgspec.structs.replace(forest, bar=float(np.quantile(forest.score(rows[held]), 1 - contamination)))


class Minute:
    """What the minute under way looks like in each watched segment."""

    def __init__(self, watched: int) -> None:
        self._counted: Floats = np.zeros((2, COUNTED, watched))
        self._others: Floats = np.zeros((6, watched))
        self.settled: Floats = np.zeros(watched)

    def add(self, evidence: Evidence, orders: Floats, steps: int) -> None:
        """Take in some steps. ``orders``: expected, 0 where they say nothing, shape (steps, watched)."""
        self._counted += np.stack((evidence.hits[:, :steps].sum(axis=1), evidence.expected[:, :steps].sum(axis=1)))
        others = (
            evidence.latency, evidence.latency_weight, evidence.amount, evidence.amount_weight, evidence.orders, orders,
        )  # fmt: skip
        self._others += np.stack([column[:steps].sum(axis=0) for column in others])
        self.settled += evidence.failed[:steps].sum(axis=0) + evidence.succeeded[:steps].sum(axis=0)

    def features(self) -> Floats:
        """Standard deviations from what was expected, cut to +-8. Shape (watched, FEATURES)."""
        seen, expected = self._counted
        latency, latency_weight, amount, amount_weight, orders, due = self._others
        columns = [*((seen - expected) / np.sqrt(expected + 0.5))]
        columns += [latency / np.sqrt(latency_weight + 0.5), amount / np.sqrt(amount_weight + 0.5)]
        fewer = (orders - due) / np.sqrt(due + np.square(VOLUME_DOUBT * due) + 0.5)
        columns.append(np.where(due > 0, np.minimum(fewer, MORE_MAX), 0.0))
        rows: Floats = np.stack(columns, axis=1)
        return rows.clip(-LIMIT, LIMIT)


class Minutes:
    """Ordinary minutes, at most ROWS_MAX of them; the oldest make room."""

    def __init__(self) -> None:
        self._rows: Floats = np.zeros((ROWS_MAX, FEATURES))
        self.seen = 0

    def add(self, rows: Floats) -> None:
        """Take in minutes. Shape (n, FEATURES)."""
        rows = rows[-ROWS_MAX:]
        self._rows[(self.seen + np.arange(len(rows))) % ROWS_MAX] = rows
        self.seen += len(rows)

    def rows(self) -> Floats:
        """What is remembered."""
        return self._rows[: min(self.seen, ROWS_MAX)]


def nats_of(unusual: np.ndarray, contamination: float) -> Floats:
    """Log likelihood ratio of each minute: half of the minutes unusual, against as many as ever."""
    share = SHARE_WHEN_UNWELL
    nats = np.full(len(unusual), np.log((1 - share) / (1 - contamination)))
    nats[unusual] = np.log(share / contamination)
    return nats


def _usual_length(count: float) -> float:
    return float(_usual_lengths(np.array([count]))[0])


def _usual_lengths(count: np.ndarray) -> np.ndarray:
    """Mean length of an unsuccessful search in a binary tree of so many rows."""
    many = np.maximum(count, 3).astype(float)
    length = 2.0 * (np.log(many - 1.0) + EULER) - 2.0 * (many - 1.0) / many
    return np.where(count <= 1, 0.0, np.where(count == 2, 1.0, length))


def _depths(tree: object) -> np.ndarray:
    left, right = tree.children_left, tree.children_right  # type: ignore[attr-defined]
    depths = np.zeros(len(left))
    for node in range(len(left)):  # parents come before their children
        if left[node] >= 0:
            depths[left[node]] = depths[right[node]] = depths[node] + 1
    return depths
