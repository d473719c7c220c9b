"""What people shall be told of: anomalies that opened or closed, and what was done automatically."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

from messaging.contracts import Anomaly
from storage.anomaly_notes import read_notes
from storage.database import Database
from storage.errors import translated
from storage.gateway_pauses import pauses_not_over
from storage.notifications import Notification
from storage.read_models.anomalies import SEVERITY_ORDER
from storage.read_models.measures import QUERY_MS_MAX, read_as

LOOK_BACK: Final = timedelta(minutes=30)
"""News older than this are not told any more, for example after the first start."""

FACTS_MAX: Final = 200


async def read_news(database: Database, now: datetime, *, severity_min: str) -> list[Notification]:
    """The news of the last minutes, silence rules applied.

    Silent are anomalies below ``severity_min``, those that somebody snoozed or called false, and those of a gateway
    that is paused or under maintenance. Reading the same twice gives the same keys.
    """
    since = now - LOOK_BACK
    recent = {"$or": [{"detected_at": {"$gte": since}}, {"closed_at": {"$gte": since}}]}
    automatic = {"at": {"$gte": since}, "automatic": True}
    with translated():
        anomalies, actions, pauses = await asyncio.gather(
            _find(database, "anomalies", recent, "detected_at"),
            _find(database, "audit", automatic, "at"),
            pauses_not_over(database, now),
        )
    notes = await read_notes(database, [document["_id"] for document in anomalies])
    paused = {pause.gateway for pause in pauses if pause.starts_at <= now}
    news: list[Notification] = []
    for document in anomalies:
        anomaly = read_as({"anomaly_id": document["_id"], **document}, Anomaly, "anomalies")
        note = notes.get(anomaly.anomaly_id)
        is_snoozed = note is not None and note.snoozed_until is not None and note.snoozed_until > now
        is_minor = SEVERITY_ORDER.get(anomaly.severity, 0) > SEVERITY_ORDER.get(severity_min, 2)
        if is_minor or is_snoozed or (note is not None and note.is_false) or anomaly.segment.gateway in paused:
            continue
        news += _of_anomaly(anomaly, since)
    news += [
        Notification(
            key=f"action|{document['_id']}",
            kind="action",
            at=document["at"],
            title=f"{document['what']} {document['subject']}",
            text=document.get("reason") or "done automatically",
            link="/audit",
        )
        for document in actions
    ]
    return news


def _of_anomaly(anomaly: Anomaly, since: datetime) -> list[Notification]:
    segment = anomaly.segment
    where = " · ".join(part for part in (segment.gateway, segment.method, segment.issuer) if part) or "all traffic"
    what = anomaly.signal.replace("_", " ")
    link = f"/anomalies/{anomaly.anomaly_id}"
    told = []
    if anomaly.detected_at >= since:
        told.append(
            Notification(
                key=f"opened|{anomaly.anomaly_id}",
                kind="anomaly.opened",
                at=anomaly.detected_at,
                title=f"{anomaly.severity}: {what} of {where}",
                text=anomaly.reason or f"observed {anomaly.observed:.3g}, expected {anomaly.expected:.3g}",
                severity=anomaly.severity,
                link=link,
            )
        )
    if anomaly.closed_at is not None and anomaly.closed_at >= since:
        lasted = (anomaly.closed_at - anomaly.started_at).total_seconds() / 60
        told.append(
            Notification(
                key=f"closed|{anomaly.anomaly_id}",
                kind="anomaly.closed",
                at=anomaly.closed_at,
                title=f"well again: {what} of {where}",
                text=f"it lasted {lasted:.0f} min",
                severity=anomaly.severity,
                link=link,
            )
        )
    return told


async def _find(database: Database, name: str, query: dict[str, Any], newest_by: str) -> list[dict[str, Any]]:
    cursor = database[name].find(query).sort(newest_by, -1).limit(FACTS_MAX).max_time_ms(QUERY_MS_MAX)
    return await cursor.to_list()
