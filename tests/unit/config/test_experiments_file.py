"""The experiments file: every mistake with its line, versions by content, and a watch that keeps the last good one."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from actors.experiments_file import ExperimentsFile, experiments_schema, read_experiments
from config.errors import ConfigError
from config.gateways import Gateway
from messaging.contracts import ExperimentsDefined
from ml.experiments.design import Arm, Experiment, Guardrail, Holdout, Layer, RampStep

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POLICIES = ("adaptive", "best_fixed", "uniform")
SHIPPED = Path(__file__).parents[3] / "config/experiments.yaml"
GOOD = """\
# A comment on line 1.
experiments:
  - name: checkout-q4
    seed: first
    coverage: 0.5
    arms:
      - {name: learner, policy: adaptive, weight: 0.5}
      - {name: control, policy: uniform, weight: 0.5}
  - name: upi
    seed: second
    methods: [upi]
    arms:
      - name: learner
        policy: adaptive
        weight: 0.9
      - name: control
        policy: best_fixed
        weight: 0.1
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good experiments file."""
    file = tmp_path / "experiments.yaml"
    file.write_text(GOOD)
    return file


def read(path: Path) -> ExperimentsDefined:
    """Read with the policies that exist."""
    return read_experiments(path, NOW, policies=POLICIES, default_policy="adaptive")


def write(path: Path, text: str, second: int) -> None:
    """Write a file that was changed at its own second, however fast the test is."""
    path.write_text(text)
    os.utime(path, (second, second))


def test_good_file_is_read(path: Path) -> None:
    """Names, arms and defaults arrive as they stand in the file, in its order."""
    defined = read(path)
    assert [(each.name, each.coverage, each.methods, each.enabled) for each in defined.experiments] == [
        ("checkout-q4", 0.5, [], True),
        ("upi", 1.0, ["upi"], True),
    ]
    assert (defined.source, defined.defined_at, defined.default_policy) == ("experiments.yaml", NOW, "adaptive")


def test_shipped_file_is_good() -> None:
    """The demo compares learning with an equal split: nine tenths learn, one tenth is the control."""
    (experiment,) = read(SHIPPED).experiments
    assert experiment.enabled
    assert [(arm.name, arm.policy, arm.weight) for arm in experiment.arms] == [
        ("adaptive", "adaptive", 0.9),
        ("control", "uniform", 0.1),
    ]


def test_version_names_the_content(path: Path) -> None:
    """Comments and layout keep the version; any other change, also of the default policy, makes a new one."""
    before = read(path).version
    path.write_text(GOOD.replace("# A comment on line 1.", "# Another one.\n\n").replace("0.5}", "0.50 }"))
    assert read(path).version == before
    assert len(before) == len("exp_") + 16
    path.write_text(GOOD.replace("seed: first", "seed: third"))
    assert read(path).version != before
    path.write_text(GOOD)
    assert read_experiments(path, NOW, policies=POLICIES, default_policy="uniform").version != before


@pytest.mark.parametrize(
    ("good", "bad", "line", "problem"),
    [
        ("uniform, weight: 0.5", "uniform, weight: 0.4", 6, "arms of 'checkout-q4' add up to 0.9, must be 1"),
        ("weight: 0.1", "weight: 0.1001", 12, "arms of 'upi' add up to 1.0001, must be 1"),
        ("policy: best_fixed", "policy: bestfixed", 17,
         "there is no policy 'bestfixed'; known are adaptive, best_fixed, uniform"),
        ("name: upi", "name: checkout-q4", 9, "experiment 'checkout-q4' stands here twice; rename one"),
        ("seed: second", "seed: first", 10,
         "seed 'first' is already that of 'checkout-q4'; with one seed both would split alike, so give each its own"),
        ("- name: control", "- name: learner", 16, "'upi' has two arms 'learner'; rename one"),
        ("methods: [upi]", "methodes: [upi]", 11,
         "object contains unknown field `methodes` (at $.experiments[1]); did you mean methods?"),
        ("weight: 0.9", "weight: high", 15,
         "expected `float`, got `str` (at $.experiments[1].arms[0].weight); write a number"),
        ("coverage: 0.5", "coverage: 0.0001", 7,
         "arm 'learner' of 'checkout-q4' gets none of the 10000 buckets; raise its weight or the coverage"),
        ("coverage: 0.5", "coverage: 1", 9,
         "experiment 'upi' never gets a payment, 'checkout-q4' above takes them all; lower the coverage of "
         "'checkout-q4', or limit its methods or countries"),
        ("coverage: 0.5", "coverage: 0", 5,
         "expected `float` > 0.0 (at $.experiments[0].coverage); not 0: write a number above 0, at most 1"),
        ("coverage: 0.5", "seed: again", 5, "key '$.experiments[0].seed' stands here a second time; remove one"),
    ],
)  # fmt: skip
def test_mistake_is_said_with_its_line(path: Path, good: str, bad: str, line: int, problem: str) -> None:
    """Whoever made the mistake reads where it is, what it is and how to mend it."""
    assert GOOD.count(good) == 1
    path.write_text(GOOD.replace(good, bad))
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value) == f"{path}:{line}: {problem}"


def test_unknown_default_policy_is_a_mistake(path: Path) -> None:
    """The policy of everybody else must exist, too."""
    with pytest.raises(ConfigError) as caught:
        read_experiments(path, NOW, policies=POLICIES, default_policy="best")
    assert str(caught.value) == (
        "routing.default_policy: there is no policy 'best'; known are adaptive, best_fixed, uniform"
    )


def test_customers_above_leave_payments_for_orders_below(path: Path) -> None:
    """An experiment by customer passes payments without a customer on, so the one below is not shadowed."""
    path.write_text(GOOD.replace("coverage: 0.5", "unit: customer_id"))
    assert len(read(path).experiments) == 2


def test_no_experiments_is_a_good_file(path: Path) -> None:
    """An empty list switches all experiments off."""
    path.write_text("experiments: []\n")
    assert read(path).experiments == []


def test_watch_tells_of_a_file_once(path: Path) -> None:
    """The first look gives the definition; then nothing, also when the file was only touched or got a comment."""
    watch = ExperimentsFile(path, POLICIES, default_policy="adaptive")
    assert watch.poll(NOW) == read(path)
    assert watch.poll(NOW) is None
    os.utime(path, (1, 1))
    assert watch.poll(NOW) is None
    write(path, GOOD + "# comment\n", 2)
    assert watch.poll(NOW) is None


def test_watch_tells_of_a_mistake_once_and_of_the_mended_file(path: Path) -> None:
    """A broken file is reported once per mistake; what was in force stays, and the mended file is told again."""
    watch = ExperimentsFile(path, POLICIES, default_policy="adaptive")
    first = watch.poll(NOW)
    write(path, GOOD.replace("weight: 0.9", "weight: 0.8"), 1)
    mistake = watch.poll(NOW)
    assert isinstance(mistake, ConfigError)
    assert str(mistake) == f"{path}:12: arms of 'upi' add up to 0.9, must be 1"
    assert watch.poll(NOW) is None
    write(path, GOOD.replace("weight: 0.9", "weight: 0.7"), 2)
    assert isinstance(watch.poll(NOW), ConfigError)
    write(path, GOOD, 3)
    assert watch.poll(NOW) == first


def test_watch_tells_of_a_changed_file(path: Path) -> None:
    """A good change is a new definition with a new version."""
    watch = ExperimentsFile(path, POLICIES, default_policy="adaptive")
    first = watch.poll(NOW)
    write(path, GOOD.replace("coverage: 0.5", "coverage: 0.6"), 1)
    second = watch.poll(NOW)
    assert isinstance(first, ExperimentsDefined)
    assert isinstance(second, ExperimentsDefined)
    assert second.version != first.version
    assert second.experiments[0].coverage == 0.6


def test_watch_tells_of_a_missing_file_once(path: Path) -> None:
    """A file that is gone is one mistake, not one per look; when it is back it is told again."""
    watch = ExperimentsFile(path, POLICIES, default_policy="adaptive")
    watch.poll(NOW)
    path.unlink()
    gone = watch.poll(NOW)
    assert isinstance(gone, ConfigError)
    assert str(gone) == f"{path}: there is no such file"
    assert watch.poll(NOW) is None
    write(path, GOOD, 5)
    assert isinstance(watch.poll(NOW), ExperimentsDefined)


MISTAKES = """\
layers:
  - {name: routing, seed: layer-1}
