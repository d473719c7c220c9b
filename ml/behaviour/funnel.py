"""What shoppers do after a failure: try again or leave, how soon, by what other way, and whether that helped."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Final

import msgspec

from ml.behaviour.orders import OrderStory, Step, outcome
from ml.behaviour.paths import changed_between

FAILURES_SHOWN_MAX: Final = 5
"""Abandonment is shown after the first to the fifth failure; later ones count with the fifth."""


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """Orders by how far they came. ``paid`` = ``paid_first`` + ``paid_retried``; the rest gave up or is open."""

    started: int
    paid_first: int
    failed_first: int
    retried: int
    paid_retried: int
    given_up: int
    open: int

    @property
    def paid(self) -> int:
        """Orders that were paid in the end."""
        return self.paid_first + self.paid_retried


class Abandonment(msgspec.Struct, frozen=True, kw_only=True):
    """After the ``failure``-th failure of an order, for this reason: how many shoppers left, of how many."""

    failure: int
    category: str
    orders: int
    left: int


class RetryTime(msgspec.Struct, frozen=True, kw_only=True):
    """How long shoppers took to try again after a reason, seconds."""

    category: str
    retries: int
    median_s: float
    within_1_min: int
    within_10_min: int


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """Tries after a failure by what changed: nothing, the gateway, the method, or both; and how many succeeded."""

    changed: str
    category: str
    tried: int
    succeeded: int


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    """Orders started in one hour of one weekday (1 is Monday, UTC), how many were paid, how many had a failure."""

    weekday: int
    hour: int
    orders: int
    paid: int
    with_failure: int


class RepeatFailures(msgspec.Struct, frozen=True, kw_only=True):
    """Shoppers with so many orders that were not paid; those with five or more stand together."""

    orders_failed: int
    customers: int


def funnel(stories: Iterable[OrderStory], now: datetime, *, patience: timedelta) -> Funnel:
    """Count how far orders came."""
    count: Counter[str] = Counter()
    for story in stories:
        count["started"] += 1
        ended = outcome(story, now, patience=patience)
        retried = story.tries > 1
        count["failed_first"] += story.steps[0].status == "failed"
        count["retried"] += retried
        count[("paid_retried" if retried else "paid_first") if ended == "paid" else ended] += 1
    names = Funnel.__struct_fields__
    return Funnel(**{name: count[name] for name in names})


def abandonments(stories: Iterable[OrderStory], now: datetime, *, patience: timedelta) -> list[Abandonment]:
    """Count who left after the n-th failure; an order that is still open counts nowhere yet."""
    seen: Counter[tuple[int, str]] = Counter()
    left: Counter[tuple[int, str]] = Counter()
    for story in stories:
        ended = outcome(story, now, patience=patience)
        failed = 0
        for place, step in enumerate(story.steps):
            if step.status != "failed":
                continue
            failed += 1
            is_last = place == len(story.steps) - 1
            if is_last and ended == "open":
                continue
            key = min(failed, FAILURES_SHOWN_MAX), step.category or "unknown"
            seen[key] += 1
            left[key] += is_last and ended == "given_up"
    return [
        Abandonment(failure=key[0], category=key[1], orders=count, left=left[key])
        for key, count in sorted(seen.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    ]


def retry_times(stories: Iterable[OrderStory]) -> list[RetryTime]:
    """Say how long shoppers took to try again, by the reason of the failure before."""
    waits: defaultdict[str, list[float]] = defaultdict(list)
    for before, after in _retries(stories):
        waits[before.category or "unknown"].append((after.at - before.at).total_seconds())
    return [
        RetryTime(
            category=category,
            retries=len(seconds),
            median_s=float(median(seconds)),
            within_1_min=sum(wait < 60 for wait in seconds),
            within_10_min=sum(wait < 600 for wait in seconds),
        )
        for category, seconds in sorted(waits.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def switches(stories: Iterable[OrderStory]) -> list[Switch]:
    """Count what shoppers changed for the next try, and whether it helped; only next tries that settled count."""
    tried: Counter[tuple[str, str]] = Counter()
    succeeded: Counter[tuple[str, str]] = Counter()
    for before, after in _retries(stories):
        if after.status not in ("succeeded", "failed"):
            continue
        key = changed_between(before, after), before.category or "unknown"
        tried[key] += 1
        succeeded[key] += after.status == "succeeded"
    return [
        Switch(changed=key[0], category=key[1], tried=count, succeeded=succeeded[key])
        for key, count in sorted(tried.items(), key=lambda item: (-item[1], item[0]))
    ]


def rhythm(stories: Iterable[OrderStory]) -> list[Rhythm]:
    """Count orders by weekday and hour of their first try, UTC."""
    by_hour: defaultdict[tuple[int, int], list[OrderStory]] = defaultdict(list)
    for story in stories:
        by_hour[story.first_at.isoweekday(), story.first_at.hour].append(story)
    return [
        Rhythm(
            weekday=weekday,
            hour=hour,
            orders=len(mine),
            paid=sum(story.paid for story in mine),
            with_failure=sum(bool(story.failures) for story in mine),
        )
        for (weekday, hour), mine in sorted(by_hour.items())
    ]


def repeat_failures(stories: Iterable[OrderStory], now: datetime, *, patience: timedelta) -> list[RepeatFailures]:
    """Count shoppers by how many of their orders ended unpaid after a failure."""
    by_customer: Counter[str] = Counter()
    for story in stories:
        if story.customer is not None:
            unpaid = bool(story.failures) and outcome(story, now, patience=patience) == "given_up"
            by_customer[story.customer] += unpaid
    counts = Counter(min(count, 5) for count in by_customer.values())
    return [RepeatFailures(orders_failed=count, customers=counts[count]) for count in sorted(counts)]


def _retries(stories: Iterable[OrderStory]) -> Iterable[tuple[Step, Step]]:
    """Each failed try with the one that followed it."""
    for story in stories:
        for before, after in pairwise(story.steps):
            if before.status == "failed":
                yield before, after
