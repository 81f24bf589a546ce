"""The client over its ledger, across restarts, against the real sandbox: the same job again, and never paid twice."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import (
    DownloadError,
    Job,
    JobCancelled,
    JobError,
    JobFailed,
    JobStatus,
    JobTimedOut,
    KeyReused,
    OmniClient,
    ParentFailed,
    Polling,
    Retry,
    SubmitOutcomeUnknown,
)
from omni_async.ledger import LedgerReader
from omni_async.sandbox import Sandbox
from omni_async.submission import submitter as _submitter
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omni_async.jobs.records import JobRecord

pytest.importorskip("av", reason="the sandbox films with the extra `media`")

DAY = 86_400.0


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


class LeftInAHurryError(Exception):
    """What a block is left by: the client stops at once, as it does for Ctrl-C."""


class Service:
    """A sandbox, and clients that come and go over one folder."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self.folder = folder

    def client(self, **settings: Any) -> OmniClient:
        """Give a client, not open yet."""
        defaults: dict[str, Any] = {
            "base_url": self.sandbox.base_url,
            "output_dir": self.folder,
            "retry": Retry(wait_initial=0.02, wait_max=0.2, timeout=10),
            "polling": Polling(min_interval=0.05, max_interval=0.2),
        }
        return OmniClient("sk-fine", **{**defaults, **settings})

    @asynccontextmanager
    async def cut_short(self, **settings: Any) -> AsyncIterator[OmniClient]:
        """A client that is left by an error at the end of the block."""
        try:
            async with self.client(**settings) as client:
                yield client
                raise LeftInAHurryError
        except LeftInAHurryError:
            pass

    def row(self, key: str) -> JobRecord:
        """What the ledger knows under a key."""
        with closing(LedgerReader(self.folder)) as reader:
            record = reader.find(key)
        assert record is not None, key
        return record

    def set_row(self, key: str, **facts: object) -> None:
        """Change the row of a job that no client has open."""
        with closing(sqlite3.connect(self.folder / "ledger.db", isolation_level=None)) as db:
            for name, value in facts.items():
                db.execute(f"UPDATE jobs SET {name} = ? WHERE key = ?", (value, key))

    @property
    def submits(self) -> int:
        """How many POSTs have come."""
        return self.sandbox.record.submits


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A quick sandbox and a folder."""
    async with Sandbox(prerendered=True, median=0.1, sigma=0.01, seconds=5) as sandbox:
        yield Service(sandbox, tmp_path / "clips")


def slow(service: Service, seconds: float = 60.0) -> None:
    """Let tasks that come take so long."""
    object.__setattr__(service.sandbox.settings, "median", seconds)


async def status_of(job: Job, *wanted: JobStatus) -> None:
    """Wait until a job has come to one of these."""
    async with asyncio.timeout(10):
        while job.status not in wanted:
            await asyncio.sleep(0.01)


# The same key again


async def test_the_same_key_is_the_same_job_in_every_run(service: Service) -> None:
    """Three runs of one program pay once; the later ones are done at once, with no request at all."""
    paths = []
    for _ in range(3):
        async with service.client() as client:
            paths.append(await client.submit("a fox", key="fox"))
    record = service.sandbox.record
    assert len(set(paths)) == 1
    assert (record.submits, record.accepted, record.downloads) == (1, 1, 1)
    assert service.row("fox").submits == 1


async def test_another_request_under_the_key_is_refused_and_changes_nothing(service: Service) -> None:
    """In the same run and in a later one: `KeyReused`, nothing sent, the first job's row as it was."""
    async with service.client() as client:
        await client.submit("a fox", key="fox")
        with pytest.raises(KeyReused, match="nothing was sent"):
            await client.submit("a hen", key="fox")
    before = service.row("fox")
    async with service.client() as client:
        with pytest.raises(KeyReused):
            await client.submit("a hen", key="fox")
        with pytest.raises(KeyReused):
            await client.submit("a fox", key="fox", aspect_ratio="9:16")
        assert client.statistics().completed == 1
    assert service.row("fox") == before
    assert service.submits == 1


