"""`OmniClient`: the methods that users call. The work is done by the stages of its `ClientRuntime`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..api.connection import Connection
from ..downloads.clip_store import FolderClipStore
from ..downloads.downloader import Downloader
from ..jobs.clip_paths import clip_path
from ..jobs.emitter import validate_listener
from ..ledger import LEDGER_NAME, MemoryJobStore, SqliteJobStore
from ..polling.webhook import WebhookReceiver
from ..polling.webhook_server import create_application, serve
from ..settings import Limits, Polling, Retry
from ..timing import Clock
from .arguments import build_request, setting
from .as_completed import AsCompletedIterator
from .credentials import validate_api_key, validate_base_url
from .job_factory import JobFactory
from .lifetime import Lifetime
from .runtime import ClientRuntime
from .threads import submit_from_thread

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
    from types import EllipsisType, TracebackType

    from ..api.transport import Transport
    from ..downloads.clip_store import ClipStore
    from ..downloads.delivery import Delivery
    from ..errors import OmniError
    from ..jobs.events import JobEvent
    from ..jobs.job import Job, JobState
    from ..jobs.registry import JobRegistry
    from ..jobs.statistics import Statistics
    from ..jobs.store import JobStore
    from ..models.request import VideoRequest
    from ..models.responses import Balance, Task, Usage
    from ..polling.webhook_server import Application
    from ..settings import BalanceScope
    from .forecast import Forecast
    from .iterables import Submittable
    from .threads import ClipFuture


class OmniClient:
    """Turns requests into MP4 files: submits, polls, downloads. One client belongs to one event loop::

        async with OmniClient(output_dir="clips") as client:
            job = client.submit("a red apple on a wooden table")
            path = await job

    Args:
        api_key: Default: the environment variable `APIMART_API_KEY`. Never logged, printed or written to a file.
        base_url: The API's address. Default: the environment variable `APIMART_BASE_URL`, else
            `https://api.apimart.ai`. It may have a path.
        output_dir: The folder for clips. It is created when the first job is submitted. A relative path is resolved
            when the client is made. Files in it that the ledger does not know are never changed.
        ledger: The file that records every job and its cost. Default: `ledger.db` in `output_dir`. One process may have
            it open at a time. None keeps the record in memory only, and loses it when the client is closed.
        limits: Ceilings on rate, concurrency and cost. Default: only the account's own limits, which are learned.
        retry: How long and how often failed requests are retried.
        polling: When accepted tasks are checked.
        connection: Extra headers, certificates and proxy.
        clip_store: Where clips are kept, if not in the folder `output_dir`.
        on_event: Called with a `JobEvent` for everything that happens to a job, in the event loop. It must be a plain
            function and return quickly. An exception that it raises is logged and changes nothing. It may submit and
            cancel jobs. `omni_async.progress.ProgressDisplay()` shows the progress on a terminal and in a notebook.

    With a ledger no job is lost and none is paid for twice, whatever happens to the process: `submit` the same key
    again, or call `resume`. Leaving the block normally waits for every unfinished job. Leaving it by an exception or a
    cancellation stops within seconds, and everyone who still waits for a job gets `ClientClosed`. Where no block can
    span its use, as in a web service or a notebook, call `open` and `aclose`.

    Raise `AuthenticationError` without an API key, `ValueError` if `base_url` is not an https URL (plain http is
    accepted for this machine, or with `Connection(allow_insecure=True)`), and `TypeError` if `on_event` is not a plain
    function or a setting is of another class. Entering the client raises `LedgerError` if the ledger cannot be used:
    `LedgerLocked` if another client has it open.
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
        clip_store: ClipStore | None = None,
        on_event: Callable[[JobEvent], object] | None = None,
    ) -> None:
        self._connection = setting("connection", connection, Connection)
        self._server = validate_base_url(base_url, allow_insecure=self._connection.allow_insecure)
        self._transport = self._make_transport(self._server, validate_api_key(api_key, self._server))
        self._limits = setting("limits", limits, Limits)
        # Absolute from here on: a program that changes its working directory must not split its clips and its ledger.
        folder = Path(output_dir).absolute()
        ledger = folder / LEDGER_NAME if ledger is ... else ledger
        self._ledger_path = None if ledger is None else Path(ledger).absolute()
        self._clip_store = clip_store or FolderClipStore(folder)
        self._retry = setting("retry", retry, Retry)
        self._polling = setting("polling", polling, Polling)
        self._on_event = validate_listener(on_event)
        self._clock = self._make_clock()
        self._webhook = WebhookReceiver(self._server)
        self._lifetime = Lifetime(on_event)
        self._jobs: JobFactory | None = None

    # What the test clients and the leader of a fleet replace

    def _make_transport(self, base_url: str, api_key: str) -> Transport:
        from ..api.http import HttpTransport  # noqa: PLC0415 - aiohttp is a third of the time that the package takes

        return HttpTransport(base_url, api_key, connection=self._connection)

    def _make_store(self) -> JobStore:
        return SqliteJobStore(self._ledger_path) if self._ledger_path else MemoryJobStore()

    def _make_delivery(self, registry: JobRegistry) -> Delivery:
        return Downloader(self._transport, registry, self._clip_store, limits=self._limits, retry=self._retry)

    def _make_clock(self) -> Clock:
        return Clock()

    def _make_runtime(self) -> ClientRuntime:
        runtime = ClientRuntime(
            self._transport,
            self._make_store(),
            self._server,
            clip_path=self.clip_path,
            make_delivery=self._make_delivery,
            limits=self._limits,
            retry=self._retry,
            polling=self._polling,
            on_event=self._on_event,
            webhook=self._webhook,
            clock=self._clock,
        )
        self._jobs = JobFactory(self, runtime)
        return runtime

    # Opening and closing

    async def open(self) -> Self:
        """Open the client and return it: for a web service or a notebook, where no `async with` spans its use::

            client = await OmniClient(output_dir="clips").open()
            ...
            await client.aclose()

        Raise `LedgerError` if the ledger cannot be used: `LedgerLocked` if another client has it open.
        """
        await self._lifetime.open(self, self._make_runtime)
        return self

    async def aclose(self) -> None:
        """Stop within seconds, without waiting for clips. Calling it twice is harmless.

        Everyone who still waits for a job gets `ClientClosed`. Nothing is lost: the ledger has what `resume`, or the
        same `submit`, continues later without paying again. To wait for every clip, leave ``async with`` normally, or
        await the jobs first. If the client has failed, raise the cause.
        """
        await self._lifetime.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lifetime.leave(error)

    # Jobs

    def submit(
        self, request: VideoRequest | str, *, key: str | None = None, name: str | None = None, **fields: Any
    ) -> Job:
        """Submit a request and return its job immediately. A string is the prompt, `fields` those of `VideoRequest`.

        `key` names the job, and its file unless `name` does. Without one, a key is made from the prompt, and each call
        is a new job. The same key with the same request is the same job, in this run and in later ones, and is never
        paid for twice. Awaiting a job whose key belongs to another request raises `KeyReused`, and nothing is sent.

        Raise `pydantic.ValidationError` or `ValueError` for a bad request or key, `InvalidReference` (a `ValueError`)
        for a local file that cannot be sent, and `ClientClosed` outside of ``async with``: all of them before anything
        is recorded or sent. If a file is missing but a key is given, awaiting the job raises the error instead, and
        only if its clip does not exist yet.
        """
        return self._open_jobs().submit(build_request(request, fields), key, name)

    def submit_threadsafe(
        self, request: VideoRequest | str, *, key: str | None = None, name: str | None = None, **fields: Any
    ) -> ClipFuture:
        """Submit a request from another thread. Return a `concurrent.futures.Future` of the path of its clip::

            path = await asyncio.to_thread(lambda: client.submit_threadsafe("a red apple").result())

        Its attribute `key` names the job. It has the result, or the exception, of awaiting the job. Cancelling it has
        an effect only until the client has received the request: then nothing is submitted. Raise as `submit` does, and
        `RuntimeError` in the event loop of the client, where waiting for the future would block everything.
        """
        loop = self._lifetime.unclosed().loop
        return submit_from_thread(loop, self._open_jobs, build_request(request, fields), key, name)

    def find(self, key: str) -> Job | None:
        """Return the unfinished job of a key that this client follows; None if there is none.

        `LedgerReader.find` returns the record of any job, finished ones included.
        """
        return self._open_jobs().find(key)

    def as_completed(
        self, requests: Iterable[Submittable] | AsyncIterable[Submittable], *, max_pending: int = 1000
    ) -> AsyncIterator[Job]:
        """Submit all items of an iterable and iterate over the jobs as they finish::

            async for job in client.as_completed(prompts, max_pending=100):
                print(job.key, await job)

        A failed job is yielded too, and raises when it is awaited. `requests` may be asynchronous and endless. Its
        items are prompts, `VideoRequest` objects, or jobs that it has submitted itself. An item is taken only when
        fewer than `max_pending` jobs are unfinished or not yet yielded. Raise `TypeError` for one prompt, a dict or a
        file.
        """
        runtime = self._lifetime.opened()
        return AsCompletedIterator(requests, max_pending=max_pending, submit=self.submit, spawn=runtime.spawn)

    def attach(self, task_id: str, *, key: str | None = None) -> Job:
        """Follow a task that was submitted elsewhere, or earlier, and download its clip. It costs nothing.

        `key` names the clip; by default the `task_id` does. Raise `ValueError` for an unusable `task_id` or key.
        """
        return self._open_jobs().attach(task_id, key)

    def resume(self, *, max_pending: int = 1000) -> AsyncIterator[Job]:
        """Continue the unfinished jobs of the ledger, and let submissions continue after a stop::

            async for job in client.resume():
                print(job.key, job.status)

        Jobs are taken up from the oldest to the newest, whether or not the result is iterated, and yielded in that
        order while they run. To get them as they finish, pass the result to `as_completed`. The next job is taken up
        only when fewer than `max_pending` jobs are unfinished, and fewer than that have not been yielded. A job that is
        live already is yielded too. Iterating raises `LedgerError` if the ledger cannot be read, and `ClientClosed` if
        the client is closed before the end.

        The jobs of the ledger are treated as your own: they are submitted at your cost, their local files are uploaded,
        and the server reports to their webhooks. If a ledger comes from somebody else, read it with `LedgerReader`
        first, or continue it on the command line, which refuses webhooks and files outside its folder.
        """
        runtime = self._lifetime.opened()
        runtime.submitter.resume()
        jobs = self._open_jobs().resume(max_pending)
        runtime.resumed = [jobs, *(earlier for earlier in runtime.resumed if not earlier.is_exhausted)]
        return jobs

    def resubmit(self, key: str) -> Job:
        """Submit a job again that failed, or whose outcome is unknown. It may be paid for a second time.

        This never happens automatically. An `unknown` job, and one that was cancelled while its submit was ambiguous,
        is sent under its old idempotency key for as long as the server remembers that key (24 hours), so that it is not
        billed again if the server accepted it before. A completed job returns its clip. An unfinished one is abandoned
        for a new one; use `resume` to continue it.

        Awaiting the job raises `JobError` if the ledger has no such key.
        """
        return self._open_jobs().resubmit(key)

    # Single requests

    async def task(self, task_id: str) -> Task:
        """Return the state of one task. Raise `NotFound`, another `APIError`, or `TransportError`.

        The service calls an id that cannot be one invalid (400). That is `NotFound` as well.
        """
        return await self._lifetime.opened().queries.task(task_id)

    async def balance(self, scope: BalanceScope = "key") -> Balance:
        """Return the balance of the API key, or of the whole account ("account"), in the account's own unit.

        Raise `APIError` or `TransportError`.
        """
        return await self._lifetime.opened().queries.balance(scope)

    async def usage(
        self, start: float, end: float, *, scope: BalanceScope = "key", time_zone: str = "Asia/Shanghai"
    ) -> Usage:
        """Return what was billed to the API key, or to the whole account, from `start` to `end` (Unix seconds).

        Days begin in `time_zone`; the service's own is the default. A task is billed when it ends, and the last minute
        may be incomplete. Raise `APIError` or `TransportError`: a missing answer is never treated as zero.
        """
        return await self._lifetime.opened().queries.usage(start, end, scope, time_zone)

    async def models(self) -> list[str]:
        """Return the ids of the models that the server offers. Raise `APIError` or `TransportError`."""
        return await self._lifetime.opened().queries.models()

    async def model_schema(self, model: str) -> dict[str, Any]:
        """Return the server's own description of a model: its parameters, whether it honours idempotency keys, ...

        `omni_async.MODELS` has what the models' documentation says. Raise `NotFound` (or another `APIError`) for a
        model that the server does not offer, or `TransportError`.
        """
        return await self._lifetime.opened().queries.model_schema(model)

    async def upload_image(self, path: str | os.PathLike[str]) -> str:
        """Upload an image (JPEG, PNG, WebP or GIF, at most 20 MiB) and return its URL, which is valid for 72 hours.

        An image that was uploaded before is not sent again while its URL is valid for 26 hours or more. Requests accept
        files directly (`VideoRequest.images`). Raise `InvalidReference` for a file that cannot be sent, `APIError` or
        `TransportError`.
        """
        return await self._lifetime.opened().uploads.upload_image(Path(path))

    def webhook(self, public_url: str) -> Application:
        """Receive webhooks. Return an aiohttp.web application to mount in your own server, reachable at `public_url`.

        Submits then name a secret URL below it, which the server calls when a task has ended. A call only brings
        forward a check of that task, so forged or repeated calls do no harm. While calls arrive, routine checks become
        rare; when they stop arriving, checks return to their normal rate. Call this before you enter the client if the
        server starts first.

        Only your server limits the number of connections. `serve_webhook` has a server of its own.

        Raise `ValueError` for a URL that the API would not call.
        """
        self._webhook.enable(public_url)
        return create_application(self._webhook)

    async def serve_webhook(self, public_url: str, *, host: str = "127.0.0.1", port: int = 8080) -> int:
        """Receive webhooks as `webhook` does, with a server that listens on `host` and `port` until the client closes.

        `public_url` must lead there, through a proxy or a tunnel; its path may be passed on or removed. The number of
        connections, and the time for each request, are limited, so that they cannot block the client.

        Return the port; for 0 that is any free one. Raise `ValueError` for a URL that the API would not call, and
        `OSError` if the address is not available.
        """
        self._lifetime.opened()
        self._webhook.enable(public_url)
        return await serve(self._webhook, host, port)

    # Progress

    def statistics(self) -> Statistics:
        """Return the totals of this client since it was opened."""
        return self._lifetime.entered().statistics()

    def forecast(self, upcoming: int = 0) -> Forecast:
        """Return when all jobs will be done and what they will cost, with `upcoming` jobs not submitted yet."""
        return self._lifetime.entered().forecast(upcoming)

    @property
    def stop_error(self) -> OmniError | None:
        """Why submissions stopped (no credit, bad key, server unreachable); None while they continue.

        Accepted jobs are still followed to their end. `resume` lets submissions continue.
        """
        return self._lifetime.entered().submitter.stop_error

    def __repr__(self) -> str:
        return f"<OmniClient {self._lifetime}, output_dir={str(self._clip_store.root)!r}>"

    # What its jobs call

    def check_loop(self) -> None:
        """Raise `RuntimeError` outside of the event loop in which the client was opened."""
        self._lifetime.check_loop()

    def cancel(self, state: JobState) -> bool:
        """Cancel a job. Call `Job.cancel` instead."""
        return self._lifetime.opened().cancel(state)

    def extend(self, job: Job, prompt: str | None, key: str | None, name: str | None, fields: dict[str, Any]) -> Job:
        """Submit a job that extends another one. Call `Job.extend` instead."""
        return self._open_jobs().extend(job, prompt, key, name, fields)

    def clip_path(self, name: str) -> Path:
        """Return the path of a clip, given its file name. Read `Job.paths` instead."""
        return clip_path(self._clip_store.root, name)

    # Internals

    def _open_jobs(self) -> JobFactory:
        """Return what makes jobs, if the client is open."""
        self._lifetime.opened()
        assert self._jobs is not None
        return self._jobs
