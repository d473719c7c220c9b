"""How fast the operators' room is: live sessions, first paint, pages and REST over a large store, memory.

``make bench-web``: 100 viewers of the overview over the web process's proxy while payments come in, the overview in
headless Chromium, every page and REST resource over 10 million stored attempts, and the memory of the dashboard process
over 1,000 sessions that came and went. ``ARGS="--quick"``: 100,000 attempts and 100 sessions, within a minute.

``lag_p95_ms`` is the age of the figures when they arrive at a viewer: from the moment at which the poller began to read
the store to the moment at which the viewer has the message, all sessions in one dashboard process on one core.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Final

import aiohttp

# Run as a script, this file's own folder comes first, and this file would be taken for the package of the same name.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from benchmarks.web_sessions import Viewer, log_in, open_all  # noqa: E402
from benchmarks.web_store import Stream, fill, write  # noqa: E402
from cli.services.mongodb import PrivateMongoDB  # noqa: E402
from cli.services.ports import free_ports  # noqa: E402
from config.settings import Settings, load_settings  # noqa: E402
from storage.database import Database, close, connect  # noqa: E402
from web.routes import API, PAGES  # noqa: E402

RESULTS: Final = Path(__file__).parent / "results" / "web.json"
CHROMIUM: Final = "/usr/bin/chromium"
PASSWORD: Final = secrets.token_hex(12)
ATTEMPTS_PER_S: Final = 40
READ_S_MAX: Final = 300
ASKS_THE_BROKER: Final = ("/dead-letters", "/api/v1/dead-letters")
"""Left out: how long they take has nothing to do with what is stored, and no broker runs here."""

CACHE_GB: Final = 2.0
WATCHED: Final = (
    *["overview?theme=light"] * 6,
    "overview?theme=dark",
    "failures?theme=light",
    "routing?theme=light",
    "system?theme=dark",
)
"""What people look at: most of them at the overview."""


class Size:
    """How much is measured."""

    def __init__(self, *, quick: bool) -> None:
        self.attempts = 100_000 if quick else 10_000_000
        self.base = 20_000 if quick else 50_000
        self.sessions = 100
        self.watch_s = 10 if quick else 60
        self.rounds = 5 if quick else 40
        self.paints = 3 if quick else 9
        self.comings = 100 if quick else 1_000
        self.warm_up = 50 if quick else 200


@asynccontextmanager
async def running(settings_of: dict[str, str]) -> AsyncIterator[tuple[int, int]]:
    """The web and the dashboard process; yields their process ids."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **settings_of}
    processes = []
    try:
        for module in ("web.dashboard", "web"):
            processes.append(
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", module, env=environment, stderr=asyncio.subprocess.DEVNULL
                )
            )
        await _until_ready(load_settings(settings_of))
        yield processes[0].pid, processes[1].pid
    finally:
        for process in processes:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def _until_ready(settings: Settings) -> None:
    urls = (
        f"http://127.0.0.1:{settings.web.port}/readyz",
        f"http://127.0.0.1:{settings.dashboard.port}/live/livez",
    )
    async with aiohttp.ClientSession() as http:
        for url in urls:
            for _ in range(600):
                try:
                    async with http.get(url) as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)
            else:
                raise RuntimeError(f"{url} does not answer")


async def keep_paying(database: Database) -> None:
    """Let payments come in, second by second, until cancelled."""
    stream = Stream(int(time.time()), f"n{int(time.time())}")
    while True:
        began = time.monotonic()
        now = datetime.now(UTC)
        await write(database, list(stream.attempts(ATTEMPTS_PER_S, now, 1.0)), slot=1, now=now)
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


