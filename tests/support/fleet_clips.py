"""A host of clips with faults, and rows of jobs whose clips are to be downloaded: for the tests of workers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from omni_async.fleet.postgres.database import Database, statement
from omni_async.fleet.postgres.rows import DEFER
from omni_async.fleet.postgres.schema import install
from omni_async.testing.fake_clips import mp4

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ACCOUNT = "default"


@dataclass
class ClipHost:
    """Serves a clip of its own for each name. `refused` names get a 403, `seconds` is how long each clip takes."""

    url: str = ""
    seconds: float = 0.0
    refused: set[str] = field(default_factory=set)
    requests: Counter[str] = field(default_factory=Counter)
    transferring: int = 0

    def clip(self, name: str) -> bytes:
        """Return the clip of a name."""
        return mp4(f"the clip {name}", size=3000)

    async def wait_for_transfers(self, number: int, seconds: float = 30.0) -> None:
        """Wait until this many clips are being transferred."""
        async with asyncio.timeout(seconds):
            while self.transferring < number:
                await asyncio.sleep(0.05)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Send a clip in ten pieces."""
        name = request.match_info["name"]
        self.requests[name] += 1
        if name in self.refused:
            return web.Response(status=403)
        content = self.clip(name)
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        self.transferring += 1
        try:
            for number in range(10):
                part = len(content) // 10 + 1
                await response.write(content[number * part : (number + 1) * part])
                await asyncio.sleep(self.seconds / 10)
        finally:
            self.transferring -= 1
        return response


@asynccontextmanager
async def clip_host() -> AsyncIterator[ClipHost]:
    """Run a host of clips."""
    host = ClipHost()
    app = web.Application()
    app.router.add_get("/{name}", host.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield host
    finally:
        await runner.cleanup()


class FleetRows:
    """The rows of one account, written and read as the leader does."""

    def __init__(self, url: str, host: ClipHost) -> None:
        self.url = url
        self.database = Database(url)
        self.host = host
        self._connection: Any = None

    async def open(self) -> None:
        """Make the tables, and an account whose API is on this machine."""
        self._connection = await self.database.connect("test")
        await install(self.database)
        text = (
            "INSERT INTO omni_accounts (account, server) VALUES (%s, %s)"
            " ON CONFLICT (account) DO UPDATE SET server = excluded.server"
        )
        await self._connection.execute(text, (ACCOUNT, "http://127.0.0.1:9"))

    async def execute(self, text: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        cursor = await self._connection.execute(statement(text), parameters)
        return await cursor.fetchall() if cursor.description else []

    async def add(self, *keys: str, account: str = ACCOUNT, videos: int = 1, defer: bool = True) -> None:
        """Record jobs as `downloading`, and defer their downloads in the same transaction."""
        insert = (
            "INSERT INTO omni_jobs (account, key, idempotency_key, status, task_id, created_at, submits,"
            " ambiguous_submits, error, previous_cost, videos)"
            " VALUES (%s, %s, 'i', 'downloading', %s, 1, 1, 0, '', 0, %s)"
        )
        async with self._connection.transaction():
            for key in keys:
                names = [key] if videos == 1 else [f"{key}.{number}" for number in range(videos)]
                links = [{"url": f"{self.host.url}/{name}", "expires_at": None} for name in names]
                await self.execute(insert, account, key, f"task-{key}", json.dumps(links))
            if defer:
                await self.execute(DEFER, account, list(keys))

    async def job(self, key: str, account: str = ACCOUNT) -> dict[str, Any]:
        """Return the row of a job."""
        names = ("status", "paths", "error", "fetched_by", "links_wanted", "videos", "finished_at")
        text = f"SELECT {', '.join(names)} FROM omni_jobs WHERE account = %s AND key = %s"
        return dict(zip(names, (await self.execute(text, account, key))[0], strict=True))

    async def count(self, status: str) -> int:
        """Return how many jobs have a status."""
        return int((await self.execute("SELECT count(*) FROM omni_jobs WHERE status = %s", status))[0][0])

    async def tasks(self) -> list[str]:
        """Return the status of every task of the queue."""
        return [str(row[0]) for row in await self.execute("SELECT status::text FROM procrastinate_jobs ORDER BY id")]

    async def wait_for(self, status: str, number: int, seconds: float = 30.0) -> None:
        """Wait until this many jobs have a status."""
        async with asyncio.timeout(seconds):
            while await self.count(status) < number:
                await asyncio.sleep(0.05)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.close()


@asynccontextmanager
async def fleet_rows(url: str) -> AsyncIterator[FleetRows]:
    """Yield the rows of an account in a new database, with a host of clips."""
    async with clip_host() as host:
        rows = FleetRows(url, host)
        await rows.open()
        try:
            yield rows
        finally:
            await rows.aclose()
