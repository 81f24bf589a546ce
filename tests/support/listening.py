"""Reads a live page as a browser does: its stream of events, message by message."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PATIENCE = 30.0


class Listener:
    """One reader: what it has been told so far, as a page would hold it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.jobs: dict[str, dict[str, Any]] = {}
        self.progress: dict[str, float] = {}
        self.run: dict[str, Any] = {}
        self.names: list[str] = []

    async def hear(self) -> bool:
        """Take in one message; False at the end."""
        lines = []
        while (line := (await self.response.content.readline()).decode()) not in {"\n", ""}:
            lines.append(line.rstrip("\n").partition(": "))
        if not lines:
            return False
        facts = {name: value for name, _, value in lines}
        self.names.append(facts["event"])
        data = json.loads(facts["data"])
        if facts["event"] == "jobs":
            self.jobs |= {job["key"]: job for job in data}
        elif facts["event"] == "progress":
            self.progress |= data
        elif facts["event"] == "run":
            self.run = data
        return True

    async def until(self, is_so: Callable[[Listener], object]) -> None:
        """Listen until something is so."""
        async with asyncio.timeout(PATIENCE):
            while not is_so(self):
                assert await self.hear(), f"it has ended: {self.names}"

    async def to_the_end(self) -> None:
        """Listen until nothing more comes."""
        async with asyncio.timeout(PATIENCE):
            while await self.hear():
                pass


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[Listener]:
    """Listen for as long as this block lasts."""
    async with (
        aiohttp.ClientSession(read_bufsize=2**22) as session,
        session.get(f"{address}events") as response,
    ):
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        yield Listener(response)
