"""What routing earned and missed, as a person sees it: figures with interval and n, on a desk and on a phone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from playwright.async_api import Browser, expect

from tests.browser.test_pages import (
    DESK,
    PHONE,
    SHOTS,
    Site,
    browser,  # noqa: F401
    logged_in,
    site,  # noqa: F401
    width_of,
)
from tests.integration.test_routing_hindsight import fill
from web.keys import DATABASE

TOLD_MS_MAX = 90_000
"""Hindsight takes some seconds of a processor, on a loaded machine many."""

MONEY = r"[A-Z]{3} -?[\d,.]+\s+[A-Z]{3} -?[\d,.]+ to [A-Z]{3} -?[\d,.]+"
"""An amount, and from where to where it may lie."""


def payments_words(total: dict[str, Any]) -> list[str]:
    """What must be told of a sum of payments: estimate, interval, and of how many decisions."""
    of = total["payments"]
    return [
        f"{of['estimate']:+.1f} payments",
        f"{of['low']:+.1f} to {of['high']:+.1f}",
        f"n = {total['decisions']:,}",
    ]


def uplift_words(uplift: dict[str, Any]) -> list[str]:
    """The same of the difference to the control slice, in points."""
    of = {name: 100 * value for name, value in uplift["success"].items() if name in ("estimate", "low", "high")}
    return [
        f"{of['estimate']:+.2f} points",
        f"{of['low']:+.2f} to {of['high']:+.2f}",
        f"n = {uplift['routed']['orders']:,} routed, {uplift['control']['orders']:,} control",
    ]


async def test_hindsight_shows_figures_with_interval_and_n(site: Site, browser: Browser) -> None:  # noqa: F811
    """Regret, what exploring cost and uplift come to an open page by themselves, as REST tells them."""
    database = site.runner.app[DATABASE]
    for name in ("decisions", "attempts"):
        await database[name].delete_many({})
    await fill(database, datetime.now(UTC).replace(microsecond=0))
    context, page, problems = await logged_in(site, browser, DESK)
    await page.goto(f"{site.url}/routing")
    problems.clear()  # no dashboard runs here, which a browser logs
    await page.evaluate("window.sameDocument = true")
    hindsight = page.locator('[data-part="hindsight"]')
    await expect(hindsight.locator("[data-figure]")).to_have_count(3, timeout=TOLD_MS_MAX)
    assert await page.evaluate("window.sameDocument") is True
    answer = await context.request.get(f"{site.url}/api/v1/routing/regret?range=24h")
    found = (await answer.json())["found"]
    wanted = {
        "regret": payments_words(found["regret"]["total"]),
        "spend": payments_words(found["spend"]["total"]),
        "uplift": uplift_words(found["uplift"]),
    }
    SHOTS.mkdir(parents=True, exist_ok=True)
    for viewport, name in ((DESK, "desk"), (PHONE, "phone")):
        await page.set_viewport_size(viewport)
        for figure, words in wanted.items():
            card = hindsight.locator(f'[data-figure="{figure}"]')
            await card.scroll_into_view_if_needed()
            await expect(card).to_be_in_viewport(ratio=1)
            shown = " ".join((await card.inner_text()).split())
            assert all(word in shown for word in words), (shown, words)
        rows = await hindsight.locator("tbody tr").all_inner_texts()
        assert [row[:3] for row in rows] == [each["currency"] for each in found["regret"]["by_currency"]]
        for row, money in zip(rows, found["regret"]["by_currency"], strict=True):
            assert f"{money['decisions']:,}" in row
            assert (re.search(MONEY, row) is None) == (money["amount_minor"] is None), row
        assert any(re.search(MONEY, row) for row in rows)
        assert await width_of(page) <= viewport["width"]
        boxes = hindsight.locator(".scroll, .kpi")
        assert await boxes.evaluate_all("all => all.every(box => box.scrollWidth <= box.clientWidth)")
        await hindsight.screenshot(path=SHOTS / f"hindsight.{name}.png")
    assert [problem for problem in problems if "503" not in problem] == []
