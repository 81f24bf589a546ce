"""The live page: a small web server that shows a run in browsers while it is in progress.

Theory of operation. `on_event` only notes which jobs have changed, so it costs the run next to nothing. Twice a second,
and only if a browser is connected, the rows of those jobs are read from the ledger in a thread and sent to all
subscribers. The page therefore always shows what is recorded, and a static page written later shows the same. A new
subscriber first receives all jobs of the ledger in the same form. Commits are grouped, so a row may be older than its
event; it is then read again at the next update.

Events of the stream: `begin` (a snapshot follows: forget all jobs), `jobs` (a list of `entry.job_entry`), `progress`
(percent by key), `run` (the client's statistics, and whether the run has ended) and `ready` (the snapshot is complete).
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

from .entry import job_entry
from .page import content_security_policy, render
from .posters import FOLDER, Posters, can_make_posters, file_name
from .serving import ClipFiles, Listener
from .subscribers import Subscribers, encode_event
from .writing import page_data

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable

    from omni_async import JobEvent, JobRecord, OmniClient


T = TypeVar("T")

_log = logging.getLogger(__name__)

# Seconds between two updates. Trades CPU of the run for how current the page is. `benchmarks.gallery` bounds the cost:
# at most 5 % more CPU with the page served and no browser connected. At half, twice as many ledger reads; at double,
# the page visibly lags behind.
_UPDATE_INTERVAL = 0.5
# Seconds without a change after which the run is sent anyway. The page shows a process as stopped after 7 s of silence
# (`SILENCE` in live.js): three heartbeats may be late. At half, more messages on an idle run; at double, one late
# message already looks like a crash.
_HEARTBEAT = 2.0
# Seconds to keep an event. It bounds the wait for a row that is older than its event, and covers the gap while a new
# subscriber reads its snapshot. Commits take milliseconds, 5 s is for a busy disk. At half, a change may be missed
# until the page is reloaded; at double, a job whose status never matches is read for twice as long.
_EVENT_LIFETIME = 5.0
# Jobs in one message. Trades the size of a message (about 0.5 KB a job) for the number of messages. Chosen, not
# measured: at half, twice the messages of a snapshot; at double, the loop is blocked longer while one is encoded.
_JOBS_PER_MESSAGE = 500
# Seconds at the end of a run for late rows and for subscribers to receive the last messages. Trades a complete last
# state for a quick exit. Chosen, not measured: at half, a slow browser may miss it; at double, a suspended browser
# delays the exit of the command by two more seconds.
_CLOSE_TIMEOUT = 2.0
# Reads at the end of a run while rows are older than their events, spread over half of `_CLOSE_TIMEOUT`. At half, the
# end is noticed up to 0.2 s later; at double, twice the reads.
_FINAL_READS = 10
# Moments with rate-limited submits that are sent to the page, one per update at most: 2000 are about 17 minutes of
# uninterrupted 429s. The list is part of each `run` message (about 20 bytes each). At half, the timeline lacks later
# marks sooner; at double, each message may grow to 80 KB.
_MAX_RATE_LIMIT_MARKS = 2000


class LivePage:
    """Shows the run of one client in browsers. Pass `on_event` to the client.

    `ledger` is the file that the client writes. `host` is the address to listen on; the default accepts connections
    from this machine only. With any other, everyone who can reach it sees prompts, clips and costs. `port` defaults to
    8080, or to a free port if that one is in use.
    """

    def __init__(self, ledger: str | os.PathLike[str], *, host: str = "127.0.0.1", port: int | None = None) -> None:
        self._ledger = Path(ledger)
        self._listener = Listener(host, port)
        self._files = ClipFiles(self._ledger.parent)
        self._posters = Posters(self._ledger.parent)
        self._has_posters = can_make_posters()
        self._subscribers = Subscribers()
        self._changed: dict[str, JobEvent] = {}  # the last change of status of each job, oldest first
        self._progress: dict[str, float] = {}  # in percent
        self._rate_limited: list[tuple[float, int]] = []  # unix seconds, number of submits answered with 429
        # One poster at a time: the run needs the CPU more than the page does.
        self._poster_limiter = anyio.CapacityLimiter(1)
        self._status: Callable[[], dict[str, Any]] = dict

    @property
    def is_exposed(self) -> bool:
        """Whether other machines can connect."""
        return self._listener.is_exposed

    def on_event(self, event: JobEvent) -> None:
        """Record an event of the client. Costs a dictionary access; the ledger is read later."""
        if event.status is event.previous:
            # Not a change of status, so the ledger has nothing new. Progress is only ever in events.
            if event.progress is not None:
                self._progress[event.key] = event.progress
        else:
            self._changed.pop(event.key, None)  # so that the dictionary stays in order of time
            self._changed[event.key] = event

    @asynccontextmanager
    async def serve(self, client: OmniClient, *, total: int | None = None) -> AsyncIterator[str]:
        """Serve the page until the block ends; yield its URL.

        `total` is the number of jobs expected in this run; None if unknown. Raise `OSError` if the address is not
        available, and `RuntimeError` if jinja2 is not installed.
        """
        page = await anyio.to_thread.run_sync(render, page_data(self._ledger, is_live=True))
        self._status = lambda: {"total": total, "statistics": asdict(client.statistics())}
        async with self._listener.open(self._routes(page)) as address:
            # Not a task group: it would wrap an exception of the block in an exception group.
            updates = asyncio.create_task(self._send_updates(), name="omni_async live page")
            try:
                yield address
            finally:
                updates.cancel()
                await self._close(updates)

    # Requests

    def _routes(self, page: bytes) -> list[web.RouteDef]:
        policy = f"{content_security_policy()}; frame-ancestors 'none'"
        headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}

        async def get_page(_: web.Request) -> web.StreamResponse:
            return web.Response(body=page, content_type="text/html", charset="utf-8", headers=headers)

        async def get_events(request: web.Request) -> web.StreamResponse:
            return await self._subscribers.subscribe(request, self._snapshot)

        async def get_clip(request: web.Request) -> web.StreamResponse:
            return await self._files.clip(request.match_info["name"])

        return [
            web.get("/", get_page),
            web.get("/events", get_events, allow_head=False),
            web.get(f"/{FOLDER}/{{name}}.jpg", self._get_poster),
            web.get("/{name}", get_clip),
        ]

    async def _get_poster(self, request: web.Request) -> web.StreamResponse:
        """Return a poster. It is made on its first request, so that a run without a browser makes none."""
        clip = request.match_info["name"]
        await self._files.clip(clip)  # raises if there is no such clip
        if self._has_posters:
            await anyio.to_thread.run_sync(self._posters.make, clip, limiter=self._poster_limiter)
        return await self._files.poster(file_name(clip))

    # Messages

    async def _send_updates(self) -> None:
        """Send changes to all subscribers until cancelled."""
        sent: dict[str, Any] = {}
        sent_at, rate_limited = 0.0, 0
        while True:
            await anyio.sleep(_UPDATE_INTERVAL)
            status = self._status()
            rate_limited, before = status["statistics"]["rate_limited"], rate_limited
            if rate_limited > before and len(self._rate_limited) < _MAX_RATE_LIMIT_MARKS:
                self._rate_limited.append((round(time.time(), 1), rate_limited - before))
            progress, self._progress = self._progress, {}
            if not self._subscribers:
                self._forget_changes(time.time() - _EVENT_LIFETIME)
                continue
            await self._send_changes()
            if progress:
                self._subscribers.broadcast("progress", progress)
            now = time.monotonic()
            if status != sent or now - sent_at >= _HEARTBEAT:
                self._subscribers.broadcast("run", self._run(status))
                sent, sent_at = status, now

    def _run(self, status: dict[str, Any], *, has_ended: bool = False) -> dict[str, Any]:
        """Return the data of a `run` message."""
        return status | {"now": round(time.time(), 3), "has_ended": has_ended, "rate_limited": self._rate_limited}

    def _forget_changes(self, before: float) -> None:
        """Drop the changes that are older than `before`, in unix seconds: the next snapshot contains them."""
        for key, event in list(self._changed.items()):
            if event.timestamp >= before:
                return
            del self._changed[key]

    async def _send_changes(self) -> None:
        """Send the rows of all changed jobs. A row that is older than its event is sent, and kept for the next time."""
        changed = list(self._changed.values())
        for start in range(0, len(changed), _JOBS_PER_MESSAGE):
            events = changed[start : start + _JOBS_PER_MESSAGE]
            entries = await self._read_ledger(partial(self._find_entries, events)) or []
            self._subscribers.broadcast("jobs", entries)
            recorded = {entry["key"]: entry["status"] for entry in entries}
            for event in events:
                is_sent = recorded.get(event.key) == event.status or event.timestamp < time.time() - _EVENT_LIFETIME
                # A newer event may have replaced this one while the ledger was read.
                if is_sent and self._changed.get(event.key) is event:
                    del self._changed[event.key]

    def _find_entries(self, events: list[JobEvent], reader: LedgerReader) -> list[dict[str, Any]]:
        records = (reader.find(event.key) for event in events)
        return [self._entry(record) for record in records if record]

    async def _snapshot(self) -> AsyncIterator[bytes]:
        """Yield the messages that tell a new subscriber the current state."""
        yield encode_event("begin", page_data(self._ledger, is_live=True))
        for part in await self._read_ledger(self._all_jobs) or []:
            yield part
        yield encode_event("run", self._run(self._status()))
        yield encode_event("ready", {})

    def _all_jobs(self, reader: LedgerReader) -> list[bytes]:
        entries = [self._entry(record) for record in reader.jobs()]
        starts = range(0, len(entries), _JOBS_PER_MESSAGE)
        return [encode_event("jobs", entries[start : start + _JOBS_PER_MESSAGE]) for start in starts]

    def _entry(self, record: JobRecord) -> dict[str, Any]:
        entry = job_entry(record, self._posters.find)
        if self._has_posters and "clips" in entry and "poster" not in entry:
            # Not made yet: `_get_poster` makes it when the page requests it.
            entry["poster"] = f"{FOLDER}/{quote(file_name(Path(record.paths[0]).name))}"
        return entry

    async def _read_ledger(self, read: Callable[[LedgerReader], T]) -> T | None:
        """Return the result of `read`, called in a thread; None while the ledger cannot be read."""

        def open_and_read() -> T:
            with LedgerReader(self._ledger) as reader:
                return read(reader)

        with suppress(LedgerError):
            return await anyio.to_thread.run_sync(open_and_read)
        return None

    async def _close(self, updates: asyncio.Task[None]) -> None:
        """Send the last state, end the streams and save the index of the posters, within `_CLOSE_TIMEOUT`."""
        with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            await asyncio.wait([updates])
            try:
                if not updates.cancelled():
                    updates.result()  # raises what ended the updates during the run
                for _ in range(_FINAL_READS):
                    await self._send_changes()
                    if not self._changed:
                        break
                    await asyncio.sleep(_CLOSE_TIMEOUT / 2 / _FINAL_READS)
                self._subscribers.broadcast("run", self._run(self._status(), has_ended=True))
            except Exception:  # noqa: BLE001 - a fault of the page must not fail the run
                _log.exception("the live page stopped updating; the run was not affected")
            self._subscribers.close()
            await self._subscribers.wait_until_empty()
            await anyio.to_thread.run_sync(self._posters.save)
