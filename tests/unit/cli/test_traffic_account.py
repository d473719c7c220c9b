"""What `ipa traffic` and `ipa simulate` say, and what they refuse."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from cli.__main__ import main
from cli.demo import news_line
from cli.known_store import known_store
from cli.lock import StateDirectory
from cli.system import Place
from cli.target import note_place
from cli.traffic import alarms_of
from cli.traffic_account import account_lines, live_line
from messaging.contracts import Anomaly, Segment
from simulator.detection import Alarm, judge
from simulator.tally import TrafficSummary, TrafficTally
from simulator.world.plan import Label
from tests import factories

BEGAN = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
ABOUT = {"scenario": "demo", "seed": 7, "rate": 60.0, "speed": 1.0, "run_id": "7.1"}
PLACE = Place(amqp_url="amqp://a:b@127.0.0.1:1/", mongo_url="mongodb://127.0.0.1:2/", web_port=3, dashboard_port=4)


def after(seconds: float) -> datetime:
    """A moment of the run."""
    return BEGAN + timedelta(seconds=seconds)


def label(kind: str = "outage", *, anomaly: bool = True, signal: str = "success_rate", starts: float = 60) -> Label:
    """Something that happened to bravo for a minute."""
    return Label(
        incident_id="inc_0_0",
        kind=kind,
        signal=signal,
        anomaly=anomaly,
        starts_at=after(starts),
        ends_at=after(starts + 60),
        gateway="bravo",
    )


def summary(*labels: Label, orders: int = 0) -> TrafficSummary:
    """The account of five minutes in which so many orders came; one in ten was lost, and alpha was the best."""
    tally = TrafficTally(BEGAN.timestamp(), ABOUT)
    for number in range(orders):
        tally.orders["started"] += 1
        tally.orders["paid" if number % 10 else "given_up"] += 1
        tally.arrival_lag.add(2.0)
        tally.truth.add((0.95, 0.85, 0.75, 0.75, 0.75), number % 2, 10_000)
        tally.truth.add_result(bool(number % 10), 150.0)
    return tally.summary(after(300).timestamp(), labels, final=True)


def anomaly(detected: float, closed: float | None = None, gateway: str | None = "bravo") -> Anomaly:
    """Bravo was called unwell."""
    return factories.anomaly(
        after(detected),
        segment=Segment(gateway=gateway),
        started_at=after(detected - 5),
        closed_at=None if closed is None else after(closed),
    )


def test_the_demo_says_when_it_happened() -> None:
    """An opened anomaly carries the second of its detection, a closed one that of its closing."""
    assert news_line(anomaly(63), BEGAN) == "     63 s  bravo: critical anomaly in success_rate"
    assert news_line(anomaly(63, closed=152), BEGAN) == "    152 s  bravo: is well again"
    assert news_line(anomaly(63, gateway=None), BEGAN).endswith("all traffic: critical anomaly in success_rate")


def test_the_live_line_shows_rate_lag_and_answers() -> None:
    """Before anything came it says so; shed orders are not hidden."""
    tally = TrafficTally(BEGAN.timestamp(), ABOUT)
    nothing = "0 of 60 orders/s · no order yet · routes in time none yet · 0 orders"
    assert live_line(tally, rate=0.0, rate_wanted=60.0) == nothing
    tally.orders |= {"started": 200, "shed": 3}
    tally.routes |= {"asked": 200, "in_time": 198}
    for _ in range(200):
        tally.arrival_lag.add(4.0)
    line = live_line(tally, rate=59.6, rate_wanted=60.0)
    assert line.startswith(
        "60 of 60 orders/s · lag p50 4 ms, p99 4 ms · routes in time 99.0% (96.4% to 99.7%, n = 200)"
    )
    assert line.endswith("200 orders · 3 shed")


def test_the_account_says_truth_regret_and_detection() -> None:
    """Oracle, best fixed, uniform and what was chosen; the achieved rate with n and interval; delay, misses, alarms."""
    account = summary(label(), label("flash_sale", anomaly=False, signal="volume", starts=200), orders=1_000)
    alarms = [
        Alarm(detected_at=after(68), signal="success_rate", gateway="bravo"),
        Alarm(detected_at=after(20), signal="latency", gateway="echo"),
    ]
    text = "\n".join(account_lines(account, judge(account.incidents, alarms), ""))
    for claim in (
        "oracle                   95.00%",
        "what routing chose       90.00%",
        "best fixed gateway       95.00%  alpha",
        "uniform                  81.00%",
        "achieved                 90.0% (88.0% to 91.7%, n = 1,000)",
        "50.0 attempts (5.00 of 100), INR 5,000 not earned",
        "Incidents (1 began, 1 noticed)",
        "outage                   bravo, at 60 s for 60 s: noticed after 8.0 s in success_rate",
        "flash_sale               bravo, at 200 s for 60 s: no trouble, nothing to notice",
        "false alarms             1 in 5.0 min, 0 of them",
        "at 20 s echo: latency",
    ):
        assert claim in text, claim


def test_what_is_not_known_is_said_plainly() -> None:
    """No orders, no store, an unwatched signal, a missed incident: words, never a number that looks like an answer."""
    empty = "\n".join(account_lines(summary(label()), None, "the store is not known; set IPA_MONGO_URL"))
    assert "First attempts: there were none" in empty
    assert "Detection is not known: the store is not known; set IPA_MONGO_URL" in empty
    missed = summary(label(), label("failure_mix", signal="failure_mix"), label("late", starts=290))
    text = "\n".join(account_lines(missed, judge(missed.incidents, []), ""))
    assert "Incidents (3 began, 0 noticed)" in text
    assert "NOT NOTICED" in text
    assert "not noticed: no worker watches failure mix" in text
    assert "late                     bravo, at 290 s for 60 s: not noticed in the 10 s there were" in text


def test_alarms_from_before_and_after_the_run_do_not_count() -> None:
    """That traffic ends is no trouble of its own, and older anomalies are not about it."""
    said = [anomaly(-1), anomaly(10, closed=20), anomaly(299), anomaly(301)]
    alarms = alarms_of(said, BEGAN, after(300))
    assert [after(10), after(299)] == [alarm.detected_at for alarm in alarms]
    assert Alarm(detected_at=after(10), signal="success_rate", gateway="bravo") == alarms[0]


def test_the_store_is_the_named_one_or_that_of_the_same_demo(tmp_path: Path) -> None:
    """A broker of somebody else's is never joined with the demo's store, nor with one on a default port."""
    with StateDirectory(tmp_path / "state") as state:
        note_place(state.path, PLACE)
        named = known_store({"IPA_AMQP_URL": "amqp://mine/", "IPA_MONGO_URL": "mongodb://mine/"}, state.path)
        assert named is not None
        assert (named.url, named.connect_wait_s_max) == ("mongodb://mine/", 5.0)
        assert known_store({"IPA_AMQP_URL": "amqp://mine/"}, state.path) is None
        for environment in ({}, {"IPA_AMQP_URL": PLACE.amqp_url}):
            found = known_store(environment, state.path)
            assert found is not None
            assert found.url == PLACE.mongo_url


def status_of(arguments: list[str]) -> object:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_simulate_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Attempts, truth, incidents and manifest are there, and named; the same seed makes the same bytes."""
    first, second = tmp_path / "a", tmp_path / "b"
    for out in (first, second):
        arguments = ["simulate", "--out", str(out), "--scenario", "smoke", "--attempts", "1500", "--rate", "20"]
        assert status_of(arguments) in {0, None}
    names = {"attempts.csv", "truth.csv", "incidents.csv", "manifest.json"}
    assert names == {path.name for path in first.iterdir()}
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert "1,500 attempts of scenario 'smoke', seed 7" in capsys.readouterr().out


