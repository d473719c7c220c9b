"""Single attempts, added up as the sums per minute are: for what these cannot tell apart.

An attempt costs a hundred times what it costs in a sum, so every read has a bound, and one beyond it has no figures.
Reads take turns, whoever asks: many choices looked at in one moment are read one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Final

import numpy as np

from messaging.contracts import AttemptStatus, RecordedAttempt
from storage.database import Database, Document
from storage.errors import TooManyAttempts
from storage.read_models.chosen import Chosen
from storage.read_models.measures import LATENCY_BUCKETS, LATENCY_MS_FIRST, LATENCY_RATIO
from storage.read_models.minute_sums import Sums, read_minute_sums
from storage.read_models.turn import SINGLES
from storage.rollups import Sums as SumsByKey
from storage.rollups import latency_bucket

ATTEMPTS_MAX: Final = 200_000
"""Attempts that a range may hold: the store looks at each of them, 3 to 4 µs."""

WORK_MAX: Final = 300_000
"""What a read may cost, in attempts that are looked at: 1.3 s at most as measured."""

WORK_FITTING: Final = 2
"""What an attempt that fits costs more: it is carried here and counted."""

WORK_DECIDED: Final = 8
"""What it costs more to look its decision up."""

BATCH: Final = 1_000
"""Attempts that come at a time; between two of them others have their turn, after some 10 ms."""

COUNTED: Final = ("status", "amount_minor", "attempt_number", "latency_ms")
MINUTE: Final = timedelta(minutes=1)

Added = dict[tuple[datetime, tuple[str, ...]], Sums]
"""Sums by the start of a step and names: the counts that were wanted, then the latency buckets."""


def add_up(
    attempts: Iterable[Document],
    counts: Sequence[str],
    apart: Sequence[str],
    step_at: Callable[[datetime], datetime],
    added: Added,
) -> None:
    """Add attempts up by step and names.

    Args:
        attempts: as they lie in the store, with ``attempted_at``, ``COUNTED`` and what is told apart.
        counts: the fields of a sum that are wanted.
        apart: dimensions that are told apart, two or more.
        step_at: the start of the step that a moment lies in.
        added: what was added up before; this is added to it.
    """
    fields, names_of = tuple(counts), itemgetter(*apart)
    for attempt in attempts:
        latency_ms = attempt.get("latency_ms")
        bucket = None if latency_ms is None else latency_bucket(latency_ms)
        each, each_minor = _adds(fields, attempt["status"], attempt["attempt_number"] == 1, bucket)
        key = step_at(attempt["attempted_at"]), names_of(attempt)
        sums = added.get(key)
        if sums is None:
            added[key] = sums = np.zeros(len(each), dtype=np.int64)
        sums += each
        sums += attempt["amount_minor"] * each_minor


def readable_max(chosen: Chosen) -> int:
    """How many attempts can be read whatever share of them fits; a tenth is left for those that come meanwhile."""
    return WORK_MAX // (1 + _work(chosen)) * 9 // 10


def read_chosen_sums(
    database: Database,
    chosen: Chosen,
    since: datetime,
    counts: Sequence[str],
    *,
    apart: Sequence[str],
    query_ms_max: int,
) -> AsyncIterator[tuple[Document, Sums]]:
    """Read the sums per minute of what was chosen, from a minute on: of single attempts only where these alone tell.

    Args:
        counts: the fields that are wanted; the counts of the latency buckets follow them.
        apart: dimensions that are told apart, two or more; sums per minute have the names of all.
    Raises: TooManyAttempts: single attempts would tell, and there are more than can be read; nothing was given.
    """
    if chosen.is_narrow:
        return read_single_sums(database, chosen, since, None, counts, apart=apart, query_ms_max=query_ms_max)
    match = {"minute": {"$gte": since}} | chosen.match()
    return read_minute_sums(database, "attempt_rollups", match, counts, latencies=True, query_ms_max=query_ms_max)


async def read_single_sums(
    database: Database,
    chosen: Chosen,
    since: datetime,
    until: datetime | None,
    counts: Sequence[str],
    *,
    apart: Sequence[str],
    step: timedelta = MINUTE,
    origin: datetime | None = None,
    query_ms_max: int,
) -> AsyncIterator[tuple[Document, Sums]]:
    """Read attempts that were chosen, added up; the shape is that of ``read_minute_sums`` with latencies.

    Args:
        since, until: when they were attempted; until is not included, None: there is no end.
        counts: the fields that are wanted.
        apart: dimensions that are told apart, two or more.
        step: what they are added up over.
        origin: where one of the steps begins; None: at ``since``. The first step is cut off at ``since``.
    Returns: the names, with the start of the step as ``minute``, and the sums.
    Raises: TooManyAttempts: there are more than can be read; nothing was given.
    """
    begin = since if origin is None else origin
    starts: dict[int, datetime] = {}

    def step_at(moment: datetime) -> datetime:
        place = (moment - begin) // step
        if place not in starts:
            starts[place] = max(since, begin + place * step)
        return starts[place]

    added: Added = {}
    fields = (*COUNTED, *apart)
    reading = read_single_attempts(database, chosen, since, until, fields, query_ms_max=query_ms_max)
    async with aclosing(reading):
        async for attempts in reading:
            add_up(attempts, counts, apart, step_at, added)
    for place, ((minute, names), sums) in enumerate(added.items()):
        if place % BATCH == 0:
            await asyncio.sleep(0)
        yield dict(zip(apart, names, strict=True)) | {"minute": minute}, sums


async def read_single_attempts(
    database: Database,
    chosen: Chosen,
    since: datetime,
    until: datetime | None,
    fields: Sequence[str],
    *,
    query_ms_max: int,
) -> AsyncGenerator[list[Document]]:
    """Read attempts that were chosen, batch by batch; the turn is had until the last one, or ``aclose``.

    Args:
        since, until: when they were attempted; until is not included, None: there is no end.
        fields: what is wanted of them besides ``attempted_at``.
    Raises: TooManyAttempts: there are more than can be read.
    """
    span = {"attempted_at": {"$gte": since} | ({} if until is None else {"$lt": until})}
    attempts = database["attempts"]
    wanted = {"_id": False, "attempted_at": True, **dict.fromkeys(fields, True)}
    if chosen.arm:
        wanted["decision_id"] = True
    async with SINGLES.taken():
        count = await attempts.count_documents(span, limit=ATTEMPTS_MAX + 1, maxTimeMS=query_ms_max)
        if count > ATTEMPTS_MAX:
            raise TooManyAttempts(ATTEMPTS_MAX, fitting=False)
        fitting_max = (WORK_MAX - count) // _work(chosen)
        cursor = attempts.find(span | chosen.match_single(), wanted, batch_size=BATCH, max_time_ms=query_ms_max)
        fitting = 0
        async with cursor:
            while batch := await cursor.to_list(BATCH):
                fitting += len(batch)
                if fitting > fitting_max:
                    raise TooManyAttempts(fitting_max, fitting=True)
                yield await _of_arms(database, chosen, batch, query_ms_max=query_ms_max) if chosen.arm else batch


async def _of_arms(
    database: Database, chosen: Chosen, attempts: list[Document], *, query_ms_max: int
) -> list[Document]:
    """The attempts whose decision fell in one of the arms that are chosen.

    Args:
        attempts: with ``decision_id``, where there is one.
    """
    ids = [attempt["decision_id"] for attempt in attempts if "decision_id" in attempt]
    query = {"_id": {"$in": ids}} | chosen.match_decisions()
    found = database["decisions"].find(query, {"_id": True}, batch_size=BATCH, max_time_ms=query_ms_max)
    decided = {decision["_id"] for decision in await found.to_list()}
    return [attempt for attempt in attempts if attempt.get("decision_id") in decided]


def _work(chosen: Chosen) -> int:
    """What an attempt that fits costs more."""
    return WORK_FITTING + (WORK_DECIDED if chosen.arm else 0)


@lru_cache(maxsize=4_096)
def _adds(fields: tuple[str, ...], status: AttemptStatus, is_first: bool, bucket: int | None) -> tuple[Sums, Sums]:
    """What an attempt adds whatever its amount, and what each minor unit of the amount adds.

    Asked of the sums that workers write, so that there is one place that says what counts.
    """
    moment = datetime.min.replace(tzinfo=UTC)
    attempt = RecordedAttempt(
        attempt_id="", order_id="", gateway="", method="", status=status, amount_minor=1, currency="",
        attempted_at=moment, occurred_at=moment, attempt_number=1 if is_first else 2,
        latency_ms=None if bucket is None else LATENCY_MS_FIRST * LATENCY_RATIO**bucket,
    )  # fmt: skip
    sums = SumsByKey()
    sums.add_attempt(attempt)
    (added,) = sums.by_key().values()
    names = (*fields, *(f"latency.{place}" for place in range(LATENCY_BUCKETS)))
    of_amount = np.array([name.startswith("amount_") for name in names])
    each = np.array([added.get(name, 0) for name in names], dtype=np.int64)
    return np.where(of_amount, 0, each), np.where(of_amount, each, 0)
