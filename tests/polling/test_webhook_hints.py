"""Webhooks on virtual time: what they save, what they cost when they lie or never come, and what submits name."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from omni_async import JobStatus, OmniClient, TransportError, VideoRequest
from omni_async.api.parsing import Response
from omni_async.jobs.job import state_of
from omni_async.ledger import MemoryJobStore
from tests.support.fakes import HTML, FakeClient, Fault, Post, Server, left_by_error, response
from tests.support.ledgers import unfinished
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

ADDRESS = "https://example.com/omni"


@dataclass
class Hooking(Server):
    """A server that calls who submitted when a task has ended; how often, and after what, `deliveries` says."""

    deliveries: Callable[[], list[float]] = lambda: [0.1]
    called: OmniClient | None = None
    calls: list[float] = field(default_factory=list)
    jitter: random.Random = field(default_factory=lambda: random.Random(5))
    median: float = 110.0

    def _accept(self, post: Post) -> Response:
        self.duration = self.median * self.jitter.lognormvariate(0, 0.35)
        known = set(self.tasks)
        answer = super()._accept(post)
        for task_id in self.tasks.keys() - known:
            if "webhook" in post.body:
                for pause in self.deliveries():
                    self.call_later(self.tasks[task_id].ready_at + pause, task_id)
        return answer

    def call_later(self, at: float, task_id: str) -> None:
        """Let a call come at a time of the loop's clock."""
        asyncio.get_running_loop().call_at(at, self.call, task_id)

    def call(self, task_id: str) -> None:
        """Call, as the sub-application does."""
        assert self.called is not None
        self.calls.append(self.now())
        if self.called._webhook.authorize(self.called._webhook._secret or "") is None:
            assert self.called._webhook.handle_call(json.dumps({"id": task_id, "status": "completed"}).encode()) == 204

    def late(self) -> list[float]:
        """Give for each task, first accepted first, how many seconds passed until a check showed its end."""
        seen: dict[str, float] = {}
        for at, task_id in self.checks:
            if at + self.latency >= self.tasks[task_id].ready_at:
                seen.setdefault(task_id, at + self.latency)
        return [seen[task.task_id] - task.ready_at for task in self.tasks.values()]


def client_of(
    server: Hooking, folder: Path, *, hooks: str | None = ADDRESS, ledger: MemoryJobStore | None = None
) -> FakeClient:
    """Give a client, with webhooks on unless told otherwise."""
    client = FakeClient(server, folder, ledger=ledger)
    server.called = client
    if hooks is not None:
        client.webhook(hooks)
    return client


async def outcome(
    folder: Path, server: Hooking, jobs: int = 120, *, hooks: str | None = ADDRESS, gap: float = 1 / 3
) -> tuple[float, list[float]]:
    """Let so many jobs be followed, `gap` seconds apart; gives checks per job, and the seconds late."""
    async with client_of(server, folder, hooks=hooks) as client:
        for number in range(jobs):
            client.submit(f"p{number}")
            await asyncio.sleep(gap)
    assert len(server.tasks) == jobs
    return len(server.checks) / jobs, server.late()


@pytest.mark.slow
async def test_hooks_save_most_checks_and_all_the_lateness(tmp_path: Path) -> None:
    """Each of 120 jobs is checked far less often than without, and its end is known ten times sooner."""
    without, late_without = await outcome(tmp_path / "without", Hooking(), hooks=None)
    with_hooks, late = await outcome(tmp_path / "with", Hooking())
    assert with_hooks < 0.65 * without
    assert fmean(late) < fmean(late_without) / 10


@pytest.mark.slow
async def test_hooks_that_never_come_cost_little(tmp_path: Path) -> None:
    """Dropped silently, as by a server that does not like the address: it is as late as a client without hooks."""
    without, late_without = await outcome(tmp_path / "without", Hooking(), hooks=None)
    dropped, late = await outcome(tmp_path / "dropped", Hooking(deliveries=list))
    assert fmean(late) < 1.25 * fmean(late_without)
    assert dropped > 0.8 * without


