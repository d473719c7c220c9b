"""The pages in headless Chromium, on a real mongod and with the real dashboard process behind them."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page, ViewportSize, async_playwright, expect

from cli.services.ports import free_ports
from config.settings import Settings, load_settings
from storage.database import connect, declare
from tests.conftest import eventually
from tests.web_documents import HOSTILE, STORY, fill
from web.app import make_app
from web.keys import CLIENT, DATABASE
from web.live_proxy import dashboard_answers
from web.routes import PAGES

CHROMIUM = "/usr/bin/chromium"
IS_MISSING = not Path(CHROMIUM).exists()
PASSWORD = "correct horse"
DESK = ViewportSize(width=1400, height=900)
PHONE = ViewportSize(width=390, height=844)
SHOTS = Path(__file__).parents[2] / "artifacts/screenshots"
DRAWN_MS_MAX = 60_000
"""A live view may take so long to draw; generous, because a loaded machine starts Bokeh slowly."""
ALL = (*PAGES, f"/payments/{STORY}", "/payments?q=ord_000001")
EMBEDDED = ("/", "/failures", "/routing", "/anomalies", "/experiments", "/health")


class Site:
    """The web process and its address; the dashboard process runs only while it is asked to."""

    def __init__(self, environment: dict[str, str], runner: web.AppRunner) -> None:
        self.settings: Settings = load_settings(environment)
        self.url = f"http://127.0.0.1:{self.settings.web.port}"
        self.runner = runner
        self._environment = environment
        self._dashboard: asyncio.subprocess.Process | None = None

    async def start_dashboard(self) -> None:
        """Start the dashboard process and wait until it answers."""
        self._dashboard = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "web.dashboard",
            env={**os.environ, **self._environment},
            stderr=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )

        async def answers() -> bool:
            return await dashboard_answers(self.runner.app[CLIENT], self.settings.dashboard)

        await eventually(answers, within_s=60, every_s=0.2)

    async def stop_dashboard(self) -> None:
        """End the dashboard process, if it runs."""
        if self._dashboard is not None:
            self._dashboard.terminate()
            await self._dashboard.wait()
            self._dashboard = None


@pytest.fixture
async def site(mongo_url: str) -> AsyncIterator[Site]:
    """The web process on a database full of payments."""
    web_port, dashboard_port = free_ports(2)
    environment = {
        "IPA_MONGO_URL": mongo_url,
        "IPA_STORE__DATABASE": f"test_{secrets.token_hex(6)}",
        "IPA_WEB__PORT": str(web_port),
        "IPA_WEB__ADMIN_PASSWORD": PASSWORD,
        "IPA_DASHBOARD__PORT": str(dashboard_port),
        "IPA_DASHBOARD__SECRET": secrets.token_hex(24),
    }
    settings = load_settings(environment)
    database = await connect(settings.store)
    await declare(database, settings.store)
    await fill(database, datetime.now(UTC), attempts=400)
    await database.client.close()
    runner = web.AppRunner(make_app(settings), shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", settings.web.port).start()
    opened = Site(environment, runner)
    yield opened
    await opened.stop_dashboard()
    await runner.app[DATABASE].client.drop_database(settings.store.database)
    await runner.cleanup()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    if IS_MISSING:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing: apt-get install chromium")
        pytest.skip("Chromium is missing: apt-get install chromium")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        await started.close()


async def logged_in(site: Site, browser: Browser, viewport: ViewportSize) -> tuple[BrowserContext, Page, list[str]]:
    """A page whose person is logged in, and the list that its console's problems go to."""
    context = await browser.new_context(viewport=viewport)
    page = await context.new_page()
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.goto(f"{site.url}/login")
    await page.fill("#name", "operator")
    await page.fill("#password", PASSWORD)
    await page.press("#password", "Enter")
    await page.wait_for_url(f"{site.url}/")
    return context, page, problems


async def width_of(page: Page) -> int:
    """How wide the page is, scrolled parts included."""
    return int(await page.evaluate("document.documentElement.scrollWidth"))


