"""What models of success are fitted to: a bounded and even share of the first attempts, in a real store."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from storage.attempts import AttemptState, ReportEntry, attempt_document
from storage.database import Database
from storage.read_models.first_attempts import STRETCHES, read_first_attempts
from tests.factories import recorded

UNTIL = datetime(2026, 9, 29, tzinfo=UTC)
SPAN = timedelta(days=28)
SINCE = UNTIL - SPAN
ATTEMPTS = 40_000
ROWS_MAX = 4_000


def at_share(share: float) -> datetime:
    """When so much of the time has passed, at nights slower: a day's middle has several times a night's payments."""
    day = share * SPAN / timedelta(days=1)
    passed = timedelta(days=day + 0.6 / (2 * math.pi) * math.sin(2 * math.pi * day))
    return SINCE + timedelta(milliseconds=passed // timedelta(milliseconds=1))


async def fill(database: Database, moments: list[datetime]) -> None:
    """Store attempts made then; each tenth is a second one, each eleventh has no end."""
    documents = []
    for number, at in enumerate(moments):
        status = "pending" if number % 11 == 5 else "failed" if number % 7 == 0 else "succeeded"
        said = recorded(number, status=status, attempted_at=at, occurred_at=at,
                        attempt_number=2 if number % 10 == 0 else 1)  # fmt: skip
        entry = ReportEntry(event_id=f"evt_{number}", status=said.status, occurred_at=at, received_at=at)
        documents.append(attempt_document(AttemptState(attempt=said, history=(entry,), revision=1)))
    await database["attempts"].insert_many(documents, ordered=False)


async def read(database: Database, rows_max: int = ROWS_MAX) -> list[datetime]:
    """When the attempts that are read were made."""
    found = [attempt async for attempt in read_first_attempts(database, SINCE, UNTIL, rows_max=rows_max)]
    assert all(attempt.attempt_number == 1 and attempt.status != "pending" for attempt in found)
    return [attempt.attempted_at for attempt in found]


def shares(moments: list[datetime], part: timedelta, of: timedelta, parts: int) -> np.ndarray:
    """How the moments divide over so many parts of a time that comes back every so often."""
    counts = Counter((moment - SINCE) % of // part for moment in moments)
    return np.array([counts[number] for number in range(parts)]) / len(moments)


async def test_of_many_an_even_share_is_read_within_its_bound(database: Database) -> None:
    """No time of the day, day, or part of a former stretch is read more than it has of the payments; the store looks
    at no more than a few times what is read, by its own profiler."""
    await fill(database, [at_share((number + 0.5) / ATTEMPTS) for number in range(ATTEMPTS)])
    await database.command("profile", 2)
    found = await read(database)
    await database.command("profile", 0)
    assert ROWS_MAX / 2 < len(found) <= ROWS_MAX
    made = [at_share((number + 0.5) / ATTEMPTS) for number in range(ATTEMPTS)]
    for part, of, parts, off_max in (
        (timedelta(hours=1), timedelta(days=1), 24, 0.15),  # the hours of a day
        (timedelta(days=1), SPAN, 28, 0.2),  # the days
        (SPAN / 2_400, SPAN / 240, 10, 0.1),  # within stretches of 2.8 hours, whose beginnings were all there was
        (timedelta(minutes=6), timedelta(hours=1), 10, 0.1),  # within the hours, which the stretches follow
    ):
        ratios = shares(found, part, of, parts) / shares(made, part, of, parts)
        assert abs(ratios - 1).max() < off_max, ratios
    looked = [entry async for entry in database["system.profile"].find({"ns": f"{database.name}.attempts"})]
    assert looked
    assert sum(entry.get("keysExamined", 0) for entry in looked) < 5 * ROWS_MAX + 5 * STRETCHES < ATTEMPTS
    assert sum(entry.get("docsExamined", 0) for entry in looked) <= ROWS_MAX + 2
    assert not any("COLLSCAN" in str(entry.get("planSummary", "")) for entry in looked)


async def test_of_few_every_one_is_read(database: Database) -> None:
    """Where there are no more than may be read, no attempt is left out, also not those of one busy minute."""
    moments = [UNTIL - timedelta(minutes=2) + timedelta(milliseconds=20 * number) for number in range(3_000)]
    await fill(database, moments)
    found = await read(database)
    assert len(found) == sum(number % 10 != 0 and number % 11 != 5 for number in range(3_000))
    assert await read(database, rows_max=10_000) == found


@pytest.mark.parametrize("gap", [timedelta(0), timedelta(milliseconds=100)])
async def test_a_burst_in_a_quiet_time_costs_no_more(database: Database, gap: timedelta) -> None:
    """Of very many at once the bound holds; the payments of the time around them are read all the same."""
    quiet = [at_share((number + 0.5) / 2_000) for number in range(2_000)]
    burst = [SINCE + SPAN / 3 + number * gap for number in range(20_000)]
    await fill(database, quiet + burst)
    found = await read(database)
    assert len(found) <= ROWS_MAX
    around = [moment for moment in found if not burst[0] <= moment <= burst[-1]]
    assert len(around) > 100
    assert abs(shares(around, SPAN / 4, SPAN, 4) - 0.25).max() < 0.06
