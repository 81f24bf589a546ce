"""A web service that generates clips: python examples/inside_a_web_app.py [PORT].

    curl -X POST localhost:8080/clips --data '{"prompt": "a red apple"}'     -> {"key": "a-red-apple-1f6b2c9d", ...}
    curl localhost:8080/clips/a-red-apple-1f6b2c9d                           -> its status
    curl localhost:8080/clips/a-red-apple-1f6b2c9d.mp4 -o apple.mp4          -> the clip; waits until it is done

One client serves all requests. A job continues when the visitor disconnects, and after a restart of the service.
"""

import sys
from collections.abc import AsyncIterator

from aiohttp import web
from pydantic import ValidationError

from omni_async import Job, OmniClient, OmniError, VideoRequest

CLIENT = web.AppKey("client", OmniClient)
JOBS = web.AppKey("jobs", dict[str, Job])


async def open_client(app: web.Application) -> AsyncIterator[None]:
    client = await OmniClient(output_dir="clips").open()
    app[CLIENT], app[JOBS] = client, {job.key: job async for job in client.resume(max_pending=100_000)}
    yield
    await client.aclose()  # within seconds, without waiting for every clip


async def submit(request: web.Request) -> web.Response:
    try:
        clip_request = VideoRequest.model_validate_json(await request.read())
    except ValidationError as error:
        return web.json_response({"error": error.errors(include_url=False, include_context=False)}, status=400)
    job = request.app[CLIENT].submit(clip_request)
    request.app[JOBS][job.key] = job
    await job.recorded()  # from here on it outlives this process
    return web.json_response(job.as_json(), status=202)


def found(request: web.Request) -> Job:
    try:
        return request.app[JOBS][request.match_info["key"]]
    except KeyError:
        raise web.HTTPNotFound(text="no such clip") from None


async def status(request: web.Request) -> web.Response:
    return web.json_response(found(request).as_json())


async def clip(request: web.Request) -> web.StreamResponse:
    try:
        return web.FileResponse(await found(request))
    except OmniError as error:
        raise web.HTTPBadGateway(text=str(error)) from error


def make_app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(open_client)
    app.add_routes(
        [web.post("/clips", submit), web.get("/clips/{key}.mp4", clip), web.get("/clips/{key}", status)],
    )
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
