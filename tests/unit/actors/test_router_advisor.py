"""The router advisor: decides once, learns once, keeps arms apart, heeds anomalies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from actors.answered_requests import decision_id_of
from actors.router_advisor import RouterAdvisor
from actors.router_start import EvidenceMinute, History, learned_from
from messaging.codec import encode
from messaging.contracts import (
    AllocationPublished,
    Anomaly,
    AnomalyClosed,
    AnomalyOpened,
    AnomalyUpdated,
    AttemptsRecorded,
    GatewayPause,
    GatewayResumed,
    Message,
    PreviousFailure,
    RecordedAttempt,
    RouteAdvised,
    RouteRequested,
    RoutingOverridden,
    RoutingOverride,
    RoutingReleased,
    Segment,
)
from messaging.errors import MessageMalformed
from ml.experiments.design import Arm, Experiment
from ml.routing.eligibility import GatewayTerms
from ml.routing.policies import PolicySettings
from ml.routing.reliability import FIELDS, Cell, Reliability, ReliabilityModel, Traits, Trees, columns_of
from ml.routing.rules import Commitment, Condition, Rule, RuleSet

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SETTINGS = PolicySettings(memory_half_life_s=43_200, exploration_floor=0.0, canary_share=0.02, draws=64, cells_max=1000)
RUPEES = GatewayTerms(methods=frozenset({"card", "upi"}), currencies=frozenset({"INR"}))
GATEWAYS = {
    "alpha": RUPEES,
    "bravo": RUPEES,
    "goldcard": GatewayTerms(methods=frozenset({"card"}), currencies=frozenset({"EUR"})),
}
HALVES = Experiment(
    name="checkout",
    seed="s1",
    arms=[Arm(name="control", policy="adaptive", weight=0.5), Arm(name="treatment", policy="adaptive", weight=0.5)],
)
PUBLISHED = AllocationPublished(version="alloc_1", published_at=NOW, experiments=[HALVES], default_policy="adaptive")


def advisor(seed: int = 0, default_policy: str = "adaptive") -> RouterAdvisor:
    """A worker that never explores on purpose."""
    return RouterAdvisor(GATEWAYS, SETTINGS, default_policy=default_policy, generator=np.random.default_rng(seed))


def request(number: int = 1, **changes: object) -> RouteRequested:
    """A card payment of harbour_bank in rupees."""
    asked = RouteRequested(
        request_id=f"req_{number}", order_id=f"ord_{number}", method="card", amount_minor=50_000, currency="INR",
        requested_at=NOW, issuer="harbour_bank", country="IN",
    )  # fmt: skip
    return msgspec.structs.replace(asked, **changes)


def attempts(status: str, gateway: str, count: int, **changes: object) -> list[RecordedAttempt]:
    """So many attempts that differ only in their id."""
    attempt = RecordedAttempt(
        attempt_id="att_1", order_id="ord_1", gateway=gateway, method="card", status="failed", amount_minor=50_000,
        currency="INR", attempted_at=NOW, occurred_at=NOW, issuer="harbour_bank", country="IN",
    )  # fmt: skip
    return [
        msgspec.structs.replace(attempt, attempt_id=f"att_{gateway}_{number}", status=status, **changes)
        for number in range(count)
    ]


def tell(worker: RouterAdvisor, *messages: Message) -> None:
    """Let a worker hear facts; it has nothing to say to them."""
    assert list(worker.handle(messages, NOW)) == []


def start(worker: RouterAdvisor, **held: object) -> None:
    """Let a worker start from what the store holds."""
    worker.take(learned_from(History(**held), worker.fresh_knowledge(), NOW), NOW)  # type: ignore[arg-type]


def batch(recorded: Sequence[RecordedAttempt], batch_id: str = "batch_1") -> AttemptsRecorded:
    """A batch of attempts."""
    return AttemptsRecorded(batch_id=batch_id, recorded_at=NOW, attempts=list(recorded))


def expected(worker: RouterAdvisor, gateway: str, asked: RouteRequested | None = None, now: datetime = NOW) -> float:
    """Success that a worker expects of a gateway."""
    advised = worker.advise(asked or request(int(np.random.default_rng().integers(10**9))), now)
    return next(ranked.expected_success for ranked in advised.ranking if ranked.gateway == gateway)


def anomaly(**segment: str) -> Anomaly:
    """An open anomaly in the success rate of a segment."""
    return Anomaly(
        anomaly_id="anm_1", segment=Segment(**segment), signal="success_rate", severity="critical", started_at=NOW,
        detected_at=NOW, updated_at=NOW, observed=0.04, expected=0.91, expected_low=0.85, expected_high=0.95,
        attempts_seen=122, score=20.0,
    )  # fmt: skip


def order_in(arm: str, worker: RouterAdvisor) -> int:
    """Number of a request whose order is in an arm."""
    return next(n for n in range(1000, 2000) if worker.advise(request(n), NOW).arm == arm)


def knowing(worker: RouterAdvisor) -> RouterAdvisor:
    """Make bravo good (39 of 40) and alpha fair (4 of 5) for all learners."""
    for number in range(8):
        good = attempts("succeeded", "bravo", 39) + attempts("failed", "bravo", 1)
        fair = 5 * (attempts("succeeded", "alpha", 4) + attempts("failed", "alpha", 1))
        tell(worker, batch(good + fair, f"batch_known_{number}"))
    return worker


def first_choices(worker: RouterAdvisor, count: int = 100, **changes: object) -> list[str]:
    """The first gateway of so many decisions."""
    return [worker.advise(request(n, **changes), NOW).ranking[0].gateway for n in range(5000, 5000 + count)]


def test_request_sent_again_gets_the_same_decision() -> None:
    """Even after the advisor learned something else meanwhile."""
    worker = advisor()
    advised = worker.advise(request(), NOW)
    knowing(worker)
    assert worker.advise(request(), NOW + timedelta(seconds=1)) is advised


def test_decision_of_another_replica_is_taken_over() -> None:
    """A remembered decision is the answer to its request."""
    other = advisor(1).advise(request(), NOW)
    worker = advisor(2)
    worker.remember(request(), other)
    assert worker.advise(request(), NOW) is other


def test_decision_ids_are_the_same_everywhere_and_valid() -> None:
    """Also for the longest request id; different requests get different ids."""
    long = "r" + "9" * 79
    assert decision_id_of("req_1") == "dec_req_1"
    assert len(decision_id_of(long)) <= 80
    assert decision_id_of(long) != decision_id_of("r" + "9" * 78 + "8")
    advised = advisor().advise(request(request_id=long), NOW)
    assert msgspec.json.decode(encode(advised), type=RouteAdvised) == advised


def test_ranks_who_may_and_says_why_others_may_not() -> None:
    """Shares add up to one; an ineligible gateway is excluded with its reason."""
    advised = advisor().advise(request(), NOW)
    assert sorted(ranked.gateway for ranked in advised.ranking) == ["alpha", "bravo"]
    assert sum(ranked.propensity for ranked in advised.ranking) == pytest.approx(1)
    assert [(each.gateway, each.reason) for each in advised.excluded] == [("goldcard", "does not take INR")]
    assert (advised.policy, advised.experiment, advised.arm) == ("adaptive", None, None)


def test_nothing_eligible_is_an_empty_ranking() -> None:
    """With a reason, never an exception."""
    advised = advisor().advise(request(candidates=["omega", "goldcard"]), NOW)
    assert advised.ranking == []
    assert advised.reason == "no gateway may take this payment"
    assert {each.gateway: each.reason for each in advised.excluded} == {
        "omega": "is not a known gateway",
        "goldcard": "does not take INR",
        "alpha": "is not among the candidates of the request",
        "bravo": "is not among the candidates of the request",
    }


def test_learns_from_attempts() -> None:
    """The gateway that succeeds more is put first."""
    assert set(first_choices(knowing(advisor()), 20)) == {"bravo"}


def test_a_batch_teaches_once() -> None:
    """The same batch id a second time changes nothing."""
    once, twice = advisor(), advisor()
    recorded = batch(attempts("failed", "alpha", 3))
    tell(once, recorded)
    tell(twice, recorded, recorded)
    assert expected(once, "alpha") == expected(twice, "alpha") < 0.5


def test_late_success_takes_the_failure_back() -> None:
    """After the correction the belief is as if the success had been known at once."""
    corrected, known = advisor(), advisor()
    tell(corrected, batch(attempts("failed", "alpha", 4), "b1"))
    tell(corrected, batch(attempts("succeeded", "alpha", 4, status_previous="failed"), "b2"))
    tell(known, batch(attempts("succeeded", "alpha", 4)))
    assert expected(corrected, "alpha") == pytest.approx(expected(known, "alpha"))


@pytest.mark.parametrize(
    ("status", "changes"),
    [("pending", {}), ("abandoned", {}), ("failed", {"attempt_number": 2}), ("failed", {"status_previous": "failed"})],
)
def test_what_says_nothing_about_a_gateway_teaches_nothing(status: str, changes: dict[str, object]) -> None:
    """No outcome yet or ever, a second attempt after a failure, or nothing new."""
    worker = advisor()
    tell(worker, batch(attempts(status, "alpha", 10, **changes)))
    assert expected(worker, "alpha") == 0.5


def test_a_reversed_success_is_a_failure() -> None:
    """The success is taken back and counts against the gateway."""
    worker = advisor()
    tell(worker, batch(attempts("succeeded", "alpha", 4), "b1"))
    tell(worker, batch(attempts("reversed", "alpha", 4, status_previous="succeeded"), "b2"))
    assert expected(worker, "alpha") < 0.5


def test_attempts_of_unknown_gateways_are_passed_over() -> None:
    """They neither fail the batch nor stop the rest of it."""
    worker = advisor()
    tell(worker, batch(attempts("failed", "omega", 3) + attempts("failed", "alpha", 3)))
    assert expected(worker, "alpha") < 0.5


def test_arms_do_not_learn_from_each_other() -> None:
    """What was routed for one arm teaches that arm only; neither the other arm nor the default learner."""
    worker = advisor()
    tell(worker, PUBLISHED)
    control, treatment = order_in("control", worker), order_in("treatment", worker)
    routed = attempts("failed", "alpha", 20, order_id=f"ord_{control}", decision_id="dec_1")
    tell(worker, batch(routed))
    assert expected(worker, "alpha", request(1, order_id=f"ord_{control}")) < 0.3
    assert expected(worker, "alpha", request(2, order_id=f"ord_{treatment}")) == 0.5


def test_attempts_routed_by_others_teach_every_arm() -> None:
    """Without a decision they are evidence from outside."""
    worker = advisor()
    tell(worker, PUBLISHED, batch(attempts("failed", "alpha", 20)))
    for number, arm in enumerate(("control", "treatment")):
        asked = request(number, order_id=f"ord_{order_in(arm, worker)}")
        assert expected(worker, "alpha", asked) < 0.3


def test_decision_names_its_arm_and_allocation() -> None:
    """Experiment, arm, policy and version are those in force."""
    worker = advisor()
    arms = [Arm(name="control", policy="uniform", weight=0.5), Arm(name="treatment", policy="best_fixed", weight=0.5)]
    tell(worker, msgspec.structs.replace(PUBLISHED, experiments=[msgspec.structs.replace(HALVES, arms=arms)]))
    advised = worker.advise(request(order_in("treatment", worker)), NOW)
    assert (advised.experiment, advised.arm, advised.policy) == ("checkout", "treatment", "best_fixed")
    assert advised.allocation_version == "alloc_1"


def test_new_arm_starts_from_what_the_default_knows() -> None:
    """And an arm that stays keeps what it learned."""
    worker = knowing(advisor())
    tell(worker, PUBLISHED)
    control = order_in("control", worker)
    assert worker.advise(request(control), NOW).ranking[0].gateway == "bravo"
    tell(worker, batch(attempts("failed", "bravo", 200, order_id=f"ord_{control}", decision_id="dec_1"), "b9"))
    tell(worker, msgspec.structs.replace(PUBLISHED, version="alloc_2"))
    assert worker.advise(request(9, order_id=f"ord_{control}"), NOW).ranking[0].gateway == "alpha"


def test_anomaly_shifts_payments_of_its_segment_only() -> None:
    """The unwell gateway is avoided for that issuer, except for canaries; other issuers stay with it."""
    worker = knowing(advisor())
    tell(worker, AnomalyOpened(anomaly=anomaly(gateway="bravo", issuer="harbour_bank")))
    inside = first_choices(worker, 200)
    assert 0 < inside.count("bravo") < 20
    outside = [worker.advise(request(n, issuer="lotus_bank"), NOW).ranking[0].gateway for n in range(7000, 7100)]
    assert outside.count("bravo") > 90
    reason = next(r.reason for r in worker.advise(request(1), NOW).ranking if r.gateway == "bravo")
    assert "success 4% of 122 attempts since 12:00 UTC, expected 91%, anomaly anm_1" in reason


@pytest.mark.parametrize(
    "opened",
    [
        anomaly(issuer="harbour_bank"),
        anomaly(method="card"),
        anomaly(gateway="bravo", method="upi"),
        msgspec.structs.replace(anomaly(gateway="bravo"), signal="latency"),
    ],
)
def test_anomaly_elsewhere_changes_nothing(opened: Anomaly) -> None:
    """One that hits all gateways alike, other payments, or another signal."""
    worker = knowing(advisor())
    tell(worker, AnomalyOpened(anomaly=opened))
    assert set(first_choices(worker, 30)) == {"bravo"}


def test_when_all_are_unwell_the_best_is_still_first() -> None:
    """Routing is never refused for anomalies."""
    worker = knowing(advisor())
    both = [msgspec.structs.replace(anomaly(gateway=name), anomaly_id=f"anm_{name}") for name in ("alpha", "bravo")]
    tell(worker, *(AnomalyOpened(anomaly=each) for each in both))
    assert set(first_choices(worker, 30)) == {"bravo"}


def test_gateway_returns_when_its_anomaly_is_over() -> None:
    """What failed meanwhile is forgotten, and an update that comes late does not open the anomaly again."""
    worker = knowing(advisor())
    opened = anomaly(gateway="bravo")
    tell(worker, AnomalyOpened(anomaly=opened), batch(attempts("failed", "bravo", 60), "b5"))
    assert expected(worker, "bravo") < 0.8
    over = NOW + timedelta(minutes=5)
    closed = msgspec.structs.replace(opened, closed_at=over, updated_at=over)
    tell(worker, AnomalyClosed(anomaly=closed), AnomalyUpdated(anomaly=opened))
    chosen = [worker.advise(request(n), over).ranking[0].gateway for n in range(5000, 5100)]
    assert chosen.count("bravo") > 10


def test_gateways_that_failed_for_the_order_are_last() -> None:
    """A retry goes elsewhere first."""
    worker = knowing(advisor())
    asked = request(previous_failures=[PreviousFailure(gateway="bravo", failure_code="51")], attempt_number=2)
    assert [ranked.gateway for ranked in worker.advise(asked, NOW).ranking] == ["alpha", "bravo"]


def test_warm_start_brings_back_what_the_store_knows() -> None:
    """Rates for every arm, open anomalies and the allocation; a second one replaces the first and adds nothing."""
    minutes = [
        EvidenceMinute(NOW.timestamp() - 600, "bravo", "card", "harbour_bank", 190, 10),
        EvidenceMinute(NOW.timestamp() - 600, "alpha", "card", "harbour_bank", 120, 80),
        EvidenceMinute(NOW.timestamp() - 600, "omega", "card", "harbour_bank", 1, 0),
    ]
    worker = advisor()
    start(worker, minutes=minutes, anomalies=[anomaly(gateway="alpha", issuer="lotus_bank")], allocation=PUBLISHED)
    rates = [
        expected(worker, "bravo", request(n)) for n in (order_in("control", worker), order_in("treatment", worker))
    ]
    assert rates == pytest.approx([0.95, 0.95], abs=0.02)
    assert "anm_1" in worker.advise(request(1, issuer="lotus_bank"), NOW).ranking[1].reason
    start(worker, minutes=minutes, allocation=PUBLISHED)
    assert expected(worker, "bravo", request(2, order_id=f"ord_{order_in('control', worker)}")) == pytest.approx(
        rates[0]
    )


def test_unknown_default_policy_is_refused() -> None:
    """At start, where somebody can mend it."""
    with pytest.raises(ValueError, match="must be one of adaptive, best_fixed, fixed_order, uniform"):
        advisor(default_policy="clever")


def test_one_batch_teaches_what_its_attempts_teach_one_by_one() -> None:
    """Payments that are learned at once leave the same expectation behind as when each came alone."""
    luck = np.random.default_rng(3)
    mixed = [
        attempts("succeeded" if luck.random() < (0.9 if gateway == "alpha" else 0.7) else "failed", gateway, 1,
                 attempted_at=NOW + timedelta(milliseconds=10 * place))[0]
        for place, gateway in enumerate(luck.choice(["alpha", "bravo"], 400))
    ]  # fmt: skip
    together, singly = advisor(), advisor()
    tell(together, batch(mixed))
    for place, attempt in enumerate(mixed):
        tell(singly, batch([attempt], f"single_{place}"))
    for gateway in ("alpha", "bravo"):
        assert expected(together, gateway) == pytest.approx(expected(singly, gateway), abs=0.01)


def test_an_outage_inside_one_batch_is_noticed_at_once() -> None:
    """Sixty failures of a gateway that was good leave it as bad as when they came one by one, and its record whole."""
    together, singly = knowing(advisor()), knowing(advisor())
    down = attempts("failed", "bravo", 60)
    tell(together, batch(down, "outage"))
    for place, attempt in enumerate(down):
        tell(singly, batch([attempt], f"single_{place}"))
    assert expected(together, "bravo") < 0.3
    assert expected(together, "bravo") == pytest.approx(expected(singly, "bravo"), abs=0.1)


def test_networks_are_learned_apart() -> None:
    """A gateway that declines one card network is expected to go on declining that one, and not the other."""
    worker = advisor()
    for number in range(8):
        good = attempts("succeeded", "bravo", 30, network="visa") + attempts("succeeded", "alpha", 30, network="rupay")
        bad = attempts("failed", "bravo", 15, network="rupay")
        tell(worker, batch(good + bad, f"batch_{number}"))
    on_visa, on_rupay = (expected(worker, "bravo", request(n, network=n_)) for n, n_ in ((1, "visa"), (2, "rupay")))
    assert on_visa > on_rupay + 0.2


def test_an_answer_says_what_would_flip_it_and_how_long_it_holds() -> None:
    """The runner-up, the success that it needs, the policy's version and a time to ask again are in every answer."""
    advised = knowing(advisor()).advise(request(), NOW)
    assert advised.runner_up == "alpha"
    best = max(ranked.expected_success for ranked in advised.ranking)
    assert advised.runner_up_needs == pytest.approx(best)
    assert advised.policy_version is not None
    assert advised.policy_version.startswith("adaptive-")
    assert advised.valid_until is not None
    assert timedelta(0) < advised.valid_until - NOW <= timedelta(minutes=5)
    lonely = knowing(advisor()).advise(request(candidates=["alpha"]), NOW)
    assert (lonely.runner_up, lonely.runner_up_needs) == (None, None)


