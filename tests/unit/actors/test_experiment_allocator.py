"""Experiment allocator: allocations once, units once, sums that equal a recount, verdicts, and actions."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.experiment_allocator import ExperimentAllocator, Memory
from messaging.contracts import (
    AllocationPublished,
    AttemptsRecorded,
    ExperimentActed,
    ExperimentReported,
    ExperimentResumed,
    ExperimentsDefined,
    ExperimentStopped,
    RecordedAttempt,
)
from ml.experiments.assignment import assign
from ml.experiments.counting import Decided
from ml.experiments.design import Arm, Experiment, Guardrail, Holdout, RampStep
from ml.experiments.rollout import Rollout
from ml.experiments.units import COUNT_NAMES, SUM_NAMES, Unit
from storage.experiments import ExperimentCounts, ExperimentPoint

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=2)
STATUSES = ("pending", "succeeded", "failed", "abandoned", "reversed")
LEARNER = Arm(name="learner", policy="adaptive", weight=0.5)
CONTROL = Arm(name="control", policy="uniform", weight=0.5)
LEARNING = Experiment(name="learning", seed="seed 1", arms=[LEARNER, CONTROL], methods=["card"], min_days=0)
OTHERS = Experiment(name="others", seed="seed 2", arms=[LEARNER, CONTROL], coverage=0.5, unit="customer_id")


def defined(*experiments: Experiment, version: str = "exp_1", **other: Any) -> ExperimentsDefined:
    """A definition of experiments."""
    return ExperimentsDefined(
        version=version, defined_at=NOW, source="file", experiments=list(experiments), default_policy="adaptive",
        defined_by="operator", **other,
    )  # fmt: skip


class Store:
    """What a store keeps of what an allocator says; a new allocator can be started from it at any moment."""

    def __init__(self, report_s: float = 2.0) -> None:
        self.report_s = report_s
        self.memory: dict[str, Any] = {"defined": None, "allocations": [], "rollouts": {}, "counts": {}, "sums": {}}
        self.units: dict[str, Unit] = {}
        self.said: list[Any] = []
        self.decisions: dict[str, Decided] = {}
        self.actor = self.restart()

    def restart(self) -> ExperimentAllocator:
        """Begin anew from what is kept."""
        self.actor = ExperimentAllocator(
            alpha=0.05, orders_expected=5000, report_s=self.report_s, fee=lambda gateway, status, amount: 10
        )
        kept = self.memory
        self.actor.warm_start(
            Memory(
                defined=kept["defined"], allocations=kept["allocations"], rollouts=list(kept["rollouts"].values()),
                waiting=[unit for unit in self.units.values() if unit.next_ms is not None],
                counts=kept["counts"], sums=kept["sums"],
            )
        )  # fmt: skip
        return self.actor

    def handle(self, *messages: Any, now: datetime = NOW) -> list[Any]:
        """Hear messages, with the stored units and decisions at hand."""
        return self._keep(self.actor.handle(messages, now, (dict(self.units), self.decisions)))

    def tick(self, now: datetime) -> list[Any]:
        """Let time pass."""
        return self._keep(self.actor.tick(now))

    def _keep(self, facts: Iterable[Any]) -> list[Any]:
        said = list(facts)
        self.said += said
        for fact in said:
            match fact:
                case ExperimentsDefined():
                    self.memory["defined"] = fact
                case AllocationPublished():
                    self.memory["allocations"] = [fact, *self.memory["allocations"]]
                case Rollout():
                    self.memory["rollouts"][fact.phase] = fact
                case ExperimentCounts():
                    self.units |= {unit.unit: unit for unit in fact.units}
                    for name in ("counts", "sums"):
                        for place, change in getattr(fact, name).items():
                            known = self.memory[name].get(place, (0,) * len(change))
                            self.memory[name][place] = tuple(map(sum, zip(known, change, strict=True)))
        return said

    def totals(self, experiment: Experiment, count: str) -> dict[str, int]:
        """One of the stored counts by arm."""
        place = COUNT_NAMES.index(count)
        return {arm: counts[place] for (phase, _, arm), counts in self.memory["counts"].items()
                if phase == experiment.phase}  # fmt: skip


def attempt(number: int, status: Any = "succeeded", **other: Any) -> RecordedAttempt:
    """One attempt of its own order, made when the experiments came into force."""
    values = {
        "attempt_id": f"att_{number}", "order_id": f"ord_{number}", "gateway": "alpha", "method": "card",
        "status": status, "amount_minor": 100, "currency": "INR", "attempted_at": NOW, "occurred_at": NOW,
        "decision_id": f"dec_{number}",
    } | other  # fmt: skip
    return RecordedAttempt(**values)


def batch(number: int, *attempts: RecordedAttempt) -> AttemptsRecorded:
    """A batch of recorded attempts."""
    return AttemptsRecorded(batch_id=f"bat_{number}", recorded_at=NOW, attempts=list(attempts))


def only(kind: Any, said: Sequence[Any]) -> list[Any]:
    """Those of one kind."""
    return [fact for fact in said if isinstance(fact, kind)]


def outcomes(experiment: Experiment, rates: dict[str, float], orders: int, first: int = 0) -> AttemptsRecorded:
    """Orders that succeed in each arm at exactly its rate, and whose arm is the one of the hash."""
    allocation = AllocationPublished(
        version="v", published_at=NOW, experiments=[experiment], default_policy="adaptive"
    ).allocation()
    seen = dict.fromkeys(rates, 0)
    made = []
    for number in range(first, first + orders):
        assigned = assign(allocation, attempt(number), NOW)
        assert assigned is not None
        count = seen[assigned.arm] = seen[assigned.arm] + 1
        rate = rates[assigned.arm]
        won = int(count * rate) > int((count - 1) * rate)
        made.append(attempt(number, "succeeded" if won else "failed"))
    return batch(first, *made)


def test_new_definition_is_kept_and_published_once() -> None:
    """What an operator defines comes into force with who and why; said again, also after a restart, changes nothing."""
    store = Store()
    said = store.handle(defined(LEARNING, OTHERS))
    (published,) = only(AllocationPublished, said)
    assert only(ExperimentsDefined, said) == [defined(LEARNING, OTHERS)]
    assert [experiment.name for experiment in published.experiments] == ["learning", "others"]
    assert (published.published_by, published.defined_version) == ("operator", "exp_1")
    assert store.handle(defined(LEARNING, OTHERS)) == []
    store.restart()
    assert store.handle(defined(LEARNING, OTHERS)) == []
    assert only(AllocationPublished, store.tick(LATER)) == []


def test_changing_an_unrelated_part_goes_on_with_the_counts() -> None:
    """Another experiment, words and coverage may change; only what decides who is in which arm starts anew."""
    store = Store()
    store.handle(defined(LEARNING), batch(0), now=NOW)
    store.handle(batch(1, *[attempt(n) for n in range(10)]))
    changed = msgspec.structs.replace(LEARNING, hypothesis="other words", coverage=0.5)
    store.handle(defined(changed, OTHERS, version="exp_2"), now=LATER)
    store.handle(batch(2, *[attempt(n, attempted_at=LATER) for n in range(10, 20)]))
    assert sum(store.totals(LEARNING, "units").values()) > 10
    renewed = msgspec.structs.replace(LEARNING, seed="another")
    store.handle(defined(renewed, version="exp_3"), now=LATER)
    assert store.totals(renewed, "units") == {}


def test_exposure_is_the_decision_that_was_used() -> None:
    """An order counts in the arm that decided it; without a decision of an arm, or under an operator's override, it
    counts nowhere, whatever its hash."""
    store = Store()
    store.handle(defined(LEARNING))
    version = store.memory["allocations"][0].version
    store.decisions = {
        "dec_1": Decided("learning", "learner", version, "alpha"),
        "dec_2": Decided(None, None, version, "alpha"),
        "dec_3": Decided("learning", "control", version, "bravo"),
        "dec_5": Decided("learning", "learner", version, "alpha", overridden=True),
    }
    store.handle(batch(1, *[attempt(n) for n in (1, 2, 3, 5)], attempt(4, decision_id=None)))
    assert store.totals(LEARNING, "units") == {"learner": 1, "control": 1}
    assert store.totals(LEARNING, "off_advice") == {"learner": 0, "control": 1}
    assert sum(store.totals(LEARNING, "disagreed").values()) <= 2


def test_attempts_before_the_exposure_are_not_its_doing() -> None:
    """A first attempt by the checkout's own list is left out; a later one without a decision belongs to the order."""
    store = Store()
    store.handle(defined(LEARNING))
    own = attempt(1, "failed", attempt_id="att_a", decision_id=None, attempted_at=NOW - timedelta(minutes=1))
    routed = attempt(1, "failed", attempt_id="att_b", attempt_number=2)
    retried = attempt(1, "succeeded", attempt_id="att_c", attempt_number=3, decision_id=None,
                      attempted_at=NOW + timedelta(seconds=5))  # fmt: skip
    for number, one in enumerate((own, routed, retried)):
        store.handle(batch(number, one))
    assert sum(store.totals(LEARNING, "attempts").values()) == 2
    assert sum(store.totals(LEARNING, "succeeded").values()) == 1


