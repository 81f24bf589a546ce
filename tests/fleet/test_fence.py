"""The fence: what an earlier leader decided never commits after a takeover, and what it was told is merged."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

psycopg = pytest.importorskip("psycopg", reason="needs the extra `fleet`")

from omni_async import JobRecord, JobStatus, LedgerError, LedgerFenced  # noqa: E402
from omni_async.fleet.postgres.database import Database  # noqa: E402
from omni_async.fleet.postgres.store import PostgresJobStore  # noqa: E402
from omni_async.models.responses import Video  # noqa: E402
from tests.support.fleets import ACCOUNT, new_store, opened_fleet, take_over  # noqa: E402
from tests.support.ledgers import record_of  # noqa: E402
from tests.support.postgres import needs_postgres  # noqa: E402
from tests.support.tcp_proxy import TcpProxy, proxy_before  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = needs_postgres

# Every change of a row is logged by a trigger. Changes of one row wait for each other until commit, so that the order
# of the log is the order of the commits, and what is rolled back is not in it.
LOG = """
CREATE TABLE log (id bigserial, account text, epoch bigint);
CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO log (account, epoch) VALUES (NEW.account, NEW.error::bigint); RETURN NULL; END $$;
CREATE TRIGGER log_it AFTER UPDATE ON omni_jobs FOR EACH ROW EXECUTE FUNCTION log_it();
"""
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["save", "save", "save", "take over", "cut", "pause"]), st.integers(0, 3)), max_size=40
)


class Leaders:
    """Some leaders of one account, each behind the last, all of them still writing."""

    def __init__(self, url: str, account: str) -> None:
        self.url = url
        self.account = account
        self.stores: list[tuple[PostgresJobStore, int]] = []
        self.written: list[Any] = []

    async def take_over(self) -> None:
        """Add a leader."""
        store = await new_store(self.url, self.account)
        await store.open()
        self.stores.append((store, store._fence[1]))

    async def act(self, action: str, which: int) -> None:
        """Do something with one of the last four leaders, without waiting for it to end."""
        store, epoch = self.stores[-1 - which % len(self.stores)]
        match action:
            case "save":  # the epoch stands where an error would
                self.written.append((epoch, store.save(record_of("k", error=str(epoch)))))
            case "take over":
                await self.take_over()
            case "cut":
                await _terminate(self.url, store)
            case "pause":
                await asyncio.sleep(0.002)

    async def close(self) -> dict[int, list[bool]]:
        """Close every leader. Return for each epoch which of its writes were confirmed, in their order."""
        confirmed: dict[int, list[bool]] = {}
        for epoch, operation in self.written:
            try:
                await operation
            except LedgerFenced:
                confirmed.setdefault(epoch, []).append(False)
            else:
                confirmed.setdefault(epoch, []).append(True)
        for store, _ in self.stores:
            await store.aclose()
        return confirmed


async def _terminate(url: str, store: PostgresJobStore) -> None:
    if store._connection is None or store._connection.closed:
        return
    pid = store._connection.info.backend_pid
    async with await Database(url).connect("test") as connection:
        await connection.execute("SELECT pg_terminate_backend(%s)", (pid,))


_examples = iter(range(10**6))


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(ACTIONS)
def test_no_write_of_an_older_epoch_commits_after_a_newer_one(fleet_url: str, actions: list[tuple[str, int]]) -> None:
    """However saves, takeovers and cut connections are mixed: epochs never fall, and what is confirmed is written."""

    async def play() -> None:
        account = f"account {next(_examples)}"
        async with await Database(fleet_url).connect("test") as connection:
            cursor = await connection.execute("SELECT to_regclass('log')")
            if await cursor.fetchone() == (None,):
                await connection.execute(LOG)
            await connection.execute("INSERT INTO omni_accounts (account) VALUES (%s)", (account,))
            leaders = Leaders(fleet_url, account)
            await leaders.take_over()
            await leaders.stores[0][0].insert(record_of("k", error="0"))
            for action, which in actions:
                await leaders.act(action, which)
            confirmed = await leaders.close()
            cursor = await connection.execute("SELECT epoch FROM log WHERE account = %s ORDER BY id", (account,))
            committed = [epoch for (epoch,) in await cursor.fetchall()]
        assert all(earlier <= later for earlier, later in pairwise(committed))
        for epoch, results in confirmed.items():
            assert results == sorted(results, reverse=True), "once fenced, nothing more is written"
            assert any(results) == (epoch in committed)
        last = leaders.stores[-1][1]
        assert all(confirmed.get(last, []))

    asyncio.run(play())


@pytest.fixture
async def proxied(fleet_url: str) -> AsyncIterator[tuple[TcpProxy, PostgresJobStore]]:
    """Open the store of a leader behind a proxy."""
    async with proxy_before(fleet_url) as (proxy, through):
        store = await new_store(fleet_url, through=through)
        await store.open()
        await store.insert(record_of("k"))
        try:
            yield proxy, store
        finally:
            await store.aclose()


async def test_a_group_that_arrives_late_is_fenced(fleet_url: str, proxied: tuple[TcpProxy, PostgresJobStore]) -> None:
    """A leader is cut off with a write on its way; it arrives after the takeover, and changes nothing."""
    proxy, store = proxied
    proxy.black_hole()
    late = store.save(record_of("k", error="late"))
    await asyncio.sleep(0.05)
    async with opened_fleet(fleet_url) as newer:
        await newer.save(record_of("k", error="newer"))
        proxy.heal()
        with pytest.raises(LedgerFenced):
            await late
        found = await newer.find("k")
    assert found is not None
    assert found.error == "newer"
    with pytest.raises(LedgerFenced):
        await store.find("k")


@pytest.mark.slow
async def test_a_store_waits_for_a_database_that_is_away(
    fleet_url: str, proxied: tuple[TcpProxy, PostgresJobStore]
) -> None:
    """Refused connections are repeated; every change is written in its order, and no caller sees an error."""
    proxy, store = proxied
    proxy.refuse()
    changes = [store.save(record_of("k", submits=number)) for number in range(5)]
    accepted = store.record_accepted(record_of("k", status=JobStatus.RUNNING, task_id="t", submits=5))
    await asyncio.sleep(0.6)
    proxy.heal()
    for change in (*changes, accepted):
        await change
    found = await store.find("k")
    assert found is not None
    assert (found.submits, found.task_id) == (5, "t")


@pytest.mark.slow
async def test_a_store_is_closed_although_nothing_answers(proxied: tuple[TcpProxy, PostgresJobStore]) -> None:
    """Who cannot wait for the database gives up at once, and hears that a change was not recorded."""
    proxy, store = proxied
    proxy.black_hole()
    change = store.save(record_of("k", error="lost"))
    await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await store.aclose()
    with pytest.raises(LedgerError, match="before this could be recorded"):
        await change
    proxy.heal()


@pytest.mark.slow
async def test_opening_may_be_cancelled_although_nothing_answers(fleet_url: str) -> None:
    """A worker that is ended while its database is away does not wait for it."""
    async with proxy_before(fleet_url) as (proxy, through):
        store = await new_store(fleet_url, through=through)
        proxy.black_hole()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await store.open()
        proxy.heal()


# Facts

WON: dict[str, Any] = {"status": JobStatus.RUNNING, "task_id": "late", "accepted_at": 7.0, "submits": 1}


@pytest.mark.parametrize(
    ("meanwhile", "status", "task", "previous"),
    [
        pytest.param({"status": JobStatus.SUBMITTING}, JobStatus.RUNNING, "late", (), id="still being submitted"),
        pytest.param({"status": JobStatus.UNKNOWN}, JobStatus.RUNNING, "late", (), id="given up as unknown"),
        pytest.param(
            {"status": JobStatus.RUNNING, "task_id": "other"}, JobStatus.RUNNING, "other", ("late",), id="another task"
        ),
        pytest.param(
            {"status": JobStatus.SUBMITTING, "idempotency_key": "another"},
            JobStatus.SUBMITTING,
            None,
            ("late",),
            id="another idempotency key",
        ),
        pytest.param(
            {"status": JobStatus.COMPLETED, "task_id": "late"}, JobStatus.COMPLETED, "late", (), id="completed with it"
        ),
    ],
)
async def test_a_late_answer_is_merged(
    fleet_url: str, meanwhile: dict[str, Any], status: JobStatus, task: str | None, previous: tuple[str, ...]
) -> None:
    """The task id that a past leader was given is not lost, and never replaces what another leader has recorded."""
    async with opened_fleet(fleet_url) as old, opened_fleet(fleet_url) as new:
        sent = record_of("k", status=JobStatus.SUBMITTING, submits=1, submitted_at=6.0)
        await new.insert(sent)
        await new.save(replace(sent, **meanwhile))
        await old.record_accepted(replace(sent, **WON))
        await old.record_accepted(replace(sent, **WON))  # twice is as once
        found = await new.find("k")
        with pytest.raises(LedgerFenced):
            await old.save(replace(sent, error="decided"))
    assert found is not None
    assert (found.status, found.task_id, found.previous_task_ids) == (status, task, previous)


@pytest.mark.parametrize(
    ("status", "submits", "expected"),
    [
        (JobStatus.SUBMITTING, 1, JobStatus.WAITING),
        (JobStatus.UNKNOWN, 1, JobStatus.WAITING),
        (JobStatus.UNKNOWN, 2, JobStatus.UNKNOWN),  # another leader has sent it once more
        (JobStatus.RUNNING, 1, JobStatus.RUNNING),
    ],
)
async def test_a_submit_that_was_not_executed_is_merged(
    fleet_url: str, status: JobStatus, submits: int, expected: JobStatus
) -> None:
    """A past leader knows that its POST did not count: the job need not stay unknown."""
    async with opened_fleet(fleet_url) as old, opened_fleet(fleet_url) as new:
        sent = record_of("k", status=status, submits=submits, task_id="t" if status is JobStatus.RUNNING else None)
        await new.insert(sent)
        with pytest.raises(LedgerFenced):
            await old.save(record_of("k", status=JobStatus.WAITING, submits=1))
        found = await new.find("k")
    assert found is not None
    assert found.status is expected


@pytest.mark.slow
async def test_a_takeover_waits_for_no_stopped_leader(fleet_url: str) -> None:
    """A process that is stopped within a transaction loses the account's row after three seconds."""
    stopped = await Database(fleet_url).connect("stopped")
    epoch, timeline = await take_over(fleet_url)
    await stopped.execute("BEGIN")
    await stopped.execute("SELECT omni_fence(%s, %s, %s)", (ACCOUNT, epoch, timeline))
    async with asyncio.timeout(6):
        assert await take_over(fleet_url) == (epoch + 1, timeline)
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        await stopped.execute("COMMIT")
    await stopped.close()


