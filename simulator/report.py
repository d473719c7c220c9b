"""Draws what the simulated world looks like into one HTML page: ``python -m simulator.report --out FILE``."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any, Final

import click
from bokeh.embed import components
from bokeh.layouts import gridplot
from bokeh.resources import INLINE

from simulator import report_plots as plots
from simulator.offline import Offline
from simulator.report_figures import Calibration, Rate, Retries, calibration, calibration_overall, retries
from simulator.scenario import Scenario
from simulator.world.shoppers import ATTEMPTS_MAX

PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The simulated payments world</title>{resources}
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem;color:#222}}
table{{border-collapse:collapse;font-variant-numeric:tabular-nums}}td,th{{padding:.2rem .8rem;text-align:right;
border-bottom:1px solid #ddd}}td:first-child,th:first-child{{text-align:left}}</style></head><body>
<h1>The simulated payments world</h1>
<p>{attempts:,} attempts of a month without incidents, routed uniformly, seed {seed}. Whiskers and ranges are 95 %
intervals (Wilson). Rates are of first attempts unless said otherwise; a success taken back later still counts.</p>
{sections}{script}</body></html>
"""


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="HTML file to write.")
@click.option("--attempts", type=click.IntRange(10_000, 5_000_000), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
def main(out: Path, attempts: int, seed: int) -> None:
    """Write the report."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(attempts, seed), encoding="utf-8")
    click.echo(f"written: {out}")


def page(attempts: int, seed: int) -> str:
    """The whole report as HTML.

    Args:
        attempts: how many to simulate, 10,000 or more.
        seed: of the world.
    """
    calm = Scenario(title="A month", rhythm="daily")
    chunk = Offline(calm, seed=seed, rate=attempts / (plots.DAYS * 86_400) / 1.1).take(attempts)
    calibrated = calibration(chunk)
    contexts, tries = plots.contexts(chunk), retries(chunk, ATTEMPTS_MAX)
    drawn: dict[str, Any] = {
        "contexts": _grid([contexts[:2], contexts[2:]]),
        "latency": _grid([[plots.latency(chunk), plots.rhythm(chunk)]]),
        "failures": _grid([[plots.failures(chunk), plots.attempts_of_orders(tries)]]),
        "calibration": _grid([[plots.banks(calibrated, "business"), plots.banks(calibrated, "technical")]]),
        "demo": plots.demo(seed),
    }
    script, divisions = components(drawn)
    sections = [
        (
            "Success by context",
            "The best gateway depends on method, issuer, amount and hour.",
            "contexts",
        ),
        (
            "Latency and rhythm",
            "Log-normal answers, a spike at each time-out; orders by hour, in UTC.",
            "latency",
        ),
        ("Failures and retries", _retry_words(tries), "failures"),
        ("Calibration", _calibration_table(calibrated), "calibration"),
        (
            "The demo's story",
            "Success in five-second windows; after a minute bravo breaks for ninety seconds.",
            "demo",
        ),
    ]
    body = "".join(f"<h2>{html.escape(title)}</h2><p>{text}</p>{divisions[key]}" for title, text, key in sections)
    return PAGE.format(resources=INLINE.render(), attempts=len(chunk), seed=seed, sections=body, script=script)


def _grid(rows: list[list[Any]]) -> Any:
    return gridplot(rows, merge_tools=True, toolbar_location="right")


def _retry_words(found: Retries) -> str:
    return (
        f"First attempts: {_shown(found.first_attempts_paid)}. Orders in the end, after retries: "
        f"{_shown(found.orders_paid)}."
    )


def _calibration_table(rows: list[Calibration]) -> str:
    cells = "".join(
        f"<tr><td>{name}</td><td>{public:.2%}</td><td>{simulated:.2%}</td></tr>"
        for name, (public, simulated) in calibration_overall(rows).items()
    )
    n = sum(row.business.n for row in rows)
    return (
        f"Payments over UPI that reached the payer's bank, n = {n:,}, against the public monthly statistics of the "
        f"twenty largest paying banks, January to November 2024.</p><table><tr><th></th><th>public</th>"
        f"<th>simulated</th></tr>{cells}</table><p>"
    )


def _shown(rate: Rate) -> str:
    if rate.rate is None:
        return "none seen"
    return f"{rate.rate:.1%} ({rate.low:.1%} to {rate.high:.1%}, n = {rate.n:,})"


if __name__ == "__main__":
    main()