def test_only_mature_units_are_judged() -> None:
    """Units enter the sums when their outcome is old enough, and late outcomes change the sums afterwards."""
    store = Store()
    store.handle(defined(LEARNING))
    store.handle(batch(1, attempt(1, "pending")))
    assert store.memory["sums"] == {}
    store.tick(NOW + timedelta(minutes=29))
    assert store.memory["sums"] == {}
    store.restart()
    assert store.tick(NOW + timedelta(minutes=30)) == []  # it has heard nothing: another one may be the active replica
    store.handle(defined(LEARNING))
    store.tick(NOW + timedelta(minutes=30))
    (sums,) = store.memory["sums"].values()
    paid = SUM_NAMES.index("order_success_rate.top")
    assert (sums[0], sums[paid]) == (1, 0)
    store.handle(batch(2, attempt(1, "succeeded", occurred_at=LATER, status_previous="pending")))
    (sums,) = store.memory["sums"].values()
    assert (sums[0], sums[paid]) == (1, 1)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_sums_equal_a_recount(data: st.DataObject) -> None:
    """Whatever the order of corrections, repeats, restarts and maturing, sums are those of what stands at the end."""
    store, plain = Store(report_s=1e9), Store(report_s=1e9)
    definition = defined(LEARNING, OTHERS, holdout=Holdout(seed="held", share=0.2, policy="uniform"))
    for each in (store, plain):
        each.handle(definition)
    standing: dict[int, RecordedAttempt] = {}
    first: dict[int, datetime] = {}
    clock = NOW
    for step in range(data.draw(st.integers(1, 10))):
        clock += timedelta(minutes=data.draw(st.integers(1, 20)))
        if data.draw(st.integers(0, 3)) == 0:
            store.restart()
        store.tick(clock)
        attempts = []
        for number in data.draw(st.lists(st.integers(0, 30), unique=True, max_size=6)):
            standing[number] = attempt(
                number,
                data.draw(st.sampled_from(STATUSES)),
                order_id=f"ord_{number // 2}",
                customer_id=f"cus_{number // 6}" if number % 5 else None,
                method="card" if number // 2 % 3 else "upi",
                attempt_number=1 + number % 2,
                decision_id=f"dec_{number}" if number % 7 else None,
                occurred_at=clock,
                attempted_at=first.setdefault(number, clock),
                latency_ms=None if number % 4 else 120.4,
            )
            attempts.append(standing[number])
        store.handle(batch(step, *attempts))
        if attempts and data.draw(st.booleans(), label="comes again"):
            store.handle(batch(step, *attempts))
    order = list(standing.values())
    random.Random(1).shuffle(order)
    plain.handle(batch(99, *order))
    for each in (store, plain):
        each.tick(NOW + timedelta(days=1))

    def kept(each: Store, name: str) -> dict[Any, Any]:
        return {place: total for place, total in each.memory[name].items() if any(total)}

    assert kept(store, "sums") == kept(plain, "sums")
    assert kept(store, "counts") == kept(plain, "counts")


