"""Webhooks on virtual time: what they save, what false and missing calls cost, and what submits name."""

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

URL = "https://example.com/omni"


@dataclass
class WebhookServer(Server):
    """A server that calls the webhook of a task when it has ended; `deliveries` returns the delays of its calls."""

    deliveries: Callable[[], list[float]] = lambda: [0.1]
    called: OmniClient | None = None
    calls: list[float] = field(default_factory=list)
    jitter: random.Random = field(default_factory=lambda: random.Random(5))
    median: float = 110.0

    def _accept(self, post: Post) -> Response:
        self.duration = self.median * self.jitter.lognormvariate(0, 0.35)
        known = set(self.tasks)
        result = super()._accept(post)
        for task_id in self.tasks.keys() - known:
            if "webhook" in post.body:
                for delay in self.deliveries():
                    self.call_later(self.tasks[task_id].ready_at + delay, task_id)
        return result

    def call_later(self, at: float, task_id: str) -> None:
        """Schedule a call at a time of the loop's clock."""
        asyncio.get_running_loop().call_at(at, self.call, task_id)

    def call(self, task_id: str) -> None:
        """Deliver a call as the sub-application does."""
        assert self.called is not None
        self.calls.append(self.now())
        if self.called._webhook.authorize(self.called._webhook._secret or "") is None:
            assert self.called._webhook.handle_call(json.dumps({"id": task_id, "status": "completed"}).encode()) == 204

    def delays(self) -> list[float]:
        """Return for each task, in order of acceptance, the seconds from its end until a check showed it."""
        seen: dict[str, float] = {}
        for at, task_id in self.checks:
            if at + self.latency >= self.tasks[task_id].ready_at:
                seen.setdefault(task_id, at + self.latency)
        return [seen[task.task_id] - task.ready_at for task in self.tasks.values()]


def client_of(
    server: WebhookServer, folder: Path, *, webhook: str | None = URL, ledger: MemoryJobStore | None = None
) -> FakeClient:
    """Return a client with webhooks enabled, unless `webhook` is None."""
    client = FakeClient(server, folder, ledger=ledger)
    server.called = client
    if webhook is not None:
        client.webhook(webhook)
    return client


async def simulate(
    folder: Path, server: WebhookServer, jobs: int = 120, *, webhook: str | None = URL, gap: float = 1 / 3
) -> tuple[float, list[float]]:
    """Let jobs be submitted `gap` seconds apart. Return the checks per job, and the delays in seconds."""
    async with client_of(server, folder, webhook=webhook) as client:
        for number in range(jobs):
            client.submit(f"p{number}")
            await asyncio.sleep(gap)
    assert len(server.tasks) == jobs
    return len(server.checks) / jobs, server.delays()


@pytest.mark.slow
async def test_webhooks_save_checks_and_delay(tmp_path: Path) -> None:
    """Each of 120 jobs is checked far less often than without them, and its end is known ten times earlier."""
    without, delays_without = await simulate(tmp_path / "without", WebhookServer(), webhook=None)
    checks, delays = await simulate(tmp_path / "with", WebhookServer())
    assert checks < 0.65 * without
    assert fmean(delays) < fmean(delays_without) / 10


@pytest.mark.slow
async def test_webhooks_that_never_arrive_cost_little(tmp_path: Path) -> None:
    """Dropped silently, as by a server that does not like the URL: the delay is as without webhooks."""
    without, delays_without = await simulate(tmp_path / "without", WebhookServer(), webhook=None)
    dropped, delays = await simulate(tmp_path / "dropped", WebhookServer(deliveries=list))
    assert fmean(delays) < 1.25 * fmean(delays_without)
    assert dropped > 0.8 * without


@pytest.mark.slow
async def test_webhooks_that_stop_arriving_are_not_relied_on(tmp_path: Path) -> None:
    """When they stop after 120 jobs, the last 80 of 240 are noticed about as soon as without webhooks."""
    _, delays_without = await simulate(tmp_path / "without", WebhookServer(), 240, webhook=None)
    server = WebhookServer()
    server.deliveries = lambda: [0.1] if len(server.tasks) < 120 else []
    _, delays = await simulate(tmp_path / "stopped", server, 240)
    assert fmean(delays[:120]) < fmean(delays_without[:120]) / 5
    assert fmean(delays[-80:]) < 1.5 * fmean(delays_without[-80:])
    assert max(delays) < 60


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.0, 1 / 3])
@pytest.mark.parametrize("lost", [0.1, 0.5])
async def test_lost_webhooks_do_not_outweigh_the_received_ones(tmp_path: Path, lost: float, gap: float) -> None:
    """With a tenth or half of them lost and some repeated, the delay is shorter, for hardly more checks.

    This also holds if all jobs begin together, so that lost calls are found long after the received ones.
    """
    without, delays_without = await simulate(tmp_path / "without", WebhookServer(), webhook=None, gap=gap)
    jitter = random.Random(3)
    server = WebhookServer(deliveries=lambda: [] if jitter.random() < lost else [0.1, 0.1, 0.4])
    checks, delays = await simulate(tmp_path / "lost", server, gap=gap)
    assert checks < 1.3 * without
    assert fmean(delays) < fmean(delays_without)


