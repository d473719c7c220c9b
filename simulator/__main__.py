"""Makes live traffic: ``python -m simulator --rate 60 --scenario demo``."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click
import msgspec

from config.errors import ConfigError
from config.settings import load_settings
from messaging.errors import MessagingError
from simulator.live import TrafficOptions, run
from simulator.scenario import scenario_names
from simulator.tally import TrafficSummary

EXIT_CONFIG = 78
EXIT_UNAVAILABLE = 69


@click.command()
@click.option(
    "--rate", type=click.FloatRange(0.001, 100_000), default=60.0, show_default=True, help="Orders per second."
)
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same world.")
@click.option(
    "--speed",
    type=click.FloatRange(0.001, 1_000),
    default=1.0,
    show_default=True,
    help="The world's seconds in one second on the wall.",
)
@click.option(
    "--scenario",
    default="demo",
    show_default=True,
    help=f"One of {', '.join(scenario_names())}, or the path of a YAML file.",
)
@click.option("--duration", type=click.FloatRange(0.1), help="Seconds after which to stop; without it, until stopped.")
@click.option("--control-port", type=click.IntRange(0, 65_535), help="Loopback port to trigger incidents at; 0: any.")
@click.option("--summary", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for the running account.")
def main(
    rate: float,
    seed: int,
    speed: float,
    scenario: str,
    duration: float | None,
    control_port: int | None,
    summary: Path | None,
) -> None:
    """Drive the real system with simulated checkouts, and say at the end what would have been best."""
    try:
        options = TrafficOptions(
            url=load_settings().broker.url,
            rate=rate,
            seed=seed,
            speed=speed,
            scenario=scenario,
            duration_s=duration,
            control_port=control_port,
            summary=summary.absolute() if summary else None,
        )
        report = asyncio.run(_until_signalled(options))
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_CONFIG)
    except MessagingError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_UNAVAILABLE)
    click.echo(msgspec.json.format(msgspec.json.encode(_shown(report)), indent=2).decode())


async def _until_signalled(options: TrafficOptions) -> TrafficSummary:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await run(options, stop=stop)


def _shown(report: TrafficSummary) -> dict[str, object]:
    """The account without what is too long for a terminal."""
    everything: dict[str, object] = msgspec.to_builtins(report)
    everything.pop("timeline")
    return everything


if __name__ == "__main__":
    main()