holdout: {seed: held, share: 0.05, policy: uniform}
experiments:
  - name: one
    seed: first
    layer: routing
    slot: [0, 0.5]
    ramp:
      - {coverage: 0.1, hours: 24}
    arms:
      - {name: learner, policy: adaptive, weight: 0.5, parameters: {exploration_floor: 0.1}}
      - {name: control, policy: uniform, weight: 0.5}
  - name: two
    seed: second
    layer: routing
    slot: [0.5, 1]
    unit: order_id
    currencies: [INR]
    guardrails:
      - {metric: cost_minor_per_order, margin: 50}
    arms:
      - {name: learner, policy: adaptive, weight: 0.5}
      - {name: control, policy: uniform, weight: 0.5}
"""


@pytest.mark.parametrize(
    ("good", "bad", "line", "problem"),
    [
        ("slot: [0.5, 1]", "slot: [0.4, 1]", 17,
         "'two' and 'one' overlap in layer 'routing'; experiments of one layer exclude each other, so give them slots "
         "apart"),
        ("slot: [0, 0.5]", "slot: [0.5, 0.5]", 8, "the slot of 'one' is empty; give [from, to], from < to"),
        ("unit: order_id", "unit: customer_id", 18,
         "'two' splits by customer_id and 'one' of the same layer by order_id, so they could share payments; take "
         "another layer"),
        ("{coverage: 0.1,", "{coverage: 1,", 10,
         "the ramp of 'one' must rise, and end below its coverage of 1; this step has 1 and 1 comes after it"),
        ("currencies: [INR]", "currencies: [INR, EUR]", 14,
         "cost_minor_per_order of 'two' adds up amounts, so give it exactly one of currencies, as [INR]"),
        ("exploration_floor: 0.1", "exploration_flor: 0.1", 12,
         "no policy has a parameter 'exploration_flor'; known are draws, exploration_floor, order"),
        ("exploration_floor: 0.1", "exploration_floor: 1.1", 12, "exploration_floor takes a number from 0 to 1"),
        ("exploration_floor: 0.1", "draws: 64.5", 12, "draws takes a whole number from 16 to 4096"),
        ("exploration_floor: 0.1", "order: [alpha, alhpa]", 12, "there is no gateway 'alhpa'; known are alpha, bravo"),
        ("exploration_floor: 0.1", "order: 3", 12, "order takes a list of gateways"),
        ("name: one", "name: holdout", 5, "'holdout' is the name of the permanent control slice; take another"),
        ("seed: second", "seed: held", 15,
         "seed 'held' is already that of 'holdout'; with one seed both would split alike, so give each its own"),
        ("policy: uniform}\nexperiments", "policy: none}\nexperiments", 3,
         "there is no policy 'none'; known are adaptive, best_fixed, uniform"),
        ("metric: cost_minor_per_order", "metric: cost", 21,
         "invalid enum value 'cost' (at $.experiments[1].guardrails[0].metric); known are "
         "attempts_per_order, authorization_rate, cost_minor_per_order, first_attempt_rate, latency_ms, "
         "order_success_rate, revenue_minor_per_order"),
        ("unit: order_id", "stop: 2026-01-01T00:00:00Z\n    start: 2026-01-02T00:00:00Z", 18,
         "'two' stops before it starts; give a later stop"),
        ("unit: order_id", "unit: time_block\n    block_minutes: 50", 19,
         "50 minutes do not divide a day; take 15, 30, 60, 120 …"),
    ],
)  # fmt: skip
def test_mistake_in_the_design_is_said_with_its_line(path: Path, good: str, bad: str, line: int, problem: str) -> None:
    """Layers, ramps, money, parameters, times: what cannot be run or judged is refused before it does harm."""
    known: dict[str, Any] = {
        "policies": POLICIES, "default_policy": "adaptive", "parameters": ("exploration_floor", "order", "draws"),
        "gateways": {name: Gateway(name=name, title=name, methods=["upi"], currencies=["INR"])
                     for name in ("alpha", "bravo")},
    }  # fmt: skip
    path.write_text(MISTAKES)
    assert read_experiments(path, NOW, **known).holdout
    assert MISTAKES.count(good) == 1
    path.write_text(MISTAKES.replace(good, bad))
    with pytest.raises(ConfigError) as caught:
        read_experiments(path, NOW, **known)
    assert str(caught.value) == f"{path}:{line}: {problem}"


def test_a_fixed_order_without_gateways_is_refused(path: Path) -> None:
    """It would deal evenly, which nobody meant who wrote it; the line is told."""
    path.write_text(MISTAKES.replace("policy: adaptive, weight: 0.5, parameters: {exploration_floor: 0.1}",
                                     "policy: fixed_order, weight: 0.5, parameters: {order: []}"))  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        read_experiments(path, NOW, policies=(*POLICIES, "fixed_order"), default_policy="adaptive")
    assert str(caught.value) == f"{path}:12: a fixed order needs gateways; give parameters: {{order: [...]}}"


def test_schema_for_editors_is_the_one_that_the_types_give() -> None:
    """`ipa experiment schema` writes config/experiments.schema.json; a changed field makes this test ask for it."""
    assert (SHIPPED.parent / "experiments.schema.json").read_text(encoding="utf-8") == experiments_schema()


def test_every_field_of_an_experiment_is_explained_in_the_shipped_file() -> None:
    """Whoever writes an experiment finds each key with its meaning beside it."""
    text = SHIPPED.read_text(encoding="utf-8")
    for kind in (Experiment, Arm, Holdout, Layer, RampStep, Guardrail):
        for name in kind.__struct_fields__:
            assert re.search(rf"\b{name}\b", text), f"{kind.__name__}.{name}"