async def test_login_and_search_by_keyboard(site: Site, browser: Browser) -> None:
    """With the keyboard alone one can log in, skip to the content, search with /, and read a story."""
    page = await browser.new_page()
    await page.goto(f"{site.url}/payments")
    await expect(page.locator("#name")).to_be_focused()
    await page.keyboard.type("operator")
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{site.url}/payments")
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(page.locator("#content")).to_be_focused()
    await page.keyboard.press("/")
    await expect(page.locator("#search")).to_be_focused()
    await page.keyboard.type(STORY)
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"{site.url}/payments/{STORY}")
    await expect(page.locator("h1")).to_have_text(STORY)


async def test_story_shows_everything(site: Site, browser: Browser) -> None:
    """The story's parts are all visible, in the order in which they happened."""
    _, page, problems = await logged_in(site, browser, DESK)
    await page.goto(f"{site.url}/payments/{STORY}")
    problems.clear()  # the overview's live view has no dashboard here, which a browser logs
    await page.reload()
    titles = [" ".join(title.split()) for title in await page.locator(".timeline h3").all_inner_texts()]
    assert titles == [
        "Anomaly detected ■ critical",
        "Route requested",
        "Route advised: bravo",
        "Sent to bravo",
        "Reported ○ pending",
        "Reported ■ failed",
        "Failure classified: issuer unavailable",
    ]
    await expect(page.locator("tr.chosen")).to_contain_text("82.0 %")
    assert problems == []


async def test_no_page_complains_or_scrolls_sideways(site: Site, browser: Browser) -> None:
    """At a phone's width no page is wider than the screen, in light and dark, and none logs an error."""
    await site.start_dashboard()
    context, page, problems = await logged_in(site, browser, PHONE)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for path in ALL:
            await page.goto(f"{site.url}{path}")
            assert await width_of(page) <= PHONE["width"], path
    await context.close()
    assert problems == []


async def test_the_scrubber_says_where_it_stands(site: Site, browser: Browser) -> None:
    """The slider of Replay tells how many minutes ago while it is moved, and where it went it still does."""
    _, page, _ = await logged_in(site, browser, DESK)
    await page.goto(f"{site.url}/replay")
    told = page.locator("output[for=minutes_ago]")
    await expect(told).to_have_text("15")
    await page.evaluate("""() => {
        const slider = document.getElementById("minutes_ago");
        slider.value = 40;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
    }""")
    await expect(told).to_have_text("40")
    await page.focus("#minutes_ago")
    await page.keyboard.press("ArrowRight")
    await page.wait_for_url("**/replay?minutes_ago=41")
    await expect(told).to_have_text("41")


async def test_what_is_folded_away_fits_a_phone_too(site: Site, browser: Browser) -> None:
    """With everything unfolded no page is wider than a phone's screen."""
    database = site.runner.app[DATABASE]
    await database["failures"].update_many({}, {"$set": {"evidence": "text_model"}})
    _, page, _ = await logged_in(site, browser, PHONE)
    wide = []
    for path in ALL:
        await page.goto(f"{site.url}{path}")
        await page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        if await width_of(page) > PHONE["width"]:
            wide.append(path)
    assert wide == []


async def test_tables_fit_a_small_desk(site: Site, browser: Browser) -> None:
    """At 1280 pixels no table is wider than its card, also with an anomaly of days ago and a gateway that is paused."""
    database = site.runner.app[DATABASE]
    began = datetime.now(UTC) - timedelta(days=3)
    told = {"signal": "volume", "observed": 0.0, "expected": 3463.9, "expected_low": 2900.1, "expected_high": 4110.8}
    money = {"loss_minor_per_minute": 169_874_00.0, "loss_low": 132_303_00.0, "loss_high": 205_870_00.0}
    times = {"started_at": began, "detected_at": began + timedelta(seconds=75), "closed_at": began + timedelta(hours=9)}
    changed = await database["anomalies"].update_one({"_id": "ano_4"}, {"$set": told | money | times})
    assert changed.modified_count == 1
    _, page, _ = await logged_in(site, browser, ViewportSize(width=1280, height=900))
    too_wide = """[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth)
        .map(each => `${location.pathname} ${each.innerText.slice(0, 40)} ${each.scrollWidth} > ${each.clientWidth}`)"""
    for path in ALL:
        await page.goto(f"{site.url}{path}")
        assert await page.evaluate(too_wide) == []


