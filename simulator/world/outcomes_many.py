"""What happens to many attempts at once: the same answers as ``outcomes``, a hundred times faster.

A test holds the two together, attempt by attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from simulator.world import facts
from simulator.world.arrivals import happening, in_segment
from simulator.world.draws import GOLDEN, Floats, halves_many, mix_many, slot_words, stream_key, words_at
from simulator.world.failures import (
    BUSINESS_SHARES,
    CARD_TESTING_SHARES,
    CATEGORIES,
    GATEWAY_SHARES,
    NETWORK_TIMEOUT,
    TECHNICAL_SHARES,
    UNLISTED_SHARE,
    CodeRow,
    Dialect,
)
from simulator.world.incidents import Drift, FailureMixChange, LatencyBrownout, Maintenance, Outage, ReversalWave
from simulator.world.orders import Flags, Ids, OrderColumns
from simulator.world.outcomes import ATTEMPT_STRIDE, CAUSES, LATENCY_MIN_MS
from simulator.world.plan import IncidentPlan, PlannedIncident
from simulator.world.success import Chances

NONE: Final = -1
"""Stands for "no category", "no code" and "no incident" in integer columns; NaN does in columns of times."""

STATUSES: Final = ("succeeded", "failed", "pending", "unknown")
SUCCEEDED, FAILED, PENDING, UNKNOWN = range(4)
INCIDENT, GATEWAY, ISSUER, PAYER = (CAUSES.index(cause) for cause in ("incident", "gateway", "issuer", "payer"))


class OutcomeColumns(msgspec.Struct, frozen=True):
    """What happened to many attempts; arrays of shape (n,). See ``outcomes.Outcome`` for the meaning.

    ``status`` and ``status_final`` are places in STATUSES (``unknown``: nobody will ever know), ``category`` in
    CATEGORIES, ``code`` in the model's ``codes``, ``cause`` in CAUSES, ``incident`` in the plan.
    """

    status: NDArray[np.int8]
    status_final: NDArray[np.int8]
    latency_ms: Floats
    category: NDArray[np.int8]
    code: NDArray[np.int32]
    cause: NDArray[np.int8]
    incident: NDArray[np.int16]
    settle_after_s: Floats
    reversed_after_s: Floats
    reported_twice: Flags

    def all(self) -> list[NDArray[Any]]:
        """Every column, in the order of the fields."""
        return [getattr(self, name) for name in self.__struct_fields__]


class OutcomesModel:
    """Draws the outcomes of many attempts.

    Args:
        seed: of the world.
        dialects: what each gateway says, in the order of ``facts.GATEWAYS``.
    """

    def __init__(self, seed: int, dialects: Sequence[Dialect]) -> None:
        self._key = stream_key(seed, "attempts")
        self.codes, self._code_first, self._code_count = _code_book(dialects)
        self._latency_log = np.log(facts.LATENCY_MEDIAN_MS[None, :] * facts.LATENCY_GATEWAY[:, None])

    def outcomes(
        self, orders: OrderColumns, chances: Chances, gateway: Ids, number: int, now: Floats, plan: IncidentPlan
    ) -> OutcomeColumns:
        """Decide attempt ``number`` of many orders.

        Args:
            orders: what is paid, n orders.
            chances: their chances without incidents.
            gateway: the gateway of each, shape (n,).
            number: which attempt of its order it is, from 1; the same for all.
            now: when each is tried, seconds since epoch, shape (n,).
            plan: the incidents.
        """
        place = gateway * len(facts.METHODS) + (orders.method + number * ATTEMPT_STRIDE)
        words = mix_many(words_at(self._key, orders.index) + place.astype(np.uint64) * np.uint64(GOLDEN))
        elapsed = now - plan.began_at
        touched = [
            (one, mask)
            for one in plan.planned
            if (mask := happening(one, elapsed)).any()
            and (mask := mask & in_segment(one, orders) & _at_gateway(one, gateway)).any()
        ]
        cause, incident = _causes(words, orders, chances, gateway, elapsed, touched)
        failed = np.flatnonzero(cause)
        luck_latency, luck_late = halves_many(slot_words(words, 3))
        latency = np.exp(
            self._latency_log[gateway, orders.method] + facts.LATENCY_SPREAD[orders.method] * ndtri(luck_latency)
        )
        reversal_share = np.full(len(latency), facts.REVERSAL_SHARE)
        for one, mask in touched:
            if isinstance(one.incident, LatencyBrownout):
                latency[mask] *= one.incident.factor
            elif isinstance(one.incident, ReversalWave):
                reversal_share[mask] = np.maximum(reversal_share[mask], one.incident.share)
        timeout = facts.TIMEOUT_MS[gateway]
        np.clip(latency, LATENCY_MIN_MS, timeout, out=latency)
        category = np.full(len(latency), NONE, dtype=np.int8)
        code = np.full(len(latency), NONE, dtype=np.int32)
        category[failed], code[failed] = self._reasons(words, orders, gateway, failed, cause, incident, touched, plan)
        latency = np.where(category == NETWORK_TIMEOUT, timeout, latency)
        return _with_lateness(
            words, luck_late, orders.method, _rounded(latency, 10), reversal_share, (category, code, cause, incident)
        )

    def _reasons(  # what the outcome needs to be told in words
        self,
        words: NDArray[np.uint64],
        orders: OrderColumns,
        gateway: Ids,
        failed: NDArray[np.int64],
        cause: NDArray[np.int8],
        incident: NDArray[np.int16],
        touched: Sequence[tuple[PlannedIncident, Flags]],
        plan: IncidentPlan,
    ) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
        """Category and code of the failed attempts. Two arrays of shape (len(failed),)."""
        words, method, causes = words[failed], orders.method[failed], cause[failed]
        shares = GATEWAY_SHARES[method]
        shares[causes == ISSUER] = TECHNICAL_SHARES
        payer = causes == PAYER
        shares[payer] = BUSINESS_SHARES[method[payer]]
        shares[payer & orders.fraud[failed]] = CARD_TESTING_SHARES
        for one, mask in touched:
            if isinstance(one.incident, FailureMixChange) and one.shares is not None:
                shares[mask[failed] & (causes != INCIDENT)] = one.shares
        for place in np.unique(incident[failed][causes == INCIDENT]):
            weights = plan.planned[place].shares
            assert weights is not None
            shares[(causes == INCIDENT) & (incident[failed] == place)] = weights
        luck_category, luck_code = halves_many(slot_words(words, 4))
        _, luck_unlisted = halves_many(slot_words(words, 5))
        category = (shares <= luck_category[:, None]).sum(axis=1)
        unlisted = (luck_unlisted < UNLISTED_SHARE).astype(np.int64)
        first = self._code_first[gateway[failed], category, unlisted]
        count = self._code_count[gateway[failed], category, unlisted]
        return category.astype(np.int8), (first + (luck_code * count).astype(np.int64)).astype(np.int32)


def _code_book(dialects: Sequence[Dialect]) -> tuple[tuple[CodeRow, ...], Ids, Ids]:
    """All words of all gateways in one list, and where those of (gateway, category, unlisted) start and how many."""
    rows: list[CodeRow] = []
    shape = (len(dialects), len(CATEGORIES), 2)
    first, count = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for gateway, dialect in enumerate(dialects):
        for category in range(len(CATEGORIES)):
            for unlisted, luck in enumerate((1.0, 0.0)):
                words = dialect.words(category, luck)
                first[gateway, category, unlisted] = len(rows)
                count[gateway, category, unlisted] = len(words)
                rows.extend(words)
    return tuple(rows), first, count


def _at_gateway(one: PlannedIncident, gateway: Ids) -> Flags:
    flags: Flags = np.ones(len(gateway), dtype=np.bool_) if one.gateway is None else gateway == one.gateway
    return flags


def _causes(
    words: NDArray[np.uint64],
    orders: OrderColumns,
    chances: Chances,
    gateway: Ids,
    elapsed_s: Floats,
    touched: Sequence[tuple[PlannedIncident, Flags]],
) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
    """Who fails each attempt (0: nobody), and which incident. Two arrays of shape (n,)."""
    luck_incident, luck_gateway = halves_many(slot_words(words, 1))
    luck_issuer, _ = halves_many(slot_words(words, 2))
    acceptance = chances.acceptance[np.arange(len(gateway)), gateway]
    cause = np.where(orders.payer_luck < chances.business, np.int8(PAYER), np.int8(0))
    cause[luck_issuer < chances.technical] = ISSUER
    cause[luck_gateway >= acceptance] = GATEWAY
    incident = np.full(len(gateway), NONE, dtype=np.int16)
    if not any(one.lowers_success for one, _ in touched):
        return cause, incident
    usual = (1 - chances.business) * (1 - chances.technical) * acceptance
    chance = usual.copy()
    for one, mask in touched:
        if not one.lowers_success:
            continue
        rows = np.flatnonzero(mask)
        reduced = success_under_many(one, chance[rows], elapsed_s[rows])
        killed = (reduced < chance[rows]) & (luck_incident[rows] * usual[rows] >= reduced) & (incident[rows] == NONE)
        incident[rows[killed]] = one.place
        chance[rows] = reduced
    cause[incident != NONE] = INCIDENT
    return cause, incident


def success_under_many(one: PlannedIncident, chance: Floats, elapsed_s: Floats) -> Floats:
    """The chances of success while an incident happens; never above ``chance``. Shape (n,)."""
    incident = one.incident
    if isinstance(incident, Outage | Maintenance):
        return np.minimum(chance, incident.success)
    progress: Floats | float = 1.0
    if isinstance(incident, Drift):
        since = elapsed_s - incident.starts_s
        if incident.repeats_every_s is not None:
            since = since % incident.repeats_every_s
        progress = since / incident.lasts_s
    points: float = getattr(incident, "points")  # noqa: B009
    lowered: Floats = np.maximum(0.0, chance - points / 100 * progress)
    return lowered


def _with_lateness(
    words: NDArray[np.uint64],
    luck_late: Floats,
    method: Ids,
    latency_ms: Floats,
    reversal_share: Floats,
    reasons: tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.int8], NDArray[np.int16]],
) -> OutcomeColumns:
    category, code, cause, incident = reasons
    luck_reversal, luck_twice = halves_many(slot_words(words, 7))
    final = np.where(cause == 0, np.int8(SUCCEEDED), np.int8(FAILED))
    late = luck_late < facts.PENDING_SHARE[method]
    taken_back = (cause == 0) & ~late & (luck_reversal < reversal_share)
    settle = np.full(len(method), np.nan)
    reversal = np.full(len(method), np.nan)
    status = np.where(late, np.int8(PENDING), final)
    rows = np.flatnonzero(late | taken_back)
    luck_settle, luck_never = halves_many(slot_words(words[rows], 6))
    known = late[rows] & (luck_never >= facts.NEVER_SHARE)
    settle[rows[known]] = _between(facts.SETTLE_S_MIN, facts.SETTLE_S_MAX, luck_settle[known])
    back = taken_back[rows]
    reversal[rows[back]] = _between(facts.REVERSAL_S_MIN, facts.REVERSAL_S_MAX, luck_settle[back])
    final[rows[late[rows] & ~known]] = UNKNOWN
    twice = luck_twice < facts.DUPLICATE_SHARE
    return OutcomeColumns(status, final, latency_ms, category, code, cause, incident, settle, reversal, twice)


def _rounded(values: Floats, steps: int) -> Floats:
    rounded: Floats = np.floor(values * steps + 0.5) / steps
    return rounded


def _between(low: float, high: float, luck: Floats) -> Floats:
    return _rounded(low * np.exp(luck * np.log(high / low)), 1000)
