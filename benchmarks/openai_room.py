"""The video protocol of the published `openai` package, spoken in front of a sandbox and its account."""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp import web

_PASSED_ON = ("Retry-After", "Content-Type")


class OpenAIRoom:
    """`POST /v1/videos`, `GET /v1/videos/{id}` and `/content`, each passed on to the sandbox."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self._base_url = base_url
        self._session = session

    def application(self) -> web.Application:
        """Give what is to be served."""
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
        """Submit."""
        fields: Any = await (request.json() if request.content_type == "application/json" else request.post())
        url = f"{self._base_url}/v1/videos/generations"
        body = {"model": "gemini-omni-flash-preview", "prompt": fields["prompt"]}
        async with self._session.post(url, json=body, headers=_key(request)) as answer:
            if answer.status != 200:
                return await _passed_on(answer)
            task_id = (await answer.json())["data"][0]["task_id"]
        return web.json_response(_video({"id": task_id, "status": "queued", "created": 0}))

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """Check."""
        async with self._session.get(self._task(request), headers=_key(request)) as answer:
            if answer.status != 200:
                return await _passed_on(answer)
            return web.json_response(_video((await answer.json())["data"]))

    async def content(self, request: web.Request) -> web.StreamResponse:
        """Give the clip."""
        async with self._session.get(self._task(request), headers=_key(request)) as answer:
            if answer.status != 200:
                return await _passed_on(answer)
            link = (await answer.json())["data"]["result"]["videos"][0]["url"][0]
        async with self._session.get(link) as clip:
            return web.Response(body=await clip.read(), content_type="video/mp4")

    def _task(self, request: web.Request) -> str:
        return f"{self._base_url}/v1/tasks/{request.match_info['id']}"


def _key(request: web.Request) -> dict[str, str]:
    return {"Authorization": request.headers["Authorization"]}


async def _passed_on(answer: aiohttp.ClientResponse) -> web.Response:
    headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
    return web.Response(status=answer.status, body=await answer.read(), headers=headers)


def _video(task: dict[str, Any]) -> dict[str, Any]:
    words = {"completed": "completed", "failed": "failed", "processing": "in_progress"}
    return {
        "id": task["id"],
        "object": "video",
        "status": words.get(task["status"], "queued"),
        "model": "sora-2",
        "progress": task.get("progress", 0),
        "created_at": task["created"],
        "seconds": "4",
        "size": "1280x720",
    }
