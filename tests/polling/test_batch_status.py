"""Batch status on virtual time: what it saves, and that no answer to it loses a job or is asked for twice in vain."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import Limits, Polling, TransportError
from tests.support.fakes import HTML, FakeClient, Fault, Post, Server, refusal, response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omni_async.api.parsing import Response

pytestmark = pytest.mark.timeout(120)


class Spread(Server):
    """A server whose tasks take different times."""

    jitter = random.Random(5)

    def _accept(self, post: Post) -> Response:
        self.duration = self.jitter.lognormvariate(4.7, 0.35)  # the middle is 110 s
        return super()._accept(post)


async def done(
    folder: Path, server: Server, jobs: int = 100, *, is_on: bool = True, limits: Limits | None = None
) -> float:
    """Let so many jobs be followed to their end; gives the requests per job that this took."""
    async with FakeClient(server, folder, limits=limits, polling=Polling(batch_status=is_on)) as client:
        paths = await asyncio.gather(*(client.submit(f"p{number}") for number in range(jobs)))
        assert client.statistics().checks == len(server.checks) + len(server.batches)
    assert len(set(paths)) == len(server.tasks) == jobs
    return (len(server.checks) + len(server.batches)) / jobs


async def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    """Nobody asks an undocumented endpoint by default."""
    server = Server()
    async with FakeClient(server, tmp_path) as client:
        await asyncio.gather(*(client.submit(f"p{number}") for number in range(20)))
    assert not server.batches


async def test_one_question_is_about_many_jobs(tmp_path: Path) -> None:
    """It takes less than half of the requests; a job that runs is asked about with others, one that ended singly."""
    singly = await done(tmp_path / "singly", Spread(), is_on=False)
    server = Spread()
    together = await done(tmp_path / "together", server)
    assert together < singly / 2
    assert max(len(task_ids) for _, task_ids in server.batches) == 50
    assert min(len(task_ids) for _, task_ids in server.batches) >= 2
    assert len(server.checks) < 1.6 * len(server.tasks)


async def test_the_pace_of_checks_is_kept(tmp_path: Path) -> None:
    """With two requests a second allowed, all hundred jobs are followed within that."""
    server = Spread()
    await done(tmp_path, server, limits=Limits(checks_per_second=2))
    times = sorted([at for at, _ in server.checks] + [at for at, _ in server.batches])
    assert all(after - before > 0.49 for before, after in pairwise(times))


def foreign(items: list[dict[str, Any]]) -> Fault:
    """One more that nobody asked for."""
    return response(200, {"code": 200, "data": [*items, {"id": "task_foreign", "status": "processing"}]})


ODD: dict[str, Callable[[list[dict[str, Any]]], Fault]] = {
    "404": lambda _: refusal(404, "invalid_request_error", 404, "not found"),
    "400": lambda _: refusal(400, "invalid_request_error", 400, "ids must be a string"),
    "405": lambda _: response(405, b""),
    "object": lambda items: response(200, {"data": {each["id"]: each["status"] for each in items}}),
    "empty": lambda _: response(200, {"code": 200, "data": []}),
    "page": lambda _: response(200, b"<html>welcome</html>"),
    "foreign": foreign,
    "no status": lambda items: response(200, {"data": [{"id": each["id"]} for each in items]}),
    "two words": lambda items: response(200, {"data": [*items, *({**each, "status": "other"} for each in items)]}),
    "no": lambda _: response(200, {"success": False, "message": "not for this key"}),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_answer_ends_it_for_good(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """One that does not fit is asked for only until it is seen; every job is then followed singly, to its end."""
    server = Spread(on_batch=ODD[name])
    await done(tmp_path, server, 60)
    asked_at = [at for at, _ in server.batches]
    assert max(asked_at) - min(asked_at) <= server.latency  # what was on its way before the first answer came
    assert "checked singly" in caplog.text


@pytest.mark.parametrize("trouble", [HTML, response(503, b""), TransportError("reset")], ids=["502", "503", "reset"])
async def test_trouble_that_lasts_ends_it_too(tmp_path: Path, trouble: Fault) -> None:
    """Three answers in a row that say nothing are enough; one or two are not."""
    server = Spread(on_batch=lambda _: trouble)
    await done(tmp_path / "lasts", server, 60)
    assert 3 <= len(server.batches) <= 8
    passing = Spread(on_batch=lambda _: trouble if len(passing.batches) % 3 else None)
    await done(tmp_path / "passes", passing, 60)
    assert len(passing.batches) > 20


async def test_too_many_questions_are_asked_less_often(tmp_path: Path) -> None:
    """A 429 holds back looks of every kind, and many are asked about again later."""
    server, refused = Spread(), []

    def refuse_the_third(_: list[dict[str, Any]]) -> Fault:
        refused.append(server.now())
        return server.too_many(7) if len(refused) == 3 else None

    server.on_batch = refuse_the_third
    await done(tmp_path, server)
    following = min(at for at, _ in [*server.checks, *server.batches] if at > refused[2])
    assert following - refused[2] >= 7
    assert len(server.batches) > 10


async def test_who_is_not_named_is_looked_at_singly(tmp_path: Path) -> None:
    """Where a part is left out, its jobs are checked for themselves, and lose nothing."""
    server = Spread(on_batch=lambda items: response(200, {"code": 200, "data": items[::2]}) if len(items) > 1 else None)
    await done(tmp_path, server, 60)
    assert len(server.batches) > 5


async def test_an_unknown_word_is_asked_about_singly(tmp_path: Path) -> None:
    """Only the words of the page mean running there; any other is nothing that is surely said."""
    server = Spread(
        on_batch=lambda items: response(200, {"data": [{**each, "status": "warming_up"} for each in items]})
    )
    await done(tmp_path, server, 40)
    assert len(server.checks) > len(server.batches)


async def test_a_job_given_up_meanwhile_stays_so(tmp_path: Path) -> None:
    """One that is cancelled while the question about it is on its way is not looked at again."""
    server = Spread()
    async with FakeClient(server, tmp_path, polling=Polling(batch_status=True)) as client:
        jobs = [client.submit(f"p{number}") for number in range(20)]
        given_up: list[str] = []

        def cancel(items: list[dict[str, Any]]) -> None:
            if not given_up:
                given_up.append(items[0]["id"])
                next(job for job in jobs if job.task_id == given_up[0]).cancel()

        server.on_batch = cancel
        await asyncio.gather(*jobs, return_exceptions=True)
    (task_id,) = given_up
    assert sum(task_id in task_ids for _, task_ids in server.batches) == 1
    first = server.batches[0][0]
    assert not any(looked_at == task_id and at > first for at, looked_at in server.checks)
