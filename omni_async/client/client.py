"""The client: what a user types. The work is done in the rooms of its runtime."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..api.connection import Connection
from ..api.http import HttpTransport
from ..errors import ClientClosed, OmniError
from ..jobs.emitter import validate_listener
from ..jobs.failures import follow_duplicate, key_reused
from ..jobs.job import Job
from ..jobs.keys import new_idempotency_key, new_record, validate_key
from ..jobs.lifecycle import JobStatus
from ..jobs.records import JobRecord
from ..ledger import LEDGER_NAME, MemoryJobStore, SqliteJobStore
from ..polling.webhook import WebhookReceiver, application
from ..settings import Limits, Polling, Retry
from ..submission.local_files import first_reference_error, is_missing
from .arguments import build_request, validate_api_key, validate_base_url
from .as_completed import AsCompletedIterator
from .runtime import ClientRuntime, preload_backend

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
    from types import EllipsisType, TracebackType

    from ..api.queries import ApiQueries
    from ..api.transport import Transport
    from ..errors import InvalidReference
    from ..jobs.events import JobEvent
    from ..jobs.statistics import Statistics
    from ..jobs.store import JobStore
    from ..models.request import VideoRequest
    from ..models.responses import Balance, Task
    from ..polling.webhook import Application
    from ..settings import BalanceScope
    from ..submission.uploads import ImageUploader
    from .as_completed import Submittable
    from .forecast import Forecast


class Questions:
    """What a client can be asked; `OmniClient` is one."""

    def _asks(self) -> ApiQueries:
        """Give the queries, if the client is open."""
        raise NotImplementedError

    def _uploads(self) -> ImageUploader:
        """Give the room that uploads, if the client is open."""
        raise NotImplementedError

    async def task(self, task_id: str) -> Task:
        """Ask how one task stands. Raises `APIError` or `TransportError`."""
        return await self._asks().task(task_id)

    async def balance(self, scope: BalanceScope = "key") -> Balance:
        """Ask what is left to the API key, or to the whole account ("account"). Raises `APIError`, `TransportError`."""
        return await self._asks().balance(scope)

    async def models(self) -> list[str]:
        """Ask which model ids the server names. Raises `APIError` or `TransportError`."""
        return await self._asks().models()

    async def model_schema(self, model: str) -> dict[str, Any]:
        """Ask what the server itself says of a model: its parameters, whether it minds idempotency keys, ...

        What `omni_async.MODELS` says is from the models' pages; this is the server's word. Raises `NotFound` (or
        another `APIError`) for a model that it does not have, `TransportError`.
        """
        return await self._asks().model_schema(model)

    async def upload_image(self, path: str | os.PathLike[str]) -> str:
        """Upload a picture (JPEG, PNG, WebP or GIF, at most 20 MiB) and give its URL, which lives for 72 hours.

        One that was uploaded before is not sent again while its URL has more than 26 hours to live. Requests take files
        as they are (`VideoRequest.images`). Raises `InvalidReference` for a file that cannot be sent, `APIError` or
        `TransportError`.
        """
        return await self._uploads().upload_image(Path(path))


class OmniClient(Questions):
    """Turns requests into MP4 files: submits, follows, downloads. Use it with ``async with``, inside one event loop.

    `api_key` falls back to the environment's `APIMART_API_KEY`, `base_url` to `APIMART_BASE_URL`, then to
    `https://api.apimart.ai`. Clips go to `output_dir`. `on_event` is called with a `JobEvent` for each thing that
    happens to a job; what it raises is logged and harms nothing.

    `ledger` is the file that remembers every job and what it cost, `<output_dir>/ledger.db` unless given; one process
    may have it open at a time. With it, no job is lost and none paid twice, whatever happens to the process: `submit`
    the same key again, or `resume`. `ledger=None` keeps the record in memory, for as long as the client lives.

    `connection` says how the server is reached: extra headers, certificates, proxy (see `Connection`).

    Leaving the block normally waits for every unfinished job. Leaving it by an exception or by cancellation stops
    within seconds, and whoever still waits for a job gets `ClientClosed`.

    Raises `AuthenticationError` without an API key, `ValueError` if `base_url` is no https URL (plain http is for this
    machine alone, unless `Connection(allow_insecure=True)` is given), `TypeError` for an `on_event` that is no plain
    function; entering it raises `LedgerError` (`LedgerLocked`: somebody has it).
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        output_dir: str | os.PathLike[str] = "clips",
        ledger: str | os.PathLike[str] | EllipsisType | None = ...,
        limits: Limits | None = None,
        retry: Retry | None = None,
        polling: Polling | None = None,
        connection: Connection | None = None,
        on_event: Callable[[JobEvent], object] | None = None,
    ) -> None:
        self._connection = connection or Connection()
        self._server = validate_base_url(base_url, allow_insecure=self._connection.allow_insecure)
        self._transport = self._make_transport(self._server, validate_api_key(api_key))
        self._output_dir = Path(output_dir)
        ledger = self._output_dir / LEDGER_NAME if ledger is ... else ledger
        self._ledger_path = None if ledger is None else Path(ledger)
        self._limits = limits or Limits()
        self._retry = retry or Retry()
        self._polling = polling or Polling()
        self._on_event = validate_listener(on_event)
        self._webhook = WebhookReceiver(self._server)
        self._runtime: ClientRuntime | None = None
        self._is_closed = False

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        return HttpTransport(base_url, api_key, connection=self._connection)

    def _make_ledger(self) -> JobStore:
        return SqliteJobStore(self._ledger_path) if self._ledger_path else MemoryJobStore()

    # In and out

    async def __aenter__(self) -> Self:
        await preload_backend()
        if self._runtime is not None or self._is_closed:
            raise ClientClosed("a client is entered once; make another OmniClient")
        self._runtime = ClientRuntime(
            self._transport,
            self._make_ledger(),
            self._output_dir,
            self._server,
            limits=self._limits,
            retry=self._retry,
            polling=self._polling,
            on_event=self._on_event,
            webhook=self._webhook,
        )
        try:
            await self._runtime.open()
        except BaseException:
            self._is_closed = True
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runtime = self._entered()
        self.check_loop()
        try:
            if error is None:
                await runtime.wait_until_idle()
        finally:
            self._is_closed = True
            await runtime.close()
        if error is None and runtime.failure is not None:
            raise runtime.failure

    # Jobs

    def submit(self, request: VideoRequest | str, *, key: str | None = None, **fields: Any) -> Job:
        """Hand over a request; returns at once. A text is the prompt; `fields` are those of `VideoRequest`.

        `key` names the job and its file; one is made from the prompt if none is given. The same key with the same
        request gives the same job, which is never paid twice; awaiting a job whose key names another request raises
        `KeyReused`, and nothing is sent.

        Raises `pydantic.ValidationError` or `ValueError` for a bad request or key, `InvalidReference` (one of these) for a
        local file that cannot be sent, by size and first bytes, and `ClientClosed` outside of ``async with``, before
        anything is recorded or sent. Only of a missing file under a given key the job itself tells, unless it is done.
        """
        self._open()
        return self._take(build_request(request, fields), key)

    def as_completed(
        self, requests: Iterable[Submittable] | AsyncIterable[Submittable], *, max_pending: int = 1000
    ) -> AsyncIterator[Job]:
        """Submit all of an iterable and iterate over its jobs as they finish; a failed one raises when awaited.

        Takes `VideoRequest`, prompts, or jobs (of a generator that submits, with keys, as it is asked). Items are
        taken only as fast as jobs finish: never more than `ahead` are unfinished, so the iterable may be endless.
        """
        runtime = self._open()
        return AsCompletedIterator(requests, ahead=max_pending, submit=self.submit, spawn=runtime.spawn)

    def attach(self, task_id: str, *, key: str | None = None) -> Job:
        """Follow a task that was submitted elsewhere, or earlier; its clip is named by `key`, else by `task_id`."""
        runtime = self._open()
        if not task_id or not task_id.isprintable():
            raise ValueError(f"attach({task_id!r}): give the task_id that the server gave")
        record = JobRecord(
            key=validate_key(key) or task_id, status=JobStatus.RUNNING, task_id=task_id, created_at=time.time()
        )
        return self._enter(runtime, record)

    def resume(self) -> list[Job]:
        """Take up every job of the ledger that has something left to do, and let submits leave again after a stop."""
        runtime = self._open()
        runtime.submitter.resume()
        jobs = []
        for record in runtime.registry.store.unfinished():
            job = runtime.registry.find(record.key)
            if job is None:
                job = Job(self, record)
                runtime.dispatcher.resume(job)
            jobs.append(job)
        return jobs

    def resubmit(self, key: str) -> Job:
        """Buy a job of the ledger once more: one that failed, or of which nobody knows whether it was ever taken.

        Never happens by itself: it spends money, perhaps for the second time. An unknown job is sent again under its
        old idempotency key for as long as the server remembers that (24 h), which costs nothing if it was taken then.
        A completed job gives its clip as ever; one that is merely unfinished is given up for the new one (`resume` is
        for those). Awaiting it raises `JobError` if the ledger has no such key.
        """
        runtime = self._open()
        live = runtime.registry.find(key)
        if live is not None:
            return live
        job = Job(self, JobRecord(key=key, created_at=time.time()))
        runtime.dispatcher.resubmit(job, new_idempotency_key())
        return job

    def webhook(self, public_url: str) -> Application:
        """Turn webhooks on; gives an aiohttp.web application to mount in your own server, where `public_url` leads.

        Submits name an unguessable address below it, which the server calls when a task has ended. A call is only
        ever a hint to check that task now, so forged or repeated ones do no harm. With hooks that come, routine checks
        become rare; where they stop coming, checks return to their ordinary pace. May be called before entering the
        client, so that the application can be mounted before the server starts.

        Raises `ValueError` for an address that the API would silently not call.
        """
        self._webhook.enable(public_url)
        return application(self._webhook)

    # How it stands

    def statistics(self) -> Statistics:
        """Give sums over this client's life so far."""
        return self._entered().statistics()

    def forecast(self, upcoming: int = 0) -> Forecast:
        """Tell how long it still takes, and what it will have cost, with `upcoming` jobs that are still to come."""
        return self._entered().forecast(upcoming)

    @property
    def stop_error(self) -> OmniError | None:
        """Why no submit leaves any more (no credit, bad key, no way to the server); None while they do.

        Jobs that were accepted are still followed to their end. `resume` lets submits leave again.
        """
        return self._entered().submitter.stop_error

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self._runtime else "not entered"
        return f"<OmniClient {state}, output_dir={str(self._output_dir)!r}>"

    # What its jobs ask of it

    def check_loop(self) -> None:
        """Raise `RuntimeError` in another event loop than the one in which the client was entered."""
        if self._runtime is not None and asyncio.get_running_loop() is not self._runtime.loop:
            raise RuntimeError(
                "this OmniClient belongs to another event loop; open one with `async with OmniClient()` in each loop "
                "(each asyncio.run makes a new one)"
            )

    def cancel(self, job: Job) -> bool:
        """Give a job up; `Job.cancel` is the way to call it."""
        return self._open().cancel(job)

    def extend(self, job: Job, prompt: str, key: str | None, fields: dict[str, Any]) -> Job:
        """Submit a job that goes on from another; `Job.extend` is the way to call it."""
        self._open()
        inherited = job.request.inherited_fields(fields.get("model")) if job.request else {}
        request = build_request(prompt, inherited | fields)
        request.validate_extension()
        return self._take(request, key, parent=job)

    # Inside

    def _take(self, request: VideoRequest, key: str | None, parent: Job | None = None) -> Job:
        fault = first_reference_error(request)
        if fault is not None and (key is None or not is_missing(fault)):
            raise fault  # but under a key a later run may ask for what is done already, its pictures long gone
        record = new_record(request, key, parent.key if parent else None)
        return self._enter(self._open(), record, parent, fault)

    def _enter(
        self,
        runtime: ClientRuntime,
        record: JobRecord,
        parent: Job | None = None,
        fault: InvalidReference | None = None,
    ) -> Job:
        live = runtime.registry.find(record.key)
        if live is not None and live._record.is_same_work(record):
            return live
        job = Job(self, record, parent)
        if live is None:
            runtime.dispatcher.admit(job, fault)
        elif live._is_unread:
            follow_duplicate(job, live)
        else:
            job._resolve(key_reused(record.key))
        return job

    def _asks(self) -> ApiQueries:
        return self._open().queries

    def _uploads(self) -> ImageUploader:
        return self._open().uploads

    def _open(self) -> ClientRuntime:
        """Give the runtime, if it is open and this is its loop."""
        runtime = self._entered()
        self.check_loop()
        if not (self._is_closed or runtime.is_closed):
            return runtime
        raise ClientClosed("this client is closed; make another OmniClient") from runtime.failure

    def _entered(self) -> ClientRuntime:
        if self._runtime is None:
            raise ClientClosed("this client is not open; use it inside `async with OmniClient(...) as client:`")
        return self._runtime
