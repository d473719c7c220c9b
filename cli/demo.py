"""The demo: the whole system on private servers, with simulated checkouts, and optionally the smoke test at the end."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cli.check_counts import Counts, count
from cli.errors import EXIT_UNAVAILABLE, MissingPart, ServiceFailed
from cli.interruption import EXIT_INTERRUPTED, Interruption
from cli.lock import StateDirectory
from cli.running import RunningSystem
from cli.screen import Screen
from cli.supervisor import Program
from cli.system import SIMULATOR, get_json
from messaging.contracts import Anomaly
from simulator.scenario import Scenario, load_scenario
from simulator.tally import TrafficSummary
from storage.anomalies import anomalies_since
from storage.database import Database
from storage.errors import StoreError

SHORT_RUN_S = 90
"""A run shorter than this gets the scenario whose incident comes early."""

CHART_POLL_S = 0.1
CHART_S_MAX = 60.0
NEWS_EVERY_S = 1.0
NEWS_READ_MAX = 200
TRAFFIC_STOP_S = 15.0


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says. ``exit_after``: seconds of traffic after the box; None: until Ctrl-C."""

    state: Path
    rate: float = 60
    seed: int = 7
    speed: float = 1
    fresh: bool = False
    exit_after: float | None = None
    check: bool = False
    scenario: str | None = None
    as_json: bool = False

    @property
    def scenario_name(self) -> str:
        """The scenario asked for, else the one that fits the length of the run."""
        if self.scenario is not None:
            return self.scenario
        return "smoke" if self.exit_after is not None and self.exit_after < SHORT_RUN_S else "demo"


class Demo:
    """One run of the demo.

    Args:
        options: what was asked for.
        began: when the command was started, on the monotonic clock.
    """

    def __init__(self, options: DemoOptions, began: float) -> None:
        self._options = options
        self._screen = Screen(as_json=options.as_json)
        self._began = began
        self._scenario: Scenario = load_scenario(options.scenario_name)
        self._first_chart_s: float | None = None

    async def run(self) -> int:
        """Run until the time is over or Ctrl-C; returns the exit code."""
        with StateDirectory(self._options.state, fresh=self._options.fresh) as state:
            system = RunningSystem(state, self._screen, private=True)
            interruption = Interruption(system.kill)
            try:
                status = await interruption.unless(self._course(state, system))
            finally:
                self._screen.waiting("stopping everything (Ctrl-C again: at once)")
                await system.stop()
                self._screen.waiting("")
                if not self._options.check:
                    self._screen.line(f"Everything has ended. What was stored is kept in {state.path}.")
        if status is None:
            return EXIT_INTERRUPTED if self._options.check else 0
        return status

    async def _course(self, state: StateDirectory, system: RunningSystem) -> int:
        await system.start()
        state.note({"urls": system.urls() | {"Login": f"see {state.path / 'secrets.json'}"}})
        before = await count(system.database)
        summary_file = state.path / "traffic.json"
        summary_file.unlink(missing_ok=True)
        traffic = self._traffic(system, summary_file)
        seconds = await system.supervisor.start(traffic)
        self._screen.step(
            SIMULATOR, seconds, f"{self._options.rate:g} orders/s, scenario {self._options.scenario_name!r}"
        )
        await self._first_chart(system)
        self._screen.ready(system.urls(), self._watch_for(system))
        news = asyncio.create_task(tell_news(system.database, self._screen, datetime.now(UTC)))
        try:
            await asyncio.sleep(self._options.exit_after if self._options.exit_after is not None else float("inf"))
        finally:
            news.cancel()
            await asyncio.gather(news, return_exceptions=True)
        self._screen.waiting("ending the traffic")
        await system.supervisor.stop(SIMULATOR, TRAFFIC_STOP_S)
        self._screen.waiting("")
        return await self._check(system, before, summary_file) if self._options.check else 0

    async def _check(self, system: RunningSystem, before: Counts, summary_file: Path) -> int:
        from cli.check import Expectations, run_checks  # the web's imports would delay the start by a second

        expected = Expectations(
            before=before,
            summary=_account(summary_file),
            first_chart_s=self._first_chart_s,
            restarts=system.supervisor.restarts,
        )
        return 0 if await run_checks(system, expected, self._screen) else 1

    def _traffic(self, system: RunningSystem, summary_file: Path) -> Program:
        options = self._options

        async def ready(_pid: int) -> bool:
            return summary_file.exists()  # noqa: ASYNC240 - a look at a local file

        return Program(
            name=SIMULATOR,
            command=(
                sys.executable, "-m", "simulator", "--rate", f"{options.rate:g}", "--seed", str(options.seed),
                "--speed", f"{options.speed:g}", "--scenario", options.scenario_name, "--summary", str(summary_file),
                "--control-port", str(system.control_port),
            ),
            environment=system.environment(),
            ready=ready,
            restarts=not options.check,  # an account that begins again cannot be compared with the store
        )  # fmt: skip

    async def _first_chart(self, system: RunningSystem) -> None:
        """Wait until the charts have something to draw."""
        deadline = time.monotonic() + CHART_S_MAX
        while time.monotonic() < deadline:
            _, answer = await get_json(system.place.dashboard_livez)
            if isinstance(answer, dict) and answer.get("points"):
                self._first_chart_s = round(time.monotonic() - self._began, 1)
                self._screen.step(
                    "first chart", self._first_chart_s, "seconds from the command to figures in the charts"
                )
                return
            await asyncio.sleep(CHART_POLL_S)
        self._screen.note(f"the charts were still empty after {CHART_S_MAX:.0f} s")

    def _watch_for(self, system: RunningSystem) -> list[str]:
        """What a person should look for, from the scenario."""
        lines = []
        for incident in self._scenario.incidents:
            gateway, kind = getattr(incident, "gateway", None), incident.__struct_config__.tag
            at = getattr(incident, "starts_s", 0) / self._options.speed
            if gateway and kind == "outage":
                lines.append(f"at {at:.0f} s gateway '{gateway}' starts failing; see it detected and routed around")
            elif gateway:
                lines.append(f"at {at:.0f} s gateway '{gateway}' has trouble ({kind})")
        lines.append(f"or break something yourself: {system.place.web_url}incidents")
        lines.append("Ctrl-C ends everything; what was stored stays for the next start (--fresh wipes it)")
        return lines


