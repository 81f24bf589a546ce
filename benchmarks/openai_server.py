"""A server that speaks the video protocol of the `openai` package and forwards each request to a sandbox.

It lets the published package run against the same accounts as the other peers. Used by `server`.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp import web

_FORWARDED_HEADERS = ("Retry-After", "Content-Type")


class OpenAIServer:
    """`POST /v1/videos`, `GET /v1/videos/{id}` and `/content`, each forwarded to the sandbox."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self._base_url = base_url
        self._session = session

    def application(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/videos", self.create),
                web.get("/v1/videos/{id}", self.retrieve),
                web.get("/v1/videos/{id}/content", self.content),
            ]
        )
        return app

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Submit a request and return its video object."""
        fields: Any = await (request.json() if request.content_type == "application/json" else request.post())
        url = f"{self._base_url}/v1/videos/generations"
        body = {"model": "gemini-omni-flash-preview", "prompt": fields["prompt"]}
        async with self._session.post(url, json=body, headers=_key(request)) as response:
            if response.status != 200:
                return await _forward(response)
            task_id = (await response.json())["data"][0]["task_id"]
        return web.json_response(_video({"id": task_id, "status": "queued", "created": 0}))

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """Check a task and return its video object."""
        async with self._session.get(self._task(request), headers=_key(request)) as response:
            if response.status != 200:
                return await _forward(response)
            return web.json_response(_video((await response.json())["data"]))

    async def content(self, request: web.Request) -> web.StreamResponse:
        """Return the clip of a finished task."""
        async with self._session.get(self._task(request), headers=_key(request)) as response:
            if response.status != 200:
                return await _forward(response)
            url = (await response.json())["data"]["result"]["videos"][0]["url"][0]
        async with self._session.get(url) as clip:
            return web.Response(body=await clip.read(), content_type="video/mp4")

    def _task(self, request: web.Request) -> str:
        return f"{self._base_url}/v1/tasks/{request.match_info['id']}"


def _key(request: web.Request) -> dict[str, str]:
    return {"Authorization": request.headers["Authorization"]}


async def _forward(response: aiohttp.ClientResponse) -> web.Response:
    headers = {name: response.headers[name] for name in _FORWARDED_HEADERS if name in response.headers}
    return web.Response(status=response.status, body=await response.read(), headers=headers)


def _video(task: dict[str, Any]) -> dict[str, Any]:
    statuses = {"completed": "completed", "failed": "failed", "processing": "in_progress"}
    return {
        "id": task["id"],
        "object": "video",
        "status": statuses.get(task["status"], "queued"),
        "model": "sora-2",
        "progress": task.get("progress", 0),
        "created_at": task["created"],
        "seconds": "4",
        "size": "1280x720",
    }
