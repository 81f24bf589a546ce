"""Processes are really killed, at random moments and at the worst one: nothing is lost, and nothing is paid twice.

The long form (150 jobs, 30 kills) is run by hand: see `tests/support/crash.py`.
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
from tests.support.crash import Batch, check_clips, kill_repeatedly, sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from omni_async.sandbox.tasks import Task

pytest.importorskip("av", reason="the sandbox renders clips with the extra `media`")
pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

SETTINGS: dict[str, Any] = {"latency": 0.15, "median": 0.4, "cdn_rate": 250_000}


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


async def test_a_batch_killed_at_random_moments_is_complete_and_paid_once(tmp_path: Path) -> None:
    """Every clip has the right bytes, each job is paid once, and one more run sends nothing."""
    async with sandbox(**SETTINGS, seed=3) as server:
        batch = Batch(server.base_url, tmp_path, 12, chains=3, per_minute=600)
        killed = await kill_repeatedly(batch, kills=4, seed=5, max_seconds=1.2)
        result = await batch.run_to_end()
        record = await server.record()
        again = await batch.run_to_end()
        submits = (await server.record())["submits"]
    assert killed == 4
    assert len(batch.kills_by_phase) >= 3, batch.kills_by_phase
    assert {status for status, *_ in result["ended"].values()} == {"completed"}
    assert record["accepted"] == 15
    assert record["duplicates"] == 0
    clips = batch.clips()
    assert set(clips) == set(result["ended"])
    check_clips(clips, record["tasks"])
    assert again["submits"] == 0
    assert submits == record["submits"]
    assert {status for status, *_ in again["ended"].values()} == {"completed"}


@pytest.mark.parametrize("ambiguous", ["auto", "hold"])
async def test_without_idempotency_nothing_is_paid_twice(tmp_path: Path, ambiguous: str) -> None:
    """If the server accepts every POST as a new one, a kill leaves jobs unknown, and each is named."""
    async with sandbox(**SETTINGS | {"latency": 0.4}, seed=4, idempotency=False) as server:
        batch = Batch(server.base_url, tmp_path, 12, chains=2, ambiguous=ambiguous, per_minute=600)
        killed = await kill_repeatedly(batch, kills=4, seed=6, max_seconds=1.0)
        result = await batch.run_to_end()
        record = await server.record()
        again = await batch.run_to_end()
        submits = (await server.record())["submits"]
    prompts = Counter(task["prompt"] for task in record["tasks"].values())
    assert killed == 4
    assert max(prompts.values()) == 1
    ended = result["ended"]
    unknown = {key for key, (status, *_) in ended.items() if status == "unknown"}
    assert unknown
    for key in unknown:
        _, kind, text = ended[key]
        assert kind == "SubmitOutcomeUnknown"
        assert repr(key) in text
    # Jobs that are neither completed nor unknown extend an unknown one, and were never sent.
    rest = {key for key, (status, *_) in ended.items() if status not in {"completed", "unknown"}}
    assert all(ended[key][1] == "ParentFailed" and f"e{key[1:]}" == key for key in rest)
    clips = batch.clips()
    assert set(clips) == set(ended) - unknown - rest
    check_clips(clips, record["tasks"])
    assert len(clips) <= record["accepted"] <= len(clips) + len(unknown)
    assert submits == record["submits"]
    assert again["submits"] == 0


class KillOnAcceptance:
    """Kills a driver when the server has accepted its job number `number`, before the server answers."""

    def __init__(self, server: Sandbox, number: int) -> None:
        self.pid = 0
        self._accept, self._remaining = server._runner.accept, number
        server._runner.accept = self  # type: ignore[assignment]

    def __call__(self, *submit: Any) -> Task:
        """Accept as usual; at the chosen job, kill the client before it gets the reply."""
        task = self._accept(*submit)
        self._remaining -= 1
        if self._remaining == 0:
            os.kill(self.pid, signal.SIGKILL)
        return task


def _rows(folder: Path) -> dict[str, JobStatus]:
    with closing(LedgerReader(folder)) as reader:
        return {job.key: job.status for job in reader.jobs()}


async def _kill_on_acceptance(server: Sandbox, batch: Batch) -> str:
    """Return the key of a job that was accepted, while its row only says that it is being sent."""
    kill = KillOnAcceptance(server, number=3)
    process = await batch.start()
    kill.pid = process.pid
    await process.communicate()
    assert process.returncode == -signal.SIGKILL
    last = list(server._runner.tasks.values())[-1]
    key = f"k{int((last.body.prompt or '').split()[-1]):03}"
    assert _rows(batch.folder)[key] is JobStatus.SUBMITTING
    with closing(LedgerReader(batch.folder)) as reader:
        found = reader.find(key)
    assert found is not None
    assert (found.task_id, found.submits) == (None, 1)
    return key


@pytest.mark.parametrize("age", ["fresh", "a day old"])
@pytest.mark.parametrize("ambiguous", ["auto", "retry", "hold"])
async def test_a_job_killed_between_acceptance_and_its_row_is_paid_once(
    tmp_path: Path, age: str, ambiguous: str
) -> None:
    """Its row says `submitting`: it is replayed under its old key, or after a day, or with `hold`, left unknown."""
    async with Sandbox(prerendered=True, median=0.2, latency=0.02) as server:
        batch = Batch(server.base_url, tmp_path, 5, ambiguous=ambiguous, per_minute=60)  # one POST at a time
        key = await _kill_on_acceptance(server, batch)
        if age != "fresh":
            with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as db:
                db.execute("UPDATE jobs SET submitted_at = submitted_at - 86401 WHERE key = ?", (key,))
        result = await batch.run_to_end()
        record = server.record
        is_unknown = age != "fresh" or ambiguous == "hold"
        assert result["ended"][key][:2] == (
            ["unknown", "SubmitOutcomeUnknown"] if is_unknown else ["completed", "ClipPath"]
        )
        assert len(batch.clips()) == (4 if is_unknown else 5)
        assert (record.accepted, record.duplicates) == (5, 0)
        assert record.submits == 5 + (not is_unknown)
        assert record.replayed == (not is_unknown)
        with closing(LedgerReader(tmp_path)) as reader:
            totals = reader.totals()
        assert totals.by_status.get(JobStatus.SUBMITTING, 0) == 0
        assert totals.ambiguous_submits == is_unknown  # a replayed reply says that it was paid once
        assert totals.possibly_paid_twice == 0


async def test_a_job_that_a_crash_may_have_paid_twice_is_counted(tmp_path: Path) -> None:
    """If the server ignores the key and the user allows a resend, the job is paid twice, and the ledger counts it."""
    async with Sandbox(prerendered=True, median=0.2, latency=0.02, idempotency=False) as server:
        batch = Batch(server.base_url, tmp_path, 5, ambiguous="retry", per_minute=600)
        key = await _kill_on_acceptance(server, batch)
        result = await batch.run_to_end()
    assert result["ended"][key][0] == "completed"
    assert server.record.accepted == 6
    with closing(LedgerReader(tmp_path)) as reader:
        assert reader.totals().possibly_paid_twice == 1
        assert [job.key for job in reader.jobs() if job.ambiguous_submits] == [key]


@pytest.mark.parametrize("runs", [0, 1], ids=["killed without a webhook", "killed with another webhook"])
async def test_a_resend_after_a_kill_names_the_webhook_of_the_first_post(tmp_path: Path, runs: int) -> None:
    """The server rejects another body under the same idempotency key. So the killed submit is resent unchanged."""
    async with Sandbox(prerendered=True, median=0.2, latency=0.02) as server:
        batch = Batch(server.base_url, tmp_path, 5, per_minute=600, has_webhooks=True, runs=runs)
        key = await _kill_on_acceptance(server, batch)
        result = await batch.run_to_end()
        assert {status for status, *_ in result["ended"].values()} == {"completed"}
        assert (server.record.accepted, server.record.replayed) == (5, 1)
        named = {
            f"k{int(task.prompt.split()[-1]):03}": task.body.get("webhook") for task in server.record.tasks.values()
        }
    assert (named[key] is None) == (runs == 0)
    assert len(set(named.values())) == 2
