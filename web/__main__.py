"""Starts the web process: ``python -m web``."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Final

import structlog
from aiohttp import web

from config.errors import ConfigError
from config.logs import set_up_logs
from config.settings import Settings, load_settings
from storage.errors import StoreError
from web.app import make_app

SHUTDOWN_S_MAX: Final = 3.0
"""Open requests get so long to end; open chart streams are cut then."""

EX_CONFIG: Final = 78
EX_UNAVAILABLE: Final = 69


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        StoreError: MongoDB cannot be used.
        OSError: the address is taken.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    runner = web.AppRunner(make_app(settings), access_log=None, shutdown_timeout=SHUTDOWN_S_MAX)
    starting = asyncio.create_task(_start(runner, settings))
    waiting = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            structlog.get_logger("web").info("listening", url=await starting)
        await waiting
    finally:
        starting.cancel()
        waiting.cancel()
        await runner.cleanup()


async def _start(runner: web.AppRunner, settings: Settings) -> str:
    """Bind the address; returns it with the port that was really taken."""
    await runner.setup()
    await web.TCPSite(runner, settings.web.host, settings.web.port).start()
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}/"


def main() -> int:
    """Run the process; returns its exit code."""
    try:
        settings = load_settings()
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201  there are no logs yet
        return EX_CONFIG
    set_up_logs(settings.log, "web")
    try:
        asyncio.run(serve(settings))
    except (StoreError, OSError) as error:
        structlog.get_logger("web").error("cannot serve", error=str(error))
        return EX_UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
