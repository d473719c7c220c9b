"""`ipa replay` and `ipa dead-letters` against a real broker, run as a person would."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from actors.anomaly_tuning import KIND, contamination_in_force
from config.settings import Settings
from messaging.channel import Channel
from messaging.connection import Connection
from messaging.envelope import Envelope
from messaging.line import declare_line
from storage.database import Database, close, connect, declare
from storage.models import list_models, promote
from tests.conftest import eventually
from tests.factories import report
from tests.integration.line import head_of_line, running, say

ROOT = Path(__file__).parents[2]
HEADER = "tmsp,country,amount,success,psp,three_ds,card,purchase,attempt\n"
GOOD = "2019-01-01 00:01:11,Germany,89,0,UK_Card,0,Visa,0,1\n"
MAPPING = str(ROOT / "config" / "replay" / "psp.yaml")


def ipa(url: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one command."""
    base = {key: value for key, value in os.environ.items() if not key.startswith("IPA_")}
    environment = base | {"IPA_AMQP_URL": url, "COLUMNS": "200"} | more
    command = [sys.executable, "-m", "cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT, timeout=60, input=""
    )


async def line_channel(connection: Connection) -> Channel:
    """A channel on which the whole line is declared."""
    channel = await connection.channel()
    await declare_line(channel)
    return channel


async def has(channel: Channel, queue: str, messages: int) -> bool:
    """Tell whether a queue holds so many messages."""
    return await channel.count_ready(queue) == messages


async def test_replay_sends_every_row(amqp_url: str, connection: Connection, tmp_path: Path) -> None:
    """Every row of a good file is at the ingestor's door when the command has ended with 0; --limit is kept."""
    channel = await line_channel(connection)
    file = tmp_path / "log.csv"
    file.write_text(HEADER + GOOD * 1200, encoding="utf-8")
    done = ipa(amqp_url, "replay", str(file), "--mapping", MAPPING)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1,200 of 1,200 rows sent and confirmed" in done.stdout
    await eventually(lambda: has(channel, "ingestor", 1200))
    limited = ipa(amqp_url, "replay", str(file), "--mapping", MAPPING, "--limit", "5")
    assert "5 of 5 rows sent" in limited.stdout
    await eventually(lambda: has(channel, "ingestor", 1205))


async def test_replay_lists_and_counts_what_does_not_fit(amqp_url: str, connection: Connection, tmp_path: Path) -> None:
    """Rows that do not fit are counted, the first twenty named; the others are sent, and the exit code is 65."""
    channel = await line_channel(connection)
    file = tmp_path / "log.csv"
    file.write_text(HEADER + GOOD + GOOD.replace("Germany", "France") * 30 + GOOD, encoding="utf-8")
    done = ipa(amqp_url, "replay", str(file), "--mapping", MAPPING)
    assert done.returncode == 65
    assert "2 of 32 rows sent" in done.stdout
    assert "30 rows refused:" in done.stdout
    assert "row 3, column 'country': holds a value that is not in the map" in done.stdout
    assert "… and 10 more" in done.stdout
    await eventually(lambda: has(channel, "ingestor", 2))


async def test_replay_at_a_speed_keeps_the_rhythm(amqp_url: str, connection: Connection, tmp_path: Path) -> None:
    """With --speed 60, two recorded minutes take two seconds."""
    await line_channel(connection)
    file = tmp_path / "log.csv"
    file.write_text(HEADER + GOOD + GOOD.replace("00:01:11", "00:03:11"), encoding="utf-8")
    done = ipa(amqp_url, "replay", str(file), "--mapping", MAPPING, "--speed", "60")
    assert "sent and confirmed in 2." in done.stdout


async def test_broken_mapping_sends_nothing(amqp_url: str, connection: Connection, tmp_path: Path) -> None:
    """A broken mapping is said with file and line and exit code 78, and nothing was sent."""
    channel = await line_channel(connection)
    file, mapping = tmp_path / "log.csv", tmp_path / "mapping.yaml"
    file.write_text(HEADER + GOOD, encoding="utf-8")
    mapping.write_text("fields:\n  colour: {constant: red}\n", encoding="utf-8")
    done = ipa(amqp_url, "replay", str(file), "--mapping", str(mapping))
    assert (done.returncode, done.stderr.startswith(f"{mapping}:2: a report has no field 'colour'")) == (78, True)
    assert await channel.count_ready("ingestor") == 0


