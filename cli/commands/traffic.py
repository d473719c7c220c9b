"""``ipa traffic``: simulated checkouts against a running system."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click


@click.command()
@click.option("--rate", default=60.0, show_default=True, type=click.FloatRange(0.001, 100_000), help="Orders a second.")
@click.option("--scenario", default="demo", show_default=True, help="A shipped name, a YAML file, or random:SEED.")
@click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(0.001, 1_000), help="World seconds per second."
)
@click.option("--seed", default=7, show_default=True, help="The same seed makes the same shoppers.")
@click.option("--duration", type=click.FloatRange(0.1), help="Seconds after which to stop; default: until Ctrl-C.")
@click.option("--control-port", type=click.IntRange(0, 65_535), help="Loopback port to trigger incidents at; 0: any.")
@click.option("--summary", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for the running account.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end and nothing else.")
def traffic(
    rate: float,
    scenario: str,
    speed: float,
    seed: int,
    duration: float | None,
    control_port: int | None,
    summary: Path | None,
    as_json: bool,
) -> None:
    """Send simulated payments to a running system, and say at the end what the truth was and what the system got.

    That is the system at IPA_AMQP_URL, else the demo that runs in this directory. Delays of detection are said when its
    store is known: IPA_MONGO_URL, or the demo's.
    """
    from cli.target import target_settings
    from cli.traffic import run_traffic
    from config.errors import ConfigError
    from simulator.live import TrafficOptions
    from simulator.scenario import load_scenario

    load_scenario(scenario)  # say what is wrong with it before anything else
    if summary is not None and not summary.absolute().parent.is_dir():
        raise ConfigError(summary, "cannot be written: there is no such directory")
    options = TrafficOptions(
        url=target_settings().broker.url,
        rate=rate,
        scenario=scenario,
        speed=speed,
        seed=seed,
        duration_s=duration,
        control_port=control_port,
        summary=summary.absolute() if summary else None,
    )
    sys.exit(asyncio.run(run_traffic(options, as_json=as_json)))
