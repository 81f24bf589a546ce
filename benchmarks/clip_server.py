"""A minimal API: every task is finished, and its clip is sent by the kernel (sendfile), as fast as the disk allows.

Reads one line of JSON, the path of the clip, and writes one, its own address. Ends when stdin is closed. Used by
`download`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiohttp import web

CLIP = web.AppKey("clip", str)


async def _check(request: web.Request) -> web.Response:
    url = str(request.url.origin().with_path("/clip.mp4"))
    task: dict[str, Any] = {"id": request.match_info["id"], "status": "completed", "cost": 0.5}
    return web.json_response({"code": 200, "data": task | {"result": {"videos": [{"url": [url]}]}}})


async def _clip(request: web.Request) -> web.FileResponse:
    return web.FileResponse(request.app[CLIP], chunk_size=1 << 20)


async def _serve() -> None:
    app = web.Application()
    app[CLIP] = json.loads(await asyncio.to_thread(sys.stdin.readline))
    app.add_routes([web.get("/v1/tasks/{id}", _check), web.get("/clip.mp4", _clip)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps(f"http://127.0.0.1:{runner.addresses[0][1]}"), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
