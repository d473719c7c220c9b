"""Filters in a browser: chosen in the form, shown as chips, kept by a reload, and followed by the live charts."""

from __future__ import annotations

import itertools

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.test_pages import (
    DESK,
    DRAWN_MS_MAX,
    PHONE,
    Site,
    browser,  # noqa: F401
    logged_in,
    site,  # noqa: F401
    width_of,
)

CHOSEN = "country=IN&country=DE&amount=200-1000&amount=1000-up&arm=routing-policy%2Fcontrol&gateway=alpha&gateway=bravo"


async def assert_chips_are_apart(page: Page, chips_count: int) -> None:
    """No chip touches another, leaves the page, or cuts its words."""
    chips = page.locator('[aria-label="Filters in force"] a')
    await expect(chips).to_have_count(chips_count)
    boxes = await chips.evaluate_all("chips => chips.map(c => c.getBoundingClientRect().toJSON())")
    width = await page.evaluate("document.documentElement.clientWidth")
    for one in boxes:
        assert one["left"] >= 0
        assert one["right"] <= width
    for one, other in itertools.combinations(boxes, 2):
        apart = (one["right"], one["bottom"], other["right"], other["bottom"])
        assert (
            apart[0] <= other["left"] or apart[2] <= one["left"] or apart[1] <= other["top"] or apart[3] <= one["top"]
        ), (one, other)
    assert await chips.evaluate_all("chips => chips.every(c => c.scrollWidth <= c.clientWidth + 1)")


@pytest.mark.parametrize("path", ["/trends", "/"])
async def test_chips_stand_apart_on_every_screen(site: Site, browser: Browser, path: str) -> None:  # noqa: F811
    """Seven filters at once, on a desk and on a phone; the page is no wider than the screen."""
    _, page, _ = await logged_in(site, browser, DESK)
    for screen in (DESK, PHONE):
        await page.set_viewport_size(screen)
        await page.goto(f"{site.url}{path}?{CHOSEN}")
        await assert_chips_are_apart(page, 7)
        assert await width_of(page) <= screen["width"]


async def test_a_country_is_chosen_kept_and_taken_out(site: Site, browser: Browser) -> None:  # noqa: F811
    """The form offers what there is; the address holds the choice; the live charts follow it and say how."""
    await site.start_dashboard()
    _, page, problems = await logged_in(site, browser, DESK)
    problems.clear()
    await page.goto(f"{site.url}/")
    await page.click("details.filters summary")
    await page.select_option("#add-country", "DE")
    await page.select_option("#add-arm", "routing-policy/adaptive")
    await page.click("details.filters button")
    await page.wait_for_url("**country=DE**")
    attempts = page.locator(".kpi", has_text="Attempts").locator(".big").first
    few = int(await attempts.inner_text())
    assert few > 5
    status = page.frame_locator("iframe.live").locator(".status")
    await expect(status).to_contain_text("looked up one by one every 5 s", timeout=DRAWN_MS_MAX)
    await page.reload()
    await assert_chips_are_apart(page, 2)
    await page.locator('[aria-label="Filters in force"] a', has_text="DE").click()
    await page.wait_for_url(lambda url: "country" not in url)
    assert int(await attempts.inner_text()) > 2 * few
    assert problems == []
