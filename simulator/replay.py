"""Sends the attempts of a recorded payment log through the same door as a checkout would."""

from __future__ import annotations

import asyncio
import csv
import gzip
import hashlib
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Final, cast

import msgspec

from messaging.client import RoutingClient
from messaging.contracts import AttemptReported
from simulator.replay_mapping import ReplayMapping, RowRefused

IN_FLIGHT_MAX: Final = 500
"""Reports that wait for the broker's confirm at once."""

REFUSALS_KEPT: Final = 20
CELL_CHARACTERS_MAX: Final = 10_000
DIGEST_LENGTH: Final = 12
CHUNK_BYTES: Final = 1 << 20


class ReplayFileError(Exception):
    """The file as a whole cannot be read; says which file and why."""


class ReplayFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file before it is replayed."""

    path: Path
    digest: str
    lines: int


class ReplayCounts(msgspec.Struct, kw_only=True):
    """How far a replay is. ``refusals`` holds the first few."""

    rows: int = 0
    sent: int = 0
    refused: int = 0
    seconds: float = 0.0
    refusals: list[RowRefused] = []


def examine(path: Path) -> ReplayFile:
    """Read a file once for its digest and its length; a gzipped file has the digest of its content.

    Raises: ReplayFileError: it cannot be read.
    """
    digest, lines = hashlib.sha256(), 0
    try:
        with _opened(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                lines += chunk.count(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise ReplayFileError(f"{path} cannot be read: {error}") from None
    return ReplayFile(path=path, digest=digest.hexdigest()[:DIGEST_LENGTH], lines=lines)


def read_attempts(
    file: ReplayFile, mapping: ReplayMapping, gateways: Collection[str]
) -> Iterator[AttemptReported | RowRefused]:
    """Yield the rows of a file as reports, or why not.

    Raises:
        ConfigError: the mapping names a column that the file does not have.
        ReplayFileError: the file is no CSV in UTF-8.
    """
    csv.field_size_limit(CELL_CHARACTERS_MAX)
    row = 0
    try:
        with _opened(file.path) as raw:
            rows = csv.reader(_text_lines(raw), delimiter=mapping.delimiter, strict=True)
            header = next(rows, None)
            if not header:
                raise ReplayFileError(f"{file.path} is empty; the first row must name the columns")
            mapping.check_header(header, file.path.name)
            row = 1
            for cells in rows:
                row += 1
                if len(cells) == len(header):
                    named = dict(zip(header, cells, strict=True))
                    yield mapping.attempt(named, row, digest=file.digest, gateways=gateways)
                elif cells:
                    yield RowRefused(row=row, column="", reason=f"has {len(cells)} cells; the header has {len(header)}")
    except (csv.Error, UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise ReplayFileError(f"{file.path}, after row {row}: cannot be read as CSV in UTF-8: {error}") from None


async def replay(
    client: RoutingClient,
    rows: Iterator[AttemptReported | RowRefused],
    *,
    speed: float | None = None,
    limit: int | None = None,
    on_progress: Callable[[ReplayCounts], None] = lambda counts: None,
) -> ReplayCounts:
    """Send the reports; returns when the broker has confirmed all of them.

    Args:
        client: connected to the broker.
        rows: from ``read_attempts``.
        speed: recorded seconds per second, > 0; None: as fast as possible.
        limit: read so many rows at most.
        on_progress: called after each row.
    """
    counts, began = ReplayCounts(), time.monotonic()
    free = asyncio.Semaphore(IN_FLIGHT_MAX)
    first: datetime | None = None

    async def send(report: AttemptReported) -> None:
        try:
            await client.report(report)
            counts.sent += 1
            on_progress(counts)
        finally:
            free.release()

    async with asyncio.TaskGroup() as sending:
        for row in rows:
            if counts.rows == limit:
                break
            counts.rows += 1
            if isinstance(row, RowRefused):
                counts.refused += 1
                if len(counts.refusals) < REFUSALS_KEPT:
                    counts.refusals.append(row)
                on_progress(counts)
                continue
            first = first or row.attempted_at
            if speed is not None:
                due_s = began + (row.attempted_at - first).total_seconds() / speed
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await free.acquire()
            sending.create_task(send(row))
    counts.seconds = time.monotonic() - began
    return counts


def _opened(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _text_lines(raw: IO[bytes]) -> Iterator[str]:
    """Decode line by line, so that the error of a broken line comes at that line."""
    for number, line in enumerate(raw):
        yield line.decode("utf-8-sig" if number == 0 else "utf-8")
