"""A fleet of three worker processes is killed, stopped, cut off and left without its database while it works.

Whatever happens: no job is lost, no prompt becomes a second task, and every file of a completed job is whole. The
quick form of some harms is in the ordinary suite; the long form of all of them is marked `chaos`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from tests.support.fleet_run import fleet_run
from tests.support.markers import long_run
from tests.support.pgbouncer import needs_pgbouncer, pgbouncer
from tests.support.postgres import needs_postgres, own_postgres
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.fleet_run import FleetRun, Report

    Harm: TypeAlias = Callable[["Stage"], Awaitable[float]]

pytestmark = [needs_postgres, pytest.mark.slow]

WORKERS = 3
POSTS = 16  # that one leader has in progress at most


@dataclass
class Stage:
    """A fleet at work, the proxies between each worker and the database, and how long a harm may last in seconds."""

    run: FleetRun
    proxies: dict[int, TcpProxy]
    seconds: float


# Each harm returns for how many seconds the database, or every worker, was away.


async def kill_a_worker(stage: Stage) -> float:
    """Kill a worker that does not lead, in the middle of its downloads."""
    leader = await stage.run.leader()
    await stage.run.signal(next(pid for pid in stage.run.workers if pid != leader), signal.SIGKILL)
    return 0.0


async def kill_the_leader(stage: Stage) -> float:
    """Kill the worker that submits."""
    await stage.run.signal(await stage.run.leader(), signal.SIGKILL)
    return 0.0


async def stop_the_leader(stage: Stage) -> float:
    """Suspend the worker that submits, as a virtual machine is, and wake it long after its lease has ended."""
    leader = await stage.run.leader()
    await stage.run.signal(leader, signal.SIGSTOP)
    await asyncio.sleep(stage.seconds)
    await stage.run.signal(leader, signal.SIGCONT)
    return 0.0


async def kill_all(stage: Stage) -> float:
    """Kill every worker at once, and start as many again."""
    start = time.monotonic()
    for pid in list(stage.run.workers):
        await stage.run.signal(pid, signal.SIGKILL)
    await asyncio.sleep(2)
    await stage.run.wait_for_any([await stage.run.start_worker() for _ in range(WORKERS)])
    return time.monotonic() - start


async def crash_the_database(stage: Stage) -> float:
    """Restart Postgres as after a crash."""
    start = time.monotonic()
    await asyncio.to_thread(stage.run.server.restart, "immediate")
    return time.monotonic() - start


async def stop_the_database(stage: Stage) -> float:
    """Leave the fleet without its database for longer than a lease."""
    start = time.monotonic()
    await asyncio.to_thread(stage.run.server.stop)
    await asyncio.sleep(stage.seconds)
    await asyncio.to_thread(stage.run.server.start)
    return time.monotonic() - start


async def cut_the_leader_off(stage: Stage) -> float:
    """Cut the worker that submits from the database and not from the API."""
    proxy = stage.proxies[await stage.run.leader()]
    proxy.black_hole()
    await asyncio.sleep(stage.seconds)
    proxy.heal()
    return 0.0


async def empty_the_engine(stage: Stage) -> float:
    """Delete every task of the engine."""
    stage.run.execute("TRUNCATE procrastinate_jobs CASCADE")
    return 0.0


async def close_the_sessions(stage: Stage) -> float:
    """Close every session of the database, as an administrator may."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    stage.run.execute(f"SELECT pg_terminate_backend(pid) {others}")
    return 0.0


async def change_the_schema(stage: Stage) -> float:
    """Let a newer version of the program migrate the schema: workers of this version end, and others follow."""
    run, start = stage.run, time.monotonic()
    run.execute("UPDATE omni_schema SET version = version + 1")
    await asyncio.sleep(2)
    late = await run.start_worker()
    assert await asyncio.wait_for(run.workers[late].wait(), 30) != 0
    run.execute("UPDATE omni_schema SET version = version - 1")
    for pid, process in list(run.workers.items()):
        if process.returncode is not None:
            del run.workers[pid]
    await run.wait_for_any([await run.start_worker() for _ in range(WORKERS - len(run.workers))])
    return time.monotonic() - start