async def test_every_live_view_draws(site: Site, browser: Browser) -> None:
    """With the dashboard running, each page's live view draws its charts through the proxy, without a console error."""
    await site.start_dashboard()
    context, page, problems = await logged_in(site, browser, DESK)
    for path in EMBEDDED:
        await page.goto(f"{site.url}{path}")
        await expect(page.frame_locator("iframe.live").locator("canvas").first).to_be_attached(timeout=DRAWN_MS_MAX)
    await context.close()
    assert problems == []


async def test_live_views_follow_the_choice(site: Site, browser: Browser) -> None:
    """Filter and range stand in the address: the page, its live view and a reload show the same, and a chip ends it."""
    await site.start_dashboard()
    _, page, problems = await logged_in(site, browser, DESK)
    frame = page.frame_locator("iframe[data-live]")

    async def offered() -> int:
        await page.goto(site.url)
        return await page.locator("#add-gateway option").count() - 1

    await eventually(offered, within_s=30, every_s=1)
    await page.locator("details.filters summary").click()
    await page.select_option("#add-gateway", "bravo")
    await page.click("details.filters button[type=submit]")
    assert "gateway=bravo" in page.url
    for _ in range(2):
        await expect(frame.locator("time").first).to_be_visible(timeout=DRAWN_MS_MAX)
        await expect(frame.locator("text=bravo").first).to_be_visible(timeout=DRAWN_MS_MAX)
        assert await frame.locator("text=alpha").count() == 0
        assert await page.locator('[data-part="gateways"] tbody th').all_inner_texts() == ["bravo"]
        await page.reload()
    await page.get_by_role("link", name="15m live").click()
    await expect(frame.get_by_text("last 15 minutes").first).to_be_visible(timeout=DRAWN_MS_MAX)
    assert "gateway=bravo" in page.url
    await expect(frame.locator(".bk-Figure").first).to_be_visible(timeout=DRAWN_MS_MAX)
    SHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SHOTS / "overview_chosen.png", full_page=True)
    await page.get_by_role("link", name="bravo").click()
    await expect(frame.locator("text=alpha").first).to_be_visible(timeout=DRAWN_MS_MAX)
    assert "gateway" not in page.url
    assert problems == []


async def test_routing_follows_the_choice(site: Site, browser: Browser) -> None:
    """A gateway chosen on the page Routing: charts and table are of it alone, and the page says what is not."""
    await site.start_dashboard()
    _, page, problems = await logged_in(site, browser, DESK)
    problems.clear()
    await page.goto(f"{site.url}/routing?range=1h&gateway=bravo")
    frame = page.frame_locator("iframe[data-live]")
    await expect(frame.locator(".legend li")).to_have_text(["bravo"], timeout=DRAWN_MS_MAX)
    assert await page.locator('[data-part="expected"] tbody th').all_inner_texts() == ["bravo"]
    await expect(page.locator("[role=note]")).to_contain_text("“In hindsight” and overriding are of all traffic")
    await expect(page.locator("#hindsight-title")).to_contain_text("of all traffic")
    await page.get_by_role("link", name="bravo").first.click()
    await expect(frame.locator(".legend")).to_contain_text("alpha", timeout=DRAWN_MS_MAX)
    await expect(page.locator("[role=note]")).to_have_count(0)
    assert problems == []


