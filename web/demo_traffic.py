"""Speaks with the demo's traffic at its control door: what is happening in truth, and what shall happen next.

The door is in another process and on loopback only; what it takes is described in docs/simulator.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import aiohttp
import msgspec
from msgspec import Meta

ANSWER_S_MAX: Final = 3.0
ANSWER_BYTES_MAX: Final = 8_000_000
PROBLEM_CHARS_MAX: Final = 400


class TrueIncident(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that truly happens; ``anomaly`` is False for what only looks like trouble. None means all."""

    incident_id: str
    kind: str
    signal: str
    anomaly: bool
    starts_at: Annotated[datetime, Meta(tz=True)]
    ends_at: Annotated[datetime, Meta(tz=True)]
    gateway: str | None = None
    method: str | None = None
    issuer: str | None = None
    network: str | None = None
    note: str = ""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the world runs: its seconds in one second on the wall."""

    speed: Annotated[float, Meta(gt=0)]


class Triggered(msgspec.Struct, frozen=True, kw_only=True):
    """The door's answer to an accepted incident."""

    incident: str


class TrafficUnreachable(Exception):
    """The traffic does not answer at its door, or answers something else than it should."""


class IncidentRefused(Exception):
    """The traffic does not take this incident; the text says why."""


class DemoTraffic:
    """The traffic of the running demo.

    Args:
        client: shared HTTP client.
        url: of the control door, without a path.
    """

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self._client = client
        self._url = url

    async def incidents(self) -> list[TrueIncident]:
        """What has begun so far, oldest first.

        Raises: TrafficUnreachable.
        """
        found: list[TrueIncident] = await self._ask("/incidents", list[TrueIncident])
        return found

    async def trigger(self, incident: Mapping[str, Any], *, lasts_s: float) -> str:
        """Let something happen from now on.

        Args:
            incident: as in a scenario, without its times.
            lasts_s: how long, seconds on the wall.
        Returns: how the traffic calls it.
        Raises: IncidentRefused, TrafficUnreachable.
        """
        pace: Pace = await self._ask("/summary", Pace)
        body = msgspec.json.encode({**incident, "starts_s": 0, "lasts_s": lasts_s * pace.speed})
        status, answer = await self._send("POST", "/incidents", body)
        if 400 <= status < 500:
            raise IncidentRefused(answer.decode("utf-8", "replace")[:PROBLEM_CHARS_MAX])
        if status != 201:
            raise TrafficUnreachable(f"answered {status}")
        accepted: Triggered = _decoded(answer, Triggered)
        return accepted.incident

    async def _ask(self, path: str, kind: Any) -> Any:
        status, answer = await self._send("GET", path)
        if status != 200:
            raise TrafficUnreachable(f"answered {status}")
        return _decoded(answer, kind)

    async def _send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX)
        try:
            async with self._client.request(
                method, self._url + path, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                if (answer.content_length or 0) > ANSWER_BYTES_MAX:
                    raise TrafficUnreachable(f"answered more than {ANSWER_BYTES_MAX:,} bytes")
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TrafficUnreachable(type(error).__name__) from None


def _decoded(answer: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.MsgspecError as error:
        raise TrafficUnreachable(f"answered something else than expected: {error}") from None
