"""A sandbox in the running event loop: an API server and a CDN server that answer as the service does.

`Sandbox` builds the parts and connects them. `SandboxProcess` and `omni_async.testing.SandboxThread` run one elsewhere.
"""

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

from .account import AccountEndpoints
from .admission import Admission
from .api import TaskEndpoints
from .cdn import Cdn, LinkTable
from .clips import Clip, clip_from_file, distinct_clip
from .faults import FaultInjector
from .listening import REQUEST_TIMEOUT, SERVER_LOG, ApplicationListener
from .model_endpoints import ModelEndpoints
from .model_specs import HEIGHTS
from .record import SandboxRecord
from .references import ReferenceLoader
from .render_pool import Renderer, require_media
from .replies import error_reply
from .settings import SandboxSettings
from .state import SandboxState
from .task_json import TaskSerializer
from .tasks import Task, TaskRunner
from .usage import UsageEndpoint
from .webhook import WebhookSender

if TYPE_CHECKING:
    from collections.abc import Iterable


# Seconds that open responses get when the sandbox closes. More would delay every test that leaves a download or a
# hanging request behind; less would cut off responses that are only slow. Chosen, not measured.
SHUTDOWN_TIMEOUT = 0.5
# Bytes. Well above the 20 MB that an upload may have, so that a larger upload gets the error of the service.
MAX_BODY = 40 * 1024 * 1024
DEFAULT_KEY = "sk-sandbox"
# Addresses that stand for "every interface", and how this machine itself reaches them.
LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
# x264's quantizer of the prerendered clip: coarser than that of other clips, so that load tests transfer little.
PRERENDERED_QUANTIZER = 32

_prerendered: dict[bool, bytes] = {}  # by orientation; shared by all sandboxes of this process


