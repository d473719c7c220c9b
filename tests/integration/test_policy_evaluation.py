"""Policies judged on decisions and attempts in a real store: the command, the page and the REST operation."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.commands.policy import _show
from messaging.contracts import RankedGateway, RecordedAttempt, RouteAdvised, RouteRequested
from ml.experiments.intervals import Interval
from ml.routing.evaluation.candidate import Candidate
from ml.routing.evaluation.estimators import Estimates, Refused
from ml.routing.evaluation.evaluation import Evaluation
from ml.routing.evaluation.money import CurrencyValue, ValueEstimates
from ml.routing.policies import PolicySettings
from ml.routing.rules import Rule, RuleSet
from ml.routing.worth import Fees
from storage.attempts import AttemptChange, AttemptState, ReportEntry, record_changes
from storage.database import Database
from storage.decisions import write_decisions
from storage.models import TrainedModel, add_candidate, promote
from storage.read_models.judged_policy import Books, JudgedLog, JudgedTime, judge_stored
from storage.read_models.logged_decisions import read_decision_log
from storage.routing_rules import keep_rules
from tests.integration.test_commands import ipa
from tests.integration.test_web import Web, database_of, operator, stranger  # noqa: F401  fixtures

RATES = {"alpha": 0.95, "bravo": 0.85}
DECISIONS = 2_600


async def fill(database: Database, now: datetime) -> dict[str, list[bool]]:
    """Evenly dealt out decisions; some not followed, pending, or on a later attempt. Returns: outcomes by gateway."""
    stream, won = random.Random(5), {name: [] for name in RATES}
    decided, changes = [], []
    for number in range(DECISIONS):
        at = now - timedelta(seconds=DECISIONS - number)
        first, second = stream.sample(sorted(RATES), 2)
        ranking = [
            RankedGateway(
                gateway=name, expected_success=0.9, success_low=0.8, success_high=1.0, propensity=0.5, reason=""
            )
            for name in (first, second)
        ]
        order = f"ord_{number}"
        asked = RouteRequested(
            request_id=f"req_{number}", order_id=order, requested_at=at, method="card", amount_minor=100_000,
            currency="INR", attempt_number=2 if number % 100 == 1 else 1,
        )  # fmt: skip
        told = RouteAdvised(
            decision_id=f"dec_{number}", request_id=asked.request_id, order_id=order, advised_at=at,
            ranking=ranking, policy="uniform", reason="",
        )  # fmt: skip
        decided.append((asked, told))
        if number % 100 == 2:
            continue  # nobody paid
        paid = stream.random() < RATES[first]
        status = "pending" if number % 100 == 3 else "succeeded" if paid else "failed"
        attempt = RecordedAttempt(
            attempt_id=f"att_{number}", order_id=order, gateway=second if number % 100 == 4 else first, method="card",
            issuer="harbour_bank", status=status, amount_minor=100_000, currency="INR", attempted_at=at, occurred_at=at,
            decision_id=told.decision_id,
        )  # fmt: skip
        entry = ReportEntry(event_id=f"evt_{number}", status=status, occurred_at=at, received_at=now)
        changes.append(AttemptChange(before=None, after=AttemptState(attempt=attempt, history=(entry,), revision=1)))
        if number % 100 not in (1, 3, 4):
            won[first].append(paid)
    await write_decisions(database, decided)
    await record_changes(database, changes, [], now=now, slot=0)
    return won


async def test_a_policy_is_judged_on_what_is_stored(
    database: Database, amqp_url: str, mongo_url: str, tmp_path: Path
) -> None:
    """A fixed gateway gets the rate of the payments that went there; what cannot be used is counted with its reason."""
    now = datetime.now(UTC).replace(microsecond=0)
    won = await fill(database, now)
    log = await read_decision_log(database, now - timedelta(days=1), now + timedelta(days=1))
    assert log.complete
    assert len(log.decisions) == DECISIONS - 3 * DECISIONS // 100
    assert set(log.left_out.values()) == {DECISIONS // 100}
    assert len(log.left_out) == 3
    assert sum(each.succeeded is None for each in log.decisions) == DECISIONS // 100
    few = await read_decision_log(database, now - timedelta(days=1), now + timedelta(days=1), limit=100)
    assert not few.complete
    assert few.decisions[-1] == log.decisions[-1]

    file = tmp_path / "candidate.yaml"
    file.write_text("policy: fixed_order\nparameters:\n  order: [alpha, bravo]\n", encoding="utf-8")
    here = {"IPA_MONGO_URL": mongo_url, "IPA_STORE__DATABASE": database.name}
    done = ipa(amqp_url, "policy", "evaluate", str(file), "--json", **here)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["evaluation"]
    assert found["result"]["snips"]["estimate"] == pytest.approx(sum(won["alpha"]) / len(won["alpha"]))
    assert found["result"]["gain"]["low"] > 0
    shown = ipa(amqp_url, "policy", "evaluate", str(file), **here)
    assert "left out: 26 (no attempt followed)" in shown.stdout
    assert "no version is known to have served when this time began" in shown.stdout
    priced = ipa(amqp_url, "policy", "evaluate", str(file), IPA_ROUTING__MARGIN_SHARE="0.5", **here)
    assert "value of 1,000 payments: 50.0% of what is paid, less fees" in priced.stdout
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: to_alpha, order: [alpha]}\n", encoding="utf-8")
    ruled = ipa(amqp_url, "policy", "evaluate", str(rules), **here)
    assert ruled.returncode == 0, ruled.stderr
    assert "by the rules decided by to_alpha" in ruled.stdout
    rules.write_text("rules:\n  - {name: to_nobody, order: [alfa]}\n", encoding="utf-8")
    mistaken = ipa(amqp_url, "policy", "evaluate", str(rules), **here)
    assert f"{rules}:2" in mistaken.stderr
    none = ipa(amqp_url, "policy", "evaluate", str(file), "--since", "5m", **here)
    assert none.returncode == 3
    assert "no answer" in none.stdout
    for parameters, line, problem in (
        ("exploration_floor: 5", 3, "exploration_floor takes a number from 0 to 1"),
        ("canary_share: 0.1\n  draws: -3", 4, "draws takes a whole number from 16 to 4096"),
        ("order: [alpha, bravoo]", 3, "there is no gateway 'bravoo'; known are "),
        ("order: []", 3, "a fixed order needs gateways"),
    ):
        policy = "fixed_order" if "order" in parameters else "adaptive"
        file.write_text(f"policy: {policy}\nparameters:\n  {parameters}\n", encoding="utf-8")
        wrong = ipa(amqp_url, "policy", "evaluate", str(file), **here)
        assert wrong.returncode == 78, parameters
        assert f"{file}:{line}: " in wrong.stderr
        assert problem in wrong.stderr
    file.write_text("policy: fixed_order\n", encoding="utf-8")
    wrong = ipa(amqp_url, "policy", "evaluate", str(file), **here)
    assert (wrong.returncode, f"{file}:1: " in wrong.stderr) == (78, True)
    file.write_text("policy: clever\n", encoding="utf-8")
    wrong = ipa(amqp_url, "policy", "evaluate", str(file), **here)
    assert wrong.returncode == 78
    assert f"{file}:1" in wrong.stderr
    assert "known are" in wrong.stderr


async def test_the_page_and_rest_say_the_same(operator: Web) -> None:  # noqa: F811
    """Page and REST give the stored outcomes' rate, refuse what they do not know, and say when there is too little."""
    won = await fill(database_of(operator), datetime.now(UTC).replace(microsecond=0))
    asked = {"policy": "fixed_order", "order": "alpha", "days": "1"}
    answer = await operator.get("/api/v1/policy-evaluation", params=asked)
    assert answer.status == 200, await answer.text()
    result = (await answer.json())["evaluation"]["result"]
    rate = sum(won["alpha"]) / len(won["alpha"])
    assert result["snips"]["estimate"] == pytest.approx(rate)
    page = await (await operator.get("/policies", params=asked)).text()
    assert f"{100 * rate:.2f}" in page
    assert "no attempt followed" in page
    assert "better" in page
    assert "In money" not in page
    priced = await operator.get("/api/v1/policy-evaluation", params=asked | {"margin_share": "0.5"})
    (inr,) = (await priced.json())["evaluation"]["money"]
    assert (inr["currency"], inr["result"]["gain"]["low"] > 0) == ("INR", True)
    page = await (await operator.get("/policies", params=asked | {"margin": "50 %"})).text()
    assert "In money" in page
    assert "No version of the reliability model is known to have served when this time began" in page
    assert (await operator.get("/policies", params=asked | {"margin": "much"})).status == 400
    unknown = await operator.get("/api/v1/policy-evaluation", params={"policy": "clever"})
    assert (unknown.status, unknown.content_type) == (400, "application/problem+json")
    for policy, order in (("adaptive", ["alpha", "nobody"]), ("fixed_order", ["nobody"]), ("fixed_order", [])):
        said = [("policy", policy), *(("order", name) for name in order)]
        answer = await operator.get("/api/v1/policy-evaluation", params=said)
        assert (answer.status, (await answer.json())["title"]) == (400, "Bad order")
    for wrong in ({"policy": "clever"}, {"policy": "fixed_order", "order": "alpha, nobody"}):
        answer = await operator.get("/policies", params=wrong)
        assert answer.status == 400
        assert "known are" in await answer.text()