async def test_dead_letters_can_be_seen_replayed_and_dropped(amqp_url: str, connection: Connection) -> None:
    """list and show name a dead letter, replay leaves what cannot be read, --broken gives it back, drop deletes it."""
    channel = await line_channel(connection)
    for name in ("evt_a", "evt_b"):
        envelope = Envelope(type="attempt.reported", message_id=name)
        await channel.publish(b'{"type":"attempt.reported"}', envelope, exchange="", routing_key="ingestor.dead")
    await eventually(lambda: has(channel, "ingestor.dead", 2))
    listed = ipa(amqp_url, "dead-letters", "list")
    assert (listed.returncode, "2 dead letters" in listed.stdout, "evt_a" in listed.stdout) == (0, True, True)
    assert "problem  " in ipa(amqp_url, "dead-letters", "show", "ingestor", "evt_a").stdout
    assert ipa(amqp_url, "dead-letters", "show", "ingestor", "evt_c").returncode == 1
    counted = ipa(amqp_url, "dead-letters", "count", "--type", "attempt.reported").stdout.splitlines()
    assert (len(counted), counted[-1]) == (2, "2 dead letters")
    assert "no dead letters" in ipa(amqp_url, "dead-letters", "list", "--reason", "nothing says this").stdout
    tried = ipa(amqp_url, "dead-letters", "drop", "ingestor", "--id", "evt_a", "--dry-run").stdout
    assert ("evt_a" in tried, "evt_b" in tried, "1 would be deleted; nothing was changed" in tried) == (
        True,
        False,
        True,
    )
    wrong = ipa(amqp_url, "dead-letters", "list", "--newer-than", "soon")
    assert (wrong.returncode, "for example 15m" in wrong.stderr) == (2, True)
    assert "0 given back" in ipa(amqp_url, "dead-letters", "replay", "ingestor").stdout
    assert "1 given back" in ipa(amqp_url, "dead-letters", "replay", "ingestor", "--id", "evt_a", "--broken").stdout
    await eventually(lambda: has(channel, "ingestor", 1))
    assert ipa(amqp_url, "dead-letters", "drop", "ingestor").returncode != 0  # nobody said yes
    assert "1 deleted" in ipa(amqp_url, "dead-letters", "drop", "ingestor", "--yes").stdout
    await eventually(lambda: has(channel, "ingestor.dead", 0))


def test_broker_that_does_not_answer_is_said() -> None:
    """Without a broker a command says where it looked, with the password hidden, and ends with 69."""
    done = ipa("amqp://checkout:hidden@127.0.0.1:9/", "dead-letters", "list")
    assert (done.returncode, "hidden" in done.stderr + done.stdout, "Traceback" in done.stderr) == (69, False, False)
    assert "127.0.0.1:9" in done.stderr


async def test_dead_letters_say_why_a_well_formed_message_was_refused(settings: Settings) -> None:
    """list and show give the reason that the worker kept; without a known store they say what would be needed."""
    database = await connect(settings.store)
    await declare(database, settings.store)
    async with head_of_line(settings) as channel, running(settings, "ingestor"):
        now = datetime.now(UTC)
        await say(channel, [report(1, gateway="alhpa", attempted_at=now, occurred_at=now)])
        await eventually(lambda: has(channel, "ingestor.dead", 1), within_s=20)
    await close(database)
    store = {"IPA_MONGO_URL": settings.store.url, "IPA_STORE__DATABASE": settings.store.database}
    (listed,) = ipa(settings.broker.url, "dead-letters", "list", "ingestor", **store).stdout.splitlines()[:-1]
    assert "$.gateway: 'alhpa' is no gateway in config/gateways.yaml" in listed
    message_id = listed.split("  ")[3]
    shown = ipa(settings.broker.url, "dead-letters", "show", "ingestor", message_id, **store).stdout
    assert "problem  $.gateway: 'alhpa' is no gateway in config/gateways.yaml" in shown
    without = ipa(settings.broker.url, "dead-letters", "list", "ingestor").stdout
    assert "rejected, 1 times; it is well formed, IPA_MONGO_URL would tell the reason" in without
    lost = ipa(settings.broker.url, "dead-letters", "list", "ingestor", IPA_MONGO_URL="mongodb://127.0.0.1:9/")
    assert (lost.returncode, "the reason is not known: no MongoDB answers" in lost.stdout) == (0, True)


async def test_the_forest_is_tuned_and_the_choice_serves(
    database: Database, amqp_url: str, mongo_url: str, tmp_path: Path
) -> None:
    """`ipa tune anomalies` watches labelled streams, draws the trade-off, and stores the choice with its reason."""
    here = {"IPA_MONGO_URL": mongo_url, "IPA_STORE__DATABASE": database.name, "IPA_ANOMALIES__CONTAMINATION": "0.064"}
    plot = tmp_path / "trade-off.html"
    done = await asyncio.to_thread(
        ipa, amqp_url, "tune", "anomalies", "--streams", "1", "--held-back", "1", "--rate", "5", "--plot", str(plot),
        **here,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Share of incidents found" in plot.read_text(encoding="utf-8")
    version, *_ = await list_models(database, KIND)
    assert f"version {version.version} stored" in done.stdout
    assert {"contamination", "recall", "false_alerts_a_day"} <= version.metrics.keys()
    assert "streams it was not chosen on" in version.note
    await promote(database, KIND, version.version, reason="test", now=datetime.now(UTC))
    assert await contamination_in_force(database, 0.064) == version.metrics["contamination"]
    assert await contamination_in_force(database, 0.064) < 0.064
