"""Scenarios, dialects, exports, the offline generator: what is read and what is written."""

from __future__ import annotations

import ast
import csv
import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

import simulator
from config.errors import ConfigError
from simulator.export import ExportError, Manifest, SimulateOptions, simulate
from simulator.offline import Offline, PaymentColumns, fixed_policy
from simulator.scenario import load_dialects, load_scenario, scenario_names
from simulator.world import facts
from simulator.world.failures import CATEGORIES, CodeRow, dialects
from simulator.world.incidents import Outage
from simulator.world.orders import Ids, OrderColumns
from simulator.world.outcomes_many import FAILED, PENDING

PACKAGE = Path(simulator.__file__).parent


def test_every_shipped_scenario_fits() -> None:
    """All of them load, and the demo and its short form break bravo when the demo's clock says."""
    scenarios = {name: load_scenario(name) for name in scenario_names()}
    assert {"demo", "smoke", "calm", "evening-outage", "no-anomaly"} <= set(scenarios)
    assert all(scenario.about for scenario in scenarios.values())
    first = scenarios["demo"].incidents[0]
    assert isinstance(first, Outage)
    assert (first.gateway, first.starts_s, first.lasts_s, first.success) == ("bravo", 60, 90, 0.04)
    only = scenarios["smoke"].incidents[0]
    assert (only.gateway, only.starts_s, only.lasts_s) == ("bravo", 14, 70)
    assert not any(incident.anomaly for incident in scenarios["no-anomaly"].incidents)


@pytest.mark.parametrize(
    ("body", "line", "problem"),
    [
        ("incidents:\n  - {kind: outage, starts_s: 1, lasts_s: 2, gateway: zulu}\n", 3, "there is no gateway 'zulu'"),
        ("incidents:\n  - {kind: flood, starts_s: 1, lasts_s: 2}\n", 3, "flood"),
        ("incidents:\n  - {kind: degradation, starts_s: 1, lasts_s: 2}\n", 3, "points"),
        ("capacity_per_s: {zulu: 3}\n", 2, "there is no gateway 'zulu'"),
        ("rythm: flat\n", 2, "rythm"),
    ],
)
def test_a_scenario_that_does_not_fit_is_refused_with_file_and_line(
    tmp_path: Path, body: str, line: int, problem: str
) -> None:
    """The error names file, line and what is wrong."""
    path = tmp_path / "odd.yaml"
    path.write_text(f"title: Odd\n{body}")
    with pytest.raises(ConfigError, match=problem) as caught:
        load_scenario(str(path))
    assert (str(path), line) == (caught.value.source, caught.value.line)


@pytest.mark.parametrize("name", ["no-such-scenario", "random:soon"])
def test_an_unknown_scenario_is_an_error_that_helps(name: str) -> None:
    """It says what there is instead."""
    with pytest.raises(ConfigError, match=r"shipped are|whole number"):
        load_scenario(name)


def test_a_random_scenario_is_the_same_for_the_same_seed() -> None:
    """And another for another seed."""
    assert load_scenario("random:5") == load_scenario("random:5")
    assert load_scenario("random:5").incidents != load_scenario("random:6").incidents


def test_every_gateway_has_words_for_every_category() -> None:
    """Nobody is ever speechless; codes of no published list do not stand in the published one."""
    listed = {(row.system, row.code) for dialect in load_dialects() for words in dialect.listed for row in words}
    for dialect in load_dialects():
        assert all(dialect.listed)
        assert any(dialect.unlisted)
        assert not {(row.system, row.code) for words in dialect.unlisted for row in words} & listed


def test_a_category_without_any_word_is_refused() -> None:
    """The error names the category."""
    rows = [CodeRow("alpha", "1", "no", category) for category in CATEGORIES[1:]]
    with pytest.raises(ValueError, match=CATEGORIES[0]):
        dialects(rows, [])


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """Two runs write the same files, to the byte; another seed writes others."""
    manifests = []
    for name in ("one", "two"):
        options = SimulateOptions(out=tmp_path / name, attempts=3_000, scenario="demo", seed=7)
        manifests.append(simulate(options))
    assert manifests[0] == manifests[1]
    other = simulate(SimulateOptions(out=tmp_path / "three", attempts=3_000, scenario="demo", seed=8))
    assert {f.sha256 for f in manifests[0].files[:2]}.isdisjoint(f.sha256 for f in other.files)


def test_the_world_is_the_same_on_every_machine() -> None:
    """A digest of everything but the gateways' words, taken once, must come out again wherever this runs."""
    chunk = Offline(load_scenario("demo"), seed=7).take(3_000)
    digest = hashlib.sha256()
    for struct in (chunk.attempts, chunk.truth):
        for name in struct.__struct_fields__:
            column = getattr(struct, name)
            if name != "code":
                exact = np.round(column * 1_000).astype("<f8") if column.dtype.kind == "f" else column.astype("<i8")
                digest.update(exact.tobytes())
    assert digest.hexdigest()[:16] == "657239fce8e6a6e3"