@pytest.mark.slow
async def test_forged_calls_cost_little_and_stop_nothing(tmp_path: Path) -> None:
    """Twenty calls a second for every running job cause at most one more check per job and second, a dozen in all."""
    server = WebhookServer()
    honest, _ = await simulate(tmp_path / "honest", WebhookServer(), 40)

    async def forge() -> None:
        while True:
            for task_id in list(server.tasks):
                server.call(task_id)
            server.call("task_unknown")
            await asyncio.sleep(0.05)

    forger = asyncio.ensure_future(forge())
    checks, delays = await simulate(tmp_path / "forged", server, 40)
    forger.cancel()
    _, delays_without = await simulate(tmp_path / "without", WebhookServer(), 40, webhook=None)
    by_task: dict[str, list[float]] = {}
    for at, task_id in server.checks:
        by_task.setdefault(task_id, []).append(at)
    assert min(after - before for times in by_task.values() for before, after in pairwise(times)) > 0.9
    assert checks < honest + 18
    assert len(server.calls) > 50_000
    assert fmean(delays) < 1.5 * fmean(delays_without)


async def test_calls_for_finished_or_unknown_tasks_are_ignored(tmp_path: Path) -> None:
    """They cause no check."""
    server = WebhookServer()
    async with client_of(server, tmp_path) as client:
        await client.submit("p")
        checks = len(server.checks)
        for task_id in (*server.tasks, "task_x", "", "x" * 5000):
            client._webhook.handle_call(json.dumps({"id": task_id}).encode())
        await asyncio.sleep(60)
        assert len(server.checks) == checks


async def test_a_call_may_arrive_before_the_response_to_the_submit(tmp_path: Path) -> None:
    """A task that ends immediately calls during its submit. It is checked as soon as it is known."""
    server = WebhookServer(median=0.5, delay_submit=lambda _: 8.0)  # half of it for the response
    async with client_of(server, tmp_path) as client:
        await client.submit("p")
    assert server.calls[0] < server.checks[0][0] < 1008.2
    assert len(server.checks) == 1


@pytest.mark.parametrize("problem", [HTML, TransportError("reset"), "no URL"], ids=["502", "reset", "no URL"])
async def test_a_call_is_remembered_if_its_check_is_inconclusive(tmp_path: Path, problem: Fault | str) -> None:
    """If checks are rare, one that fails although a call has arrived is repeated within seconds."""
    server = WebhookServer()
    async with client_of(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(60)))  # by now webhooks are reliable
        job = client.submit("last")
        task = server.tasks[await job.accepted()]
        bare = {"id": task.task_id, "status": "completed"}
        fault = response(200, {"code": 200, "data": bare}) if problem == "no URL" else problem
        server.on_check = lambda _: fault if task.ready_at <= server.now() < task.ready_at + 2 else None
        await job
    (delay,) = server.delays()[-1:]
    assert 0.1 < delay < 1  # the first check was in time
    assert max(at for at, _ in server.checks) < task.ready_at + 8


async def test_a_call_for_an_attached_task_is_used(tmp_path: Path) -> None:
    """An attached job expects no call, but one that arrives causes a check."""
    server = WebhookServer()
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


async def test_submits_name_the_url_if_webhooks_are_on(tmp_path: Path) -> None:
    """Each names the same unguessable URL; without webhooks, or with one of the user, none is added."""
    server = WebhookServer()
    async with client_of(server, tmp_path) as client:
        await asyncio.gather(client.submit("a"), client.submit("b"))
        own = client.submit(VideoRequest(prompt="c", extra={"webhook": "https://mine.example.com"}))
        await own
    first, second, third = (post.body["webhook"] for post in server.posts)
    assert first == second != third == "https://mine.example.com"
    assert first.startswith(f"{URL}/")
    assert len(first) >= len(URL) + 30
    assert state_of(own).record.webhook is None
    async with client_of(WebhookServer(), tmp_path / "off", webhook=None) as client:
        await client.submit("a")
        assert "webhook" not in client.server.posts[0].body
        client.webhook(URL)  # may be enabled later
        await client.submit("b")
        assert client.server.posts[1].body["webhook"].startswith(URL)


