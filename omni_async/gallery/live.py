"""The live page: a small web server that shows a run in browsers while it is in progress.

Theory of operation. `on_event` only notes which jobs have changed, so it costs the run next to nothing. Once somebody
has asked for the page, the ledger is read in a thread into a `Feed`, which all browsers share. Twice a second, the rows
of the jobs that have changed are read again, and browsers are sent what is new. The page therefore always shows what is
recorded, and a static page written later shows the same. Commits are grouped, so a row may be older than its event; it
is then read again at the next update. The feed is dropped when it was not used for a while.

Events of the stream: `begin` (all jobs follow: forget those known), `jobs` (a list of `entry.job_entry`), `progress`
(percent by key), `run` (the client's statistics, and whether the run has ended) and `ready` (all jobs were sent).
"""

from __future__ import annotations

import asyncio
import os
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

from omni_async import JobStatus, LedgerError, LedgerReader
from omni_async.logs import get_logger

from .entry import job_entry
from .feed import EncodedJob, Feed, encode_json
from .files import FileSender
from .page import content_security_policy, render
from .posters import FOLDER, Posters, can_make_posters, file_name
from .serving import SECURITY_HEADERS, Listener, refusal
from .subscribers import Subscribers
from .writing import page_data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from omni_async import JobEvent, JobRecord, OmniClient


T = TypeVar("T")