def override(*order: str, minutes: int | None = None) -> RoutingOverridden:
    """An operator's order, from now on."""
    ends_at = NOW + timedelta(minutes=minutes) if minutes else None
    return RoutingOverridden(
        override=RoutingOverride(override_id="ovr_1", order=list(order), starts_at=NOW, ends_at=ends_at, who="olga",
                                 reason="incident 7")
    )  # fmt: skip


def test_an_override_stands_above_policies_and_experiments_until_it_is_released() -> None:
    """The worse gateway is first for all, with propensity 1, in no arm; then the policies decide as before."""
    worker = knowing(advisor())
    tell(worker, PUBLISHED, override("alpha", "bravo"))
    for number in range(50):
        advised = worker.advise(request(number), NOW)
        assert (advised.ranking[0].gateway, advised.ranking[0].propensity) == ("alpha", 1.0)
        assert (advised.policy, advised.arm, advised.exploring) == ("override", None, False)
        assert "overridden by olga until it is released: incident 7" in advised.reason
        assert advised.ranking[0].expected_success == pytest.approx(0.8, abs=0.05)
    released = RoutingReleased(override_id="ovr_other", released_at=NOW, who="olga", reason="")
    tell(worker, released)
    assert worker.advise(request(100), NOW).policy == "override"
    tell(worker, msgspec.structs.replace(released, override_id="ovr_1"))
    advised = worker.advise(request(101), NOW)
    assert (advised.policy, advised.ranking[0].gateway) == ("adaptive", "bravo")
    assert advised.arm is not None