@pytest.mark.parametrize("harm", ["removed", "emptied", "cut", "overwritten", "a folder in its place"])
async def test_a_clip_that_is_gone_or_broken_is_fetched_again_without_paying(service: Service, harm: str) -> None:
    """A completed job whose file does not stand, or is not whole, is downloaded once more from its task."""
    async with service.client() as client:
        path = await client.submit("a fox", key="fox")
    whole = path.read_bytes()
    path.unlink()
    if harm == "emptied":
        path.touch()
    elif harm == "cut":
        path.write_bytes(whole[:-5])
    elif harm == "overwritten":
        path.write_bytes(b"<html>" + whole[6:])
    elif harm == "a folder in its place":
        path.mkdir()
        async with service.client() as client:
            with pytest.raises(DownloadError):
                await client.submit("a fox", key="fox")
        path.rmdir()
    async with service.client() as client:
        assert await client.submit("a fox", key="fox") == path
    assert path.read_bytes() == whole
    assert service.submits == 1
    assert service.row("fox").status is JobStatus.COMPLETED


async def test_where_link_and_task_are_gone_it_says_so(service: Service) -> None:
    """No file, no link, no task: the error says so, names the task, and nothing is sent; another try says the same."""
    async with service.client() as client:
        path = await client.submit("a fox", key="fox")
    path.unlink()
    service.sandbox._runner.tasks.clear()
    for _ in range(2):
        async with service.client() as client:
            with pytest.raises(DownloadError, match=r"no working download URL.*task not found") as caught:
                await client.submit("a fox", key="fox")
    assert str(service.row("fox").task_id) in str(caught.value)
    assert service.row("fox").status is JobStatus.DOWNLOAD_FAILED
    assert service.submits == 1


async def test_a_folder_that_was_moved_is_recognised(service: Service) -> None:
    """Clips and ledger moved together: no download, no submit, and the new path; in the run after that, too."""
    async with service.client() as client:
        await client.submit("a fox", key="fox")
    there = service.folder.with_name("moved")
    shutil.move(service.folder, there)
    service.folder = there
    for _ in range(2):
        async with service.client() as client:
            assert await client.submit("a fox", key="fox") == there / "fox.mp4"
    assert service.sandbox.record.downloads == 1
    assert service.row("fox").paths == (str(there / "fox.mp4"),)


async def test_a_failed_job_is_not_bought_again_by_itself(service: Service) -> None:
    """Running it again gives the same error, with the server's words, and sends nothing."""
    object.__setattr__(service.sandbox.settings, "fail_rate", 1.0)
    texts = set()
    for _ in range(2):
        async with service.client() as client:
            with pytest.raises(JobFailed, match="the server gave it up") as caught:
                await client.submit("a fox", key="fox")
            texts.add(str(caught.value))
            assert caught.value.task_id is not None
    assert len(texts) == 1
    assert service.submits == 1


# Resume


async def test_resume_takes_up_everything_that_is_unfinished(service: Service) -> None:
    """Running, waiting and timed_out jobs of a run that was left are ended by one that knows no request."""
    slow(service, 1.5)
    async with service.cut_short(polling=Polling(min_interval=0.05, max_interval=0.1, timeout=0.3)) as client:
        late = client.submit("a snail", key="late")
        with pytest.raises(JobTimedOut):
            await late
        running = client.submit("a fox", key="running")
        await running.accepted()
        service.sandbox.script("submit", ["http_429"] * 50)
        client.submit("a hen", key="waiting")
        await asyncio.sleep(0.2)
    service.sandbox._fault_injector._scripts["submit"].clear()
    assert [service.row(key).status for key in ("late", "running", "waiting")] == ["timed_out", "running", "waiting"]
    async with service.client() as client:
        jobs = await resumed(client)
        assert [job.key for job in jobs] == ["late", "running", "waiting"]
        assert await resumed(client) == jobs
        await asyncio.gather(*jobs)
        assert await resumed(client) == []
    assert service.sandbox.record.accepted == 3
    async with service.client() as client:
        assert await resumed(client) == []


@pytest.mark.parametrize("trouble", [["http_502_check", "garbage_check", "drop_check"], ["no_link", "no_link"]])
async def test_a_job_taken_up_late_is_looked_at_until_something_is_seen(service: Service, trouble: list[str]) -> None:
    """It is older than any timeout; a first look that shows nothing does not make it timed_out."""
    async with service.cut_short() as client:
        await client.submit("a fox", key="fox").accepted()
    service.set_row("fox", accepted_at=1.0)
    await asyncio.sleep(0.3)  # it is finished on the server
    service.sandbox.script("check", trouble)
    async with service.client() as client:
        (job,) = await resumed(client)
        assert (await job).is_file()
    assert sum(service.sandbox.record.faults[name] for name in set(trouble)) == len(trouble)
    assert service.submits == 1


