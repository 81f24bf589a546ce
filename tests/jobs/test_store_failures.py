"""A store that cannot be written is reported once for each cause, then counted, and its recovery is reported."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import JobStatus, LedgerError, Limits
from omni_async.jobs.store_failures import StoreFailures
from tests.support.fakes import FakeClient, Server, SlowLedger

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


class FullLedger(SlowLedger):
    """A ledger whose disk is full for some time: saves fail, and are repeated by it later."""

    is_full = False

    def save(self, record: Any) -> Any:
        """Save, or fail once it is awaited."""
        return self._failing() if self.is_full else super().save(record)

    record_accepted = save

    @staticmethod
    def _failing() -> Any:
        class Failing:
            def __await__(self) -> Generator[Any, Any, Any]:
                yield from asyncio.sleep(0).__await__()
                raise LedgerError("the ledger l.db cannot be written: database or disk is full. Fix the problem")

        return Failing()


def _levels(caplog: pytest.LogCaptureFixture, level: str, text: str) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.levelname == level and text in record.getMessage()
    ]


@pytest.mark.parametrize("recovers", [True, False])
async def test_a_full_disk_is_one_line_for_all_jobs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recovers: bool
) -> None:
    """Eighteen jobs whose every change fails make one line, then counts; with space again, there is one more line."""
    ledger = FullLedger()
    async with FakeClient(Server(duration=50), tmp_path, ledger=ledger, limits=Limits(max_in_flight=19)) as client:
        jobs = [client.submit(f"p{number}") for number in range(18)]
        for job in jobs:
            await job.accepted()
        ledger.is_full = True
        await asyncio.gather(*jobs)
        assert all(job.status is JobStatus.COMPLETED for job in jobs)
        assert isinstance(client.stop_error, LedgerError)
        if recovers:
            ledger.is_full = False
            assert (await client.attach(str(jobs[0].task_id), key="again")).is_file()
    lines = _levels(caplog, "CRITICAL", "could not be recorded")
    assert len([line for line in lines if "Fix the problem" in line]) == 1
    assert 1 < len(lines) <= 3
    assert len(_levels(caplog, "WARNING", "recorded again")) == recovers


def test_each_cause_is_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Two causes are two lines; counts follow at 10 and at the end; after a recovery it begins again."""
    failures = StoreFailures(logging.getLogger("omni_async.test"))
    failures.recover()
    for _ in range(12):
        failures.report(LedgerError("full. Make room"))
    failures.report(LedgerError("read-only. Make it writable"))
    failures.recover()
    failures.recover()
    failures.report(LedgerError("full. Make room"))
    failures.report(LedgerError("full. Make room"))
    failures.close()
    failures.close()
    assert [record.getMessage() for record in caplog.records] == [
        "a change of a job could not be recorded: full. Make room",
        "10 changes of jobs could not be recorded so far: full",
        "a change of a job could not be recorded: read-only. Make it writable",
        "changes are recorded again, including 13 that could not be recorded at first",
        "a change of a job could not be recorded: full. Make room",
        "2 changes of jobs could not be recorded so far: full",
    ]
