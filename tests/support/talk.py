"""A sandbox and a plain HTTP client that talks to it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from omni_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL = "gemini-omni-flash-preview"
PATIENCE = 20.0


@dataclass(frozen=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Talk:
    """Speaks the API with one sandbox."""

    sandbox: Sandbox
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, *, api_key: str | None = None, **options: Any) -> Answer:
        """One request to the API origin."""
        key = self.sandbox.api_key if api_key is None else api_key
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        return await self.fetch(self.sandbox.base_url + path, method=method, headers=headers, **options)

    async def fetch(self, url: str, *, method: str = "GET", **options: Any) -> Answer:
        """One request anywhere, without a key."""
        options = {"allow_redirects": False} | options
        async with self.session.request(method, url, **options) as response:
            body = await response.read()
            return Answer(response.status, response.headers, body)

    async def submit(self, prompt: str = "a red apple", *, key: str | None = None, **fields: Any) -> Answer:
        """Submit a prompt."""
        headers = {} if key is None else {"Idempotency-Key": key}
        body = {"model": MODEL, "prompt": prompt, **fields}
        return await self.call("POST", "/v1/videos/generations", json=body, headers=headers)

    async def accepted(self, prompt: str = "a red apple", **fields: Any) -> str:
        """Submit a prompt; the id of its task."""
        answer = await self.submit(prompt, **fields)
        assert answer.status == 200, answer
        task_id: str = answer.json["data"][0]["task_id"]
        return task_id

    async def check(self, task_id: str) -> Answer:
        """Ask how a task is."""
        return await self.call("GET", f"/v1/tasks/{task_id}")

    async def ended(self, task_id: str) -> dict[str, Any]:
        """Ask until the task is completed or failed."""
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await self.check(task_id)
                data: dict[str, Any] = answer.json["data"]
                if data["status"] in ("completed", "failed"):
                    return data
                await asyncio.sleep(0.02)

    async def completed(self, prompt: str = "a red apple", **fields: Any) -> dict[str, Any]:
        """Submit a prompt and wait for its end."""
        data = await self.ended(await self.accepted(prompt, **fields))
        assert data["status"] == "completed", data
        return data

    async def link(self, prompt: str = "a red apple", **fields: Any) -> str:
        """Submit a prompt, wait, and give the link of its clip."""
        return link_of(await self.completed(prompt, **fields))


def link_of(data: dict[str, Any]) -> str:
    """The first link of a completed task."""
    url = data["result"]["videos"][0]["url"]
    first: str = url[0] if isinstance(url, list) else url
    return first


@asynccontextmanager
async def talking(**knobs: Any) -> AsyncIterator[Talk]:
    """A sandbox that is quick unless told otherwise, and a client."""
    quick = {"median": 0.03, "sigma": 0.0, "prerendered": True}
    async with Sandbox(**(quick | knobs)) as sandbox, aiohttp.ClientSession() as session:
        yield Talk(sandbox, session)