async def judge(database: Database, now: datetime, candidate: Candidate, **changed: Any) -> JudgedLog:
    """Judge a candidate on the last day, with fees of nobody and no margin unless ``books`` says another."""
    time = JudgedTime(since=now - timedelta(days=1), until=now + timedelta(days=1))
    books = changed.pop("books", Books(fees={}))
    return await judge_stored(database, candidate, books, time, **changed)


async def test_what_an_operator_overrode_is_left_out(database: Database) -> None:
    """A short override is told and costs no answer; what its payments became is learned from all the same."""
    now = datetime.now(UTC).replace(microsecond=0)
    await fill(database, now)
    overridden = [f"dec_{number}" for number in range(10, DECISIONS, 25)]
    always = Candidate(policy="fixed_order", parameters={"order": ["bravo"]})
    as_it_was = await judge(database, now, always)
    sure = {"advice.policy": "override", "advice.ranking.0.propensity": 1.0, "advice.ranking.1.propensity": 0.0}
    await database["decisions"].update_many({"_id": {"$in": overridden}}, {"$set": sure})
    found = await judge(database, now, always)
    assert found.left_out == as_it_was.left_out | {"decided by an operator's override": len(overridden)}
    assert isinstance(found.evaluation.result, Estimates)
    assert found.evaluation.result.unsupported == 0.0
    assert found.evaluation.result.decisions == as_it_was.evaluation.result.decisions - len(overridden)
    log = await read_decision_log(database, now - timedelta(days=1), now + timedelta(days=1))
    assert sum(each.by_operator for each in log.decisions) == len(overridden)


