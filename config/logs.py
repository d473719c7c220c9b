"""Structured logs: text for a person at a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import logging
import sys

import structlog

from config.settings import LogSettings

QUIET = ("pika", "pymongo", "asyncio", "aiohttp.access", "bokeh", "tornado", "tornado.access")
"""Libraries that log what they also raise."""


def set_up_logs(settings: LogSettings, process: str) -> None:
    """Direct every log line of this process to standard error.

    Args:
        settings: level and format.
        process: the name of this process, on every line.
    """
    level = getattr(logging, settings.level.upper())
    as_text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer(sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL if name in ("pika", "pymongo") else logging.WARNING)
