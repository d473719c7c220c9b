"""How things went over a time range: rate, volume, money and latency in steps, by one dimension, and before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from storage.database import Database
from storage.read_models.chosen import DIMENSIONS, Chosen
from storage.read_models.history_cube import (
    COUNTS,
    STEP_S,
    HistoryCube,
    Key,
    read_minutes,
    read_narrow,
)
from storage.read_models.measures import LATENCY_BUCKETS, Rate, latency_quantile_ms, rate_of
from storage.read_models.minute_sums import Sums

By = Literal["gateway", "method", "issuer", "currency", "all"]

SHORT: Final = timedelta(hours=2)
"""Up to so much is read by the minute from the store, more from memory in steps of ten minutes or an hour."""

FINE: Final = timedelta(days=2)
"""Up to so much is shown in steps of ten minutes, more in hours."""

SERIES_MAX: Final = 8
"""Lines that can be told apart; the others are added up as one."""

OTHERS: Final = "others"
A, P, S, F, AB, R, FA, FS, AM, AMS = range(len(COUNTS))


class HistoryQuery(Chosen, frozen=True, kw_only=True):
    """What to look at. ``compare``: with the range as long before it."""

    since: datetime
    until: datetime
    by: By = "gateway"
    compare: bool = True


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a group of attempts."""

    attempts: int
    failed: int
    authorization: Rate
    first_attempts: Rate
    amount_minor: int
    amount_succeeded_minor: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    latencies: int


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one line."""

    at: datetime
    figures: Figures


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One value of the dimension over time, and in sum."""

    name: str
    total: Figures
    points: list[Point]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """A time range. ``before``: the range as long before it. ``known_from``: older steps are not read yet."""

    since: datetime
    until: datetime
    step_s: int
    currencies: list[str]
    total: Figures
    before: Figures
    total_points: list[Point]
    before_points: list[Point]
    lines: list[Line]
    known_from: datetime | None
    names: dict[str, list[str]]


async def read_history(database: Database, cube: HistoryCube, query: HistoryQuery) -> History:
    """Read a time range and, to compare, the one before it.

    Raises: TooManyAttempts: of what is chosen only single attempts tell, and there are more than can be read.
    """
    length = query.until - query.since
    before = query.since - length if query.compare else query.since
    if query.is_narrow:
        step_s = 60 if length <= SHORT else STEP_S if length <= FINE else 3_600
        by = "gateway" if query.by == "all" else query.by
        rows = await read_narrow(
            database, query, by, since=before, until=query.until, step_s=step_s, origin=query.since
        )
        whole = HistoryQuery(since=query.since, until=query.until, by=query.by)  # of what was read
        history = await asyncio.to_thread(_history, rows, whole, step_s, None)
        return msgspec.structs.replace(history, names=cube.names())
    if length <= SHORT:
        rows = await read_minutes(database, before, query.until)
        history = await asyncio.to_thread(_history, rows, query, 60, None)
    else:
        hours = length > FINE
        rows = cube.rows(before, query.until, hours=hours)
        known_from = cube.known_from or query.until
        history = await asyncio.to_thread(_history, rows, query, 3_600 if hours else STEP_S, known_from)
    return msgspec.structs.replace(history, names=cube.names() | history.names)


Row = tuple[datetime, Key, Sums]