_log = get_logger(__name__)

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
# Seconds for which the feed is kept up to date after its last use. Trades memory (about 1 KB a job) for reading the
# whole ledger again, which a page that is reloaded, or a crowd that comes and goes, would cause. At half, a page that
# is opened now and then causes more of it; at double, the memory is held for longer.
_FEED_LIFETIME = 30.0
# Seconds for which a request waits for the ledger to be read. Ten thousand jobs take about one. At half, the page of a
# huge ledger opens empty and fills later; at double, a request waits longer for a disk that does not answer.
_LOAD_TIMEOUT = 20.0
# Changed jobs whose rows are read together. Trades the number of times the ledger is opened for how long one reading
# holds a thread. Chosen, not measured.
_ROWS_AT_ONCE = 500
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
        self._folder = self._ledger.parent
        self._files = FileSender()
        self._posters = Posters(self._folder)
        self._has_posters = can_make_posters()
        self._feed = Feed()
        self._subscribers = Subscribers(self._feed)
        self._is_loaded = False  # whether the feed holds the jobs of the ledger
        self._used_at = float("-inf")  # when the feed was last asked for
        self._wanted = asyncio.Event()  # set when it is asked for while it is empty
        self._has_updated = asyncio.Event()  # set, and replaced, after each update
        self._has_stopped = False  # no further update will come
        self._changed: dict[str, JobEvent] = {}  # the last change of status of each job, oldest first
        self._stale: set[str] = set()  # jobs whose poster was made: their rows are as before, what is shown is not
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
            self._progress.pop(event.key, None)
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
        self._page = page
        self._feed.set_begin(page_data(self._ledger, is_live=True))
        async with self._listener.open(self._answer) as address:
            # Not a task group: it would wrap an exception of the block in an exception group.
            updates = asyncio.create_task(self._send_updates(), name="omni_async live page")
            try:
                yield address
            finally:
                updates.cancel()
                await self._close(updates)

    # Requests

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        folder, _, name = request.path.removeprefix("/").rpartition("/")
        if folder == name == "":
            policy = f"{content_security_policy()}; frame-ancestors 'none'"
            headers = SECURITY_HEADERS | {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
            return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=headers)
        if folder == "" and name == "events":
            await self._prepare_feed()
            return await self._subscribers.subscribe(request, SECURITY_HEADERS)
        response = None
        if folder == "" and name.endswith(".mp4"):
            response = await self._send_clip(request, name)
        elif folder == FOLDER and name.endswith(".jpg"):
            response = await self._send_poster(request, name.removesuffix(".jpg"))
        return response or refusal(404, "there is no such clip")

    async def _send_clip(self, request: web.BaseRequest, name: str) -> web.StreamResponse | None:
        if await self._find_job(name) is None:
            return None
        return await self._files.send(request, self._folder / name, SECURITY_HEADERS | {"Content-Type": "video/mp4"})

    async def _send_poster(self, request: web.BaseRequest, clip: str) -> web.StreamResponse | None:
        """Send a poster. It is made on its first request, so that a run without a browser makes none."""
        key = await self._find_job(clip)
        if key is None or (self._folder / FOLDER).is_symlink():
            return None
        if self._has_posters and await anyio.to_thread.run_sync(self._add_poster, clip, limiter=self._poster_limiter):
            self._stale.add(key)
        path = self._posters.path(clip)
        return await self._files.send(request, path, SECURITY_HEADERS | {"Content-Type": "image/jpeg"})

    def _add_poster(self, clip: str) -> bool:
        """Make the poster of a clip, in a thread. Return False if there is one already, or if none can be made."""
        if (self._folder / clip).is_symlink():  # its poster would show what is in a file elsewhere
            return False
        return self._posters.find(clip) is None and self._posters.make(clip) is not None

    async def _find_job(self, clip: str) -> str | None:
        """Return the key of the job with a clip of this file name, as the ledger says."""
        await self._prepare_feed()
        key = self._feed.key_of_clip(clip)
        if key is None and self._changed:  # a job may have completed a moment ago
            await self._wait_for_update()
            key = self._feed.key_of_clip(clip)
        return key

    async def _prepare_feed(self) -> None:
        """Wait until the ledger has been read into the feed."""
        self._used_at = time.monotonic()
        if not self._is_loaded:
            self._wanted.set()
            await self._wait_for_update()

    async def _wait_for_update(self) -> None:
        if not self._has_stopped:
            with anyio.move_on_after(_LOAD_TIMEOUT):
                await self._has_updated.wait()

    # Updates

    async def _send_updates(self) -> None:
        """Keep the feed up to date while it is used, until cancelled."""
        try:
            await self._update_repeatedly()
        finally:
            self._has_stopped = True
            self._publish()  # to requests that wait for an update

    async def _update_repeatedly(self) -> None:
        sent: dict[str, Any] = {}
        sent_at, rate_limited = 0.0, 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_UPDATE_INTERVAL):
                    await self._wanted.wait()
            self._wanted.clear()
            status = self._status()
            rate_limited, before = status["statistics"]["rate_limited"], rate_limited
            if rate_limited > before and len(self._rate_limited) < _MAX_RATE_LIMIT_MARKS:
                self._rate_limited.append((round(time.time(), 1), rate_limited - before))
            now = time.monotonic()
            if not self._is_used(now):
                self._feed.clear()
                self._is_loaded = False
                self._stale.clear()
                self._forget_changes(time.time() - _EVENT_LIFETIME)
                continue
            await self._update_feed()
            if status != sent or now - sent_at >= _HEARTBEAT:
                self._feed.set_run(self._run(status))
                sent, sent_at = status, now
            self._publish()

    def _is_used(self, now: float) -> bool:
        if self._subscribers:
            self._used_at = now
        return now - self._used_at < _FEED_LIFETIME

    def _publish(self) -> None:
        self._subscribers.publish()
        updated, self._has_updated = self._has_updated, asyncio.Event()
        updated.set()

    def _run(self, status: dict[str, Any], *, has_ended: bool = False) -> dict[str, Any]:
        """Return the data of a `run` message."""
        return status | {"now": round(time.time(), 3), "has_ended": has_ended, "rate_limited": self._rate_limited}

    def _forget_changes(self, before: float) -> None:
        """Drop the changes that are older than `before`, in unix seconds: reading the whole ledger includes them."""
        for key, event in list(self._changed.items()):
            if event.timestamp >= before:
                return
            del self._changed[key]

    async def _update_feed(self) -> None:
        """Read the ledger into the feed: all of it at first, then the jobs that have changed."""
        if not self._is_loaded and (jobs := await self._read_ledger(self._all_jobs)) is not None:
            self._feed.set_jobs(jobs)
            self._is_loaded = True
        await self._read_changes()
        progress, self._progress = self._progress, {}
        self._feed.set_progress(progress)

    async def _read_changes(self) -> None:
        """Read the rows of all changed jobs. A row that is older than its event is read again the next time."""
        changed, stale = list(self._changed.values()), sorted(self._stale)
        self._stale.clear()
        keys = list(dict.fromkeys([*(event.key for event in changed), *stale]))
        recorded: dict[str, str] = {}
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            jobs = await self._read_ledger(partial(self._find_jobs, keys[start : start + _ROWS_AT_ONCE])) or []
            self._feed.set_jobs(jobs)
            recorded |= {job.key: job.status for job in jobs}
        for event in changed:
            is_read = recorded.get(event.key) == event.status or event.timestamp < time.time() - _EVENT_LIFETIME
            # A newer event may have replaced this one while the ledger was read.
            if is_read and self._changed.get(event.key) is event:
                del self._changed[event.key]

    def _find_jobs(self, keys: list[str], reader: LedgerReader) -> list[EncodedJob]:
        records = (reader.find(key) for key in keys)
        return [self._encode(record) for record in records if record]

    def _all_jobs(self, reader: LedgerReader) -> list[EncodedJob]:
        return [self._encode(record) for record in reader.jobs()]

    def _encode(self, record: JobRecord) -> EncodedJob:
        entry = job_entry(record, self._posters.find)
        if self._has_posters and "clips" in entry and "poster" not in entry:
            # Not made yet: `_send_poster` makes it when the page requests it.
            entry["poster"] = f"{FOLDER}/{quote(os.fsencode(file_name(Path(record.paths[0]).name)))}"
        status = record.status
        return EncodedJob(
            record.key,
            encode_json(entry),
            clips=tuple(Path(path).name for path in record.paths) if status is JobStatus.COMPLETED else (),
            status=status,
        )

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
                if self._is_used(time.monotonic()):
                    await self._read_last_changes()
                self._feed.set_run(self._run(self._status(), has_ended=True))
            except Exception:  # noqa: BLE001 - a fault of the page must not fail the run
                _log.exception("the live page stopped updating; the run was not affected")
            self._subscribers.close()
            await self._subscribers.wait_until_empty()
            await anyio.to_thread.run_sync(self._posters.save)

    async def _read_last_changes(self) -> None:
        for _ in range(_FINAL_READS):
            await self._update_feed()
            if not self._changed:
                break
            await asyncio.sleep(_CLOSE_TIMEOUT / 2 / _FINAL_READS)