class Sandbox:
    """A local server that speaks the API and makes real clips, running while its `async with` block is open.

    Takes a `SandboxSettings` or its fields as keyword arguments.

    Example::

        async with Sandbox(median=0.2, seconds=3) as sandbox:
            async with OmniClient(sandbox.api_key, base_url=sandbox.base_url) as client:
                print(await client.submit("a red apple"), sandbox.record.paid)
    """

    def __init__(self, settings: SandboxSettings | None = None, **options: Any) -> None:
        if settings is not None and options:
            raise TypeError("Sandbox takes either a SandboxSettings or keyword arguments, not both")
        self.settings: SandboxSettings = settings or SandboxSettings(**options)
        self.record: SandboxRecord = SandboxRecord()
        self.base_url: str = ""
        self.cdn_url: str = ""
        self.api_key: str = self.settings.api_key or DEFAULT_KEY
        self._fault_injector = FaultInjector(self.settings.faults, self.settings.seed)
        self.record.faults = self._fault_injector.hits
        self._stack = AsyncExitStack()

    def script(self, kind: str, names: Iterable[str | None]) -> None:
        """Queue faults for the next requests of a kind; None lets one request pass without a fault.

        The kinds are submit, check, clip, upload and webhook. Random faults resume when the queue is empty. Raises
        `ValueError` for an unknown kind, and for a fault that cannot hit it.
        """
        self._fault_injector.script(kind, names)

    def fault(self, name: str, probability: float = 1.0) -> None:
        """Switch a fault on from now on, with this probability; 0 switches it off.

        `FAULTS` lists the names. Raises `ValueError` for any other.
        """
        self._fault_injector.set_probability(name, probability)

    async def __aenter__(self) -> Sandbox:
        require_media()
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        # Without the shield, a cancelled scope around the block would cancel each await of the closing in turn.
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    async def _open(self) -> None:
        settings, stack = self.settings, self._stack
        self._tls, self._admission = _tls(settings), Admission(settings.host)
        state = SandboxState(settings, self.record, self._fault_injector)
        self._renderer = Renderer(settings.render_workers)
        self._prerendering = asyncio.Lock()
        stack.push_async_callback(self._renderer.aclose)
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        self._runner = TaskRunner(settings, self.record, self._make_clips)
        self._runner.on_end = WebhookSender(session, state, self._task_json).send
        stack.push_async_callback(self._runner.aclose)
        links = LinkTable(settings.link_lifetime)
        self._cdn = Cdn(state, self._runner, links)
        self._references = ReferenceLoader(session, lambda: self._renderer.folder, self._read_own)
        self._serializer = TaskSerializer(settings, partial(self._clip_url, links))
        self.cdn_url, self._cdn.third_origin = await self._serve_cdn(state)
        self.base_url = await self._serve_api(state)
        stack.callback(state.closing.set)  # runs first, so that hanging requests end before the servers stop

    async def _serve_cdn(self, state: SandboxState) -> tuple[str, str]:
        middlewares = [self._cdn.count_leaked_keys, state.handle_errors, self._admission.check_host]
        urls = await self._listen(self._cdn.routes(), middlewares, self.settings.cdn_port, 0)
        return urls[0], urls[1]

    async def _serve_api(self, state: SandboxState) -> str:
        api = TaskEndpoints(state, self._runner, self._serializer, lambda: self._cdn.third_origin)
        account = AccountEndpoints(state, self._runner, lambda *image: self.cdn_url + self._cdn.store_image(*image))
        routes = [*api.routes(), *account.routes(), *ModelEndpoints(state, self._runner).routes()]
        routes += UsageEndpoint(state, self._runner).routes()
        routes += [web.get("/sandbox/record", self._get_record), web.post("/sandbox/script", self._post_script)]
        middlewares = [state.handle_errors, self._admission.check_host, self._admission.check_site]
        return (await self._listen(routes, middlewares, self.settings.port))[0]

    async def _listen(self, routes: list[web.RouteDef], middlewares: list[Any], *ports: int) -> list[str]:
        """Serve an application on each port and return the URLs."""
        listener = ApplicationListener(self._tls)
        app = web.Application(middlewares=[listener.middleware, *middlewares], client_max_size=MAX_BODY)
        app.add_routes(routes)
        options: dict[str, Any] = {"keepalive_timeout": REQUEST_TIMEOUT, "logger": SERVER_LOG}
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT, **options)
        self._stack.push_async_callback(runner.cleanup)
        await runner.setup()
        assert runner.server is not None
        self._stack.push_async_callback(listener.aclose)
        scheme = "https" if self._tls else "http"
        return [_url(scheme, *await listener.listen(runner.server, self.settings.host, port)) for port in ports]

    def _read_own(self, url: str) -> bytes | None:
        # Read directly: a download over HTTP would count in the record as if a client had made it.
        return self._cdn.read(url.removeprefix(self.cdn_url)) if url.startswith(self.cdn_url) else None

    def _clip_url(self, links: LinkTable, task: Task, index: int, host: str | None) -> tuple[str, float]:
        """Return the URL of a video, and when it expires."""
        link, origin = links.current(task, index), URL(self.cdn_url)
        # A sandbox that listens on every address cannot know its own name: it uses the one that the client addressed.
        origin = origin.with_host(host) if host and self.settings.host in LOOPBACK_OF else origin
        return str(origin.with_path(f"/f/video/{link.name}")), link.expires_at

    def _task_json(self, task: Task) -> dict[str, Any]:
        return self._serializer.to_json(task, asyncio.get_running_loop().time(), language=task.body.language)

    async def _make_clips(self, task: Task) -> list[Clip]:
        videos = self.settings.videos_per_task + ("two_videos" in task.faults and self.settings.videos_per_task == 1)
        if self.settings.prerendered:
            content = await self._prerender(task.body.is_portrait)
            size = self.settings.clip_bytes
            return [distinct_clip(content, f"{task.task_id}#{index}", size) for index in range(videos)]
        references = await self._references.fetch(task.body)
        parent = self._runner.parent_of(task.body)
        specs = [
            {
                "path": str(self._renderer.folder / f"{task.task_id}-{index}.mp4"),
                "prompt": task.body.prompt,
                "task_id": task.task_id,
                "seconds": task.seconds,
                "is_portrait": task.body.is_portrait,
                "height": HEIGHTS[task.body.resolution],
                "seed": self.settings.seed + index,
                "references": references,
                "parent": str(parent.clips[0].source) if parent else None,
            }
            for index in range(videos)
        ]
        paths = [await self._renderer.render(spec) for spec in specs]
        return [clip_from_file(path, self.settings.clip_bytes) for path in paths]

    async def _prerender(self, is_portrait: bool) -> bytes:
        """Return the one clip that all tasks share. It is rendered once per process and orientation."""
        async with self._prerendering:
            if is_portrait not in _prerendered:
                path = self._renderer.folder / f"prerendered-{is_portrait}.mp4"
                spec = {"path": str(path), "prompt": "prerendered", "task_id": "one clip for all", "seconds": 3}
                await self._renderer.render(spec | {"is_portrait": is_portrait, "quantizer": PRERENDERED_QUANTIZER})
                _prerendered[is_portrait] = path.read_bytes()
        return _prerendered[is_portrait]

    async def _get_record(self, _: web.Request) -> web.Response:
        return web.json_response(self.record.to_json())

    async def _post_script(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":  # a page of another site cannot send it unasked
            raise error_reply(400, "the body must have the Content-Type application/json")
        try:
            body = await request.json()
            self.script(body["kind"], body["names"])
        except (ValueError, TypeError, KeyError) as error:
            raise error_reply(400, str(error) or "kind and names are required") from None
        return web.json_response({"queued": len(body["names"])})


def _url(scheme: str, host: str, port: int) -> str:
    host = LOOPBACK_OF.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _tls(settings: SandboxSettings) -> ssl.SSLContext | None:
    if settings.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.cert, settings.key)
    except (ssl.SSLError, OSError) as error:
        files = " and ".join(filter(None, [settings.cert, settings.key]))
        raise OSError(f"cannot load a certificate and its key from {files}: {error.strerror or error}") from None
    return context
