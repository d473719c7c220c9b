"""A store full of seeded, made-up payments to look at: an incident at one gateway, an experiment, a whole story."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from messaging.contracts import (
    AllocationPublished,
    Anomaly,
    ArmCount,
    ExcludedGateway,
    ExperimentReported,
    FailureClassified,
    FailuresClassified,
    GoalReported,
    PreviousFailure,
    RankedGateway,
    RecordedAttempt,
    RouteAdvised,
    RouteRequested,
    Segment,
)
from ml.behaviour.orders import OrderStory, Step
from ml.experiments.design import Arm, Experiment
from storage.anomalies import record_anomalies
from storage.attempts import AttemptChange, AttemptState, ReportEntry, record_changes
from storage.database import Database
from storage.decisions import write_decisions
from storage.experiments import ExperimentPoint, record_experiments
from storage.failures import FailuresKnown, record_failures
from storage.heartbeats import Heartbeat, write_heartbeat
from storage.rejections import Rejection, count_rejections
from storage.shoppers import write_orders

GATEWAYS: Final = {
    "alpha": (0.94, 320),
    "bravo": (0.92, 410),
    "charlie": (0.91, 520),
    "delta": (0.89, 290),
    "echo": (0.86, 760),
}
METHODS: Final = ("card", "upi", "wallet", "netbanking")
COUNTRIES: Final = ("IN", "IN", "DE", None, "US")
ISSUERS: Final = ("harbour_bank", "meadow_bank", "lantern_bank", "river_trust")
CODES: Final = (
    ("51", "Insufficient funds in account", "insufficient_funds", "soft"),
    ("ISSUER_DOWN", "Issuer did not respond", "issuer_unavailable", "soft"),
    ("U69", "Collect request expired", "authentication_timeout", "soft"),
    ("54", "Expired card", "expired_card", "hard"),
    ("GW_5XX", "Gateway internal error", "gateway_error", "soft"),
)
STORY: Final = "att_story"
"""An attempt that has everything: a decision, two reports, a failure that was withdrawn, an anomaly around it."""

HOSTILE: Final = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'{{7*7}}"
"""What a hostile checkout puts into every free string."""


async def fill(
    database: Database, now: datetime, *, attempts: int = 1_500, seed: int = 7, text: str | None = None
) -> None:
    """Fill an empty database.

    Args:
        text: put this into every string that a checkout or an operator can choose; None for plausible ones.
    """
    stream = random.Random(seed)
    states = [_attempt(stream, number, now, text) for number in range(attempts)] + [_story(now, text)]
    await _record(database, states, now, text)
    await write_decisions(database, [_decision(state.attempt, stream, text) for state in states])
    await record_anomalies(database, _anomalies(now, text), [], now=now)
    await record_experiments(database, ["msg_2"], _experiments(now, text), [], now=now)
    await write_orders(database, [_order(stream, number, now, text) for number in range(600)], now)
    for heartbeat in _heartbeats(now, text):
        await write_heartbeat(database, heartbeat)
    refused = [
        Rejection(
            queue="ingestor", kind="refused", type="attempt.reported", reason=text or "gateway 'alfa' is not listed"
        ),
        Rejection(queue="ingestor", kind="card_data", type="attempt.reported", reason="a card number in customer_id"),
    ]
    await count_rejections(database, refused, now - timedelta(minutes=3))


async def fill_attempts(database: Database, moments: Sequence[datetime], *, fails: Callable[[datetime], bool]) -> None:
    """Record attempts with their verdicts and sums: one at each moment, which fails or succeeds as is said."""
    stream, now, states = random.Random(7), datetime.now(UTC), []
    for number, moment in enumerate(moments):
        attempt = _attempt(stream, number, now, None).attempt
        code, message, _, _ = stream.choice(CODES) if fails(moment) else (None, None, None, None)
        changed = msgspec.structs.replace(
            attempt,
            attempted_at=moment,
            occurred_at=moment + timedelta(seconds=1),
            status="failed" if code else "succeeded",
            failure_code=code,
            failure_message=message,
        )
        states.append(_state(changed, ["pending", changed.status]))
    await _record(database, states, now, None)


async def _record(database: Database, states: Sequence[AttemptState], now: datetime, text: str | None) -> None:
    for start in range(0, len(states), 500):
        changes = [AttemptChange(before=None, after=state) for state in states[start : start + 500]]
        await record_changes(database, changes, [], now=now, slot=start // 500 % 4)
    failed = [state.attempt for state in states if state.attempt.failure_code]
    failures = [_failure(attempt, text) for attempt in failed]
    classified = FailuresClassified(batch_id="bat_1", classified_at=now, failures=failures)
    await record_failures(database, ["msg_1"], failed, [classified], [], [], FailuresKnown(), now=now, slot=0)


def _attempt(stream: random.Random, number: int, now: datetime, text: str | None) -> AttemptState:
    gateway = stream.choices(list(GATEWAYS), [5, 2, 3, 2, 1])[0]
    rate, latency = GATEWAYS[gateway]
    attempted_at = now - timedelta(seconds=stream.uniform(3, 29 * 60))
    if gateway == "bravo" and now - attempted_at < timedelta(minutes=9):
        rate = 0.45
    status = "succeeded" if stream.random() < rate else "failed"
    status = stream.choices([status, "pending", "abandoned", "reversed"], [95, 2, 2, 1])[0]
    code, message, _, _ = stream.choice(CODES)
    failed = status == "failed"
    latency_ms = round(stream.lognormvariate(0, 0.4) * latency, 1)
    attempt = RecordedAttempt(
        attempt_id=f"att_{number:06d}",
        order_id=f"ord_{number // 2:06d}" if number < 200 else f"ord_{number:06d}",
        gateway=gateway,
        method=stream.choice(METHODS),
        issuer=text[:60] if text else stream.choice(ISSUERS),
        status=status,
        amount_minor=int(stream.lognormvariate(11.5, 0.8)),
        currency="EUR" if stream.random() < 0.06 else "INR",
        attempted_at=attempted_at,
        occurred_at=attempted_at + timedelta(milliseconds=latency_ms),
        attempt_number=1 + (stream.random() < 0.15),
        latency_ms=latency_ms,
        country=COUNTRIES[number % len(COUNTRIES)],
        failure_code=(text or code)[:80] if failed else None,
        failure_message=(text or message) if failed else None,
        decision_id=f"dec_{number:06d}",
    )
    return _state(attempt, ["pending", attempt.status])


def _story(now: datetime, text: str | None) -> AttemptState:
    attempted_at = now - timedelta(minutes=4)
    attempt = RecordedAttempt(
        attempt_id=STORY,
        order_id="ord_000001",
        gateway="bravo",
        method="upi",
        issuer=text[:60] if text else "harbour_bank",
        network=text[:60] if text else None,
        country="IN",
        customer_id="cus_42",
        status="failed",
        amount_minor=1_249_900,
        currency="INR",
        attempted_at=attempted_at,
        occurred_at=attempted_at + timedelta(seconds=2),
        attempt_number=2,
        latency_ms=1_840.0,
        failure_code=text[:80] if text else "ISSUER_DOWN",
        failure_message=text or "Issuer did not respond",
        decision_id="dec_story",
    )
    return _state(attempt, ["pending", "failed"])


def _state(attempt: RecordedAttempt, statuses: list[Any]) -> AttemptState:
    took = attempt.occurred_at - attempt.attempted_at
    history = tuple(
        ReportEntry(
            event_id=f"evt_{attempt.attempt_id}_{index}",
            status=status,
            occurred_at=attempt.attempted_at + took * index,
            received_at=attempt.attempted_at + took * index + timedelta(milliseconds=120),
        )
        for index, status in enumerate(dict.fromkeys(statuses))
    )
    return AttemptState(attempt=attempt, history=history, revision=1)


def _failure(attempt: RecordedAttempt, text: str | None) -> FailureClassified:
    known = {code: (category, hardness) for code, _, category, hardness in CODES}
    category, hardness = known.get(attempt.failure_code or "", (text[:60] if text else "unknown", "soft"))
    return FailureClassified(
        attempt_id=attempt.attempt_id,
        order_id=attempt.order_id,
        gateway=attempt.gateway,
        method=attempt.method,
        issuer=attempt.issuer,
        attempted_at=attempt.attempted_at,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        category=category,
        hardness=hardness,  # type: ignore[arg-type]
        fault="issuer",
        retry="other_gateway",
        confidence=0.97,
        evidence="code_table",
        shopper_message=text or "Your bank did not answer. You have not been charged; please try again.",
        guesses=["issuer_unavailable", "timeout"],
        failure_code=attempt.failure_code,
        failure_message=attempt.failure_message,
        country=attempt.country,
    )


def _decision(attempt: RecordedAttempt, stream: random.Random, text: str | None) -> tuple[RouteRequested, RouteAdvised]:
    order = [attempt.gateway, *stream.sample([name for name in GATEWAYS if name != attempt.gateway], 2)]
    story = attempt.attempt_id == STORY
    asked_at = attempt.attempted_at - timedelta(milliseconds=60)
    request = RouteRequested(
        request_id=f"req_{attempt.attempt_id}",
        order_id=attempt.order_id,
        method=attempt.method,
        issuer=attempt.issuer,
        country="IN",
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        requested_at=asked_at,
        candidates=list(GATEWAYS),
        previous_failures=[
            PreviousFailure(
                gateway="echo", failure_code=text[:80] if text else "U69", failure_message=text or "Expired"
            )
        ]
        if story
        else [],
    )
    ranking = [
        RankedGateway(
            gateway=name,
            expected_success=GATEWAYS[name][0],
            success_low=GATEWAYS[name][0] - 0.05,
            success_high=min(1.0, GATEWAYS[name][0] + 0.03),
            propensity=[0.82, 0.12, 0.06][index],
            reason=text or f"{GATEWAYS[name][0]:.0%} expected for {attempt.method} lately",
        )
        for index, name in enumerate(order)
    ]
    advised = RouteAdvised(
        decision_id=attempt.decision_id or "dec_none",
        request_id=request.request_id,
        order_id=attempt.order_id,
        advised_at=asked_at + timedelta(milliseconds=4),
        ranking=ranking,
        policy="adaptive",
        reason=text or f"{order[0]} has the best expected success for {attempt.method}",
        exploring=stream.random() < 0.05,
        excluded=[ExcludedGateway(gateway="echo", reason=text or "failed for this order already")] if story else [],
        experiment="routing-policy",
        arm=stream.choice(["control", "adaptive"]),
        allocation_version="alloc_7",
    )
    return request, advised


def _anomalies(now: datetime, text: str | None) -> list[Anomaly]:
    def anomaly(number: int, gateway: str, minutes: float, closed: float | None, **fields: Any) -> Anomaly:
        started_at = now - timedelta(minutes=minutes)
        base: dict[str, Any] = {
            "anomaly_id": f"ano_{number}",
            "segment": Segment(gateway=gateway, method="upi" if number == 1 else None),
            "signal": "success_rate",
            "severity": "critical",
            "started_at": started_at,
            "detected_at": started_at + timedelta(seconds=22),
            "updated_at": now,
            "observed": 0.45,
            "expected": 0.92,
            "expected_low": 0.88,
            "expected_high": 0.95,
            "attempts_seen": 412,
            "score": 9.2,
            "currency": "INR",
            "loss_minor_per_minute": 1_834_500.0,
            "loss_low": 1_200_000.0,
            "loss_high": 2_500_000.0,
            "reason": text or "Authorization fell at once for all issuers",
            "closed_at": None if closed is None else now - timedelta(minutes=closed),
        }
        return Anomaly(**base | fields)

    return [
        anomaly(1, "bravo", 9, None),
        anomaly(2, "charlie", 6, None, signal="latency", severity="major", observed=2_400.0, expected=520.0,
                expected_low=410.0, expected_high=700.0, loss_minor_per_minute=None, loss_low=None,
                loss_high=None, attempts_seen=96),
        anomaly(3, "echo", 140, 121, severity="minor", observed=0.71, expected=0.86, attempts_seen=61),
        anomaly(4, "delta", 320, 300, severity="major", signal="volume", observed=3.0, expected=21.0,
                expected_low=12.0, expected_high=30.0, attempts_seen=18),
    ]  # fmt: skip


def _order(stream: random.Random, number: int, now: datetime, text: str | None) -> OrderStory:
    """An order whose shopper tries again, most often another way, until it is paid or patience ends."""
    at, gateway, method = now - timedelta(seconds=stream.uniform(10, 20_000)), stream.choice([*GATEWAYS]), "card"
    steps: list[Step] = []
    while not steps or (steps[-1].status != "succeeded" and len(steps) < 5 and stream.random() < 0.6):
        status = stream.choices(["succeeded", "failed", "pending"], [62, 35, 3])[0]
        category = (text or stream.choice(CODES)[2])[:60] if status == "failed" else None
        steps.append(Step(at=at, gateway=gateway, method=method, status=status, category=category))
        at += timedelta(seconds=stream.uniform(5, 300))
        gateway = stream.choice([gateway, *GATEWAYS])
        method = stream.choice([method, *METHODS])
    return OrderStory(
        order_id=f"ord_s{number:05d}",
        customer=f"cus_{number % 250:06d}",
        amount_minor=int(stream.lognormvariate(11.5, 0.8)),
        currency="INR",
        tries=len(steps),
        steps=tuple(steps),
    )


def _points(
    report: ExperimentReported, now: datetime, *, hours: float, seed: int, settles_at: float
) -> list[ExperimentPoint]:
    """A course that wanders, in a band that narrows, to where the report has it; points as far apart as stored ones."""
    stream, points, units, off = random.Random(seed), [], 40.0, 0.0
    while units < report.units:
        share = units / report.units
        half = 0.03 / share**0.5
        off = 0.9 * off + stream.gauss(0, 0.12)
        difference = settles_at + half * off
        points.append(
            ExperimentPoint(
                experiment=report.experiment,
                phase=report.phase or "",
                at=now - timedelta(hours=hours * (1 - share)),
                units=int(units),
                compared=int(0.9 * units),
                challenger=report.challenger or "",
                difference=difference,
                low=difference - half,
                high=difference + half,
                metric=report.metric,
            )
        )
        units *= 1.02
    return points


def _experiments(now: datetime, text: str | None) -> list[AllocationPublished | ExperimentReported | ExperimentPoint]:
    arms = [Arm(name="control", policy="best_fixed", weight=0.5), Arm(name="adaptive", policy="adaptive", weight=0.5)]
    running = Experiment(
        name="routing-policy",
        seed="s1",
        arms=arms,
        hypothesis=text or "Adaptive routing authorizes more than a fixed order.",
    )
    waiting = Experiment(name="wallet-first", seed="s2", arms=arms, hypothesis="A second one, just defined.")
    counts = [
        ArmCount(
            arm="control", policy="best_fixed", weight=0.5, attempts=2411, orders=2108, settled=2330, succeeded=2062,
                 rate=0.885, rate_low=0.871, rate_high=0.897),
        ArmCount(
            arm="adaptive", policy="adaptive", weight=0.5, attempts=2398, orders=2131, settled=2317, succeeded=2139,
                 rate=0.923, rate_low=0.911, rate_high=0.933),
    ]  # fmt: skip
    few = [
        msgspec.structs.replace(count, rate=None, rate_low=None, rate_high=None, settled=3, succeeded=2)
        for count in counts
    ]
    reported = ExperimentReported(
        experiment="routing-policy", version="alloc_7", reported_at=now, arms=counts[::-1],
        verdict=text or "adaptive is better than control, at any number of looks",
        difference=0.038, difference_low=0.012, difference_high=0.064, challenger="adaptive", control="control",
        started_at=now - timedelta(hours=5), phase="routing-policy:1", metric="authorization_rate", units=4_239,
        goals=[GoalReported(metric="authorization_rate", arm="adaptive", value_control=0.885, value_arm=0.923,
                            difference=0.038, difference_low=0.012, difference_high=0.064, alpha=0.05, units=3_871)],
    )  # fmt: skip
    upi = msgspec.structs.replace(
        reported, experiment="upi-first", verdict=text or "too early to say", difference=-0.006, difference_low=-0.034,
        difference_high=0.022, started_at=now - timedelta(hours=2), phase="upi-first:1", units=1_200,
    )  # fmt: skip
    return [
        AllocationPublished(
            version="alloc_7", published_at=now - timedelta(hours=2), experiments=[running, waiting],
            default_policy="adaptive",
        ),
        reported,
        upi,
        ExperimentReported(
            experiment="retired-test", version="alloc_3", reported_at=now - timedelta(days=2), arms=few,
            verdict="too few to say: 6 settled attempts, about 400 needed",
        ),
        *_points(reported, now, hours=5, seed=11, settles_at=0.038),
        *_points(upi, now, hours=2, seed=12, settles_at=-0.006),
    ]  # fmt: skip


def _heartbeats(now: datetime, text: str | None) -> list[Heartbeat]:
    def beat(stage: str, age_s: float, **fields: Any) -> Heartbeat:
        base: dict[str, Any] = {
            "instance": f"{stage}-shop1-4711",
            "stage": stage,
            "host": "shop1",
            "pid": 4711,
            "started_at": now - timedelta(hours=3),
            "at": now - timedelta(seconds=age_s),
            "batches": 18_204,
            "messages": 911_022,
            "last_batch_at": now - timedelta(seconds=age_s + 1),
            "lag": 12,
        }
        return Heartbeat(**base | fields)

    return [
        beat("ingestor", 1),
        beat("failure_classifier", 1),
        beat("anomaly_watcher", 11, lag=340),
        beat(
            "experiment_allocator", 1,
            last_error=text or "config/experiments.yaml:14: arms of 'checkout-q4' add up to 0.9, must be 1",
            last_error_at=now - timedelta(minutes=12),
            file_error=text or "config/experiments.yaml:14: arms of 'checkout-q4' add up to 0.9, must be 1",
            file_judged_at=now - timedelta(minutes=12),
        ),
    ]  # fmt: skip