async def test_a_candidate_is_judged_under_the_rules_in_force(
    operator: Web,  # noqa: F811
    amqp_url: str, mongo_url: str, tmp_path: Path,
) -> None:  # fmt: skip
    """Command, page and REST give it those that routers wrote last, and say which; with none known they say that."""
    database, now = database_of(operator), datetime.now(UTC).replace(microsecond=0)
    won = await fill(database, now)
    file = tmp_path / "candidate.yaml"
    file.write_text("policy: uniform\nparameters: {boldness: 0.5}\nrules_in_force: true\n", encoding="utf-8")
    here = {"IPA_MONGO_URL": mongo_url, "IPA_STORE__DATABASE": database.name}
    asked = {"policy": "uniform", "days": "1"}
    without = ipa(amqp_url, "policy", "evaluate", str(file), **here)
    assert without.returncode == 0, without.stderr
    assert "judged without rules, because those in force are not known" in without.stdout
    assert "judged without any" in await (await operator.get("/policies", params=asked | {"rules": "in_force"})).text()

    for at, gateway in ((now - timedelta(hours=2), "alpha"), (now - timedelta(hours=1), "bravo")):
        rules = RuleSet(rules=[Rule(name=f"to_{gateway}", order=[gateway])])
        await keep_rules(database, rules, at)
    rate = pytest.approx(sum(won["bravo"]) / len(won["bravo"]))
    found = await judge(database, now, Candidate(policy="uniform", rules_in_force=True))
    assert (found.rules_version, found.rules_problem) == (rules.version, None)
    assert found.by_rule.keys() == {"decided by to_bravo"}
    assert found.evaluation.first_choices["bravo"] == 1.0
    told = ipa(amqp_url, "policy", "evaluate", str(file), **here)
    assert f"judged under the rules in force, {rules.version}" in told.stdout
    assert "by the rules decided by to_bravo" in told.stdout
    page = await (await operator.get("/policies", params=asked | {"rules": "in_force"})).text()
    assert rules.version in page
    assert "decided by to_bravo" in page
    assert '<option value="in_force" selected>' in page
    answer = await operator.get("/api/v1/policy-evaluation", params=asked | {"rules_in_force": "true"})
    said = await answer.json()
    assert (answer.status, said["rules_version"]) == (200, rules.version)
    assert said["evaluation"]["result"]["snips"]["estimate"] == rate
    free = await (await operator.get("/api/v1/policy-evaluation", params=asked)).json()
    assert (free["rules_version"], free["by_rule"]) == (None, {})
    assert rules.version not in await (await operator.get("/policies", params=asked)).text()

    file.write_text("policy: uniform\nrules: [{name: a, order: [alpha]}]\nrules_in_force: true\n", encoding="utf-8")
    both = ipa(amqp_url, "policy", "evaluate", str(file), **here)
    assert both.returncode == 78
    assert f"{file}:3: a candidate has the rules in force or rules of its own; take one of the two out" in both.stderr