async def test_a_promoted_replica_fences_every_leader(fleet_url: str) -> None:
    """On another timeline nothing is decided any more: what was acknowledged last may be missing there."""
    async with opened_fleet(fleet_url) as store:
        await store.insert(record_of("k"))
        async with await Database(fleet_url).connect("test") as connection:
            await connection.execute(
                "CREATE OR REPLACE FUNCTION omni_timeline() RETURNS int LANGUAGE sql AS 'SELECT 2'"
            )
        with pytest.raises(LedgerFenced, match="promoted"):
            await store.save(record_of("k", error="x"))


async def test_what_a_worker_has_recorded_stays(fleet_url: str) -> None:
    """A leader that repeats `downloading` after an answer got lost does not undo the download."""
    done = record_of("k", status=JobStatus.COMPLETED, task_id="t", paths=("k.mp4",))
    before = replace(done, status=JobStatus.DOWNLOADING, paths=(), videos=(Video("https://cdn.test/1", 9.0),))
    async with opened_fleet(fleet_url) as store:
        await store.insert(before)
        await store.save(before)
        found = await store.find("k")
        await store.save(done)
        await store.save(before)
        assert (found, await store.find("k")) == (before, done)


async def test_what_no_row_can_hold_ends_one_job_only(fleet_url: str) -> None:
    """NUL and lone surrogates are replaced or escaped; a number that is none is that operation's own error."""
    async with opened_fleet(fleet_url) as store:
        await store.insert(record_of("a"))
        await store.insert(record_of("b"))
        bad = store.save(record_of("a", cost=float("nan")))
        good = store.save(record_of("b", error="a\0b\ud800c", cost=0.5))
        with pytest.raises(ValueError, match="JSON"):
            await bad
        await good
        found = await store.find("b")
    assert isinstance(found, JobRecord)
    assert (found.error, found.cost) == ("a\ufffdb\\ud800c", 0.5)