def test_an_override_ends_by_itself_and_is_kept_over_a_restart() -> None:
    """After its end the policies decide; it stays when what was learned is replaced, and expects what is known then."""
    worker = advisor()
    told = override("alpha", minutes=10)
    minutes = [EvidenceMinute(NOW.timestamp() - 60, name, "card", "harbour_bank", good, 1000 - good)
               for name, good in (("alpha", 500), ("bravo", 950))]  # fmt: skip
    worker.heed_override(told.override, 0, NOW)
    start(worker, minutes=minutes)
    overridden = worker.advise(request(1), NOW)
    assert (overridden.ranking[0].gateway, overridden.policy) == ("alpha", "override")
    assert overridden.ranking[0].expected_success == pytest.approx(0.5, abs=0.05)
    assert worker.advise(request(2), NOW + timedelta(minutes=11)).ranking[0].gateway == "bravo"


def test_what_a_gateway_does_not_take_stays_out_under_an_override() -> None:
    """A gateway that may not take the payment is passed over, whatever the order says."""
    worker = knowing(advisor())
    tell(worker, override("goldcard", "bravo"))
    advised = worker.advise(request(1), NOW)
    assert advised.ranking[0].gateway == "bravo"
    assert "goldcard" in {excluded.gateway for excluded in advised.excluded}


