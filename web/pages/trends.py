"""Trends: any time range, compared with the one before, filtered and split as one likes; all of it in the address."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from storage.errors import TooManyAttempts
from storage.read_models.annotations import Annotation, read_annotations
from storage.read_models.chosen import DIMENSIONS
from storage.read_models.history import By, Figures, History, HistoryQuery, read_history
from web.choosing import chosen_of, said_in
from web.keys import DATABASE, HISTORY, TRENDS
from web.pages.drawing import Chart, draw, named
from web.rendering import page
from web.time_range import RANGES, TimeRange, time_range

BYS: Final = (*DIMENSIONS, "all")
SETTLED_MIN: Final = 10
"""With fewer in a step there is a gap: at n = 9 the interval spans half of the scale."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an address asks for."""

    time: TimeRange
    query: HistoryQuery

    def parts(self) -> list[tuple[str, str]]:
        """The address again, in one order."""
        time = self.time
        when = [("range", time.name)] if time.name else [("from", time.asked_from), ("to", time.asked_to)]
        named = self.query.names
        return [
            *((k, v) for k, v in when if v),
            ("by", self.query.by),
            ("compare", str(int(self.query.compare))),
            *named,
        ]

    def address(self, *, without: tuple[str, str] | None = None, **changes: str) -> str:
        """The query string with some parts changed, or one taken out."""
        kept = [part for part in self.parts() if part != without and part[0] not in changes]
        if "range" in changes:
            kept = [part for part in kept if part[0] not in ("from", "to")]
        return urlencode([*changes.items(), *kept])


def asked_of(query: Mapping[str, str], now: datetime) -> Asked:
    """Read an address.

    Raises: ValueError: says what does not fit.
    """
    time = time_range(now, query.get("range", ""), query.get("from", ""), query.get("to", ""))
    by = query.get("by", "gateway")
    if by not in BYS:
        raise ValueError(f"Split by one of {', '.join(BYS)}.")
    chosen = msgspec.structs.asdict(chosen_of(said_in(query)))
    kind: By = by  # type: ignore[assignment]
    return Asked(
        time=time,
        query=HistoryQuery(
            since=time.since, until=time.until, by=kind, compare=query.get("compare", "1") != "0", **chosen
        ),
    )


async def trends(request: web.Request) -> web.Response:
    """The page."""
    problem = None
    now = datetime.now(UTC)
    try:
        asked = asked_of(request.query, now)
    except ValueError as error:
        problem, asked = str(error), asked_of({}, now)
    context: dict[str, Any] = {"history": None, "names": request.app[HISTORY].names()}
    try:
        history, annotations = await read_trends(request, asked)
        context = {"history": history, "names": history.names, "annotations": annotations}
        context["charts"] = charts(history, annotations, asked)
    except TooManyAttempts as error:
        problem = str(error)
    context |= {
        "asked": asked,
        "ranges": RANGES,
        "bys": BYS,
        "problem": problem,
        "kiosk": request.query.get("kiosk") == "1",
    }
    return page(request, "trends.html", context, status=400 if problem else 200)


async def trends_csv(request: web.Request) -> web.Response:
    """The figures behind the charts, one row a line and step."""
    try:
        asked = asked_of(request.query, datetime.now(UTC))
    except ValueError:
        raise web.HTTPBadRequest from None
    history, _ = await read_trends(request, asked)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["at", asked.query.by, *_columns(history.total)])
    wholes = [("total", history.total_points), *([("before", history.before_points)] if asked.query.compare else [])]
    for name, points in (*wholes, *((line.name, line.points) for line in history.lines)):
        for point in points:
            table.writerow([point.at.isoformat(), _harmless(name), *_columns(point.figures).values()])
    headers = {"Content-Disposition": 'attachment; filename="trends.csv"', "Cache-Control": "no-store"}
    return web.Response(text=text.getvalue(), content_type="text/csv", charset="utf-8", headers=headers)


def charts(history: History, annotations: list[Annotation], asked: Asked) -> list[Chart]:
    """Rate, volume and latency over the range."""
    lines = named(history.lines) or [("all", 0, history.total_points)]
    before = [("before", -1, history.before_points)] if asked.query.compare else []
    since, until, step_s = history.since, history.until, history.step_s
    width = "an hour" if step_s >= 3_600 else f"{step_s // 60} min"
    compared = "; dotted: the time before, all together" if before else ""
    return [
        draw(
            "Authorization rate",
            f"of settled attempts, each {width}; band: 95 % interval; gap: fewer than {SETTLED_MIN}{compared}",
            "%",
            [*lines, *before],
            _known_rate,
            since,
            until,
            step_s=step_s,
            annotations=annotations,
            band=_known_band,
            share=True,
        ),
        draw(
            "Attempts",
            f"each {width}",
            "attempts",
            lines,
            lambda figures: float(figures.attempts),
            since,
            until,
            step_s=step_s,
            annotations=annotations,
        ),
        draw(
            "Latency p95",
            f"19 of 20 are faster, each {width}; to within 25 %",
            "ms",
            lines,
            lambda figures: figures.latency_p95_ms,
            since,
            until,
            step_s=step_s,
            annotations=annotations,
        ),
    ]


def _known_rate(figures: Figures) -> float | None:
    """The rate, where enough settled for it to say something."""
    return figures.authorization.rate if figures.authorization.settled >= SETTLED_MIN else None


def _known_band(figures: Figures) -> tuple[float | None, float | None]:
    rate = figures.authorization
    return (rate.low, rate.high) if rate.settled >= SETTLED_MIN else (None, None)


async def read_trends(request: web.Request, asked: Asked) -> tuple[History, list[Annotation]]:
    """The figures of an address and what happened meanwhile, shared for a moment between all who ask.

    Raises: TooManyAttempts: of what is chosen only single attempts tell, and there are more than can be read.
    """

    async def read() -> tuple[History, list[Annotation]]:
        database, query = request.app[DATABASE], asked.query
        history = await read_history(database, request.app[HISTORY], query)
        return history, await read_annotations(database, query.since, query.until)

    return await request.app[TRENDS].get(f"{asked.address()} {asked.time.until}", read)


def _columns(figures: Figures) -> dict[str, Any]:
    rate = figures.authorization
    return {
        "attempts": figures.attempts,
        "settled": rate.settled,
        "succeeded": rate.succeeded,
        "rate": rate.rate,
        "rate_low": rate.low,
        "rate_high": rate.high,
        "amount_minor": figures.amount_minor,
        "amount_succeeded_minor": figures.amount_succeeded_minor,
        "latency_p50_ms": figures.latency_p50_ms,
        "latency_p95_ms": figures.latency_p95_ms,
        "latency_p99_ms": figures.latency_p99_ms,
    }


def _harmless(name: str) -> str:
    """A name that a spreadsheet does not take for a formula.

    >>> _harmless("=HYPERLINK(1)"), _harmless("alpha")
    ("'=HYPERLINK(1)", 'alpha')
    """
    return f"'{name}" if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name
