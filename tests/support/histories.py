"""Histories for property tests: a client that crashes at any moment, over a real ledger file and on virtual time.

A crash is a copy of the folder at that moment: ledger, log and part files. The next run begins with that copy. The
crashed client is cancelled afterwards, and its server ignores it. Everything is decided by the history alone: the
ledger writes in the event loop, after a latency.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from omni_async import Job, JobStatus, OmniClient, OmniError, Polling, Retry
from omni_async.downloads.partfile import is_complete
from omni_async.ledger import LedgerReader, SqliteJobStore
from omni_async.ledger.open_files import OpenFiles
from omni_async.ledger.schema import open_to_write
from omni_async.ledger.sqlite import _Operation
from omni_async.testing import VirtualTimeLoop
from omni_async.testing.memory_client import MemoryClock
from omni_async.testing.memory_server import MemoryServer
from omni_async.timing import Clock
from tests.support.fakes import FakeTransport, Fault, Post, Server, mp4
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from omni_async.api.parsing import Response
    from omni_async.jobs.records import JobRecord

_T = TypeVar("_T")

ENDED = {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.UNKNOWN, JobStatus.CANCELLED}
HANG_AFTER = 400_000.0  # virtual seconds after which a run counts as hanging


@dataclass(frozen=True)
class Crash:
    """A crash at the given occurrence of a moment (change, commit, accepted, reply, file), or after some seconds."""

    at: str
    number: int = 0
    seconds: float = 0.0
    downtime: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The complete description of a history."""

    jobs: tuple[int | None, ...]  # each with the number of an earlier job that it extends
    crashes: tuple[Crash, ...] = ()
    submit_faults: tuple[Fault, ...] = ()
    check_faults: tuple[Fault, ...] = ()
    download_faults: tuple[Fault, ...] = ()
    failing_tasks: frozenset[int] = frozenset()  # tasks that fail on the server, by their number
    cancels: tuple[tuple[int, float], ...] = ()  # (job, seconds), in every run
    resumes: bool = False  # the runs in between only resume the ledger
    ambiguous: Any = "retry"
    has_idempotency: bool = True  # the server honours idempotency keys
    disk: float = 0.01  # seconds a commit takes
    capacity: int | None = None


class RecordingServer(Server):
    """The server of a simulation, which it informs of each accepted task."""

    simulation: Simulation

    async def get(self, path: str) -> Response:
        """Answer as the service does: the schema of a model declares whether keys are honoured."""
        return await MemoryServer.get(self, path)

    def _accept(self, post: Post) -> Response:
        reply = super()._accept(post)
        assert post.task_id is not None
        if len(self.tasks) - 1 in self.simulation.plan.failing_tasks and post.task_id == list(self.tasks)[-1]:
            self.tasks[post.task_id].fails = True
        self.simulation.reach("accepted")
        return reply


class RunTransport(FakeTransport):
    """A connection to the server that is cut when the client crashes."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation.server)
        self.simulation = simulation
        self.run_number = simulation.run_number

    async def submit(
        self,
        body: bytes,
        idempotency_key: str,
        *,
        on_sent: Callable[[], object] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Response:
        """POST, after checking that the ledger has recorded it."""
        await self._unless_crashed()
        self.simulation.check_is_recorded(idempotency_key)
        reply = await super().submit(body, idempotency_key, on_sent=on_sent, may_send=may_send)
        await self._unless_crashed()
        self.simulation.received(reply)
        self.simulation.reach("reply")
        return reply

    async def check(self, task_id: str) -> Response:
        """GET a task."""
        await self._unless_crashed()
        assert task_id in self.simulation.task_ids_in(self.simulation.folder), "checked before it was recorded"
        return await super().check(task_id)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Any]:
        """GET a clip."""
        await self._unless_crashed()
        async with super().stream(url, headers) as transfer:
            yield transfer

    async def _unless_crashed(self) -> None:
        if self.run_number != self.simulation.run_number or self.simulation.has_crashed:
            await asyncio.Event().wait()


class InlineLedger(SqliteJobStore):
    """The ledger with its file, rows and commit groups, but without its thread: groups are written in the loop."""

    def __init__(self, path: Path, simulation: Simulation) -> None:
        super().__init__(path)
        self._simulation = simulation
        self._is_due = False

    async def open(self) -> None:
        """Open the file without a lock, which a crashed client still holds."""
        self._loop = asyncio.get_running_loop()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = open_to_write(self.path)
        self._files = OpenFiles(self.path)

    def _add(self, operation: _Operation[_T]) -> _Operation[_T]:
        self._simulation.reach("change")
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(self._simulation.plan.disk, self._commit_pending)
        return super()._add(operation)

    def _commit_pending(self) -> None:
        self._is_due = False
        group, self._current = self._current, type(self._current)()
        if group.operations:
            self._carry_out(group)
            self._simulation.reach("commit")

    async def aclose(self) -> None:
        """Write the pending group, and close."""
        self._commit_pending()
        self._is_closing = True
        self._db.close()


class Client(OmniClient):
    """The real client with this transport, store and clock."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        retry = Retry(timeout=3000, wait_initial=0.5, wait_max=30, ambiguous=simulation.plan.ambiguous)
        super().__init__("sk-test", output_dir=simulation.folder, retry=retry, polling=Polling(timeout=100_000))

    def _make_transport(self, base_url: str, api_key: str) -> RunTransport:
        return RunTransport(self.simulation)

    def _make_store(self) -> InlineLedger:
        return InlineLedger(self.simulation.folder / "ledger.db", self.simulation)

    def _make_clock(self) -> Clock:
        return MemoryClock()