async def measure_lag(http: aiohttp.ClientSession, base: str, size: Size, dashboard: int) -> tuple[int, float]:
    """Watch with many sessions; returns how many got an update every other second at least, and the p95 age, ms."""
    viewers = [Viewer(http, base, view) for view, _ in zip(cycle(WATCHED), range(size.sessions), strict=False)]
    await open_all(viewers, at_once=4)
    for viewer in viewers:
        viewer.ages_s.clear()
    cpu, began = cpu_s(dashboard), time.monotonic()
    await asyncio.sleep(size.watch_s)
    busy = (cpu_s(dashboard) - cpu) / (time.monotonic() - began)
    ages = [1_000 * age for viewer in viewers for age in viewer.ages_s]
    alive = sum(len(viewer.ages_s) >= size.watch_s / 2 for viewer in viewers)
    updates = len(ages) / size.watch_s / len(viewers)
    sent = sum(viewer.bytes for viewer in viewers) / len(viewers) / size.watch_s
    print(
        f"live sessions        {alive} of {len(viewers)} kept up, {updates:.2f} updates/s, {sent / 1_000:.0f} kB/s each"
    )
    print(f"dashboard process    {100 * busy:.0f} % of a core")
    print(f"age of figures       p50 {quantile(ages, 0.5):.0f} ms, p95 {quantile(ages, 0.95):.0f} ms")
    await asyncio.gather(*(viewer.close() for viewer in viewers))
    return alive, quantile(ages, 0.95)


async def measure_memory(http: aiohttp.ClientSession, base: str, size: Size, dashboard: int) -> float:
    """Open and close sessions; returns by how much the process grew, MB per 1,000 of them."""

    async def come_and_go(count: int) -> None:
        for start in range(0, count, 10):
            viewers = [Viewer(http, base, WATCHED[0]) for _ in range(min(10, count - start))]
            await open_all(viewers, at_once=4)
            await asyncio.gather(*(viewer.close() for viewer in viewers))

    await come_and_go(size.warm_up)
    await _until_gone(dashboard)
    before = rss_mb(dashboard)
    await come_and_go(size.comings)
    await _until_gone(dashboard)
    after = rss_mb(dashboard)
    print(f"memory               {before:.0f} MB before, {after:.0f} MB after {size.comings} sessions")
    return (after - before) * 1_000 / size.comings


async def _until_gone(dashboard: int) -> None:
    """Wait until the process has let go of sessions that left: its memory stands still."""
    last = rss_mb(dashboard)
    for _ in range(20):
        await asyncio.sleep(3)
        if abs(rss_mb(dashboard) - last) < 0.3:
            return
        last = rss_mb(dashboard)


async def measure_answers(http: aiohttp.ClientSession, base: str, paths: list[str], rounds: int, what: str) -> float:
    """Ask for every address in turn, each round anew; returns the p95 over all of them, ms."""
    took: dict[str, list[float]] = {path: [] for path in paths}
    for number in range(rounds + 1):
        for path in paths:
            began = time.perf_counter()
            async with http.get(base + path) as answer:
                await answer.read()
                assert answer.status == 200, f"{path} answers {answer.status}"
            if number:
                took[path].append(1_000 * (time.perf_counter() - began))
    for path, times in sorted(took.items(), key=lambda item: -quantile(item[1], 0.95))[:6]:
        print(f"    {path:<40} p50 {quantile(times, 0.5):6.1f} ms, p95 {quantile(times, 0.95):6.1f} ms")
    everything = [time_ms for times in took.values() for time_ms in times]
    median, p95 = quantile(everything, 0.5), quantile(everything, 0.95)
    print(f"{what:<20} p50 {median:.1f} ms, p95 {p95:.1f} ms, {len(paths)} addresses")
    return quantile(everything, 0.95)


