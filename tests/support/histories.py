"""Histories for property tests: a client that crashes at any moment, over a real ledger file and on virtual time.

A crash is a copy of the folder as it stands at that moment, ledger and log and part files; the next life begins with
that copy. The life that has crashed is taken down afterwards where nobody looks, and its server no longer hears it.
Everything is decided by the history alone: the ledger does the work of its thread in the loop, after a latency.
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
from omni_async.ledger.schema import open_to_write
from omni_async.ledger.sqlite import _Operation
from omni_async.testing import VirtualTimeLoop
from omni_async.testing.memory_client import MemoryClock
from omni_async.timing import Clock
from tests.support.fakes import FakeTransport, Fault, Post, Server, mp4
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from omni_async.api.parsing import Response
    from omni_async.jobs.records import JobRecord

_T = TypeVar("_T")

PATIENCE = 400_000.0  # virtual seconds after which a life is taken to hang


@dataclass(frozen=True)
class Crash:
    """Die at number `number` of these moments: change, commit, accepted, reply, file; or after so many seconds."""

    at: str
    number: int = 0
    seconds: float = 0.0
    downtime: float = 0.0


@dataclass(frozen=True)
class Plan:
    """All that a history is made of."""

    jobs: tuple[int | None, ...]  # each with the number of an earlier job that it goes on from
    crashes: tuple[Crash, ...] = ()
    submits: tuple[Fault, ...] = ()
    checks: tuple[Fault, ...] = ()
    fetches: tuple[Fault, ...] = ()
    doomed: frozenset[int] = frozenset()  # tasks that fail on the server, by their number
    cancels: tuple[tuple[int, float], ...] = ()  # (job, seconds), in every life
    resumes: bool = False  # the lives in between know only the ledger
    ambiguous: Any = "retry"
    honours: bool = True  # the server honours idempotency keys
    disk: float = 0.01  # seconds a commit takes
    capacity: int | None = None


class Office(Server):
    """The server of a world; whom it believes to be dead it does not hear."""

    world: World

    def _accept(self, post: Post) -> Response:
        if not self.world.plan.honours:
            self._task_id_by_key.clear()
        reply = super()._accept(post)
        assert post.task_id is not None
        if len(self.tasks) - 1 in self.world.plan.doomed and post.task_id == list(self.tasks)[-1]:
            self.tasks[post.task_id].fails = True
        self.world.passes("accepted")
        return reply


class Line(FakeTransport):
    """A way to the server that is cut when the client dies."""

    def __init__(self, world: World) -> None:
        super().__init__(world.server)
        self.world = world
        self.life = world.life

    async def submit(
        self,
        body: bytes,
        idempotency_key: str,
        *,
        on_sent: Callable[[], object] | None = None,
        may_send: Callable[[], bool] | None = None,
    ) -> Response:
        """POST."""
        await self._while_alive()
        self.world.check_that_it_is_recorded(idempotency_key)
        reply = await super().submit(body, idempotency_key, on_sent=on_sent, may_send=may_send)
        await self._while_alive()
        self.world.heard(reply)
        self.world.passes("reply")
        return reply

    async def check(self, task_id: str) -> Response:
        """GET a task."""
        await self._while_alive()
        assert task_id in self.world.task_ids_in(self.world.folder), "looked at before it was recorded"
        return await super().check(task_id)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Any]:
        """GET a clip."""
        await self._while_alive()
        async with super().stream(url, headers) as transfer:
            yield transfer

    async def _while_alive(self) -> None:
        if self.life != self.world.life or self.world.is_dead:
            await asyncio.Event().wait()


class InlineLedger(SqliteJobStore):
    """The ledger with its file, rows and groups, but without its thread: each group is done in the loop, when due."""

    def __init__(self, path: Path, world: World) -> None:
        super().__init__(path)
        self._world = world
        self._is_due = False

    async def open(self) -> None:
        """Open it, without a lock: the dead hold theirs."""
        self._loop = asyncio.get_running_loop()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = open_to_write(self.path)

    def _add(self, operation: _Operation[_T]) -> _Operation[_T]:
        self._world.passes("change")
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(self._world.plan.disk, self._turn)
        return super()._add(operation)

    def _turn(self) -> None:
        self._is_due = False
        group, self._current = self._current, type(self._current)()
        if group.operations:
            self._carry_out(group)
            self._world.passes("commit")

    async def aclose(self) -> None:
        """Do what has gathered, and close."""
        self._turn()
        self._is_closing = True
        self._db.close()


class Client(OmniClient):
    """The real client over all that."""

    def __init__(self, world: World) -> None:
        self.world = world
        retry = Retry(timeout=3000, wait_initial=0.5, wait_max=30, ambiguous=world.plan.ambiguous)
        super().__init__("sk-test", output_dir=world.folder, retry=retry, polling=Polling(timeout=100_000))

    def _make_transport(self, base_url: str, api_key: str) -> Line:
        return Line(self.world)

    def _make_store(self) -> InlineLedger:
        return InlineLedger(self.world.folder / "ledger.db", self.world)

    def _make_clock(self) -> Clock:
        return MemoryClock()


@dataclass
class World:
    """A server, a folder, and the lives of a client over it, one after another."""

    plan: Plan
    place: Path
    now: float = 1000.0
    life: int = 0
    is_dead: bool = False
    folder: Path = field(init=False)
    deaths: Counter[str] = field(default_factory=Counter)
    _heard: dict[str, float] = field(default_factory=dict)  # task_ids whose replies have reached a client, and when
    _moments: Counter[str] = field(default_factory=Counter)
    _fault: AssertionError | None = None

    def __post_init__(self) -> None:
        self.folder = self.place / "life-0"
        self.server = Office(latency=0.2, duration=20.0, capacity=self.plan.capacity)
        self.server.world = self
        self.server.submit_script.extend(self.plan.submits)
        self.server.check_script.extend(self.plan.checks)
        self.server.download_script.extend(self.plan.fetches)

    # Lives

    def live(self) -> None:
        """Let the client live, die and come back as planned, and then once to the end; every moment is checked."""
        for crash in self.plan.crashes:
            self._run(lambda: self._one_life(crash))  # noqa: B023 (it is run at once)
            if self._fault is not None:
                raise self._fault
            self.now += crash.downtime
        self.outcomes = self._run(lambda: self._one_life(None))
        self.check_the_end()

    def _run(self, main: Callable[[], Awaitable[_T]]) -> _T:
        loop = VirtualTimeLoop()
        loop._now = self.now
        try:
            return loop.run_until_complete(main())
        finally:
            if not self.is_dead:
                self.now = loop.time()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            self._bury()

    def _bury(self) -> None:
        """Let the next life begin with what the last one has left."""
        if self.is_dead:
            self.folder = self.place / f"life-{self.life + 1}"
        self.life += 1
        self.is_dead = False
        self._moments.clear()

    async def _one_life(self, crash: Crash | None) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        self._crash, self._died = crash, asyncio.Event()
        if crash is not None and crash.at == "time":
            loop.call_later(crash.seconds, self._die)
        work = asyncio.create_task(self._work(knows_all=crash is None or not self.plan.resumes or not self.life))
        death = asyncio.create_task(self._died.wait())
        await asyncio.wait({work, death}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        assert work.done() or self.is_dead, f"it hangs: {asyncio.all_tasks()}"
        death.cancel()
        work.cancel()  # nobody looks at what it still does
        (outcome,) = await asyncio.gather(work, return_exceptions=True)
        if self.is_dead:
            return {}
        assert isinstance(outcome, dict), outcome
        return outcome

    async def _work(self, *, knows_all: bool) -> dict[str, object]:
        """Run the program, the same in every run."""
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
        return {job.key: outcome for job, outcome in zip(jobs, outcomes, strict=True)}

    def _cancel(self, client: Client, job: Job) -> None:
        if not client._is_closed and not self.is_dead:
            job.cancel()

    # Moments

    def passes(self, moment: str) -> None:
        """Let time pass, in which the client may crash."""
        self._moments[moment] += 1
        crash = self._crash
        if crash is not None and crash.at == moment and self._moments[moment] == crash.number:
            self._die()

    def _die(self) -> None:
        if self.is_dead:
            return
        self.is_dead = True
        self.now = asyncio.get_running_loop().time()
        assert self._crash is not None
        self.deaths[self._crash.at] += 1
        left = self.place / f"life-{self.life + 1}"
        shutil.copytree(self.folder, left, ignore=shutil.ignore_patterns("*-shm")) if self.folder.exists() else None
        self._died.set()
        try:
            self.check(left)
        except AssertionError as fault:  # the loop would swallow it: this may be called by a timer
            self._fault = fault
        # Of what it heard a moment ago, nobody can have made sure.
        self._heard = {task_id: at for task_id, at in self._heard.items() if at < self._latest}

    def heard(self, reply: Response) -> None:
        """Take note that the client has heard of a task."""
        for task_id in self.server.tasks:
            if task_id.encode() in reply.body:
                self._heard.setdefault(task_id, self.server.now())

    @property
    def _latest(self) -> float:
        """What was handed to the ledger before this moment is on the disk now."""
        return self.now - 2 * self.plan.disk - 1e-6

    # Laws

    def records(self, folder: Path) -> list[JobRecord]:
        """Return what a ledger holds."""
        try:
            with closing(LedgerReader(folder)) as reader:
                return list(reader.jobs())
        except OmniError:
            return []

    def task_ids_in(self, folder: Path) -> set[str]:
        """All tasks that a ledger knows."""
        records = self.records(folder)
        return {record.task_id for record in records if record.task_id}.union(*(r.previous_task_ids for r in records))

    def check_that_it_is_recorded(self, idempotency_key: str) -> None:
        """Before a POST leaves, the ledger says that it is being sent, and how often."""
        sent = sum(post.key == idempotency_key for post in self.server.posts)
        (row,) = (row for row in self.records(self.folder) if row.idempotency_key == idempotency_key)
        assert row.status is JobStatus.SUBMITTING
        assert row.submits > sent

    def check(self, folder: Path) -> None:
        """Check what must hold at all times, also in a ledger whose writer has just crashed."""
        records = self.records(folder)
        known = self.task_ids_in(folder)
        forgotten = {task_id for task_id, at in self._heard.items() if at < self._latest} - known
        assert not forgotten, f"accepted, heard of and forgotten: {forgotten}"
        for record in records:
            if record.status is JobStatus.COMPLETED:
                self._check_clip(folder, record)
        for key, paid in self._paid().items():
            if self.plan.honours or self.plan.ambiguous == "hold":
                assert paid == 1, f"{key} is paid {paid} times"

    def _check_clip(self, folder: Path, record: JobRecord) -> None:
        path = folder / f"{record.key}.mp4"
        assert is_complete(path), f"{record.key} is completed, but its clip is not whole"
        assert path.read_bytes() == mp4(f"https://cdn.test/{record.task_id}.mp4"), f"{record.key}: another's clip"

    def _paid(self) -> Counter[str]:
        return Counter(f"k{task.body['prompt'][1:]}" for task in self.server.tasks.values())

    def check_the_end(self) -> None:
        """Check what must hold when all jobs have finished."""
        self.check(self.folder)
        by_key = {record.key: record for record in self.records(self.folder)}
        assert set(by_key) == {f"k{number}" for number in range(len(self.plan.jobs))}
        paid = self._paid()
        for key, record in by_key.items():
            assert record.status in {
                JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.UNKNOWN, JobStatus.CANCELLED
            }, f"{key} is left {record.status}"  # fmt: skip
            assert isinstance(self.outcomes[key], OmniError) is (record.status is not JobStatus.COMPLETED)
            if paid[key] > 1:
                assert record.ambiguous_submits, f"{key} is paid {paid[key]} times, and the ledger does not count it"
            if record.status is JobStatus.COMPLETED and not record.ambiguous_submits and self.plan.honours:
                assert paid[key] == 1
        known = self.task_ids_in(self.folder)
        for task in self.server.tasks.values():  # also of those whose reply was lost: resent, they are replayed
            record = by_key[f"k{task.body['prompt'][1:]}"]
            assert task.task_id in known or record.ambiguous_submits or record.status is JobStatus.CANCELLED, task
        assert not self.server.concurrent_submits
        for path in self.folder.glob("*.part"):  # of a job that was given up, for the day on which it is attached
            assert by_key[path.name.removesuffix(".mp4.part")].status is JobStatus.CANCELLED
