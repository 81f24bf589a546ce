"""A subscriber of a live page: reads its event stream as a browser does."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TIMEOUT = 30.0  # seconds for a condition to become true: far more than any needs


class Subscriber:
    """The state that one browser would hold after the events so far."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.jobs: dict[str, dict[str, Any]] = {}
        self.progress: dict[str, float] = {}
        self.run: dict[str, Any] = {}
        self.names: list[str] = []  # of all events

    async def receive(self) -> bool:
        """Process the next event; return False at the end of the stream."""
        lines = []
        while (line := (await self.response.content.readline()).decode()) not in {"\n", ""}:
            lines.append(line.rstrip("\n").partition(": "))
        if not lines:
            return False
        fields = {name: value for name, _, value in lines}
        self.names.append(fields["event"])
        data = json.loads(fields["data"])
        if fields["event"] == "jobs":
            self.jobs |= {job["key"]: job for job in data}
        elif fields["event"] == "progress":
            self.progress |= data
        elif fields["event"] == "run":
            self.run = data
        return True

    async def wait_for(self, condition: Callable[[Subscriber], object]) -> None:
        """Process events until `condition` is true."""
        async with asyncio.timeout(TIMEOUT):
            while not condition(self):
                assert await self.receive(), f"the stream has ended: {self.names}"

    async def wait_until_end(self) -> None:
        """Process events until the stream ends."""
        async with asyncio.timeout(TIMEOUT):
            while await self.receive():
                pass


@asynccontextmanager
async def subscribed(address: str) -> AsyncIterator[Subscriber]:
    """Subscribe to the live page at an address until the block ends."""
    async with (
        aiohttp.ClientSession(read_bufsize=2**22) as session,  # a snapshot is one long line
        session.get(f"{address}events") as response,
    ):
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        yield Subscriber(response)
