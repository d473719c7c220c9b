"""How the cost of an attempt depends on how many are stored already, and on how many ingestors share the work.

``python -m benchmarks.ingest_growth [--quick] [--stored 1e7]``. Draws ``docs/images/ingest-growth.png``
with Chromium, keeps ``benchmarks/results/ingest_growth.json``. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient

from actors.ingestor import Ingestor
from benchmarks.ingest import Bench, Run
from benchmarks.reports import bodies, reports
from benchmarks.services import private_services
from storage.attempts import AttemptChange, attempt_document, stretch_of
from storage.database import KEPT_SINCE

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "ingest_growth.json"
PICTURE: Final = ROOT / "docs" / "images" / "ingest-growth.png"
SEED: Final = 13
SAMPLE: Final = 50_000
SPAN: Final = timedelta(minutes=10)
"""How long it would have taken such a sample to come in."""
ATTEMPTS: Final = 300_000
"""Half a minute of load: the store writes pages out once a minute, however many attempts were added to each."""
REPLICAS: Final = (1, 2, 4)
STORED: Final = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


def fill(collection: Any, start: int, count: int) -> None:
    """Store attempts from number ``start`` up to ``count`` as the ingestor would have, without going through it.

    They lie in the past in the order in which they came, and each sample of them has shoppers of its own.
    """
    sample = list(reports(SAMPLE, seed=SEED + 1, rate=SAMPLE / SPAN.total_seconds()))
    facts = Ingestor({report.gateway for report in sample}).handle(sample, datetime.now(UTC), {}, batch_id="fill")
    documents = [attempt_document(fact.after) for fact in facts if isinstance(fact, AttemptChange)]
    oldest = -(-max(STORED) // len(documents))
    while start < count:
        turn = start // len(documents)
        earlier = SPAN * (oldest - turn)
        part = [
            document | {
                "_id": f"att_old{start + place}",
                "order_id": f"ord_old{start + place}",
                "customer_id": f"{document['customer_id']}{turn}",
                "attempted_at": document["attempted_at"] - earlier,
                "occurred_at": document["occurred_at"] - earlier,
                "customer_stretch": stretch_of(document["attempted_at"] - earlier),
                KEPT_SINCE: document[KEPT_SINCE] - earlier,
            }
            for place, document in enumerate(documents[: count - start])
        ]  # fmt: skip
        collection.insert_many(part, ordered=False)
        start += len(part)


async def measure(*, stored_max: int, attempts: int) -> dict[str, Any]:
    """First by stored attempts in one growing database, then by replicas in fresh ones."""
    by_stored: dict[int, Run] = {}
    by_replicas: dict[int, Run] = {}
    async with private_services() as services:
        bench = Bench(services)
        database = MongoClient[dict[str, Any]](services.store.url)["growing"]
        await bench.run("ours", bodies(2_000, seed=SEED, rate=10_000, prefix="w"), database="growing")  # warm
        for size in (size for size in STORED if size <= stored_max):
            began = time.monotonic()
            fill(database["attempts"], database["attempts"].estimated_document_count(), size)
            print(f"{size:>12,} stored after {time.monotonic() - began:.0f} s", flush=True)
            load = bodies(attempts, seed=SEED, rate=10_000, prefix=f"s{size}x")
            by_stored[size] = await bench.run("ours", load, database="growing")
            _say(f"{size:,} stored", by_stored[size])
        for replicas in REPLICAS:
            by_replicas[replicas] = await bench.run("ours", bodies(attempts, seed=SEED, rate=10_000), replicas=replicas)
            _say(f"{replicas} replicas", by_replicas[replicas])
    return {
        **{f"stored_{size}_cpu_us": round(run.cpu_us + run.store_cpu_us, 1) for size, run in by_stored.items()},
        **{f"stored_{size}_per_s": round(run.attempts_per_s) for size, run in by_stored.items()},
        **{f"replicas_{count}_per_s": round(run.attempts_per_s) for count, run in by_replicas.items()},
        "lost": sum(run.lost for run in (*by_stored.values(), *by_replicas.values())),
        "doubled": sum(run.doubled for run in (*by_stored.values(), *by_replicas.values())),
        "attempts": attempts,
    }


def _say(what: str, run: Run) -> None:
    print(
        f"{what:<20}{run.attempts_per_s:>9,.0f} attempts/s, CPU {run.cpu_us:.0f} us in ingestors and "
        f"{run.store_cpu_us:.0f} us in mongod an attempt",
        flush=True,
    )


def draw(figures: dict[str, Any]) -> None:
    """Two charts side by side, as a picture."""
    from bokeh.embed import file_html
    from bokeh.layouts import row
    from bokeh.plotting import figure
    from bokeh.resources import INLINE
    from playwright.sync_api import sync_playwright

    costs = {size: figures[name] for size in STORED if (name := f"stored_{size}_cpu_us") in figures}
    rates = {str(count): figures[f"replicas_{count}_per_s"] for count in REPLICAS}
    left = figure(
        width=520, height=320, toolbar_location=None, title="Processor time an attempt, ingestor and mongod (µs)",
        x_axis_type="log", x_axis_label="attempts stored before", y_range=(0, 1.3 * max(costs.values())),
    )  # fmt: skip
    left.line(list(costs), list(costs.values()), line_width=2)
    left.scatter(list(costs), list(costs.values()), size=9)
    right = figure(
        width=520,
        height=320,
        toolbar_location=None,
        title="Attempts stored a second, two cores",
        x_range=list(rates),
        x_axis_label="ingestors",
    )
    right.vbar(list(rates), width=0.6, top=list(rates.values()))
    right.y_range.start = 0
    page = file_html(row(left, right), INLINE, "ingest")
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1080, "height": 350})
        view.set_content(page)
        view.wait_for_timeout(800)
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        view.screenshot(path=str(PICTURE))
        browser.close()


def main() -> None:
    """Measure, draw and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--stored", type=float, default=1e7)
    options = parser.parse_args()
    stored = 10_000 if options.quick else int(options.stored)
    figures = asyncio.run(measure(stored_max=stored, attempts=5_000 if options.quick else ATTEMPTS))
    if not options.quick:
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        draw(figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