HARMS = (
    kill_a_worker,
    kill_the_leader,
    stop_the_leader,
    kill_all,
    crash_the_database,
    stop_the_database,
    cut_the_leader_off,
    empty_the_engine,
    close_the_sessions,
    change_the_schema,
)
# Those that may leave a POST without an answer.
AMBIGUOUS = (kill_the_leader, stop_the_leader, kill_all, crash_the_database, cut_the_leader_off)


async def _suffer(
    folder: Path, harm: Harm, *, jobs: int, seconds: float, is_pooled: bool = False, **options: Any
) -> tuple[Report, float]:
    """Run that many jobs, do the harm when 40 % of them are accepted, and return the report and the time away.

    If `is_pooled`, the workers have no other way to the database than through pgbouncer in transaction mode.
    """
    async with AsyncExitStack() as stack:
        server = stack.enter_context(own_postgres())
        run = await stack.enter_async_context(fleet_run(server, folder, **options))
        await run.enqueue(jobs)
        stage = Stage(run, {}, seconds)
        port = stack.enter_context(pgbouncer(server)) if is_pooled else server.port
        for _ in range(WORKERS):
            proxy = await stack.enter_async_context(tcp_proxy(port))
            database = run.database.replace(f":{server.port}/", f":{proxy.port}/")
            stage.proxies[await run.start_worker(database=database)] = proxy
        await run.wait_until_accepted(int(jobs * 0.4))
        away = await harm(stage)
        return await run.finish(), away


@pytest.mark.timeout(600)
@pytest.mark.chaos
@pytest.mark.parametrize("harm", HARMS)
async def test_nothing_is_lost_and_nothing_is_paid_twice(tmp_path: Path, harm: Harm) -> None:
    """Every job has one task and one whole clip, and submits pause no longer than a lease and what was away."""
    report, away = await _suffer(tmp_path, harm, jobs=300, seconds=25.0)
    assert (report.tasks, report.doubled, report.clips) == (300, 0, 300), report
    assert report.silence <= 4.0 + 2.0 + away, report


@needs_pgbouncer
@pytest.mark.timeout(600)
@pytest.mark.chaos
@pytest.mark.parametrize("harm", [kill_the_leader, crash_the_database, cut_the_leader_off])
async def test_a_fleet_behind_a_pooler_loses_nothing(tmp_path: Path, harm: Harm) -> None:
    """The same holds where workers reach the database only through pgbouncer in transaction mode."""
    report, away = await _suffer(tmp_path, harm, jobs=300, seconds=25.0, is_pooled=True)
    assert (report.tasks, report.doubled, report.clips) == (300, 0, 300), report
    assert report.silence <= 4.0 + 2.0 + away, report


@pytest.mark.timeout(600)
@pytest.mark.chaos
@pytest.mark.parametrize("harm", AMBIGUOUS)
@pytest.mark.parametrize("ambiguous", ["hold", "auto"])
async def test_a_server_that_ignores_keys_is_not_asked_twice(tmp_path: Path, harm: Harm, ambiguous: str) -> None:
    """No job has a second task; the jobs whose POST got no answer end as unknown, at most those in progress."""
    options: dict[str, Any] = {"ambiguous": ambiguous, "idempotency": False, "latency": 0.5}
    report, away = await _suffer(tmp_path, harm, jobs=200, seconds=15.0, **options)
    unknown = report.statuses["unknown"]
    assert report.doubled == 0, report
    assert unknown <= POSTS, report
    assert report.clips == 200 - unknown, report
    assert report.silence <= 4.0 + 2.0 + 1.0 + away, report


@pytest.mark.parametrize("harm", [kill_the_leader, long_run(crash_the_database)])
async def test_a_small_fleet_survives(tmp_path: Path, harm: Harm) -> None:
    """The quick form: forty jobs, and a harm in their middle."""
    report, _ = await _suffer(tmp_path, harm, jobs=40, seconds=6.0, lease=2.0, per_minute=None, max_in_flight=8)
    assert (report.tasks, report.doubled, report.clips) == (40, 0, 40), report