def test_the_export_keeps_truth_apart(tmp_path: Path) -> None:
    """No column of the truth stands among the attempts; rows correspond; the manifest fits the files."""
    manifest = simulate(SimulateOptions(out=tmp_path, attempts=5_000, scenario="evening-outage", rate=5))
    attempts, truth, incidents = (
        list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines()))
        for name in ("attempts", "truth", "incidents")
    )
    assert {"attempt_id"} == set(attempts[0]) & set(truth[0])
    assert [row["attempt_id"] for row in attempts] == [row["attempt_id"] for row in truth]
    assert [row["kind"] for row in incidents] == ["outage", "degradation", "latency"]
    assert {"success_rate", "latency"} == {row["signal"] for row in incidents}
    assert sorted(row["attempted_at"] for row in attempts) == [row["attempted_at"] for row in attempts]
    for row, fact in zip(attempts, truth, strict=True):
        assert bool(row["failure_code"]) == (row["status_last"] == "failed")
        if row["status_last"] == "failed":
            assert fact["category"]
        assert fact["best_gateway"] == max(facts.GATEWAYS, key=lambda name: float(fact[f"success_{name}"]))
    assert manifest == msgspec.json.decode((tmp_path / "manifest.json").read_bytes(), type=Manifest)
    for file in manifest.files:
        assert file.sha256 == hashlib.sha256((tmp_path / file.name).read_bytes()).hexdigest()


def test_every_column_of_the_export_is_in_the_data_dictionary(tmp_path: Path) -> None:
    """docs/data-dictionary.md names each of them in code type."""
    simulate(SimulateOptions(out=tmp_path, attempts=100, scenario="demo"))
    dictionary = (PACKAGE.parent / "docs" / "data-dictionary.md").read_text()
    for name in ("attempts", "truth", "incidents"):
        header = (tmp_path / f"{name}.csv").read_text().splitlines()[0].split(",")
        shown = [column if not column.startswith("success_") else "success_<gateway>" for column in header]
        assert [column for column in shown if f"`{column}`" not in dictionary] == []


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """The error names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="name another directory"):
        simulate(SimulateOptions(out=tmp_path / "file" / "below", attempts=10))


def test_parquet_without_its_library_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, and nothing is written."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExportError, match="pip install pyarrow"):
        simulate(SimulateOptions(out=tmp_path / "out", attempts=10, format="parquet"))
    assert not (tmp_path / "out").exists()


def test_offline_attempts_follow_their_policy_and_shoppers() -> None:
    """The policy is obeyed; later attempts follow failures only, later in time, with the number counted up."""
    attempts = Offline(load_scenario("calm"), seed=7, policy=fixed_policy("echo")).take(30_000).attempts
    assert {facts.GATEWAYS.index("echo")} == set(attempts.gateway.tolist())
    assert (np.diff(attempts.at) >= 0).all()
    order = np.lexsort((attempts.number, attempts.order))
    same = attempts.order[order][1:] == attempts.order[order][:-1]
    assert same.any()
    assert (np.diff(attempts.number[order].astype(int))[same] == 1).all()
    assert (np.diff(attempts.at[order])[same] > 0).all()
    assert (attempts.status[order][:-1][same] == FAILED).all()
    assert (attempts.number[order][1:][~same] == 1).all()


def test_a_policy_never_sees_the_truth() -> None:
    """What it is given holds neither luck nor patience nor chances, and it gets nothing to under maintenance."""
    hidden = {"payer_luck", "patience", "fraud", "amount_score"}
    assert not hidden & set(PaymentColumns.__struct_fields__)
    assert hidden <= set(OrderColumns.__struct_fields__)
    seen: list[int] = []

    def policy(payments: PaymentColumns) -> Ids:
        seen.append(len(payments.at))
        return np.full(len(payments.at), facts.GATEWAYS.index("delta"))

    offline = Offline(load_scenario("no-anomaly"), seed=7, rate=20, policy=policy)
    attempts = offline.take(150_000).attempts
    elapsed = attempts.at - offline.plan.began_at
    closed = (elapsed > 6_000.5) & (elapsed < 6_899.5)
    assert seen
    assert closed.any()
    assert facts.GATEWAYS.index("delta") not in attempts.gateway[closed]


def test_late_outcomes_settle_between_one_second_and_two_minutes_and_two_per_cent_never() -> None:
    """Of 400,000 attempts' pending ones, shares and times are as the facts say."""
    attempts = Offline(load_scenario("calm"), seed=3, rate=1_000).take(400_000).attempts
    pending = attempts.status == PENDING
    expected = facts.PENDING_SHARE[attempts.method].mean()
    assert pending.mean() == pytest.approx(expected, rel=0.06)
    settle = attempts.settle_after_s[pending]
    assert np.isnan(settle).mean() == pytest.approx(facts.NEVER_SHARE, abs=0.01)
    assert np.isnan(attempts.settle_after_s[~pending]).all()
    assert np.nanmin(settle) >= facts.SETTLE_S_MIN
    assert np.nanmax(settle) <= facts.SETTLE_S_MAX
    assert attempts.reported_twice.mean() == pytest.approx(facts.DUPLICATE_SHARE, rel=0.1)


def test_the_simulator_knows_nothing_of_what_it_tests() -> None:
    """No module imports workers, storage, web, or the thinking of ml (its table of codes is data)."""
    allowed_ml = {"ml.failures.codes"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] not in {"actors", "storage", "web", "cli"}, (path, name)
                assert not name.startswith("ml.") or name in allowed_ml, (path, name)


def test_the_world_is_pure() -> None:
    """Nothing below simulator/world reads a clock, a file, the network or global randomness."""
    forbidden = {"time", "datetime.now", "random", "os", "pathlib", "asyncio", "socket", "open"}
    for path in (PACKAGE / "world").glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert not (imported | called) & forbidden, path