def test_an_override_is_tried_in_its_order_whatever_is_known_or_unwell() -> None:
    """The named ones in their order, then the rest; what failed for the order comes last; nothing is left to chance."""
    worker = knowing(advisor())
    tell(worker, override("alpha"), AnomalyOpened(anomaly=anomaly(gateway="alpha")))
    for number in range(20):
        advised = worker.advise(request(number), NOW)
        assert [ranked.gateway for ranked in advised.ranking] == ["alpha", "bravo"]
        assert [ranked.propensity for ranked in advised.ranking] == [1.0, 0.0]
        assert (advised.exploring, advised.runner_up, advised.runner_up_needs) == (False, "bravo", None)
    again = worker.advise(request(99, previous_failures=[PreviousFailure(gateway="alpha")]), NOW)
    assert [ranked.gateway for ranked in again.ranking] == ["bravo", "alpha"]


def test_the_later_of_two_overrides_holds_in_whatever_order_they_come() -> None:
    """Two operators at the same moment: the one that began later decides."""
    worker = knowing(advisor())
    first = override("alpha").override
    second = msgspec.structs.replace(first, override_id="ovr_2", order=["bravo"], starts_at=NOW + timedelta(seconds=1))
    tell(worker, RoutingOverridden(override=second), RoutingOverridden(override=first))
    assert worker.advise(request(1), NOW).ranking[0].gateway == "bravo"