def test_report_shows_arms_and_says_what_is_missing() -> None:
    """Both arms stand in the report with counts, rate and bounds; without enough data there is no difference."""
    store = Store()
    store.handle(defined(LEARNING))
    store.handle(outcomes(LEARNING, {"learner": 0.8, "control": 0.8}, 60))
    (report,) = only(ExperimentReported, store.tick(LATER))
    assert [(arm.arm, arm.policy, arm.weight) for arm in report.arms] == [
        ("learner", "adaptive", 0.5), ("control", "uniform", 0.5),
    ]  # fmt: skip
    assert sum(arm.settled for arm in report.arms) == sum(arm.mature for arm in report.arms) == 60
    for arm in report.arms:
        assert arm.rate == pytest.approx(arm.succeeded / arm.settled)
        assert arm.rate_low < arm.rate < arm.rate_high
        assert arm.cost_minor_per_order == pytest.approx(10)
    assert report.verdict.startswith("collecting: arm ")
    assert report.units_needed > 0
    assert (report.difference, report.standing) == (None, "collecting")


def test_better_arm_is_reported_with_its_history() -> None:
    """A large and real difference is reported as better, with bounds above zero, and a point of the history."""
    store = Store()
    store.handle(defined(LEARNING))
    store.handle(outcomes(LEARNING, {"learner": 0.9, "control": 0.75}, 4000))
    said = store.tick(LATER)
    (report,) = only(ExperimentReported, said)
    assert report.standing == "better"
    assert report.verdict.startswith("better: authorization rate of 'learner' +1")
    assert report.difference_low > 0
    (point,) = only(ExperimentPoint, said)
    assert (point.low, point.difference, point.high) == (
        report.difference_low, report.difference, report.difference_high,
    )  # fmt: skip
    assert only(ExperimentPoint, store.tick(LATER + timedelta(seconds=10))) == []