async def measure_paint(base: str, paints: int) -> float:
    """Load the overview in headless Chromium; returns the median time to its first contentful paint, ms."""
    from playwright.async_api import async_playwright

    times = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await (await browser.new_context(viewport={"width": 1400, "height": 900})).new_page()
        await page.goto(f"{base}/login")
        await page.fill("#name", "operator")
        await page.fill("#password", PASSWORD)
        await page.press("#password", "Enter")
        await page.wait_for_url(f"{base}/")
        for _ in range(paints):
            await page.goto(base, wait_until="load")
            times.append(
                await page.evaluate(
                    """() => new Promise((resolve) => {
                      const done = (entry) => entry && resolve(entry.startTime);
                      new PerformanceObserver((list) => done(list.getEntriesByName("first-contentful-paint")[0]))
                        .observe({type: "paint", buffered: true});
                    })"""
                )
            )
        await browser.close()
    print(f"first paint          {', '.join(f'{time_ms:.0f}' for time_ms in times)} ms")
    return statistics.median(times)


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def quantile(values: list[float], share: float) -> float:
    """A quantile of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def measure(size: Size) -> dict[str, float]:
    """Measure everything on services of our own."""
    with tempfile.TemporaryDirectory(prefix="ipa-bench-") as directory:
        async with PrivateMongoDB(Path(directory), cache_gb=CACHE_GB) as node:
            web_port, dashboard_port = free_ports(2)
            environment = {
                "IPA_MONGO_URL": node.url,
                "IPA_STORE__DATABASE": "bench",
                "IPA_WEB__PORT": str(web_port),
                "IPA_WEB__ADMIN_PASSWORD": PASSWORD,
                "IPA_DASHBOARD__PORT": str(dashboard_port),
                "IPA_DASHBOARD__SECRET": secrets.token_hex(24),
                "IPA_LOG__LEVEL": "warning",
            }
            settings = load_settings(environment)
            database = await connect(settings.store)
            began = time.monotonic()
            stored = await fill(database, settings.store, attempts=size.attempts, base=size.base, now=datetime.now(UTC))
            print(f"stored               {stored:,} attempts in {time.monotonic() - began:.0f} s")
            async with running(environment) as (dashboard, _):
                figures = await _measured(database, f"http://127.0.0.1:{web_port}", size, dashboard)
            await close(database)
    return figures


async def _measured(database: Database, base: str, size: Size, dashboard: int) -> dict[str, float]:
    http = await log_in(base, "operator", PASSWORD)
    newest = await database["attempts"].find_one({}, sort=[("attempted_at", -1)])
    assert newest is not None
    one = newest["_id"]
    paying = asyncio.create_task(keep_paying(database))
    try:
        await _until_read(http, base)
        pages = [
            "/trends?range=24h",
            "/trends?range=7d&by=method",
            *(path for path in PAGES if path not in ASKS_THE_BROKER),
            f"/payments/{one}",
            "/payments?status=failed",
            f"/payments?q={newest['order_id']}",
        ]
        resources = [
            *(path for path in API if path not in ASKS_THE_BROKER),
            f"/api/v1/payments/{one}",
            "/api/v1/payments?limit=200",
            "/api/v1/payments?status=failed",
        ]
        page_ms = await measure_answers(http, base, pages, size.rounds, "pages")
        api_ms = await measure_answers(http, base, resources, size.rounds, "REST")
        paint_ms = await measure_paint(base, size.paints)
        sessions, lag_ms = await measure_lag(http, base, size, dashboard)
        growth_mb = await measure_memory(http, base, size, dashboard)
    finally:
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)
        await http.close()
    return {
        "sessions": sessions,
        "lag_p95_ms": round(lag_ms, 1),
        "first_paint_ms": round(paint_ms, 1),
        "page_p95_ms": round(page_ms, 1),
        "api_p95_ms": round(api_ms, 1),
        "rss_growth_mb_per_1000_sessions": round(growth_mb, 1),
    }


async def _until_read(http: aiohttp.ClientSession, base: str) -> None:
    """Wait until the web process has read the past days, as one that has run for minutes has."""
    began = time.monotonic()
    while time.monotonic() - began < READ_S_MAX:
        async with http.get(f"{base}/trends?range=7d") as answer:
            if "still being read" not in await answer.text():
                break
        await asyncio.sleep(1)
    print(f"past days read       in {time.monotonic() - began:.0f} s")


def main() -> None:
    """Measure and print."""
    figures = asyncio.run(measure(Size(quick="--quick" in sys.argv[1:])))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
