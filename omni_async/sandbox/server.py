"""A sandbox in the running event loop: two origins that speak as the service does, and real clips."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
from aiohttp import web
from yarl import URL

from . import render_pool as render
from .account import AccountEndpoints
from .api import TaskEndpoints
from .cdn import Cdn, LinkTable
from .clips import Clip, clip_from_file, distinct_clip
from .faults import FaultInjector
from .model_specs import HEIGHTS
from .record import SandboxRecord
from .references import ReferenceLoader
from .replies import error_reply
from .settings import SandboxSettings
from .state import SandboxState
from .task_json import TaskSerializer
from .tasks import Task, TaskRunner
from .webhook import WebhookSender

if TYPE_CHECKING:
    from collections.abc import Iterable


GRACE = 0.5  # seconds that answers under way get when the sandbox closes
LARGEST_BODY = 40 * 1024 * 1024
DEFAULT_KEY = "sk-sandbox"
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104

_prerendered: dict[bool, bytes] = {}  # by orientation; the same for every sandbox of this process


class Sandbox:
    """`async with Sandbox(per_minute=60, faults={"http_500": 0.1}) as sandbox: sandbox.base_url`."""

    def __init__(self, settings: SandboxSettings | None = None, **knobs: Any) -> None:
        if settings is not None and knobs:
            raise TypeError("give Sandbox either settings or knobs, not both")
        self.settings = settings or SandboxSettings(**knobs)
        self.record = SandboxRecord()
        self.base_url = ""
        self.cdn_url = ""
        self.api_key = self.settings.api_key or DEFAULT_KEY
        self._fault_injector = FaultInjector(self.settings.faults, self.settings.seed)
        self.record.faults = self._fault_injector.hits
        self._stack = AsyncExitStack()

    def script(self, kind: str, names: Iterable[str | None]) -> None:
        """Queue faults for the next of a kind (submit, check, clip, upload, webhook); None lets one pass."""
        self._fault_injector.script(kind, names)

    def fault(self, name: str, chance: float = 1.0) -> None:
        """Switch a fault on, from now on, with this probability; 0 switches it off."""
        self._fault_injector.set_probability(name, chance)

    async def __aenter__(self) -> Sandbox:
        render.require_media()
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        with anyio.CancelScope(shield=True):  # a cancelled scope around it would cancel each await of the closing
            await self._stack.aclose()

    async def _open(self) -> None:
        settings, enter = self.settings, self._stack
        self._tls = _tls(settings)
        stage = SandboxState(settings, self.record, self._fault_injector)
        self._renderer = render.Renderer(settings.render_workers)
        self._prerendering = asyncio.Lock()  # many tasks want it at once; one makes it
        enter.push_async_callback(self._renderer.aclose)
        session = await enter.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        self._runner = TaskRunner(settings, self.record, self._film)
        self._runner.on_end = WebhookSender(session, stage, self._view).send
        enter.push_async_callback(self._runner.aclose)
        links = LinkTable(settings.link_lifetime)
        self._cdn = Cdn(stage, self._runner, links)
        self._references = ReferenceLoader(session, lambda: self._renderer.folder, self._own)
        self._views = TaskSerializer(settings, partial(self._address, links))
        self.cdn_url, self._cdn.third = await self._serve_cdn(stage)
        self.base_url = await self._serve_api(stage)
        enter.callback(stage.closing.set)

    async def _serve_cdn(self, stage: SandboxState) -> tuple[str, str]:
        app = web.Application(middlewares=[self._cdn.watch_keys, stage.handle_errors])
        app.add_routes(self._cdn.routes())
        urls = await self._listen(app, self.settings.cdn_port, 0)
        return urls[0], urls[1]

    async def _serve_api(self, stage: SandboxState) -> str:
        api = TaskEndpoints(stage, self._runner, self._views, lambda: self._cdn.third)
        account = AccountEndpoints(stage, self._runner, lambda *picture: self.cdn_url + self._cdn.keep(*picture))
        app = web.Application(middlewares=[stage.handle_errors], client_max_size=LARGEST_BODY)
        app.add_routes([*api.routes(), *account.routes()])
        app.add_routes([web.get("/sandbox/record", self._show), web.post("/sandbox/script", self._queue)])
        return (await self._listen(app, self.settings.port))[0]

    async def _listen(self, app: web.Application, *ports: int) -> list[str]:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)
        self._stack.push_async_callback(runner.cleanup)
        await runner.setup()
        urls = []
        for port in ports:
            seen = len(runner.addresses)
            await web.TCPSite(runner, self.settings.host, port, backlog=1024, ssl_context=self._tls).start()
            urls.append(_url("https" if self._tls else "http", *runner.addresses[seen][:2]))
        return urls

    def _own(self, url: str) -> bytes | None:
        """What we serve ourselves need not be fetched, nor be counted as if a client had."""
        return self._cdn.find(url.removeprefix(self.cdn_url)) if url.startswith(self.cdn_url) else None

    def _address(self, links: LinkTable, task: Task, index: int, host: str | None) -> tuple[str, float]:
        link, origin = links.of(task, index), URL(self.cdn_url)
        # Who listens on every address is reached by the name that the client used.
        origin = origin.with_host(host) if host and self.settings.host in EVERYWHERE else origin
        return str(origin.with_path(f"/f/video/{link.name}")), link.until

    def _view(self, task: Task) -> dict[str, Any]:
        return self._views.to_json(task, asyncio.get_running_loop().time())

    async def _film(self, task: Task) -> list[Clip]:
        videos = self.settings.videos_per_task + ("two_videos" in task.faults and self.settings.videos_per_task == 1)
        if self.settings.prerendered:
            content = await self._prerender(task.body.portrait)
            size = self.settings.clip_bytes
            return [distinct_clip(content, f"{task.task_id}#{index}", size) for index in range(videos)]
        references = await self._references.fetch(task.body)
        parent = self._runner.parent_of(task.body)
        scripts = [
            {
                "path": str(self._renderer.folder / f"{task.task_id}-{index}.mp4"),
                "prompt": task.body.prompt,
                "task_id": task.task_id,
                "seconds": task.seconds,
                "portrait": task.body.portrait,
                "height": HEIGHTS[task.body.resolution],
                "seed": self.settings.seed + index,
                "references": references,
                "parent": str(parent.clips[0].source) if parent else None,
            }
            for index in range(videos)
        ]
        paths = [await self._renderer.render(script) for script in scripts]
        return [clip_from_file(path, self.settings.clip_bytes) for path in paths]

    async def _prerender(self, portrait: bool) -> bytes:
        async with self._prerendering:
            if portrait not in _prerendered:
                path = self._renderer.folder / f"prerendered-{portrait}.mp4"
                script = {"path": str(path), "prompt": "prerendered", "task_id": "one clip for all", "seconds": 3}
                await self._renderer.render(script | {"portrait": portrait, "coarseness": 32})
                _prerendered[portrait] = path.read_bytes()
        return _prerendered[portrait]

    async def _show(self, _: web.Request) -> web.Response:
        return web.json_response(self.record.to_json())

    async def _queue(self, request: web.Request) -> web.Response:
        body = await request.json()
        try:
            self.script(body["kind"], body["names"])
        except ValueError as error:
            raise error_reply(400, str(error)) from None
        return web.json_response({"queued": len(body["names"])})


def _url(scheme: str, host: str, port: int) -> str:
    host = EVERYWHERE.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _tls(settings: SandboxSettings) -> ssl.SSLContext | None:
    if settings.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.cert, settings.key)
    except (ssl.SSLError, OSError) as error:
        files = " and ".join(filter(None, [settings.cert, settings.key]))
        raise OSError(f"no certificate with its key in {files}: {error.strerror or error}") from None
    return context