@pytest.mark.slow
async def test_hooks_that_stop_coming_are_not_waited_for(tmp_path: Path) -> None:
    """When they stop after 120 jobs, the last 80 of 240 are noticed about as soon as without."""
    _, late_without = await outcome(tmp_path / "without", Hooking(), 240, hooks=None)
    server = Hooking()
    server.deliveries = lambda: [0.1] if len(server.tasks) < 120 else []
    _, late = await outcome(tmp_path / "stopped", server, 240)
    assert fmean(late[:120]) < fmean(late_without[:120]) / 5
    assert fmean(late[-80:]) < 1.5 * fmean(late_without[-80:])
    assert max(late) < 60


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.0, 1 / 3])
@pytest.mark.parametrize("lost", [0.1, 0.5])
async def test_some_hooks_are_lost(tmp_path: Path, lost: float, gap: float) -> None:
    """With a tenth or a half of them lost and some twice, all clips come with less lateness, for hardly more checks.

    Also where all jobs begin together, so that what is lost is found long after what has come.
    """
    without, late_without = await outcome(tmp_path / "without", Hooking(), hooks=None, gap=gap)
    jitter = random.Random(3)
    server = Hooking(deliveries=lambda: [] if jitter.random() < lost else [0.1, 0.1, 0.4])
    checks, late = await outcome(tmp_path / "lost", server, gap=gap)
    assert checks < 1.3 * without
    assert fmean(late) < fmean(late_without)


@pytest.mark.slow
async def test_forged_calls_cost_little_and_stop_nothing(tmp_path: Path) -> None:
    """Twenty calls a second for every running job: at most one more check per job and second, a dozen in all."""
    server = Hooking()
    honest, _ = await outcome(tmp_path / "honest", Hooking(), 40)

    async def forge() -> None:
        while True:
            for task_id in list(server.tasks):
                server.call(task_id)
            server.call("task_nobody")
            await asyncio.sleep(0.05)

    forger = asyncio.ensure_future(forge())
    checks, late = await outcome(tmp_path / "forged", server, 40)
    forger.cancel()
    _, late_without = await outcome(tmp_path / "without", Hooking(), 40, hooks=None)
    by_task: dict[str, list[float]] = {}
    for at, task_id in server.checks:
        by_task.setdefault(task_id, []).append(at)
    assert min(after - before for times in by_task.values() for before, after in pairwise(times)) > 0.9
    assert checks < honest + 18
    assert len(server.calls) > 50_000
    assert fmean(late) < 1.5 * fmean(late_without)


async def test_calls_for_jobs_that_are_done_or_unknown_are_nothing(tmp_path: Path) -> None:
    """They cause no check at all."""
    server = Hooking()
    async with client_of(server, tmp_path) as client:
        await client.submit("p")
        checks = len(server.checks)
        for task_id in (*server.tasks, "task_x", "", "x" * 5000):
            client._webhook.handle_call(json.dumps({"id": task_id}).encode())
        await asyncio.sleep(60)
        assert len(server.checks) == checks


async def test_a_hook_may_come_before_the_answer_to_the_submit(tmp_path: Path) -> None:
    """A task that ends at once calls while its submit is being answered; it is looked at as soon as it is known."""
    server = Hooking(median=0.5, delay_submit=lambda _: 8.0)  # half of that is the way back
    async with client_of(server, tmp_path) as client:
        await client.submit("p")
    assert server.calls[0] < server.checks[0][0] < 1008.2
    assert len(server.checks) == 1


