"""The reliability model: what a payment's country, currency, amount, card range … do to its success at each gateway.

It adds to what the adaptive policy learns by itself (gateway, method, issuer, network, and the hour): a *shift* in log
odds, from regression trees that were fitted to what those rates leave unexplained. It is data, some thousand numbers,
and is read with NumPy alone; how it is fitted and judged stands in ``ml.routing.reliability_training``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from ml.routing.context import Outcome, RoutingContext
from ml.routing.node import chance, logit

FIELDS: Final = ("method", "issuer", "network", "country", "currency", "bin")
"""What is told apart by name; each also together with the gateway."""

UNKNOWN: Final = ""
"""Stands for a field that a payment does not have."""

WORTH: Final = 50.0
"""Payments that what is known of the whole counts as for a part of it."""

PRIOR_PAYMENTS: Final = 50.0
"""Payments, at most, that a cell of the model counts as for a policy that starts: it must be easy to unlearn."""

SHIFT_MAX: Final = 3.0
"""No shift is beyond this, log odds: trees may be wrong about what they have hardly seen."""

CACHED_MAX: Final = 20_000
"""Kinds of payments whose shifts are remembered."""

OTHER: Final = "\0"
"""Stands for every name that the model does not tell apart."""

BAND_MAX: Final = 80
"""Of a trillion units; amounts beyond are alike."""

STORED_AS: Final = 1


class Traits(NamedTuple):
    """What the model sees of a payment; ``band`` is twice the binary logarithm of its amount, rounded."""

    method: str
    issuer: str
    network: str
    country: str
    currency: str
    bin: str
    band: int


def traits_of(context: RoutingContext) -> Traits:
    """What the model sees of a payment that is to be routed."""
    return Traits(context.method, context.issuer, context.network or UNKNOWN, context.country or UNKNOWN,
                  context.currency, context.bin or UNKNOWN, band_of(context.amount_minor))  # fmt: skip


def band_of(amount_minor: int) -> int:
    """The band of an amount: each is 1.41 times the one before.

    >>> band_of(0), band_of(1_000), band_of(1_410), band_of(10_000)
    (0, 20, 21, 27)
    """
    return round(2 * math.log2(max(amount_minor, 0) + 1))


class Cell(msgspec.Struct, frozen=True):
    """What became of the payments of one part of the traffic."""

    gateway: str | None
    method: str | None
    issuer: str | None
    network: str | None
    payments: float
    succeeded: float


class Trees(msgspec.Struct, frozen=True):
    """Regression trees, node by node; a leaf has feature -1. ``left`` and ``right`` are places in the same lists."""

    roots: list[int]
    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    value: list[float]
    depth: int


class ReliabilityModel(msgspec.Struct, frozen=True, kw_only=True):
    """Pooled rates, and trees on top of them.

    Attributes:
        cells: payments and successes of each part, for the pooled rates.
        codes: per column of ``columns_of``, the number that stands for each name.
        others: per column, the number for a name that is not listed.
        trees: their sum, times the weight, is the shift.
        weight: factor of that sum, fitted to payments later than those that rates and trees were fitted to.
        stored_as: form of this data.
    """

    cells: list[Cell]
    codes: list[dict[str, float]]
    others: list[float]
    trees: Trees
    weight: float = 1.0
    stored_as: int = STORED_AS


def columns_of(gateway: str, traits: Traits) -> list[str]:
    """The names by which one payment at one gateway is looked up."""
    names = [gateway]
    for name in traits[:-1]:
        names.append(name)
        names.append(f"{gateway}|{name}")
    return names


class PooledRates:
    """Success by gateway, method, issuer and network: each part is drawn to what the wider parts let expect of it."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells: dict[tuple[str | None, ...], tuple[float, float]] = {
            (cell.gateway, cell.method, cell.issuer, cell.network): (cell.payments, cell.succeeded) for cell in cells
        }
        self._known: dict[tuple[str, ...], float] = {}

    def log_odds(self, gateway: str, traits: Traits) -> float:
        """What the rates expect of one payment at one gateway."""
        method, issuer, network = key = traits[:3]
        known = self._known.get((gateway, *key))
        if known is not None:
            return known
        whole = self._drawn((None, None, None, None), 0.0)
        z = self._drawn((gateway, None, None, None), whole)
        common = whole
        for part in ((method, None, None), (method, issuer, None), (method, issuer, network)):
            wider, common = common, self._drawn((None, *part), common)
            z = self._drawn((gateway, *part), z + common - wider)
        if len(self._known) < CACHED_MAX:
            self._known[gateway, *key] = z
        return z

    def _drawn(self, key: tuple[str | None, ...], expected: float) -> float:
        payments, succeeded = self._cells.get(key, (0.0, 0.0))
        return logit((succeeded + WORTH * chance(expected)) / (payments + WORTH))


