"""What a run of simulated traffic says to a person: the line while it runs, and the account at its end."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.detection import Detection, Verdict
from simulator.tally import TrafficSummary, TrafficTally, Truth
from simulator.world.facts import CURRENCY
from simulator.world.plan import Label
from storage.read_models.measures import rate_of

MINOR_PER_MAJOR = 100
NAME_WIDTH = 24
INCIDENTS_SHOWN_MAX = 40
ALARMS_SHOWN_MAX = 10
UNWATCHED = frozenset({"failure_mix", "reversals"})
"""Signals that no worker watches: nobody can notice them."""


def live_line(tally: TrafficTally, *, rate: float, rate_wanted: float) -> str:
    """One line on traffic that runs.

    Args:
        tally: its counts so far.
        rate: orders started a second, of late.
        rate_wanted: what was asked for.
    """
    lag, routes, orders = tally.arrival_lag.summary(), tally.routes, tally.orders
    parts = [
        f"{rate:,.0f} of {rate_wanted:,.0f} orders/s",
        "no order yet" if lag.p99_ms is None else f"lag p50 {lag.p50_ms:.0f} ms, p99 {lag.p99_ms:.0f} ms",
        f"routes in time {_share(routes['in_time'], routes['asked'])}",
        f"{orders['started']:,} orders",
    ]
    if orders["shed"]:
        parts.append(f"{orders['shed']:,} shed")
    return " · ".join(parts)


def account_lines(summary: TrafficSummary, verdict: Verdict | None, unknown: str) -> Iterator[str]:
    """The account, line by line.

    Args:
        summary: of the run.
        verdict: what the system noticed; None: not known.
        unknown: why it is not known.
    """
    yield from _run_lines(summary)
    yield ""
    yield from _truth_lines(summary.truth, "First attempts")
    if summary.truth_in_incidents.orders:
        yield ""
        yield from _truth_lines(summary.truth_in_incidents, "First attempts in the segment of an incident")
    yield ""
    yield from _detection_lines(summary, verdict, unknown)


def _run_lines(summary: TrafficSummary) -> Iterator[str]:
    orders, routes, reports = summary.orders, summary.routes, summary.reports
    lag, trip = summary.arrival_lag, summary.route_round_trip
    kept = orders["started"] / summary.elapsed_s if summary.elapsed_s else 0.0
    yield f"{orders['started']:,} orders in {summary.elapsed_s:.1f} s: {kept:,.1f} orders/s of {summary.rate:g} wanted"
    shed = f"{orders['shed']:,} orders shed because too many were open" if orders["shed"] else "no order shed"
    yield _row("lag behind the plan", f"p50 {_ms(lag.p50_ms)}, p99 {_ms(lag.p99_ms)} (n = {lag.n:,}); {shed}")
    yield _row(
        "routes in time",
        f"{_share(routes['in_time'], routes['asked'])}; round trip p50 {_ms(trip.p50_ms)}, p99 {_ms(trip.p99_ms)}",
    )
    open_reports = f", {reports['unconfirmed']:,} not" if reports["unconfirmed"] else ""
    yield _row(
        "reports confirmed", f"{reports['confirmed']:,}{open_reports}, of {reports['attempts_confirmed']:,} attempts"
    )
    decided = orders["paid"] + orders["given_up"]
    yield _row("orders paid in the end", f"{_share(orders['paid'], decided)} of those decided")


def _truth_lines(truth: Truth, title: str) -> Iterator[str]:
    if not truth.orders or truth.succeeded is None:
        yield f"{title}: there were none"
        return
    yield f"{title} (n = {truth.orders:,}; chances are the world's own, so they have no interval)"
    yield _row("oracle", f"{_percent(truth.oracle)}  always the truly best gateway")
    yield _row("what routing chose", f"{_percent(truth.routed)}  mean chance at the gateway chosen")
    yield _row("best fixed gateway", f"{_percent(truth.best_fixed)}  {truth.best_fixed_gateway}, known only afterwards")
    yield _row("uniform", f"{_percent(truth.uniform)}  any gateway, at random")
    achieved = _share(round(truth.succeeded * truth.orders), truth.orders)
    yield _row("achieved", f"{achieved}; what is still pending counts as not succeeded")
    per_cent = 100 * truth.regret_attempts / truth.orders
    yield _row(
        "regret",
        f"{truth.regret_attempts:,.1f} attempts ({per_cent:.2f} of 100), {_money(truth.regret_minor)} "
        f"not earned for want of the oracle; fees {_money(truth.fees_minor)}",
    )


def _detection_lines(summary: TrafficSummary, verdict: Verdict | None, unknown: str) -> Iterator[str]:
    if verdict is None:
        yield f"Detection is not known: {unknown}"
        for label in summary.incidents[-INCIDENTS_SHOWN_MAX:]:
            yield _row(label.kind, f"{_where(label)}, {_when(label, summary)}")
        return
    seen = len(verdict.detections) - verdict.missed
    yield f"Incidents ({len(verdict.detections)} began, {seen} noticed)"
    for detection in verdict.detections[-INCIDENTS_SHOWN_MAX:]:
        label = detection.incident
        yield _row(label.kind, f"{_where(label)}, {_when(label, summary)}: {_noticed(detection, summary)}")
    harmless = [label for label in summary.incidents if not label.anomaly]
    for label in harmless[-INCIDENTS_SHOWN_MAX:]:
        yield _row(label.kind, f"{_where(label)}, {_when(label, summary)}: no trouble, nothing to notice")
    minutes = summary.elapsed_s / 60
    yield _row(
        "false alarms",
        f"{len(verdict.false_alarms)} in {minutes:.1f} min, {len(verdict.tempted)} of them while something only looked "
        "like trouble",
    )
    for alarm in verdict.false_alarms[:ALARMS_SHOWN_MAX]:
        parts = " · ".join(part for part in (alarm.gateway, alarm.method, alarm.issuer) if part) or "all traffic"
        at = (alarm.detected_at - summary.started_at).total_seconds()
        yield _row("", f"at {at:.0f} s {parts}: {alarm.signal}")
    if verdict.false_alarms:
        yield _row("", "alarms about other traffic on the same system count as false here")


def _noticed(detection: Detection, summary: TrafficSummary) -> str:
    if detection.alarm is not None and detection.delay_s is not None:
        return f"noticed after {detection.delay_s:.1f} s in {detection.alarm.signal}"
    if detection.incident.signal in UNWATCHED:
        return f"not noticed: no worker watches {detection.incident.signal.replace('_', ' ')}"
    if detection.incident.ends_at > summary.updated_at:
        return (
            f"not noticed in the {(summary.updated_at - detection.incident.starts_at).total_seconds():.0f} s there were"
        )
    return "NOT NOTICED"


def _where(label: Label) -> str:
    parts = [part for part in (label.gateway, label.method, label.issuer, label.network) if part]
    return " · ".join(parts) or "all traffic"


def _when(label: Label, summary: TrafficSummary) -> str:
    began = (label.starts_at - summary.started_at).total_seconds()
    return f"at {began:.0f} s for {(label.ends_at - label.starts_at).total_seconds():.0f} s"


def _row(name: str, text: str) -> str:
    return f"  {name:{NAME_WIDTH}} {text}"


def _share(part: int, whole: int) -> str:
    rate = rate_of(part, whole)
    if rate.rate is None or rate.low is None or rate.high is None:
        return "none yet"
    return f"{rate.rate:.1%} ({rate.low:.1%} to {rate.high:.1%}, n = {whole:,})"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:6.2%}"


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _money(minor: float) -> str:
    return f"{CURRENCY} {minor / MINOR_PER_MAJOR:,.0f}"