def leaning(gateway: str) -> Reliability:
    """A model in which one gateway is much better for payments from India."""
    columns = 1 + 2 * len(FIELDS)
    codes: list[dict[str, float]] = [{} for _ in range(columns)]
    place = next(n for n, name in enumerate(columns_of(gateway, Traits("", "", "", "IN", "", "", 0)))
                 if name == f"{gateway}|IN")  # fmt: skip
    codes[place][f"{gateway}|IN"] = 1.0
    trees = Trees(roots=[0], feature=[place, -1, -1], threshold=[0.5, 0.0, 0.0], left=[1, 0, 0], right=[2, 0, 0],
                  value=[0.0, 0.0, 2.0], depth=1)  # fmt: skip
    cells = [Cell(name, "card", "harbour_bank", None, 400.0, 320.0) for name in ("alpha", "bravo")]
    return Reliability(ReliabilityModel(cells=cells, codes=codes, others=[0.0] * columns, trees=trees), version=3)


def test_the_reliability_model_moves_what_is_expected_of_the_payments_it_knows() -> None:
    """Alpha for India, nobody for others; the decision names the version of the model, and why."""
    worker = advisor()
    assert worker.advise(request(1), NOW).model_version is None
    worker.serve(leaning("alpha"))
    inside, outside = worker.advise(request(2), NOW), worker.advise(request(3, country="DE"), NOW)
    assert inside.model_version == outside.model_version == 3
    by_name = {ranked.gateway: ranked for ranked in inside.ranking}
    assert by_name["alpha"].expected_success > by_name["bravo"].expected_success + 0.1
    assert "country, amount and card range" in by_name["alpha"].reason
    assert all("country, amount" not in ranked.reason for ranked in outside.ranking)
    worker.serve(None)
    assert worker.advise(request(4), NOW).model_version is None