class _Forest:
    """Trees as arrays."""

    def __init__(self, trees: Trees) -> None:
        self._roots, self._depth = np.array(trees.roots, int), trees.depth
        self._feature, self._threshold = np.array(trees.feature, int), np.array(trees.threshold)
        self._left, self._right = np.array(trees.left, int), np.array(trees.right, int)
        self._value = np.array(trees.value)

    def sums(self, features: np.ndarray) -> np.ndarray:
        """See ``sums_of``."""
        if not len(self._roots):
            return np.zeros(len(features))
        node = np.broadcast_to(self._roots, (len(features), len(self._roots)))
        rows = np.arange(len(features))[:, None]
        for _ in range(self._depth):
            asked = self._feature[node]
            goes_left = features[rows, np.maximum(asked, 0)] <= self._threshold[node]
            node = np.where(asked < 0, node, np.where(goes_left, self._left[node], self._right[node]))
        return np.asarray(self._value[node].sum(axis=1))


def sums_of(trees: Trees, features: np.ndarray) -> np.ndarray:
    """Add up what the trees say.

    Args:
        trees: which.
        features: shape (payments, columns), float32, as the trees were fitted on.
    Returns: shape (payments,), float.
    """
    return _Forest(trees).sums(features)


def bounded_shifts(weight: float, sums: np.ndarray) -> np.ndarray:
    """Sums of trees as shifts, log odds, within ``SHIFT_MAX``."""
    return np.clip(weight * sums, -SHIFT_MAX, SHIFT_MAX)