@pytest.mark.parametrize("trouble", [HTML, TransportError("reset"), "no link"], ids=["502", "reset", "no link"])
async def test_a_hook_is_not_forgotten_when_its_look_shows_nothing(tmp_path: Path, trouble: Fault | str) -> None:
    """Where looks are rare, one that fails although a hook has come is made up for within seconds."""
    server = Hooking()
    async with client_of(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(60)))  # by now, hooks are trusted
        job = client.submit("last")
        task = server.tasks[await job.accepted()]
        bare = {"id": task.task_id, "status": "completed"}
        fault = response(200, {"code": 200, "data": bare}) if trouble == "no link" else trouble
        server.on_check = lambda _: fault if task.ready_at <= server.now() < task.ready_at + 2 else None
        await job
    (late,) = server.late()[-1:]
    assert 0.1 < late < 1  # the first look was in time
    assert max(at for at, _ in server.checks) < task.ready_at + 8


async def test_a_task_of_somewhere_else_may_be_called_for(tmp_path: Path) -> None:
    """A job that was attached expects no hook, but one that comes is heard."""
    server = Hooking()
    async with left_by_error(client_of(server, tmp_path / "first")) as client:
        task_id = await client.submit("p").accepted()
    async with client_of(server, tmp_path / "second") as client:
        job = client.attach(task_id)
        await asyncio.sleep(3)
        server.finish(task_id)
        before = len(server.checks)
        server.call(task_id)
        await asyncio.sleep(0.5)
        assert len(server.checks) == before + 1
        await job


# What is sent


async def test_submits_name_the_address_and_only_then(tmp_path: Path) -> None:
    """Each names the same unguessable address; without webhooks, or with an own one of the user's, none is added."""
    server = Hooking()
    async with client_of(server, tmp_path) as client:
        await asyncio.gather(client.submit("a"), client.submit("b"))
        own = client.submit(VideoRequest(prompt="c", extra={"webhook": "https://mine.example.com"}))
        await own
    first, second, third = (post.body["webhook"] for post in server.posts)
    assert first == second != third == "https://mine.example.com"
    assert first.startswith(f"{ADDRESS}/")
    assert len(first) >= len(ADDRESS) + 30
    assert state_of(own).record.webhook is None
    async with client_of(Hooking(), tmp_path / "off", hooks=None) as client:
        await client.submit("a")
        assert "webhook" not in client.server.posts[0].body
        client.webhook(ADDRESS)  # may be turned on later
        await client.submit("b")
        assert client.server.posts[1].body["webhook"].startswith(ADDRESS)


async def test_a_resend_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """An ambiguous job is resent by a later run with the webhook URL of its first POST, or without one as then."""
    ledger, server = MemoryJobStore(), Hooking()
    server.submit_script.extend(["hang", "hang"])
    async with left_by_error(client_of(server, tmp_path, hooks=None, ledger=ledger)) as client:
        client.submit("plain", key="plain")
        await asyncio.sleep(1)
    async with left_by_error(client_of(server, tmp_path, hooks="https://old.example.com", ledger=ledger)) as client:
        client.submit("hooked", key="hooked")
        await asyncio.sleep(1)
    async with client_of(server, tmp_path, ledger=ledger) as client:
        await asyncio.gather(*await resumed(client), client.submit("new", key="new"))
    bodies: dict[str, set[str]] = {}
    for post in server.posts:
        bodies.setdefault(post.body["prompt"], set()).add(json.dumps(post.body))
    assert {prompt: len(each) for prompt, each in bodies.items()} == {"plain": 1, "hooked": 1, "new": 1}
    assert Counter(post.body["prompt"] for post in server.posts)["hooked"] > 1
    named = {prompt: json.loads(each.pop()).get("webhook", "") for prompt, each in bodies.items()}
    secret = named["new"].rpartition("/")[2]
    assert named == {
        "plain": "",
        "hooked": f"https://old.example.com/{secret}",
        "new": f"{ADDRESS}/{secret}",
    }


