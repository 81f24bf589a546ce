"""The HTTP server of the live page: its address, the host names it answers to, and the files it serves."""

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


# A port that people remember. If it is taken, any free port is used: the command line prints the address.
DEFAULT_PORT = 8080

# Addresses that mean "every interface" cannot be opened in a browser; show the loopback address instead.
_WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
# Seconds that responses in progress get when the server stops. Trades a clean end of clip downloads for a quick exit of
# the command. Chosen, not measured: at half, slow readers lose more responses; at double, Ctrl-C takes a second longer.
_SHUTDOWN_TIMEOUT = 1.0

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",  # other sites cannot embed the clips
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Listener:
    """A listening address of this machine.

    If `port` is None, it is `DEFAULT_PORT`, or a free port if that one is in use.
    """

    def __init__(self, host: str, port: int | None) -> None:
        self.host = host
        self._port = port

    @property
    def is_exposed(self) -> bool:
        """Whether other machines can connect."""
        return not _is_loopback(self.host)

    @asynccontextmanager
    async def open(self, routes: Iterable[web.RouteDef]) -> AsyncIterator[str]:
        """Serve `routes` until the block ends; yield the URL. Raise `OSError` if the address is not available."""
        app = web.Application(middlewares=[self._check_host])
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            port = await self._listen(runner)
            host = _WILDCARD_HOSTS.get(self.host, self.host)
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> int:
        """Start listening and return the port."""
        try:
            await web.TCPSite(runner, self.host, DEFAULT_PORT if self._port is None else self._port).start()
        except OSError as error:
            # A port that the user chose is never replaced by another one.
            if self._port is not None or error.errno != errno.EADDRINUSE:
                raise
            await web.TCPSite(runner, self.host, 0).start()
        return int(runner.addresses[0][1])

    @web.middleware
    async def _check_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_allowed_host(request.host):
            raise web.HTTPForbidden(text="this page is not served under this host name\n", headers=SECURITY_HEADERS)
        response = await handler(request)
        if not response.prepared:  # the headers of an event stream are sent already, and include these
            response.headers.update(SECURITY_HEADERS)
        return response

    def _is_allowed_host(self, host: str) -> bool:
        """Return whether a request with this Host header may be answered.

        Protects against DNS rebinding: a hostile site can point its own name at this machine, and its pages could then
        read prompts and clips. Names that no other party can own are allowed. IP addresses are allowed only where other
        machines can connect anyway.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if _is_loopback(name):
            return True
        if not self.is_exposed:
            return False
        return _is_address(name) or name in {self.host.lower(), socket.gethostname().lower()}


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class ClipFiles:
    """The files that the page may load: the clips of one folder and their posters. Any other path is not found."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def clip(self, name: str) -> web.StreamResponse:
        """Return the response for a clip; aiohttp answers Range requests. Raise `HTTPNotFound` if there is none."""
        return await self._file(self._folder, name, ".mp4")

    async def poster(self, name: str) -> web.StreamResponse:
        """Return the response for a poster. Raise `HTTPNotFound` if there is none."""
        return await self._file(self._folder / FOLDER, name, ".jpg")

    async def _file(self, folder: Path, name: str, suffix: str) -> web.StreamResponse:
        if not await anyio.to_thread.run_sync(_is_file_in, folder, name, suffix):
            raise web.HTTPNotFound(text="there is no such clip\n", headers=SECURITY_HEADERS)
        return web.FileResponse(folder / name, headers=SECURITY_HEADERS | {"Cache-Control": "no-cache"})


def _is_file_in(folder: Path, name: str, suffix: str) -> bool:
    """Return whether `name` is a file directly inside `folder`, not reached through "..", a link or a subfolder."""
    try:
        path = (folder / name).resolve(strict=True)
        return name.endswith(suffix) and path.parent == folder.resolve() and path.is_file()
    except (OSError, ValueError):  # ValueError: the name contains a null byte
        return False