def test_a_router_starts_from_the_rates_of_its_model() -> None:
    """Without any recent payments it expects what the model's weeks say; recent ones soon outweigh it."""
    worker = advisor()
    start(worker, reliability=leaning("alpha"))
    assert expected(worker, "bravo", request(9, country="DE")) == pytest.approx(0.8, abs=0.03)
    minutes = [EvidenceMinute(NOW.timestamp() - 600, "bravo", "card", "harbour_bank", 30, 470)]
    start(worker, minutes=minutes, reliability=leaning("alpha"))
    assert expected(worker, "bravo", request(10, country="DE")) < 0.25


def test_an_override_is_held_and_dropped_as_the_store_says_although_nobody_told() -> None:
    """What was heard after the store was asked is newer than its answer."""
    worker = knowing(advisor())
    order = override("alpha")
    worker.heed_override(order.override, 0, NOW)
    assert worker.advise(request(1), NOW).policy == "override"
    tell(worker, order)
    worker.heed_override(None, 0, NOW)  # asked before the override was heard: an old answer
    assert worker.advise(request(2), NOW).policy == "override"
    worker.heed_override(None, worker.overrides_heard, NOW)
    assert worker.advise(request(3), NOW).policy != "override"
    heard = worker.overrides_heard
    tell(worker, order)
    tell(worker, RoutingReleased(override_id="ovr_1", released_at=NOW, who="ada", reason="done"))
    worker.heed_override(order.override, heard, NOW)  # read while it was in force, and released since
    assert worker.advise(request(4), NOW).policy != "override"


def test_a_rule_decides_instead_of_the_policy_and_outside_of_experiments() -> None:
    """The decision names it, no arm is charged with it, and what it leaves out says so."""
    worker = knowing(advisor())
    tell(worker, PUBLISHED)
    worker.put_rules_in_force(
        RuleSet(
            rules=[
                Rule(name="small_first_to_alpha", when=Condition(amount_minor_max=1_000), order=["alpha", "bravo"]),
                Rule(name="large_not_bravo", when=Condition(amount_minor_min=90_000), never=["bravo"]),
            ]
        ),
        {},
        NOW,
    )
    small = worker.advise(request(1, amount_minor=900), NOW)
    assert [ranked.gateway for ranked in small.ranking] == ["alpha", "bravo"]
    assert (small.policy, small.rule, small.arm) == ("rules", "small_first_to_alpha", None)
    assert small.policy_version is not None
    assert small.policy_version.startswith("rules-")
    assert small.reason.startswith("rule 'small_first_to_alpha' orders such payments; alpha: ")
    large = worker.advise(request(2, amount_minor=90_000), NOW)
    assert [ranked.gateway for ranked in large.ranking] == ["alpha"]
    assert (large.policy, large.rule) == ("adaptive", None)
    assert large.arm is not None
    excluded = {each.gateway: each.reason for each in large.excluded}
    assert excluded["bravo"] == "is not for such payments by rule 'large_not_bravo'"
    tell(worker, override("bravo"))
    assert worker.advise(request(3, amount_minor=900), NOW).ranking[0].gateway == "bravo"
    assert [each.gateway for each in worker.advise(request(4, amount_minor=90_000), NOW).ranking] == ["alpha"]


def test_a_gateway_without_3d_secure_takes_no_payment_that_needs_it() -> None:
    """A rule asks what the checkout says of the payment; one that says nothing goes where it went."""
    worker = knowing(advisor())
    rules = [Rule(name="no_3ds_at_bravo", when=Condition(three_ds=True), never=["bravo"])]
    worker.put_rules_in_force(RuleSet(rules=rules), {}, NOW)
    secured = worker.advise(request(1, three_ds=True), NOW)
    assert [ranked.gateway for ranked in secured.ranking] == ["alpha"]
    for number, said in ((2, False), (3, None)):
        assert len(worker.advise(request(number, three_ds=said), NOW).ranking) == 2


