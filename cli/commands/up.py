"""``ipa up``: the same system against servers of your own, without simulated traffic."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for scripts.")
@click.option(
    "--state",
    default=".ipa",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where logs and secrets are kept.",
)
def up(as_json: bool, state: Path) -> None:
    """Run the workers, the web pages and the dashboard against IPA_AMQP_URL and IPA_MONGO_URL; Ctrl-C ends them."""
    sys.exit(asyncio.run(_up(state, as_json=as_json)))


async def _up(path: Path, *, as_json: bool) -> int:
    from cli.interruption import Interruption
    from cli.lock import StateDirectory
    from cli.running import RunningSystem, require_urls
    from cli.screen import Screen

    screen = Screen(as_json=as_json)
    require_urls()
    with StateDirectory(path) as state:
        system = RunningSystem(state, screen, private=False)
        interruption = Interruption(system.kill)

        async def course() -> int:
            await system.start()
            rows = system.urls()
            rows["Login"] = (
                f"{system.settings.web.admin_name}, password in {state.path / 'secrets.json'} unless changed"
            )
            state.note({"urls": rows})
            screen.ready(rows, ["Ctrl-C ends the processes; what is in MongoDB and RabbitMQ stays"])
            return await asyncio.Event().wait()

        try:
            await interruption.unless(course())
        finally:
            screen.waiting("stopping everything (Ctrl-C again: at once)")
            await system.stop()
            screen.waiting("")
    return 0
