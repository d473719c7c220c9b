"""The line flows one way."""

from __future__ import annotations

import re

from messaging.contracts import MESSAGES, type_of
from messaging.topology import LINE, durable_queues, must_route, replica_queue, stage_named, stage_that_says


def test_no_stage_hears_what_an_earlier_one_does_not_say() -> None:
    """Facts flow down: a stage hears the outside world or a stage above it."""
    said: set[type] = set()
    for stage in LINE:
        for message in (*stage.hears, *stage.each_replica_hears):
            speaker = stage_that_says(message)
            assert speaker is None or message in said, f"{stage.name} hears {type_of(message)} before it is said"
        said.update(stage.says)


def test_every_message_has_one_speaker_at_most_and_a_unique_type() -> None:
    """One name, in one place."""
    types = [type_of(message) for message in MESSAGES]
    assert len(set(types)) == len(types)
    said = [message for stage in LINE for message in stage.says]
    assert len(set(said)) == len(said)


def test_every_message_is_on_the_line() -> None:
    """A message that nobody hears or says would be dead."""
    on_the_line = {message for stage in LINE for message in (*stage.hears, *stage.says, *stage.each_replica_hears)}
    assert set(MESSAGES) - on_the_line == set()


def test_facts_are_kept_on_bounded_quorum_queues_with_dead_letters() -> None:
    """Everything but requests survives a broker's restart, and every queue has a bound."""
    for queue in durable_queues():
        assert queue.arguments["x-max-length"] > 0
        assert queue.arguments["x-overflow"] == "reject-publish"
        if queue.name not in ("router_advisor", "retry_advisor"):
            assert queue.arguments["x-queue-type"] == "quorum"
            assert queue.name.endswith(".dead") or queue.arguments["x-dead-letter-exchange"] == "ipa.dead"


def test_a_replica_queue_dies_with_its_replica() -> None:
    """A stopped router leaves no queue that fills up."""
    queue = replica_queue(stage_named("router_advisor"), "x1")
    assert (queue.exclusive, queue.auto_delete, queue.durable) == (True, True, False)


def test_what_a_durable_queue_hears_must_be_routed() -> None:
    """Publishing a report that nobody would store is an error."""
    assert [type_of(message) for message in MESSAGES if must_route(message)] == [
        "attempt.reported",
        "route.requested",
        "retry.requested",
        "experiment.defined",
        "experiment.stopped",
        "experiment.resumed",
        "failure_code.corrected",
        "gateway.paused",
        "gateway.resumed",
        "anomaly.handled",
        "attempts.recorded",
        "failures.classified",
    ]


def test_names_are_fit_for_queues() -> None:
    """Names of stages are names of queues, processes and settings."""
    assert all(re.fullmatch(r"[a-z_]+", stage.name) for stage in LINE)
