"""The limit that the anomaly benchmark measures delays against."""

from __future__ import annotations

import pytest

from benchmarks.anomaly_truth import Truth, bernoulli_nats, delay_s
from cli.tuning.heard import Stream
from simulator.scenario import Scenario
from simulator.world.incidents import Degradation, Outage
from simulator.world.plan import Label

SECONDS, RATE = 900.0, 50.0
INCIDENTS = (
    Outage(starts_s=300.0, lasts_s=300.0, gateway="bravo", success=0.05),
    Degradation(starts_s=300.0, lasts_s=300.0, gateway="bravo", points=20.0),
)


def lived_through(scenario: Scenario, label: Label) -> Truth:
    """What a segment went through while the label says, in the world of a scenario."""
    truth = Truth(label, rate=RATE, factor=1.0, points=0.0)
    stream = Stream(scenario, seed=5, rate=RATE, seconds=SECONDS)
    for piece in stream.pieces():
        truth.take_in(piece.chunk)
    return truth


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: type(incident).__name__)
def test_the_limit_of_a_loss_is_that_of_a_test_that_knows_the_normal_failures(incident):
    """What fails without the incident is that of the same world without it, within a tenth."""
    ill = Scenario(title="ill", rhythm="flat", incidents=[incident])
    (label,) = Stream(ill, seed=5, rate=RATE, seconds=SECONDS).labels()
    truth = lived_through(ill, label)
    well = lived_through(Scenario(title="well", rhythm="flat", incidents=[]), label)
    before, after = well.failed / well.attempts, truth.failed / truth.attempts
    wanted = delay_s(truth.attempts / 300.0, bernoulli_nats(before, after), bernoulli_nats(after, before))
    assert truth.limit_s() == pytest.approx(wanted, rel=0.1)
