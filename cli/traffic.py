"""Runs simulated checkouts in the foreground: a live line, and the account of truth and detection at the end."""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console

from cli.errors import CliError
from cli.known_store import known_store, opened
from cli.screen import Screen
from cli.traffic_account import account_lines, live_line
from config.logs import set_up_logs
from config.settings import load_settings
from messaging.contracts import Anomaly
from simulator.detection import Alarm, Verdict, judge
from simulator.live import Traffic, TrafficOptions
from simulator.live import run as make_traffic
from simulator.tally import TrafficSummary
from storage.anomalies import open_anomalies, recent_anomalies
from storage.errors import StoreError

LINE_EVERY_S = 0.5
LINE_EVERY_S_PLAIN = 10.0
"""Off a terminal nothing can be written over, so a line comes rarely."""

SETTLE_S = 2.0
"""What the watcher raises in the last moment is stored within this."""


async def run_traffic(options: TrafficOptions, *, as_json: bool) -> int:
    """Make traffic until its duration is over or a signal comes, then say what it was. Returns: the exit code.

    Raises: ConfigError, MessagingError: it could not start; CliError: the control port is taken.
    """
    set_up_logs(msgspec.structs.replace(load_settings().log, level="warning"), "ipa traffic")
    screen, console = Screen(as_json=as_json), Console(highlight=False)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    watching: list[asyncio.Task[None]] = []

    def began(traffic: Traffic) -> None:
        screen.line(_announced(options))
        if not as_json:
            watching.append(asyncio.create_task(_watch(traffic, options, screen, console.is_terminal)))

    try:
        summary = await make_traffic(options, stop=stop, on_start=began)
    except OSError as error:
        raise CliError(f"--control-port {options.control_port}: {error.strerror or error}; name another") from None
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    screen.waiting("asking the store what the system noticed")
    verdict, unknown = await detected(summary)
    screen.waiting("")
    if as_json:
        screen.result(_facts(summary, verdict, unknown))
    else:
        for line in account_lines(summary, verdict, unknown):
            screen.line(line)
    return 0


async def detected(summary: TrafficSummary) -> tuple[Verdict | None, str]:
    """Compare the truth with what the system stored as unwell while the traffic ran.

    Returns: the verdict and an empty text; (None, why) when it cannot be known.
    """
    store = known_store()
    if store is None:
        return None, "the store is not known; set IPA_MONGO_URL to hear how soon incidents were detected"
    await asyncio.sleep(SETTLE_S)
    try:
        async with opened(store) as database:
            said = await open_anomalies(database) + await recent_anomalies(database, summary.started_at)
    except StoreError as error:
        return None, str(error)
    return judge(summary.incidents, alarms_of(said, summary.started_at, summary.updated_at)), ""


def alarms_of(said: list[Anomaly], since: datetime, until: datetime) -> list[Alarm]:
    """What was raised between two moments; that traffic ends is no trouble of its own."""
    return [
        Alarm(
            detected_at=anomaly.detected_at,
            signal=anomaly.signal,
            gateway=anomaly.segment.gateway,
            method=anomaly.segment.method,
            issuer=anomaly.segment.issuer,
        )
        for anomaly in said
        if since <= anomaly.detected_at <= until
    ]


def _announced(options: TrafficOptions) -> str:
    end = f"for {options.duration_s:g} s" if options.duration_s else "until Ctrl-C"
    return (
        f"{options.rate:g} orders/s {end}, scenario {options.scenario!r}, speed {options.speed:g}, seed {options.seed}"
    )


async def _watch(traffic: Traffic, options: TrafficOptions, screen: Screen, on_terminal: bool) -> None:
    """Show the live line until cancelled."""
    before, at = 0, time.monotonic()
    try:
        while True:
            await asyncio.sleep(LINE_EVERY_S if on_terminal else LINE_EVERY_S_PLAIN)
            orders, now = traffic.tally.orders["started"], time.monotonic()
            line = live_line(traffic.tally, rate=(orders - before) / (now - at), rate_wanted=options.rate)
            before, at = orders, now
            if on_terminal:
                screen.waiting(line)
            else:
                screen.line(line)
    finally:
        screen.waiting("")


def _facts(summary: TrafficSummary, verdict: Verdict | None, unknown: str) -> dict[str, Any]:
    """The account without what is too long for a terminal; None: not known."""
    facts: dict[str, Any] = msgspec.to_builtins(summary)
    facts.pop("timeline")
    facts["detection"] = None if verdict is None else msgspec.to_builtins(verdict)
    facts["detection_unknown"] = unknown or None
    return facts
