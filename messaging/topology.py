"""The line: every exchange, queue and binding, in one table.

``LINE`` reads top to bottom as facts flow. A stage may hear only what the head or an earlier stage says (a test
refuses the rest), so nothing ever flows back.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from messaging.contracts import (
    AllocationPublished,
    AnomalyClosed,
    AnomalyHandled,
    AnomalyOpened,
    AnomalyUpdated,
    AttemptReported,
    AttemptsRecorded,
    ExperimentActed,
    ExperimentReported,
    ExperimentResumed,
    ExperimentsDefined,
    ExperimentStopped,
    FailureCodeCorrected,
    FailuresClassified,
    GatewayPaused,
    GatewayResumed,
    Message,
    RetryAdvised,
    RetryRefused,
    RetryRequested,
    RouteAdvised,
    RouteRefused,
    RouteRequested,
    RoutingOverridden,
    RoutingReleased,
    type_of,
)

EXCHANGE: Final = "ipa"
"""The one topic exchange; the routing key is the message type."""

EXCHANGE_DEAD: Final = "ipa.dead"
"""Direct exchange for what could not be handled; the routing key is the queue it came from."""

FACTS_LENGTH_MAX: Final = 200_000
"""A durable queue refuses more messages than this, so a publisher learns at once that the line is stuck."""

DEAD_LENGTH_MAX: Final = 100_000
"""Dead letters kept per queue; when full, dead-lettering waits and the source queue keeps its messages."""

LOOKS_MAX: Final = 1_000_000
"""Looking at a dead letter counts as a delivery; RabbitMQ 4 would drop it after 20 without this."""

DELIVERY_LIMIT: Final = 12
"""A message that kills its worker this many times is a dead letter.

The broker counts a delivery for everything that a killed worker or a cut connection held, not only for the culprit: the
limit leaves room for a bad hour with several of them (``actors.taking`` holds few then).
"""

REQUESTS_LENGTH_MAX: Final = 2_000
"""Waiting route requests; when full the broker refuses, and the checkout falls back to its own list at once."""

REQUEST_LIFE_MS: Final = 2_000
"""A route request older than this is worth nothing to anybody."""

REPLICA_FACTS_LENGTH_MAX: Final = 20_000
"""Facts waiting for one router replica; the oldest are dropped first, a restart reads them from the store."""

Heads = (
    AttemptReported,
    RouteRequested,
    RetryRequested,
    ExperimentsDefined,
    ExperimentStopped,
    ExperimentResumed,
    AnomalyHandled,
    FailureCodeCorrected,
    GatewayPaused,
    GatewayResumed,
    RoutingOverridden,
    RoutingReleased,
)
"""Messages that come from the outside world."""


class Stage(msgspec.Struct, frozen=True):
    """One worker's place in the line: what its shared queue hears, what each replica hears for itself, what it says."""

    name: str
    hears: tuple[type[Message], ...]
    says: tuple[type[Message], ...]
    each_replica_hears: tuple[type[Message], ...] = ()
    single_active: bool = False


# fmt: off
LINE: Final = (
    #     queue                   hears                                     says
    Stage("ingestor",             (AttemptReported,),                       (AttemptsRecorded,)),
    Stage("failure_classifier",   (FailureCodeCorrected, AttemptsRecorded), (FailuresClassified,)),
    Stage("anomaly_watcher",      (AttemptsRecorded, FailuresClassified,
                                   AnomalyHandled, GatewayPaused,
                                   GatewayResumed),                         (AnomalyOpened, AnomalyUpdated,
                                                                             AnomalyClosed), single_active=True),
    Stage("experiment_allocator", (ExperimentsDefined, ExperimentStopped,
                                   ExperimentResumed, AttemptsRecorded),    (AllocationPublished, ExperimentReported,
                                                                             ExperimentActed), single_active=True),
    Stage("shopper_watcher",      (AttemptsRecorded, FailuresClassified),   (), single_active=True),
    Stage("retry_advisor",        (RetryRequested,),                        (RetryAdvised, RetryRefused)),
    Stage("router_advisor",       (RouteRequested,),                        (RouteAdvised, RouteRefused),
          each_replica_hears=(AttemptsRecorded, AnomalyOpened, AnomalyUpdated, AnomalyClosed, AllocationPublished,
                              GatewayPaused, GatewayResumed, RoutingOverridden, RoutingReleased)),
)
# fmt: on