async def test_live_views_are_compared_with_the_time_before(site: Site, browser: Browser) -> None:
    """A chip puts it into the address: legend and table tell both times, after a reload and with a filter too."""
    await site.start_dashboard()
    _, page, problems = await logged_in(site, browser, PHONE)
    frame, table = page.frame_locator("iframe[data-live]"), page.locator('[data-part="minutes"] table').first
    await expect(table).to_have_count(0)
    await page.goto(f"{site.url}/?range=15m&gateway=alpha")
    await page.get_by_role("link", name="compare with the 15 minutes before").click()
    for _ in range(2):
        assert "compare=1" in page.url
        assert "gateway=alpha" in page.url
        legend = frame.locator(".legend").first
        await expect(legend).to_contain_text("the 15 minutes before", timeout=DRAWN_MS_MAX)
        await expect(table).to_contain_text("The 15 minutes before: rate")
        assert await width_of(page) <= PHONE["width"]
        await page.reload()
    both = await table.locator("tbody td").all_inner_texts()
    assert len(both) == 8
    assert all(text != "0" for text in both), both
    await page.locator("#every-minute summary").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#every-minute tbody tr").first).to_be_visible()
    async with page.expect_download() as download:
        await page.locator('[data-part="minutes"] a').click()
    rows = (await (await download.value).path()).read_text().splitlines()
    assert any(",before," in row for row in rows)
    await page.get_by_role("link", name="compare with the 15 minutes before").click()
    await expect(table).to_have_count(0)
    assert "compare" not in page.url
    assert problems == []


async def test_live_view_comes_back_by_itself(site: Site, browser: Browser) -> None:
    """While the dashboard is away the view says so; when it is back the charts are there without a reload by hand."""
    _, page, _ = await logged_in(site, browser, DESK)
    await expect(page.frame_locator("iframe.live").locator("body")).to_contain_text("The live view is restarting")
    await site.start_dashboard()
    charts = page.frame_locator("iframe.live").locator("canvas").first
    await expect(charts).to_be_attached(timeout=DRAWN_MS_MAX)


async def test_theme_is_kept(site: Site, browser: Browser) -> None:
    """The theme button changes the colours at once, and the next page still has them."""
    _, page, _ = await logged_in(site, browser, DESK)
    colour = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(colour)
    await page.click("#theme")
    await page.click("#theme")
    await expect(page.locator("#theme")).to_have_text("Theme: dark")
    dark = await page.evaluate(colour)
    assert dark != light
    await page.goto(f"{site.url}/health")
    assert await page.evaluate(colour) == dark


async def test_tables_refresh_without_reload(site: Site, browser: Browser) -> None:
    """A new attempt appears in the list by itself; the page is not loaded again and the focus stays where it was."""
    _, page, _ = await logged_in(site, browser, DESK)
    await page.goto(f"{site.url}/payments")
    await page.evaluate("window.sameDocument = true")
    await page.focus("#search")
    attempts = site.runner.app[DATABASE]["attempts"]
    newest = await attempts.find_one({"_id": STORY})
    assert newest is not None
    await attempts.insert_one({**newest, "_id": "att_fresh", "attempted_at": datetime.now(UTC)})
    await expect(page.locator("text=att_fresh")).to_be_visible(timeout=15_000)
    assert await page.evaluate("window.sameDocument") is True
    await expect(page.locator("#search")).to_be_focused()


async def test_hostile_strings_run_nothing(site: Site, browser: Browser) -> None:
    """Scripts in every string that a checkout can send never run, on no page and in no live view."""
    database = site.runner.app[DATABASE]
    for name in await database.list_collection_names():
        if name not in ("users", "web_sessions"):
            await database[name].delete_many({})
    await fill(database, datetime.now(UTC), attempts=200, text=HOSTILE)
    await site.start_dashboard()
    _, page, _ = await logged_in(site, browser, PHONE)
    for path in ALL:
        await page.goto(f"{site.url}{path}")
        assert await width_of(page) <= PHONE["width"], path
        if path in EMBEDDED:
            await expect(page.frame_locator("iframe.live").locator("canvas").first).to_be_attached(timeout=DRAWN_MS_MAX)
        hacked = [await frame.evaluate("window.hacked") for frame in page.frames]
        assert hacked == [None] * len(hacked), path
