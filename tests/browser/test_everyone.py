"""For everyone: no page breaks an accessibility rule, an outage shows itself, and an address holds what is shown."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from messaging.contracts import Anomaly, Segment
from storage.anomalies import record_anomalies
from tests.browser.test_pages import DESK, PHONE, SHOTS, Site, browser, logged_in, site  # noqa: F401  fixtures
from tests.web_documents import STORY
from web.keys import DATABASE
from web.routes import PAGES

AXE = Path(__file__).parents[2] / ".venv/npm/node_modules/axe-core/axe.min.js"
EXTRA = (
    f"/payments/{STORY}",
    "/payments?q=ord_000001",
    "/anomalies/ano_1",
    "/policies?policy=uniform&days=1",
    "/trends?range=24h&by=method&gateway=alpha",
    "/?range=15m&gateway=alpha&method=card",
    "/?range=1h&compare=1",
    "/routing?gateway=alpha&method=card",
    "/failures?gateway=alpha",
)
VIOLATIONS = """async (only) => {
  const options = only ? {runOnly: [only]} : {};
  const found = await axe.run(document, {resultTypes: ["violations"], ...options});
  return found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(" | ")}`);
}"""


async def violations(page: Page, only: str | None = None) -> list[str]:
    """The rules that the page breaks, each with where."""
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[str] = await page.evaluate(VIOLATIONS, only)
    return found


async def test_no_page_breaks_an_accessibility_rule(site: Site, browser: Browser) -> None:  # noqa: F811
    """axe-core finds nothing on any page in light, and no lack of contrast in dark; a picture of each is kept."""
    if not AXE.exists():
        if os.environ.get("CI"):
            pytest.fail("axe-core is missing: deploy/prepare axe")
        pytest.skip("axe-core is missing: deploy/prepare axe")
    SHOTS.mkdir(parents=True, exist_ok=True)
    _, page, _ = await logged_in(site, browser, DESK)
    for scheme, only in (("light", None), ("dark", "color-contrast")):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for path in (*PAGES, *EXTRA):
            await page.goto(f"{site.url}{path}", wait_until="domcontentloaded")
            assert await violations(page, only) == [], (scheme, path)
            name = "".join(letter if letter.isalnum() else "_" for letter in path.strip("/"))[:40] or "overview"
            await page.screenshot(path=SHOTS / f"{name}.{scheme}.png", full_page=True)


async def test_an_outage_shows_itself_on_an_open_page(site: Site, browser: Browser) -> None:  # noqa: F811
    """A new anomaly is on the open overview within 15 s without a reload; its page takes a comment."""
    _, page, _ = await logged_in(site, browser, PHONE)
    await page.evaluate("window.sameDocument = true")
    alarms = page.locator(".kpi.alarm .big")
    before = int(await alarms.inner_text())
    now = datetime.now(UTC)
    anomaly = Anomaly(
        anomaly_id="ano_outage",
        segment=Segment(gateway="echo"),
        signal="success_rate",
        severity="critical",
        started_at=now - timedelta(seconds=9),
        detected_at=now,
        updated_at=now,
        observed=0.02,
        expected=0.9,
        expected_low=0.85,
        expected_high=0.94,
        attempts_seen=64,
        score=12.0,
    )
    await record_anomalies(site.runner.app[DATABASE], [anomaly], [], now=now)
    await expect(alarms).to_have_text(str(before + 1), timeout=15_000)
    assert await page.evaluate("window.sameDocument") is True
    await page.goto(f"{site.url}/anomalies/ano_outage")
    await page.fill("#text", "calling the gateway")
    await page.click("text=Write")
    await expect(page.locator(".done")).to_contain_text("Written")
    await expect(page.locator(".comments")).to_contain_text("calling the gateway")


async def test_the_address_holds_what_trends_show(site: Site, browser: Browser) -> None:  # noqa: F811
    """A filter becomes a chip and a part of the address; a reload shows the same; the chip takes it out."""
    _, page, _ = await logged_in(site, browser, DESK)
    await page.goto(f"{site.url}/trends?range=1h")
    await page.click("summary:has-text('Filter')")
    await page.select_option("#add-gateway", "bravo")
    await page.select_option("#by", "method")
    await page.click("button:has-text('Show')")
    await page.wait_for_url("**gateway=bravo**")
    attempts = page.locator(".kpi .big").nth(2)
    shown = await attempts.inner_text()
    await page.reload()
    await expect(attempts).to_have_text(shown)
    await page.click(".chips a:has-text('bravo')")
    await expect(attempts).not_to_have_text(shown)
    assert "bravo" not in page.url
