"""Where the live page is served: the address, who is let in, and which files of the folder are shown."""

from __future__ import annotations

import errno
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio.to_thread
from aiohttp import web

from .posters import FOLDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


USUAL_PORT = 8080

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
_GRACE = 1.0  # seconds in which answers under way may end
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",  # no other site may show the clips as its own
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Listener:
    """An address of this machine. Without a port it takes the usual one, or, where that is taken, a free one."""

    def __init__(self, host: str, port: int | None) -> None:
        self.host = host
        self._port = port

    @property
    def are_for_all(self) -> bool:
        """True where others than this machine can come in."""
        return not _is_of_this_machine(self.host)

    @asynccontextmanager
    async def open(self, routes: Iterable[web.RouteDef]) -> AsyncIterator[str]:
        """Serve for as long as this block lasts; gives the address of it. Raises `OSError` where it cannot be had."""
        app = web.Application(middlewares=[self._check])
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE)
        await runner.setup()
        try:
            port = await self._listen(runner)
            host = _EVERYWHERE.get(self.host, self.host)
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> int:
        try:
            await web.TCPSite(runner, self.host, USUAL_PORT if self._port is None else self._port).start()
        except OSError as error:
            if self._port is not None or error.errno != errno.EADDRINUSE:
                raise
            await web.TCPSite(runner, self.host, 0).start()
        return int(runner.addresses[0][1])

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_known(request.host):
            raise web.HTTPForbidden(text="this page is not served under that name\n", headers=SECURITY_HEADERS)
        response = await handler(request)
        if not response.prepared:
            response.headers.update(SECURITY_HEADERS)
        return response

    def _is_known(self, host: str) -> bool:
        """Tell whether a browser that names this host may look.

        A page of a stranger may let its own name point here (DNS rebinding), and would then read what stands here:
        so only names are known that nobody else can hold, and addresses, where others may look anyway.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if _is_of_this_machine(name):
            return True
        if not self.are_for_all:
            return False
        return _is_address(name) or name in {self.host.lower(), socket.gethostname().lower()}


def _is_of_this_machine(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class ClipFiles:
    """The files that a page may show: clips of one folder, and their posters. Everything else is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def clip(self, name: str) -> web.StreamResponse:
        """Give a clip, or the part of it that is asked for."""
        return await self._give(self._folder, name, ".mp4")

    async def poster(self, name: str) -> web.StreamResponse:
        """Give a poster."""
        return await self._give(self._folder / FOLDER, name, ".jpg")

    async def _give(self, folder: Path, name: str, ending: str) -> web.StreamResponse:
        if not await anyio.to_thread.run_sync(_is_within, folder, name, ending):
            raise web.HTTPNotFound(text="there is no such clip\n", headers=SECURITY_HEADERS)
        return web.FileResponse(folder / name, headers=SECURITY_HEADERS | {"Cache-Control": "no-cache"})


def _is_within(folder: Path, name: str, ending: str) -> bool:
    """Tell whether this names a file that stands in the folder itself, and is no way out of it."""
    try:
        path = (folder / name).resolve(strict=True)
        return name.endswith(ending) and path.parent == folder.resolve() and path.is_file()
    except (OSError, ValueError):
        return False
