"""The live page: a small server on this machine that shows a run while it is at work.

Theory of operation. `hear` only notes which jobs have news. Twice a second, and only if somebody looks, the rows of
those jobs are read from the ledger (in a thread) and told to all readers: the page shows what is recorded, live and
later alike. A new reader first gets the whole ledger in the same form. Where a row is a moment behind its event,
because it is still on its way to the disk, it is read again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread
from aiohttp import web

from omni_async import LedgerError, LedgerReader

from .entry import entry_of
from .page import policy, render
from .posters import FOLDER, Posters, can_be_made, file_name
from .serving import ClipFiles, Listener
from .subscribers import Subscribers, message
from .writing import frame_of

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable

    from omni_async import JobEvent, JobRecord, OmniClient


T = TypeVar("T")

_log = logging.getLogger(__name__)

_TICK = 0.5  # seconds between two looks at what has changed
_HEARTBEAT = 2.0  # seconds after which something is said even if nothing has changed
_KEPT = 5.0  # seconds for which news are kept for readers who come, and for rows that are late
_CHUNK = 500  # jobs in a message
_LAST_WORDS = 2.0  # seconds in which readers may take what is left to say
_LAST_LOOKS = 10  # at rows that are late
_MARKS = 2000  # moments with refused submits that are remembered


class LivePage:
    """Shows the run of one client in browsers. Give `hear` to the client as its `on_event`.

    Without a `port` it takes 8080, or a free one where that is taken. It listens on this machine only unless `host` is
    another address: then whoever reaches it can look.
    """

    def __init__(self, ledger: str | os.PathLike[str], *, host: str = "127.0.0.1", port: int | None = None) -> None:
        self._ledger = Path(ledger)
        self._doors = Listener(host, port)
        self._shelf = ClipFiles(self._ledger.parent)
        self._posters = Posters(self._ledger.parent)
        self._has_posters = can_be_made()
        self._audience = Subscribers()
        self._news: dict[str, JobEvent] = {}  # the last one of each job, oldest first
        self._progress: dict[str, float] = {}  # in percent
        self._refusals: list[tuple[float, int]] = []
        self._painting = anyio.CapacityLimiter(1)  # posters wait for each other: the run needs the machine more
        self._stands: Callable[[], dict[str, Any]] = dict

    @property
    def is_for_all(self) -> bool:
        """True where others than this machine can look."""
        return self._doors.are_for_all

    def on_event(self, event: JobEvent) -> None:
        """Take in one event of the client."""
        if event.status is event.previous:  # of this nothing is recorded
            if event.progress is not None:
                self._progress[event.key] = event.progress
        else:
            self._news.pop(event.key, None)
            self._news[event.key] = event

    @asynccontextmanager
    async def serve(self, client: OmniClient, *, total: int | None = None) -> AsyncIterator[str]:
        """Serve for as long as this block lasts; gives the page's address. `total` is the number of jobs to come.

        Raises `OSError` where the address cannot be had, and `RuntimeError` where jinja2 is missing.
        """
        page = await anyio.to_thread.run_sync(render, frame_of(self._ledger, is_live=True))
        self._stands = lambda: _standing(client, total)
        async with self._doors.open(self._routes(page)) as address:
            # No task group: what the block raises shall come out as it is.
            telling = asyncio.create_task(self._go_on_telling(), name="omni_async live page")
            try:
                yield address
            finally:
                telling.cancel()
                await self._say_goodbye(telling)

    # What is asked for

    def _routes(self, page: bytes) -> list[web.RouteDef]:
        headers = {"Content-Security-Policy": f"{policy()}; frame-ancestors 'none'", "Cache-Control": "no-store"}

        async def show(_: web.Request) -> web.StreamResponse:
            return web.Response(body=page, content_type="text/html", charset="utf-8", headers=headers)

        async def tell(request: web.Request) -> web.StreamResponse:
            return await self._audience.subscribe(request, self._snapshot)

        async def give_clip(request: web.Request) -> web.StreamResponse:
            return await self._shelf.clip(request.match_info["name"])

        return [
            web.get("/", show),
            web.get("/events", tell, allow_head=False),
            web.get(f"/{FOLDER}/{{name}}.jpg", self._give_poster),
            web.get("/{name}", give_clip),
        ]

    async def _give_poster(self, request: web.Request) -> web.StreamResponse:
        """Give a poster, which is made when it is first asked for: who does not look pays nothing for it."""
        clip = request.match_info["name"]
        await self._shelf.clip(clip)  # raises where there is no such clip
        if self._has_posters:
            await anyio.to_thread.run_sync(self._posters.make, clip, limiter=self._painting)
        return await self._shelf.poster(file_name(clip))

    # What is told

    async def _go_on_telling(self) -> None:
        told: dict[str, Any] = {}
        told_at, refused = 0.0, 0
        while True:
            await anyio.sleep(_TICK)
            stands = self._stands()
            refused, before = stands["statistics"]["refused"], refused
            if refused > before and len(self._refusals) < _MARKS:
                self._refusals.append((round(time.time(), 1), refused - before))
            progress, self._progress = self._progress, {}
            if not self._audience:
                self._forget_old_news(time.time() - _KEPT)
                continue
            await self._tell_news()
            if progress:
                self._audience.tell("progress", progress)
            now = time.monotonic()
            if stands != told or now - told_at >= _HEARTBEAT:
                self._audience.tell("run", self._run(stands))
                told, told_at = stands, now

    def _run(self, stands: dict[str, Any], *, has_ended: bool = False) -> dict[str, Any]:
        return stands | {"now": round(time.time(), 3), "ended": has_ended, "refusals": self._refusals}

    def _forget_old_news(self, before: float) -> None:
        for key, event in list(self._news.items()):
            if event.timestamp >= before:
                return
            del self._news[key]

    async def _tell_news(self) -> None:
        news = list(self._news.values())
        for start in range(0, len(news), _CHUNK):
            events = news[start : start + _CHUNK]
            entries = await self._in_ledger(partial(self._look_up, events)) or []
            self._audience.tell("jobs", entries)
            recorded = {entry["key"]: entry["status"] for entry in entries}
            for event in events:
                is_told = recorded.get(event.key) == event.status or event.timestamp < time.time() - _KEPT
                if is_told and self._news.get(event.key) is event:
                    del self._news[event.key]

    def _look_up(self, events: list[JobEvent], reader: LedgerReader) -> list[dict[str, Any]]:
        records = (reader.find(event.key) for event in events)
        return [self._entry(record) for record in records if record]

    async def _snapshot(self) -> AsyncIterator[bytes]:
        yield message("begin", frame_of(self._ledger, is_live=True))
        for part in await self._in_ledger(self._everything) or []:
            yield part
        yield message("run", self._run(self._stands()))
        yield message("ready", {})

    def _everything(self, reader: LedgerReader) -> list[bytes]:
        entries = [self._entry(record) for record in reader.jobs()]
        return [message("jobs", entries[start : start + _CHUNK]) for start in range(0, len(entries), _CHUNK)]

    def _entry(self, record: JobRecord) -> dict[str, Any]:
        entry = entry_of(record, self._posters.find)
        if self._has_posters and "clips" in entry and "poster" not in entry:  # it will be made
            entry["poster"] = f"{FOLDER}/{quote(file_name(Path(record.paths[0]).name))}"
        return entry

    async def _in_ledger(self, look: Callable[[LedgerReader], T]) -> T | None:
        """Look into the ledger in a thread; None while it cannot be read."""

        def read() -> T:
            with LedgerReader(self._ledger) as reader:
                return look(reader)

        with suppress(LedgerError):
            return await anyio.to_thread.run_sync(read)
        return None

    async def _say_goodbye(self, telling: asyncio.Task[None]) -> None:
        with anyio.move_on_after(_LAST_WORDS, shield=True):
            await asyncio.wait([telling])
            try:
                if not telling.cancelled():
                    telling.result()
                for _ in range(_LAST_LOOKS):
                    await self._tell_news()
                    if not self._news:
                        break
                    await asyncio.sleep(_LAST_WORDS / 2 / _LAST_LOOKS)  # a row is still on its way
                self._audience.tell("run", self._run(self._stands(), has_ended=True))
            except Exception:  # noqa: BLE001 - whatever is wrong with the page, the run goes on
                _log.exception("the live page has stopped telling what happens; the run was not harmed")
            self._audience.close()
            await self._audience.gone()
            await anyio.to_thread.run_sync(self._posters.save)


def _standing(client: OmniClient, total: int | None) -> dict[str, Any]:
    stopped = client.stop_error
    return {"total": total, "statistics": asdict(client.statistics()), "stopped": str(stopped) if stopped else None}
