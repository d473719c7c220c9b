"""Every message of the system: one struct each, its tag is its AMQP type and routing key.

On the wire a message is a plain JSON object with a ``type`` field, so any language can take part. Unknown fields are
skipped when reading, so that an old reader survives a new writer; a new field always has a default.

Money is ``amount_minor`` (an integer of the currency's minor unit) with an ISO 4217 ``currency``. Time is UTC in
RFC 3339 with milliseconds, and must carry its offset. Ids are made by whoever starts the thing they name, carry a
letter prefix (``ord_…``, ``att_…``), and are reused on every retry: sending twice is sending once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ml.experiments.assignment import Allocation
from ml.experiments.design import Experiment, Holdout, Layer

Id = Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[A-Za-z][A-Za-z0-9_.:\-]*$")]
"""An identifier made by its originator; starts with a letter, so that it can never look like a card number."""

Name = Annotated[str, Meta(min_length=1, max_length=60)]
"""The short name of a gateway, method, issuer, network, policy, experiment or arm."""

Text = Annotated[str, Meta(max_length=500)]
"""Free text from outside, such as a gateway's failure message."""

Instant = Annotated[datetime, Meta(tz=True)]
"""A moment in time with its UTC offset."""

Country = Annotated[str, Meta(pattern=r"^[A-Z]{2}$")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$")]
Bin = Annotated[str, Meta(pattern=r"^[0-9]{6,8}$")]
AmountMinor = Annotated[int, Meta(ge=0, le=10**15)]
LatencyMs = Annotated[float, Meta(ge=0, le=86_400_000)]
Share = Annotated[float, Meta(ge=0, le=1)]

AttemptStatus = Literal["pending", "succeeded", "failed", "abandoned", "reversed"]

STATUS_FINALITY: Final[dict[AttemptStatus, int]] = {
    "pending": 0, "abandoned": 1, "failed": 2, "succeeded": 3, "reversed": 4,
}  # fmt: skip
"""Which of two reports of the same moment wins: a late success beats a failure, a reversal beats both."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """The root of all messages."""


# --- heard at the head of the line -----------------------------------------------------------------------------------


class AttemptReported(Message, frozen=True, kw_only=True, tag="attempt.reported"):
    """What a checkout service knows of one attempt to pay one order at one gateway, at one moment.

    A later report of the same ``attempt_id`` repeats every field and corrects the earlier one.
    """

    event_id: Id
    attempt_id: Id
    order_id: Id
    gateway: Name
    method: Name
    status: AttemptStatus
    amount_minor: AmountMinor
    currency: Currency
    attempted_at: Instant
    occurred_at: Instant
    issuer: Name = "unknown"
    network: Name | None = None
    country: Country | None = None
    bin: Bin | None = None
    customer_id: Id | None = None
    attempt_number: Annotated[int, Meta(ge=1, le=1000)] = 1
    three_ds: bool | None = None
    latency_ms: LatencyMs | None = None
    failure_code: Annotated[str, Meta(max_length=80)] | None = None
    failure_message: Text | None = None
    advice_code: Annotated[str, Meta(max_length=20)] | None = None
    """What the card scheme ``network`` advised: Mastercard's merchant advice code, Visa's decline category."""
    decision_id: Id | None = None


class PreviousFailure(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier attempt of the same order that failed."""

    gateway: Name
    failure_code: Annotated[str, Meta(max_length=80)] | None = None
    failure_message: Text | None = None
    advice_code: Annotated[str, Meta(max_length=20)] | None = None


class RouteRequested(Message, frozen=True, kw_only=True, tag="route.requested"):
    """A checkout asks which gateway to use for the next attempt of an order. Answered by ``route.advised``.

    ``three_ds``: whether the payment has to go, or went, through 3-D Secure; for rules that ask it.
    """

    request_id: Id
    order_id: Id
    method: Name
    amount_minor: AmountMinor
    currency: Currency
    requested_at: Instant
    deadline_ms: Annotated[int, Meta(ge=1, le=2000)] = 200
    issuer: Name = "unknown"
    network: Name | None = None
    country: Country | None = None
    bin: Bin | None = None
    customer_id: Id | None = None
    attempt_number: Annotated[int, Meta(ge=1, le=1000)] = 1
    three_ds: bool | None = None
    candidates: Annotated[list[Name], Meta(max_length=50)] = []
    previous_failures: Annotated[list[PreviousFailure], Meta(max_length=20)] = []


class RetryRequested(Message, frozen=True, kw_only=True, tag="retry.requested"):
    """A checkout asks what to do with a payment that failed. Answered by ``retry.advised``.

    What the store knows of the order counts; ``failed`` tells of the attempt that failed just now, whose report may
    still be under way. With nothing stored and nothing told there is no advice.
    """

    request_id: Id
    order_id: Id
    requested_at: Instant
    deadline_ms: Annotated[int, Meta(ge=1, le=2000)] = 500
    failed: PreviousFailure | None = None
    method: Name | None = None
    currency: Currency | None = None
    country: Country | None = None
    network: Name | None = None
    customer_id: Id | None = None
    candidates: Annotated[list[Name], Meta(max_length=50)] = []


class FailureCodeCorrected(Message, frozen=True, kw_only=True, tag="failure_code.corrected"):
    """An operator says what a failure code of a gateway means; from then on that wins over every other evidence.

    Failures with this code that came before are classified anew. ``category`` None takes the row out of
    the table again.
    """

    event_id: Id
    corrected_at: Instant
    corrected_by: Name
    gateway: Name
    category: Name | None
    failure_code: Annotated[str, Meta(max_length=80)] | None = None
    failure_message: Text | None = None
    reason: Text = ""


class ExperimentsDefined(Message, frozen=True, kw_only=True, tag="experiment.defined"):
    """The whole set of experiments that an operator wants in force, as read from a valid experiments file."""

    version: Id
    defined_at: Instant
    source: Name
    experiments: Annotated[list[Experiment], Meta(max_length=50)]
    default_policy: Name
    layers: Annotated[list[Layer], Meta(max_length=50)] = []
    holdout: Holdout | None = None
    defined_by: Name = "unknown"


class ExperimentStopped(Message, frozen=True, kw_only=True, tag="experiment.stopped"):
    """An operator ends an experiment: its payments get the default policy; what was counted stays, and is reported."""

    change_id: Id
    experiment: Name
    at: Instant
    who: Name
    reason: Text


class ExperimentResumed(Message, frozen=True, kw_only=True, tag="experiment.resumed"):
    """An operator lets a stopped experiment go on, with its counts and at the step of the ramp where it was stopped."""

    change_id: Id
    experiment: Name
    at: Instant
    who: Name
    reason: Text


class GatewayPause(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which an operator wants no payment at a gateway: now (a pause) or planned (maintenance)."""

    pause_id: Id
    gateway: Name
    kind: Literal["pause", "maintenance"]
    starts_at: Instant
    ends_at: Instant | None
    """None: until it is resumed."""
    who: Name
    reason: Text


class GatewayPaused(Message, frozen=True, kw_only=True, tag="gateway.paused"):
    """An operator wants no payment at a gateway for a time; a later one with the same ``pause_id`` replaces it."""

    pause: GatewayPause


class GatewayResumed(Message, frozen=True, kw_only=True, tag="gateway.resumed"):
    """An operator takes a pause or a planned maintenance back."""

    pause_id: Id
    gateway: Name
    resumed_at: Instant
    who: Name
    reason: Text


class RoutingOverride(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which an operator wants every payment tried in one order, whatever the policies say."""

    override_id: Id
    order: Annotated[list[Name], Meta(min_length=1, max_length=50)]
    starts_at: Instant
    ends_at: Instant | None
    """None: until it is released."""
    who: Name
    reason: Text


class RoutingOverridden(Message, frozen=True, kw_only=True, tag="routing.overridden"):
    """An operator takes the routing into their own hands; an earlier override gives way."""

    override: RoutingOverride


class RoutingReleased(Message, frozen=True, kw_only=True, tag="routing.released"):
    """An operator lets the policies decide again."""

    override_id: Id
    released_at: Instant
    who: Name
    reason: Text


class AnomalyHandled(Message, frozen=True, kw_only=True, tag="anomaly.handled"):
    """An operator acknowledges an anomaly, puts it off, gives it to somebody, or says that it is none.

    ``acknowledge`` needs nothing more, ``snooze`` needs ``until``, ``assign`` needs ``assignee``. ``mark_false`` closes
    it, and as much evidence will not open the like again.
    """

    event_id: Id
    anomaly_id: Id
    action: Literal["acknowledge", "snooze", "assign", "mark_false"]
    who: Name
    handled_at: Instant
    assignee: Name | None = None
    until: Instant | None = None
    note: Text = ""


# --- facts that flow down the line -----------------------------------------------------------------------------------


class RecordedAttempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt as it now stands in the store, with the status that this batch replaced (None: it is new)."""

    attempt_id: Id
    order_id: Id
    gateway: Name
    method: Name
    status: AttemptStatus
    amount_minor: AmountMinor
    currency: Currency
    attempted_at: Instant
    occurred_at: Instant
    issuer: Name = "unknown"
    network: Name | None = None
    country: Country | None = None
    bin: Bin | None = None
    customer_id: Id | None = None
    attempt_number: int = 1
    three_ds: bool | None = None
    latency_ms: float | None = None
    failure_code: str | None = None
    failure_message: str | None = None
    advice_code: str | None = None
    decision_id: Id | None = None
    status_previous: AttemptStatus | None = None


class AttemptsRecorded(Message, frozen=True, kw_only=True, tag="attempts.recorded"):
    """A batch of attempts that were stored or corrected, each with its effect. A batch is counted once, by its id."""

    batch_id: Id
    recorded_at: Instant
    attempts: list[RecordedAttempt]


class FailureClassified(msgspec.Struct, frozen=True, kw_only=True):
    """Why one attempt failed, whose fault it was, what to do next, and how sure that is."""

    attempt_id: Id
    order_id: Id
    gateway: Name
    method: Name
    issuer: Name
    attempted_at: Instant
    amount_minor: AmountMinor
    currency: Currency
    category: Name
    hardness: Literal["soft", "hard"]
    fault: Name
    retry: Name
    confidence: Share
    evidence: Literal["code_table", "advice_code", "text_model", "none"]
    shopper_message: Text
    guesses: list[Name] = []
    failure_code: str | None = None
    failure_message: str | None = None
    network: Name | None = None
    advice_code: str | None = None
    country: Country | None = None
    attempt_number: int = 1
    delay_s: int | None = None
    advice: str = ""


class FailuresClassified(Message, frozen=True, kw_only=True, tag="failures.classified"):
    """The failures of one batch, and those that turned out to be none (a late success took them back)."""

    batch_id: Id
    classified_at: Instant
    failures: list[FailureClassified]
    withdrawn: list[FailureClassified] = []


class Segment(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A part of the traffic; None stands for all."""

    gateway: Name | None = None
    method: Name | None = None
    issuer: Name | None = None
    network: Name | None = None
    country: Name | None = None


AnomalySignal = Literal[
    "success_rate", "latency", "volume", "failure_mix", "amount_mix", "retries", "card_testing", "reversals", "unnamed"
]


class Handling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What people did about an anomaly."""

    acknowledged_by: Name | None = None
    acknowledged_at: Instant | None = None
    assigned_to: Name | None = None
    snoozed_until: Instant | None = None
    false_since: Instant | None = None
    false_by: Name | None = None
    note: Text = ""


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """What is unwell, since when, how badly, and what that costs."""

    anomaly_id: Id
    segment: Segment
    signal: AnomalySignal
    severity: Literal["minor", "major", "critical"]
    started_at: Instant
    detected_at: Instant
    updated_at: Instant
    observed: float
    expected: float
    expected_low: float
    expected_high: float
    attempts_seen: int
    score: float
    currency: Currency | None = None
    loss_minor_per_minute: float | None = None
    reason: Text = ""
    closed_at: Instant | None = None
    loss_low: float | None = None
    loss_high: float | None = None
    fault: Name = "unknown"
    closed_because: Text = ""
    handling: Handling = Handling()


class AnomalyOpened(Message, frozen=True, kw_only=True, tag="anomaly.opened"):
    """A segment became unwell."""

    anomaly: Anomaly


class AnomalyUpdated(Message, frozen=True, kw_only=True, tag="anomaly.updated"):
    """An open anomaly grew, narrowed or worsened."""

    anomaly: Anomaly


class AnomalyClosed(Message, frozen=True, kw_only=True, tag="anomaly.closed"):
    """A segment is well again; ``anomaly.closed_at`` says since when."""

    anomaly: Anomaly


class AllocationPublished(Message, frozen=True, kw_only=True, tag="allocation.published"):
    """The experiments in force. A router assigns each payment to an arm by a pure hash over this.

    ``cause`` and ``published_by`` say why it replaced the one before; ``defined_version`` names the definition that it
    puts into force, which an automatic action may have changed: a stopped experiment is not enabled any more.
    """

    version: Id
    published_at: Instant
    experiments: list[Experiment]
    default_policy: Name
    layers: list[Layer] = []
    holdout: Holdout | None = None
    defined_version: Id | None = None
    published_by: Name = "unknown"
    cause: Text = ""

    def allocation(self) -> Allocation:
        """What assigns payments to arms."""
        return Allocation(self.version, tuple(self.experiments), self.default_policy, tuple(self.layers), self.holdout)


class ArmCount(msgspec.Struct, frozen=True, kw_only=True):
    """What happened so far in one arm. ``settled`` attempts are those that neither wait nor were abandoned.

    ``units`` were really routed by the arm; ``mature`` ones are old enough to be judged, and ``value`` is their primary
    metric with its standard error. ``off_advice`` attempts went to another gateway than the advised one.
    """

    arm: Name
    policy: Name
    weight: float
    attempts: int
    orders: int
    settled: int
    succeeded: int
    rate: float | None = None
    rate_low: float | None = None
    rate_high: float | None = None
    units: int = 0
    mature: int = 0
    value: float | None = None
    standard_error: float | None = None
    off_advice: int = 0
    cost_minor_per_order: float | None = None
    revenue_minor_per_order: float | None = None


class GoalReported(msgspec.Struct, frozen=True, kw_only=True):
    """One challenger against the control by one metric; interval and p-value hold at any look, at level ``alpha``."""

    metric: Name
    arm: Name
    value_control: float
    value_arm: float
    difference: float
    difference_low: float
    difference_high: float
    alpha: float
    units: int
    p_value: float | None = None


class GuardrailReported(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a metric is worse by more than its margin: one-sided bounds of the harm that hold at any look."""

    metric: Name
    arm: Name
    margin: float
    state: Literal["collecting", "holding", "safe", "breached"]
    words: Text
    harm: float | None = None
    harm_low: float | None = None
    harm_high: float | None = None


def units_compared(goals: Sequence[GoalReported], challenger: str | None, metric: str | None) -> int | None:
    """Mature units of both arms that the difference of a challenger by a metric rests on; None: it is not told."""
    return next((goal.units for goal in goals if (goal.arm, goal.metric) == (challenger, metric)), None)


Standing = Literal["collecting", "better", "worse", "no difference", "guardrail breached", "broken"]


class ExperimentReported(Message, frozen=True, kw_only=True, tag="experiment.reported"):
    """The standing of one experiment. The verdict is words, never a number that looks like an answer.

    ``difference`` is the primary metric of ``challenger`` less that of ``control``, with bounds that hold at any time
    of looking. ``phase`` names what decides who is in which arm: counts go on while it stays the same. ``units_needed``
    and ``days_needed`` are about what is missing until something can be said.
    """

    experiment: Name
    version: Id
    reported_at: Instant
    arms: list[ArmCount]
    verdict: Text
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    challenger: Name | None = None
    control: Name | None = None
    phase: Id | None = None
    standing: Standing = "collecting"
    metric: Name | None = None
    started_at: Instant | None = None
    units: int = 0
    immature_share: float = 0.0
    units_needed: int | None = None
    days_needed: float | None = None
    coverage: float = 1.0
    running: bool = True
    stopped_by: Name | None = None
    stopped_why: Text = ""
    goals: list[GoalReported] = []
    guardrails: list[GuardrailReported] = []

    @property
    def compared(self) -> int | None:
        """Mature units of the two arms that ``difference`` rests on; None: it is not told."""
        return units_compared(self.goals, self.challenger, self.metric)


class ExperimentActed(Message, frozen=True, kw_only=True, tag="experiment.acted"):
    """An experiment was stopped, resumed or given more traffic, by a person or by its own rules, and why."""

    change_id: Id
    experiment: Name
    phase: Id
    action: Literal["stopped", "resumed", "ramped"]
    at: Instant
    who: Name
    automatic: bool
    reason: Text
    coverage: float


class RankedGateway(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway in the router's answer, best first."""

    gateway: Name
    expected_success: Share
    success_low: Share
    success_high: Share
    propensity: Share
    reason: Text
    expected_value_minor: float | None = None
    """Margin less fees; only from a policy that ranks by value."""


class ExcludedGateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that was not considered, and why."""

    gateway: Name
    reason: Text


class RouteAdvised(Message, frozen=True, kw_only=True, tag="route.advised"):
    """The router's answer: gateways in the order to try them, with the reason for each; none: the payment is refused.

    An empty ``ranking`` says that no gateway may take the payment; ``reason`` and ``excluded`` say why. It must not be
    made, also not by the checkout's own list, which is for when no answer comes in time.

    ``propensity`` of the first gateway is the probability with which this policy would have put it first, given what it
    knew then; it makes honest evaluation of other policies possible.

    ``runner_up`` would be first if the best gateway were not there, and is the best from an expected success of
    ``runner_up_needs`` on; none there: no success is enough. After ``valid_until`` ask again: gateways change.
    ``policy_version`` names policy, parameters and code, ``model_version`` the reliability model, if one was in force.
    ``rule`` is the routing rule that decided instead of the policy, which is then named "rules".
    """

    decision_id: Id
    request_id: Id
    order_id: Id
    advised_at: Instant
    ranking: list[RankedGateway]
    policy: Name
    reason: Text
    exploring: bool = False
    excluded: list[ExcludedGateway] = []
    experiment: Name | None = None
    arm: Name | None = None
    allocation_version: Id | None = None
    policy_version: Name | None = None
    model_version: int | None = None
    rule: Name | None = None
    runner_up: Name | None = None
    runner_up_needs: Share | None = None
    valid_until: Instant | None = None


class RouteRefused(Message, frozen=True, kw_only=True, tag="route.refused"):
    """The router's answer to a request that it cannot read, or whose id was another's: what to mend, and where.

    ``request_id`` is that of the request, where it can be read; null where the request holds card data.
    """

    reason: Text
    request_id: Id | None = None


class RetryAdvised(Message, frozen=True, kw_only=True, tag="retry.advised"):
    """What to do with a payment that failed, and why.

    ``now``: send it again, at ``gateway``, with 3-D Secure where ``with_authentication``. ``later``: not before
    ``not_before``. ``check_status``: ask ``gateway`` first what became of the attempt. ``ask_customer``: show
    ``shopper_message``. ``never``: do not send it again. ``rule`` names what decided, ``evidence`` what told the
    category.
    """

    request_id: Id
    order_id: Id
    advised_at: Instant
    action: Literal["now", "later", "check_status", "ask_customer", "never"]
    rule: Name
    reason: Text
    shopper_message: Text
    category: Name
    confidence: Share
    evidence: Literal["code_table", "advice_code", "text_model", "none"]
    gateway: Name | None = None
    not_before: Instant | None = None
    with_authentication: bool = False
    retries_left: int = 0


class RetryRefused(Message, frozen=True, kw_only=True, tag="retry.refused"):
    """The answer to a retry request that cannot be read, or about an order of which no failure is known."""

    reason: Text
    request_id: Id | None = None


AnyMessage = (
    AttemptReported
    | RouteRequested
    | RetryRequested
    | ExperimentsDefined
    | ExperimentStopped
    | ExperimentResumed
    | FailureCodeCorrected
    | GatewayPaused
    | GatewayResumed
    | RoutingOverridden
    | RoutingReleased
    | AnomalyHandled
    | AttemptsRecorded
    | FailuresClassified
    | AnomalyOpened
    | AnomalyUpdated
    | AnomalyClosed
    | AllocationPublished
    | ExperimentReported
    | ExperimentActed
    | RouteAdvised
    | RouteRefused
    | RetryAdvised
    | RetryRefused
)

MESSAGES: Final[tuple[type[Message], ...]] = tuple(AnyMessage.__args__)  # every message type, in the order of the line


def type_of(message: type[Message] | Message) -> str:
    """Name a message as it stands on the wire: its AMQP type and routing key.

    >>> type_of(AttemptReported)
    'attempt.reported'
    """
    tag = message.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def identity_of(message: Message) -> str:
    """The id under which a message counts once, however often it is delivered.

    Messages of the line carry it as ``batch_id`` or ``version``, those from outside as ``event_id`` or ``request_id``.
    """
    if isinstance(message, GatewayPaused):
        return f"{type_of(message)}:{message.pause.pause_id}"
    if isinstance(message, RoutingOverridden):
        return f"{type_of(message)}:{message.override.override_id}"
    for field in ("batch_id", "event_id", "request_id", "version", "pause_id", "change_id", "override_id"):
        value = getattr(message, field, None)
        if value is not None:
            return f"{type_of(message)}:{value}"
    raise TypeError(f"{type_of(message)} has no identity of its own")