class _Table:
    """Sums as one matrix, in the order of the steps, with the number of the step and of the key of each row."""

    def __init__(self, unordered: Sequence[Row]) -> None:
        rows = sorted(unordered, key=itemgetter(0))
        self.steps = sorted({step for step, _, _ in rows})
        self.keys = list(dict.fromkeys(key for _, key, _ in rows))
        step_at = {step: place for place, step in enumerate(self.steps)}
        key_at = {key: place for place, key in enumerate(self.keys)}
        self.step = np.array([step_at[step] for step, _, _ in rows], dtype=np.intp)
        self.key = np.array([key_at[key] for _, key, _ in rows], dtype=np.intp)
        width = len(COUNTS) + LATENCY_BUCKETS
        self.sums: Sums = np.stack([sums for _, _, sums in rows]) if rows else np.zeros((0, width), dtype=np.int64)

    def where(self, fits: Callable[[Key], bool]) -> npt.NDArray[np.bool_]:
        """Which rows have a key that fits."""
        return np.array([fits(key) for key in self.keys], dtype=np.bool_)[self.key] if self.keys else self.key > 0

    def total(self, chosen: npt.NDArray[np.bool_]) -> Figures:
        """The figures of some rows together."""
        return _figures(self.sums[chosen].sum(axis=0))

    def points(self, chosen: npt.NDArray[np.bool_], shift: timedelta = timedelta(0)) -> list[Point]:
        """The figures of some rows, step by step; steps without a row are left out."""
        step = self.step[chosen]
        if not len(step):
            return []
        first = np.flatnonzero(np.diff(step, prepend=-1))
        added = np.add.reduceat(self.sums[chosen], first, axis=0)
        return [
            Point(at=self.steps[place] + shift, figures=_figures(sums))
            for place, sums in zip(step[first], added, strict=True)
        ]


def _history(rows: Sequence[Row], query: HistoryQuery, step_s: int, known_from: datetime | None) -> History:
    table = _Table(rows)
    length = query.until - query.since
    is_now = np.array([step >= query.since for step in table.steps], dtype=np.bool_)
    now = is_now[table.step] if len(table.step) else table.step > 0
    fits = table.where(lambda key: _fits(key, query))
    return History(
        since=query.since,
        until=query.until,
        step_s=step_s,
        currencies=sorted({table.keys[place][3] for place in np.unique(table.key[now & fits])}),
        total=table.total(now & fits),
        before=table.total(~now & fits),
        total_points=table.points(now & fits),
        before_points=table.points(~now & fits, length),
        lines=_lines(table, now & fits, query.by),
        known_from=known_from,
        names={name: sorted({key[place] for key in table.keys}) for place, name in enumerate(DIMENSIONS)},
    )


def _fits(key: Key, query: HistoryQuery) -> bool:
    wanted = (query.gateway, query.method, query.issuer, query.currency)
    return all(not names or part in names for part, names in zip(key, wanted, strict=True))


def _lines(table: _Table, chosen: npt.NDArray[np.bool_], by: By) -> list[Line]:
    """One line a name, by name, so that colours stay; the least busy beyond the bound are added up."""
    if by == "all":
        return []
    place = DIMENSIONS.index(by)
    of_name = {
        name: chosen & table.where(lambda key, name=name: key[place] == name)  # type: ignore[misc]
        for name in sorted({key[place] for key in table.keys})
    }
    busy = {name: int(table.sums[rows, A].sum()) for name, rows in of_name.items() if rows.any()}
    order = sorted(busy, key=lambda name: -busy[name])
    shown = {name: of_name[name] for name in sorted(order[:SERIES_MAX])}
    if order[SERIES_MAX:]:
        shown[OTHERS] = np.any([of_name[name] for name in order[SERIES_MAX:]], axis=0)
    return [Line(name=name, total=table.total(rows), points=table.points(rows)) for name, rows in shown.items()]


def _figures(sums: Sums) -> Figures:
    counts = [int(value) for value in sums[: len(COUNTS)]]
    buckets = {place: int(value) for place, value in enumerate(sums[len(COUNTS) :]) if value > 0}
    settled = counts[S] + counts[F] + counts[R]
    return Figures(
        attempts=counts[A],
        failed=counts[F],
        authorization=rate_of(max(0, counts[S]), max(0, settled)),
        first_attempts=rate_of(min(max(0, counts[FS]), max(0, counts[FA])), max(0, counts[FA])),
        amount_minor=counts[AM],
        amount_succeeded_minor=counts[AMS],
        latency_p50_ms=latency_quantile_ms(buckets, 0.50),
        latency_p95_ms=latency_quantile_ms(buckets, 0.95),
        latency_p99_ms=latency_quantile_ms(buckets, 0.99),
        latencies=sum(buckets.values()),
    )