def test_a_promised_gateway_gets_what_it_still_needs() -> None:
    """Counted from what the store says, and from every first attempt that is recorded since."""
    worker = knowing(advisor())
    rules = RuleSet(commitments=[Commitment(gateway="alpha", payments=1_000, per="day")])
    worker.put_rules_in_force(rules, {"day": {"bravo": 1_000}}, NOW)
    owing = first_choices(worker, 400)
    assert 150 < owing.count("alpha") < 260  # at noon: as many are to come as there were, half of them at most
    recorded = attempts("succeeded", "alpha", 800) + attempts("failed", "alpha", 200)
    tell(worker, batch(recorded, "batch_kept"))
    kept = [worker.advise(request(n), NOW + timedelta(seconds=2)).ranking[0].gateway for n in range(9000, 9100)]
    assert kept.count("alpha") <= 5


def test_no_rules_change_nothing() -> None:
    """The same payments get the same answers as from a router that never heard of rules."""
    one, other = knowing(advisor(3)), knowing(advisor(3))
    other.put_rules_in_force(RuleSet(), {}, NOW)
    for number in range(100):
        assert one.advise(request(number), NOW).ranking == other.advise(request(number), NOW).ranking


def second_tries(failed: str, gateway: str, succeeded: int, lost: int, start: int) -> list[RecordedAttempt]:
    """Orders that failed at one gateway and were tried again at another."""
    told = []
    for number in range(start, start + succeeded + lost):
        (first,) = attempts("failed", failed, 1, order_id=f"ord_{number}")
        (again,) = attempts("succeeded" if number < start + succeeded else "failed", gateway, 1,
                            order_id=f"ord_{number}", attempt_number=2)  # fmt: skip
        told += [msgspec.structs.replace(first, attempt_id=f"one_{number}"),
                 msgspec.structs.replace(again, attempt_id=f"two_{number}")]  # fmt: skip
    return told


def test_the_fallback_is_chosen_for_the_case_that_the_first_one_fails() -> None:
    """What fails at alpha fails at bravo too, but not at delta: delta comes after alpha, also on a retry."""
    terms = GATEWAYS | {"delta": RUPEES}
    worker = RouterAdvisor(terms, SETTINGS, default_policy="adaptive", generator=np.random.default_rng(0))
    for number in range(10):
        known = [*attempts("succeeded", "alpha", 49), *attempts("failed", "alpha", 1)]
        for gateway, good in (("bravo", 46), ("delta", 45)):
            known += [*attempts("succeeded", gateway, good), *attempts("failed", gateway, 50 - good)]
        tell(worker, batch(known, f"batch_{number}"))
    before = worker.advise(request(1), NOW)
    assert [ranked.gateway for ranked in before.ranking] == ["alpha", "bravo", "delta"]
    tell(worker, batch(second_tries("alpha", "bravo", 20, 180, 10_000), "after_1"),
         batch(second_tries("alpha", "delta", 120, 80, 20_000), "after_2"),
         batch(second_tries("charlie", "bravo", 120, 80, 30_000), "after_3"),
         batch(attempts("succeeded", "alpha", 20_000), "after_4"))  # fmt: skip
    after = worker.advise(request(2), NOW)
    assert [ranked.gateway for ranked in after.ranking] == ["alpha", "delta", "bravo"]
    told = PreviousFailure(gateway="alpha")
    retries = [worker.advise(request(n, previous_failures=[told], attempt_number=2), NOW) for n in range(100, 140)]
    assert sum(retry.ranking[0].gateway == "delta" for retry in retries) >= 36


def test_a_router_that_starts_knows_which_gateways_fail_together() -> None:
    """From the newest attempts in the store, as one that heard them; another start adds nothing."""
    heard, started = knowing(advisor()), advisor()
    tries = [*second_tries("alpha", "bravo", 20, 180, 10_000), *second_tries("charlie", "bravo", 120, 80, 30_000)]
    tell(heard, batch(tries, "after_1"))
    for _ in range(2):
        start(started, newest=tries)
    shifts = [worker._knows.later.fallbacks.shift("alpha", "bravo", NOW.timestamp()) for worker in (heard, started)]
    assert shifts[0] < -1
    assert shifts[1] == pytest.approx(shifts[0])


def test_a_correction_takes_a_second_try_back() -> None:
    """A second attempt that turned out well counts as that, once."""
    worker = knowing(advisor())
    tries = second_tries("alpha", "bravo", 0, 60, 10_000)
    tell(worker, batch(tries, "after_1"))
    lost = worker._knows.later.fallbacks.shift("alpha", "bravo", NOW.timestamp())
    again = [msgspec.structs.replace(one, status="succeeded", status_previous="failed")
             for one in tries if one.attempt_number == 2]  # fmt: skip
    tell(worker, batch(again, "after_2"))
    pair = worker._knows.later.fallbacks._pairs["alpha", "bravo"]
    assert (round(pair.payments), round(pair.succeeded)) == (60, 60)
    assert lost == 0.0  # after any failure bravo did no better, so nothing is known of alpha in particular


