"""How each gateway stands: what it takes, its traffic, its health in a word, and whether it is paused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from config.gateways import Gateway
from messaging.contracts import Anomaly, GatewayPause
from storage.anomalies import open_anomalies
from storage.database import Database
from storage.gateway_pauses import pauses_not_over
from storage.read_models.gateways import Traffic, read_gateways

Health = Literal["GOOD", "FLUCTUATING", "DOWN", "NO TRAFFIC"]


class GatewayStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway. ``health_reason`` says in words what ``health`` rests on; ``paused`` tells of this moment."""

    gateway: Gateway
    health: Health
    health_reason: str
    paused: bool
    pauses: list[GatewayPause]
    anomalies: list[Anomaly]
    share: float
    traffic: Traffic | None


async def read_standings(database: Database, now: datetime, gateways: Mapping[str, Gateway]) -> list[GatewayStanding]:
    """Every configured gateway, in the order of the file."""
    traffic, anomalies, pauses = await asyncio.gather(
        read_gateways(database, now), open_anomalies(database), pauses_not_over(database, now)
    )
    by_name = {row.gateway: row for row in traffic}
    standings = []
    for name, gateway in gateways.items():
        row = by_name.get(name)
        unwell = [anomaly for anomaly in anomalies if anomaly.segment.gateway == name]
        health, reason = health_of(unwell, 0 if row is None else row.traffic.authorization.settled)
        mine = [pause for pause in pauses if pause.gateway == name]
        standings.append(
            GatewayStanding(
                gateway=gateway,
                health=health,
                health_reason=reason,
                paused=any(pause.starts_at <= now for pause in mine),
                pauses=mine,
                anomalies=unwell,
                share=0.0 if row is None else row.share,
                traffic=None if row is None else row.traffic,
            )
        )
    return standings


def health_of(anomalies: Sequence[Anomaly], settled: int) -> tuple[Health, str]:
    """A gateway's health in a word, and why; it rests on what the anomaly watcher has evidence for.

    Args:
        anomalies: the open ones that name this gateway.
        settled: attempts of the last minutes that tell something.
    """
    whole = [a for a in anomalies if a.segment.method is None and a.segment.issuer is None]
    down = [a for a in whole if a.signal == "success_rate" and a.severity == "critical"]
    if down:
        worst = min(down, key=lambda anomaly: anomaly.observed)
        return "DOWN", f"{worst.observed:.0%} succeed, {worst.expected:.0%} expected, n = {worst.attempts_seen:,}"
    if anomalies:
        parts = len(anomalies)
        return "FLUCTUATING", f"{parts} open {'anomaly' if parts == 1 else 'anomalies'} in its traffic"
    if not settled:
        return "NO TRAFFIC", "nothing settled lately"
    return "GOOD", f"no open anomaly, n = {settled:,}"
