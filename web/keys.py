"""What the application carries, by typed key."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from datetime import datetime
from typing import TYPE_CHECKING, Final

from aiohttp import ClientSession, web

from config.gateways import Gateway
from config.settings import Settings
from storage.database import Database
from storage.read_models.history_cube import HistoryCube
from storage.web_sessions import WebSession
from web.dashboard.sessions import SharedSessions
from web.head_of_line import HeadOfLine
from web.identity import Identity
from web.rate_limit import FailureLimiter
from web.recent import RecentReads

if TYPE_CHECKING:
    from web.beside import Beside
    from web.evaluating import Evaluator
    from web.hindsight import HindsightReads

SETTINGS: Final = web.AppKey("settings", Settings)
DATABASE: Final = web.AppKey("database", Database)
BESIDE: Final[web.AppKey[Beside]] = web.AppKey("beside")
CLIENT: Final = web.AppKey("client", ClientSession)
EVALUATOR: Final[web.AppKey[Evaluator]] = web.AppKey("evaluator")
EXECUTOR: Final = web.AppKey("executor", Executor)
LIMITER: Final = web.AppKey("limiter", FailureLimiter)
GATEWAYS: Final = web.AppKey("gateways", Mapping[str, Gateway])
HEAD: Final = web.AppKey("head", HeadOfLine)
HINDSIGHT: Final[web.AppKey[HindsightReads]] = web.AppKey("hindsight")
HISTORY: Final = web.AppKey("history", HistoryCube)
LIVE_SESSIONS: Final = web.AppKey("live_sessions", SharedSessions)
MINUTES: Final = web.AppKey("minutes", RecentReads)
RECENT: Final = web.AppKey("recent", RecentReads)
TRENDS: Final = web.AppKey("trends", RecentReads)
STARTED_AT: Final = web.AppKey("started_at", datetime)

SESSION: Final = web.RequestKey("session", WebSession)
IDENTITY: Final = web.RequestKey("identity", Identity)