@pytest.mark.parametrize("age", [0.0, DAY - 60, DAY + 60])
@pytest.mark.parametrize("ambiguous", ["retry", "hold"])
async def test_what_was_being_sent_is_in_doubt(
    service: Service, age: float, ambiguous: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `submitting` row is resent under its old key within 24 h; later, or with `hold`, it is unknown and unsent."""
    monkeypatch.setattr(_submitter, "GRACE", 0.1)
    service.sandbox.script("submit", ["hang_submit"])
    async with service.cut_short() as client:
        job = client.submit("a fox", key="fox")
        await status_of(job, JobStatus.SUBMITTING)
        await asyncio.sleep(0.1)
    before = service.row("fox")
    assert (before.status, before.submits, before.task_id) == (JobStatus.SUBMITTING, 1, None)
    assert before.submitted_at is not None
    service.set_row("fox", submitted_at=before.submitted_at - age)
    async with service.client(retry=Retry(wait_initial=0.02, ambiguous=ambiguous)) as client:
        (job,) = await resumed(client)
        if ambiguous == "retry" and age < DAY:
            await job
            assert (service.submits, service.sandbox.record.replayed) == (2, 1)
            assert service.row("fox").ambiguous_submits == 0
        else:
            with pytest.raises(SubmitOutcomeUnknown, match=r"'fox'.*it is unknown whether"):
                await job
            assert service.submits == 1
            assert service.row("fox").status is JobStatus.UNKNOWN
    assert service.sandbox.record.accepted == 1
    async with service.client() as client:
        assert await resumed(client) == []


# Chains


async def test_a_chain_goes_on_after_a_restart(service: Service) -> None:
    """Parent and child were waiting, running or done: each run goes on where the last one stood, and pays each once."""
    slow(service, 0.5)
    async with service.cut_short() as client:
        first = client.submit("a fox", key="one")
        first.extend("snow", key="two").extend("rain", key="three")
        await first.accepted()
    async with service.cut_short() as client:
        jobs = await resumed(client)
        assert [job.key for job in jobs] == ["one", "two", "three"]
        await jobs[0]
        await jobs[1].accepted()
    async with service.client() as client:
        jobs = await resumed(client)
        assert [job.key for job in jobs] == ["two", "three"]
        await asyncio.gather(*jobs)
    tasks = [task.body for task in service.sandbox.record.tasks.values()]
    rows = [service.row(key) for key in ("one", "two", "three")]
    assert [task.get("extend_from_task_id") for task in tasks] == [None, rows[0].task_id, rows[1].task_id]
    assert service.sandbox.record.accepted == 3


async def test_the_same_program_run_again_finds_its_chain_done(service: Service) -> None:
    """`submit` and `extend` with the same keys give the finished clips, without a request."""
    for _ in range(2):
        async with service.client() as client:
            one = client.submit("a fox", key="one")
            two = one.extend("snow", key="two")
            await asyncio.gather(one, two)
    assert service.submits == 2


async def test_a_job_whose_parent_failed_is_not_sent(service: Service) -> None:
    """In the run in which it failed and in a later one, the child says why, and no POST is made for it."""
    object.__setattr__(service.sandbox.settings, "fail_rate", 1.0)
    async with service.client() as client:
        one = client.submit("a fox", key="one")
        two = one.extend("snow", key="two")
        with pytest.raises(ParentFailed, match=r"'two'.*'one'.*gave it up"):
            await two
    async with service.client() as client:
        one = client.submit("a fox", key="one")
        two, new = one.extend("snow", key="two"), one.extend("rain", key="new")
        for job in (two, new):
            with pytest.raises(ParentFailed, match="'one' that it extends has no result"):
                await job
        assert await resumed(client) == []
    assert service.submits == 1
    assert service.row("two").status is service.row("new").status is JobStatus.FAILED


async def test_a_child_whose_parent_failed_between_two_runs_is_not_sent(service: Service) -> None:
    """The child waited in the ledger; the next run finds the parent failed on the server, and both say so."""
    slow(service, 0.6)
    object.__setattr__(service.sandbox.settings, "fail_rate", 1.0)
    async with service.cut_short() as client:
        one = client.submit("a fox", key="one")
        one.extend("snow", key="two")
        await one.accepted()
    async with service.client() as client:
        one, two = await resumed(client)
        outcomes = await asyncio.gather(one, two, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [JobFailed, ParentFailed]
    assert service.submits == 1


async def test_a_child_alone_waits_where_its_parent_stands_unfinished(service: Service) -> None:
    """Who asks for the child only, while its parent is not followed, is told; it stays waiting and a resume goes on."""
    slow(service, 0.5)
    async with service.cut_short() as client:
        one = client.submit("a fox", key="one")
        one.extend("snow", key="two")
        await one.accepted()
    service.set_row("one", status="timed_out")
    async with service.client() as client:
        await asyncio.gather(*await resumed(client))
    assert service.row("two").parent_task_id == service.row("one").task_id


async def test_a_chain_from_a_clip_that_could_not_be_stored(service: Service) -> None:
    """The parent is paid and finished on the server, so its child can go on, also in a later run."""
    async with service.cut_short() as client:
        (service.folder / "one.mp4").mkdir(parents=True, exist_ok=True)
        one = client.submit("a fox", key="one")
        with pytest.raises(DownloadError):
            await one
    async with service.client() as client:
        one = client.submit("a fox", key="one")
        two = one.extend("snow", key="two")
        outcomes = await asyncio.gather(one, two, return_exceptions=True)
    assert isinstance(outcomes[0], DownloadError)
    assert outcomes[1] == service.folder / "two.mp4"


# Once more, because a person says so


async def test_a_failed_job_is_bought_again_when_asked(service: Service) -> None:
    """A fresh idempotency key, a fresh task, the same file name; the first task stays known."""
    object.__setattr__(service.sandbox.settings, "fail_rate", 1.0)
    async with service.client() as client:
        with pytest.raises(JobFailed):
            await client.submit("a fox", key="fox")
    before = service.row("fox")
    object.__setattr__(service.sandbox.settings, "fail_rate", 0.0)
    async with service.client() as client:
        job = client.resubmit("fox")
        assert client.resubmit("fox") is job
        assert await job == service.folder / "fox.mp4"
    after = service.row("fox")
    assert after.previous_task_ids == (before.task_id,)
    assert after.idempotency_key != before.idempotency_key
    assert (after.submits, after.error, service.submits) == (2, "", 2)


async def test_an_unknown_job_is_sent_again_under_its_old_key(service: Service) -> None:
    """Within 24 h the server still tells them apart, and nothing is paid twice; after that it is a new purchase."""
    for key, age, paid in (("young", 0.0, 1), ("old", DAY + 60, 2)):
        service.sandbox.script("submit", ["drop_after"])
        async with service.client(retry=Retry(wait_initial=0.02, ambiguous="hold")) as client:
            with pytest.raises(SubmitOutcomeUnknown):
                await client.submit(f"a {key} fox", key=key)
        before = service.row(key)
        assert (before.status, before.ambiguous_submits) == (JobStatus.UNKNOWN, 1)
        assert before.submitted_at is not None
        service.set_row(key, submitted_at=before.submitted_at - age)
        async with service.client() as client:
            await client.resubmit(key)
        prompts = [task.prompt for task in service.sandbox.record.tasks.values()]
        assert prompts.count(f"a {key} fox") == paid
        assert (service.row(key).idempotency_key == before.idempotency_key) is (paid == 1)


async def test_a_cancelled_job_is_bought_again_when_asked(service: Service) -> None:
    """One that was never sent is cancelled for good, until a person says otherwise."""
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        job.cancel()
        with pytest.raises(JobCancelled):
            await job
    async with service.client() as client:
        with pytest.raises(JobCancelled):
            await client.submit("a fox", key="fox")
    assert service.submits == 0
    async with service.client() as client:
        assert (await client.resubmit("fox")).is_file()
    assert service.submits == 1


async def test_a_job_cancelled_before_the_ledger_was_asked_stays_cancelled(service: Service) -> None:
    """An earlier run left it waiting; who cancels it at once in this one does not find it bought by the next."""
    service.sandbox.script("submit", ["http_429"] * 50)
    async with service.cut_short() as client:
        client.submit("a fox", key="fox")
        await asyncio.sleep(0.1)
    service.sandbox._fault_injector._scripts["submit"].clear()
    assert service.row("fox").status is JobStatus.WAITING
    async with service.client() as client:
        for request, key in (("a fox", "fox"), ("another fox", "fox")):
            job = client.submit(request, key=key)
            job.cancel()
            with pytest.raises((JobCancelled, KeyReused)):
                await job
        stats = client.statistics()
    assert (stats.waiting, stats.unresolved) == (0, 1)
    async with service.client() as client:
        assert await resumed(client) == []
    assert service.sandbox.record.accepted == 0


async def test_a_completed_job_asked_for_again_gives_its_clip(service: Service) -> None:
    """It costs nothing; and a key that the ledger does not know is an error that says so."""
    async with service.client() as client:
        path = await client.submit("a fox", key="fox")
    async with service.client() as client:
        assert await client.resubmit("fox") == path
        with pytest.raises(JobError, match="has no such key"):
            await client.resubmit("nobody")
    assert service.submits == 1


async def test_a_failed_task_from_elsewhere_cannot_be_bought_again(service: Service) -> None:
    """Of a task that was only attached, nobody here knows the request; asking for it again says so and harms nobody."""
    object.__setattr__(service.sandbox.settings, "fail_rate", 1.0)
    async with service.client(output_dir=service.folder.with_name("other")) as client:
        with pytest.raises(JobFailed):
            await (job := client.submit("a fox"))
    assert job.task_id is not None
    async with service.client() as client:
        with pytest.raises(JobFailed):
            await client.attach(job.task_id, key="mine")
    object.__setattr__(service.sandbox.settings, "fail_rate", 0.0)
    async with service.client() as client:
        fine = client.submit("a hen", key="hen")
        with pytest.raises(JobError, match=r"'mine'.*elsewhere"):
            await client.resubmit("mine")
        assert (await fine).is_file()
    assert service.row("mine").status is JobStatus.FAILED


# Attach


async def test_attach_finds_the_job_of_a_task_that_the_ledger_knows(service: Service) -> None:
    """In a later run, under another key: it is the same job, with its own key and file; no second row, no payment."""
    slow(service, 0.6)
    async with service.cut_short() as client:
        task_id = await client.submit("a fox", key="fox").accepted()
    async with service.client() as client:
        job = client.attach(task_id, key="other")
        assert await job == service.folder / "fox.mp4"
        assert job.key == "fox"
        assert client.statistics().completed == 1
    async with service.client() as client:
        assert await client.attach(task_id) == service.folder / "fox.mp4"
    with closing(LedgerReader(service.folder)) as reader:
        assert reader.totals().jobs == 1
    assert (service.submits, service.sandbox.record.downloads) == (1, 1)


async def test_attach_of_a_live_task_shares_its_end(service: Service) -> None:
    """While the job itself is live, the second handle gets the same path, and its chain goes on."""
    slow(service, 0.5)
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        twin = client.attach(await job.accepted(), key="twin")
        snow = twin.extend("snow", key="snow")
        async with asyncio.timeout(20):
            assert await twin == await job == service.folder / "fox.mp4"
            assert (await snow).is_file()
        stats = client.statistics()
        assert (stats.completed, stats.in_flight, stats.waiting) == (2, 0, 0)
    assert [task.body.get("extend_from_task_id") for task in service.sandbox.record.tasks.values()] == [
        None,
        job.task_id,
    ]
    with closing(LedgerReader(service.folder)) as reader:
        assert [(each.key, each.parent) for each in reader.jobs()] == [("fox", None), ("snow", "fox")]


async def test_attach_follows_a_cancelled_job_again(service: Service) -> None:
    """Cancelled after acceptance, it is paid; attaching its task in a later run brings the clip."""
    slow(service, 0.4)
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        task_id = await job.accepted()
        job.cancel()
        with pytest.raises(JobCancelled, match="bills it"):
            await job
    async with service.client() as client:
        assert await client.attach(task_id) == service.folder / "fox.mp4"
    assert service.submits == 1


async def test_without_a_ledger_nothing_is_kept(service: Service) -> None:
    """`ledger=None` leaves no file, and the next run pays anew: that is what was asked for."""
    for _ in range(2):
        async with service.client(ledger=None) as client:
            await client.submit("a fox", key="fox")
    assert service.submits == 2
    assert [each.name for each in service.folder.iterdir()] == ["fox.mp4"]


async def test_a_ledger_may_be_elsewhere(service: Service, tmp_path: Path) -> None:
    """`ledger=` names a file in a folder of its own, which is made."""
    place = tmp_path / "books" / "of" / "2026.db"
    for _ in range(2):
        async with service.client(ledger=place) as client:
            await client.submit("a fox", key="fox")
    assert service.submits == 1
    assert place.is_file()
    assert not list(Path(service.folder).glob("ledger*"))
