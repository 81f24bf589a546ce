"""A sandbox and a plain HTTP client of it, for tests of the sandbox itself."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from omni_async.sandbox import Sandbox, SandboxRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL = "gemini-omni-flash-preview"
TIMEOUT = 20.0  # seconds that a task may take

_numbers = count(1)


@dataclass(frozen=True)
class Response:
    """A response with its complete body."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class SandboxClient:
    """An HTTP client of one sandbox. Without an `api_key` it uses the sandbox's."""

    sandbox: Sandbox
    session: aiohttp.ClientSession
    api_key: str | None = None

    async def call(self, method: str, path: str, *, api_key: str | None = None, **options: Any) -> Response:
        """Send a request to the API."""
        key = next(key for key in (api_key, self.api_key, self.sandbox.api_key) if key is not None)
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        return await self.fetch(self.sandbox.base_url + path, method=method, headers=headers, **options)

    async def fetch(self, url: str, *, method: str = "GET", **options: Any) -> Response:
        """Send a request to any URL, without an API key."""
        options = {"allow_redirects": False} | options
        async with self.session.request(method, url, **options) as response:
            body = await response.read()
            return Response(response.status, response.headers, body)

    async def submit(self, prompt: str = "a red apple", *, key: str | None = None, **fields: Any) -> Response:
        """Submit a prompt. `key` is an idempotency key."""
        headers = {} if key is None else {"Idempotency-Key": key}
        body = {"model": MODEL, "prompt": prompt, **fields}
        return await self.call("POST", "/v1/videos/generations", json=body, headers=headers)

    async def raw_submit(self, *, key: str) -> bytes:
        """Submit a prompt and return all bytes that the server sends until it closes the connection."""
        url = URL(self.sandbox.base_url)
        body = json.dumps({"model": MODEL, "prompt": "a red apple"})
        head = (
            f"POST /v1/videos/generations HTTP/1.1\r\nHost: {url.authority}\r\nConnection: close\r\n"
            f"Authorization: Bearer {self.api_key or self.sandbox.api_key}\r\nIdempotency-Key: {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write((head + body).encode())
        received = await asyncio.wait_for(reader.read(), TIMEOUT)
        writer.close()
        return received

    async def accepted(self, prompt: str = "a red apple", **fields: Any) -> str:
        """Submit a prompt and return the id of its task."""
        response = await self.submit(prompt, **fields)
        assert response.status == 200, response
        task_id: str = response.json["data"][0]["task_id"]
        return task_id

    async def check(self, task_id: str) -> Response:
        """Request the status of a task."""
        return await self.call("GET", f"/v1/tasks/{task_id}")

    async def ended(self, task_id: str) -> dict[str, Any]:
        """Check a task until it is completed or failed, and return its data."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                response = await self.check(task_id)
                data: dict[str, Any] = response.json["data"]
                if data["status"] in ("completed", "failed"):
                    return data
                await asyncio.sleep(0.02)

    async def completed(self, prompt: str = "a red apple", **fields: Any) -> dict[str, Any]:
        """Submit a prompt, wait until its task is completed, and return the task's data."""
        data = await self.ended(await self.accepted(prompt, **fields))
        assert data["status"] == "completed", data
        return data

    async def link(self, prompt: str = "a red apple", **fields: Any) -> str:
        """Submit a prompt, wait until its task is completed, and return the URL of its clip."""
        return link_of(await self.completed(prompt, **fields))

    async def fresh(self) -> SandboxClient:
        """Return a client with an API key of its own, of the same sandbox with an empty record and no scripted faults.

        A key has its own idempotency keys, limits and tasks in flight, so that tests can share a sandbox.
        """
        record, empty = self.sandbox.record, SandboxRecord()
        async with asyncio.timeout(TIMEOUT):
            while record.in_flight:
                await asyncio.sleep(0.01)
        record.faults.clear()
        for each in fields(record):
            if each.name != "faults":
                setattr(record, each.name, getattr(empty, each.name))
        for queue in self.sandbox._fault_injector._scripts.values():
            queue.clear()
        return replace(self, api_key=f"sk-test-{next(_numbers)}")


def link_of(data: dict[str, Any]) -> str:
    """Return the first URL of a completed task."""
    url = data["result"]["videos"][0]["url"]
    first: str = url[0] if isinstance(url, list) else url
    return first


@asynccontextmanager
async def open_sandbox(**options: Any) -> AsyncIterator[SandboxClient]:
    """Open a sandbox and a client. Tasks take 0.03 s and share one clip unless the options say otherwise."""
    quick = {"median": 0.03, "sigma": 0.0, "prerendered": True}
    async with Sandbox(**(quick | options)) as sandbox, aiohttp.ClientSession() as session:
        yield SandboxClient(sandbox, session)
