"""Pictures with their twins: what a browser makes of them, by mouse, on a phone, and while the page refreshes."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta

from playwright.async_api import Browser, expect

from storage.audit import audit_entry, record_audit
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
from tests.conftest import eventually
from web.keys import DATABASE

BOXES = """texts => texts.map(text => {
  const {x, y, width, height} = text.getBBox();
  return [x, y, x + width, y + height];
})"""
SHRINK = 1.0
"""A line of text is as high as its font allows; letters fill less of it."""


async def test_the_ways_of_orders_are_readable(site: Site, browser: Browser) -> None:  # noqa: F811
    """As the browser sets them, no label touches another or leaves the picture; on a phone the table stands alone."""
    _, page, _ = await logged_in(site, browser, DESK)
    for width in (DESK["width"], 660):
        await page.set_viewport_size({"width": width, "height": 900})
        await page.goto(f"{site.url}/shoppers")
        boxes = await page.locator(".sankey text").evaluate_all(BOXES)
        assert len(boxes) > 10
        size = await page.locator(".sankey").evaluate("svg => [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height]")
        for left, top, right, bottom in boxes:
            assert left >= 0
            assert top >= 0
            assert right <= size[0]
            assert bottom <= size[1]
        for one, other in itertools.combinations(boxes, 2):
            apart = one[2] < other[0] or other[2] < one[0] or one[3] - SHRINK < other[1] or other[3] - SHRINK < one[1]
            assert apart, (one, other)
    titles = await page.locator(".sankey .flow title").evaluate_all("titles => titles.map(t => t.textContent)")
    assert all(re.search(r" → .+: n [\d,]+, [\d.]+ % of all, ", title) for title in titles)
    await page.set_viewport_size(PHONE)
    await expect(page.locator(".sankey")).to_be_hidden()
    rows = page.locator("section[aria-labelledby=flow-title] tbody tr")
    await expect(rows.last).to_contain_text("600")
    assert await width_of(page) <= PHONE["width"]


async def test_what_was_done_shows_itself_in_the_charts(site: Site, browser: Browser) -> None:  # noqa: F811
    """A pause is in the list of an open live view soon after, and the line in the chart tells it to the mouse."""
    await site.start_dashboard()
    _, page, problems = await logged_in(site, browser, DESK)
    problems.clear()
    await page.goto(site.url)
    frame = page.frame_locator("iframe.live")
    await expect(frame.get_by_label("What was done meanwhile")).to_contain_text("nobody paused", timeout=DRAWN_MS_MAX)
    at = datetime.now(UTC) - timedelta(minutes=5)
    entry = audit_entry(at, who="dana", what="gateway.paused", subject="gateway:bravo", reason="failing")
    await record_audit(site.runner.app[DATABASE], entry)
    link = frame.get_by_role("link", name="bravo paused")
    await expect(link).to_be_visible(timeout=15_000)
    chart = frame.get_by_label("Authorization rate per gateway")
    await chart.scroll_into_view_if_needed()
    box = await chart.bounding_box()
    assert box is not None
    tooltip = frame.locator(".bk-tooltip-content", has_text="bravo paused (dana)")
    places = itertools.cycle(range(60, int(box["width"]) - 20, 2))

    async def told() -> bool:
        await page.mouse.move(box["x"] + next(places), box["y"] + 0.75 * box["height"])
        return await tooltip.count() > 0

    await eventually(told, within_s=60, every_s=0.02)
    assert problems == []
    await link.click()
    await expect(page.locator("h1")).to_have_text("Audit log")


async def test_a_course_tells_value_interval_and_units(site: Site, browser: Browser) -> None:  # noqa: F811
    """The mouse on a line brings all three; the table that says the same stays open while the page refreshes."""
    await site.start_dashboard()
    _, page, problems = await logged_in(site, browser, DESK)
    problems.clear()
    await page.goto(f"{site.url}/experiments")
    frame = page.frame_locator("iframe.live")
    chart = frame.get_by_label("Difference over time")
    await expect(chart.locator("canvas").first).to_be_attached(timeout=DRAWN_MS_MAX)
    await expect(frame.locator(".legend").last).to_contain_text("routing-policy: adaptive − control")
    await page.click("#course-routing-policy summary")
    await page.evaluate("document.querySelector('[data-part=standings] .verdict').textContent = 'made older'")
    await expect(page.locator("[data-part=standings] .verdict").first).not_to_have_text("made older", timeout=15_000)
    await expect(page.locator("#course-routing-policy table")).to_be_visible()
    await chart.scroll_into_view_if_needed()
    box = await chart.bounding_box()
    assert box is not None
    tooltip = frame.locator(".bk-tooltip-content")
    places = itertools.cycle(range(60, 300, 4))

    async def told() -> str:
        await page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + next(places))
        return " ".join(" ".join(await tooltip.all_inner_texts()).split())

    words = await eventually(told, within_s=30, every_s=0.1)
    assert re.match(
        r"routing-policy: [+-][\d.]+ points \[[+-][\d.]+ – [+-][\d.]+\] mature n: [\d,]+ at: ", str(words)
    ), words
    assert problems == []
