"""Tells people who are not looking: a signed webhook and e-mail, grouped, and repeated until they arrive."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import smtplib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Final
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec
import structlog

from config.settings import NotificationSettings
from storage.database import Database
from storage.errors import StoreError
from storage.notifications import Due, Notification, enqueue, note_failed, note_sent, take_due
from storage.read_models.news import read_news

LOOK_EVERY_S: Final = 2.0
SEND_S_MAX: Final = 10.0
AGAIN_S_FIRST: Final = 5.0
AGAIN_S_MAX: Final = 900.0
SIGNATURE_HEADER: Final = "IPA-Signature"

log = structlog.get_logger("web.notifying")


class NotSent(Exception):
    """The other side did not take a notification; the text says why."""


class Notifier:
    """Sends what is new, over the channels that the settings name. Several may run: each notification is sent once.

    Args:
        database: the store.
        settings: where to, and from which severity on.
        client: shared HTTP client.
    """

    def __init__(self, database: Database, settings: NotificationSettings, client: aiohttp.ClientSession) -> None:
        self._database, self._settings, self._client = database, settings, client
        senders = {"webhook": self._post, "mail": self._mail}
        chosen = {"webhook": settings.webhook_url, "mail": settings.smtp_url if settings.mail_to else None}
        self._senders = {name: send for name, send in senders.items() if chosen[name]}

    async def run(self) -> None:
        """Look and send until cancelled; a store that is away is waited for."""
        while self._senders:
            try:
                await self.look(datetime.now(UTC))
            except StoreError as error:
                log.warning("notifications wait for the store", problem=str(error))
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self, now: datetime) -> None:
        """Put what is new into the queues, and send what is due; what is due together is one message."""
        news = await read_news(self._database, now, severity_min=self._settings.severity_min)
        due_at = now + timedelta(seconds=self._settings.group_s)
        await enqueue(self._database, news, list(self._senders), now, due_at)
        for channel, send in self._senders.items():
            due = await take_due(self._database, channel, now)
            if not due:
                continue
            try:
                await send([one.notification for one in due])
            except NotSent as error:
                await self._again(due, now, channel, str(error))
            else:
                await note_sent(self._database, due, now)

    async def _again(self, due: Sequence[Due], now: datetime, channel: str, problem: str) -> None:
        tries = max(one.tries for one in due)
        log.warning("notification not sent", channel=channel, problem=problem, tries=tries + 1)
        await note_failed(self._database, due, now, problem, min(AGAIN_S_MAX, AGAIN_S_FIRST * 2**tries))

    async def _post(self, told: Sequence[Notification]) -> None:
        body = msgspec.json.encode({"sent_at": datetime.now(UTC), "notifications": told})
        headers = {"Content-Type": "application/json", "User-Agent": "ipa"}
        if self._settings.webhook_secret:
            headers[SIGNATURE_HEADER] = signature(self._settings.webhook_secret, body, datetime.now(UTC))
        timeout = aiohttp.ClientTimeout(total=SEND_S_MAX)
        try:
            async with self._client.post(
                self._settings.webhook_url or "", data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                if not 200 <= answer.status < 300:
                    raise NotSent(f"the webhook answered {answer.status}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotSent(f"the webhook did not answer: {type(error).__name__}") from None

    async def _mail(self, told: Sequence[Notification]) -> None:
        message = mail_of(told, sender=self._settings.mail_from, to=self._settings.mail_to)
        try:
            await asyncio.wait_for(asyncio.to_thread(send_mail, self._settings.smtp_url or "", message), SEND_S_MAX * 2)
        except (smtplib.SMTPException, TimeoutError, OSError) as error:
            raise NotSent(f"the mail server did not take it: {type(error).__name__}") from None


def signature(secret: str, body: bytes, at: datetime) -> str:
    """What proves to a receiver that a message is ours and fresh: ``t=SECONDS,v1=HMAC-SHA256 of "SECONDS.BODY"``.

    >>> signature("s", b"{}", datetime(2026, 1, 1, tzinfo=UTC))[:22]
    't=1767225600,v1=b76f27'
    """
    seconds = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), seconds.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def mail_of(told: Sequence[Notification], *, sender: str, to: Sequence[str]) -> EmailMessage:
    """One mail for all that is due; a line break in a title cannot make a header."""
    first = " ".join(told[0].title.split())
    message = EmailMessage()
    message["Subject"] = first[:150] if len(told) == 1 else f"{first[:120]} and {len(told) - 1} more"
    message["From"], message["To"] = sender, ", ".join(to)
    lines = [f"{one.at:%Y-%m-%d %H:%M:%S} UTC  {one.title}\n    {one.text}\n    {one.link}\n" for one in told]
    message.set_content("\n".join(lines))
    return message


def send_mail(url: str, message: EmailMessage) -> None:
    """Hand a mail to a server: ``smtp://`` with STARTTLS where it is offered, or ``smtps://``.

    Raises: OSError, SMTPException: it was not taken.
    """
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "localhost", parts.scheme == "smtps"
    context = ssl.create_default_context()
    if is_tls:
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=SEND_S_MAX, context=context)
    else:
        server = smtplib.SMTP(host, parts.port or 25, timeout=SEND_S_MAX)
    with server:
        if not is_tls and server.has_extn("starttls"):
            server.starttls(context=context)
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        server.send_message(message)
