"""A job that cannot be recorded is not submitted, and the cost limit is never exceeded, over all runs of a ledger."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from omni_async import CostLimitReached, DownloadError, JobRecord, JobStatus, LedgerError, Limits, OmniClient
from omni_async.ledger import SqliteJobStore
from omni_async.sandbox import Sandbox
from tests.support.restarts import Service, set_duration
from tests.support.resuming import resumed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytest.importorskip("av", reason="the sandbox renders clips with the extra `media`")

PRICE = 0.44  # of five seconds


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend for real time."""
    return "asyncio"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """Open a quick sandbox whose clips all cost the same."""
    async with Sandbox(prerendered=True, median=0.1, sigma=0.01, seconds=5) as sandbox:
        yield Service(sandbox, tmp_path / "clips")


def ledger_of(client: OmniClient) -> SqliteJobStore:
    """Return the ledger of an open client."""
    ledger = client._lifetime.entered().registry.store
    assert isinstance(ledger, SqliteJobStore)
    return ledger


def fill(client: OmniClient) -> None:
    """Make the ledger's disk full: its file may not grow by a page."""
    db = ledger_of(client)._db
    db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0]}")


def make_room(client: OmniClient) -> None:
    """Let the file grow again."""
    ledger_of(client)._db.execute("PRAGMA max_page_count=1000000")


LONG = "a fox " * 2000  # so long that its row needs a page


@pytest.mark.slow
async def test_a_full_disk_stops_submits_before_the_next_post(service: Service) -> None:
    """Nothing is sent that could not be recorded, and waiters get the error. With space again, everything continues."""
    async with service.client() as client:
        await client.submit("a hen", key="hen")
        fill(client)
        jobs = [client.submit(f"{LONG}{number}", key=f"fox {number}") for number in range(20)]
        for job in jobs:
            with pytest.raises(LedgerError, match=r"cannot be written.*Nothing more is submitted"):
                await job
        assert isinstance(client.stop_error, LedgerError)
        with pytest.raises(LedgerError):
            await client.submit(f"{LONG}cat", key="cat")
        assert service.submits == 1
        make_room(client)
        client.resume()
        await asyncio.gather(*(client.submit(f"{LONG}{number}", key=f"fox {number}") for number in range(20)))
    assert service.submits == service.sandbox.record.accepted == 21


async def test_a_submit_whose_sending_cannot_be_recorded_is_not_sent(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is recorded, but not that it is being sent: it is not sent, and its row says `waiting` once it can."""
    really_save = SqliteJobStore.save

    def save(ledger: SqliteJobStore, record: Any) -> Any:
        if record.status is JobStatus.SUBMITTING and is_full:
            ledger._db.execute("PRAGMA query_only=ON")
        return really_save(ledger, record)

    is_full = True
    monkeypatch.setattr(SqliteJobStore, "save", save)
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        with pytest.raises(LedgerError):
            await job
        assert (job.status, service.submits) == (JobStatus.WAITING, 0)
        assert client.statistics().submits == 0
        ledger_of(client)._db.execute("PRAGMA query_only=OFF")
    assert service.row("fox").status is JobStatus.WAITING
    assert service.row("fox").submits == 0
    is_full = False
    async with service.client() as client:
        (job,) = await resumed(client)
        await job
    assert service.submits == 1


async def test_a_job_accepted_on_a_full_disk_is_followed_and_recorded_later(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task_id cannot be recorded: submits stop, the clip is still downloaded, and the row follows later."""
    really_record = SqliteJobStore.record_accepted
    is_full = True

    def record_accepted(ledger: SqliteJobStore, record: Any) -> Any:
        if is_full:
            ledger._db.execute("PRAGMA query_only=ON")
        return really_record(ledger, record)

    monkeypatch.setattr(SqliteJobStore, "record_accepted", record_accepted)
    async with service.client() as client:
        job = client.submit("a fox", key="fox")
        await job.accepted()
        assert isinstance(client.stop_error, LedgerError)
        with pytest.raises(LedgerError):
            await client.submit("a hen", key="hen")
        is_full = False
        ledger_of(client)._db.execute("PRAGMA query_only=OFF")
        assert (await job).is_file()
    row = service.row("fox")
    assert (row.status, row.task_id, row.cost) == (JobStatus.COMPLETED, job.task_id, PRICE)
    assert service.submits == 1


async def test_changes_that_can_never_be_written_are_reported_on_leaving(service: Service) -> None:
    """If the disk stays full until the client is left, leaving it raises an error that names the job."""
    client = service.client()
    set_duration(service, 0.5)
    await client.__aenter__()
    job = client.submit("a fox", key="fox")
    await job.accepted()
    ledger_of(client)._db.execute("PRAGMA query_only=ON")
    with pytest.raises(DownloadError, match=r"finished and paid.*cannot be written"):
        await job
    with pytest.raises(LedgerError, match=r"the last changes of .*'fox'.* could not be written"):
        await client.__aexit__(None, None, None)
    assert service.row("fox").status is JobStatus.RUNNING
    async with service.client() as client:
        (job,) = await resumed(client)
        assert (await job).is_file()
    assert service.submits == 1


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.0, 0.9, 1.0, 2.0, 3.3])
async def test_the_cost_limit_is_never_exceeded(service: Service, limit: float) -> None:
    """As many jobs as fit are submitted, one price after another, and the rest stay waiting with the reason."""
    async with service.client(limits=Limits(max_cost=limit)) as client:
        jobs = [client.submit(f"fox {number}", key=f"fox {number}") for number in range(12)]
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(client.stop_error, CostLimitReached)
    submitted = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    # Before the first price is known, a clip is estimated at one dollar.
    assert len(submitted) == service.sandbox.record.accepted == (int(limit / PRICE) if limit >= 1 else 0)
    assert service.sandbox.record.paid <= limit
    assert {type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)} <= {CostLimitReached}
    assert sum(job.status is JobStatus.WAITING for job in jobs) == 12 - len(submitted)


