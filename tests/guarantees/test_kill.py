"""Processes really killed, at random moments and in the worst one: nothing is lost, and nothing is paid twice.

The long forms (150 jobs, 30 kills) are run by hand: see `crash.py`.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import JobStatus
from omni_async.ledger import LedgerReader
from omni_async.sandbox import Sandbox
from tests.support.crash import Batch, check_clips, kill_again_and_again, sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.sandbox.tasks import Task

pytest.importorskip("av", reason="the sandbox films with the extra `media`")
pytestmark = pytest.mark.timeout(120)

KNOBS: dict[str, Any] = {"latency": 0.15, "median": 0.4, "cdn_rate": 250_000}


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


async def test_killed_at_random_moments_a_batch_is_whole_and_paid_once(tmp_path: Path) -> None:
    """Every clip is there to the byte, as many are paid as there are jobs, and one more run sends nothing."""
    async with sandbox(**KNOBS, seed=3) as served:
        batch = Batch(served.base_url, tmp_path, 12, chains=3, per_minute=600)
        killed = await kill_again_and_again(batch, kills=4, seed=5, longest=1.2)
        told = await batch.run_to_the_end()
        record = await served.record()
        again = await batch.run_to_the_end()
        submits = (await served.record())["submits"]
    assert killed == 4
    assert len(batch.hit) >= 3, batch.hit
    assert {status for status, *_ in told["ended"].values()} == {"completed"}
    assert record["accepted"] == 15
    assert record["duplicates"] == 0
    clips = batch.clips()
    assert set(clips) == set(told["ended"])
    check_clips(clips, record["tasks"])
    assert again["submits"] == 0
    assert submits == record["submits"]
    assert {status for status, *_ in again["ended"].values()} == {"completed"}


async def test_without_idempotency_and_with_hold_nothing_is_paid_twice(tmp_path: Path) -> None:
    """Where the server would take every POST for new, a kill leaves its jobs unknown, each of them named."""
    async with sandbox(**KNOBS | {"latency": 0.4}, seed=4, idempotency=False) as served:
        batch = Batch(served.base_url, tmp_path, 12, chains=2, ambiguous="hold", per_minute=600)
        killed = await kill_again_and_again(batch, kills=4, seed=6, longest=1.0)
        told = await batch.run_to_the_end()
        record = await served.record()
        again = await batch.run_to_the_end()
        submits = (await served.record())["submits"]
    prompts = Counter(task["prompt"] for task in record["tasks"].values())
    assert killed == 4
    assert max(prompts.values()) == 1
    ended = told["ended"]
    unknown = {key for key, (status, *_) in ended.items() if status == "unknown"}
    assert unknown
    for key in unknown:
        _, kind, text = ended[key]
        assert kind == "SubmitOutcomeUnknown"
        assert repr(key) in text
    # What is neither there nor in doubt went on from something in doubt, and was never sent.
    rest = {key for key, (status, *_) in ended.items() if status not in {"completed", "unknown"}}
    assert all(ended[key][1] == "ParentFailed" and f"e{key[1:]}" == key for key in rest)
    clips = batch.clips()
    assert set(clips) == set(ended) - unknown - rest
    check_clips(clips, record["tasks"])
    assert len(clips) <= record["accepted"] <= len(clips) + len(unknown)
    assert submits == record["submits"]
    assert again["submits"] == 0


class Window:
    """Kills a driver at the moment in which the server has accepted its job number `number`, before it can answer."""

    def __init__(self, served: Sandbox, number: int) -> None:
        self.pid = 0
        self._accept, self._left = served._runner.accept, number
        served._runner.accept = self  # type: ignore[assignment]

    def __call__(self, *order: Any) -> Task:
        """Accept as ever; when it is time, the client does not live to hear of it."""
        task = self._accept(*order)
        self._left -= 1
        if self._left == 0:
            os.kill(self.pid, signal.SIGKILL)
        return task


def _rows(folder: Path) -> dict[str, JobStatus]:
    with closing(LedgerReader(folder)) as reader:
        return {job.key: job.status for job in reader.jobs()}


async def _kill_in_the_window(served: Sandbox, batch: Batch) -> str:
    """Give the key of the job that was accepted, while the ledger only knows that it was being sent."""
    window = Window(served, number=3)
    process = await batch.start()
    window.pid = process.pid
    await process.communicate()
    assert process.returncode == -signal.SIGKILL
    last = list(served._runner.tasks.values())[-1]
    key = f"k{int((last.body.prompt or '').split()[-1]):03}"
    assert _rows(batch.folder)[key] is JobStatus.SUBMITTING
    with closing(LedgerReader(batch.folder)) as reader:
        found = reader.find(key)
    assert found is not None
    assert (found.task_id, found.submits) == (None, 1)
    return key


@pytest.mark.parametrize("age", ["fresh", "a day old"])
@pytest.mark.parametrize("ambiguous", ["retry", "hold"])
async def test_killed_between_acceptance_and_its_row(tmp_path: Path, age: str, ambiguous: str) -> None:
    """Found `submitting`: replayed under its old key and paid once; after a day, or with `hold`, unknown and unsent."""
    async with Sandbox(prerendered=True, median=0.2, latency=0.02) as served:
        batch = Batch(served.base_url, tmp_path, 5, ambiguous=ambiguous, per_minute=240)  # one at a time on the wire
        key = await _kill_in_the_window(served, batch)
        if age != "fresh":
            with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as db:
                db.execute("UPDATE jobs SET submitted_at = submitted_at - 86401 WHERE key = ?", (key,))
        told = await batch.run_to_the_end()
        record = served.record
        is_unknown = age != "fresh" or ambiguous == "hold"
        assert told["ended"][key][:2] == (
            ["unknown", "SubmitOutcomeUnknown"] if is_unknown else ["completed", "PosixPath"]
        )
        assert len(batch.clips()) == (4 if is_unknown else 5)
        assert (record.accepted, record.duplicates) == (5, 0)
        assert record.submits == 5 + (not is_unknown)
        assert record.replayed == (not is_unknown)
        with closing(LedgerReader(tmp_path)) as reader:
            totals = reader.totals()
        assert totals.by_status.get(JobStatus.SUBMITTING, 0) == 0
        assert totals.ambiguous_submits == is_unknown  # a replay is the server's word that it was paid once
        assert totals.possibly_paid_twice == 0


async def test_what_a_crash_may_have_paid_twice_is_counted(tmp_path: Path) -> None:
    """Where the server does not honour the key and the user lets it be resent, the job is paid twice, and counted."""
    async with Sandbox(prerendered=True, median=0.2, latency=0.02, idempotency=False) as served:
        batch = Batch(served.base_url, tmp_path, 5, per_minute=600)
        key = await _kill_in_the_window(served, batch)
        told = await batch.run_to_the_end()
    assert told["ended"][key][0] == "completed"
    assert served.record.accepted == 6
    with closing(LedgerReader(tmp_path)) as reader:
        assert reader.totals().possibly_paid_twice == 1
        assert [job.key for job in reader.jobs() if job.ambiguous_submits] == [key]


@pytest.mark.parametrize("runs", [0, 1], ids=["killed without a webhook", "killed with another webhook"])
async def test_a_resend_after_a_kill_names_the_address_of_the_first_post(tmp_path: Path, runs: int) -> None:
    """The server refuses another body under the same idempotency key: what was killed is replayed, and not refused."""
    async with Sandbox(prerendered=True, median=0.2, latency=0.02) as served:
        batch = Batch(served.base_url, tmp_path, 5, per_minute=600, has_webhooks=True, runs=runs)
        key = await _kill_in_the_window(served, batch)
        told = await batch.run_to_the_end()
        assert {status for status, *_ in told["ended"].values()} == {"completed"}
        assert (served.record.accepted, served.record.replayed) == (5, 1)
        named = {
            f"k{int(task.prompt.split()[-1]):03}": task.body.get("webhook") for task in served.record.tasks.values()
        }
    assert (named[key] is None) == (runs == 0)
    assert len(set(named.values())) == 2