def test_harmful_arm_is_stopped_and_everybody_is_told() -> None:
    """The experiment ends by itself: an action with its reason, and an allocation without it, in the same moment."""
    harmful = msgspec.structs.replace(LEARNING, on_harm="stop", min_days=7.0)
    store = Store()
    store.handle(defined(harmful, OTHERS))
    store.handle(outcomes(harmful, {"learner": 0.7, "control": 0.9}, 2000))
    said = store.tick(LATER)
    (acted,) = only(ExperimentActed, said)
    (published,) = only(AllocationPublished, said)
    assert (acted.action, acted.automatic, acted.who) == ("stopped", True, "experiment_allocator")
    assert acted.reason.startswith("worse: ")
    assert [experiment.enabled for experiment in published.experiments] == [False, True]
    assert only(ExperimentReported, said)[0].running is False
    store.restart()
    store.handle(batch(2, attempt(5000)))
    assert only(ExperimentActed, store.tick(LATER + timedelta(minutes=1))) == []


def test_broken_experiment_is_never_acted_upon() -> None:
    """With lost payments in one arm even plain harm stops nothing: the verdict is broken, in words."""
    harmful = msgspec.structs.replace(LEARNING, on_harm="stop", ramp=[RampStep(coverage=0.5, hours=0)])
    store = Store()
    store.handle(defined(harmful))
    recorded = outcomes(msgspec.structs.replace(LEARNING, coverage=1.0), {"learner": 0.6, "control": 0.9}, 4000)
    allocation = store.memory["allocations"][0].allocation()
    lost = [one for n, one in enumerate(recorded.attempts)
            if not ((found := assign(allocation, one, NOW)) and found.arm == "control" and n % 3 == 0)]  # fmt: skip
    store.handle(batch(1, *lost))
    said = store.tick(LATER)
    assert only(ExperimentActed, said) == []
    (report,) = only(ExperimentReported, said)
    assert report.verdict.startswith("broken: sample ratio mismatch, units arrived ")


