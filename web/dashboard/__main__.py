"""The live charts as a process: ``python -m web.dashboard``."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog

from config.errors import ConfigError
from config.gateways import load_gateways
from config.logs import set_up_logs
from config.settings import Settings, load_settings, resolved
from messaging.ending import end
from messaging.topology import LINE
from storage.database import close, connect
from storage.errors import StoreError
from storage.read_models.live import LiveFigures
from web.dashboard.live_page import Audience, SharedMarks
from web.dashboard.server import checked_secret, make_server, web_origins

CONFIG_WRONG = 78
"""The exit code for settings that do not fit (EX_CONFIG)."""


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns: the exit code: 0 after a signal, 1 when the poller ended by itself.
    Raises: StoreError: MongoDB does not answer in time. ConfigError: the secret or the gateways do not fit.
    """
    log = structlog.get_logger("dashboard")
    checked_secret(settings.dashboard.secret)
    gateways = list(load_gateways(resolved(settings.gateways.path)))
    marks = SharedMarks(gateways, [stage.name for stage in LINE])
    database = await connect(settings.store)
    live = LiveFigures(
        database,
        gateways=gateways,
        poll_ms=settings.dashboard.poll_ms,
        heartbeat_s=settings.runner.heartbeat_s,
    )
    origins = web_origins(settings.web.host, settings.web.port)
    audience = Audience()
    server = make_server(live, marks, audience, settings.dashboard, origins)
    polling = asyncio.create_task(live.run(audience.tell))
    narrow = asyncio.create_task(live.run_narrow())
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    server.start()
    log.info("dashboard started", host=settings.dashboard.host, port=server.port, origins=origins)
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait({polling, narrow, waiting}, return_when=asyncio.FIRST_COMPLETED)
    crashed = [task for task in (polling, narrow) if task.done()]
    await end(polling, narrow, waiting)
    for task in crashed:
        log.error("the poller ended by itself", exc_info=task.exception())
    server.stop()
    await close(database)
    log.info("dashboard stopped")
    return int(bool(crashed))


def main() -> int:
    """Read the settings once and serve.

    Returns: the exit code.
    """
    try:
        settings = load_settings()
        set_up_logs(settings.log, "dashboard")
        return asyncio.run(serve(settings))
    except ConfigError as error:
        structlog.get_logger("dashboard").error("the settings do not fit", problem=str(error))
        return CONFIG_WRONG
    except OSError as error:
        log = structlog.get_logger("dashboard")
        log.error("cannot listen; free the port or set IPA_DASHBOARD__PORT", problem=str(error))
        return 1
    except StoreError as error:
        structlog.get_logger("dashboard").error("no store", problem=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