def test_simulate_says_when_nothing_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Too short a time for any incident is said, with what to change."""
    assert status_of(["simulate", "--out", str(tmp_path), "--attempts", "200"]) in {0, None}
    assert "No incident began in the time simulated" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["simulate", "--out", "unused"], ["traffic"]])
def test_unknown_scenario_is_refused_with_the_known_ones(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that lists what is shipped, exit code 78, before anything is written or reached."""
    monkeypatch.setenv("IPA_AMQP_URL", "amqp://127.0.0.1:9/")
    assert status_of([*command, "--scenario", "nope"]) == 78
    said = capsys.readouterr().err
    assert said.startswith("nope: there is no such scenario; shipped are calm, ")
    assert "evening-outage" in said


def test_parquet_without_pyarrow_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command to paste, and exit code 69."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where it is not installed
    assert status_of(["simulate", "--out", str(tmp_path / "x"), "--format", "parquet"]) == 69
    assert "-m pip install pyarrow" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_directory_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the way: exit code 73 and what to do."""
    (tmp_path / "file").write_text("in the way")
    assert status_of(["simulate", "--out", str(tmp_path / "file" / "x"), "--attempts", "10"]) == 73
    assert "name another directory" in capsys.readouterr().err


def test_parquet_holds_the_same_rows_as_csv(tmp_path: Path) -> None:
    """The same seed makes the same attempts in either format."""
    for kind in ("csv", "parquet"):
        command = ["simulate", "--out", str(tmp_path / kind), "--attempts", "500", "--seed", "3", "--format", kind]
        assert status_of(command) in (None, 0)
    written = pd.read_parquet(tmp_path / "parquet" / "attempts.parquet")
    expected = pd.read_csv(tmp_path / "csv" / "attempts.csv", dtype=str)
    assert list(written.columns) == list(expected.columns)
    assert list(written["attempt_id"]) == list(expected["attempt_id"])
    assert list(written["amount_minor"].astype(str)) == list(expected["amount_minor"])