def test_breached_guardrail_stops_too() -> None:
    """An arm that is no worse by its goal but far slower goes through the guardrail of latency."""
    guarded = msgspec.structs.replace(
        LEARNING, on_harm="stop", guardrails=[Guardrail(metric="latency_ms", margin=20.0)]
    )
    store = Store()
    store.handle(defined(guarded))
    recorded = outcomes(guarded, {"learner": 0.9, "control": 0.9}, 1000)
    allocation = store.memory["allocations"][0].allocation()
    slow = [
        msgspec.structs.replace(one, latency_ms=(200.0 if found.arm == "learner" else 120.0) + n % 10)
        for n, one in enumerate(recorded.attempts)
        if (found := assign(allocation, one, NOW))
    ]
    store.handle(batch(1, *slow))
    (acted,) = only(ExperimentActed, store.tick(LATER))
    assert acted.reason.startswith("guardrail breached: latency of an attempt of 'learner' is worse by ")


def test_ramp_rises_by_itself_while_nothing_is_wrong() -> None:
    """Each step waits for its hours and its orders; each rise is an action and an allocation."""
    ramped = msgspec.structs.replace(
        LEARNING, ramp=[RampStep(coverage=0.1, hours=1, orders=5), RampStep(coverage=0.5, hours=1)]
    )
    store = Store()
    (first,) = only(AllocationPublished, store.handle(defined(ramped)))
    assert first.experiments[0].coverage == 0.1
    store.tick(LATER)
    store.handle(batch(1, *[attempt(n) for n in range(200)]), now=LATER)
    said = store.tick(LATER + timedelta(minutes=1))
    (acted,) = only(ExperimentActed, said)
    assert (acted.action, acted.coverage) == ("ramped", 0.5)
    assert only(AllocationPublished, said)[0].experiments[0].coverage == 0.5
    store.restart()
    store.handle(batch(2, *[attempt(n) for n in range(200, 300)]), now=LATER)
    (acted,) = only(ExperimentActed, store.tick(LATER + timedelta(hours=3)))
    assert acted.coverage == 1.0


def test_operator_stops_and_resumes() -> None:
    """An order from a person is obeyed at once and once; the counts go on after it is taken back."""
    store = Store()
    store.handle(defined(LEARNING))
    stop = ExperimentStopped(change_id="chg_1", experiment="learning", at=NOW, who="ada", reason="month's end")
    said = store.handle(stop)
    (acted,) = only(ExperimentActed, said)
    assert (acted.action, acted.who, acted.automatic, acted.reason) == ("stopped", "ada", False, "month's end")
    assert only(AllocationPublished, said)[0].experiments[0].enabled is False
    assert store.handle(stop) == []
    assert store.handle(msgspec.structs.replace(stop, experiment="nobody")) == []
    resume = ExperimentResumed(change_id="chg_2", experiment="learning", at=NOW, who="ada", reason="go on")
    (published,) = only(AllocationPublished, store.handle(resume, now=LATER))
    assert published.experiments[0].enabled is True


def test_experiments_start_and_stop_at_their_times() -> None:
    """Routers are told when a start or a stop has come."""
    timed = msgspec.structs.replace(LEARNING, start=NOW + timedelta(hours=1), stop=NOW + timedelta(hours=2))
    store = Store()
    said = [store.handle(defined(timed)), store.tick(NOW + timedelta(hours=1)), store.tick(NOW + timedelta(hours=2))]
    assert [only(AllocationPublished, each)[0].experiments[0].enabled for each in said] == [False, True, False]


def test_reports_come_at_their_pace_and_only_after_a_change() -> None:
    """At most one report per experiment in report_s, and none when nothing changed."""
    store = Store()
    store.handle(defined(LEARNING))
    assert len(only(ExperimentReported, store.tick(NOW))) == 1
    assert only(ExperimentReported, store.tick(NOW + timedelta(seconds=10))) == []
    store.handle(batch(1, attempt(1)))
    assert only(ExperimentReported, store.tick(NOW + timedelta(seconds=11.9))) == []
    assert len(only(ExperimentReported, store.tick(NOW + timedelta(seconds=12)))) == 1


def test_disabled_experiments_are_not_reported() -> None:
    """An experiment that takes nobody and never did has no standing."""
    off = Experiment(name="off", seed="seed 3", arms=[LEARNER, CONTROL], enabled=False)
    store = Store()
    store.handle(defined(off, LEARNING))
    assert [report.experiment for report in only(ExperimentReported, store.tick(NOW))] == ["learning"]