@pytest.mark.slow
async def test_earlier_runs_count_towards_the_cost_limit(service: Service) -> None:
    """A run with a higher limit submits what the difference allows, and one with the same limit nothing."""
    for limit, paid in ((1.0, 2), (1.0, 2), (2.0, 4), (1.5, 4), (100.0, 6)):
        async with service.client(limits=Limits(max_cost=limit)) as client:
            jobs = [client.submit(f"fox {number}", key=f"fox {number}") for number in range(6)]
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert service.sandbox.record.accepted == paid
        assert sum(isinstance(outcome, CostLimitReached) for outcome in outcomes) == 6 - paid


@pytest.mark.slow
async def test_running_tasks_count_before_their_price_is_known(service: Service) -> None:
    """No more tasks run than fit at the estimated price. The estimate of a failed one is free again."""
    object.__setattr__(service.sandbox.settings, "fail_rate", 0.5)
    async with service.client(limits=Limits(max_cost=3.0)) as client:
        jobs = [client.submit(f"fox {number}", key=f"fox {number}") for number in range(40)]
        await asyncio.gather(*jobs, return_exceptions=True)
    record = service.sandbox.record
    assert record.paid == pytest.approx(6 * PRICE)  # a seventh would have exceeded it
    assert record.accepted > 6
    assert record.max_in_flight <= 6


async def test_an_ambiguous_submit_counts_towards_the_cost_limit(service: Service) -> None:
    """A submit without a reply may have been paid: no other job takes its share, and it is sent again itself."""
    service.sandbox.script("submit", ["drop_after", "drop_before"])
    async with service.client(limits=Limits(max_cost=1.0)) as client:
        jobs = [client.submit(f"fox {number}", key=f"fox {number}") for number in range(5)]
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 2
    assert service.sandbox.record.accepted == 2


async def test_what_other_processes_spent_counts_once_it_is_read(service: Service) -> None:
    """The store is the source of the sum: read again, it includes the jobs of others and still those of this client."""
    async with service.client(limits=Limits(max_cost=3.0)) as client:
        await client.submit("a fox", key="fox")
        runtime = client._lifetime.entered()
        others = JobRecord(key="of another process", status=JobStatus.COMPLETED, task_id="task_other", cost=2.5)
        await ledger_of(client).save(others)
        assert runtime.registry.totals.spending.paid == pytest.approx(PRICE)
        await runtime.registry.read_spending()
        assert runtime.registry.totals.spending.paid == pytest.approx(PRICE + 2.5)
        with pytest.raises(CostLimitReached, match=r"\$2\.94 is paid"):
            await client.submit("a hen", key="hen")
    assert service.submits == 1
