"""Turns templates into pages: one Jinja environment, everything escaped, numbers written one way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp_jinja2
import jinja2
from aiohttp import web

from config.currencies import minor_digits
from web.auth import SESSION_COOKIE, csrf_token
from web.keys import IDENTITY, SESSION, SETTINGS
from web.permissions import Permission

TEMPLATES: Final = Path(__file__).parent / "templates"
THEME_COOKIE: Final = "ipa_theme"
THEMES: Final = frozenset({"light", "dark"})

NAVIGATION: Final[tuple[tuple[str, str, Permission], ...]] = (
    ("/", "Overview", "read"),
    ("/trends", "Trends", "read"),
    ("/replay", "Replay", "read"),
    ("/payments", "Payments", "read"),
    ("/failures", "Failures", "read"),
    ("/codes", "Failure codes", "read"),
    ("/shoppers", "Shoppers", "read"),
    ("/routing", "Routing", "read"),
    ("/policies", "Policies", "read"),
    ("/gateways", "Gateways", "read"),
    ("/anomalies", "Anomalies", "read"),
    ("/experiments", "Experiments", "read"),
    ("/models", "Models", "read"),
    ("/dead-letters", "Dead letters", "read"),
    ("/health", "Health", "read"),
    ("/audit", "Audit log", "audit:read"),
    ("/people", "People", "users:write"),
    ("/settings", "Settings", "settings:read"),
)
"""Path, name, and what one must be allowed to see it."""

DEMO_NAVIGATION: Final = (*NAVIGATION[:3], ("/incidents", "Incidents", "read"), *NAVIGATION[3:])
"""Where the demo's traffic can be reached, there is one page more."""

DONE_CHARS_MAX: Final = 120


def set_up_templates(app: web.Application) -> None:
    """Give an application its templates."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        pct=percent,
        ms=milliseconds,
        money=money,
        count=count,
        figure=figure,
        ago=ago,
        clock=clock,
        iso=iso,
        words=words,
        span=span,
        keyed=keyed,
        money_rounded=money_rounded,
    )


def page(request: web.Request, template: str, context: Mapping[str, Any], *, status: int = 200) -> web.Response:
    """Render a page inside the common frame."""
    session, identity = request.get(SESSION), request.get(IDENTITY)
    theme = request.cookies.get(THEME_COOKIE)
    shared = {
        "navigation": NAVIGATION if request.app[SETTINGS].web.demo_control_url is None else DEMO_NAVIGATION,
        "here": "/" + request.path.split("/")[1],
        "here_full": here_full(request),
        "may": identity.may if identity is not None else nobody_may,
        "done": request.query.get("done", "")[:DONE_CHARS_MAX],
        "user": None if session is None else session.user,
        "csrf": csrf_token(request.cookies.get(SESSION_COOKIE, "")),
        "theme": theme if theme in THEMES else "auto",
        "now": datetime.now(UTC),
        "search": "",
    }
    response = aiohttp_jinja2.render_template(template, request, shared | dict(context), status=status)
    response.headers["Cache-Control"] = "no-store"
    return response


def here_full(request: web.Request) -> str:
    """The address of this page for coming back to it, without what was said the last time."""
    return str(request.rel_url.without_query_params("done"))


def nobody_may(permission: str) -> bool:
    """What a stranger may."""
    return False


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share.

    >>> percent(0.93456), percent(None)
    ('93.5 %', '–')
    """
    return "–" if share is None else f"{share * 100:.{digits}f} %"


def milliseconds(value: float | None) -> str:
    """Write a duration.

    >>> milliseconds(81.2), milliseconds(1234), milliseconds(None)
    ('81 ms', '1.23 s', '–')
    """
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value < 1_000 else f"{value / 1_000:.2f} s"


def money(amount_minor: float | None, currency: str | None) -> str:
    """Write an amount; large ones shortened.

    >>> money(123456, "INR"), money(987654321, "INR"), money(500, "JPY"), money(None, "INR")
    ('INR 1,234.56', 'INR 9.88 M', 'JPY 500', '–')
    >>> money(-0.2, "EUR")
    'EUR 0.00'
    """
    if amount_minor is None:
        return "–"
    decimals = minor_digits(currency)
    amount = round(amount_minor / 10**decimals, decimals) + 0.0  # no -0.0
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if abs(amount) >= size:
            return f"{currency or ''} {amount / size:.2f} {letter}".strip()
    return f"{currency or ''} {amount:,.{decimals}f}".strip()


def money_rounded(amount_minor: float | None, currency: str | None) -> str:
    """Write a sum of amounts, without the fraction when it is large enough.

    >>> money_rounded(67564721, "INR"), money_rounded(1234, "EUR")
    ('INR 675,647', 'EUR 12.34')
    """
    if amount_minor is None:
        return "–"
    amount = amount_minor / 10 ** minor_digits(currency)
    if 1_000 <= abs(amount) < 1e6:
        return f"{currency or ''} {amount:,.0f}".strip()
    return money(amount_minor, currency)


def count(number: int | None) -> str:
    """Write a count.

    >>> count(1234567), count(None)
    ('1,234,567', '–')
    """
    return "–" if number is None else f"{number:,}"


def figure(value: float) -> str:
    """Write a measured number of any size: whole from a thousand on, else its first four digits.

    >>> figure(18_550), figure(222.0), figure(0.30171), figure(-0.00743)
    ('18,550', '222', '0.3017', '-0.00743')
    """
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def span(seconds: float) -> str:
    """Write how long something took or lasts.

    >>> span(4.2), span(75), span(7_300), span(200_000)
    ('4 s', '1 min 15 s', '2 h 1 min', '2 d 7 h')
    """
    whole = max(0, int(seconds))
    for unit, size, part, part_size in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part_size} {part}"
    return f"{whole} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """Write how long ago something was.

    >>> ago(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC))
    '3 s ago'
    """
    return "never" if moment is None else f"{span((now - moment).total_seconds())} ago"


def clock(moment: datetime | None, now: datetime) -> str:
    """Write a moment in UTC: the time alone when it was within the last half day."""
    if moment is None:
        return "–"
    utc = moment.astimezone(UTC)
    near = abs((now - utc).total_seconds()) < 43_200
    return utc.strftime("%H:%M:%S" if near else "%Y-%m-%d %H:%M:%S")


def iso(moment: datetime) -> str:
    """Write a moment for machines, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def words(name: str | None) -> str:
    """Write a machine's name for people.

    >>> words("insufficient_funds"), words(None)
    ('insufficient funds', '–')
    """
    return "–" if name is None else name.replace("_", " ")


def keyed(rows: Iterable[Any], attribute: str) -> dict[str, Any]:
    """Look rows up by one of their attributes."""
    return {getattr(row, attribute): row for row in rows}
