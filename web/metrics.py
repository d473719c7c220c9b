"""What a Prometheus server asks for: traffic, anomalies, workers, refusals, and this process itself."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from storage.read_models.gateway_standing import GatewayStanding
from storage.read_models.gateways import Overview
from web.pages.reading import SystemHealth, health_of, overview_of, standings_of

HEALTH: Final = ("GOOD", "FLUCTUATING", "DOWN", "NO TRAFFIC")
FORWARDED: Final = ("X-Forwarded-For", "Forwarded", "X-Real-IP")


class System(Collector):
    """The figures of one moment as metrics."""

    def __init__(self, overview: Overview, standings: list[GatewayStanding], health: SystemHealth) -> None:
        self._overview, self._standings, self._health = overview, standings, health

    def collect(self) -> Iterable[Metric]:
        """List every metric."""
        yield from self._traffic()
        yield from self._gateways()
        yield from self._workers()

    def _traffic(self) -> Iterable[Metric]:
        attempts = GaugeMetricFamily(
            "ipa_attempts_window", "Attempts of the last 15 minutes", labels=["gateway", "status"]
        )
        latency = GaugeMetricFamily(
            "ipa_latency_window_seconds", "Latency of the last 15 minutes", labels=["gateway", "quantile"]
        )
        for row in self._overview.gateways:
            for status in ("pending", "succeeded", "failed", "abandoned", "reversed"):
                attempts.add_metric([row.gateway, status], getattr(row.traffic, status))
            for quantile, value in (("0.5", row.traffic.latency_p50_ms), ("0.95", row.traffic.latency_p95_ms)):
                if value is not None:
                    latency.add_metric([row.gateway, quantile], value / 1_000)
        anomalies = GaugeMetricFamily("ipa_anomalies_open", "Open anomalies", labels=["severity"])
        for severity in ("minor", "major", "critical"):
            anomalies.add_metric([severity], self._overview.anomalies_by_severity.get(severity, 0))
        yield from (attempts, latency, anomalies)

    def _gateways(self) -> Iterable[Metric]:
        health = GaugeMetricFamily("ipa_gateway_health", "1 for the state it is in", labels=["gateway", "state"])
        paused = GaugeMetricFamily("ipa_gateway_paused", "1 while the router sends nothing there", labels=["gateway"])
        for row in self._standings:
            paused.add_metric([row.gateway.name], float(row.paused))
            for state in HEALTH:
                health.add_metric([row.gateway.name, state.lower().replace(" ", "_")], float(row.health == state))
        yield from (health, paused)

    def _workers(self) -> Iterable[Metric]:
        messages = CounterMetricFamily(
            "ipa_worker_messages", "Messages handled since its start", labels=["stage", "instance"]
        )
        age = GaugeMetricFamily(
            "ipa_worker_heartbeat_age_seconds", "Time since its last heartbeat", labels=["stage", "instance"]
        )
        waiting = GaugeMetricFamily("ipa_queue_messages", "Messages that wait for a stage", labels=["stage"])
        for stage in self._health.workers.stages:
            if stage.lag is not None:
                waiting.add_metric([stage.stage], stage.lag)
            for process in stage.processes:
                labels = [stage.stage, process.heartbeat.instance]
                messages.add_metric(labels, process.heartbeat.messages)
                age.add_metric(labels, process.age_s)
        rejected = CounterMetricFamily("ipa_rejections", "Refused messages by kind", labels=["queue", "kind"])
        counted: dict[tuple[str, str], int] = {}
        for row in self._health.workers.rejections:
            key = (row.queue, row.kind)
            counted[key] = counted.get(key, 0) + row.count
        for (queue, kind), count in sorted(counted.items()):
            rejected.add_metric([queue, kind], count)
        dashboard = GaugeMetricFamily("ipa_dashboard_up", "1 while the live charts answer")
        dashboard.add_metric([], float(self._health.dashboard_answers))
        yield from (messages, age, waiting, rejected, dashboard)


async def metrics(request: web.Request) -> web.Response:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(System(await overview_of(request), await standings_of(request), await health_of(request)))
    body = generate_latest(registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


def from_this_machine(request: web.Request) -> bool:
    """Tell whether a request comes from this machine itself, and not through a proxy on it."""
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ip_address(request.remote or "").is_loopback
    except ValueError:
        return False