class Reliability:
    """A model that serves: remembers the kinds of payments it was asked about.

    Args:
        model: the data.
        version: of the model store.
    Raises: ValueError: the data cannot be a model of this form.
    """

    def __init__(self, model: ReliabilityModel, version: int = 0) -> None:
        _check(model)
        self.version = version
        self._model = model
        self._rates = PooledRates(model.cells)
        self._forest = _Forest(model.trees)
        self._gateways = frozenset(cell.gateway for cell in model.cells if cell.gateway is not None)
        self._known: dict[tuple[Traits, tuple[str, ...]], tuple[float, ...]] = {}
        self._names = _names_of(model)

    @classmethod
    def loaded(cls, body: bytes, version: int) -> Reliability:
        """Read what was stored.

        Raises: ValueError: it is something else, or from another version of this module.
        """
        try:
            return cls(msgspec.json.decode(body, type=ReliabilityModel), version)
        except msgspec.MsgspecError as error:
            raise ValueError(f"this is no stored reliability model: {error}; train it again") from None

    def shifts(self, context: RoutingContext, gateways: tuple[str, ...]) -> tuple[float, ...]:
        """What this payment's traits add to the log odds of success at each gateway; 0 at one the model never saw."""
        traits = traits_of(context)
        named = [name if name in names else OTHER for name, names in zip(traits[:-1], self._names, strict=True)]
        alike = Traits._make((*named, min(traits.band, BAND_MAX)))  # what the model never saw is all the same to it
        key = alike, gateways
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= CACHED_MAX:
                self._known.clear()
            found = self._known[key] = self._shifts(*key)
        return found

    def _shifts(self, traits: Traits, gateways: tuple[str, ...]) -> tuple[float, ...]:
        if not self._model.trees.roots:
            return (0.0,) * len(gateways)
        features = self.features([(gateway, traits) for gateway in gateways])
        bounded = bounded_shifts(self._model.weight, self._forest.sums(features)).tolist()
        return tuple(
            shift if gateway in self._gateways else 0.0 for gateway, shift in zip(gateways, bounded, strict=True)
        )

    def features(self, payments: Sequence[tuple[str, Traits]]) -> np.ndarray:
        """The numbers that the trees ask about, shape (payments, columns), float32."""
        model, rows = self._model, []
        for gateway, traits in payments:
            row = [
                codes.get(name, other)
                for codes, other, name in zip(model.codes, model.others, columns_of(gateway, traits), strict=True)
            ]
            rows.append([*row, traits.band, self._rates.log_odds(gateway, traits)])
        return np.array(rows, np.float32)

    def shifts_of(self, payments: Sequence[tuple[str, Traits]]) -> np.ndarray:
        """The shift of many payments, each at its gateway, shape (payments,), log odds; 0 at one it never saw."""
        known = np.array([gateway in self._gateways for gateway, _ in payments], float)
        return np.asarray(known * bounded_shifts(self._model.weight, self._forest.sums(self.features(payments))))

    def expected(self, payments: Sequence[tuple[str, Traits]]) -> np.ndarray:
        """Log odds of success of many payments by the stored rates and the trees, shape (payments,)."""
        features = self.features(payments)
        return np.asarray(features[:, -1] + bounded_shifts(self._model.weight, self._forest.sums(features)))

    def evidence(self, at: float) -> Iterator[Outcome]:
        """What the rates say of each gateway, method and issuer, as a few payments for a policy that starts."""
        for cell in self._model.cells:
            if cell.gateway is None or cell.method is None or cell.issuer is None or cell.network is not None:
                continue
            share = min(1.0, PRIOR_PAYMENTS / cell.payments) if cell.payments else 0.0
            succeeded, failed = share * cell.succeeded, share * (cell.payments - cell.succeeded)
            yield Outcome(gateway=cell.gateway, method=cell.method, issuer=cell.issuer, at=at,
                          succeeded=succeeded, failed=failed)  # fmt: skip


def _names_of(model: ReliabilityModel) -> list[frozenset[str]]:
    """The names of each field that the model tells apart."""
    cells = [{cell.method for cell in model.cells}, {cell.issuer for cell in model.cells},
             {cell.network for cell in model.cells}, set(), set(), set()]  # fmt: skip
    found = []
    for place, known in enumerate(cells):
        alone, paired = model.codes[1 + 2 * place], model.codes[2 + 2 * place]
        found.append(
            frozenset({str(name) for name in known if name} | set(alone) | {_after_bar(name) for name in paired})
        )
    return found


def _after_bar(name: str) -> str:
    return name.partition("|")[2]


def _check(model: ReliabilityModel) -> None:
    trees, columns = model.trees, 1 + 2 * len(FIELDS)
    count = len(trees.feature)
    even = all(len(each) == count for each in (trees.threshold, trees.left, trees.right, trees.value))
    places = [*trees.roots, *trees.left, *trees.right]
    if model.stored_as != STORED_AS:
        raise ValueError(f"this model is stored in form {model.stored_as}, this version reads {STORED_AS}; train again")
    if len(model.codes) != columns or len(model.others) != columns or not even:
        raise ValueError("this model's lists do not fit together; train it again")
    if any(not 0 <= place < count for place in places) or any(not -1 <= each < columns + 2 for each in trees.feature):
        raise ValueError("a tree of this model points outside of itself; train it again")