@pytest.mark.parametrize(
    "changes",
    [
        {"order_id": "ord_other"},
        {"method": "upi"},
        {"amount_minor": 50_001},
        {"currency": "EUR"},
        {"issuer": "kite_bank"},
        {"network": "visa"},
        {"country": "DE"},
        {"bin": "411111"},
        {"customer_id": "cus_1"},
        {"attempt_number": 2},
        {"candidates": ["alpha"]},
        {"previous_failures": [PreviousFailure(gateway="alpha")]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_id_that_was_another_requests_is_refused(changes: dict[str, object]) -> None:
    """The old decision may name gateways that do not take the new payment; so the checkout is told what to mend."""
    worker = advisor()
    advised = worker.advise(request(1), NOW)
    with pytest.raises(MessageMalformed, match=rf"\$\.request_id: .* another {next(iter(changes))} before"):
        worker.advise(request(1, **changes), NOW)
    assert worker.advise(request(1), NOW) is advised


def test_a_request_that_is_sent_again_may_be_asked_otherwise_but_not_for_something_else() -> None:
    """Later, with less time, with candidates in another order, and with more known of its failures."""
    told = PreviousFailure(gateway="alpha")
    asked = request(1, candidates=["alpha", "bravo"], previous_failures=[told], attempt_number=2)
    again = msgspec.structs.replace(
        asked,
        requested_at=NOW + timedelta(seconds=1),
        deadline_ms=50,
        candidates=["bravo", "alpha"],
        previous_failures=[msgspec.structs.replace(told, failure_code="91", failure_message="SWITCH DOWN")],
    )
    worker = advisor()
    assert worker.advise(again, NOW) is worker.advise(asked, NOW)


def test_a_report_from_a_clock_ahead_does_not_end_an_override() -> None:
    """Whoever is asked about another moment, what holds now is not changed by it."""
    worker = knowing(advisor())
    tell(worker, override("alpha", minutes=10))
    ahead = attempts("failed", "bravo", 1, attempted_at=NOW + timedelta(minutes=10), decision_id="dec_1")
    tell(worker, batch(ahead, "batch_ahead"))
    assert worker.advise(request(1), NOW).policy == "override"
    assert worker.advise(request(1), NOW).ranking[0].gateway == "alpha"


def test_what_was_routed_before_an_override_teaches_its_arm_alone() -> None:
    """Its outcome comes when the override holds already; the experiment must not be blurred by that."""
    worker = knowing(advisor())
    tell(worker, PUBLISHED)
    number = order_in("treatment", worker)
    tell(worker, override("alpha"))
    before = attempts("failed", "bravo", 1, attempted_at=NOW - timedelta(minutes=5), decision_id="dec_1",
                      order_id=f"ord_{number}")  # fmt: skip
    assert worker._arm_taught(before[0]) is not None
    assert worker._arm_taught(msgspec.structs.replace(before[0], attempted_at=NOW)) is None


def test_pauses_that_nobody_told_of_are_heeded_and_newer_word_stands() -> None:
    """The store is asked now and then; what was heard while it was asked is newer than its answer."""
    worker = knowing(advisor())
    pause = GatewayPause(pause_id="pau_1", gateway="bravo", kind="pause", starts_at=NOW, ends_at=None, who="olga",
                         reason="incident 7")  # fmt: skip
    worker.heed_pauses([pause], worker.pauses_heard)
    assert set(first_choices(worker)) == {"alpha"}
    before = worker.pauses_heard
    tell(worker, GatewayResumed(pause_id="pau_1", gateway="bravo", resumed_at=NOW, who="olga", reason=""))
    worker.heed_pauses([pause], before)
    assert worker.advise(request(9_999), NOW).ranking[0].gateway == "bravo"
    worker.heed_pauses([], worker.pauses_heard)
    assert worker.advise(request(9_998), NOW).ranking[0].gateway == "bravo"


@pytest.mark.parametrize("in_experiment", [False, True])
def test_a_retry_is_expected_to_succeed_as_retries_do(in_experiment: bool) -> None:
    """Second attempts succeed in half of the cases here, wherever; the answer says so, and why. Also where all payments
    are in an experiment, so that only its arms ever learn."""
    worker = advisor()
    if in_experiment:
        tell(worker, PUBLISHED)
    for number in range(400 if in_experiment else 0):
        told = [*attempts("succeeded", "bravo", 39), *attempts("failed", "bravo", 1)]
        tell(worker, batch([msgspec.structs.replace(each, order_id=f"ord_{number}", decision_id=f"dec_{number}")
                            for each in told], f"batch_{number}"))  # fmt: skip
    if not in_experiment:
        knowing(worker)
    tell(worker, batch(second_tries("charlie", "bravo", 300, 300, 10_000), "after_1"))
    told = PreviousFailure(gateway="charlie")
    retry = worker.advise(request(1, previous_failures=[told], attempt_number=2), NOW)
    first = worker.advise(request(2), NOW)
    by_name = [{each.gateway: each for each in advised.ranking} for advised in (first, retry)]
    assert by_name[0]["bravo"].expected_success > 0.9
    assert by_name[1]["bravo"].expected_success == pytest.approx(0.5, abs=0.05)
    assert "its earlier failures make -" in by_name[1]["bravo"].reason
    assert "country" not in by_name[1]["bravo"].reason
