"""``ipa demo``: the whole system with simulated checkouts, in one command."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--rate", default=60.0, show_default=True, type=click.FloatRange(0.1, 100_000), help="Orders per second.")
@click.option("--seed", default=7, show_default=True, help="The same seed makes the same shoppers.")
@click.option(
    "--speed", default=1.0, show_default=True, type=click.FloatRange(0.1, 1000), help="World seconds per second."
)
@click.option("--fresh", is_flag=True, help="Wipe what an earlier run stored.")
@click.option(
    "--exit-after", type=click.FloatRange(min=1), help="Seconds of traffic, then stop; default: until Ctrl-C."
)
@click.option("--check", is_flag=True, help="At the end, count everything again; exit code 0 only if all is well.")
@click.option("--scenario", help="A name in simulator/scenarios/, or the path of a YAML file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for scripts.")
@click.option(
    "--state",
    default=".ipa",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where data, logs and secrets are kept.",
)
def demo(
    rate: float,
    seed: int,
    speed: float,
    fresh: bool,
    exit_after: float | None,
    check: bool,
    scenario: str | None,
    as_json: bool,
    state: Path,
) -> None:
    """Run the whole system on private servers, with simulated checkouts.

    Starts RabbitMQ, MongoDB, the workers, the web pages, the dashboard and the traffic; Ctrl-C ends all of it.
    """
    from cli.demo import DemoOptions, run_demo

    if check and exit_after is None:
        raise click.UsageError("--check needs --exit-after SECONDS: it counts when the traffic has ended")
    options = DemoOptions(
        state=state,
        rate=rate,
        seed=seed,
        speed=speed,
        fresh=fresh,
        exit_after=exit_after,
        check=check,
        scenario=scenario,
        as_json=as_json,
    )
    sys.exit(run_demo(options))