async def tell_news(database: Database, screen: Screen, since: datetime) -> None:
    """Say for ever when an anomaly opens or closes; a store that does not answer is asked again."""
    said: dict[str, bool] = {}
    answers = True
    while True:
        await asyncio.sleep(NEWS_EVERY_S)
        try:
            newest = await anomalies_since(database, since, limit=NEWS_READ_MAX)
        except StoreError as error:
            if answers:
                screen.note(f"anomalies are told when the store answers again: {error}")
            answers = False
            continue
        answers = True
        for anomaly in newest:
            closed = anomaly.closed_at is not None
            if said.get(anomaly.anomaly_id) != closed:
                said[anomaly.anomaly_id] = closed
                screen.line(news_line(anomaly, since))


def news_line(anomaly: Anomaly, since: datetime) -> str:
    """Say that an anomaly was raised, or that it is over, with the seconds from ``since`` to when that happened."""
    segment = anomaly.segment
    where = " · ".join(part for part in (segment.gateway, segment.method, segment.issuer) if part) or "all traffic"
    if anomaly.closed_at is not None:
        at, word = anomaly.closed_at, "is well again"
    else:
        at, word = anomaly.detected_at, f"{anomaly.severity} anomaly in {anomaly.signal}"
    return f"  {(at - since).total_seconds():5.0f} s  {where}: {word}"


def _account(file: Path) -> TrafficSummary:
    """What the traffic says of itself.

    Raises: ServiceFailed: it left no account.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=TrafficSummary)
    except (OSError, msgspec.DecodeError) as error:
        raise ServiceFailed(SIMULATOR, f"left no account of its traffic: {error}") from None


def run_demo(options: DemoOptions) -> int:
    """Run the demo; returns the exit code."""
    screen = Screen(as_json=options.as_json)
    try:
        return asyncio.run(Demo(options, command_began()).run())
    except MissingPart as missing:
        screen.line(str(missing))
        screen.line("Or run it in containers: docker compose --profile demo up --build")
        screen.line("`ipa doctor` says everything that was found. Then start again: make demo")
        return EXIT_UNAVAILABLE


def command_began() -> float:
    """When this process was started, on the monotonic clock: before Python had imported anything."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        age_s = 0.0
    return time.monotonic() - age_s
