"""Workers are told to end as systemd, Kubernetes and terminals do it: others go on at once, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from omni_async.cli.exit_status import ExitStatus
from tests.support.fleet_run import fleet_run
from tests.support.markers import long_run
from tests.support.postgres import needs_postgres
from tests.support.shell import Shell, wait_for_exit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fleet_clips import FleetRows
    from tests.support.fleet_run import FleetRun
    from tests.support.postgres import PostgresServer

pytestmark = [needs_postgres, pytest.mark.slow]

JOBS = 24
# Seconds of a lease that no test waits for. Others look for a free lease six times within it.
LONG_LEASE = 60.0


async def start_two(run: FleetRun) -> int:
    """Start two workers, enqueue jobs, and return the leader's process id when the API has accepted some of them."""
    for pid in [await run.start_worker("--per-minute", "240") for _ in range(2)]:
        await run.wait_for_any([pid])
    await run.enqueue(JOBS)
    await run.wait_until_accepted(4)
    return await run.leader()


@pytest.mark.parametrize("number", [signal.SIGTERM, long_run(signal.SIGHUP)], ids=lambda each: each.name)
async def test_a_leader_hands_over_at_a_signal(
    postgres: PostgresServer, tmp_path: Path, number: signal.Signals
) -> None:
    """The status is 130, another worker leads long before the lease would end, and no job is lost or paid twice."""
    async with fleet_run(postgres, tmp_path, lease=LONG_LEASE, latency=0.5) as run:
        first = await start_two(run)
        async with asyncio.timeout(LONG_LEASE / 2):
            assert await run.signal(first, number) == ExitStatus.INTERRUPTED
            assert await run.leader() != first
        report = await run.finish()
    assert (report.statuses, report.tasks, report.doubled, report.clips) == ({"completed": JOBS}, JOBS, 0, JOBS)


@pytest.mark.chaos
async def test_a_second_sigterm_ends_a_leader_immediately(postgres: PostgresServer, tmp_path: Path) -> None:
    """While it waits for the answers to POSTs: others lead when its lease has ended, and nothing is lost."""
    async with fleet_run(postgres, tmp_path, lease=4.0, latency=1.5) as run:
        first = await start_two(run)
        assert await run.signal(first, signal.SIGTERM, signal.SIGTERM, apart=0.3) == ExitStatus.INTERRUPTED
        assert await run.leader() == first, "it has handed over"
        report = await run.finish()
    assert (report.statuses, report.tasks, report.doubled, report.clips) == ({"completed": JOBS}, JOBS, 0, JOBS)


@pytest.mark.parametrize("number", [signal.SIGTERM, long_run(signal.SIGHUP)], ids=lambda each: each.name)
async def test_a_downloading_worker_gives_its_clips_to_others(
    rows: FleetRows, tmp_path: Path, number: signal.Signals
) -> None:
    """In the middle of downloads: the status is 130, and another worker starts them without waiting for the lease."""
    shell = Shell(tmp_path, {"OMNI_DATABASE_URL": rows.url})
    arguments = ("fleet", "worker", "--role", "download", "--store", "clips", "--lease", "600")
    keys = [f"job-{number}" for number in range(3)]
    rows.host.seconds = 60.0
    await rows.add(*keys)
    first = await shell.start(*arguments, "--spool", "spool")
    await rows.host.wait_for_transfers(len(keys))
    first.send_signal(number)
    result = await wait_for_exit(first)
    assert result.status == ExitStatus.INTERRUPTED, result.err
    assert await rows.tasks() == ["todo"] * len(keys)
    assert await rows.execute("SELECT * FROM omni_workers") == []
    assert list((tmp_path / "spool").iterdir()) == []

    rows.host.seconds = 0.0
    result = await shell.omni_process(*arguments, "--spool", "another", "--until-done")
    assert result.status == 0, result.err
    assert {name: (tmp_path / "clips" / name).read_bytes() for name in shell.clips()} == {
        f"{key}.mp4": rows.host.clip(key) for key in keys
    }