async def test_a_refused_submit_keeps_its_address(tmp_path: Path) -> None:
    """Under one idempotency key there is one body, also after a 429 and in another run."""
    ledger, server = MemoryJobStore(), Hooking()
    server.on_submit = lambda _: server.rate_limited(600)
    async with left_by_error(client_of(server, tmp_path, hooks="https://old.example.com", ledger=ledger)) as client:
        client.submit("p")
        await asyncio.sleep(1)
    assert (await unfinished(client.memory))[0].status is JobStatus.WAITING
    server.on_submit = None
    async with client_of(server, tmp_path, ledger=ledger) as client:
        await asyncio.gather(*await resumed(client))
    assert len({(post.key, json.dumps(post.body)) for post in server.posts}) == 1


async def test_what_was_never_sent_gets_the_address_of_now(tmp_path: Path) -> None:
    """A job that only waited in an earlier run calls where this one listens; one that is bought again does, too."""
    ledger, server = MemoryJobStore(), Hooking()
    server.on_submit = lambda _: server.rate_limited(600)
    async with left_by_error(client_of(server, tmp_path, hooks="https://old.example.com", ledger=ledger)) as client:
        client.submit("first", key="first")
        await asyncio.sleep(1)
        client.submit("second", key="second")  # the line is closed
        await asyncio.sleep(1)
    server.on_submit = None
    async with client_of(server, tmp_path, ledger=ledger) as client:
        for _ in await resumed(client):
            await asyncio.sleep(200)
            server.tasks[next(iter(server.tasks))].fails = True
    named = {post.body["prompt"]: post.body["webhook"] for post in server.posts}
    assert named["first"].startswith("https://old.example.com/")
    assert named["second"].startswith(ADDRESS)


async def test_a_job_of_an_earlier_run_still_wakes(tmp_path: Path) -> None:
    """The secret is kept with the ledger, so the call for it comes to the same path, and is expected."""
    ledger, server = MemoryJobStore(), Hooking()
    async with left_by_error(client_of(server, tmp_path, ledger=ledger)) as client:
        await client.submit("p").accepted()
    (task,) = server.tasks.values()
    task.ready_at = server.now() + 500
    async with client_of(server, tmp_path, ledger=ledger) as client:
        (job,) = await resumed(client)
        await asyncio.sleep(20)
        server.finish()
        server.call(task.task_id)
        await asyncio.wait_for(job, 2)


async def test_a_closed_client_hears_nothing(tmp_path: Path) -> None:
    """Before it is entered and after it was left, callers are told to come again later; strangers never learn more."""
    server = Hooking()
    client = client_of(server, tmp_path)
    hook = client._webhook
    assert hook.authorize("anything") == 503
    async with client:
        assert hook.authorize("wrong") == hook.authorize("") == hook.authorize("ümläut") == 404
        assert hook.authorize(hook._secret or "") is None
        assert hook.handle_call(b"nonsense") == 400
        secret = hook._secret or ""
    assert hook.authorize(secret) == 503
    assert hook.handle_call(b'{"id": "task_1"}') == 204  # one that had been let in just before


async def test_one_client_has_one_address(tmp_path: Path) -> None:
    """A second one is refused, the same again is not; the address must be one that the server calls."""
    client = FakeClient(Server(), tmp_path)
    client.webhook(ADDRESS)
    client.webhook(f"{ADDRESS}/")
    with pytest.raises(ValueError, match="already"):
        client.webhook("https://other.example.com")
    with pytest.raises(ValueError, match="from outside"):
        FakeClient(Server(), tmp_path).webhook("http://127.0.0.1/omni")


async def test_the_secret_is_shown_to_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It stands in no log of the library, at whatever level, nor in the repr of a client, a job or a record."""
    caplog.set_level("DEBUG")
    server = Hooking()
    async with client_of(server, tmp_path) as client:
        job = client.submit("p")
        await job
        client._webhook.handle_call(b"{}")
        shown = [repr(thing) for thing in (client, job, state_of(job).record, client._webhook)]
    secret = client._webhook._secret
    assert secret
    assert secret in server.posts[0].body["webhook"]
    assert secret not in "".join(shown) + caplog.text
