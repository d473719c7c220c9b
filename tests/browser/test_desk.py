"""The pages on a small desk screen: nothing is cut off, and what matters in a hurry is at hand."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.async_api import Browser, ViewportSize, expect

from tests.browser.test_pages import PHONE, SHOTS, STORY, Site, browser, logged_in, site  # noqa: F401
from web.keys import DATABASE

SMALL_DESK = ViewportSize(width=1280, height=800)
TABLET = ViewportSize(width=900, height=1200)
PAST_THE_EDGE = """box => box.querySelector("table").getBoundingClientRect().right
    - box.getBoundingClientRect().right + parseFloat(getComputedStyle(box).paddingRight)"""
"""By how much a table runs out of its card, pixels."""

REASON = (
    "92.0% expected (90 % interval 87.0% to 95.0%), from about 240 recent payments like this, its others count as 31; "
    "its country, amount and card range make +1.4 points of it"
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [SMALL_DESK, TABLET], ids=["1280", "900"])
async def test_tables_of_decisions_are_not_cut_off(
    site: Site,  # noqa: F811
    browser: Browser,  # noqa: F811
    viewport: ViewportSize,
    scheme: Literal["light", "dark"],
) -> None:
    """Neither who decided on the page Routing, nor the reasons of a payment's ranking, however long the words."""
    database = site.runner.app[DATABASE]
    await database["decisions"].update_many({}, {"$set": {"advice.ranking.$[].reason": REASON}})
    await database["decisions"].update_many({}, {"$set": {"advice.rule": "large_cards_of_the_north"}})
    _, page, _ = await logged_in(site, browser, viewport)
    await page.emulate_media(color_scheme=scheme)
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name, path, box in (
        ("routing", "/routing", "[data-part=spend] .scroll"),
        ("routing", "/routing", "[data-part=deciders] .scroll"),
        ("story", f"/payments/{STORY}", "[aria-label=Ranking]"),
    ):
        await page.goto(f"{site.url}{path}")
        assert await page.locator(box).evaluate(PAST_THE_EDGE) < 1
        await page.screenshot(path=SHOTS / f"{name}_{viewport['width']}_{scheme}.png", full_page=True)


@pytest.mark.parametrize("viewport", [SMALL_DESK, PHONE], ids=["desk", "phone"])
async def test_the_kill_switch_is_one_key_away(site: Site, browser: Browser, viewport: ViewportSize) -> None:  # noqa: F811
    """A link at the top of the page Routing leads to it, and the next tab stop is its first field."""
    _, page, _ = await logged_in(site, browser, viewport)
    await page.goto(f"{site.url}/routing")
    link = page.get_by_role("link", name="Kill switch")
    await expect(link).to_be_in_viewport()
    await link.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#switch-title")).to_be_in_viewport()
    await page.keyboard.press("Tab")
    await expect(page.locator("#order-1")).to_be_focused()
