"""Notifications on a real store: signed, grouped, repeated until they arrive, sent once, silent where told to be."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from config.settings import load_settings
from messaging.contracts import Anomaly, Segment
from storage.anomalies import record_anomalies
from storage.anomaly_notes import change_note
from storage.audit import audit_entry, record_audit
from storage.database import Database
from storage.notifications import declare_notifications
from web.notifying import Notifier

NOW = datetime.now(UTC)


def anomaly(number: int, severity: Any = "critical", **changes: Any) -> Anomaly:
    """An anomaly that was just noticed."""
    fields: dict[str, Any] = {
        "anomaly_id": f"ano_{number}",
        "segment": Segment(gateway="alpha"),
        "signal": "success_rate",
        "severity": severity,
        "started_at": NOW - timedelta(minutes=2),
        "detected_at": NOW - timedelta(minutes=1),
        "updated_at": NOW,
        "observed": 0.1,
        "expected": 0.9,
        "expected_low": 0.8,
        "expected_high": 0.95,
        "attempts_seen": 90,
        "score": 9.0,
    }
    return Anomaly(**fields | changes)


@asynccontextmanager
async def notifiers(database: Database, **settings: str) -> AsyncIterator[list[Notifier]]:
    """Two notifiers, as two web processes have them."""
    await declare_notifications(database)
    environment = {f"IPA_NOTIFICATIONS__{name.upper()}": value for name, value in settings.items()}
    read = load_settings(environment | {"IPA_NOTIFICATIONS__GROUP_S": "0"}).notifications
    async with aiohttp.ClientSession() as client:
        yield [Notifier(database, read, client) for _ in range(2)]


async def test_the_webhook_gets_everything_once_signed_and_in_one_message(database: Database) -> None:
    """A failing receiver is tried again; two senders send once; a close and an automatic action are told as well."""
    heard: list[tuple[dict[str, Any], str, bytes]] = []
    answers = iter([500, 204, 204, 204])

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        heard.append((msgspec.json.decode(body), request.headers["IPA-Signature"], body))
        return web.Response(status=next(answers))

    app = web.Application()
    app.router.add_post("/hook", receive)
    async with TestServer(app) as server:
        url = str(server.make_url("/hook"))
        async with notifiers(database, webhook_url=url, webhook_secret="s3cret") as (first, second):
            found = [anomaly(1), anomaly(2, "minor"), anomaly(3, "major"), anomaly(4), anomaly(5)]
            await record_anomalies(database, found, [], now=NOW)
            entry = audit_entry(NOW, who="olga", what="anomaly.snoozed", subject="anomaly:ano_4")
            await change_note(database, "ano_4", {"snoozed_until": NOW + timedelta(hours=1)}, entry)
            await change_note(database, "ano_5", {"is_false": True}, entry_of("anomaly.judged"))
            await first.look(NOW)
            await asyncio.gather(first.look(NOW), second.look(NOW))  # it is not due again yet
            assert len(heard) == 1
            later = NOW + timedelta(seconds=30)
            await asyncio.gather(first.look(later), second.look(later))
            assert len(heard) == 2
            told, header, body = heard[1]
            assert {one["key"] for one in told["notifications"]} == {"opened|ano_1", "opened|ano_3"}
            seconds, digest = (part.partition("=")[2] for part in header.split(","))
            assert digest == hmac.new(b"s3cret", f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
            await record_anomalies(database, [anomaly(1, closed_at=NOW)], [], now=NOW)
            stopped = audit_entry(
                NOW, who="experiment_allocator", what="experiment.stopped", subject="experiment:x", automatic=True
            )
            await record_audit(database, stopped)
            await second.look(later + timedelta(seconds=3))
            assert [one["kind"] for one in heard[2][0]["notifications"]] == ["anomaly.closed", "action"]
            await first.look(later + timedelta(minutes=5))
            assert len(heard) == 3


def entry_of(what: str) -> Any:
    """An audit entry about the fifth anomaly."""
    return audit_entry(NOW, who="olga", what=what, subject="anomaly:ano_5")


async def test_mails_are_handed_to_the_server(database: Database) -> None:
    """One mail with all that is due; a line break in what was sent makes no header."""
    mails: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            if line.upper().startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                mails.append(await reader.readuntil(b"\r\n.\r\n"))
            writer.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 ok\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with notifiers(database, smtp_url=f"smtp://127.0.0.1:{port}", mail_to="[ops@example.com]") as (one, _):
        await record_anomalies(database, [anomaly(1, segment=Segment(gateway="a\nBcc: x"))], [], now=NOW)
        await one.look(NOW)
        await one.look(NOW + timedelta(minutes=2))
    server.close()
    assert len(mails) == 1
    assert b"Subject: critical: success rate of a Bcc: x" in mails[0]
    assert b"\nBcc:" not in mails[0].split(b"\r\n\r\n")[0]