async def test_a_resend_has_the_same_body(tmp_path: Path) -> None:
    """A later run resends an ambiguous submit with the URL of its first POST, or without one as it was then."""
    ledger, server = MemoryJobStore(), WebhookServer()
    server.submit_script.extend(["hang", "hang"])
    async with left_by_error(client_of(server, tmp_path, webhook=None, ledger=ledger)) as client:
        client.submit("plain", key="plain")
        await asyncio.sleep(1)
    async with left_by_error(client_of(server, tmp_path, webhook="https://old.example.com", ledger=ledger)) as client:
        client.submit("with webhook", key="with webhook")
        await asyncio.sleep(1)
    async with client_of(server, tmp_path, ledger=ledger) as client:
        await asyncio.gather(*await resumed(client), client.submit("new", key="new"))
    bodies: dict[str, set[str]] = {}
    for post in server.posts:
        bodies.setdefault(post.body["prompt"], set()).add(json.dumps(post.body))
    assert {prompt: len(each) for prompt, each in bodies.items()} == {"plain": 1, "with webhook": 1, "new": 1}
    assert Counter(post.body["prompt"] for post in server.posts)["with webhook"] > 1
    named = {prompt: json.loads(each.pop()).get("webhook", "") for prompt, each in bodies.items()}
    secret = named["new"].rpartition("/")[2]
    assert named == {
        "plain": "",
        "with webhook": f"https://old.example.com/{secret}",
        "new": f"{URL}/{secret}",
    }


async def test_a_rate_limited_submit_keeps_its_url(tmp_path: Path) -> None:
    """There is one body per idempotency key, also after a 429 and in another run."""
    ledger, server = MemoryJobStore(), WebhookServer()
    server.on_submit = lambda _: server.rate_limited(600)
    async with left_by_error(client_of(server, tmp_path, webhook="https://old.example.com", ledger=ledger)) as client:
        client.submit("p")
        await asyncio.sleep(1)
    assert (await unfinished(client.memory))[0].status is JobStatus.WAITING
    server.on_submit = None
    async with client_of(server, tmp_path, ledger=ledger) as client:
        await asyncio.gather(*await resumed(client))
    assert len({(post.key, json.dumps(post.body)) for post in server.posts}) == 1


async def test_a_job_that_was_never_sent_gets_the_present_url(tmp_path: Path) -> None:
    """A job that only waited in an earlier run names the URL of this one; one whose POST was rejected keeps its own."""
    ledger, server = MemoryJobStore(), WebhookServer()
    server.on_submit = lambda _: server.rate_limited(600)
    async with left_by_error(client_of(server, tmp_path, webhook="https://old.example.com", ledger=ledger)) as client:
        client.submit("first", key="first")
        await asyncio.sleep(1)
        client.submit("second", key="second")  # submissions are paused
        await asyncio.sleep(1)
    server.on_submit = None
    async with client_of(server, tmp_path, ledger=ledger) as client:
        for _ in await resumed(client):
            await asyncio.sleep(200)
            server.tasks[next(iter(server.tasks))].fails = True
    named = {post.body["prompt"]: post.body["webhook"] for post in server.posts}
    assert named["first"].startswith("https://old.example.com/")
    assert named["second"].startswith(URL)


async def test_a_call_for_a_job_of_an_earlier_run_is_expected(tmp_path: Path) -> None:
    """The ledger keeps the secret, so the call arrives at the same path."""
    ledger, server = MemoryJobStore(), WebhookServer()
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


async def test_a_closed_client_answers_503(tmp_path: Path) -> None:
    """Before it is entered and after it is left, callers are asked to call again later, whatever their secret."""
    server = WebhookServer()
    client = client_of(server, tmp_path)
    webhook = client._webhook
    assert webhook.authorize("anything") == 503
    async with client:
        assert webhook.authorize("wrong") == webhook.authorize("") == webhook.authorize("ümläut") == 404
        assert webhook.authorize(webhook._secret or "") is None
        assert webhook.handle_call(b"nonsense") == 400
        secret = webhook._secret or ""
    assert webhook.authorize(secret) == 503
    assert webhook.handle_call(b'{"id": "task_1"}') == 204  # a call that was authorized just before


async def test_a_client_has_one_webhook_url(tmp_path: Path) -> None:
    """A second URL is rejected, the same one is not. It must be one that the API calls."""
    client = FakeClient(Server(), tmp_path)
    client.webhook(URL)
    client.webhook(f"{URL}/")
    with pytest.raises(ValueError, match="already"):
        client.webhook("https://other.example.com")
    with pytest.raises(ValueError, match="from outside"):
        FakeClient(Server(), tmp_path).webhook("http://127.0.0.1/omni")


async def test_the_secret_is_neither_logged_nor_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is in no log line at any level, nor in the repr of a client, a job or a record."""
    caplog.set_level("DEBUG")
    server = WebhookServer()
    async with client_of(server, tmp_path) as client:
        job = client.submit("p")
        await job
        client._webhook.handle_call(b"{}")
        shown = [repr(thing) for thing in (client, job, state_of(job).record, client._webhook)]
    secret = client._webhook._secret
    assert secret
    assert secret in server.posts[0].body["webhook"]
    assert secret not in "".join(shown) + caplog.text