class Queue(msgspec.Struct, frozen=True):
    """A queue as it is declared at the broker."""

    name: str
    hears: tuple[type[Message], ...]
    arguments: dict[str, Any]
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False


def stage_named(name: str) -> Stage:
    """Find a stage of the line.

    Raises: KeyError: no stage has this name.
    """
    for stage in LINE:
        if stage.name == name:
            return stage
    raise KeyError(name)


def is_answered(stage: Stage) -> bool:
    """Tell whether somebody waits for this stage's answer, so that a request is worth nothing after a moment."""
    return bool(set(stage.hears) & {RouteRequested, RetryRequested})


def dead_queue_name(queue: str) -> str:
    """Name the queue that holds what ``queue`` could not handle."""
    return f"{queue}.dead"


def shared_queue(stage: Stage) -> Queue:
    """The durable queue that all replicas of a stage share."""
    if is_answered(stage):
        # Requests live for two seconds: a classic queue in memory, no dead letters, and a refusal when it is full.
        arguments: dict[str, Any] = {
            "x-message-ttl": REQUEST_LIFE_MS,
            "x-max-length": REQUESTS_LENGTH_MAX,
            "x-overflow": "reject-publish",
        }
        return Queue(stage.name, stage.hears, arguments)
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": EXCHANGE_DEAD,
        "x-dead-letter-routing-key": stage.name,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-max-length": FACTS_LENGTH_MAX,
    }
    if stage.single_active:
        arguments["x-single-active-consumer"] = True
    return Queue(stage.name, stage.hears, arguments)


def dead_queue(stage: Stage) -> Queue | None:
    """The queue of dead letters of a stage; requests have none, they just expire."""
    if is_answered(stage):
        return None
    arguments = {
        "x-queue-type": "quorum",
        "x-max-length": DEAD_LENGTH_MAX,
        "x-overflow": "reject-publish",
        "x-delivery-limit": LOOKS_MAX,
    }
    return Queue(dead_queue_name(stage.name), (), arguments)


def replica_queue(stage: Stage, instance: str) -> Queue:
    """The private queue of one replica that must hear every fact for itself; it dies with the replica."""
    arguments = {"x-max-length": REPLICA_FACTS_LENGTH_MAX, "x-overflow": "drop-head"}
    return Queue(
        f"{stage.name}.facts.{instance}",
        stage.each_replica_hears,
        arguments,
        durable=False,
        exclusive=True,
        auto_delete=True,
    )


def durable_queues() -> tuple[Queue, ...]:
    """Every queue that must exist before anyone publishes, dead-letter queues included."""
    queues = [shared_queue(stage) for stage in LINE]
    queues += [queue for stage in LINE if (queue := dead_queue(stage))]
    return tuple(queues)


def must_route(message: type[Message]) -> bool:
    """Tell whether a durable queue hears this message, so that publishing it unheard is an error."""
    return any(message in stage.hears for stage in LINE)


def stage_that_says(message: type[Message]) -> Stage | None:
    """The stage a message comes from; None for the outside world."""
    return next((stage for stage in LINE if message in stage.says), None)


def queue_names() -> tuple[str, ...]:
    """The shared queues in the order of the line."""
    return tuple(stage.name for stage in LINE)


def describe() -> list[tuple[str, str, str]]:
    """The line as rows of text (queue, hears, says), for people and documents."""
    return [
        (
            stage.name,
            " ".join(map(type_of, stage.hears + stage.each_replica_hears)),
            " ".join(map(type_of, stage.says)),
        )
        for stage in LINE
    ]
