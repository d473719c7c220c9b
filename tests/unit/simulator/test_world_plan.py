"""Incidents and their plan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.world.arrivals import happening
from simulator.world.incidents import (
    AnyIncident,
    Degradation,
    Drift,
    FlashSale,
    Incident,
    Maintenance,
    Outage,
    success_under,
)
from simulator.world.plan import LOOK_S, IncidentPlan
from simulator.world.schedule import KINDS, LASTS_S, random_incidents

TIMES = st.floats(0, 5_000)


@given(TIMES, st.floats(0.5, 500), st.one_of(st.none(), st.floats(500, 2_000)), TIMES)
def test_occurrence_agrees_with_the_list_of_occurrences(
    starts: float, lasts: float, every: float | None, now: float
) -> None:
    """What is happening now, what the list says and what the arrays say are one."""
    incident = Outage(starts_s=starts, lasts_s=lasts, repeats_every_s=every)
    now = now // LOOK_S * LOOK_S
    inside = [place for place, (start, end) in enumerate(incident.occurrences(now + 1)) if start <= now < end]
    near_edge = any(min(abs(now - s), abs(now - e)) < 1e-6 for s, e in incident.occurrences(now + 1))
    if near_edge:
        return  # sums and remainders of floats may differ in the last bit
    assert inside == [place for place in [incident.occurrence(now)] if place is not None]
    plan = IncidentPlan([incident], 0.0)
    assert bool(inside) == bool(plan.active(now))
    assert bool(inside) == bool(happening(plan.planned[0], np.array([now]))[0])
    if inside:
        assert 0 <= incident.progress(now) <= 1
        assert incident.happens_between(now - 1, now + 1)


@given(st.floats(0, 1), st.floats(0.1, 100), st.floats(0, 1))
def test_success_never_rises_through_an_incident(chance: float, points: float, progress: float) -> None:
    """Whatever happens, the chance stays between 0 and what it was."""
    kinds = (
        Outage(starts_s=0, lasts_s=1, success=points / 100),
        Degradation(starts_s=0, lasts_s=1, points=points),
        Drift(starts_s=0, lasts_s=1, points=points),
        Maintenance(starts_s=0, lasts_s=1, gateway="alpha"),
    )
    for incident in kinds:
        assert 0 <= success_under(incident, chance, progress) <= chance


@pytest.mark.parametrize(
    ("incident", "problem"),
    [
        (Outage(starts_s=0, lasts_s=1, gateway="zulu"), "there is no gateway 'zulu'"),
        (Outage(starts_s=0, lasts_s=1, issuer="zulu"), "there is no issuer 'zulu'"),
        (Outage(starts_s=0, lasts_s=1, categories={"bad_luck": 1}), "unknown failure category 'bad_luck'"),
        (FlashSale(starts_s=0, lasts_s=1, gateway="alpha"), "an order does not know its gateway yet"),
        (Maintenance(starts_s=0, lasts_s=1), "maintenance is of one gateway"),
        (Outage(starts_s=0, lasts_s=10, repeats_every_s=5), "repeat before it is over"),
    ],
)
def test_what_does_not_fit_this_world_is_refused(incident: Incident, problem: str) -> None:
    """The error says what is wrong."""
    with pytest.raises(ValueError, match=problem):
        IncidentPlan([incident], 0.0)


def test_labels_are_in_the_walls_time() -> None:
    """At speed 10 an incident after 100 of the world's seconds starts after 10 of the wall's."""
    plan = IncidentPlan([Outage(starts_s=100, lasts_s=50, repeats_every_s=200, gateway="bravo")], 1_000_000.0)
    labels = plan.labels(1_000_301.0, speed=10)
    assert [label.incident_id for label in labels] == ["inc_0_0", "inc_0_1"]
    assert [label.starts_at.timestamp() for label in labels] == [1_000_010.0, 1_000_030.0]
    assert [(label.ends_at - label.starts_at).total_seconds() for label in labels] == [5.0, 5.0]


def test_an_added_incident_happens_at_once() -> None:
    """The plan of a running world takes more."""
    plan = IncidentPlan([], 0.0)
    assert plan.active(10.0) == []
    plan.add(Outage(starts_s=10, lasts_s=5, gateway="bravo"))
    assert [one.incident.gateway for one in plan.active(10.0)] == ["bravo"]
    assert plan.active(15.0) == []


def test_closed_gateways_are_those_under_maintenance() -> None:
    """Only while it lasts."""
    plan = IncidentPlan([Maintenance(starts_s=5, lasts_s=5, gateway="delta")], 0.0)
    assert (plan.closed_gateways(4), plan.closed_gateways(6), plan.closed_gateways(11)) == ([], [3], [])


@given(st.integers(0, 10**6))
def test_random_schedules_fit_the_world_and_are_the_same_for_the_same_seed(seed: int) -> None:
    """Every drawn incident is valid, within its bounds, sorted, and repeatable."""
    drawn: list[AnyIncident] = random_incidents(seed)
    IncidentPlan(drawn, 0.0)
    assert random_incidents(seed) == drawn
    assert sorted(drawn, key=lambda incident: incident.starts_s) == drawn
    for incident in drawn:
        low, high = LASTS_S[type(incident)]
        assert low - 0.1 <= incident.lasts_s <= high + 0.1
        assert incident.starts_s + incident.lasts_s <= 86_400.1


def test_random_schedules_hold_every_kind() -> None:
    """Over forty days nothing is left out."""
    assert set(KINDS) == {type(incident) for seed in range(40) for incident in random_incidents(seed)}