async def test_only_what_was_to_be_judged_is_left_out(database: Database) -> None:
    """Decisions of the time that only teaches are not counted as left out."""
    now = datetime.now(UTC).replace(microsecond=0)
    await fill(database, now)
    half = JudgedTime(since=now - timedelta(seconds=DECISIONS // 2), until=now, taught=timedelta(days=1))
    found = await judge_stored(database, Candidate(policy="uniform"), Books(fees={}), half)
    assert found.evaluation.taught > 1_000
    assert set(found.left_out.values()) == {DECISIONS // 200}


async def test_payments_of_one_customer_have_one_unit(database: Database) -> None:
    """What is read knows the customer; where none is known, the order."""
    now = datetime.now(UTC).replace(microsecond=0)
    await fill(database, now)
    await database["decisions"].update_one({"_id": "dec_10"}, {"$set": {"request.customer_id": "cus_1"}})
    log = await read_decision_log(database, now - timedelta(days=1), now + timedelta(days=1))
    units = {each.unit for each in log.decisions}
    assert len(units) == len(log.decisions)
    assert {"cus_1", "ord_11"} <= units
    assert "ord_10" not in units


async def test_a_candidate_goes_by_the_margin_of_the_settings(database: Database) -> None:
    """As in the router: one that names no margin has that of the settings, and minds the fees; its own comes first."""
    now = datetime.now(UTC).replace(microsecond=0)
    await fill(database, now)
    fees = {"alpha": Fees(bps_success=400)}
    by_success = await judge(database, now, Candidate(), books=Books(fees=fees))
    by_value = await judge(database, now, Candidate(), books=Books(fees=fees, router=PolicySettings(margin_share=0.05)))
    own = Candidate(parameters={"margin_share": 1.0})
    by_its_own = await judge(database, now, own, books=Books(fees=fees, router=PolicySettings(margin_share=0.05)))
    assert [each.margin_share for each in (by_success, by_value, by_its_own)] == [None, 0.05, 1.0]
    firsts = [each.evaluation.first_choices["alpha"] for each in (by_success, by_value, by_its_own)]
    assert (firsts[0] > 0.5, firsts[1] < 0.5, firsts[2] > 0.5) == (True, True, True), firsts


@pytest.mark.parametrize(("body", "stored", "problem"), [
    (b"{}", b"{}", "no stored reliability model"), (b"{}", b"{ }", "checksum"),
])  # fmt: skip
async def test_a_model_that_cannot_be_read_stops_nothing(
    operator: Web,  # noqa: F811
    amqp_url: str, mongo_url: str, tmp_path: Path, body: bytes, stored: bytes, problem: str,
) -> None:  # fmt: skip
    """The candidate is judged without it; the answer, the page and the command say so."""
    database, now = database_of(operator), datetime.now(UTC).replace(microsecond=0)
    await fill(database, now)
    long_ago = now - timedelta(days=40)
    model = TrainedModel(kind="reliability", body=body, format="json", window_from=long_ago, window_to=long_ago,
                         metrics={}, better=True)  # fmt: skip
    await add_candidate(database, model, long_ago)
    await promote(database, "reliability", 1, reason="so", now=long_ago)
    await database["models"].update_one({"_id": "reliability:1"}, {"$set": {"body": stored}})
    found = await judge(database, now, Candidate(policy="uniform"))
    assert found.reliability_version is None
    assert problem in (found.reliability_problem or "")
    asked = {"policy": "fixed_order", "order": "alpha", "days": "1"}
    page = await operator.get("/policies", params=asked)
    assert page.status == 200
    text = await page.text()
    assert "cannot be read" in text
    assert problem in text
    file = tmp_path / "candidate.yaml"
    file.write_text("policy: uniform\n", encoding="utf-8")
    here = {"IPA_MONGO_URL": mongo_url, "IPA_STORE__DATABASE": database.name}
    shown = ipa(amqp_url, "policy", "evaluate", str(file), **here)
    assert shown.returncode == 0, shown.stderr
    assert "cannot be read" in shown.stdout
    assert problem in shown.stdout


async def test_a_log_that_is_too_long_says_where_it_begins(database: Database) -> None:
    """Where not all decisions are read, the oldest judged one is told, and the model is the one that served then."""
    now = datetime.now(UTC).replace(microsecond=0)
    await fill(database, now)
    whole = await judge(database, now, Candidate(policy="uniform"))
    assert whole.complete
    assert whole.oldest == now - timedelta(seconds=DECISIONS)
    late = TrainedModel(kind="reliability", body=b"{}", format="json", window_from=now, window_to=now,
                        metrics={}, better=True)  # fmt: skip
    await add_candidate(database, late, now)
    await promote(database, "reliability", 1, reason="so", now=now - timedelta(seconds=2_000))
    part = await judge(database, now, Candidate(policy="uniform"), limit=1_500)
    assert not part.complete
    assert part.oldest is not None
    assert part.oldest >= now - timedelta(seconds=1_500)
    assert part.reliability_problem is not None  # it served by then, and cannot be read
    assert (await judge(database, now, Candidate(policy="uniform"))).reliability_problem is None


async def test_page_and_command_tell_what_is_not_looked_at(
    operator: Web,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the log was too long, where it begins; currencies beyond the first; and money of 1,000 payments."""
    value = ValueEstimates(
        decisions=2_000, effective=1_500.0, candidate=Interval(123.0, 121.0, 125.0),
        observed=Interval(120.0, 119.0, 121.0), gain=Interval(3.0, -0.0001, 6.0),
    )  # fmt: skip
    evaluation = Evaluation(
        result=Refused(why="too little", decisions=2_000, effective=9.0, unsupported=0.0), if_unknown=None, unknown=0,
        taught=0, segments=[], money=[CurrencyValue(currency="EUR", result=value)], currencies_left_out=2,
        first_choices={}, logged_choices={},
    )  # fmt: skip
    since, oldest = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 5, 14, 30, tzinfo=UTC)
    judged = JudgedLog(
        since=since, oldest=oldest, complete=False, left_out={}, evaluation=evaluation, margin_share=0.1
    )  # fmt: skip

    async def judge(*_: object) -> JudgedLog:
        return judged

    monkeypatch.setattr("web.evaluating.Evaluator.judge", judge)
    page = await (await operator.get("/policies", params={"policy": "uniform"})).text()
    begins = page.partition("the judged ones begin at")[2][:200]
    assert "2026-03-05T14:30" in begins
    assert "2 more currencies with fewer payments are left out" in page
    assert "of 1,000 payments" in page
    assert "EUR 1,230.00" in page
    assert "EUR 1,200.00" in page
    assert "EUR -0.00" not in page
    monkeypatch.setenv("COLUMNS", "300")
    _show(judged)
    told = capsys.readouterr().out
    assert "these are the newest, from 2026-03-05 14:30 UTC on" in told
    assert "currencies left out, with fewer payments than these: 2" in told
    assert "EUR 1,230.00 (EUR 1,210.00 to EUR 1,250.00)" in told
    assert "EUR 1,200.00 (" in told


async def test_too_few_decisions_are_no_answer(operator: Web) -> None:  # noqa: F811
    """On an empty store the page says that there is not enough data, with no figure."""
    page = await (await operator.get("/policies", params={"policy": "best_fixed"})).text()
    assert "not enough data yet" in page
    assert "What happened" not in page


async def test_one_evaluation_at_a_time(operator: Web) -> None:  # noqa: F811
    """Who asks while another one is under way is told so, and the first gets its answer."""
    await fill(database_of(operator), datetime.now(UTC).replace(microsecond=0))
    asked = [operator.get("/policies", params={"policy": name}) for name in ("adaptive", "uniform")]
    statuses = [answer.status for answer in await asyncio.gather(*asked)]
    assert sorted(statuses) == [200, 409]