@dataclass
class Simulation:
    """A server, a folder, and successive runs of a client over them."""

    plan: Plan
    root: Path
    now: float = 1000.0
    run_number: int = 0
    has_crashed: bool = False
    has_stopped: bool = False  # responses that cannot be understood, one after the other, stop submissions
    folder: Path = field(init=False)
    crash_counts: Counter[str] = field(default_factory=Counter)
    _received: dict[str, float] = field(default_factory=dict)  # task_ids whose replies have reached a client, and when
    _moments: Counter[str] = field(default_factory=Counter)
    _problem: AssertionError | None = None

    def __post_init__(self) -> None:
        self.folder = self.root / "run-0"
        self.server = RecordingServer(
            latency=0.2, duration=20.0, capacity=self.plan.capacity, idempotency=self.plan.has_idempotency
        )
        self.server.simulation = self
        self.server.submit_script.extend(self.plan.submit_faults)
        self.server.check_script.extend(self.plan.check_faults)
        self.server.download_script.extend(self.plan.download_faults)

    # Runs

    def run(self) -> None:
        """Perform the planned runs and a last one to its end; invariants are checked at every moment."""
        for crash in self.plan.crashes:
            self._run_loop(lambda: self._one_run(crash))  # noqa: B023 (it is run immediately)
            if self._problem is not None:
                raise self._problem
            self.now += crash.downtime
        self.outcomes = self._run_loop(lambda: self._one_run(None))
        # The same page in place of a clip, twice in a row, ends a download for that run. A later run repeats it.
        for _ in self.plan.download_faults:
            if all(record.status is not JobStatus.DOWNLOAD_FAILED for record in self.records(self.folder)):
                break
            self.outcomes = self._run_loop(lambda: self._one_run(None))
        self.check_end()

    def _run_loop(self, main: Callable[[], Awaitable[_T]]) -> _T:
        loop = VirtualTimeLoop()
        loop._now = self.now
        try:
            return loop.run_until_complete(main())
        finally:
            if not self.has_crashed:
                self.now = loop.time()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            self._prepare_next_run()

    def _prepare_next_run(self) -> None:
        """Let the next run begin with the files of the last one."""
        if self.has_crashed:
            # As if it had been moved: what is left in another folder would not be continued.
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = self.root / f"run-{self.run_number + 1}"
        self.run_number += 1
        self.has_crashed = False
        self._moments.clear()

    async def _one_run(self, crash: Crash | None) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        self._planned_crash, self._crashed = crash, asyncio.Event()
        if crash is not None and crash.at == "time":
            loop.call_later(crash.seconds, self._crash_client)
        work = asyncio.create_task(self._work(knows_all=crash is None or not self.plan.resumes or not self.run_number))
        crashed = asyncio.create_task(self._crashed.wait())
        await asyncio.wait({work, crashed}, return_when=asyncio.FIRST_COMPLETED, timeout=HANG_AFTER)
        assert work.done() or self.has_crashed, f"it hangs: {asyncio.all_tasks()}"
        crashed.cancel()
        work.cancel()  # what it still does has no effect
        (outcome,) = await asyncio.gather(work, return_exceptions=True)
        if self.has_crashed:
            return {}
        assert isinstance(outcome, dict), outcome
        return outcome

    async def _work(self, *, knows_all: bool) -> dict[str, object]:
        """Run the program, which is the same in every run."""
        loop, jobs = asyncio.get_running_loop(), list[Job]()
        async with Client(self) as client:
            for number, parent in enumerate(self.plan.jobs if knows_all else ()):
                key, prompt = f"k{number}", f"p{number}"
                jobs.append(client.submit(prompt, key=key) if parent is None else jobs[parent].extend(prompt, key=key))
            jobs = jobs or await resumed(client)
            for number, seconds in self.plan.cancels:
                if number < len(jobs):
                    loop.call_later(seconds, self._cancel, client, jobs[number])
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
            self.has_stopped = client.stop_error is not None
        return {job.key: outcome for job, outcome in zip(jobs, outcomes, strict=True)}

    def _cancel(self, client: Client, job: Job) -> None:
        if str(client._lifetime) != "closed" and not self.has_crashed:
            job.cancel()

    # Moments

    def reach(self, moment: str) -> None:
        """Reach a moment at which the client may crash."""
        self._moments[moment] += 1
        crash = self._planned_crash
        if crash is not None and crash.at == moment and self._moments[moment] == crash.number:
            self._crash_client()

    def _crash_client(self) -> None:
        if self.has_crashed:
            return
        self.has_crashed = True
        self.now = asyncio.get_running_loop().time()
        assert self._planned_crash is not None
        self.crash_counts[self._planned_crash.at] += 1
        next_folder = self.root / f"run-{self.run_number + 1}"
        shutil.copytree(
            self.folder, next_folder, ignore=shutil.ignore_patterns("*-shm")
        ) if self.folder.exists() else None
        self._crashed.set()
        try:
            self.check(next_folder)
        except AssertionError as problem:  # the loop would swallow it: this may be called by a timer
            self._problem = problem
        # What was received a moment ago cannot be on disk yet.
        self._received = {task_id: at for task_id, at in self._received.items() if at < self._latest}

    def received(self, reply: Response) -> None:
        """Record that the client has received a response about a task."""
        for task_id in self.server.tasks:
            if task_id.encode() in reply.body:
                self._received.setdefault(task_id, self.server.now())

    @property
    def _latest(self) -> float:
        """The time before which all that was handed to the ledger is on disk."""
        return self.now - 2 * self.plan.disk - 1e-6

    # Invariants

    def records(self, folder: Path) -> list[JobRecord]:
        """Return the records of a ledger."""
        try:
            with closing(LedgerReader(folder)) as reader:
                return list(reader.jobs())
        except OmniError:
            return []

    def task_ids_in(self, folder: Path) -> set[str]:
        """Return all task ids that a ledger knows."""
        records = self.records(folder)
        return {record.task_id for record in records if record.task_id}.union(*(r.previous_task_ids for r in records))

    def check_is_recorded(self, idempotency_key: str) -> None:
        """Assert that the ledger has recorded a POST before it is sent, with its number of submits."""
        sent = sum(post.key == idempotency_key for post in self.server.posts)
        (row,) = (row for row in self.records(self.folder) if row.idempotency_key == idempotency_key)
        assert row.status is JobStatus.SUBMITTING
        assert row.submits > sent

    def check(self, folder: Path) -> None:
        """Assert what must hold at every moment, also in the ledger of a client that has just crashed."""
        records = self.records(folder)
        known = self.task_ids_in(folder)
        forgotten = {task_id for task_id, at in self._received.items() if at < self._latest} - known
        assert not forgotten, f"accepted, received and forgotten: {forgotten}"
        for record in records:
            if record.status is JobStatus.COMPLETED:
                self._check_clip(folder, record)
        for key, paid in self._paid().items():
            if self.plan.has_idempotency or self.plan.ambiguous != "retry":
                assert paid == 1, f"{key} is paid {paid} times"

    def _check_clip(self, folder: Path, record: JobRecord) -> None:
        path = folder / self._clip_name(record)
        assert is_complete(path), f"{record.key} is completed, but its clip is incomplete"
        assert path.read_bytes() == mp4(f"https://cdn.test/{record.task_id}.mp4"), (
            f"{record.key}: the clip of another task"
        )

    def _clip_name(self, record: JobRecord) -> str:
        """Return the name of a clip. It is another one if a run before the cancel of its job has left a part file."""
        (name,) = (path.replace("\\", "/").rpartition("/")[2] for path in record.paths)
        assert name in {f"{record.key}.mp4", f"{record.key}-new.mp4"}
        assert name == f"{record.key}.mp4" or self.plan.cancels
        return name

    def _paid(self) -> Counter[str]:
        return Counter(f"k{task.body['prompt'][1:]}" for task in self.server.tasks.values())

    def check_end(self) -> None:
        """Assert what must hold when every job has ended."""
        self.check(self.folder)
        by_key = {record.key: record for record in self.records(self.folder)}
        assert set(by_key) == {f"k{number}" for number in range(len(self.plan.jobs))}
        paid = self._paid()
        for key, record in by_key.items():
            is_unsent = record.status is JobStatus.WAITING and self.has_stopped
            assert is_unsent or record.status in ENDED, f"{key} is left {record.status}"
            assert isinstance(self.outcomes[key], OmniError) is (record.status is not JobStatus.COMPLETED)
            if paid[key] > 1:
                assert record.ambiguous_submits, f"{key} is paid {paid[key]} times, and the ledger does not count it"
            if record.status is JobStatus.COMPLETED and not record.ambiguous_submits and self.plan.has_idempotency:
                assert paid[key] == 1
        known = self.task_ids_in(self.folder)
        for task in self.server.tasks.values():  # also tasks whose reply was lost: a resend replays them
            record = by_key[f"k{task.body['prompt'][1:]}"]
            assert task.task_id in known or record.ambiguous_submits or record.status is JobStatus.CANCELLED, task
        assert not self.server.concurrent_submits
        for path in self.folder.glob("*.part"):  # of a cancelled job, which may be attached later
            record = by_key[path.name.removesuffix(".mp4.part")]
            assert record.status is JobStatus.CANCELLED or self._clip_name(record) == f"{record.key}-new.mp4"