def test_permanent_control_slice_is_compared_with_all_the_rest() -> None:
    """Orders of the slice count against all others that were routed here, whatever experiment they were in."""
    store = Store()
    store.handle(defined(LEARNING, holdout=Holdout(seed="held", share=0.3, policy="uniform")))
    store.handle(batch(1, *[attempt(n) for n in range(400)]))
    reports = {report.experiment: report for report in only(ExperimentReported, store.tick(LATER))}
    counts = {arm.arm: arm.units for arm in reports["holdout"].arms}
    assert sum(counts.values()) == 400
    assert counts["control"] == pytest.approx(120, abs=40)
    assert sum(arm.units for arm in reports["learning"].arms) == counts["optimised"]


def test_routing_retreats_to_the_policy_of_the_control_slice_when_the_rest_does_harm() -> None:
    """Not while it only looks unlucky, at once when it is sure, over a restart, and until a person resumes it."""
    held = Holdout(seed="held", share=0.3, policy="best_fixed", maturity_minutes=0, on_harm="retreat")
    for seed_of_luck, harmful in ((1, False), (2, True)):
        luck = random.Random(seed_of_luck)
        store = Store()
        store.handle(defined(holdout=held))
        allocation = store.memory["allocations"][0].allocation()
        made = []
        for number in range(3_000):
            one = attempt(number)
            found = assign(allocation, one, NOW)
            rate = 0.9 if not harmful or (found is not None and found.arm == "control") else 0.8
            made.append(msgspec.structs.replace(one, status="succeeded" if luck.random() < rate else "failed"))
        store.handle(batch(1, *made))
        said = store.tick(LATER)
        published = only(AllocationPublished, said)
        assert [each.default_policy for each in published] == (["best_fixed"] if harmful else [])
    (acted,) = only(ExperimentActed, said)
    assert (acted.experiment, acted.action, acted.automatic) == ("holdout", "stopped", True)
    assert acted.reason.startswith("worse: ")
    store.restart()
    assert only(AllocationPublished, store.tick(LATER + timedelta(minutes=1))) == []
    resume = ExperimentResumed(change_id="chg_1", experiment="holdout", at=LATER, who="ada", reason="mended")
    (again,) = only(AllocationPublished, store.handle(resume, now=LATER + timedelta(hours=1)))
    assert again.default_policy == "adaptive"
    store.handle(batch(2, *[attempt(n, attempted_at=LATER + timedelta(hours=2)) for n in range(9_000, 9_100)]))
    assert only(ExperimentActed, store.tick(LATER + timedelta(hours=5))) == []  # a person knows better than old counts


def test_payments_of_a_switchback_add_up_by_block() -> None:
    """An hour is one unit however many payments it has, and payments just after a switch are left out."""
    switching = msgspec.structs.replace(LEARNING, unit="time_block", block_minutes=60, burn_in_minutes=10)
    store = Store()
    store.handle(defined(switching))
    times = [NOW + timedelta(hours=hour, minutes=minute) for hour in range(6) for minute in (5, 20, 40)]
    store.handle(batch(1, *[attempt(n, attempted_at=at, occurred_at=at) for n, at in enumerate(times)]))
    store.tick(NOW + timedelta(days=1))
    blocks = {stratum: sums[0] for (_, _, stratum), sums in store.memory["sums"].items()}
    assert set(blocks.values()) == {2}
    assert len(blocks) == 6
    assert all(block.startswith("block:") for block in blocks)


def test_a_metric_without_any_data_ends_nothing() -> None:
    """No latency was ever reported: a guardrail on it collects, the experiment goes on."""
    guarded = msgspec.structs.replace(
        LEARNING, guardrails=[Guardrail(metric="latency_ms", margin=1.0)], primary="order_success_rate"
    )
    store = Store()
    store.handle(defined(guarded))
    store.handle(outcomes(guarded, {"learner": 0.9, "control": 0.9}, 600))
    (report,) = only(ExperimentReported, store.tick(LATER))
    assert [guardrail.state for guardrail in report.guardrails] == ["collecting"]
    assert report.standing == "collecting"
